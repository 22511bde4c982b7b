"""How much of the disagreement is believed to be wrong labels, where teachers are taken for independent.

Pairs of teachers agree with each other against a label where the label is wrong, and where both err alike. Votes cannot
tell these apart, and nor can probabilities: what no teacher sees in an image is to them as good as noise in its label.
So the rate that pairs imply is an upper bound, and it is believed as far as something supports it:

- strength: errors that teachers share come with errors of their own, for an image that is hard for all is hard for each
  in another way. Where next to no disagreement is a teacher's own, there is little to share either.
- a floor: labels are also wrong where teachers are sure. A uniform channel fitted by likelihood finds that share, a
  lower bound if they are right there. Human errors follow how hard an image is, and yet are found among easy ones too.

- unanimity: where all teachers agree, labels are wrong as often as anywhere, while errors that teachers share are of
  hard images and grow rare there. It counts as far as teachers seldom err on their own, where there is a floor or the
  rate is a usual one: audits of public sets found 3 to 15 % wrong labels (Northcutt et al. 2021; CIFAR-10N 9 %).

- a usual rate: who says that teachers are independent is believed as long as their rate is one that audits found, and
  the labels' likelihood asks for a uniform channel at all, however small beside the rate. How large it is stays a
  prior, no evidence. Where it asks for none the labels are compatible with no errors, and weak teachers that err
  together on clean labels show the same; people err at random too, if seldom, and that leaves a floor.

Without any of them nothing is believed. Beside a floor the truth is taken to lie halfway between both bounds, by ratio,
or at the upper one where that is a usual rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curate.teachers.mixture import Mixture, fit_floor
from curate.teachers.noise import Bools, Floats, Ints

FIT_ROWS = 6_000  # rows stand in the order of their hashes: the first are a sample
STRONG, WEAK = (0.2, 0.08), (0.6, 0.14)  # own errors beside the rate, and of all rows: whole belief, none
FLOOR = (0.08, 0.12)  # of the rate; less is as likely a tail of the teachers' own errors
EXPLAINED = 0.75  # of the believed rate, by the channel
MOSTLY_FLOOR = 0.6  # of the rate, where only the floor supports it: the channel then has more than a third of it
_NOTHING = 0.005
USUAL = (0.03, 0.06, 0.11, 0.13)  # rates: not believed below, believed between, not believed above
# share of wrong labels by all teachers' word where they agree, beside the rate; few teachers agree by chance too
UNANIMOUS = {3: (0.65, 0.85), 4: (0.5, 0.7)}
RANKS_BY_CLASS = 0.5  # of the rate has to be explained by a channel by class before labels are ranked by it


@dataclass(frozen=True, slots=True)
class Support:
    """What of a pairwise rate is believed.

    Attributes:
        share: of the rate, in [0, 1].
        channel: what the labels' likelihood asks for, a lower bound if the teachers are right where they are sure;
            None = not needed, not fitted.
        explains: whether that channel explains enough for labels to be ranked and cut by its posterior.
        why: a sentence.
    """

    share: float
    channel: Mixture | None
    explains: bool
    why: str


def support(rate: float, errors: float, logs: Floats, answered: Bools, given: Ints) -> Support:
    """Say how much of the pairwise rate is believed.

    Args:
        rate: share of wrong labels that pairs of teachers imply.
        errors: share of labels that a teacher contradicts, mean over teachers.
        logs: (N, T, K) log probabilities.
        answered: (N, T).
        given: (N,).
    """
    own = max(errors - rate, 0.0)
    able = float(np.interp(own, [STRONG[1], WEAK[1]], [1.0, 0.0]))
    strength = able * float(np.interp(own / max(rate, 1e-9), [STRONG[0], WEAK[0]], [1.0, 0.0]))
    if strength == 1.0:
        return Support(1.0, None, explains=False, why="the teachers hardly err on their own")
    channel, floor = fit_floor(logs[:FIT_ROWS], answered[:FIT_ROWS], given[:FIT_ROWS])
    ratio = floor / max(rate, 1e-9)
    found = float(np.interp(ratio, FLOOR, [0.0, 1.0]))
    by_floor = found * float(np.sqrt(min(ratio, 1.0)))
    likely = (
        float(np.interp(rate, USUAL, [0.0, 1.0, 1.0, 0.0])) if floor else 0.0
    )  # none = compatible with no errors
    agreed = max(found, likely) * able * _unanimity(rate, logs, answered, given)
    share = max(strength, by_floor, agreed, likely)
    ranks = channel.kind != "full" or channel.rate >= RANKS_BY_CLASS * rate
    if share < _NOTHING:
        why = "their own errors explain the disagreement, if teachers share as many; votes cannot tell"
        if not floor:
            why = f"the labels are compatible with no errors at all: {why}"
        return Support(0.0, channel, explains=ranks and channel.kind == "full", why=why)
    sure = f"labels are wrong where teachers are sure in {floor:.1%}"
    told = {
        strength: "the teachers err on their own too",
        by_floor: f"{sure} only",
        likely: f"{sure}, and so many in all are usual",
        agreed: "where all teachers agree, labels are wrong about as often as pairs imply",
    }
    explains = channel.rate >= EXPLAINED * share * rate or (by_floor == share and by_floor >= MOSTLY_FLOOR)
    return Support(share, channel, explains=ranks and explains, why=told[share])


def _unanimity(rate: float, logs: Floats, answered: Bools, given: Ints) -> float:
    """Return how far, in [0, 1], the rate holds in the rows where all teachers choose the same class."""
    votes = logs.argmax(axis=2)
    alike = answered.all(axis=1) & (votes == votes[:, :1]).all(axis=1)
    bounds = UNANIMOUS.get(min(logs.shape[1], max(UNANIMOUS)))
    if bounds is None or not alike.any():
        return 0.0
    return float(np.interp((votes[alike, 0] != given[alike]).mean() / max(rate, 1e-9), bounds, [0.0, 1.0]))
