"""A population whose truth is known, and people who answer by it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curate import schema
from curate.audit.answers import Answer
from curate.audit.design import POPULATION, Design


@dataclass(frozen=True)
class World:
    """Labels, which of them are wrong, and how good the flags really are."""

    labels: pa.Table
    wrong: np.ndarray
    flagged: np.ndarray

    @property
    def truth(self) -> dict[str, float]:
        hits = float((self.wrong & self.flagged).sum())
        n_wrong, n_flagged = float(self.wrong.sum()), float(self.flagged.sum())
        return {
            "precision": hits / n_flagged,
            "recall": hits / n_wrong,
            "f1": 2 * hits / (n_wrong + n_flagged),
            "noise_rate": n_wrong / len(self.wrong),
        }

    def answers(self, design: Design, unsure: frozenset[str] = frozenset()) -> dict[int, Answer]:
        """What somebody who knows the truth says about every item."""
        return {
            item.item: Answer(str(item.item), self.verdict(item.label_id, unsure), None, "ann")
            for item in design.items
        }

    def verdict(self, label_id: str, unsure: frozenset[str] = frozenset()) -> str:
        if label_id in unsure:
            return "can't tell"
        return "wrong" if self.wrong[int(label_id)] else "correct"


def world(n: int = 3_000, *, noise: float = 0.1, sharpness: float = 6.0, cut: float = 0.5, seed: int = 0) -> World:
    """`n` labels of which about `noise` are wrong; risk tells wrong from right the better, the sharper it is."""
    random = np.random.default_rng(seed)
    wrong = random.random(n) < noise
    risk = 1 / (1 + np.exp(-(random.normal(0, 2, n) + np.where(wrong, sharpness / 2, -sharpness / 2))))
    flagged = risk >= cut
    ids = [str(i) for i in range(n)]
    nothing = pa.nulls(n, pa.string())
    columns = {
        "label_id": ids,
        "sample_id": [f"s{i}" for i in ids],
        "uri": [f"{i}.png" for i in ids],
        "given_label": [("cat", "dog")[i % 2] for i in range(n)],
        "bbox": pa.nulls(n, schema.BBOX),
        "risk": risk,
        "flagged": flagged,
        "suggested_label": nothing,
        "finding_id": nothing,
        "content_sha256": nothing,
    }
    return World(pa.table(columns).cast(POPULATION), wrong, flagged)
