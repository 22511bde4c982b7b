"""curate beside cleanlab, FiftyOne Brain and ObjectLab on the same inputs in one process.

    python benchmarks/label_errors/run.py TABLE.parquet --truth true_label [--situations] [--boxes BOXES.zip] --out DIR

TABLE has `label`, the truth and `prob_<teacher>` lists. Everybody gets the same arrays. cleanlab (extra `benchmark`)
is given everything it takes: its ensemble score; `find_label_issues` by default, by `predicted_neq_given` and by
`both`, on the mean of the teachers and on the teacher that agrees best with the labels. FiftyOne's mistakenness has no
cut of its own; above .5 it is the same as "the prediction differs", and is counted so. `best cut` is the F1 that the
best threshold on the method's own score would have had, which takes knowing the truth.

For each table there is a second run in which the best teacher memorised four fifths of the labels; with --situations
there are more, see situations.py. --boxes runs boxes.py (ObjectLab, plain agreement) in the same process.
Intervals are 95 % bootstrap over rows, for boxes over images. --out gets results.csv, results.md and results.png, and
boxes.csv and boxes.png.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import boxes
import numpy as np
import pyarrow.parquet as pq
from situations import best_teacher, memorised, situations

from curate.teachers.disagreement import flag_labels
from curate.teachers.evaluation import Measured, evaluate
from curate.teachers.label_columns import class_order, label_indices, label_strings, prob_matrix, prob_widths
from curate.teachers.noise import Bools, Floats, Ints

Answer = tuple[Floats, Bools]
Contenders = dict[str, Callable[[], Answer]]
HEAD = ("set", "method", "average precision", "F1", "best cut", "precision", "recall", "flagged", "seconds")
MEMORISED = 0.8
FILTERS = ("prune_by_noise_rate", "predicted_neq_given", "both")


def read(path: Path, truth: str) -> tuple[Ints, Ints, dict[str, Floats]]:
    with pq.ParquetFile(path) as file:
        columns = [name for name in file.schema_arrow.names if name.startswith("prob_")]
        classes, _ = class_order(file, "label", prob_widths(file, columns, path), None, path)
        table = file.read(columns=["label", truth, *columns]).combine_chunks()
    given, true = (label_indices(label_strings(table[c].combine_chunks()), classes) for c in ("label", truth))
    probs = {}
    for name in columns:
        matrix = prob_matrix(table[name].combine_chunks(), len(classes), name).astype(np.float64)
        probs[name.removeprefix("prob_")] = matrix / matrix.sum(axis=1, keepdims=True)
    return given, true, probs


def few(given: Ints, true: Ints, probs: dict[str, Floats], n_rows: int) -> tuple[Ints, Ints, dict[str, Floats]]:
    """Return a random part, the same every time."""
    rows = np.sort(np.random.default_rng(0).permutation(len(given))[:n_rows])
    return given[rows], true[rows], {name: p[rows] for name, p in probs.items()}


def best_f1(risk: Floats, wrong: Bools) -> float:
    """Return the F1 at the best threshold of a score; rows of one score are flagged together."""
    level = np.unique(-np.nan_to_num(risk), return_inverse=True)[1]
    n_flagged = np.cumsum(np.bincount(level))
    hits = np.cumsum(np.bincount(level, weights=wrong))
    return float((2 * hits / (n_flagged + wrong.sum())).max())


def with_cleanlab(made: Contenders, given: Ints, probs: dict[str, Floats]) -> None:
    try:
        from cleanlab.filter import find_label_issues  # noqa: PLC0415 - a benchmark extra
        from cleanlab.rank import (  # noqa: PLC0415
            get_label_quality_ensemble_scores,
            get_label_quality_scores,
        )
    except ImportError:
        print("cleanlab is not installed: pip install 'curate[benchmark]'", file=sys.stderr)
        return
    mean = np.mean(list(probs.values()), axis=0)

    def single(p: Floats, filter_by: str) -> Answer:
        return 1.0 - get_label_quality_scores(given, p), find_label_issues(given, p, filter_by=filter_by, n_jobs=1)

    def ensemble() -> Answer:
        score = get_label_quality_ensemble_scores(given, list(probs.values()), verbose=False)
        return 1.0 - score, find_label_issues(given, mean, n_jobs=1)

    if len(probs) > 1:
        made["cleanlab ensemble score, mean filtered"] = ensemble
    for name, p in (("mean", mean), ("best teacher", probs[best_teacher(given, probs)])):
        for way in FILTERS:
            made[f"cleanlab {name}, {way}"] = lambda p=p, way=way: single(p, way)


def with_fiftyone(made: Contenders, given: Ints, probs: dict[str, Floats]) -> None:
    from fiftyone.brain.internal.core import mistakenness  # noqa: PLC0415 - takes seconds to import

    p = probs[best_teacher(given, probs)]
    differs = p.argmax(axis=1) != given

    def score() -> Answer:
        logits = np.log(np.maximum(p, 1e-12))
        right = (~differs).astype(float)  # fiftyone's m: 1 where the prediction is the label
        one = mistakenness._compute_mistakenness_class  # noqa: SLF001 - its formula alone, without a database
        return np.array([one(row, m) for row, m in zip(logits, right, strict=True)]), differs

    made["FiftyOne mistakenness, best teacher"] = score


def contenders(given: Ints, probs: dict[str, Floats]) -> Contenders:
    def curate() -> Answer:
        flags = flag_labels(given, probs)
        return flags.risk, flags.flagged

    made: Contenders = {"curate": curate}
    with_cleanlab(made, given, probs)
    with_fiftyone(made, given, probs)
    return made


def shown(measured: Measured) -> str:
    if measured.value is None:
        return "not defined"
    if measured.low is None or measured.high is None:
        return f"{measured.value:.4f}"
    return f"{measured.value:.4f} [{measured.low:.4f}, {measured.high:.4f}]"


def plot(results: list[tuple[str, str, Measured, Measured]], path: Path) -> None:
    """Draw AP and F1 with their intervals, a panel a set."""
    import matplotlib as mpl  # noqa: PLC0415 - for the picture only

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the backend

    sets = list(dict.fromkeys(row[0] for row in results))
    figure, axes = plt.subplots(len(sets), 1, figsize=(8, 2.6 * len(sets)), squeeze=False)
    for panel, name in zip(axes[:, 0], sets, strict=True):
        rows = [row for row in results if row[0] == name]
        for at, (label, marker) in enumerate((("average precision", "o"), ("F1 of what is flagged", "s"))):
            found = [row[2 + at] for row in rows]
            ends = [
                (m.value, m.value if m.low is None else m.low, m.value if m.high is None else m.high) for m in found
            ]
            values, low, high = np.array(ends, dtype=float).T  # not defined is nan, and not drawn
            places = np.arange(len(rows)) + 0.2 * at
            panel.errorbar(
                values,
                places,
                xerr=np.maximum([values - low, high - values], 0),
                fmt=marker,
                capsize=2,
                label=label,
            )
        panel.set_yticks(np.arange(len(rows)), [row[1] for row in rows])
        panel.invert_yaxis()
        panel.set_xlim(-0.02, 1.02)
        panel.set_title(name, loc="right", fontsize=9)
        panel.grid(axis="x", alpha=0.3)
    axes[0, 0].legend(loc="lower left")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def write(rows: list[list[str]], results: list[tuple[str, str, Measured, Measured]], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "results.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEAD, *rows])
    lines = [HEAD, ["---"] * len(HEAD), *rows]
    text = "".join(f"| {' | '.join(row)} |\n" for row in lines)
    (folder / "results.md").write_text(text, encoding="utf-8")
    plot(results, folder / "results.png")


def on_boxes(path: Path, n_seeds: int, n_resamples: int, folder: Path | None) -> None:
    """Run boxes.py here, and draw what it found."""
    table = (folder or Path(tempfile.mkdtemp())) / "boxes.csv"
    table.parent.mkdir(parents=True, exist_ok=True)
    sys.argv = [
        "boxes.py",
        str(path),
        "--seeds",
        str(n_seeds),
        "--resamples",
        str(n_resamples),
        "--out",
        str(table),
    ]
    boxes.main()
    with table.open(encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    results = []
    for issue, method in dict.fromkeys((row["issue"], row["method"]) for row in found):
        mine = [row for row in found if (row["issue"], row["method"]) == (issue, method)]
        ap, low, high = (float(np.mean([float(row[c]) for row in mine])) for c in ("AP", "low", "high"))
        flags = [float(row["F1 of flags"]) for row in mine if row["F1 of flags"]]
        f1 = Measured(float(np.mean(flags)) if flags else None, None, None)
        results.append((f"boxes, {issue}", method, Measured(ap, low, high), f1))
    if folder:
        plot(sorted(results, key=lambda row: row[0]), folder / "boxes.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path, nargs="*")
    parser.add_argument("--truth", default="true_label")
    parser.add_argument("--situations", action="store_true")
    parser.add_argument("--rows", type=int, default=10**9, help="at most so many rows of a table")
    parser.add_argument("--boxes", type=Path)
    parser.add_argument("--seeds", type=int, default=3, help="of boxes")
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows: list[list[str]] = []
    results: list[tuple[str, str, Measured, Measured]] = []
    print(" | ".join(HEAD))
    for path in options.tables:
        given, true, probs = few(*read(path, options.truth), options.rows)
        sets = [(path.stem, given, true, probs)]
        if len(probs) > 1:
            told = memorised(given, probs, MEMORISED)
            sets.append((f"{path.stem}, best teacher memorised {MEMORISED:.0%}", given, true, told))
        for name, labels, truth, answers in (
            situations(path.stem, given, true, probs) if options.situations else sets
        ):
            for method, answer in contenders(labels, answers).items():
                started = time.perf_counter()
                risk, flagged = answer()
                seconds = time.perf_counter() - started
                found = evaluate(risk, flagged, labels != truth, n_resamples=options.resamples)
                ap, f1, precision, recall = map(
                    shown, (found.average_precision, found.f1, found.precision, found.recall)
                )
                best = f"{best_f1(risk, labels != truth):.4f}"
                rows.append([name, method, ap, f1, best, precision, recall, str(found.n_flagged), f"{seconds:.1f}"])
                results.append((name, method, found.average_precision, found.f1))
                print(" | ".join(rows[-1]), flush=True)
    if options.out and rows:
        write(rows, results, options.out)
    if options.boxes:
        on_boxes(options.boxes, options.seeds, options.resamples, options.out)


if __name__ == "__main__":
    main()
