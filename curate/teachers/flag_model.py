"""What is fitted to teachers and given labels, and what scoring a row returns: values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from curate.teachers.column_order import Moved
from curate.teachers.noise import Bools, Floats, Ints, NoiseRate

MIN_ROWS = 20
RISK_KIND = "rank"


@dataclass(frozen=True, slots=True)
class TeacherWeight:
    """What became of one teacher: kept or left out, why, and its share of the pool (weights sum to one)."""

    name: str
    kept: bool
    why: str
    weight: float
    memorised_share: float | None
    agreement: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {
            "name": self.name,
            "kept": self.kept,
            "why": self.why,
            "weight": self.weight,
            "memorised_share": self.memorised_share,
            "agreement": self.agreement,
        }


@dataclass(frozen=True, slots=True)
class FlagModel:
    """Everything that scoring a row needs; small, whatever the number of rows.

    Attributes:
        regime: "independent" | "shared" | "insufficient data".
        rule: "channel" | "margin" | "linear" | "none": which score is cut.
        why: a sentence on both.
        names: the teachers that were kept, in the order of `weights`.
        weights: (T,) of the pool that is scored.
        tau: (K,) class means of that pool.
        cut: the score at and above which a label is flagged.
        moved: teachers of which whole classes fit other columns than was assumed.
        offsets: (K,) how far beyond the cut a label of a rare class has to be, see `rare_classes`.
        channel_weights: (T,) of the log pool under `transition`, for the calibrated probabilities.
        transition: (K, K) p(given = column | true = row).
        noise_rate: the estimate that counts.
        estimates: all estimates by name, that one included.
        teachers: every teacher that was given.
        n_fitted: rows that the model stands on.
        n_classes: K.
    """

    regime: str
    rule: str
    why: str
    names: tuple[str, ...]
    weights: Floats
    tau: Floats
    cut: float
    channel_weights: Floats
    transition: Floats
    noise_rate: NoiseRate
    estimates: Mapping[str, NoiseRate]
    teachers: tuple[TeacherWeight, ...]
    n_fitted: int
    n_classes: int
    offsets: Floats = field(default_factory=lambda: np.zeros(0))
    moved: tuple[Moved, ...] = ()

    @property
    def estimates_agree(self) -> bool:
        """Whether the estimates lie within .005 or a quarter of the largest; where not, an audit is called for."""
        known = [e.estimate for e in self.estimates.values() if e.estimate is not None]
        return bool(known) and max(known) - min(known) <= max(0.005, 0.25 * max(known))

    @property
    def risk_kind(self) -> str:
        """Always "rank": without an audit a risk orders rows and is no probability."""
        return RISK_KIND


@dataclass(frozen=True, slots=True)
class Scores:
    """One entry per row; rows that cannot be judged have risk NaN and are not flagged.

    Attributes:
        judged: (N,) whether the row could be judged.
        risk: (N,) in [0, 1], .5 at the cut; a rank, not a probability.
        flagged: (N,) the automatic cut.
        suggested: (N,) class index: the other class where flagged or in doubt, else the given one; -1 unjudged.
        suggested_prob: (N,) calibrated probability of `suggested`; NaN where unjudged.
        n_agree: (N,) kept teachers to whom no class is likelier than `suggested`.
        n_teachers: (N,) kept teachers with an answer.
        suggested_mean: (N,) mean probability over them of `suggested`.
        given_mean: (N,) the same of the given label.
        bad_teacher: (N,) index into the probabilities' names of a teacher with invalid ones; -1 = none.
        outside: (N,) whether the label is none of the classes.
        bad_nan: (N,) whether what is invalid about that teacher's probabilities is that some are NaN.
    """

    judged: Bools
    risk: Floats
    flagged: Bools
    suggested: Ints
    suggested_prob: Floats
    n_agree: Ints
    n_teachers: Ints
    suggested_mean: Floats
    given_mean: Floats
    bad_teacher: Ints
    outside: Bools
    bad_nan: Bools
