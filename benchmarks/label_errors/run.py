"""curate beside cleanlab on a table of labels, truths and teachers: average precision and F1 with intervals.

    python benchmarks/label_errors/run.py TABLE.parquet --truth true_label [--resamples 200] [--out results.csv]

TABLE has `label`, the truth and `prob_<teacher>` lists. cleanlab (extra `benchmark`) is given everything it takes:
its ensemble score, and `find_label_issues` on the mean of the teachers and on the teacher that agrees best with the
labels, by default and by `predicted_neq_given`. Intervals are 95 % bootstrap over rows.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from curate.teachers.disagreement import flag_labels
from curate.teachers.evaluation import Measured, evaluate
from curate.teachers.label_columns import class_order, label_indices, label_strings, prob_matrix, prob_widths
from curate.teachers.noise import Bools, Floats, Ints

Answer = tuple[Floats, Bools]


def read(path: Path, truth: str) -> tuple[Ints, Ints, dict[str, Floats]]:
    with pq.ParquetFile(path) as file:
        columns = [name for name in file.schema_arrow.names if name.startswith("prob_")]
        classes = class_order(file, "label", prob_widths(file, columns, path), None, path)
        table = file.read(columns=["label", truth, *columns]).combine_chunks()
    given, true = (label_indices(label_strings(table[c].combine_chunks()), classes) for c in ("label", truth))
    probs = {}
    for name in columns:
        matrix = prob_matrix(table[name].combine_chunks(), len(classes), name).astype(np.float64)
        probs[name.removeprefix("prob_")] = matrix / matrix.sum(axis=1, keepdims=True)
    return given, true, probs


def curate_flags(given: Ints, probs: dict[str, Floats]) -> Answer:
    flags = flag_labels(given, probs)
    return flags.risk, flags.flagged


def contenders(given: Ints, probs: dict[str, Floats]) -> dict[str, Callable[[], Answer]]:
    made: dict[str, Callable[[], Answer]] = {"curate": lambda: curate_flags(given, probs)}
    try:
        from cleanlab.filter import find_label_issues  # noqa: PLC0415 - a benchmark extra
        from cleanlab.rank import (  # noqa: PLC0415
            get_label_quality_ensemble_scores,
            get_label_quality_scores,
        )
    except ImportError:
        print("cleanlab is not installed: pip install 'curate[benchmark]'", file=sys.stderr)
        return made
    mean = np.mean(list(probs.values()), axis=0)
    best = max(probs.values(), key=lambda p: float((p.argmax(axis=1) == given).mean()))

    def ensemble() -> Answer:
        score = get_label_quality_ensemble_scores(given, list(probs.values()), verbose=False)
        return 1.0 - score, find_label_issues(given, mean, n_jobs=1)

    def single(p: Floats, filter_by: str) -> Answer:
        return 1.0 - get_label_quality_scores(given, p), find_label_issues(given, p, filter_by=filter_by, n_jobs=1)

    made["cleanlab ensemble score, mean filtered"] = ensemble
    for name, p in (("mean", mean), ("best teacher", best)):
        for way in ("prune_by_noise_rate", "predicted_neq_given"):
            made[f"cleanlab {name}, {way}"] = lambda p=p, way=way: single(p, way)
    return made


def shown(measured: Measured) -> str:
    if measured.value is None:
        return "not defined"
    if measured.low is None or measured.high is None:
        return f"{measured.value:.4f}"
    return f"{measured.value:.4f} [{measured.low:.4f}, {measured.high:.4f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--truth", required=True)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    given, true, probs = read(options.table, options.truth)
    rows = [["method", "average precision", "F1", "precision", "recall", "flagged", "seconds"]]
    for name, answer in contenders(given, probs).items():
        started = time.perf_counter()
        risk, flagged = answer()
        seconds = time.perf_counter() - started
        found = evaluate(risk, flagged, given != true, n_resamples=options.resamples)
        measures = (found.average_precision, found.f1, found.precision, found.recall)
        rows.append([name, *map(shown, measures), str(found.n_flagged), f"{seconds:.1f}"])
    for row in rows:
        print(" | ".join(row))
    if options.out:
        with options.out.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)


if __name__ == "__main__":
    main()
