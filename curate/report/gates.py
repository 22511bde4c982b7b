"""What the gates say: the section Gates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curate.manifest.read import LoadedRelease
from curate.report.wording import quantity, sentence


def gates(release: LoadedRelease) -> dict[str, Any]:
    """Return the gates that say something, and how many checks and suites merely ran and passed."""
    shown, quiet = [], []
    for row in release.evidence["gates"]["rows"]:
        check, _, name = row["statistic"].partition(".")
        is_routine = name == "ran" or check == "expectations"
        if is_routine and row["outcome"] == "pass":
            quiet.append(
                row["statistic"].removesuffix(".ran").replace("_", " ").replace("expectations.", "suite: ")
            )
        else:
            shown.append(_gate(row))
    return {"gate_rows": shown, "gates_quiet": quiet}


def _gate(row: Mapping[str, Any]) -> dict[str, Any]:
    name = row["statistic"]
    bounds = [f"at least {quantity(name, row['min'])}"] if row["min"] is not None else []
    bounds += [f"at most {quantity(name, row['max'])}"] if row["max"] is not None else []
    is_known = row["outcome"] not in {"insufficient data", "errored"}
    return {
        **row,
        "value": quantity(name, row["value"] if is_known else None),
        "bound": " and ".join(bounds),
        "message": sentence(row["reason_code"], row["reason_args"], {}) if row["reason_code"] else "",
    }
