"""How good flags are, where a truth is known: for planted errors, references and benchmarks; never for a check."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from curate.errors import InputError
from curate.statistics.intervals import wilson
from curate.teachers.noise import Bools, Floats

N_RESAMPLES = 200


@dataclass(frozen=True, slots=True)
class Measured:
    """A measure with its 95 % bootstrap interval; None where it is not defined (nothing flagged, nothing wrong)."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is known of the flags.

    Attributes:
        n: rows that were judged and have a known truth.
        n_wrong: of these, labels that are wrong.
        n_flagged: of these, labels that are flagged.
        precision: share of the flagged that are wrong.
        recall: share of the wrong that are flagged.
        f1: 2·wrong and flagged / (wrong + flagged).
        average_precision: of the ranking by risk; chance is n_wrong / n.
    """

    n: int
    n_wrong: int
    n_flagged: int
    precision: Measured
    recall: Measured
    f1: Measured
    average_precision: Measured

    def to_json(self) -> dict[str, Any]:
        """Return nested JSON values."""
        return asdict(self)


def evaluate(
    risk: Floats, flagged: Bools, wrong: Bools, *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Evaluation:
    """Measure flags against a known truth.

    Args:
        risk: (N,) 1 = worst; NaN = not judged, left out. Equal risks count as one group, in no order.
        flagged: (N,).
        wrong: (N,) whether the given label is wrong.
        n_resamples: of the bootstrap over rows; 0 = no intervals.
        seed: of the bootstrap.

    Raises:
        InputError: lengths that differ.
    """
    risk, flagged, wrong = np.asarray(risk, float), np.asarray(flagged, bool), np.asarray(wrong, bool)
    if not len(risk) == len(flagged) == len(wrong):
        raise InputError(
            "Evaluating flags needs risk, flagged and wrong of the same rows; "
            f"there are {len(risk)}, {len(flagged)} and {len(wrong)}."
        )
    judged = np.isfinite(risk)
    _, levels = np.unique(risk[judged], return_inverse=True)
    flagged, wrong = flagged[judged], wrong[judged]
    order = np.argsort(-levels, kind="stable")
    levels, flagged, wrong = levels[order], flagged[order], wrong[order]
    ones = np.ones(len(levels))
    whole = _measures(ones, levels, flagged, wrong)
    random = np.random.default_rng(seed)
    drawn = np.array(
        [
            _measures(random.multinomial(len(ones), ones / len(ones)).astype(float), levels, flagged, wrong)
            for _ in range(n_resamples if len(ones) else 0)
        ]
    ).reshape(-1, 4)
    measured = [_measured(value, drawn[:, place]) for place, value in enumerate(whole)]
    n_hits = int((flagged & wrong).sum())
    # of a share the bootstrap says nothing where all or none are hits: 24 of 24 would be "100 % to 100 %"
    for place, n in enumerate((int(flagged.sum()), int(wrong.sum()))):
        if n and n_resamples:
            measured[place] = Measured(n_hits / n, *wilson(n_hits, n))
    return Evaluation(len(levels), int(wrong.sum()), int(flagged.sum()), *measured)


def _measured(value: float, drawn: Floats) -> Measured:
    known = drawn[np.isfinite(drawn)]
    if not np.isfinite(value):
        return Measured(None, None, None)
    if not len(known):
        return Measured(float(value), None, None)
    low, high = np.quantile(known, [0.025, 0.975])
    return Measured(float(value), float(low), float(high))


def _measures(weight: Floats, levels: np.ndarray, flagged: Bools, wrong: Bools) -> tuple[float, ...]:
    """Return precision, recall, F1 and AP of weighted rows that are sorted by falling risk level."""
    hit = float(weight[flagged & wrong].sum())
    n_flagged, n_wrong = float(weight[flagged].sum()), float(weight[wrong].sum())
    precision = hit / n_flagged if n_flagged else np.nan
    recall = hit / n_wrong if n_wrong else np.nan
    f1 = 2 * hit / (n_flagged + n_wrong) if n_flagged + n_wrong else np.nan
    if not n_wrong:
        return precision, recall, f1, np.nan
    last = np.append(levels[1:] != levels[:-1], True)
    hits, seen = np.cumsum(weight * wrong)[last], np.cumsum(weight)[last]
    gained = np.diff(hits, prepend=0.0) / n_wrong
    return precision, recall, f1, float((gained * hits / np.maximum(seen, 1e-300)).sum())
