"""Hard or wrong: a set cut into a long tail, and how often right labels of rare and of common classes are flagged.

    python benchmarks/label_errors/long_tail.py TABLE.parquet --truth clean_label [--features FEATURES.npy] [--tail 100]

TABLE has `label`, the truth and `prob_<teacher>` columns, or FEATURES has a row of numbers for each of its rows: then
curate's probes are the teachers, and know the tail as badly as any that learned from it. For each seed the classes are
put into a random order and cut, by their true class, to `--tail` : 1 from the first to the last, evenly on a log scale;
the labels are wrong as they are in the table. Head and tail are the first and the last third of the classes. What a user
needs is a tail that loses at most twice what the head loses, and still has its wrong labels found.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from probes import DEFAULTS

from curate.statistics.intervals import wilson
from curate.teachers.classifiers import CLASSIFIERS
from curate.teachers.disagreement import flag_labels
from curate.teachers.folds import assign_folds
from curate.teachers.noise import Bools, Floats, Ints
from curate.teachers.probes import out_of_fold

PREFIX = "prob_"


def long_tail(true: Ints, n_classes: int, tail: float, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Return rows, shuffled, and (K,) the classes from the most common to the rarest."""
    order = rng.permutation(n_classes)
    n_most = int(np.bincount(true, minlength=n_classes).min())
    sizes = np.maximum(np.round(n_most * tail ** (-np.arange(n_classes) / (n_classes - 1))), 1).astype(int)
    parts = [rng.permutation(np.flatnonzero(true == k))[:n] for k, n in zip(order, sizes, strict=True)]
    return rng.permutation(np.concatenate(parts)), order


def flags_of_probes(features: Floats, given: Ints, n_classes: int, seed: int) -> Bools:
    folds = assign_folds(given, np.arange(len(given)), DEFAULTS.folds, seed=seed)
    fits = {name: CLASSIFIERS[name] for name in DEFAULTS.classifiers}
    probs = out_of_fold(features, given, folds, n_classes, fits, seed=seed, refits=DEFAULTS.refits)
    return flag_labels(given, probs, features=dict.fromkeys(probs, "one backbone")).flagged


def told(name: str, flagged: Bools, wrong: Bools) -> str:
    """Return a line: right labels that are flagged, wrong ones that are found, each with its interval."""
    shown = []
    for rows in (~wrong, wrong):
        n, n_hit = int(rows.sum()), int((rows & flagged).sum())
        low, high = wilson(n_hit, n)
        shown.append(f"{n_hit:,} of {n:,} = {n_hit / max(n, 1):.2%} [{low:.2%}, {high:.2%}]")
    return f"| {name} | {shown[0]} | {shown[1]} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--truth", required=True)
    parser.add_argument("--features", type=Path)
    parser.add_argument("--tail", type=float, default=100.0)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    table = pq.read_table(options.table)
    names = sorted(set(table["label"].to_pylist()) | set(table[options.truth].to_pylist()))
    given, true = (np.searchsorted(names, table[column].to_pylist()) for column in ("label", options.truth))
    features = np.load(options.features) if options.features else None
    probs: Mapping[str, Floats] = {
        column.removeprefix(PREFIX): np.stack(table[column].to_numpy(zero_copy_only=False)).astype(np.float64)
        for column in table.column_names
        if column.startswith(PREFIX) and features is None
    }
    parts: dict[str, list[tuple[Bools, Bools]]] = {"head": [], "middle": [], "tail": []}
    third = len(names) // 3
    for seed in range(options.seeds):
        rows, order = long_tail(true, len(names), options.tail, np.random.default_rng(seed))
        if features is not None:
            flagged = flags_of_probes(features[rows].astype(np.float32), given[rows], len(names), seed)
        else:
            flagged = flag_labels(given[rows], {name: one[rows] for name, one in probs.items()}).flagged
        wrong = given[rows] != true[rows]
        for name, classes in zip(parts, np.split(order, [third, len(names) - third]), strict=True):
            mine = np.isin(true[rows], classes)
            parts[name].append((flagged[mine], wrong[mine]))
    print("| classes | right labels flagged | wrong labels flagged |\n| --- | --- | --- |")
    pooled = {name: [np.concatenate(column) for column in zip(*some, strict=True)] for name, some in parts.items()}
    for name, (flagged, wrong) in pooled.items():
        print(told(name, flagged, wrong))
    shares = {name: float(flagged[~wrong].mean()) for name, (flagged, wrong) in pooled.items()}
    ratio = (
        f"{shares['tail'] / shares['head']:.2f}" if shares["head"] else "not defined: none of the head is flagged"
    )
    print(f"tail over head: {ratio} (at most 2 is asked for); {options.seeds} seeds, {options.tail:.0f} : 1")


if __name__ == "__main__":
    main()
