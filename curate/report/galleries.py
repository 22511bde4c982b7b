"""Findings with their pictures, worst first."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.manifest.read import LoadedRelease
from curate.reasons.join import join_reasons
from curate.reasons.tracks import FOLLOWS
from curate.report.pictures import ReadImages, thumbnail
from curate.report.wording import sentence, short_name
from curate.teachers.regions.shapes import Shape, shape_of

N_PICTURES = 24
N_PER_ISSUE = 6
MAX_REASONS = 4  # of a label in a caption, worst first
DUPLICATES = (
    "duplicate_conflict",
    "exact_duplicate",
    "leakage_duplicate",
    "leakage_near_duplicate",
    "near_duplicate",
)
FACTS = ["sample_id", "label_id", "uri", "given_label", "action", "split", "bbox", "given_bbox"]

Known = dict[str, dict[str | None, dict[str, Any]]]


def gallery(
    release: LoadedRelease,
    read: ReadImages,
    names: Mapping[str, str],
    issues: Sequence[str],
    *,
    n: int = N_PICTURES,
    flagged_only: bool = False,
) -> list[dict[str, Any]]:
    """Return the worst findings of some issues, each with its picture, labels and reasons.

    Findings of these issues about the same label, or the same pair of pictures, share one entry. Boxes that only come
    after an id changed hands, or before a gap, have none: the finding that they follow from tells of them.

    Args:
        release: of the findings.
        read: sample ids -> encoded images.
        names: sample id -> file name, for the sentences.
        issues: which findings.
        n: entries at most.
        flagged_only: leave out what the check itself did not flag.
    """
    chosen = release.findings.filter(pc.is_in(release.findings["issue"], value_set=pa.array(issues, pa.string())))
    chosen = chosen.filter(pc.invert(pc.is_in(chosen["reason_code"], value_set=pa.array(sorted(FOLLOWS)))))
    if flagged_only:
        chosen = chosen.filter(pc.fill_null(chosen["flagged"], False))  # noqa: FBT003 - pyarrow's fill value
    chosen = chosen.sort_by([("risk", "descending"), ("finding_id", "ascending")])
    merged: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in chosen.slice(0, 4 * n).to_pylist():
        pair = tuple(sorted({row["sample_id"], *(row["related_ids"] or ())})) if row["issue"] in DUPLICATES else ()
        merged.setdefault(pair or (row["sample_id"], row["label_id"]), []).append(row)
    groups = list(merged.values())[:n]
    wanted = {one for rows in groups for row in rows for one in (row["sample_id"], *(row["related_ids"] or ())[:1])}
    about = _about(release, wanted)
    images = read(sorted(about))
    beside = _beside(release.findings, {rows[0]["label_id"] for rows in groups} - {None})
    return [_entry(rows, about, images, names, beside.get(rows[0]["label_id"], [])) for rows in groups]


def _beside(findings: pa.Table, labels: set[str]) -> dict[str, list[dict[str, Any]]]:
    """Return everything that was found about some labels, worst first, by label id."""
    wanted = findings.filter(pc.is_in(findings["label_id"], value_set=pa.array(sorted(labels), pa.string())))
    found: dict[str, list[dict[str, Any]]] = {}
    for row in wanted.sort_by([("risk", "descending"), ("finding_id", "ascending")]).to_pylist():
        found.setdefault(row["label_id"], []).append(row)
    return found


def _entry(
    rows: Sequence[dict[str, Any]],
    about: Known,
    images: Mapping[str, bytes | None],
    names: Mapping[str, str],
    beside: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    first = rows[0]
    labels = about.get(first["sample_id"], {})
    label = labels.get(first["label_id"]) or {}
    if first["label_id"] is None and len(labels) == 1:  # about the image, which has this one label
        label = _first(labels)
    other = next(iter(first["related_ids"] or ()), None) if first["issue"] in DUPLICATES else None
    box = (label.get("given_bbox") or label.get("bbox")) if first["label_id"] is not None else None
    is_missing = first["label_id"] is None and first["suggested_bbox"] is not None  # a box that nobody drew
    is_left_out = first["issue"] == "missing_label"  # of the several labels of an image
    if is_missing:
        box = first["suggested_bbox"]
    drawn, seen = _shapes(first)
    uri = label.get("uri") or _first(labels).get("uri") or first["sample_id"]
    return {
        "picture": thumbnail(images.get(first["sample_id"]), box, drawn=drawn, seen=seen),
        "other": thumbnail(images.get(other)) if other else None,
        "other_name": names.get(other, "") if other else "",
        "uri": uri,
        "name": short_name(uri),
        "given": "no box" if is_missing else "left out" if is_left_out else label.get("given_label"),
        "suggested": first["suggested_label"],
        "prob": first["suggested_prob"],
        "issue": first["issue"].replace("_", " "),
        "action": label.get("action"),
        "split": label.get("split") or _first(labels).get("split"),
        "texts": _texts(rows, beside, names),
    }


def _texts(rows: Sequence[dict[str, Any]], beside: Sequence[dict[str, Any]], names: Mapping[str, str]) -> list[str]:
    """Return the reasons in words: everything about one label in one sentence, findings about an image one by one."""
    if rows[0]["label_id"] is None:
        return list(dict.fromkeys(sentence(row["reason_code"], row["reason_args"], names) for row in rows))
    shown = [*rows, *(row for row in beside if row["finding_id"] not in {one["finding_id"] for one in rows})]
    told = [
        (row["reason_code"], sentence(row["reason_code"], row["reason_args"], names)) for row in shown[:MAX_REASONS]
    ]
    more = len(shown) - MAX_REASONS
    return [join_reasons(told), *([f"{more} more: curate show NAME --row FILE."] if more > 0 else [])]


def _shapes(finding: Mapping[str, Any]) -> tuple[Shape | None, Shape | None]:
    """Return the regions of a mask that a finding is about: as labeled, and as teachers see it."""
    if finding["check"] != "mask_noise":
        return None, None
    told = json.loads(finding["reason_args"])
    return shape_of(told.get("drawn")), shape_of(told.get("seen"))


def by_issue(
    release: LoadedRelease, read: ReadImages, names: Mapping[str, str], checks: Sequence[str]
) -> list[dict[str, Any]]:
    """Return a small gallery for each issue of some checks, the issue with the worst finding first."""
    found = release.findings.filter(pc.is_in(release.findings["check"], value_set=pa.array(checks, pa.string())))
    counts = Counter(found["issue"].to_pylist())
    decided = found.filter(pc.is_valid(found["flagged"]))
    flagged = Counter(decided.filter(decided["flagged"])["issue"].to_pylist())
    cut = set(decided["issue"].to_pylist())
    worst = found.group_by("issue").aggregate([("risk", "max")]).to_pylist()
    order = sorted(worst, key=lambda row: (-row["risk_max"], row["issue"]))
    return [
        {
            "issue": row["issue"].replace("_", " "),
            "n": counts[row["issue"]],
            "n_flagged": flagged[row["issue"]],
            "has_cut": row["issue"] in cut,
            "items": gallery(release, read, names, [row["issue"]], n=N_PER_ISSUE),
        }
        for row in order
    ]


def _about(release: LoadedRelease, samples: set[str]) -> Known:
    """Return what is known of the labels of some samples: sample_id -> label_id -> row."""
    known: Known = {sample: {} for sample in samples}
    wanted = pa.array(sorted(samples), pa.string())
    for table in (release.data, release.excluded):
        names = [name for name in FACTS if name in table.column_names]
        for row in table.select(names).filter(pc.is_in(table["sample_id"], value_set=wanted)).to_pylist():
            known[row["sample_id"]][row["label_id"]] = row
    return known


def _first(labels: Mapping[str | None, dict[str, Any]]) -> dict[str, Any]:
    return next(iter(labels.values()), {})
