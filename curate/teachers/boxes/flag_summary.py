"""What `curate flag --task detection` says of a file, for people and machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.teachers.boxes.judge import ISSUES, MISSING
from curate.teachers.boxes.model import AT_LIMIT


@dataclass(frozen=True, slots=True)
class BoxFlagSummary:
    """What `curate flag --task detection` prints.

    Attributes:
        n_images: of the labels.
        n_boxes: given boxes, all of them in the output.
        n_unjudged: given boxes that could not be judged.
        n_flagged: by issue.
        n_rows: by issue, those with any risk.
        n_images_flagged: images with a flag.
        rates: estimated share of each issue among the given boxes (missing: among all things); None where it is not
            known, empty if not fitted, or on too few boxes.
        rate_bounds: of each known rate what is sure; 0 or 1 = this end is not known.
        regime: "fitted" | "plain".
        why: a sentence.
        teachers: kept or left out, why, weight.
        notes: what of the files was left out.
        classes: sorted.
        out: the table that was written.
        warnings: teachers that do not seem to be about these images or classes, see `agreement.Doubt`.
    """

    n_images: int
    n_boxes: int
    n_unjudged: int
    n_flagged: Mapping[str, int]
    n_rows: Mapping[str, int]
    n_images_flagged: int
    rates: Mapping[str, float | None]
    rate_bounds: Mapping[str, tuple[float, float]]
    regime: str
    why: str
    teachers: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]
    classes: tuple[str, ...]
    out: Path
    warnings: tuple[Mapping[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, for `--json`."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return {
            **plain,
            "task": "detection",
            "risk_kind": "rank",
            "n_flagged": dict(self.n_flagged),
            "n_rows": dict(self.n_rows),
            "rates": dict(self.rates),
            "rate_bounds": {issue: list(ends) for issue, ends in self.rate_bounds.items()},
            "teachers": [dict(one) for one in self.teachers],
            "notes": list(self.notes),
            "classes": list(self.classes),
            "out": str(self.out),
            "warnings": [dict(one) for one in self.warnings],
        }

    def lines(self) -> list[str]:
        """Return it for people."""
        told = [f"{self.n_boxes:,} boxes on {self.n_images:,} images; {self.n_images_flagged:,} images have a flag"]
        told += [
            f"  {issue:<10} {self.n_flagged[issue]:>7,} flagged{self._rate_of(issue)}"
            for issue in (MISSING, *ISSUES)
        ]
        told.append(f"  {self.regime}: {self.why}")
        if self.n_unjudged:
            told.append(f"  {self.n_unjudged:,} boxes could not be judged; the reason stands in each")
        for one in self.teachers:
            state = f"weight {one['weight']:.2f}" if one["kept"] else "LEFT OUT"
            told.append(f"  {one['name']}: {state}; {one['why']}")
        told += [f"WARNING: {one['message']}" for one in self.warnings]
        return [*told, *(f"  note: {note}" for note in self.notes), f"→ {self.out}"]

    def _rate_of(self, issue: str) -> str:
        if issue not in self.rates:
            return ""
        rate = self.rates[issue]
        if rate is None:
            return f"; rate not known: {AT_LIMIT}"
        return f"; rate about {rate:.1%}" + (" or more" if issue == MISSING else "")
