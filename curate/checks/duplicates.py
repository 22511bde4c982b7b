"""Exact and near duplicates among the images."""

from __future__ import annotations

from typing import Any

import numpy as np

from curate.check import Batches, Check, build_findings, build_statistics
from curate.checks.emit import Fitted, score_by_sample, summarize
from curate.checks.families import Ints, families, links
from curate.checks.pictures import NEEDS, Pictures, SimilarityParams, find_pictures, near_duplicate_links
from curate.statistics.intervals import wilson

__all__ = ["CHECK", "SimilarityParams", "families", "links", "near_duplicate_links"]

NAME = "duplicates"


def fit(batches: Batches, params: SimilarityParams) -> Fitted:
    """Find the copies, the near duplicates and what is too flat to compare, over all batches."""
    pictures = find_pictures(batches, params)
    if pictures is None:
        insufficient = [
            {"name": name, "n": 0, "outcome": "insufficient data", "detail": {"why": "no readable image"}}
            for name in ("share_exact", "share_near")
        ]
        return Fitted(build_findings(NAME, []), build_statistics(NAME, insufficient))
    exact = exact_findings(pictures)
    near = near_findings(pictures, params)
    flat = flat_findings(pictures)
    return Fitted(
        build_findings(NAME, exact + near + flat), _statistics(pictures, len(exact), len(near), len(flat))
    )


def exact_findings(pictures: Pictures) -> list[dict[str, Any]]:
    """Return one finding per redundant copy; the copy that stays is of the cleanest split."""
    kept = pictures.kept[pictures.picture]
    found = []
    for row in np.flatnonzero(kept != np.arange(len(kept))):
        other = int(kept[row])
        is_same_file = pictures.same_bytes[row] == pictures.same_bytes[other]
        found.append(
            {
                "issue": "exact_duplicate",
                "sample_id": pictures.sample_id[row],
                "related_ids": [pictures.sample_id[other]],
                "risk": 1.0,
                "flagged": True,
                "reason_code": "exact_duplicate_bytes" if is_same_file else "exact_duplicate_pixels",
                "reason_args": {"kept": pictures.sample_id[other]},
            }
        )
    return found


def near_findings(pictures: Pictures, params: SimilarityParams) -> list[dict[str, Any]]:
    """Return one finding per picture that is close to another; copies of it have their own finding.

    The risk falls from 0.9 (the same hash) to 0.5 (at the largest distance).
    """
    start, other, distance = _adjacency(pictures)
    members, member_start = _members(pictures)
    size = np.diff(member_start)
    found = []
    for picture in np.flatnonzero(pictures.node >= 0):
        node = int(pictures.node[picture])
        own = members[member_start[node] : member_start[node + 1]]
        nearby = slice(start[node], start[node + 1])
        if len(own) == 1 and nearby.start == nearby.stop:
            continue
        nearest_few = slice(start[node], min(start[node + 1], start[node] + params.max_related))
        near = [(0, int(p)) for p in own[: params.max_related + 1] if p != picture]
        n_near = len(own) - 1 + int(size[other[nearby]].sum())
        for neighbour, bits in zip(other[nearest_few], distance[nearest_few], strict=True):
            there = members[member_start[neighbour] : member_start[neighbour + 1]]
            near += [(int(bits), int(p)) for p in there[: params.max_related]]
        nearest = sorted(near)[: params.max_related]
        bits = nearest[0][0]
        found.append(
            {
                "issue": "near_duplicate",
                "sample_id": pictures.sample_id[pictures.kept[picture]],
                "related_ids": [pictures.sample_id[pictures.kept[p]] for _, p in nearest],
                "risk": 0.9 - 0.4 * bits / max(1, params.max_distance_bits),
                "reason_code": "near_duplicate",
                "reason_args": {"distance_bits": bits, "n_near": n_near},
            }
        )
    return found


def flat_findings(pictures: Pictures) -> list[dict[str, Any]]:
    """Return one finding per picture that was left out of the comparison because nothing is on it."""
    return [
        {
            "issue": "not_compared",
            "sample_id": pictures.sample_id[pictures.kept[picture]],
            "risk": 0.0,
            "reason_code": "too_flat_to_compare",
            "reason_args": {},
        }
        for picture in np.flatnonzero(pictures.is_flat)
    ]


def _adjacency(pictures: Pictures) -> tuple[Ints, Ints, Ints]:
    """Return the neighbours of each node as compressed rows: starts, neighbours, distances, nearest first."""
    n_nodes = int(pictures.node.max(initial=-1)) + 1
    source = np.concatenate([pictures.edges[:, 0], pictures.edges[:, 1]])
    target = np.concatenate([pictures.edges[:, 1], pictures.edges[:, 0]])
    distance = np.tile(pictures.distance_bits, 2)
    order = np.lexsort((target, distance, source))
    start = np.searchsorted(source[order], np.arange(n_nodes + 1))
    return start.astype(np.int64), target[order], distance[order]


def _members(pictures: Pictures) -> tuple[Ints, Ints]:
    """Return the pictures of each node, by their number, and where each node starts."""
    compared = np.flatnonzero(pictures.node >= 0)
    members = compared[np.argsort(pictures.node[compared], kind="stable")]
    n_nodes = int(pictures.node.max(initial=-1)) + 1
    start = np.searchsorted(pictures.node[members], np.arange(n_nodes + 1))
    return members.astype(np.int64), start.astype(np.int64)


def _statistics(pictures: Pictures, n_exact: int, n_near: int, n_flat: int) -> Any:  # noqa: ANN401 - pa.Table
    n = len(pictures.sample_id)
    rows = []
    for name, n_found in (("share_exact", n_exact), ("share_near", n_near), ("share_too_flat", n_flat)):
        low, high = wilson(n_found, n)
        rows.append({"name": name, "value": n_found / n, "low": low, "high": high, "n": n})
    rows.append({"name": "n_pictures", "value": float(len(pictures.kept)), "n": n})
    complete: dict[str, Any] = {"name": "search_complete", "value": float(pictures.is_complete), "n": n}
    if not pictures.is_complete:
        complete |= {"outcome": "errored", "detail": {"why": "more near pairs than are listed"}}
    return build_statistics(NAME, [*rows, complete])


CHECK = Check(
    name=NAME,
    version=1,
    view="samples",
    needs=NEEDS,
    scope="dataset",
    issues=("exact_duplicate", "near_duplicate", "not_compared"),
    statistics=(
        "share_exact",
        "share_near",
        "share_too_flat",
        "n_pictures",
        "search_complete",
    ),
    params=SimilarityParams(),
    fit=fit,
    score=score_by_sample,
    summarize=summarize,
)
