"""Leakage: pictures and groups that stand in more than one split."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.check import Batches, Check, build_findings, build_statistics
from curate.checks.emit import Fitted, score_by_sample, summarize
from curate.checks.families import Ints
from curate.checks.pictures import NEEDS, Pictures, SimilarityParams, find_pictures
from curate.checks.splits import split_ranks
from curate.statistics.intervals import wilson

NAME = "leakage"
NOWHERE = np.iinfo(np.int64).max  # rank of "in no split": nothing leaks out of it


@dataclass(frozen=True, slots=True)
class _Found:
    rows: list[dict[str, Any]]
    sample_ids: frozenset[str]


def fit(batches: Batches, params: SimilarityParams) -> Fitted:
    """Find copies, near copies and groups across splits, over all batches.

    A finding is on the row of the less clean split (`split_ranks`): the training copy of a test picture, the
    validation copy of a test picture. Splits that are all for training leak nothing into each other.
    """
    groups: list[pa.RecordBatch] = []

    def watched() -> Batches:
        for batch in batches:
            names = [name for name in batch.schema.names if name.startswith(schema.GROUP_PREFIX)]
            groups.append(batch.select(["sample_id", "split", "error_code", *names]))
            yield batch

    pictures = find_pictures(watched(), params)
    if pictures is None or int((pictures.rank >= 0).sum()) == 0:
        row = {"name": "share_of_samples", "n": 0, "outcome": "insufficient data", "detail": {"why": "no split"}}
        return Fitted(build_findings(NAME, []), build_statistics(NAME, [row]))
    exact = _exact(pictures)
    near = _near(pictures, params)
    grouped = _grouped(pa.Table.from_batches(groups), params)
    routes = {"exact": exact, "near": near, "group": grouped}
    findings = build_findings(NAME, [row for route in routes.values() for row in route.rows])
    return Fitted(findings, build_statistics(NAME, _statistics(pictures, routes)))


def _exact(pictures: Pictures) -> _Found:
    kept = pictures.kept[pictures.picture]
    leaks = (pictures.rank >= 0) & (pictures.rank[kept] >= 0) & (pictures.rank > pictures.rank[kept])
    rows = []
    for row in np.flatnonzero(leaks):
        other = int(kept[row])
        args = {"split": pictures.split[row], "other_split": pictures.split[other]}
        found = _finding("leakage_duplicate", pictures.sample_id[row], [pictures.sample_id[other]], args)
        rows.append({**found, "risk": 1.0, "flagged": True})
    return _found(rows)


def _near(pictures: Pictures, params: SimilarityParams) -> _Found:
    """Return a finding for each row with a near duplicate in a cleaner split, at whatever rank of nearness.

    Per fingerprint only the cleanest split matters, so that no crowd of equal pictures is compared pairwise.
    """
    n_nodes = int(pictures.node.max(initial=-1)) + 1
    if not n_nodes:
        return _found([])
    best, second, best_picture = _cleanest(pictures, n_nodes)
    left, right = pictures.edges.T
    around = np.full(n_nodes, NOWHERE, dtype=np.int64)
    np.minimum.at(around, left, best[right])
    np.minimum.at(around, right, best[left])
    node = pictures.node[pictures.picture]
    compared = np.flatnonzero((node >= 0) & (pictures.rank >= 0))
    own = np.where(
        best_picture[node[compared]] == pictures.picture[compared], second[node[compared]], best[node[compared]]
    )
    leaking = compared[pictures.rank[compared] > np.minimum(own, around[node[compared]])]
    source = np.concatenate([left, right, np.arange(n_nodes)])
    target = np.concatenate([right, left, np.arange(n_nodes)])
    bits = np.concatenate([pictures.distance_bits, pictures.distance_bits, np.zeros(n_nodes, dtype=np.int64)])
    order = np.lexsort((target, bits, source))
    source, target, bits = source[order], target[order], bits[order]
    members = _by_node(pictures, n_nodes)
    rows = []
    for row in leaking:
        start, stop = np.searchsorted(source, [node[row], node[row] + 1])
        related = _cleaner_rows(pictures, int(row), target[start:stop], bits[start:stop], members, params)
        other, n_bits = related[0]
        args = {
            "split": pictures.split[row],
            "other_split": pictures.split[other],
            "distance_bits": n_bits,
        }
        ids = [pictures.sample_id[r] for r, _ in related]
        found = _finding("leakage_near_duplicate", pictures.sample_id[row], ids, args)
        rows.append({**found, "risk": 0.9 - 0.4 * n_bits / max(1, params.max_distance_bits)})
    return _found(rows)


def _kept_rank(pictures: Pictures) -> Ints:
    rank = pictures.rank[pictures.kept]
    return np.asarray(np.where(rank < 0, NOWHERE, rank), dtype=np.int64)


def _by_node(pictures: Pictures, n_nodes: int) -> tuple[Ints, Ints]:
    """Return the pictures of each node, cleanest split first, and where each node starts."""
    compared = np.flatnonzero(pictures.node >= 0)
    order = np.lexsort((compared, _kept_rank(pictures)[compared], pictures.node[compared]))
    members = compared[order].astype(np.int64)
    return members, np.searchsorted(pictures.node[members], np.arange(n_nodes + 1)).astype(np.int64)


def _cleanest(pictures: Pictures, n_nodes: int) -> tuple[Ints, Ints, Ints]:
    """Return for each node the cleanest rank, the cleanest of any other picture, and the picture of the first."""
    members, start = _by_node(pictures, n_nodes)
    rank = np.append(_kept_rank(pictures)[members], NOWHERE)
    first = start[:-1]
    has_second = np.diff(start) > 1
    second = np.where(has_second, rank[np.minimum(first + 1, len(rank) - 1)], NOWHERE)
    return rank[first], second.astype(np.int64), members[first]


def _cleaner_rows(
    pictures: Pictures,
    row: int,
    nodes: Ints,
    bits: Ints,
    members: tuple[Ints, Ints],
    params: SimilarityParams,
) -> list[tuple[int, int]]:
    """Return (row, distance) of the nearest pictures in a cleaner split than that of `row`."""
    related: list[tuple[int, int]] = []
    for node, n_bits in zip(nodes, bits, strict=True):
        for picture in members[0][members[1][node] : members[1][node + 1]][: params.max_related + 1]:
            other = int(pictures.kept[picture])
            if picture != pictures.picture[row] and 0 <= pictures.rank[other] < pictures.rank[row]:
                related.append((other, int(n_bits)))
        if len(related) >= params.max_related:
            break
    return related[: params.max_related]


def _grouped(table: pa.Table, params: SimilarityParams) -> _Found:
    rows: list[dict[str, Any]] = []
    table = table.filter(pc.and_(pc.is_null(table["error_code"]), pc.is_valid(table["split"])))
    for column in table.column_names:
        if column.startswith(schema.GROUP_PREFIX):
            rows += _group_rows(table, column, params)
    return _found(rows)


def _group_rows(table: pa.Table, column: str, params: SimilarityParams) -> list[dict[str, Any]]:
    """Return one finding per row whose group also stands in a cleaner split."""
    known = table.filter(pc.is_valid(table[column]))
    key = np.asarray(known[column].to_pylist(), dtype=object)
    split = np.asarray(known["split"].to_pylist(), dtype=object)
    names, code = np.unique(split.astype(str), return_inverse=True)
    rank = np.asarray(split_ranks(names.tolist(), params.split_order), dtype=np.int64)[code]
    keys, group = np.unique(key.astype(str), return_inverse=True)
    cleanest = np.full(len(keys), NOWHERE, dtype=np.int64)
    np.minimum.at(cleanest, group, rank)
    leaking = np.flatnonzero(rank > cleanest[group])
    ids = known["sample_id"].to_pylist()
    there: dict[int, str] = {}
    clean = np.flatnonzero(rank == cleanest[group])
    for row in sorted(clean[np.isin(group[clean], group[leaking])], key=lambda r: str(ids[r])):
        there.setdefault(int(group[row]), str(split[row]))
    name = column.removeprefix(schema.GROUP_PREFIX)
    return [
        {
            **_finding(
                "leakage_group",
                ids[row],
                [],
                {"split": split[row], "other_split": there[int(group[row])], "group": name, "key": key[row]},
            ),
            "risk": 0.75,
        }
        for row in leaking
    ]


def _finding(issue: str, sample_id: str, related: list[str], args: dict[str, Any]) -> dict[str, Any]:
    return {
        "issue": issue,
        "sample_id": sample_id,
        "related_ids": related,
        "reason_code": issue,
        "reason_args": args,
    }


def _found(rows: list[dict[str, Any]]) -> _Found:
    """Return the findings, merged where one row leaks by several groups: a finding has one id."""
    merged: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in sorted(rows, key=lambda r: schema.canonical_json(r["reason_args"])):
        merged.setdefault((row["issue"], row["sample_id"]), row)
    return _Found(list(merged.values()), frozenset(row["sample_id"] for row in rows))


def _statistics(pictures: Pictures, routes: dict[str, _Found]) -> list[dict[str, Any]]:
    n = int((pictures.rank >= 0).sum())
    names = sorted({str(split) for split in pictures.split if split is not None})
    detail = {"splits": names, "cleanest_first": sorted(names, key=lambda s: (split_ranks([s])[0], s))}
    leaked: frozenset[str] = frozenset().union(*(route.sample_ids for route in routes.values()))
    rows = [_share("share_of_samples", None, len(leaked), n, detail)]
    rows += [
        _share("share_of_samples", f"route={name}", len(r.sample_ids), n, detail) for name, r in routes.items()
    ]
    if not pictures.is_complete:
        rows[0] |= {"outcome": "errored", "detail": {**detail, "why": "more near pairs than are listed"}}
    exact, near = _pair_counts(pictures, names)
    for a, b in combinations(range(len(names)), 2):
        group = f"splits={names[a]}|{names[b]}"
        rows.append({"name": "n_exact_pairs", "group": group, "value": float(exact[a, b]), "n": n})
        rows.append({"name": "n_near_pairs", "group": group, "value": float(near[a, b]), "n": n})
    return rows


def _share(name: str, group: str | None, n_hits: int, n: int, detail: dict[str, Any]) -> dict[str, Any]:
    low, high = wilson(n_hits, n)
    return {
        "name": name,
        "group": group,
        "value": n_hits / n,
        "low": low,
        "high": high,
        "n": n,
        "detail": detail,
    }


def _pair_counts(pictures: Pictures, names: list[str]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return how many pairs of rows join each two splits: of the same picture, and of near ones."""
    in_split = np.flatnonzero(pictures.rank >= 0)
    code = np.searchsorted(np.asarray(names), pictures.split[in_split].astype(str))
    counts = np.zeros((len(pictures.kept), len(names)))
    np.add.at(counts, (pictures.picture[in_split], code), 1.0)
    exact = counts.T @ counts
    n_nodes = int(pictures.node.max(initial=-1)) + 1
    compared = np.flatnonzero(pictures.node >= 0)
    of_node = np.zeros((n_nodes, len(names)))
    np.add.at(of_node, pictures.node[compared], counts[compared])
    left, right = pictures.edges.T
    across = of_node[left].T @ of_node[right]
    inside = of_node.T @ of_node - counts[compared].T @ counts[compared]
    return exact, across + across.T + inside


CHECK = Check(
    name=NAME,
    version=1,
    view="samples",
    needs=NEEDS,
    scope="dataset",
    issues=("leakage_duplicate", "leakage_near_duplicate", "leakage_group"),
    statistics=(
        "share_of_samples",
        "n_exact_pairs",
        "n_near_pairs",
    ),
    params=SimilarityParams(),
    fit=fit,
    score=score_by_sample,
    summarize=summarize,
)
