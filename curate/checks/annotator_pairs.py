"""Pairs of annotators: how far they agree, and on which classes they part."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

import numpy as np

from curate.checks.annotator_answers import Answers
from curate.statistics.agreement import cohen_kappa
from curate.statistics.exact import share_interval

INSUFFICIENT = "insufficient data"


def compared_pairs(answers: Answers, min_shared: int, max_pairs: int) -> list[dict[str, Any]]:
    """Return how far pairs agree and on which classes they do not, those with most images in common first."""
    shared = _shared_answers(answers)
    enough = [(pair, seen) for pair, seen in shared.items() if len(seen) >= min_shared]
    told: list[dict[str, Any]] = []
    for (one, other), seen in sorted(enough, key=lambda item: (-len(item[1]), item[0]))[:max_pairs]:
        group = f"annotators={answers.names[one]}|{answers.names[other]}"
        first, second = (np.array(side) for side in zip(*seen, strict=True))
        n_apart = int((first != second).sum())
        low, high = share_interval(n_apart, len(seen))
        most = Counter((a, b) for a, b in seen if a != b).most_common(3)
        classes = [
            [answers.classes[a], answers.classes[b], n] for (a, b), n in sorted(most, key=lambda m: (-m[1], m[0]))
        ]
        told.append(
            {"name": "share_disagreement", "group": group, "value": n_apart / len(seen), "low": low, "high": high}
            | {"n": len(seen), "detail": {"classes": classes}}
        )
        kappa = cohen_kappa(first, second, len(answers.classes))
        told.append({**known_or_why("cohen_kappa", kappa, len(seen), "both gave one class only"), "group": group})
    return told


def _shared_answers(answers: Answers) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Return by pair of annotators the labels that both gave to the same images."""
    by_image: dict[int, list[int]] = {}
    n_answers = np.bincount(answers.image)
    for row in np.flatnonzero(n_answers[answers.image] > 1).tolist():
        by_image.setdefault(int(answers.image[row]), []).append(row)
    shared: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for rows in by_image.values():
        for one, other in combinations(sorted(rows, key=lambda row: (answers.annotator[row], row)), 2):
            pair = (int(answers.annotator[one]), int(answers.annotator[other]))
            if pair[0] != pair[1]:
                shared.setdefault(pair, []).append((int(answers.label[one]), int(answers.label[other])))
    return shared


def known_or_why(name: str, value: float | None, n: int, why: str) -> dict[str, Any]:
    """Return the row of a statistic, or of one that could not be computed with the reason."""
    if value is None:
        return {"name": name, "n": n, "outcome": INSUFFICIENT, "detail": {"why": why}}
    return {"name": name, "value": value, "n": n}
