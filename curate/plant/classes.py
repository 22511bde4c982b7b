"""Wrong classes: any other one, one that this class is taken for, or the one that the teachers find likeliest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from curate.plant.choose import chosen, pick, pick_weighted


@dataclass(frozen=True, slots=True)
class Opinions:
    """What the teachers say of the labels as they were given.

    Attributes:
        row_of: label id → row of `probs`.
        probs: (N, K), the mean over the teachers.
        classes: K names in the order of `probs`.
    """

    row_of: Mapping[str, int]
    probs: np.ndarray
    classes: tuple[str, ...]

    def confusion(self, labels: Mapping[str, str]) -> dict[str, list[float]]:
        """Return class → how much the teachers give to each class where that one is given, itself left out."""
        rows: dict[str, list[int]] = defaultdict(list)
        for label_id, label in labels.items():
            if label_id in self.row_of:
                rows[label].append(self.row_of[label_id])
        found = {}
        for label, at in rows.items():
            mean = self.probs[at].mean(axis=0)
            found[label] = [0.0 if name == label else float(p) for name, p in zip(self.classes, mean, strict=True)]
        return found


def uniform(labels: Mapping[str, str], classes: Sequence[str], seed: int, kind: str) -> dict[str, str]:
    """Return label id → another class, each as likely as the others."""
    return {
        one: pick([c for c in classes if c != label], "plant", str(seed), kind, "class", one)
        for one, label in labels.items()
    }


def by_class(
    labels: Mapping[str, str], everything: Mapping[str, str], opinions: Opinions, seed: int
) -> dict[str, str]:
    """Return label id → a class that its own is taken for, as often as the teachers take it for that.

    Args:
        labels: those to change.
        everything: all labels; the confusion is estimated from them.
        opinions: of the teachers.
        seed: of the choice.
    """
    confusion = opinions.confusion(everything)
    found = {}
    for one, label in labels.items():
        weights = confusion.get(label, [0.0] * len(opinions.classes))
        options = [(c, w) for c, w in zip(opinions.classes, weights, strict=True) if c != label]
        names, shares = [c for c, _ in options], [w for _, w in options]
        found[one] = pick_weighted(names, shares, "plant", str(seed), "class", "class", one)
    return found


def hard(labels: Mapping[str, str], opinions: Opinions, n: int, taken: set[str]) -> dict[str, str]:
    """Return label id → the class that the teachers find next likely, for the `n` labels where that is closest.

    A label that the teachers contradict already is left alone: it may be wrong as it is.
    """
    likely = []
    for one, label in labels.items():
        at = opinions.row_of.get(one)
        if at is None or one in taken or label not in opinions.classes:
            continue
        own = opinions.classes.index(label)
        others = opinions.probs[at].copy()
        others[own] = -1.0
        best = int(others.argmax())
        if others[best] < opinions.probs[at, own]:
            likely.append((float(opinions.probs[at, own] - others[best]), one, opinions.classes[best]))
    return {one: name for _, one, name in sorted(likely)[:n]}


def some(labels: Mapping[str, str], share: float, seed: int, kind: str, taken: set[str]) -> dict[str, str]:
    """Return the labels of a share of all, chosen by hash."""
    n = n_of(len(labels), share)
    return {one: labels[one] for one in chosen(list(labels), n, seed, kind, taken)}


def n_of(n_all: int, share: float) -> int:
    """Return how many errors a share is; at least one where there is anything."""
    return min(n_all, max(1, round(n_all * share))) if n_all else 0
