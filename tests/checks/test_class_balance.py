from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from checks_views import label, labels_view, sample, statistic

from curate.check import run_check
from curate.checks.class_balance import CHECK, ClassBalanceParams
from curate.statistics.intervals import wilson


def _view(**counts: int) -> object:
    """Return a view with this many labels: train_cat=3 is three labels cat in train."""
    rows = []
    for key, n in counts.items():
        split, name = key.split("_")
        rows += [label(len(rows), sample(len(rows), split=split), label=name) for _ in range(n)]
        for i, row in enumerate(rows):
            row["label_id"] = f"{i:024d}"
    return labels_view(rows)


def test_counts_shares_and_diversity() -> None:
    statistics = run_check(CHECK, _view(train_cat=30, train_dog=10, test_cat=10, test_dog=10)).statistics
    share = statistic(statistics, "share", "class=cat")
    assert share["value"] == pytest.approx(40 / 60)
    assert (share["low"], share["high"]) == wilson(40, 60)
    assert statistic(statistics, "imbalance_ratio")["value"] == 2.0
    assert statistic(statistics, "effective_classes", "split=test")["value"] == pytest.approx(2.0)
    entropy = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    assert statistic(statistics, "effective_classes")["value"] == pytest.approx(math.exp(entropy))
    assert statistic(statistics, "evenness")["value"] == pytest.approx(entropy / math.log(2))
    assert statistic(statistics, "split_divergence", "splits=test|train")["value"] == pytest.approx(
        0.0488, abs=1e-4
    )
    assert statistic(statistics, "n_labels", "split=train;class=dog")["value"] == 10.0


def test_absent_undeclared_and_rare_classes_are_said() -> None:
    check = replace(CHECK, params=ClassBalanceParams(classes=("cat", "emu"), min_per_class=5))
    statistics = run_check(check, _view(train_cat=20, train_dog=4)).statistics
    assert json.loads(statistic(statistics, "n_absent_classes")["detail"]) == {"classes": ["emu"]}
    assert json.loads(statistic(statistics, "n_undeclared_classes")["detail"]) == {"classes": ["dog"]}
    assert statistic(statistics, "share", "class=dog")["outcome"] == "insufficient data"
    assert statistic(statistics, "share", "class=emu")["value"] == 0.0
    assert statistic(statistics, "share", "class=cat")["outcome"] is None
    ratio = statistic(statistics, "imbalance_ratio")
    assert (ratio["value"], ratio["outcome"]) == (None, "insufficient data")


def test_no_declared_class_is_not_no_absent_class() -> None:
    statistics = run_check(CHECK, _view(train_cat=20)).statistics
    assert statistic(statistics, "n_absent_classes")["outcome"] == "insufficient data"
