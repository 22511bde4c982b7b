"""What each student is trained on: seven arms, fixed beforehand, from one noisy subset and what curate made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from curated import Curated
from world import Task

ARMS = (
    "raw labels", "pruned by cleanlab", "distilled on raw labels", "soft labels only", "curate release", "oracle",
    "oracle and soft labels",
)  # fmt: skip
OURS = "curate release"
RIVALS = ("raw labels", "pruned by cleanlab", "distilled on raw labels", "soft labels only")


@dataclass(frozen=True)
class Arm:
    """What one student is trained on.

    Attributes:
        rows: (n,) of the task.
        hard: (n,) classes; -1: none.
        weight: (n,) or None.
        soft: (n, K), NaN where there is none; or None.
        loss: further arguments of `distillation_loss`; empty for the release: its defaults.
        temperature: of `soft`.
    """

    rows: np.ndarray
    hard: np.ndarray
    weight: np.ndarray | None = None
    soft: np.ndarray | None = None
    loss: dict[str, Any] = field(default_factory=dict)
    temperature: float = 1.0

    def batch(self, at: np.ndarray) -> dict[str, Any]:
        """Return the arguments of `distillation_loss` of some rows."""
        soft = None
        if self.soft is not None:
            known = np.isfinite(self.soft[at]).all(axis=1)
            values = np.where(known[:, None], self.soft[at], 0.0)
            soft = {
                "probs": torch.from_numpy(values).float(),
                "known": torch.from_numpy(known),
                "temperature": torch.full((len(at),), self.temperature),
            }
        return {
            "soft": soft,
            "hard": torch.from_numpy(self.hard[at].astype(np.int64)),
            "weight": None if self.weight is None else torch.from_numpy(self.weight[at]),
            **self.loss,
        }


def arms(task: Task, made: Curated) -> dict[str, Arm]:
    """Return the seven arms."""
    rows, given, soft, warmth = made.rows, made.given, made.soft, float(made.temperature)
    none, half = np.full(len(rows), -1), {"alpha": 0.5, "trust": "full"}
    kept = ~cleanlab_issues(given, made.teachers)
    return {
        "raw labels": Arm(rows, given),
        "pruned by cleanlab": Arm(rows[kept], given[kept]),
        "distilled on raw labels": Arm(rows, given, None, soft, half, warmth),
        "soft labels only": Arm(rows, none, None, soft, {"alpha": 1.0}, warmth),
        "curate release": Arm(rows[made.place], made.released, made.weight, soft[made.place], temperature=warmth),
        "oracle": Arm(rows, task.truth[rows]),
        "oracle and soft labels": Arm(rows, task.truth[rows], None, soft, half, warmth),
    }


def cleanlab_issues(given: np.ndarray, teachers: np.ndarray) -> np.ndarray:
    """Return which labels cleanlab finds wrong by the mean of the teachers, as it is usually called."""
    from cleanlab.filter import find_label_issues  # noqa: PLC0415 - a benchmark extra

    known = np.isfinite(teachers)
    total = np.where(known, teachers, 0.0).sum(axis=1)
    judged = total.sum(axis=1) > 0
    wrong = np.zeros(len(given), dtype=bool)
    mean = total[judged] / total[judged].sum(axis=1, keepdims=True)
    wrong[judged] = find_label_issues(given[judged], mean, n_jobs=1)
    return wrong
