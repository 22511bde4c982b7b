"""The saved views that a reviewer starts from. Each opens even where it is empty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from curate.review import regions, suggested
from curate.review.dataset import ground_truth_kind
from curate.review.fields import GROUND_TRUTH

SUSPECTS = "suspect labels"
WAITING = "waiting for review"
LEFT_OUT = ("missing", "missing_label", suggested.TRACK_MISSES)
MISSING_BOXES = "missing boxes"
TRACK_MISSES = "tracks: missing boxes"
MISPLACED_BOXES = "misplaced boxes"
SWAPPED_BOXES = "boxes of another class"
WRONG_REGIONS = "regions that teachers contradict"
CROSS_SPLIT = "near duplicates across splits"
NEAR = "near duplicates"
EXACT = "exact duplicates"
UNREADABLE = "unreadable"
QUALITY = "image quality"
TRACK_VIEWS = {  # view -> issue of a label on a track
    "tracks: ids that change hands": "track_id_switch",
    "tracks: jumps": "track_jump",
    "tracks: gaps": "track_gap",
    "tracks: an id twice in a frame": "track_duplicate_id",
    "tracks: classes that flip": "track_class_flip",
    "tracks: ids cut short": "track_cut_short",
}
CLASS_PREFIX = "class "
VIDEO = "group_video"
_Maker = tuple[tuple[str, ...], Callable[[], Any]]  # the fields that a view reads, and what makes it
_BOXED = (suggested.FIELD, "label_risk")
_MAX_CLASS_VIEWS = 200  # a list of a thousand views helps nobody: filter by label in the sidebar instead

DESCRIPTIONS = {
    SUSPECTS: "labels that a check found something about, worst first",
    WAITING: "what the policy holds back until somebody decides, and images that may lack a label",
    MISSING_BOXES: "a thing that nobody drew; tag the suggested box curate:accept or curate:reject",
    MISPLACED_BOXES: "boxes that detectors place elsewhere, with the suggested place",
    SWAPPED_BOXES: "boxes that detectors give another class, with the suggested one",
    WRONG_REGIONS: "parts of masks in doubt, worst first; tag one curate:accept, curate:keep or curate:ignore",
    CROSS_SPLIT: "copies and near copies of one picture in several splits, family by family",
    NEAR: "pictures that look alike, family by family",
    EXACT: "the same picture more than once, family by family",
    UNREADABLE: "files that could not be decoded, with the reason in read_error",
    **dict.fromkeys(
        TRACK_VIEWS, "frames in order; filter by index to see one id; curate:accept takes suggested_id"
    ),
    TRACK_MISSES: "where an id pauses, begins late or ends early; tag the suggested box curate:accept or curate:reject",
    QUALITY: "dark, bright, blurry, blank, odd in size or shape",
}


def save_views(dataset: Any, classes: Sequence[str]) -> list[str]:  # noqa: ANN401 - fiftyone is loaded late
    """Save curate's views in `dataset`, replacing those of the same name; return their names."""
    views = build_views(dataset, classes)
    kept = set(dataset.list_saved_views())
    for stale in sorted(n for n in kept if n.startswith(CLASS_PREFIX) and n not in views):
        dataset.delete_saved_view(stale)
    taken: set[str] = set()
    saved = []
    for name, view in views.items():
        slug = _slug(name)
        if slug is None or slug in taken:
            continue  # FiftyOne addresses views by slug: "a b" and "a-b" cannot both be saved
        taken.add(slug)
        dataset.save_view(name, view, description=DESCRIPTIONS.get(name), overwrite=True)
        saved.append(name)
    return saved


def build_views(dataset: Any, classes: Sequence[str]) -> dict[str, Any]:  # noqa: ANN401 - fiftyone is loaded late
    """Return name → view; a view that reads a field which is not there is left out."""
    from fiftyone import ViewField as F  # noqa: PLC0415 - costs seconds to import; F is its usual name

    has_labels = dataset.has_sample_field(GROUND_TRUTH)
    is_list = has_labels and ground_truth_kind(dataset) != "Classification"
    makers = _of_labels(dataset, is_list=is_list) | _of_boxes(dataset) | _of_images(dataset)
    if is_list and dataset.has_sample_field(VIDEO):
        makers |= _of_tracks(dataset)
    views: dict[str, Any] = {
        name: make() for name, (fields, make) in makers.items() if all(dataset.has_sample_field(f) for f in fields)
    }
    for label in list(classes)[:_MAX_CLASS_VIEWS] if has_labels else ():
        views[CLASS_PREFIX + label] = dataset.filter_labels(GROUND_TRUTH, F("label") == label)
    return views


def _of_labels(dataset: Any, *, is_list: bool) -> dict[str, _Maker]:  # noqa: ANN401 - see above
    from fiftyone import ViewField as F  # noqa: PLC0415 - see above

    def only(view: Any, condition: Any) -> Any:  # noqa: ANN401 - views
        """Show of an image with many labels those that it is about; the image stays where a label is missing."""
        return view.filter_labels(GROUND_TRUTH, condition, only_matches=False) if is_list else view

    # such an image is released, with its labels; the place where one may be missing waits
    lacks_a_label = F("issues").exists().if_else(F("issues").contains(list(LEFT_OUT)), False)  # noqa: FBT003
    waits = F("actions").contains("review") | lacks_a_label
    return {
        SUSPECTS: (
            ("label_risk",),
            lambda: only(dataset.match(F("label_risk") > 0).sort_by("label_risk", reverse=True), F("risk") > 0),
        ),
        WAITING: (
            ("actions", "issues", "risk"),
            lambda: only(dataset.match(waits).sort_by("risk", reverse=True), F("action") == "review"),
        ),
        WRONG_REGIONS: (
            (regions.FIELD, "label_risk"),
            # without the ground truth, which covers every pixel: the regions are of it
            lambda: (
                dataset.filter_labels(regions.FIELD, F("risk") > 0)
                .sort_by("label_risk", reverse=True)
                .exclude_fields(GROUND_TRUTH)
            ),
        ),
    }


def _of_boxes(dataset: Any) -> dict[str, _Maker]:  # noqa: ANN401 - see above
    from fiftyone import ViewField as F  # noqa: PLC0415 - see above

    def suggested_for(issue: str) -> Any:  # noqa: ANN401 - a view
        return dataset.filter_labels(suggested.FIELD, F("issue") == issue).sort_by("label_risk", reverse=True)

    issues = {MISSING_BOXES: "missing", MISPLACED_BOXES: "location", SWAPPED_BOXES: "swap"}
    return {name: (_BOXED, partial(suggested_for, issue)) for name, issue in issues.items()}


def _of_tracks(dataset: Any) -> dict[str, _Maker]:  # noqa: ANN401 - see above
    from fiftyone import ViewField as F  # noqa: PLC0415 - see above

    def in_order(field: str, is_it: Any) -> Any:  # noqa: ANN401 - a view
        return dataset.filter_labels(field, is_it).sort_by([(VIDEO, 1), ("uri", 1)])

    made: dict[str, _Maker] = {
        name: ((), partial(in_order, GROUND_TRUTH, F("issues").contains(issue)))
        for name, issue in TRACK_VIEWS.items()
    }
    missed = partial(in_order, suggested.FIELD, F("issue") == suggested.TRACK_MISSES)
    return made | {TRACK_MISSES: (_BOXED, missed)}


def _of_images(dataset: Any) -> dict[str, _Maker]:  # noqa: ANN401 - see above
    from fiftyone import ViewField as F  # noqa: PLC0415 - see above

    def family(name: str) -> Any:  # noqa: ANN401 - a view
        return dataset.match(F(name).exists()).sort_by(name)

    families = {CROSS_SPLIT: "leakage_family", NEAR: "near_family", EXACT: "exact_family"}
    return {
        **{name: ((field,), partial(family, field)) for name, field in families.items()},
        UNREADABLE: (("read_error",), lambda: dataset.match(F("read_error").exists())),
        QUALITY: (("quality",), lambda: dataset.match(F("quality").length() > 0)),
    }


def _slug(name: str) -> str | None:
    """Return the name as it stands in a URL, or None where FiftyOne refuses it."""
    import fiftyone.core.utils as fou  # noqa: PLC0415 - costs seconds to import

    try:
        return str(fou.to_slug(name))
    except ValueError:
        return None
