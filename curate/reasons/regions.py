"""Sentences for what is found on masks. Pixels are those of the mask."""

SENTENCES: dict[str, str] = {
    "region_wrong_class": "A region of {label} ({area_px} px at {bbox_px}) is {other} to {n_agree} of {n_teachers} "
    "teachers, with the same outline: they give {other} {other_prob} and {label} {given_prob} (IoU with their {label} "
    "{iou}).",
    "region_spurious": "A region of {label} ({area_px} px at {bbox_px}) is a part of {other} to {n_agree} of "
    "{n_teachers} teachers: they give {other} {other_prob} and {label} {given_prob} (IoU with their {label} {iou}).",
    "region_missing": "{n_agree} of {n_teachers} teachers see {other} ({area_px} px at {bbox_px}) where the label says "
    "{label}: they give {other} {other_prob} and {label} {given_prob}.",
    "region_too_small": "Teachers see the boundary of this region of {label} ({area_px} px at {bbox_px}) {offset_px} px "
    "further out, {noises} times what is usual (IoU {iou}).",
    "region_too_large": "Teachers see the boundary of this region of {label} ({area_px} px at {bbox_px}) {offset_px} px "
    "further in, {noises} times what is usual (IoU {iou}).",
    "region_shifted": "Teachers see this region of {label} ({area_px} px at {bbox_px}) elsewhere: its sides are off by "
    "{moved_px} px, {noises} times what is usual (IoU {iou}).",
    "regions_in_doubt": "{n_flagged} of {n_regions} regions of the mask are flagged; the worst one: {worst}",
}
