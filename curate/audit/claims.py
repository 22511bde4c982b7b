"""Flags of boxes, regions and tracks as claims: what is said of one annotation, as a question for a person.

`curate flag --task …` writes several rows a box, and rows of which nothing is claimed. What can be right or wrong is
a claim: an image, an annotation and an issue. Each issue is a population of its own, since a box that is badly placed
and a box of another class are different errors with different shares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.audit.design import POPULATION
from curate.errors import InputError

CLAIMS = pa.schema(
    [
        *POPULATION,
        pa.field("issue", pa.string(), nullable=False),
        pa.field("annotation", pa.string()),  # null where one is missing
        pa.field("place", pa.string()),  # for a person: a box in pixels, frames
    ]
)
_SHARED = ("issue", "risk", "flagged", "label")
_BOX_QUESTIONS = {
    "missing": "Is there an object at this place that no given box stands for?",
    "location": "Is this box badly placed?",
    "swap": "Is the class of this box wrong?",
    "spurious": "Is there no object that this box could stand for?",
    "duplicate": "Does another given box stand for the same object?",
}
_REGION_QUESTIONS = {
    "missing": "Is there something at this place that the mask leaves out?",
    "wrong_class": "Is the class of this region wrong?",
    "spurious": "Is there nothing that this region could stand for?",
    "boundary": "Is the outline of this region badly drawn?",
}
_TRACK_QUESTIONS = {
    "id_switch": "Does this id stand on another object in these frames than before?",
    "class_flip": "Is the class wrong in these frames?",
    "gap": "Does this id lack a box in or just before these frames though its object is in the picture?",
    "jump": "Is the box of this id badly placed in these frames?",
    "duplicate_id": "Does this id stand on a second object in these frames?",
    "cut_short": "Is the object of this id in these frames, beyond the last or before the first box?",
}


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a table.

    Attributes:
        table: `CLAIMS`; ids are unique.
        things: what they are about: boxes, regions or tracks.
        partial: issues of which the table does not list every claim that is not flagged: no recall, no rate.
        n_unjudged: rows without a risk; they claim nothing.
    """

    table: pa.Table
    things: str
    partial: tuple[str, ...]
    n_unjudged: int


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a table tells of boxes, regions or tracks.

    Attributes:
        key: the column that no other kind has.
        columns: what else it needs, beside `_SHARED`.
        questions: issue → what a person is asked; yes says that the claim is right.
        claims: makes the columns of `CLAIMS` from judged rows.
        tells_all: whether a table may hold every annotation, flagged or not, so that recall and rate can be known.
    """

    key: str
    columns: tuple[str, ...]
    questions: Mapping[str, str]
    claims: Callable[[pa.Table], dict[str, pa.ChunkedArray | pa.Array]]
    tells_all: bool = False


def question_of(things: str, issue: str) -> str:
    """Return what a person is asked of an issue of boxes, regions or tracks."""
    return _KINDS[things].questions[issue]


def claims_of(table: pa.Table) -> Claims:
    """Return the claims of a table that `curate flag` wrote of boxes, regions or tracks.

    Rows without an issue, those about a whole image, and those without a risk claim nothing. Rows of one track and
    issue in frames that follow each other are one claim: they stand for one error.

    Raises:
        InputError: the table has an `issue` and is none of these, lacks columns, or names an unknown issue.
    """
    things = _things(table)
    kind = _KINDS[things]
    known = kind.questions
    issues = pc.fill_null(table["issue"], "")
    strange = sorted(set(pc.unique(issues).to_pylist()) - {*known, "", "image"})
    if strange:
        raise InputError(
            f"The audit of {things} knows the issues {', '.join(known)}; the table has {strange[0]!r}. "
            "Write it with: curate flag"
        )
    claimed = table.filter(pc.is_in(issues, value_set=pa.array(list(known))))
    judged = claimed.filter(pc.is_valid(claimed["risk"]))
    made = kind.claims(judged)
    n = len(made["label_id"])
    columns = {field.name: made.get(field.name, pa.nulls(n, field.type)) for field in CLAIMS}
    merged = _merged(pa.table(columns).cast(CLAIMS))
    whole = _whole(merged) if kind.tells_all else set()
    partial = sorted(set(pc.unique(merged["issue"]).to_pylist()) - whole)
    return Claims(merged, things, tuple(partial), claimed.num_rows - judged.num_rows)


def _things(table: pa.Table) -> str:
    names = set(table.column_names)
    for things, kind in _KINDS.items():
        if kind.key in names:
            missing = [name for name in (*kind.columns, *_SHARED) if name not in names]
            if missing:
                raise InputError.from_missing_columns(
                    missing, table.column_names, needed_by=f"An audit of {things} (write the table again)"
                )
            return things
    raise InputError(
        "The table has a column `issue`, so its rows are claims and no labels, and what they are about cannot be told. "
        "An audit needs the columns that curate flag --task detection, segmentation or tracking writes."
    )


def _joined(*parts: pa.ChunkedArray | pa.Array | str) -> pa.ChunkedArray:
    texts = [
        pa.scalar(one) if isinstance(one, str) else pc.fill_null(pc.cast(one, pa.string()), "") for one in parts
    ]
    return pc.binary_join_element_wise(*texts, "\n")


def _boxes_text(boxes: pa.ChunkedArray) -> pa.Array:
    """Return x, y, width, height as text, rounded to hundredths; null where there is no box."""
    edges = (pc.cast(pc.list_element(boxes, edge), pa.float64()) for edge in range(4))
    told = pc.binary_join_element_wise(*(pc.cast(pc.round(edge, 2), pa.string()) for edge in edges), " ")
    return told.combine_chunks() if isinstance(told, pa.ChunkedArray) else told


def _of_boxes(table: pa.Table) -> dict[str, pa.ChunkedArray | pa.Array]:
    missing = pc.equal(table["issue"], "missing")
    place = _boxes_text(table["bbox"])
    at = np.flatnonzero(missing.to_numpy(zero_copy_only=False))
    seen = _boxes_text(table["suggested_bbox"].take(pa.array(at)))
    place = pc.replace_with_mask(place, missing.combine_chunks(), seen)
    image = pc.cast(table["image_id"], pa.string())
    # several places may be suggested of one image: place and class tell them apart
    tells = pc.if_else(missing, _joined(place, table["suggested_label"]), "")
    file = table["file_name"] if "file_name" in table.column_names else image
    return {
        "label_id": _joined("box", image, table["annotation_id"], table["issue"], tells),
        "sample_id": image,
        "uri": pc.coalesce(pc.cast(file, pa.string()), image),
        "given_label": pc.cast(table["label"], pa.string()),
        "risk": table["risk"],
        "flagged": table["flagged"],
        "issue": table["issue"],
        "annotation": pc.cast(table["annotation_id"], pa.string()),
        "place": place,
    }


def _of_regions(table: pa.Table) -> dict[str, pa.ChunkedArray | pa.Array]:
    place = _boxes_text(table["bbox"])
    tells = pc.if_else(pc.is_null(table["component"]), place, "")
    return {
        "label_id": _joined("region", table["image"], table["component"], table["issue"], tells),
        "sample_id": table["image"],
        "uri": table["image"],
        "given_label": table["label"],
        "risk": table["risk"],
        "flagged": table["flagged"],
        "issue": table["issue"],
        "annotation": pc.cast(table["component"], pa.string()),
        "place": place,
    }


def _of_tracks(table: pa.Table) -> dict[str, pa.ChunkedArray | pa.Array]:
    keys = [(name, "ascending") for name in ("sequence", "id", "issue", "frame", "line")]
    table = table.take(pc.sort_indices(table, sort_keys=[*keys, ("risk", "descending")]))
    frame = table["frame"].to_numpy()
    same = np.ones(max(table.num_rows - 1, 0), dtype=bool)
    for name in ("sequence", "id", "issue"):
        values = table[name].combine_chunks()
        same &= pc.equal(values[1:], values[:-1]).to_numpy(zero_copy_only=False)
    starts = np.flatnonzero(np.concatenate([[True], ~(same & (np.diff(frame) <= 1))])[: table.num_rows])
    ends = np.append(starts[1:], table.num_rows) - 1
    first = table.take(pa.array(starts))
    boxes = _boxes_text(first["bbox"])
    place = [
        f"frames {frame[a]} to {frame[b]}" + (f"; box in frame {frame[a]}: {box}" if box else "")
        for a, b, box in zip(starts, ends, boxes.to_pylist(), strict=True)
    ]
    return {
        "label_id": _joined("track", first["sequence"], first["id"], first["issue"], first["frame"]),
        "sample_id": first["sequence"],
        "uri": first["sequence"],
        "given_label": first["label"],
        "risk": pa.array(np.maximum.reduceat(table["risk"].to_numpy(), starts)),
        "flagged": pa.array(np.logical_or.reduceat(table["flagged"].to_numpy(), starts)),
        "issue": first["issue"],
        "annotation": pc.cast(first["id"], pa.string()),
        "place": pa.array(place, pa.string()),
    }


_KINDS: Mapping[str, _Kind] = {
    "boxes": _Kind(
        key="annotation_id",
        columns=("image_id", "bbox", "suggested_bbox", "suggested_label"),
        questions=_BOX_QUESTIONS,
        claims=_of_boxes,
        tells_all=True,
    ),
    "regions": _Kind(key="component", columns=("image", "bbox"), questions=_REGION_QUESTIONS, claims=_of_regions),
    "tracks": _Kind(
        key="sequence", columns=("frame", "id", "line", "bbox"), questions=_TRACK_QUESTIONS, claims=_of_tracks
    ),
}


def _merged(claims: pa.Table) -> pa.Table:
    """Return one row a claim: where the same is claimed twice, the flagged and riskiest row counts."""
    if pc.count_distinct(claims["label_id"]).as_py() == claims.num_rows:
        return claims.combine_chunks()
    keys = [("label_id", "ascending"), ("flagged", "descending"), ("risk", "descending")]
    claims = claims.take(pc.sort_indices(claims, sort_keys=keys)).combine_chunks()
    ids = claims["label_id"].combine_chunks()
    new = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    return claims.filter(pa.array(np.concatenate([[True], new]))).combine_chunks()


def _whole(claims: pa.Table) -> set[str]:
    """Return the issues of which every judged annotation has its claim, flagged or not."""
    given = claims.filter(pc.is_valid(claims["annotation"]))
    who = _joined(given["sample_id"], given["annotation"])
    n_all = pc.count_distinct(who).as_py()
    found: Sequence[str] = pc.unique(given["issue"]).to_pylist()
    told = {}
    for issue in found:
        mine = pc.equal(given["issue"], issue)
        n_mine = pc.count_distinct(who.filter(mine)).as_py()
        told[issue] = n_mine == n_all and not pc.all(given["flagged"].filter(mine)).as_py()
    return {issue for issue, whole in told.items() if whole}
