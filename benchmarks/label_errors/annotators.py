"""curate's consensus of annotators beside CROWDLAB (cleanlab) and the majority, where the truth is known.

    python benchmarks/label_errors/annotators.py ANNOTATED.parquet TEACHERS.parquet [--images 5000] [--repeats 5]

ANNOTATED has `label`, `clean_label` and `annotator`, one answer an image: how often its annotators err and which
class they take for which is measured on it. TEACHERS has `true_label` and `prob_<teacher>` of other images of the
same classes. On these, several of the measured annotators answer each image, with their own error rates and the
measured confusion. So people and teachers are real, and who answered what together is drawn. Printed: accuracy of
the consensus label, AUROC of its quality for being right, rank correlation of estimated with true error rates over
annotators with at least 20 answers, and how often curate's interval holds the rate that was drawn from. Intervals:
images and annotators drawn again, 200 times, the same draws for all methods. cleanlab is the extra `benchmark`;
CROWDLAB refuses data with one answer an image.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from curate.teachers.consensus import error_rates, find_consensus
from curate.teachers.label_columns import prob_matrix

MIN_ANSWERS = 20
DRAWS = 200


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


@dataclass(frozen=True)
class Told:
    """What a method says: each image's class and how sure it is; people's error rates, to a monotone step."""

    best: np.ndarray
    quality: np.ndarray
    rates: np.ndarray | None


def curate_says(
    truth: np.ndarray,
    probs: np.ndarray | None,
    crowded: tuple[np.ndarray, np.ndarray, np.ndarray],
    rates: np.ndarray,
    enough: np.ndarray,
    n_classes: int,
) -> tuple[Told, float]:
    """Return what curate says, and how often its intervals hold the rates that were drawn from."""
    image, who, label = crowded
    found = find_consensus(image, who, label, n_images=len(truth), n_classes=n_classes, teachers=probs)
    usable = found.has_reference
    rate, low, high = error_rates(found.own_prob[usable], who[usable], n_annotators=len(rates), n_classes=n_classes)
    held = float(np.mean((low <= rates) & (rates <= high), where=enough))
    return Told(found.probs.argmax(axis=1), found.probs.max(axis=1), rate), held


def crowdlab_says(
    n: int, probs: np.ndarray, crowded: tuple[np.ndarray, np.ndarray, np.ndarray], n_who: int
) -> Told:
    from cleanlab.multiannotator import get_label_quality_multiannotator  # noqa: PLC0415 - a benchmark extra

    image, who, label = crowded
    wide = np.full((n, n_who), np.nan)
    wide[image, who] = label
    used = ~np.isnan(wide).all(axis=0)
    told = get_label_quality_multiannotator(wide[:, used], probs, verbose=False)
    rates = np.zeros(n_who)
    rates[np.flatnonzero(used)] = -told["annotator_stats"].sort_index()["annotator_quality"].to_numpy()
    labels = told["label_quality"]
    best = labels["consensus_label"].to_numpy().astype(int)
    return Told(best, labels["consensus_quality_score"].to_numpy(), rates)


def measures(
    told: Told, truth: np.ndarray, rates: np.ndarray, images: np.ndarray, people_: np.ndarray
) -> np.ndarray:
    """Return accuracy and AUROC over these images, and the rank correlation over these people."""
    right, quality = told.best[images] == truth[images], told.quality[images]
    area = roc_auc_score(right, quality) if 0 < right.sum() < len(right) else float("nan")
    rank = spearmanr(told.rates[people_], rates[people_]).statistic if told.rates is not None else float("nan")
    return np.array([right.mean(), area, rank])


def compared(
    truth: np.ndarray,
    probs: np.ndarray | None,
    crowded: tuple[np.ndarray, np.ndarray, np.ndarray],
    rates: np.ndarray,
    n_classes: int,
    seed: int,
) -> list[str]:
    """Return a line a method, and one of curate less CROWDLAB, with intervals of images and people drawn again."""
    image, who, label = crowded
    counts = np.zeros((len(truth), n_classes))
    np.add.at(counts, (image, label), 1)
    enough = np.bincount(who, minlength=len(rates)) >= MIN_ANSWERS
    mine, held = curate_says(truth, probs, crowded, rates, enough, n_classes)
    methods = {
        "curate": mine,
        "majority": Told(counts.argmax(axis=1), counts.max(axis=1) / counts.sum(axis=1), None),
    }
    if probs is not None and len(image) > len(truth):
        methods["CROWDLAB"] = crowdlab_says(len(truth), probs, crowded, len(rates))
    random, people_ = np.random.default_rng(seed), np.flatnonzero(enough)
    draws = [
        (random.integers(0, len(truth), len(truth)), random.choice(people_, len(people_))) for _ in range(DRAWS)
    ]
    whole = (np.arange(len(truth)), people_)
    found = {
        name: np.array([measures(told, truth, rates, *draw) for draw in (whole, *draws)])
        for name, told in methods.items()
    }
    if "CROWDLAB" in found:
        found["curate less CROWDLAB"] = found["curate"] - found["CROWDLAB"]
    inside = {"curate": f"{held:.3f}"}
    return [f"{name} | {' | '.join(shown(values))} | {inside.get(name, '-')}" for name, values in found.items()]


def shown(values: np.ndarray) -> list[str]:
    """Return each column's first value, of all, with the middle 95 % of the others, of the draws."""
    told = []
    for column in values.T:
        low, high = np.nanquantile(column[1:], [0.025, 0.975]) if np.isfinite(column[0]) else (np.nan, np.nan)
        told.append(f"{column[0]:.4f} ({low:.4f} to {high:.4f})" if np.isfinite(column[0]) else "-")
    return told


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
            asked = probs if with_teachers else None
            for line in compared(truth, asked, answers, rates[some], len(classes), seed):
                print(f"{per_image} | {'yes' if with_teachers else 'no'} | {seed} | {line}", flush=True)


if __name__ == "__main__":
    main()
