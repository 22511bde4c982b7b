"""Teachers against given labels: a model fitted on a bounded sample, then scores row by row.

Two regimes, by what can be known. Teachers whose errors are independent tell how noisy the labels are by how they
agree with each other; there the cut follows that rate. Teachers that share features share their errors, and one
teacher alone has nobody to agree with; there a noise channel is fitted by likelihood, and what it explains is a
lower bound on what is wrong. Which one, and why, is part of the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from curate.errors import InputError
from curate.teachers.memorised import Guard, find_memorised
from curate.teachers.mixture import fit_mixture, log_odds_wrong, posterior
from curate.teachers.noise import (
    UNKNOWN,
    Bools,
    Floats,
    Ints,
    NoiseRate,
    confident_transition,
    pairwise_rate,
)
from curate.teachers.pool import (
    class_means,
    confidence_scale,
    fit_linear_weights,
    fit_log_weights,
    linear_pool,
    log_pool,
    log_probs,
)
from curate.teachers.sampling import order_keys, smallest

MIN_ROWS = 20
MAX_FIT_CELLS = 10_000_000  # rows x teachers x classes held while fitting
MIN_FIT_ROWS = 5_000
CHUNK_CELLS = 2_000_000
SUM_TOLERANCE = 0.02  # float16 rounding of a thousand classes stays below
RISK_KIND = "rank"

_WEAK_SHARE = 2 / 3  # of the disagreements at least a third are the teachers' own errors
_CHANNEL_SHARE = 0.75  # of the pairwise rate has to be explained by the channel
_HALFWAY = 0.5
_LINEAR_SCALE = 4.0


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
        n_agree: (N,) kept teachers whose first choice is `suggested`.
        n_teachers: (N,) kept teachers with an answer.
        suggested_mean: (N,) mean probability over them of `suggested`.
        given_mean: (N,) the same of the given label.
        bad_teacher: (N,) index into the probabilities' names of a teacher with invalid ones; -1 = none.
        outside: (N,) whether the label is none of the classes.
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


def usable_rows(given: Ints, probs: Sequence[Floats]) -> tuple[Bools, Bools, Ints]:
    """Say which rows can be judged.

    Args:
        given: (N,).
        probs: T arrays (N, K).

    Returns:
        (N,) usable: the label is a class, no teacher is invalid, one has an answer; (N, T) answered;
        (N,) the first invalid teacher or -1. Invalid: not finite, negative, or a sum off one by over .02.

    Raises:
        InputError: a teacher that is invalid in every row that it answers (logits, perhaps, or percentages).
    """
    answered = np.empty((len(given), len(probs)), dtype=bool)
    bad = np.full(len(given), -1)
    for teacher in range(len(probs) - 1, -1, -1):
        values = probs[teacher]
        absent = np.isnan(values).all(axis=1)
        with np.errstate(invalid="ignore", over="ignore"):
            total = values.sum(axis=1, dtype=np.float64)
            valid = (values.min(axis=1) >= 0) & (np.abs(total - 1.0) <= SUM_TOLERANCE)  # NaN compares false
        answered[:, teacher] = ~absent & valid
        bad[~absent & ~valid] = teacher
    labeled = (given >= 0) & (given < probs[0].shape[1])
    return labeled & (bad < 0) & answered.any(axis=1), answered, bad


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
    answered: Bools = np.asarray(~np.isnan(probs).all(axis=2))
    probs = np.where(answered[:, :, None], probs, 1.0 / n_classes).astype(np.float64)
    probs /= probs.sum(axis=2, keepdims=True)
    votes = probs.argmax(axis=2)
    guards = find_memorised(names, votes.T, answered.T, given, n_classes)
    kept = [m for m, name in enumerate(names) if guards[name].kept and answered[:, m].any()]
    seen = answered[:, kept].any(axis=1)
    groups = feature_groups([names[m] for m in kept], features, independent=independent)
    fitted = _Fit(given[seen], probs[seen][:, kept], answered[seen][:, kept], votes[seen][:, kept], groups)
    independent, said = _independence(groups, len(names), told=independent is not None or features is not None)
    model = _fit_independent(fitted, said) if independent else _fit_shared(fitted, said)
    agreement = [_agreement(votes[:, m], answered[:, m], given) for m in range(len(names))]
    return replace(
        model,
        names=tuple(names[m] for m in kept),
        teachers=_teacher_rows(names, guards, agreement, dict(zip(kept, model.weights, strict=True))),
    )


@dataclass(frozen=True, slots=True)
class _Fit:
    given: Ints  # (N,)
    probs: Floats  # (N, T, K)
    answered: Bools  # (N, T)
    votes: Ints  # (N, T)
    groups: tuple[int, ...]  # T; teachers of one group share errors


def feature_groups(
    names: Sequence[str], features: Mapping[str, str | None] | None, *, independent: bool | None
) -> tuple[int, ...]:
    """Return a group number by teacher: teachers of one group share their errors."""
    if independent is not None:
        return tuple(range(len(names))) if independent else (0,) * len(names)
    shared = [(features or {}).get(name) for name in names]
    return tuple(place if name is None else shared.index(name) for place, name in enumerate(shared))


def _independence(groups: Sequence[int], n_given: int, *, told: bool) -> tuple[bool, str]:
    n_kept, n_groups = len(groups), len(set(groups))
    if n_kept < 2:
        left = "" if n_given < 2 else f" ({n_given - n_kept} of {n_given} were left out)"
        return False, f"one teacher{left}: there is no other one whose errors could be independent of its"
    if n_groups < 2:
        return False, f"{n_kept} teachers that share features by their cards, and with them their errors"
    if not told:
        return True, f"{n_kept} teachers, taken for independent: no card says that they share features"
    if n_groups < n_kept:
        return True, f"{n_kept} teachers on {n_groups} sorts of features, independent from one sort to the other"
    return True, f"{n_kept} teachers that are independent by their cards"


def _fit_independent(fit: _Fit, said: str) -> FlagModel:
    """Cut by the channel where it explains the noise, else by the margin at the pairwise rate."""
    n_rows, _, n_classes = fit.probs.shape
    logs = log_probs(fit.probs)
    pairwise = pairwise_rate(fit.votes.T, fit.answered.T, fit.given, n_classes, groups=fit.groups)
    plain, plain_likelihood = fit_log_weights(logs, fit.answered, fit.given)
    log_q = log_pool(logs, fit.answered, plain)
    tau = class_means(np.exp(log_q), fit.given)
    transition, confident = confident_transition(np.exp(log_q), fit.given, tau)
    channel, likelihood = fit_log_weights(logs, fit.answered, fit.given, transition)
    disagree = float((log_q.argmax(axis=1) != fit.given).mean())
    rate = confident if pairwise.estimate is None else min(pairwise.estimate, disagree)
    odds = log_odds_wrong(log_pool(logs, fit.answered, channel), fit.given, transition)
    channel_rate = _channel_estimate(odds, "channel with confident counts")
    estimates = {
        "pairwise": pairwise,
        "confident_counts": _binomial(confident, n_rows, "counts of confident answers"),
        "channel": channel_rate,
    }
    model = FlagModel(
        "independent", "channel", said, (), channel, tau, 0.0, channel, np.round(transition, 9),
        pairwise if pairwise.estimate is not None else channel_rate, estimates, (), n_rows, n_classes,
    )  # fmt: skip
    if rate < _WEAK_SHARE * disagree:
        why = (
            f"{said}; at least a third of their disagreements are their own errors, so the linear pool is ranked "
            f"and cut at the rate {rate:.3f}"
        )
        return _fit_linear(fit, replace(model, rule="linear", why=why), rate, disagree)
    explained = likelihood > plain_likelihood + 0.5 * np.log(n_rows)
    if explained and channel_rate.estimate is not None and channel_rate.estimate >= _CHANNEL_SHARE * rate:
        why = f"{said}; noise by class explains the disagreement, so the posterior is cut at one half"
        return replace(model, why=why, noise_rate=_joined(channel_rate, pairwise))
    pair_rate, rate = rate, rate + _habit_weight(rate, disagree) * (disagree - rate)
    why = (
        f"{said}; noise by class does not explain the disagreement, so the margin is cut at the rate {rate:.3f}, "
        "between pairwise agreement and the share of disagreements"
    )
    model = replace(model, noise_rate=_between(pairwise, rate, disagree))
    score = margin(log_q, fit.given, tau)
    cut = float(np.clip(_quantile_cut(score, rate), 0.0, 1.0))
    return _calibrated(
        fit, replace(model, rule="margin", why=why, weights=plain, cut=round(cut, 9)), score, pair_rate, disagree
    )


def _habit_weight(rate: float, disagree: float) -> float:
    """Return how far the rate goes from pairwise agreement, which is too low, to all disagreements, too many.

    Where noise depends on the image, teachers learn the labels' habits and agree with wrong ones too. It is halfway
    while next to no disagreement is the teachers' own error, and none of the way where a third of it is.
    """
    own_errors = 1.0 - rate / disagree if disagree else 1.0
    return max(0.0, _HALFWAY * (1.0 - own_errors / (1.0 - _WEAK_SHARE)))


def _fit_linear(fit: _Fit, model: FlagModel, rate: float, disagree: float) -> FlagModel:
    weights = fit_linear_weights(fit.probs, fit.answered, fit.given)
    pool = linear_pool(fit.probs, fit.answered, weights)
    tau = class_means(pool, fit.given)
    score = self_doubt(pool, fit.given, tau)
    cut = round(_quantile_cut(score, rate), 9)
    return _calibrated(fit, replace(model, weights=weights, tau=tau, cut=cut), score, rate, disagree)


def _calibrated(fit: _Fit, model: FlagModel, score: Floats, rate: float, disagree: float) -> FlagModel:
    """Set the channel and the sharpness of the pool to what the cut implies, for the suggested probabilities.

    The channel is counted from given labels and the cut's suggestions. Fitted to noisy labels, the pool is as
    unsure as they are; it is sharpened until its mean confidence is its accuracy against the truth: one less the
    disagreements that the rate leaves to its own errors. Where those are many, the rate that says so is not to be
    trusted either, and the pool stays as it is.
    """
    accuracy = 1.0 - (disagree - rate)
    trust = _habit_weight(rate, disagree) / _HALFWAY
    logs = log_probs(fit.probs)
    log_q = log_pool(logs, fit.answered, model.channel_weights)
    adjusted = log_q - np.log(model.tau)
    np.put_along_axis(adjusted, fit.given[:, None], -np.inf, axis=1)
    true = np.where(score >= model.cut, adjusted.argmax(axis=1), fit.given)
    one_hot = np.zeros_like(log_q)
    one_hot[np.arange(len(true)), true] = 1.0
    transition, _ = confident_transition(one_hot, fit.given, np.full(model.n_classes, 0.5))
    plain, _ = fit_log_weights(logs, fit.answered, fit.given)
    sharpness = 1.0 + trust * (confidence_scale(log_pool(logs, fit.answered, plain), accuracy) - 1.0)
    weights = np.round(plain * sharpness, 9)
    return replace(model, channel_weights=weights, transition=np.round(transition, 9))


def _fit_shared(fit: _Fit, said: str) -> FlagModel:
    """Fit a channel by likelihood; what it explains is a lower bound on what is wrong."""
    n_rows, _, n_classes = fit.probs.shape
    logs = log_probs(fit.probs)
    mixture = fit_mixture(logs, fit.answered, fit.given)
    log_q = log_pool(logs, fit.answered, mixture.weights)
    odds = log_odds_wrong(log_q, fit.given, mixture.transition)
    estimate = _channel_estimate(odds, f"likelihood of a channel ({mixture.kind}); a lower bound")
    tau = class_means(np.exp(log_q), fit.given)
    _, confident = confident_transition(np.exp(log_q), fit.given, tau)
    estimates = {
        "channel": estimate,
        "confident_counts": _binomial(confident, n_rows, "counts of confident answers"),
        "pairwise": pairwise_rate(fit.votes.T, fit.answered.T, fit.given, n_classes),
    }
    why = f"{said}; the labels' likelihood asks for {_CHANNELS[mixture.kind]}, and its posterior is cut at one half"
    return FlagModel(
        "shared", "channel", why, (), mixture.weights, tau, 0.0, mixture.weights,
        np.round(mixture.transition, 9), estimate, estimates, (), n_rows, n_classes,
    )  # fmt: skip


_CHANNELS = {"none": "no noise", "uniform": "noise that is alike for all classes", "full": "noise by class"}


def margin(log_q: Floats, given: Ints, tau: Floats) -> Floats:
    """Return (N,) max over k ≠ given of (log q_k - log tau_k), less the same of the given class, in nats."""
    adjusted = log_q - np.log(tau)
    right = np.take_along_axis(adjusted, given[:, None], axis=1)[:, 0]
    np.put_along_axis(adjusted, given[:, None], -np.inf, axis=1)
    return np.asarray(adjusted.max(axis=1) - right)


def self_doubt(pool: Floats, given: Ints, tau: Floats) -> Floats:
    """Return (N,) 1 - (p_given - tau_given), for pools whose first choice is often wrong."""
    at_given = np.take_along_axis(pool, given[:, None], axis=1)[:, 0]
    return np.asarray(1.0 - (at_given - tau[given]))


def score_flags(model: FlagModel, given: Ints, names: Sequence[str], probs: Sequence[Floats]) -> Scores:
    """Score rows; a row's result depends on nothing but the row and the model.

    Args:
        model: fitted.
        given: (N,) class indices; outside 0 … K - 1 = no usable label.
        names: T teachers.
        probs: T arrays (N, K) in the order of `names`.
    """
    n_rows = len(given)
    scores = _blank(n_rows)
    usable, answered, bad = usable_rows(given, probs)
    np.copyto(scores.bad_teacher, bad)
    np.copyto(scores.outside, (given < 0) | (given >= model.n_classes))
    if model.rule == "none":
        return scores
    kept = [list(names).index(name) for name in model.names]
    usable &= answered[:, kept].any(axis=1)
    rows = np.flatnonzero(usable)
    step = max(1, CHUNK_CELLS // (len(kept) * model.n_classes))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        block = np.stack(
            [np.where(answered[part, m, None], probs[m][part], 1.0 / model.n_classes) for m in kept], 1
        )
        _score_block(model, scores, part, given[part], block.astype(np.float64), answered[part][:, kept])
    return scores


def _blank(n_rows: int) -> Scores:
    nan = np.full(n_rows, np.nan)
    none = np.zeros(n_rows, dtype=np.int64)
    no = np.zeros(n_rows, dtype=bool)
    return Scores(
        no.copy(), nan.copy(), no.copy(), none - 1, nan.copy(), none.copy(), none.copy(), nan.copy(), nan.copy(),
        none - 1, no.copy(),
    )  # fmt: skip


def _score_block(model: FlagModel, out: Scores, rows: Ints, given: Ints, probs: Floats, answered: Bools) -> None:
    """Fill `out` at `rows` from (n, T, K) probabilities of the kept teachers."""
    probs /= probs.sum(axis=2, keepdims=True)
    logs = log_probs(probs)
    log_q = log_pool(logs, answered, model.channel_weights)
    if model.rule == "channel":
        distance = log_odds_wrong(log_q, given, model.transition)
        doubt = distance >= 0
    elif model.rule == "margin":
        score = margin(log_pool(logs, answered, model.weights), given, model.tau)
        distance, doubt = score - model.cut, score > 0
    else:
        score = self_doubt(linear_pool(probs, answered, model.weights), given, model.tau)
        distance, doubt = _LINEAR_SCALE * (score - model.cut), score >= model.cut
    truth = posterior(log_q, given, model.transition)
    others = truth.copy()
    np.put_along_axis(others, given[:, None], -1.0, axis=1)
    suggested = np.where(doubt | (distance >= 0), others.argmax(axis=1), given)
    n_answered = answered.sum(axis=1)
    mean = np.where(answered[:, :, None], probs, 0.0).sum(axis=1) / n_answered[:, None]
    out.judged[rows] = True
    out.risk[rows] = 0.5 + 0.5 * distance / (1.0 + np.abs(distance))
    out.flagged[rows] = distance >= 0
    out.suggested[rows] = suggested
    out.suggested_prob[rows] = np.take_along_axis(truth, suggested[:, None], axis=1)[:, 0]
    out.n_agree[rows] = ((probs.argmax(axis=2) == suggested[:, None]) & answered).sum(axis=1)
    out.n_teachers[rows] = n_answered
    out.suggested_mean[rows] = np.take_along_axis(mean, suggested[:, None], axis=1)[:, 0]
    out.given_mean[rows] = np.take_along_axis(mean, given[:, None], axis=1)[:, 0]


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


def _joined(counts: NoiseRate, other: NoiseRate) -> NoiseRate:
    """Return the first estimate with an interval that covers both, since they agree."""
    low = min(r.low for r in (counts, other) if r.low is not None)
    high = max(r.high for r in (counts, other) if r.high is not None)
    return NoiseRate(counts.estimate, low, high, counts.method)


def _between(pairwise: NoiseRate, rate: float, disagree: float) -> NoiseRate:
    """Return the rate with the interval from what is too low (pairwise agreement) to what is too high."""
    low = pairwise.low if pairwise.low is not None else 0.0
    high = max(disagree, pairwise.high or 0.0)
    return NoiseRate(rate, low, high, "between pairwise agreement and the share of disagreements")


def _quantile_cut(score: Floats, rate: float) -> float:
    """Return the score that `rate` of the rows reach."""
    n_above = int(np.clip(round(rate * len(score)), 1, len(score)))
    return float(np.partition(score, len(score) - n_above)[len(score) - n_above])


def _channel_estimate(odds: Floats, method: str) -> NoiseRate:
    risk = 1.0 / (1.0 + np.exp(-np.clip(odds, -700, 700)))
    return _binomial(float(risk.mean()), len(odds), method)


def _binomial(rate: float, n_rows: int, method: str) -> NoiseRate:
    """Return the rate with its 95 % Wilson interval: sampling error only, no error of the model."""
    z = 1.959964
    centre = (rate + z * z / (2 * n_rows)) / (1 + z * z / n_rows)
    half = z / (1 + z * z / n_rows) * np.sqrt(rate * (1 - rate) / n_rows + z * z / (4 * n_rows**2))
    return NoiseRate(rate, float(max(0.0, centre - half)), float(min(1.0, centre + half)), method)
