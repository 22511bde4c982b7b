"""Answers about the drawn labels → statements about all of them, each weighted by the design, with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from curate.audit.answers import Answer
from curate.audit.design import Design
from curate.statistics.exact import Cell, joint_bounds

METHOD = (
    "Horvitz-Thompson estimate over a stratified simple random sample; exact hypergeometric limits (Clopper and "
    "Pearson 1934) of all strata at the same time (Sidak 1967)"
)
MAX_CALIBRATION_ERROR = 0.1  # a risk is called a probability where it is off by less than this, in the mean


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share with its interval; all None where nothing can be said.

    Attributes:
        value: over the labels that could be decided.
        low: with every "can't tell" counted as it lowers the share most.
        high: with every "can't tell" counted as it raises the share most.
        n: looks that it stands on.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


NOTHING = Estimate(None, None, None, 0)


@dataclass(frozen=True, slots=True)
class Estimates:
    """What an audit says of flags.

    Attributes:
        precision: of the flagged labels, the share that is wrong.
        recall: of the wrong labels, the share that is flagged.
        f1: the harmonic mean of both.
        noise_rate: of all labels, the share that is wrong.
        calibration_error: mean distance between risk and share of wrong labels, flagged and all; the larger one.
        unsure: looks that were answered "can't tell".
    """

    precision: Estimate
    recall: Estimate
    f1: Estimate
    noise_rate: Estimate
    calibration_error: Estimate
    unsure: int

    @property
    def risk_kind(self) -> str:
        """What a risk is: "probability" where the audit proves it close to the share of wrong labels, else "rank"."""
        high = self.calibration_error.high
        return "probability" if high is not None and high <= MAX_CALIBRATION_ERROR else "rank"

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "risk_kind": self.risk_kind, "method": METHOD}


@dataclass(frozen=True, slots=True)
class Counted:
    """A cell and the side of the flags on which it lies."""

    cell: Cell
    flagged: bool


def cells_of(
    design: Design,
    answers: Mapping[int, Answer],
    flagged: Mapping[str, bool],
    sizes: Mapping[tuple[int, bool], int],
) -> list[Counted]:
    """Return the strata cut by the flags: each band's flagged labels and its others.

    The flags may be other ones than those that the audit was drawn by: of the drawn labels of a band, those that are
    flagged are a simple random sample of all that are flagged in it.

    Args:
        design: of the audit.
        answers: item → answer; every item has one.
        flagged: label id → whether it is flagged now, for the drawn labels.
        sizes: (band, flagged) → how many labels there are.
    """
    found = []
    for (band, side), n_all in sorted(sizes.items()):
        if not n_all:
            continue
        said = [
            answers[item.item].verdict
            for item in design.items
            if item.band == band and flagged[item.label_id] == side
        ]
        cell = Cell(n_all, len(said), said.count("wrong"), said.count("can't tell"))
        found.append(Counted(cell, side))
    return found


def estimate(counted: Sequence[Counted], *, alpha: float) -> dict[str, Estimate]:
    """Return precision, recall, F1 and noise rate from the counts by stratum.

    A stratum of which nothing was drawn counts with what is possible, 0 to all of it.
    """
    flags = [one.cell for one in counted if one.flagged]
    others = [one.cell for one in counted if not one.flagged]
    n_flagged, n_all = _n_all(flags), _n_all([*flags, *others])
    hits, missed = _total(flags), _total(others)
    bounds = joint_bounds([*flags, *others], alpha=alpha)
    hit = _span(bounds[: len(flags)])
    miss = _span(bounds[len(flags) :])
    n_looks = sum(cell.n_drawn for cell in [*flags, *others])
    found = dict.fromkeys(("precision", "recall", "f1", "noise_rate"), NOTHING)
    if n_all and n_looks:
        found["noise_rate"] = _estimate(
            (hits + missed) / n_all, (hit[0] + miss[0]) / n_all, (hit[1] + miss[1]) / n_all, n_looks
        )
    n_flagged_looks = sum(cell.n_drawn for cell in flags)
    if n_flagged_looks:
        alone = _span(joint_bounds(flags, alpha=alpha))  # nothing else counts, so all of the error is theirs
        found["precision"] = _estimate(
            hits / n_flagged, alone[0] / n_flagged, alone[1] / n_flagged, n_flagged_looks
        )
    if hits + missed > 0:
        # both rise with what the flags hit and fall with what they missed: their ends are corners of the box
        corners = [(hits, missed), (float(hit[0]), float(miss[1])), (float(hit[1]), float(miss[0]))]
        value, low, high = (_ratio(h, h + m) for h, m in corners)
        found["recall"] = _estimate(value, low, high, n_looks)
        value, low, high = (_ratio(2 * h, n_flagged + h + m) for h, m in corners)
        found["f1"] = _estimate(value, low, high, n_looks)
    return found


def _n_all(cells: Sequence[Cell]) -> int:
    return sum(cell.n_all for cell in cells)


def _total(cells: Sequence[Cell]) -> float:
    """Return the estimated number of wrong labels: each one found stands for 1 / its inclusion probability."""
    return sum(cell.share * cell.n_all for cell in cells)


def _span(bounds: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return sum(low for low, _ in bounds), sum(high for _, high in bounds)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _estimate(value: float, low: float, high: float, n: int) -> Estimate:
    """Return the estimate; a value of decided labels alone may lie outside where many are undecided."""
    return Estimate(value, min(low, value), max(high, value), n)


def calibration(design: Design, answers: Mapping[int, Answer]) -> Estimate:
    """Return how far the risk is from a probability: the mean distance to the share of wrong labels, by stratum.

    The interval's upper end holds for all strata at the same time (Sidak). Risk is averaged over the drawn labels.
    The larger of two means counts: over the flagged labels, and over all.
    """
    cells = []
    for number, band in enumerate(design.bands):
        said = [answers[item.item].verdict for item in design.items if item.band == number]
        cells.append(Cell(band.n_all, len(said), said.count("wrong"), said.count("can't tell")))
    bounds = joint_bounds(cells, alpha=design.alpha)
    gaps = []
    for number, (band, cell, (low, high)) in enumerate(zip(design.bands, cells, bounds, strict=True)):
        risks = [item.risk for item in design.items if item.band == number]
        risk = sum(risks) / len(risks) if risks else 0.5
        most = max(abs(risk - low / band.n_all), abs(high / band.n_all - risk))
        gaps.append((band, abs(risk - cell.share), most))
    means = [_weighted(gaps), _weighted([gap for gap in gaps if gap[0].flagged])]
    known = [mean for mean in means if mean is not None]
    if not known:
        return NOTHING
    worst = max(known, key=lambda mean: mean[1])
    return Estimate(worst[0], 0.0, worst[1], len(design.items))


def _weighted(gaps: Sequence[tuple[Any, float, float]]) -> tuple[float, float] | None:
    n_all = sum(band.n_all for band, _, _ in gaps)
    if not n_all:
        return None
    return (
        sum(band.n_all * gap for band, gap, _ in gaps) / n_all,
        sum(band.n_all * most for band, _, most in gaps) / n_all,
    )


def estimates(
    design: Design,
    answers: Mapping[int, Answer],
    flagged: Mapping[str, bool] | None = None,
    sizes: Mapping[tuple[int, bool], int] | None = None,
) -> Estimates:
    """Return everything that a complete audit says of the flags that it was drawn by, or of other ones.

    Args:
        design: of the audit.
        answers: item → answer; every item has one.
        flagged: see `cells_of`; None = the flags of the design.
        sizes: see `cells_of`; None = the bands of the design.
    """
    known = flagged if flagged is not None else {item.label_id: item.flagged for item in design.items}
    of_bands = {(number, band.flagged): band.n_all for number, band in enumerate(design.bands)}
    found = estimate(cells_of(design, answers, known, sizes or of_bands), alpha=design.alpha)
    n_unsure = sum(answer.verdict == "can't tell" for answer in answers.values())
    return Estimates(**found, calibration_error=calibration(design, answers), unsure=n_unsure)
