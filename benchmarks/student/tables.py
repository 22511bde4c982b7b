"""Cells into a table: means over seeds, and what the release is better by, with paired intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from arms import OURS, RIVALS
from student import DISTURBANCES
from world import Task

N_RESAMPLES = 2000
PLAIN, FURTHER = DISTURBANCES[0], DISTURBANCES[1:]


def interval(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    """Return the mean difference of (seeds, test images) and its 95 % bootstrap interval over both."""
    difference = ours - theirs
    rng = np.random.default_rng(0)
    n_seeds, n_images = difference.shape
    draws = [
        difference[rng.integers(0, n_seeds, n_seeds)][:, rng.integers(0, n_images, n_images)].mean()
        for _ in range(N_RESAMPLES)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(difference.mean()), float(low), float(high)


def rows_of(
    cells: Mapping[tuple[str, int], Mapping[str, Any]], task: Task, n_seeds: int, arms: Sequence[str]
) -> list[dict[str, Any]]:
    """Return a row for each arm. Worst class and group: the lowest mean over seeds, and which it is."""
    truth, group = task.truth[task.test], task.group[task.test]
    groups = sorted(set(group.tolist()))

    def right(arm: str, how: str) -> np.ndarray:
        told = [[int(hit) for hit in cells[arm, seed]["right"][how]] for seed in range(n_seeds)]
        return np.asarray(told, dtype=float)

    ours, rows = right(OURS, PLAIN), []
    for arm in arms:
        hits = right(arm, PLAIN)
        by_class = [hits[:, truth == at].mean() for at in range(len(task.classes))]
        by_group = [hits[:, group == name].mean() for name in groups]
        mine = [cells[arm, seed] for seed in range(n_seeds)]
        row: dict[str, Any] = {
            "arm": arm,
            "n_rows": float(np.mean([cell["n_rows"] for cell in mine])),
            "noise": float(np.mean([cell["noise"] for cell in mine])),
            "accuracy": float(hits.mean()),
            "accuracy_by_seed": [round(float(value), 5) for value in hits.mean(axis=1)],
            "worst_class": [task.classes[int(np.argmin(by_class))], float(min(by_class))],
            "worst_group": [groups[int(np.argmin(by_group))], float(min(by_group))],
            "ece": float(np.mean([cell["ece"] for cell in mine])),
            **{how: float(right(arm, how).mean()) for how in FURTHER},
        }
        if arm in RIVALS:
            row["ours_minus_this"] = interval(ours, hits)
        rows.append(row)
    return rows


def as_markdown(
    tables: Mapping[str, Sequence[Mapping[str, Any]]], models: Sequence[Mapping[str, Any]], about: Mapping[str, Any]
) -> str:
    """Return the tables of all noises and the exported models."""
    lines = [", ".join(f"{key} {value}" for key, value in about.items() if key != "settings")]
    for noise, rows in tables.items():
        wrong = next(row["noise"] for row in rows if row["arm"] == OURS)
        lines += ["", f"Noise {noise}: {100 * wrong:.1f} % of the labels are wrong", ""]
        head = (
            "trained on",
            "rows",
            "accuracy",
            "release minus this (95 %)",
            "worst class",
            "worst group",
            "ECE",
            *FURTHER,
        )
        lines += [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
        lines += [_line(row) for row in rows]
    lines += [
        "",
        "| release's student, seed 0 | bytes | ms, 1 image, 1 thread | accuracy |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {m['model']} | {m['bytes']:,} | {m['latency_ms']:.3f} | {100 * m['accuracy']:.2f} |" for m in models
    ]
    return "\n".join(lines) + "\n"


def _line(row: Mapping[str, Any]) -> str:
    gap = row.get("ours_minus_this")
    told = f"{100 * gap[0]:+.2f} ({100 * gap[1]:+.2f} to {100 * gap[2]:+.2f})" if gap else "-"
    worst = [f"{100 * row[which][1]:.1f} ({row[which][0]})" for which in ("worst_class", "worst_group")]
    further = [f"{100 * row[how]:.1f}" for how in FURTHER]
    cells = (
        row["arm"],
        f"{row['n_rows']:.0f}",
        f"{100 * row['accuracy']:.2f}",
        told,
        *worst,
        f"{row['ece']:.3f}",
        *further,
    )
    return f"| {' | '.join(cells)} |"
