"""Flags on simulated sets, many seeds: F1, AP, and what share of right labels is flagged.

    python benchmarks/label_errors/simulated.py [--seeds 3] [--out FILE.md] [--only NAME …] [--grid]

`--grid` goes through rates of wrong labels, accuracies of teachers and how far they err together, 2,800 rows each.

`simulate.py` says how images, annotators and teachers are made. Beside curate stand the mean self-confidence of the
teachers (cleanlab's ensemble score, to a monotone step), "the best teacher's first choice differs from the label", and
the best threshold on curate's own ranking, which knows the truth.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from simulate import Setting, Simulated, memorised, simulate, weak_setting

from curate.teachers.disagreement import flag_labels
from curate.teachers.evaluation import evaluate
from curate.teachers.noise import Bools, Floats

SMALL = {"n_rows": 2_800, "rate": 0.13}
SETTINGS = {
    "human 9 %": Setting(spread=0.12, own=0.07),
    "human 9 %, weaker": Setting(spread=0.13, own=0.14),
    "human 17 %": Setting(rate=0.17, spread=0.13, own=0.08),
    "human 40 %": Setting(rate=0.40, spread=0.16, own=0.08),
    "by class 20 %": Setting(noise="class", rate=0.20, spread=0.10, own=0.06),
    "uniform 10 %": Setting(noise="uniform", rate=0.10, spread=0.15, own=0.12),
    "small, human 13 %, few careless": Setting(**SMALL, spread=0.24, own=0.21, careless=0.05),
    "small, human 13 %": Setting(**SMALL, spread=0.22, own=0.25, careless=0.2),
    "small, too sure": Setting(**SMALL, spread=0.22, own=0.25, careless=0.2, sharpness=3.0),
    "clean, strong": Setting(noise="none", spread=0.12, own=0.07),
    "clean, middling": Setting(noise="none", spread=0.16, own=0.10),
    "clean, small, weak": Setting(n_rows=2_800, noise="none", spread=0.25, own=0.20),
    "clean, small, weaker": Setting(n_rows=2_800, noise="none", spread=0.30, own=0.15),
    "clean, small, weakest": Setting(n_rows=2_800, noise="none", spread=0.40, own=0.30),
}
GRID = {
    f"{rate:.0%} wrong, accuracy {accuracy}, shared {shared}": weak_setting(2_800, rate, accuracy, shared)
    for rate in (0.0, 0.05, 0.09)
    for accuracy in (0.6, 0.75, 0.9, 0.97)
    for shared in (0.0, 0.3, 0.6)
}
MEMORISED = {"human 9 %": 0.8, "human 40 %": 0.8}
HEAD = (
    "set",
    "wrong",
    "AP",
    "AP self-confidence",
    "F1",
    "F1 best threshold",
    "F1 best teacher",
    "right flagged",
    "rule",
)


def best_f1(risk: Floats, wrong: Bools) -> float:
    hits = np.cumsum(wrong[np.argsort(-np.nan_to_num(risk), kind="stable")])
    return float((2 * hits / (np.arange(1, len(hits) + 1) + wrong.sum())).max())


def measure(made: Simulated) -> tuple[list[float], str]:
    flags = flag_labels(made.given, made.probs)
    wrong, mean = made.wrong, np.mean(list(made.probs.values()), axis=0)
    first = max(
        (p.argmax(axis=1) for p in made.probs.values()), key=lambda vote: float((vote == made.given).mean())
    )
    doubt = 1.0 - mean[np.arange(len(wrong)), made.given]
    mine = evaluate(flags.risk, flags.flagged, wrong, n_resamples=0)
    peer = evaluate(doubt, first != made.given, wrong, n_resamples=0)
    nan = float("nan")
    if not wrong.any():
        return [0.0, nan, nan, nan, nan, nan, float(flags.flagged.mean())], flags.model.rule
    values = [mine.average_precision.value, peer.average_precision.value, mine.f1.value]
    values += [best_f1(flags.risk, wrong), peer.f1.value]
    return [float(wrong.mean()), *(v or 0.0 for v in values), float(flags.flagged[~wrong].mean())], flags.model.rule


def rows_of(name: str, setting: Setting, seeds: int) -> list[list[str]]:
    rows = []
    for share in (0.0, MEMORISED[name]) if name in MEMORISED else (0.0,):
        found = [
            measure(memorised(simulate(setting, s), share, s) if share else simulate(setting, s))
            for s in range(seeds)
        ]
        means = np.mean([values for values, _ in found], axis=0)
        label = f"{name}, best teacher memorised {share:.0%}" if share else name
        shown = ["" if np.isnan(v) else f"{v:.4f}" if at in {1, 2, 6} else f"{v:.3f}" for at, v in enumerate(means)]
        rows.append([label, *shown, " ".join(sorted({rule for _, rule in found}))])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--grid", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = [list(HEAD), ["---"] * len(HEAD)]
    print(" | ".join(HEAD))
    settings = GRID if options.grid else SETTINGS
    for name in options.only or settings:
        for row in rows_of(name, settings[name], options.seeds):
            lines.append(row)
            print(" | ".join(row), flush=True)
    if options.out:
        options.out.write_text("".join(f"| {' | '.join(line)} |\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
