"""Teachers against given labels: a model fitted on a bounded sample, then scores row by row.

Two regimes, by what can be known. Teachers whose errors are independent tell how noisy the labels are by how they
agree with each other; there the cut follows that rate. Teachers that share features share their errors, and one
teacher alone has nobody to agree with; there a noise channel is fitted by likelihood, and what it explains is a
lower bound on what is wrong only if the teachers are right where they are sure. Which one, and why, is part of the
result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from curate.errors import InputError
from curate.teachers.column_order import find_moved
from curate.teachers.flag_model import MIN_ROWS, FlagModel, Scores, TeacherWeight
from curate.teachers.independence import feature_groups, independence, same_answers
from curate.teachers.memorised import Guard, find_memorised
from curate.teachers.noise import UNKNOWN, Bools, Floats, Ints, NoiseRate
from curate.teachers.rare_classes import class_offsets, rare_classes, right_shares
from curate.teachers.regimes import Answers, fit_independent, fit_shared
from curate.teachers.sampling import order_keys, smallest
from curate.teachers.scoring import distances, score_flags, usable_rows

MAX_FIT_CELLS = 10_000_000  # rows x teachers x classes held while fitting
MIN_FIT_ROWS = 5_000


@dataclass(frozen=True, slots=True)
class Flags:
    """The model and the scores of all rows, in input order."""

    model: FlagModel
    scores: Scores

    @property
    def risk(self) -> Floats:
        """(N,) in [0, 1]; NaN = not judged."""
        return self.scores.risk

    @property
    def flagged(self) -> Bools:
        """(N,) the automatic cut."""
        return self.scores.flagged

    @property
    def suggested(self) -> Ints:
        """(N,) class index."""
        return self.scores.suggested

    @property
    def suggested_prob(self) -> Floats:
        """(N,) calibrated."""
        return self.scores.suggested_prob

    @property
    def regime(self) -> str:
        """See FlagModel."""
        return self.model.regime

    @property
    def why(self) -> str:
        """See FlagModel."""
        return self.model.why

    @property
    def noise_rate(self) -> NoiseRate:
        """See FlagModel."""
        return self.model.noise_rate

    @property
    def teachers(self) -> tuple[TeacherWeight, ...]:
        """See FlagModel."""
        return self.model.teachers


def flag_labels(
    given: Ints,
    probs: Mapping[str, Floats],
    *,
    ids: Sequence[str] | None = None,
    independent: bool | None = None,
    features: Mapping[str, str | None] | None = None,
) -> Flags:
    """Find given labels that the teachers contradict.

    Args:
        given: (N,) class index of the given label; anything outside 0 … K - 1 is "no usable label".
        probs: teacher -> (N, K) out-of-fold probabilities. A row of NaN only = this teacher has no answer.
        ids: N ids; they choose the sample that is fitted on and its order. None = the row number.
        independent: whether the teachers' errors are independent; None = what `features` says.
        features: teacher -> name of the features that it stands on, from its card. Teachers with the same name
            share errors. Teachers that are not in it, or have None, are taken for independent of all others.

    Raises:
        InputError: no teacher, shapes that differ, or probabilities that are none in every row.
    """
    names = tuple(probs)
    stacked = _checked(given, probs)
    usable, _, _ = usable_rows(given, stacked)
    keys = order_keys(ids, len(given))
    limit = fit_rows(len(names), stacked[0].shape[1])
    rows = smallest(keys, usable, limit)
    sample = np.stack([p[rows] for p in stacked], axis=1)
    model = fit_flags(given[rows], names, sample, independent=independent, features=features)
    return Flags(model, score_flags(model, given, names, stacked))


def fit_rows(n_teachers: int, n_classes: int) -> int:
    """Return how many rows a model is fitted on at most."""
    return max(MIN_FIT_ROWS, MAX_FIT_CELLS // (n_teachers * n_classes))


def _checked(given: Ints, probs: Mapping[str, Floats]) -> list[Floats]:
    if not probs:
        msg = "Flagging needs the probabilities of at least one teacher; there are none."
        raise InputError(msg)
    shapes = {name: np.shape(p) for name, p in probs.items()}
    first = next(iter(shapes.values()))
    for name, shape in shapes.items():
        if len(shape) != 2 or shape[0] != len(given) or shape != first or shape[1] < 1:
            raise InputError(
                f"Every teacher needs probabilities of shape (rows, classes), the same for all, with {len(given)} "
                f"rows as the labels have. The teacher {name!r} has {shape}, the first one {first}."
            )
    return [np.asarray(p) for p in probs.values()]


def fit_flags(
    given: Ints,
    names: Sequence[str],
    probs: Floats,
    *,
    independent: bool | None = None,
    features: Mapping[str, str | None] | None = None,
) -> FlagModel:
    """Fit the model on usable rows.

    Args:
        given: (N,) class indices.
        names: T teachers.
        probs: (N, T, K); a teacher without an answer is a row of NaN.
        independent: see `flag_labels`.
        features: see `flag_labels`.
    """
    n_rows, _, n_classes = probs.shape
    if n_rows < MIN_ROWS or len(np.unique(given)) < 2 or n_classes < 2:
        return _insufficient(names, n_rows, len(np.unique(given)), n_classes)
    # a teacher's answers stand together, and what is computed of them stays that way
    by_teacher = np.ascontiguousarray(probs.transpose(1, 0, 2), dtype=np.float32)
    silent: Bools = np.asarray(np.isnan(by_teacher).all(axis=2))
    by_teacher[silent] = 1.0 / n_classes
    by_teacher /= by_teacher.sum(axis=2, keepdims=True)
    answered: Bools = np.asarray(~silent.T)
    votes = by_teacher.argmax(axis=2).T
    known: Bools = np.stack([(p[~no] > 0).any(axis=0) for p, no in zip(by_teacher, silent, strict=True)])
    same = same_answers(by_teacher, answered)
    first = sorted(set(same))  # to the guard a copy of a teacher would be two that agree against the rest
    own = [names[m] for m in first]
    found = find_memorised(own, votes.T[first], answered.T[first], given, n_classes, known=known[first])
    guards = {name: found[names[of]] for name, of in zip(names, same, strict=True)}
    kept = [m for m, name in enumerate(names) if guards[name].kept and answered[:, m].any()]
    seen = answered[:, kept].any(axis=1)
    used = by_teacher if len(kept) == len(names) and seen.all() else by_teacher[kept][:, seen]
    by_card = feature_groups(names, features, independent=independent)
    groups = tuple(by_card[same[m]] for m in kept)
    n_copies = sum(same[m] != m for m in kept)
    seen_votes = votes[seen][:, kept]
    fitted = Answers(given[seen], used.transpose(1, 0, 2), answered[seen][:, kept], seen_votes, groups)
    unknown = () if independent is not None else [names[m] for m in kept if not (features or {}).get(names[m])]
    told = independent is not None or len(unknown) < len(kept)
    independent, said = independence(groups, len(names), told=told, n_copies=n_copies, unknown=unknown)
    model = fit_independent(fitted, said) if independent else fit_shared(fitted, said)
    model = _sparing_rare_classes(model, fitted)
    agreement = [_agreement(votes[:, m], answered[:, m], given) for m in range(len(names))]
    return replace(
        model,
        names=tuple(names[m] for m in kept),
        moved=find_moved(names, votes, answered, given, n_classes),
        teachers=_teacher_rows(names, guards, agreement, dict(zip(kept, model.weights, strict=True))),
    )


def _sparing_rare_classes(model: FlagModel, fitted: Answers) -> FlagModel:
    n_rare = len(rare_classes(fitted.given, model.n_classes))
    if not n_rare:
        return model
    distance, _ = distances(model, fitted.given, fitted.probs, fitted.answered)
    right = right_shares(model.rule, distance)
    offsets = class_offsets(distance, fitted.given, right, model.n_classes)
    n_spared = int((offsets > 0).sum())
    if not n_spared:
        return model
    why = f"{model.why}; {n_spared} of {n_rare} rare classes are spared where the evidence is not sure"
    return replace(model, offsets=offsets, why=why)


def _insufficient(names: Sequence[str], n_rows: int, n_seen: int, n_classes: int) -> FlagModel:
    why = f"{n_rows} usable rows of {n_seen} classes; at least {MIN_ROWS} rows and two classes are needed"
    nothing = np.zeros(0)
    teachers = tuple(TeacherWeight(name, True, f"not checkable: {why}", 0.0, None, None) for name in names)  # noqa: FBT003
    return FlagModel(
        UNKNOWN.method, "none", why, (), nothing, nothing, 0.0, nothing, nothing, UNKNOWN, {}, teachers,
        n_rows, n_classes,
    )  # fmt: skip


def _agreement(votes: Ints, answered: Bools, given: Ints) -> float | None:
    return float((votes[answered] == given[answered]).mean()) if answered.any() else None


def _teacher_rows(
    names: Sequence[str],
    guards: Mapping[str, Guard],
    agreement: Sequence[float | None],
    weights: Mapping[int, float],
) -> tuple[TeacherWeight, ...]:
    total = sum(weights.values()) or 1.0
    rows = []
    for place, name in enumerate(names):
        guard = guards[name]
        kept = place in weights
        why = guard.why if kept or not guard.kept else "no answer for any row"
        weight = round(float(weights[place] / total), 6) if kept else 0.0
        rows.append(TeacherWeight(name, kept, why, weight, guard.memorised_share, agreement[place]))
    return tuple(rows)
