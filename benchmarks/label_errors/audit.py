"""What an audit of 200 looks is worth where the truth is known: threshold, coverage, width, certificate.

    python benchmarks/label_errors/audit.py TABLE.parquet --truth true_label [--repeats 50] [--budget 200]

TABLE has `label`, the truth and `prob_<teacher>` lists. curate flags it; then audits are drawn with different seeds,
answered by the truth, and compared with it. Rows: all teachers, each alone, 3,000 labels of it, and the flags moved
(0.6 and 1.5 times as many) as if the automatic cut were wrong. `lost` is the best possible F1 less the one at the
placed threshold; the target of the project is a mean of at most .02.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from run import read

from curate import schema
from curate.audit.answers import Answer
from curate.audit.design import POPULATION
from curate.audit.draw import draw
from curate.audit.estimate import estimates
from curate.audit.threshold import certify, place
from curate.teachers.disagreement import flag_labels
from curate.teachers.noise import Bools, Floats, Ints

TARGET = 0.9
MEASURES = ("precision", "recall", "f1", "noise_rate")


def scenarios(given: Ints, true: Ints, probs: dict[str, Floats]) -> Iterator[tuple[str, Floats, Bools, Bools]]:
    everything = {"all teachers": probs} | {f"{name} alone": {name: p} for name, p in probs.items()}
    some = np.random.default_rng(0).permutation(len(given))[:3_000]
    for name, chosen in everything.items():
        flags = flag_labels(given, chosen)
        yield name, flags.risk, flags.flagged, given != true
        if name == "all teachers":
            for factor in (0.6, 1.5):
                yield (
                    f"{factor} times the flags",
                    flags.risk,
                    moved(flags.risk, flags.flagged, factor),
                    given != true,
                )
            few = flag_labels(given[some], {teacher: p[some] for teacher, p in chosen.items()})
            yield "3,000 labels", few.risk, few.flagged, (given != true)[some]


def moved(risk: Floats, flagged: Bools, factor: float) -> Bools:
    n = min(len(risk) - 1, int(flagged.sum() * factor))
    return np.asarray(risk >= np.sort(risk)[::-1][n])


def population(risk: Floats, flagged: Bools) -> pa.Table:
    n = len(risk)
    ids = [str(row) for row in range(n)]
    nothing = pa.nulls(n, pa.string())
    columns = dict.fromkeys(POPULATION.names, nothing)
    columns |= {"label_id": ids, "sample_id": ids, "given_label": ids, "bbox": pa.nulls(n, schema.BBOX)}
    columns |= {"risk": np.nan_to_num(risk), "flagged": flagged}
    return pa.table(columns).cast(POPULATION)


def truths(flagged: Bools, wrong: Bools) -> dict[str, float]:
    hits, n_wrong, n_flagged = float((wrong & flagged).sum()), float(wrong.sum()), float(flagged.sum())
    return {
        "precision": hits / n_flagged,
        "recall": hits / n_wrong,
        "f1": 2 * hits / (n_wrong + n_flagged),
        "noise_rate": n_wrong / len(wrong),
    }


def audited(risk: Floats, flagged: Bools, wrong: Bools, *, budget: int, repeats: int) -> list[str]:
    labels, truth = population(risk, flagged), truths(flagged, wrong)
    order = np.argsort(-np.nan_to_num(risk), kind="stable")
    hits = np.cumsum(wrong[order])
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + hits[-1])
    lost, held, wide, certified, false = [], [], [], 0, 0
    for seed in range(repeats):
        design, _ = draw(labels, subject={"name": "benchmark"}, budget=budget, seed=seed, target_precision=TARGET)
        said = {i.item: Answer("", "wrong" if wrong[int(i.label_id)] else "correct") for i in design.items}
        placed = place(design, said)
        lost.append(f1.max() - (f1[placed.n_above - 1] if placed else truth["f1"]))
        found = estimates(design, said)
        for name in MEASURES:
            one = getattr(found, name)
            held.append(one.low is None or one.low - 1e-9 <= truth[name] <= one.high + 1e-9)
        wide.append([getattr(found, name).high - getattr(found, name).low for name in ("precision", "noise_rate")])
        risk_from = certify(design, said, TARGET).risk
        certified += risk_from is not None
        false += risk_from is not None and bool(wrong[np.nan_to_num(risk) >= risk_from].mean() < TARGET)
    width = np.mean(wide, axis=0)
    return [
        f"{f1.max():.4f}", f"{truth['f1']:.4f}", f"{np.mean(lost):.4f}", f"{np.quantile(lost, 0.9):.4f}",
        f"{np.mean(held):.3f}", f"{width[0]:.3f}", f"{width[1]:.3f}", f"{certified / repeats:.2f}", str(false),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--truth", required=True)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--budget", type=int, default=200)
    options = parser.parse_args()
    given, true, probs = read(options.table, options.truth)
    print(
        "flags | best F1 | F1 of the flags | lost: mean | lost: 90 % | intervals that hold the truth | "
        f"width: precision | width: noise rate | certified for {TARGET} | wrongly"
    )
    for name, *rest in scenarios(given, true, probs):
        told = audited(*rest, budget=options.budget, repeats=options.repeats)
        print(" | ".join([name, *told]), flush=True)


if __name__ == "__main__":
    main()
