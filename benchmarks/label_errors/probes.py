"""curate's probes beside cleanlab and FiftyOne Brain on one frozen backbone, the same features for all, one process.

    python benchmarks/label_errors/probes.py TABLE.parquet FEATURES.npy --truth clean_label --out FOLDER

TABLE has `label` and the truth, FEATURES a row of numbers for each of its rows, in its order. cleanlab and FiftyOne are
given out-of-fold probabilities of a logistic regression on the standardised features: at scikit-learn's default
strength, and at the strength whose out-of-fold log loss on the given labels is lowest. curate is given features and
labels and fits its own probes. cleanlab is a benchmark extra.

`--rates 0.09 0.17 0.4` moves the share of wrong labels: down, by correcting some; up, by more confusions of the same
kind. The intervals are 95 % of a paired bootstrap over rows; the ratio is curate's error 1 - AP over the peer's.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from curate.spec import ProbesSpec
from curate.teachers.classifiers import CLASSIFIERS
from curate.teachers.disagreement import flag_labels
from curate.teachers.folds import assign_folds
from curate.teachers.noise import Floats, Ints
from curate.teachers.probes import out_of_fold

HEAD = ("wrong", "seed", "method", "average precision", "error of curate / of this one", "seconds")
DEFAULTS = ProbesSpec(kind="probes")
STRENGTHS = (1.0, 0.01, 0.001, 0.0003)  # the first is scikit-learn's default


def at_rate(given: Ints, true: Ints, rate: float, rng: np.random.Generator) -> Ints:
    """Return labels of which about `rate` are wrong, by correcting some or by more confusions of the same kind."""
    given = given.copy()
    wrong = np.flatnonzero(given != true)
    n_wanted = round(rate * len(given))
    if n_wanted < len(wrong):
        right = rng.permutation(wrong)[n_wanted:]
        given[right] = true[right]
        return given
    n_classes = int(max(given.max(), true.max())) + 1
    taken_for = np.zeros((n_classes, n_classes))
    np.add.at(taken_for, (true[wrong], given[wrong]), 1.0)
    able = np.flatnonzero((given == true) & (taken_for.sum(axis=1) > 0)[true])
    for row in rng.permutation(able)[: n_wanted - len(wrong)]:
        given[row] = rng.choice(n_classes, p=taken_for[true[row]] / taken_for[true[row]].sum())
    return given


def regression(features: Floats, given: Ints, strength: float, seed: int) -> Floats:
    """Return (n, K) out-of-fold probabilities."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300, tol=1e-3))
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    return np.asarray(cross_val_predict(model, features, given, cv=folds, method="predict_proba"))


def curates(features: Floats, given: Ints, seed: int) -> Floats:
    """Return (n,) risks."""
    folds = assign_folds(given, np.arange(len(given)), DEFAULTS.folds, seed=seed)
    fits = {name: CLASSIFIERS[name] for name in DEFAULTS.classifiers}
    probs = out_of_fold(features, given, folds, int(given.max()) + 1, fits, seed=seed, refits=DEFAULTS.refits)
    return flag_labels(given, probs, features=dict.fromkeys(probs, "one backbone")).risk


def peers(probs: Floats, given: Ints, name: str) -> dict[str, Floats]:
    """Return each peer's (n,) suspicion from one regression."""
    found = {}
    try:
        from cleanlab.rank import get_label_quality_scores  # noqa: PLC0415 - a benchmark extra

        for method in ("self_confidence", "normalized_margin"):
            found[f"cleanlab {method}, {name}"] = 1.0 - get_label_quality_scores(given, probs, method=method)
    except ImportError:
        print("cleanlab is not installed: pip install 'curate[benchmark]'", file=sys.stderr)
    from fiftyone.brain.internal.core import mistakenness  # noqa: PLC0415 - takes seconds to import

    one = mistakenness._compute_mistakenness_class  # noqa: SLF001 - its formula alone, without a database
    right = (probs.argmax(axis=1) == given).astype(float)
    logits = np.log(np.maximum(probs, 1e-12))
    found[f"FiftyOne mistakenness, {name}"] = np.array([one(row, m) for row, m in zip(logits, right, strict=True)])
    return found


def intervals(wrong: Floats, scores: dict[str, Floats], n_resamples: int) -> dict[str, tuple[str, str, Floats]]:
    """Return name -> (AP with interval, ratio of curate's error with interval, (AP, low, high)), rows resampled."""
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(wrong), len(wrong)) for _ in range(n_resamples)]
    ap = {name: [average_precision_score(wrong, s)] for name, s in scores.items()}
    for rows in draws:
        for name, s in scores.items():
            ap[name].append(average_precision_score(wrong[rows], s[rows]))
    told = {}
    for name, values in ap.items():
        all_ = np.array(values)
        ratio = (1.0 - np.array(ap["curate"])) / (1.0 - all_)
        shown = [f"{v[0]:.4f} [{np.quantile(v, 0.025):.4f}, {np.quantile(v, 0.975):.4f}]" for v in (all_, ratio)]
        bounds = np.array([all_[0], np.quantile(all_, 0.025), np.quantile(all_, 0.975)])
        told[name] = (shown[0], shown[1] if name != "curate" else "1", bounds)
    return told


def measure(
    features: Floats, given: Ints, true: Ints, seed: int, n_resamples: int
) -> list[tuple[list[str], Floats]]:
    """Return the rows of the table for one set of labels, and (AP, low, high) for the plot."""
    seconds, scores = {}, {}
    started = time.perf_counter()
    scores["curate"] = curates(features, given, seed)
    seconds["curate"] = time.perf_counter() - started
    judged = {}
    for strength in STRENGTHS:
        started = time.perf_counter()
        judged[strength] = regression(features, given, strength, seed)
        seconds[strength] = time.perf_counter() - started
    loss = {c: -np.log(np.maximum(p[np.arange(len(given)), given], 1e-9)).mean() for c, p in judged.items()}
    best = min(loss, key=lambda c: float(loss[c]))
    for name, strength in (("default strength", STRENGTHS[0]), ("best strength", best)):
        for method, suspicion in peers(judged[strength], given, name).items():
            scores[method], seconds[method] = suspicion, seconds[strength]
    found = intervals(given != true, scores, n_resamples)
    share = f"{(given != true).mean():.1%}"
    return [
        ([share, str(seed), name, told, ratio, f"{seconds[name]:.0f}"], bounds)
        for name, (told, ratio, bounds) in found.items()
    ]


def plot(found: list[tuple[list[str], Floats]], path: Path) -> None:
    """Draw AP with intervals, a panel a share of wrong labels."""
    import matplotlib as mpl  # noqa: PLC0415 - for the picture only

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the backend

    shares = list(dict.fromkeys(row[0] for row, _ in found))
    figure, axes = plt.subplots(len(shares), 1, figsize=(8, 2.4 * len(shares)), squeeze=False)
    for panel, share in zip(axes[:, 0], shares, strict=True):
        rows = [(row, bounds) for row, bounds in found if row[0] == share]
        names = list(dict.fromkeys(row[2] for row, _ in rows))
        for row, (ap, low, high) in rows:
            at = names.index(row[2]) + 0.15 * (int(row[1]) % 5)
            spread = [[max(ap - low, 0.0)], [max(high - ap, 0.0)]]  # few resamples may leave it outside
            panel.errorbar(ap, at, xerr=spread, fmt="o", capsize=2, color=f"C{names.index(row[2])}")
        panel.set_yticks(range(len(names)), names)
        panel.invert_yaxis()
        panel.set_title(f"{share} of the labels wrong: average precision, a dot a seed", loc="left")
        panel.grid(axis="x", alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("features", type=Path)
    parser.add_argument("--truth", required=True)
    parser.add_argument("--rates", type=float, nargs="*", default=())
    parser.add_argument("--rows", type=int, help="draw so many rows")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--resamples", type=int, default=100)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    table = pq.read_table(options.table, columns=["label", options.truth])
    names = sorted(set(table["label"].to_pylist()) | set(table[options.truth].to_pylist()))
    given, true = (np.searchsorted(names, table[c].to_pylist()) for c in ("label", options.truth))
    features = np.load(options.features).astype(np.float32)
    found: list[tuple[list[str], Floats]] = []
    print(" | ".join(HEAD))
    for rate in options.rates or [float((given != true).mean())]:
        for seed in range(options.seeds):
            rng = np.random.default_rng(seed)
            rows = rng.permutation(len(given))[: options.rows]
            labels = at_rate(given[rows], true[rows], rate, rng)
            for row in measure(features[rows], labels, true[rows], seed, options.resamples):
                found.append(row)
                print(" | ".join(row[0]), flush=True)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        with (options.out / "probes.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([HEAD, *(row for row, _ in found)])
        lines = [HEAD, ["---"] * len(HEAD), *(row for row, _ in found)]
        (options.out / "probes.md").write_text("".join(f"| {' | '.join(x)} |\n" for x in lines), encoding="utf-8")
        plot(found, options.out / "probes.png")


if __name__ == "__main__":
    main()
