"""The two regimes of the cut: teachers whose errors are independent, and teachers that share their errors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from curate.teachers.flag_model import FlagModel
from curate.teachers.mixture import Mixture, fit_mixture, log_odds_wrong
from curate.teachers.noise import (
    BOUND_IF_SURE,
    Bools,
    Floats,
    Ints,
    NoiseRate,
    binomial_rate,
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
from curate.teachers.pool_choice import log_ranks_better
from curate.teachers.scoring import distances, margin, self_doubt
from curate.teachers.support import Support, support

_WEAK_SHARE = 2 / 3  # of the disagreements at least a third are the teachers' own errors
_CHANNEL_SHARE = 0.75  # of the pairwise rate has to be explained by the channel
_HALFWAY = 0.5
_WHOLE = 0.999


@dataclass(frozen=True, slots=True)
class Answers:
    """The usable rows that a model is fitted on."""

    given: Ints  # (N,)
    probs: Floats  # (N, T, K)
    answered: Bools  # (N, T)
    votes: Ints  # (N, T)
    groups: tuple[int, ...]  # T; teachers of one group share errors


def fit_independent(fit: Answers, said: str) -> FlagModel:
    """Cut by a channel where it explains the noise, else by the pool at as much of the pairwise rate as is believed."""
    n_rows, _, n_classes = fit.probs.shape
    logs = log_probs(fit.probs)
    pairwise = pairwise_rate(fit.votes.T, fit.answered.T, fit.given, n_classes, groups=fit.groups)
    plain, plain_likelihood = fit_log_weights(logs, fit.answered, fit.given)
    log_q = log_pool(logs, fit.answered, plain)
    tau = class_means(np.exp(log_q), fit.given)
    transition, confident = confident_transition(np.exp(log_q), fit.given, tau)
    disagree = float((log_q.argmax(axis=1) != fit.given).mean())
    upper = confident if pairwise.estimate is None else min(pairwise.estimate, disagree)
    errors = float(((fit.votes != fit.given[:, None]) & fit.answered).sum() / fit.answered.sum())
    believed = support(upper, errors, logs, fit.answered, fit.given)
    rate = believed.share * upper
    if not believed.share:
        return _fit_unbelieved(fit, f"{said}, yet {believed.why}", believed, disagree)
    channel, likelihood = fit_log_weights(logs, fit.answered, fit.given, transition)
    odds = log_odds_wrong(log_pool(logs, fit.answered, channel), fit.given, transition)
    channel_rate = _channel_estimate(odds, "channel with confident counts")
    estimates = _estimates(pairwise, confident, channel_rate, believed.channel, n_rows)
    model = FlagModel(
        "independent", "channel", said, (), channel, tau, 0.0, channel, np.round(transition, 9),
        pairwise if pairwise.estimate is not None else channel_rate, estimates, (), n_rows, n_classes,
    )  # fmt: skip
    floor = believed.channel
    if floor is not None and believed.explains:
        odds = log_odds_wrong(log_pool(logs, fit.answered, floor.weights), fit.given, floor.transition)
        return _with_channel(replace(model, cut=_channel_cut(floor, odds)), floor)
    explained = likelihood > plain_likelihood + 0.5 * np.log(n_rows)
    if upper < _WEAK_SHARE * disagree:
        why = f"{said}; at least a third of their disagreements are their own errors"
        model = replace(model, why=why, noise_rate=_up_to(pairwise, rate))
        return _fit_weak(fit, model, rate, disagree, _of(upper, believed))
    # weak teachers' counts call their own errors noise
    at_most = rate / _CHANNEL_SHARE if floor is not None else 1.0
    if explained and _CHANNEL_SHARE * rate <= (channel_rate.estimate or 0.0) <= at_most:
        why = f"{said}; noise by class explains the disagreement, so the posterior is cut at one half"
        return replace(model, why=why, noise_rate=_joined(channel_rate, pairwise))
    return _fit_between(fit, replace(model, weights=plain), believed, upper, disagree)


def _estimates(
    pairwise: NoiseRate, confident: float, channel: NoiseRate, floor: Mixture | None, n_rows: int
) -> dict[str, NoiseRate]:
    found = {
        "pairwise": pairwise,
        "confident_counts": binomial_rate(confident, n_rows, "counts of confident answers"),
        "channel": channel,
    }
    if floor is not None:
        method = f"likelihood of a channel ({floor.kind}); {BOUND_IF_SURE}"
        found["floor"] = binomial_rate(floor.rate, n_rows, method)
    return found


def _fit_between(fit: Answers, model: FlagModel, believed: Support, upper: float, disagree: float) -> FlagModel:
    """Cut the margin at a rate between what pairs imply, as far as that is believed, and all disagreements."""
    pair_rate, whole = believed.share * upper, believed.share > _WHOLE
    rate = pair_rate + believed.share * _habit_weight(upper, disagree) * (disagree - upper)
    pairwise = model.estimates["pairwise"]
    why = (
        f"{model.why}; noise by class does not explain the disagreement, so the margin is cut at the rate {rate:.3f}, "
        f"between pairwise agreement and the share of disagreements{_of(upper, believed)}"
    )
    noise_rate = _between(pairwise, rate, disagree) if whole else _up_to(pairwise, rate)
    model = replace(model, why=why, noise_rate=noise_rate)
    return _fit_margin(fit, model, rate, (pair_rate, disagree), 1.0 if whole else np.inf)


def _fit_unbelieved(fit: Answers, said: str, believed: Support, disagree: float) -> FlagModel:
    """Flag as many labels as the shared regime's channel does, the lower bound, in the order of the pool.

    How many labels are wrong decides where to cut, not how to rank.
    """
    model = fit_shared(fit, said)
    if believed.explains:
        return model
    distance, _ = distances(model, fit.given, fit.probs, fit.answered)
    return _fit_weak(fit, model, float((distance >= 0).mean()), disagree, ", as many as that flags")


def _with_channel(model: FlagModel, channel: Mixture) -> FlagModel:
    transition = np.round(channel.transition, 9)
    rate = _joined(model.estimates["floor"], model.estimates["pairwise"])
    why = f"{model.why}; what is not their own error is explained by {_CHANNELS[channel.kind]}"
    return replace(
        model,
        why=why,
        weights=channel.weights,
        channel_weights=channel.weights,
        transition=transition,
        noise_rate=rate,
    )


def _fit_margin(
    fit: Answers, model: FlagModel, rate: float, of_pairs: tuple[float, float], highest: float
) -> FlagModel:
    """Cut the margin of the log pool, `model.weights`, at the rate; `of_pairs` is the rate by pairs and by the pool."""
    score = margin(log_pool(log_probs(fit.probs), fit.answered, model.weights), fit.given, model.tau)
    cut = round(float(np.clip(_quantile_cut(score, rate), 0.0, highest)), 9)
    return _calibrated(fit, replace(model, rule="margin", cut=cut), score, *of_pairs)


def _fit_weak(fit: Answers, model: FlagModel, rate: float, disagree: float, of: str) -> FlagModel:
    """Rank by the pool that held-out teachers bear out, and cut at the rate."""
    if log_ranks_better(fit.probs, fit.answered, fit.votes, fit.given):
        why = f"{model.why}, and held-out teachers bear the log pool out: cut at the rate {rate:.3f}{of}"
        weights, _ = fit_log_weights(log_probs(fit.probs), fit.answered, fit.given)
        return _fit_margin(fit, replace(model, why=why, weights=weights), rate, (rate, disagree), np.inf)
    why = f"{model.why}, so the linear pool is ranked and cut at the rate {rate:.3f}{of}"
    return _fit_linear(fit, replace(model, rule="linear", why=why), rate, disagree)


def _of(upper: float, believed: Support) -> str:
    if believed.share > _WHOLE:
        return ""
    return f": {believed.share:.0%} of the {upper:.3f} that pairs imply, for {believed.why}"


def _habit_weight(rate: float, disagree: float) -> float:
    """Return how far the rate goes from pairwise agreement, which is too low, to all disagreements, too many.

    Where noise depends on the image, teachers learn the labels' habits and agree with wrong ones too. It is halfway
    while next to no disagreement is the teachers' own error, and none of the way where a third of it is.
    """
    own_errors = 1.0 - rate / disagree if disagree else 1.0
    return max(0.0, _HALFWAY * (1.0 - own_errors / (1.0 - _WEAK_SHARE)))


def _fit_linear(fit: Answers, model: FlagModel, rate: float, disagree: float) -> FlagModel:
    weights = fit_linear_weights(fit.probs, fit.answered, fit.given)
    pool = linear_pool(fit.probs, fit.answered, weights)
    tau = class_means(pool, fit.given)
    score = self_doubt(pool, fit.given, tau)
    cut = round(_quantile_cut(score, rate), 9)
    return _calibrated(fit, replace(model, weights=weights, tau=tau, cut=cut), score, rate, disagree)


def _calibrated(fit: Answers, model: FlagModel, score: Floats, rate: float, disagree: float) -> FlagModel:
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


def fit_shared(fit: Answers, said: str) -> FlagModel:
    """Fit a channel by likelihood; what it explains is at least wrong if the teachers are right where they are sure."""
    n_rows, _, n_classes = fit.probs.shape
    logs = log_probs(fit.probs)
    mixture = fit_mixture(logs, fit.answered, fit.given)
    log_q = log_pool(logs, fit.answered, mixture.weights)
    odds = log_odds_wrong(log_q, fit.given, mixture.transition)
    estimate = _channel_estimate(odds, f"likelihood of a channel ({mixture.kind}); {BOUND_IF_SURE}")
    tau = class_means(np.exp(log_q), fit.given)
    _, confident = confident_transition(np.exp(log_q), fit.given, tau)
    estimates = {
        "channel": estimate,
        "confident_counts": binomial_rate(confident, n_rows, "counts of confident answers"),
        "pairwise": pairwise_rate(fit.votes.T, fit.answered.T, fit.given, n_classes),
    }
    why = f"{said}; the labels' likelihood asks for {_CHANNELS[mixture.kind]}"
    return FlagModel(
        "shared", "channel", why, (), mixture.weights, tau, _channel_cut(mixture, odds), mixture.weights,
        np.round(mixture.transition, 9), estimate, estimates, (), n_rows, n_classes,
    )  # fmt: skip


_HALF = "and its posterior is cut at one half"
_CHANNELS = {
    "none": f"no noise, {_HALF}",
    "uniform": f"noise that is alike for all classes, {_HALF}",
    "full": f"noise by class, {_HALF}",
    "look_alike": "noise among classes that look alike, so the image says which labels are wrong, and they are cut at "
    "its rate",
}


def _channel_cut(mixture: Mixture, odds: Floats) -> float:
    """Return the log odds from which on a label is flagged."""
    return round(_quantile_cut(odds, mixture.rate), 9) if mixture.kind == "look_alike" else 0.0


def _joined(counts: NoiseRate, other: NoiseRate) -> NoiseRate:
    """Return the first estimate with an interval that covers both, since they agree."""
    low = min(r.low for r in (counts, other) if r.low is not None)
    high = max(r.high for r in (counts, other) if r.high is not None)
    return NoiseRate(counts.estimate, low, high, counts.method)


def _up_to(pairwise: NoiseRate, rate: float) -> NoiseRate:
    """Return what is believed of the pairwise rate, with an interval from nothing to all of it; all = as it is."""
    if pairwise.estimate is None or rate >= _WHOLE * pairwise.estimate:
        return pairwise
    return NoiseRate(rate, 0.0, pairwise.high, "part of the pairwise rate that something supports")


def _between(pairwise: NoiseRate, rate: float, disagree: float) -> NoiseRate:
    """Return the rate with the interval from what is too low (pairwise agreement) to what is too high."""
    low = pairwise.low if pairwise.low is not None else 0.0
    high = max(disagree, pairwise.high or 0.0)
    return NoiseRate(rate, low, high, "between pairwise agreement and the share of disagreements")


def _quantile_cut(score: Floats, rate: float) -> float:
    """Return the score that `rate` of the rows reach; one that none reaches where that is less than half a row."""
    n_above = min(round(rate * len(score)), len(score))
    if not n_above:
        return float(score.max()) + 1e-6
    return float(np.partition(score, len(score) - n_above)[len(score) - n_above])


def _channel_estimate(odds: Floats, method: str) -> NoiseRate:
    risk = 1.0 / (1.0 + np.exp(-np.clip(odds.astype(np.float64), -700, 700)))
    return binomial_rate(float(risk.mean()), len(odds), method)
