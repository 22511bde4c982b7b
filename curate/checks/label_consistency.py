"""Whether the same picture always has the same label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.check import Batches, Check, build_findings, build_statistics
from curate.checks.emit import Fitted, score_by_label, summarize
from curate.checks.families import Ints, families, links
from curate.checks.pictures import gather
from curate.statistics.intervals import wilson

NAME = "label_consistency"
COLUMNS = ("label_id", "sample_id", "task", "label", "content_sha256", "thumbnail_sha256")


@dataclass(frozen=True, slots=True)
class LabelConsistencyParams:
    """`tasks` are those whose label is about the whole image; boxes of copies may be drawn differently."""

    tasks: tuple[str, ...] = ("classification",)
    max_related: int = 10


@dataclass(frozen=True, slots=True)
class _Copies:
    """Labels of pictures that several samples show, sorted by label id; numbers are per row of `table`."""

    table: pa.Table
    picture: Ints
    sample: Ints
    label: Ints
    n_samples: Ints  # per picture


def fit(batches: Batches, params: LabelConsistencyParams) -> Fitted:
    """Compare the labels of copies (same bytes or same pixels) over all batches.

    Several labels on *one* sample are several annotators or several classes, not a conflict between copies.
    """
    table = gather(batches, COLUMNS)
    copies = _copies(table, params) if table is not None else None
    if copies is None or not copies.table.num_rows:
        row = {"name": "share_consistent", "n": 0, "outcome": "insufficient data", "detail": {"why": "no copies"}}
        return Fitted(build_findings(NAME, []), build_statistics(NAME, [row]))
    is_torn = _torn(copies)
    findings = _findings(copies, is_torn, params)
    n = len(is_torn)
    n_consistent = n - int(is_torn.sum())
    low, high = wilson(n_consistent, n)
    row = {"name": "share_consistent", "value": n_consistent / n, "low": low, "high": high, "n": n}
    return Fitted(build_findings(NAME, findings), build_statistics(NAME, [{**row, "detail": {"of": "pictures"}}]))


def _numbers(values: pa.ChunkedArray) -> Ints:
    """Return numbers that are equal where the values are."""
    codes = values.combine_chunks().dictionary_encode().indices
    return np.asarray(codes.to_numpy(zero_copy_only=False), dtype=np.int64)


def _copies(table: pa.Table, params: LabelConsistencyParams) -> _Copies:
    table = table.filter(pc.is_in(table["task"], value_set=pa.array(params.tasks, pa.string())))
    table = table.sort_by("label_id").combine_chunks()
    same = [links(table[name]) for name in ("sample_id", "content_sha256", "thumbnail_sha256")]
    picture = families(table["label_id"], np.concatenate(same))
    sample = _numbers(table["sample_id"])
    pairs = np.unique(np.stack([picture, sample], axis=1), axis=0)
    n_samples = np.bincount(pairs[:, 0]) if len(pairs) else np.zeros(0, dtype=np.int64)
    rows = np.flatnonzero(n_samples[picture] > 1)
    shared = table.take(pa.array(rows))
    numbers, dense = np.unique(picture[rows], return_inverse=True)
    label = _numbers(shared["label"])
    return _Copies(shared, dense.astype(np.int64), sample[rows], label, n_samples[numbers].astype(np.int64))


def _carriers(copies: _Copies) -> Ints:
    """Return for each row how many samples of its picture carry its label."""
    triples = np.unique(np.stack([copies.picture, copies.label, copies.sample], axis=1), axis=0)
    pairs, counts = np.unique(triples[:, :2], axis=0, return_counts=True)
    width = int(copies.label.max()) + 1
    keys = pairs[:, 0] * width + pairs[:, 1]
    return np.asarray(counts[np.searchsorted(keys, copies.picture * width + copies.label)], dtype=np.int64)


def _torn(copies: _Copies) -> npt.NDArray[np.bool_]:
    """Return which pictures are torn: some label is not carried by every sample."""
    torn = np.zeros(len(copies.n_samples), dtype=bool)
    np.logical_or.at(torn, copies.picture, _carriers(copies) < copies.n_samples[copies.picture])
    return torn


def _findings(
    copies: _Copies, is_torn: npt.NDArray[np.bool_], params: LabelConsistencyParams
) -> list[dict[str, Any]]:
    """Return one finding per label of a torn picture; the risk is the share of copies that do not carry it."""
    carriers = _carriers(copies)
    order = np.argsort(copies.picture, kind="stable")
    start = np.searchsorted(copies.picture[order], np.arange(len(is_torn) + 1))
    columns = {name: copies.table[name].to_pylist() for name in ("label_id", "sample_id", "label")}
    found: list[dict[str, Any]] = []
    for picture in np.flatnonzero(is_torn):
        rows = order[start[picture] : start[picture + 1]]
        n = int(copies.n_samples[picture])
        most = {columns["label"][r]: int(carriers[r]) for r in rows}
        winner, n_winner = max(most.items(), key=lambda item: (item[1], item[0]))
        has_majority = 2 * n_winner > n
        samples = sorted({columns["sample_id"][r] for r in rows})
        for row in rows:
            label = columns["label"][row]
            others = [s for s in samples if s != columns["sample_id"][row]][: params.max_related]
            suggestion = {"suggested_label": winner, "suggested_prob": n_winner / n}
            found.append(
                {
                    "issue": "duplicate_conflict",
                    "sample_id": columns["sample_id"][row],
                    "label_id": columns["label_id"][row],
                    "related_ids": others,
                    "risk": (n - int(carriers[row])) / n,
                    "flagged": True,
                    "reason_code": "duplicate_conflict",
                    "reason_args": {
                        "label": label,
                        "n_copies": n,
                        "n_agree": int(carriers[row]),
                        "labels": sorted(most)[:10],
                    },
                    **(suggestion if has_majority and winner != label else {}),
                }
            )
    return found


CHECK = Check(
    name=NAME,
    version=1,
    view="labels",
    needs=COLUMNS,
    scope="dataset",
    issues=("duplicate_conflict",),
    statistics=("share_consistent",),
    params=LabelConsistencyParams(),
    fit=fit,
    score=score_by_label,
    summarize=summarize,
)
