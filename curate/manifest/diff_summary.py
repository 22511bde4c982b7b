"""What a diff counts: rows by change, the most frequent label changes, and which tables beside `data/` differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.manifest.diff_beside import Beside
from curate.manifest.diff_rows import CHANGES
from curate.manifest.diff_side import Side
from curate.manifest.inputs import inputs_changed

_N_PAIRS = 50


def summary_of(
    old: Side, new: Side, rows: pa.Table, compared: Mapping[str, Beside | None], soft_from: float
) -> dict[str, Any]:
    """Return the summary of a diff (`diff.Diff.summary`): plain values.

    Args:
        old: the earlier version.
        new: the later one.
        rows: `DIFF`.
        compared: change -> what was compared beside the rows; None where a version has no such table.
        soft_from: distance from which a soft label is told.
    """
    counted = {item["values"]: item["counts"] for item in pc.value_counts(rows["change"]).to_pylist()}
    relabeled = rows.filter(pc.equal(rows["change"], "relabeled")).select(["before", "after"])
    pairs = relabeled.group_by(["before", "after"], use_threads=False).aggregate([([], "count_all")]).to_pylist()
    pairs.sort(key=lambda pair: (-pair["count_all"], pair["before"] or "", pair["after"] or ""))
    return {
        "before": old.id,
        "after": new.id,
        "n_rows_before": old.manifest["tables"]["data"]["rows"],
        "n_rows_after": new.manifest["tables"]["data"]["rows"],
        "beside": {kind: told for kind in _BESIDE if (told := _beside(old.manifest, new.manifest, kind))},
        "soft": {
            "told_from": soft_from,
            **{
                change: {"n_compared": found.n_compared, "n_differ": found.n_differ}
                for change, found in compared.items()
                if found
            },
        },
        "changes": {change: counted.get(change, 0) for change in CHANGES},
        "inputs_changed": inputs_changed(old.manifest["inputs"], new.manifest["inputs"]),
        "relabeled": [{"from": p["before"], "to": p["after"], "n": p["count_all"]} for p in pairs[:_N_PAIRS]],
    }


def _beside(old: Mapping[str, Any], new: Mapping[str, Any], kind: str) -> dict[str, int] | None:
    """Return how many rows a table had and has; None where both versions hold the same bytes of it."""
    parts = [
        sorted(entry["sha256"] for entry in manifest["files"] if entry["path"].startswith(f"{kind}/"))
        for manifest in (old, new)
    ]
    if parts[0] == parts[1]:
        return None
    was, now = (int(manifest["tables"].get(kind, {}).get("rows", 0)) for manifest in (old, new))
    return {"n_rows_before": was, "n_rows_after": now}


# of which it is said too whether they differ at all
_BESIDE = ("excluded", "ignore", "soft", "soft_boxes", "soft_masks")
