"""How much of the disagreement is believed to be wrong labels, where teachers are taken for independent.

Pairs of teachers agree with each other against a label where the label is wrong, and where both err alike. Votes cannot
tell these apart, and nor can probabilities: what no teacher sees in an image is to them as good as noise in its label.
So the rate that pairs imply is an upper bound, and it is believed as far as something supports it:

- strength: errors that teachers share come with errors of their own, for an image that is hard for all is hard for each
  in another way. Where next to no disagreement is a teacher's own, there is little to share either.
- a floor: labels are also wrong where teachers are sure. A uniform channel fitted by likelihood finds that share, a
  lower bound if they are right there; the truth is taken to lie halfway between both bounds, by ratio.
- neither: the rate is believed where it is a usual one. Audits of public sets found 3 to 15 % wrong labels (Northcutt
  et al. 2021; CIFAR-10N 9 %); more than that without any other sign is rather weak teachers.
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
USUAL = (0.03, 0.06, 0.11, 0.13)  # rates: not believed below, believed between, not believed above


@dataclass(frozen=True, slots=True)
class Support:
    """What of a pairwise rate is believed.

    Attributes:
        share: of the rate, in [0, 1].
        channel: what the labels' likelihood asks for, a lower bound if the teachers are right where they are sure;
            None = not needed, not fitted.
        explains: whether that channel explains enough of what is believed for its posterior to be the cut.
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
    beside = own / max(rate, 1e-9)
    strength = float(
        np.interp(beside, [STRONG[0], WEAK[0]], [1.0, 0.0]) * np.interp(own, [STRONG[1], WEAK[1]], [1.0, 0.0])
    )
    if strength == 1.0:
        return Support(1.0, None, explains=False, why="the teachers hardly err on their own")
    channel, floor = fit_floor(logs[:FIT_ROWS], answered[:FIT_ROWS], given[:FIT_ROWS])
    ratio = floor / max(rate, 1e-9)
    by_floor = float(np.sqrt(min(ratio, 1.0)) * np.interp(ratio, FLOOR, [0.0, 1.0]))
    usual = float(np.interp(rate, USUAL, [0.0, 1.0, 1.0, 0.0]))
    share = max(strength, by_floor, usual)
    told = {
        strength: "the teachers err on their own too",
        by_floor: f"labels are wrong where teachers are sure in {ratio * rate:.1%} only",
        usual: "nothing else tells wrong labels from errors that teachers share, and so many are usual",
    }
    if share < 0.005:
        why = "their own errors explain the disagreement, if teachers share as many"
        return Support(0.0, channel, explains=False, why=why)
    explains = channel.rate >= EXPLAINED * share * rate or (by_floor == share and by_floor >= MOSTLY_FLOOR)
    return Support(share, channel, explains=explains, why=told[share])
