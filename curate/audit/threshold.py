"""From which risk on to flag: certified for a target precision, and placed where F1 is best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from curate.audit.answers import Answer
from curate.audit.design import Candidate, Design
from curate.statistics.exact import Cell, lower_count

MIN_WRONG = 5  # fewer wrong labels among the looks place no threshold
_N_KNOTS = 4_000
_RIDGE = 0.1  # of the logistic curve: keeps it finite where the looks are separated perfectly


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is certified about precision.

    Attributes:
        target: precision that was asked for.
        risk: from this risk on, at least `target` of the labels are wrong; None = not certified.
        n_above: how many labels that are.
        bound: the exact lower bound of their precision.
        n_tested: thresholds that were tested, in their fixed order, up to the first that failed.
        reach: the highest precision that the looks at the flagged labels could certify at all, all of them wrong.
        why: a sentence.
        named_before: whether the target stood in the design, before anyone looked.
    """

    target: float
    risk: float | None
    n_above: int
    bound: float | None
    n_tested: int
    reach: float
    why: str
    named_before: bool

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Placed:
    """The threshold with the best estimated F1: an estimate, not a certificate."""

    risk: float
    n_above: int
    f1: float

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def certify(design: Design, answers: Mapping[int, Answer], target: float) -> Certificate:
    """Return the lowest threshold whose precision is at least `target`, with error at most the design's alpha.

    Thresholds are tested from strict to lenient in an order that was fixed before anyone looked; the first failure
    ends it, so the error of all tests together is that of one. The first one tested is the strictest whose drawn
    labels would still pass with one of them right (with none, where there are too few for that): stricter ones
    could not pass. Each test is exact. "Can't tell" counts as right, so that doubt certifies nothing.

    Source: fixed-sequence testing, Maurer, Hothorn and Lehmacher (1995); used like this for thresholds by
    Angelopoulos et al., "Learn then Test" (2021).
    """
    order = _testable(design, target)
    reach = _reach(design)
    passed: tuple[Candidate, float] | None = None
    n_tested = 0
    for candidate in order:
        bound = _bound(_cells_above(design, answers, candidate), design.alpha)
        n_tested += 1
        if bound < target:
            break
        passed = (candidate, bound)
    named = design.target_precision == target
    if passed is None:
        return Certificate(target, None, 0, None, n_tested, reach, _why_not(order, reach, target), named)
    candidate, bound = passed
    why = (
        f"with {1 - design.alpha:.0%} confidence at least {bound:.1%} of the {candidate.n_above:,} labels are wrong"
    )
    return Certificate(target, candidate.risk, candidate.n_above, bound, n_tested, reach, why, named)


def _why_not(order: Sequence[Candidate], reach: float, target: float) -> str:
    if order:
        return (
            f"not certified: too many labels of the strictest threshold that could be tested turned out right "
            f"to be sure of {target:.1%}"
        )
    return (
        f"not certified: {target:.1%} is beyond this audit. All flagged labels that were looked at would have to be "
        f"wrong, and even that proves {reach:.1%} at most. A larger --budget reaches further"
    )


def _reach(design: Design) -> float:
    cells = [Cell(band.n_all, band.n_drawn, band.n_drawn) for band in design.bands if band.flagged and band.n_drawn]
    return _bound(cells, design.alpha) if cells else 0.0


def _testable(design: Design, target: float) -> list[Candidate]:
    """Return the candidates from the first on that can pass with one drawn label right, else with none."""
    for n_right in (1, 0):
        for position, candidate in enumerate(design.candidates):
            drawn = [Cell(cell.n_all, cell.n_drawn, cell.n_drawn) for cell in _cells_above(design, {}, candidate)]
            most = max(range(len(drawn)), key=lambda at: drawn[at].n_drawn)
            drawn[most] = replace(drawn[most], n_wrong=max(0, drawn[most].n_drawn - n_right))
            if _bound(drawn, design.alpha) >= target:
                return list(design.candidates[position:])
    return []


def _cells_above(design: Design, answers: Mapping[int, Answer], candidate: Candidate) -> list[Cell]:
    """Return what was drawn and found wrong at and above a threshold, by band that has labels there."""
    above = [item for item in design.items if item.risk >= candidate.risk]
    drawn = Counter(item.band for item in above)
    wrong = Counter(item.band for item in above if item.item in answers and answers[item.item].verdict == "wrong")
    return [Cell(n_all, drawn[band], wrong[band]) for band, n_all in enumerate(candidate.by_band) if n_all]


def _bound(cells: Sequence[Cell], alpha: float) -> float:
    """Return the exact lower bound of the share of wrong labels; bands share the error out (Sidak)."""
    each = 1.0 - (1.0 - alpha) ** (1.0 / len(cells))
    return sum(lower_count(cell, each) for cell in cells) / sum(cell.n_all for cell in cells)


def place(design: Design, answers: Mapping[int, Answer]) -> Placed | None:
    """Return the threshold whose estimated F1 is best, or None where the looks found too few wrong or right labels.

    The share of wrong labels by rank is the mean of two curves through the answers: the falling step function that
    fits best with the design's weights (isotonic regression), which bends with the data, and a logistic curve in the
    logarithm of the rank, which does not follow chance. F1 at each candidate follows from the curve.
    """
    decided = [item for item in design.items if answers[item.item].verdict != "can't tell"]
    wrong = np.array([answers[item.item].verdict == "wrong" for item in decided], dtype=float)
    if min(wrong.sum(), (1 - wrong).sum()) < MIN_WRONG:
        return None
    ranks = np.array([item.rank for item in decided], dtype=float)
    weights = np.array([1.0 / item.inclusion_probability for item in decided])
    knots = _knots(design)
    curve = (_falling(ranks, wrong, weights, knots) + _logistic(ranks, wrong, knots, max(design.n_flagged, 1))) / 2
    spans = np.diff(knots, prepend=0.0)
    found = np.cumsum(curve * spans)
    counts = np.array([candidate.n_above for candidate in design.candidates], dtype=float)
    f1 = 2 * np.interp(counts, knots, found) / (counts + found[-1])
    best = int(f1.argmax())
    chosen = design.candidates[best]
    return Placed(chosen.risk, chosen.n_above, float(f1[best]))


def _knots(design: Design) -> np.ndarray:
    n = design.n_population
    return np.unique(
        np.round(np.concatenate([np.geomspace(1, n, _N_KNOTS // 2), np.linspace(1, n, _N_KNOTS // 2)]))
    )


def _falling(ranks: np.ndarray, wrong: np.ndarray, weights: np.ndarray, knots: np.ndarray) -> np.ndarray:
    from sklearn.isotonic import IsotonicRegression  # noqa: PLC0415 - scikit-learn takes a second to import

    model = IsotonicRegression(increasing=False, y_min=0.0, y_max=1.0, out_of_bounds="clip")
    fitted: np.ndarray = model.fit(ranks, wrong, sample_weight=weights).predict(knots)
    return fitted


def _logistic(ranks: np.ndarray, wrong: np.ndarray, knots: np.ndarray, n_flagged: int) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - as above

    def features(rank: np.ndarray) -> np.ndarray:
        distance = np.log(rank / n_flagged)
        return np.column_stack([distance, np.clip(distance, -0.5, 0.5)])

    model = LogisticRegression(C=1 / _RIDGE, max_iter=500).fit(features(ranks), wrong)
    fitted: np.ndarray = model.predict_proba(features(knots))[:, 1]
    return fitted
