"""What is said of images, their copies, boxes, masks and tracks, from the statistics of the checks on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.compute as pc

from curate.manifest.read import LoadedRelease
from curate.report.wording import interval, percent


def image_shares(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the issues of images that occur, most frequent first."""
    shares = [
        {
            "issue": row["name"].removeprefix("share_").replace("_", " "),
            "share": percent(row["value"]),
            "interval": interval(row["low"], row["high"]),
            "n": row["n"],
            "n_found": row["detail"].get("n_flagged"),
            "value": row["value"],
        }
        for row in rows
        if row["check"] == "image_quality" and row["name"].startswith("share_") and row["group"] is None
        if row["value"]
    ]
    return sorted(shares, key=lambda row: (-row["value"], row["issue"]))


def image_issues_absent(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the issues of images that were looked for and not found."""
    return [
        row["name"].removeprefix("share_").replace("_", " ")
        for row in rows
        if row["check"] == "image_quality" and row["name"].startswith("share_") and row["value"] == 0
    ]


def image_issues(release: LoadedRelease) -> list[str]:
    """Return the issues of the image_quality check that flagged something."""
    found = release.findings.filter(pc.equal(release.findings["check"], "image_quality"))
    found = found.filter(pc.fill_null(found["flagged"], False))  # noqa: FBT003 - pyarrow's fill value
    return sorted(set(found["issue"].to_pylist()))


def copies(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the shares of copies and of leaks by their route, each with its interval."""
    wanted = (
        ("duplicates", "share_exact", None, "a copy of another, byte for byte or pixel for pixel"),
        ("duplicates", "share_near", None, "close to another picture"),
        ("leakage", "share_of_samples", "route=exact", "a copy in another split"),
        ("leakage", "share_of_samples", "route=near", "a near copy in another split"),
        ("leakage", "share_of_samples", "route=group", "a member of its group in another split"),
        ("leakage", "share_of_samples", None, "any of these leaks"),
    )
    told = []
    for check, name, group, meaning in wanted:
        key = (check, name, group)
        row = next((r for r in rows if (r["check"], r["name"], r["group"]) == key), None)
        if row is not None and row["value"] is not None:
            spread = interval(row["low"], row["high"])
            told.append({"meaning": meaning, "share": percent(row["value"]), "interval": spread, "n": row["n"]})
    return told


def leaking_splits(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return which splits share how many pairs of pictures."""
    told = []
    for name, what in (("n_exact_pairs", "copied"), ("n_near_pairs", "nearly copied")):
        for row in rows:
            if (row["check"], row["name"]) == ("leakage", name) and row["value"]:
                pair = (row["group"] or "").removeprefix("splits=").replace("|", " and ")
                told.append(f"{row['value']:,.0f} {what} between {pair}")
    return told


def flawed_shares(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the share of boxes, masks and tracked boxes with each issue that occurs."""
    told = []
    for check, what in (
        ("box_sanity", "boxes"),
        ("mask_sanity", "masks"),
        ("track_sanity", "tracked boxes"),
        ("track_noise", "tracked boxes, by teachers"),
        ("mask_noise", "masks, by teachers"),
    ):
        for row in rows:
            if (row["check"], row["name"]) == (check, "share_with_finding") and row["group"] and row["value"]:
                issue = row["group"].removeprefix("issue=").replace("_", " ")
                spread = interval(row["low"], row["high"])
                told.append(
                    {"what": f"{what}: {issue}", "share": percent(row["value"]), "interval": spread, "n": row["n"]}
                )
    return told
