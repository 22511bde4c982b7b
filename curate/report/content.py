"""Statistics of a released version as the page looks them up, and counts of its rows and findings."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.manifest.read import LoadedRelease
from curate.report.wording import interval

N_BARS = 40


def counted(column: pa.ChunkedArray) -> Counter[str]:
    """Return how often each value stands in a column, in the order in which they come."""
    return Counter({item["values"]: item["counts"] for item in pc.value_counts(column).to_pylist()})


def statistics(release: LoadedRelease) -> list[dict[str, Any]]:
    """Return every statistic of the release, with its detail parsed."""
    rows = release.evidence.get("statistics") or []
    return [{**row, "detail": json.loads(row["detail"]) if row.get("detail") else {}} for row in rows]


def one(rows: Sequence[Mapping[str, Any]], check: str, name: str) -> Mapping[str, Any] | None:
    """Return the statistic of the whole called check.name, or None."""
    found = (row for row in rows if (row["check"], row["name"]) == (check, name) and row["group"] is None)
    return next(found, None)


def by_group(rows: Sequence[Mapping[str, Any]], check: str, name: str, prefix: str) -> list[dict[str, Any]]:
    """Return bars of a statistic by group, largest first: groups that start with `prefix` and hold no other key."""
    chosen = [
        {
            "label": row["group"].removeprefix(prefix),
            "value": row["value"],
            "low": row["low"],
            "high": row["high"],
            "note": interval(row["low"], row["high"]) or (f"of {row['n']:,}" if row["n"] is not None else ""),
        }
        for row in rows
        if (row["check"], row["name"]) == (check, name) and (row["group"] or "").startswith(prefix)
    ]
    ordered = sorted(chosen, key=lambda bar: (-(bar["value"] or 0.0), bar["label"]))
    return ordered[:N_BARS]


def class_counts(release: LoadedRelease) -> list[dict[str, Any]]:
    """Return how many rows of each class are released, in the order of the classes; an empty one is a bar of 0."""
    found = counted(release.data["released_label"])
    return [{"label": name, "value": found.get(name, 0)} for name in release.manifest["classes"]]


def split_counts(release: LoadedRelease) -> list[dict[str, Any]]:
    """Return how many rows of each split are released."""
    found = counted(release.data["split"])
    return [{"label": name or "none", "value": count} for name, count in sorted(found.items(), key=str)]


def issue_counts(release: LoadedRelease) -> list[dict[str, Any]]:
    """Return how many findings there are of each issue, flagged ones apart."""
    told = counted(release.findings["issue"])
    flagged = release.findings.filter(pc.fill_null(release.findings["flagged"], False))  # noqa: FBT003 - fill value
    cut = counted(flagged["issue"])
    return [{"issue": issue, "n": n, "n_flagged": cut.get(issue, 0)} for issue, n in told.most_common()]
