"""Sentences of the checks on duplicates, leakage, balance, boxes and masks."""

SENTENCES: dict[str, str] = {
    "exact_duplicate_bytes": "The file is a copy, byte for byte, of {kept}, which stays.",
    "exact_duplicate_pixels": "The picture has the same pixels as {kept}, which stays.",
    "near_duplicate": "The picture is close to {n_near} other(s); the nearest differs in {distance_bits} of "
    "64 bits of the perceptual hash.",
    "too_flat_to_compare": "The picture is too flat for its perceptual hash to mean anything; it was compared with "
    "others byte for byte and pixel for pixel only.",
    "leakage_duplicate": "The picture is in the split {split}, and a copy of it in the split {other_split}.",
    "leakage_near_duplicate": "The picture is in the split {split}, and one that differs in {distance_bits} of 64 "
    "bits of the perceptual hash in the split {other_split}.",
    "leakage_group": "The {group} {key!r} of this picture, which is in the split {split}, is in the split "
    "{other_split} too.",
    "duplicate_conflict": "{n_copies} copies of this picture carry different labels ({labels}); {n_agree} of them "
    "say {label!r}.",
    "box_not_finite": "The box {bbox} has a coordinate that is not a finite number.",
    "box_without_area": "The box {bbox} has no area: its width and height must be above 0.",
    "box_outside_image": "The box {bbox} is wholly outside the image.",
    "box_partly_outside": "A share of {share_outside} of the box is outside the image.",
    "tiny_box": "The shorter side of the box is {short_side_px} pixels.",
    "extreme_aspect_box": "The box is {aspect_ratio} times as long as it is wide.",
    "huge_box": "The box covers a share of {share_of_image} of the image.",
    "duplicate_box": "The box overlaps the box {kept} of the same class (IoU {iou}); that one stays.",
    "conflicting_box": "The box says {label!r}, and one at the same place (IoU {iou}) says {other_label!r}.",
    "mask_unreadable": "The mask cannot be read: {why}.",
    "mask_empty": "The mask covers nothing.",
    "mask_of_another_size": "The mask is {mask_px} pixels (width, height), and the image {image_px}.",
    "mask_specks": "{n_specks} of the {n_parts} parts of the mask are specks of a few pixels.",
    "mask_box_mismatch": "The box and the bounds of the mask overlap by {iou} only (IoU).",
    "huge_mask": "The mask covers a share of {share_of_image} of the image.",
    "polygon_too_short": "One of the {n_rings} polygons has fewer than three points.",
    "polygon_not_finite": "A point of the polygon is not a finite number.",
}
