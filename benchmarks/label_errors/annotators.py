"""curate's consensus of annotators beside CROWDLAB (cleanlab) and the majority, where the truth is known.

    python benchmarks/label_errors/annotators.py ANNOTATED.parquet TEACHERS.parquet [--images 5000] [--repeats 5]

ANNOTATED has `label`, `clean_label` and `annotator`, one answer an image: how often its annotators err and which
class they take for which is measured on it. TEACHERS has `true_label` and `prob_<teacher>` of other images of the
same classes. On these, several of the measured annotators answer each image, with their own error rates and the
measured confusion. So people and teachers are real, and who answered what together is drawn. Printed: accuracy of
the consensus label, AUROC of its quality for being right, rank correlation of estimated with true error rates over
annotators with at least 20 answers, and how often curate's interval holds the rate that was drawn from. cleanlab is
the extra `benchmark`; CROWDLAB refuses data with one answer an image.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from curate.teachers.consensus import error_rates, find_consensus
from curate.teachers.label_columns import prob_matrix

MIN_ANSWERS = 20


def people(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return classes, error rate of each annotator with 30 answers or more, and p(given | true, wrong)."""
    table = pq.read_table(path, columns=["label", "clean_label", "annotator"]).to_pandas()
    classes = sorted(set(table["clean_label"]))
    wrong = table["label"] != table["clean_label"]
    confusion = pd.crosstab(table["clean_label"][wrong], table["label"][wrong])
    confusion = confusion.reindex(index=classes, columns=classes, fill_value=0).to_numpy().astype(float)
    known = wrong.groupby(table["annotator"]).agg(["mean", "size"])
    rates = known["mean"][known["size"] >= 30].to_numpy()
    return classes, rates, (confusion + 0.1) / (confusion + 0.1).sum(axis=1, keepdims=True)


def teachers(path: Path, classes: list[str], n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the truth and the mean of the teachers of `n` images."""
    table = pq.read_table(path).combine_chunks()
    rows = np.random.default_rng(seed).permutation(table.num_rows)[:n]
    truth = np.array([classes.index(name) for name in table["true_label"].to_pylist()])[rows]
    names = [name for name in table.column_names if name.startswith("prob_")]
    probs = np.mean([prob_matrix(table[name].combine_chunks(), len(classes), name)[rows] for name in names], axis=0)
    return truth, probs / probs.sum(axis=1, keepdims=True)


def crowd(
    truth: np.ndarray, rates: np.ndarray, confusion: np.ndarray, per_image: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return image, annotator and label of each answer."""
    random = np.random.default_rng(seed)
    image = np.repeat(np.arange(len(truth)), per_image)
    who = np.concatenate([random.choice(len(rates), per_image, replace=False) for _ in truth])
    label = truth[image].copy()
    for row in np.flatnonzero(random.random(len(image)) < rates[who]):
        chances = confusion[truth[image[row]]].copy()
        chances[truth[image[row]]] = 0.0
        label[row] = random.choice(len(chances), p=chances / chances.sum())
    return image, who, label


def report(name: str, best: np.ndarray, quality: np.ndarray, truth: np.ndarray) -> str:
    right = best == truth
    area = roc_auc_score(right, quality) if 0 < right.sum() < len(right) else float("nan")
    return f"{name} | {right.mean():.4f} | {area:.3f}"


def compared(
    truth: np.ndarray,
    probs: np.ndarray | None,
    crowded: tuple[np.ndarray, np.ndarray, np.ndarray],
    rates: np.ndarray,
) -> list[str]:
    image, who, label = crowded
    n, k = len(truth), 10
    counts = np.zeros((n, k))
    np.add.at(counts, (image, label), 1)
    found = find_consensus(image, who, label, n_images=n, n_classes=k, teachers=probs)
    usable = found.has_reference
    rate, low, high = error_rates(found.own_prob[usable], who[usable], n_annotators=len(rates), n_classes=k)
    enough = np.bincount(who, minlength=len(rates)) >= MIN_ANSWERS
    held = np.mean((low <= rates) & (rates <= high), where=enough)
    mine = f"{spearmanr(rate[enough], rates[enough]).statistic:.3f} | {held:.3f}"
    lines = [f"{report('curate', found.probs.argmax(axis=1), found.probs.max(axis=1), truth)} | {mine}"]
    lines.append(
        f"{report('majority', counts.argmax(axis=1), counts.max(axis=1) / counts.sum(axis=1), truth)} | - | -"
    )
    if probs is None or len(image) == n:
        return lines
    try:
        from cleanlab.multiannotator import get_label_quality_multiannotator  # noqa: PLC0415 - a benchmark extra
    except ImportError:
        print("cleanlab is not installed: pip install 'curate[benchmark]'", file=sys.stderr)
        return lines
    wide = np.full((n, len(rates)), np.nan)
    wide[image, who] = label
    used = ~np.isnan(wide).all(axis=0)
    told = get_label_quality_multiannotator(wide[:, used], probs, verbose=False)
    labels = told["label_quality"]
    quality = np.zeros(len(rates))
    quality[np.flatnonzero(used)] = told["annotator_stats"].sort_index()["annotator_quality"].to_numpy()
    theirs = f"{spearmanr(-quality[enough], rates[enough]).statistic:.3f} | -"
    best = labels["consensus_label"].to_numpy().astype(int)
    lines.append(f"{report('CROWDLAB', best, labels['consensus_quality_score'].to_numpy(), truth)} | {theirs}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotated", type=Path)
    parser.add_argument("teachers", type=Path)
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    classes, rates, confusion = people(options.annotated)
    print(
        f"{len(rates)} annotators, error rates {np.quantile(rates, [0.05, 0.5, 0.95]).round(3).tolist()} (5, 50, 95 %)"
    )
    print(
        "answers an image | teachers | seed | method | accuracy | AUROC of quality | rank correlation | in interval"
    )
    for per_image, with_teachers in ((1, True), (3, True), (3, False), (5, True)):
        for seed in range(options.repeats):
            truth, probs = teachers(options.teachers, classes, options.images, seed)
            some = np.random.default_rng(seed).permutation(len(rates))[: max(20, options.images // 50)]
            answers = crowd(truth, rates[some], confusion, per_image, seed)
            for line in compared(truth, probs if with_teachers else None, answers, rates[some]):
                print(f"{per_image} | {'yes' if with_teachers else 'no'} | {seed} | {line}", flush=True)


if __name__ == "__main__":
    main()
