"""Statistics of a release: those of the checks, how much was left out, waits or was relabeled, and a suite's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.check import build_statistics

Validate = Callable[[pa.Table], tuple[pa.Table, Mapping[str, Any]]]


def all_statistics(
    statistics: pa.Table | None, outcomes: pa.Table, data: pa.Table, excluded: pa.Table, validate: Validate | None
) -> tuple[pa.Table, Mapping[str, Any]]:
    """Return the statistics of the checks, of the release itself and of `validate`, sorted; and its evidence."""
    given = schema.empty(schema.STATISTICS) if statistics is None else statistics.cast(schema.STATISTICS)
    parts = [given, *own_statistics(given, outcomes, data, excluded)]
    further: Mapping[str, Any] = {}
    if validate is not None:
        more, further = validate(data)
        parts.append(more.cast(schema.STATISTICS))
    return sorted_statistics(pa.concat_tables(parts)), further


def sorted_statistics(statistics: pa.Table) -> pa.Table:
    """Return `schema.STATISTICS` in the order in which they are written."""
    keys = ("check", "name", "group", "value", "detail")
    return statistics.sort_by([(name, "ascending") for name in keys]).combine_chunks()


def own_statistics(given: pa.Table, outcomes: pa.Table, data: pa.Table, excluded: pa.Table) -> list[pa.Table]:
    """Return `ingest.share_out` (unless a stage gave it) and `release.share_*`."""
    # what was erased on request says nothing about how well the source could be read
    n_erased = pc.sum(pc.equal(pc.list_flatten(excluded["reason_codes"]), "erased")).as_py() or 0
    n_in = data.num_rows + excluded.num_rows - n_erased
    readable = outcomes.filter(pc.fill_null(pc.not_equal(outcomes["reason_code"], "erased"), True))  # noqa: FBT003
    n_out, n_outcomes = pc.sum(pc.equal(readable["outcome"], "out")).as_py() or 0, readable.num_rows
    waiting = sum(pc.sum(pc.equal(rows["action"], "review")).as_py() or 0 for rows in (data, excluded))
    changed = pc.sum(pc.equal(data["action"], "relabel")).as_py() or 0
    parts = {
        "share_excluded": (excluded.num_rows - n_erased, n_in),
        "share_waiting_for_review": (waiting, n_in),
        "share_relabeled": (changed, data.num_rows),
    }
    own = [build_statistics("release", [_share(name, *part) for name, part in parts.items()])]
    if not pc.any(pc.and_(pc.equal(given["check"], "ingest"), pc.equal(given["name"], "share_out"))).as_py():
        own.append(build_statistics("ingest", [_share("share_out", n_out, n_outcomes)]))
    return own


def _share(name: str, n_part: int, n_whole: int) -> dict[str, Any]:
    if n_whole == 0:
        return {"name": name, "n": 0, "outcome": "insufficient data"}
    return {"name": name, "value": n_part / n_whole, "n": n_whole, "detail": {"n_part": n_part}}
