"""Can a teacher be about these images, classes and sequences at all? One that agrees no better than chance cannot.

A weak teacher is wrong often, and still right far more often than by chance. A file of other images, of another
sequence or with other class ids is right as often as chance has it. Both are measured on what it could agree with:
beyond chance = (agreement - chance) / (1 - chance), for classes Cohen's kappa (doi:10.1177/001316446002000104).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from curate.teachers.noise import Floats, Ints
from curate.teachers.protocol import TeacherCard

LEAST_BEYOND_CHANCE = 0.05  # files of other images have 0, the faintest third of a weak detector's boxes has 0.05
LEAST_SURE = (
    0.5  # who agrees with half is believed, however likely that is: where nearly all is of one class, or at rest
)
MIN_LABELS = 30  # with fewer, luck looks like this
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Doubt:
    """A teacher that does not seem to be about these labels.

    Attributes:
        teacher: its name.
        about: "places" | "classes".
        share: of `n` that it agrees with.
        chance: the share that a teacher which knows nothing would agree with.
        n: labels it was held against.
        told: what was seen and what to check, a sentence or two without the name.
    """

    teacher: str
    about: str
    share: float
    chance: float
    n: int
    told: str

    @property
    def message(self) -> str:
        """What is to be said to people, with the name."""
        return f"{self.teacher}: {self.told}"

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, among them the message."""
        return {**asdict(self), "message": self.message}


def with_doubts(cards: Sequence[TeacherCard], doubts: Sequence[Doubt]) -> list[TeacherCard]:
    """Return the cards, with a warning on those of doubted teachers."""
    told = {one.teacher: one.told for one in doubts}
    return [
        replace(card, warnings=(*card.warnings, told[card.name])) if card.name in told else card for card in cards
    ]


def is_chance(share: float, chance: float) -> bool:
    """Return whether an agreement is what a teacher has that knows nothing."""
    return share < LEAST_SURE and share - chance < LEAST_BEYOND_CHANCE * (1.0 - chance)


def doubt_places(teacher: str, n_seen: int, n: int, precision: float, chance: float, check: str) -> Doubt | None:
    """Return whether a teacher sees so few labeled boxes that it cannot be about these images.

    Args:
        teacher: its name.
        n_seen: labeled boxes that it sees, of whatever class.
        n: labeled boxes that are judged; of fewer than MIN_LABELS nothing is said.
        precision: share of its boxes that lie on labeled ones: high where it only answered for a few.
        chance: the share that it would see in other images.
        check: what to look at.
    """
    share = n_seen / max(n, 1)
    if n < MIN_LABELS or not is_chance(max(share, precision), chance):
        return None
    told = (
        f"it sees {share:.1%} of the {n:,} labeled boxes that are judged, and {precision:.1%} of its boxes lie on "
        f"labeled ones: hardly more than chance. {check} Until then, what it says of these labels means nothing."
    )
    return Doubt(teacher, "places", share, chance, n, told)


def doubt_classes(
    teacher: str,
    given: Ints,
    named: Ints,
    classes: Sequence[str],
    check: str,
    *,
    things: str,
    weight: Floats | None = None,
) -> Doubt | None:
    """Return whether a teacher names classes as if it knew nothing of them.

    Looked at as a whole, and once more without the commonest class, for which ids may be right (background, 0) where
    all others are off by one.

    Args:
        teacher: its name.
        given: (N,) labeled classes; fewer than MIN_LABELS say nothing.
        named: (N,) what the teacher calls the same things.
        classes: K names.
        check: what to look at.
        things: what is counted, for the sentence.
        weight: (N,) of each, 1 if left out.
    """
    weights = np.ones(len(given)) if weight is None else weight
    if not len(given):
        return None
    commonest = int(np.bincount(given, weights=weights, minlength=len(classes)).argmax())
    rest = (given != commonest) & (named != commonest)
    for rows, besides in ((np.ones(len(given), dtype=bool), ""), (rest, f" other than {classes[commonest]}")):
        if rows.sum() < MIN_LABELS:
            continue
        counts = np.zeros((len(classes), len(classes)))
        np.add.at(counts, (given[rows], named[rows]), weights[rows])
        counts /= counts.sum()
        share, chance = float(counts.trace()), float(counts.sum(axis=1) @ counts.sum(axis=0))
        if is_chance(share, chance):
            told = (
                f"of {int(rows.sum()):,} {things}{besides} it names the labeled class for {share:.1%} "
                f"({chance:.1%} by chance){_usual(counts, classes)}. {check} "
                "Until then, what it says of classes means nothing."
            )
            return Doubt(teacher, "classes", share, chance, int(rows.sum()), told)
    return None


def _usual(counts: Floats, classes: Sequence[str]) -> str:
    """Return what most of the commonest classes are called instead, where most of one is called alike."""
    total = counts.sum(axis=1)
    told = []
    for k in np.argsort(-total, kind="stable").tolist():
        to = int(counts[k].argmax())
        if to != k and 2 * counts[k, to] > total[k]:
            told.append(f"most of {classes[k]} is {classes[to]} to it")
    return "".join(f"; {one}" for one in told[:_SHOWN])
