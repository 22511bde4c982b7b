"""What the report says of images with several labels: what was left out and what is wrongly there, by class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from curate.manifest.read import LoadedRelease
from curate.report import galleries
from curate.report.content import one
from curate.report.pictures import ReadImages
from curate.report.wording import interval, percent

CHECK = "multi_label_noise"
N_CLASSES = 40


def values(
    release: LoadedRelease, rows: Sequence[Mapping[str, Any]], read: ReadImages, names: Mapping[str, str]
) -> dict[str, Any] | None:
    """Return the numbers and pictures of the section; None where no image has several labels."""
    rate = one(rows, CHECK, "noise_rate")
    if rate is None:
        return None
    mine = {(row["name"], row["group"]): row for row in rows if row["check"] == CHECK}
    flagged = Counter(
        row["issue"] for row in release.findings.select(["issue", "check"]).to_pylist() if row["check"] == CHECK
    )
    classes = [_class(mine, group.removeprefix("class=")) for name, group in mine if name == "share_left_out"]
    return {
        "rate": percent(rate["value"]) if rate["value"] is not None else "",
        "n": rate["n"],
        "why": rate["detail"].get("why", ""),
        "not_judged": rate["detail"].get("not_judged", []),
        "n_missing": flagged["missing_label"],
        "n_extra": flagged["extra_label"],
        "classes": sorted(classes, key=lambda row: (-row["order"], row["name"]))[:N_CLASSES],
        "missing": galleries.gallery(release, read, names, ["missing_label"], n=12),
        "extra": galleries.gallery(release, read, names, ["extra_label"], n=12),
    }


def _class(mine: Mapping[tuple[str, str | None], Mapping[str, Any]], name: str) -> dict[str, Any]:
    group = f"class={name}"
    left_out, extra = mine["share_left_out", group], mine.get(("share_extra", group))
    rate = mine.get(("noise_rate", group))
    return {
        "name": name,
        "order": rate["value"] if rate else 0.0,
        "rate": percent(rate["value"]) if rate else "",
        "rate_interval": interval(rate["low"], rate["high"]) if rate else "",
        "n_with": extra["n"] if extra else 0,
        "extra": percent(extra["value"]) if extra else "",
        "n_without": left_out["n"],
        "left_out": percent(left_out["value"]),
    }
