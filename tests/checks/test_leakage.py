from __future__ import annotations

import json

import numpy as np
from checks_views import found, sample, samples_view, statistic

from curate.check import run_check
from curate.checks.leakage import CHECK
from curate.checks.splits import split_ranks


def test_the_copy_of_the_less_clean_split_is_named() -> None:
    copies = [sample(i, content_sha256="c", split=s) for i, s in enumerate(("train", "val", "test", "extra"))]
    result = run_check(CHECK, samples_view([*copies, *(sample(i) for i in range(4, 8))]))
    rows = found(result.findings, "leakage_duplicate")
    assert {row["sample_id"] for row in rows} == {copies[i]["sample_id"] for i in (0, 1, 3)}
    assert all(row["related_ids"] == [copies[2]["sample_id"]] for row in rows)
    share = statistic(result.statistics, "share_of_samples")
    assert (share["value"], share["n"]) == (3 / 8, 8)
    assert share["low"] < 3 / 8 < share["high"]
    assert statistic(result.statistics, "n_exact_pairs", "splits=test|train")["value"] == 1.0


def test_training_splits_do_not_leak_into_each_other_and_no_split_is_no_split() -> None:
    rows = [sample(i, content_sha256="c", split=s) for i, s in enumerate(("train", "train_extra", None))]
    result = run_check(CHECK, samples_view(rows))
    assert result.findings.num_rows == 0
    assert statistic(result.statistics, "share_of_samples")["n"] == 2
    assert statistic(result.statistics, "n_exact_pairs", "splits=train|train_extra")["value"] == 1.0


def test_without_splits_there_is_nothing_to_judge() -> None:
    result = run_check(CHECK, samples_view([sample(i, split=None) for i in range(3)]))
    assert statistic(result.statistics, "share_of_samples")["outcome"] == "insufficient data"


def test_every_near_pair_across_splits_is_found_not_just_the_nearest() -> None:
    """The nearest neighbour of the picture in train is in train: looking at that alone misses the leak."""
    rows = [
        sample(0, phash=0b0, split="train"),
        sample(1, phash=0b1, split="train"),
        sample(2, phash=0b1111, split="test"),
    ]
    result = run_check(CHECK, samples_view(rows))
    leaks = found(result.findings, "leakage_near_duplicate")
    assert {row["sample_id"] for row in leaks} == {rows[0]["sample_id"], rows[1]["sample_id"]}
    assert statistic(result.statistics, "n_near_pairs", "splits=test|train")["value"] == 2.0


def test_against_brute_force() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2**62, 12, dtype=np.uint64)
    rows = []
    for i in range(300):
        bits = np.bitwise_or.reduce(
            np.uint64(1) << rng.choice(64, rng.integers(1, 5), replace=False).astype(np.uint64)
        )
        same = {"content_sha256": f"shared {i % 40}"} if i % 5 == 0 else {}
        split = str(rng.choice(["train", "val", "test"]))
        rows.append(
            sample(i, phash=int(base[i % 12] ^ bits) if not same else int(base[i % 12]), split=split, **same)
        )
    hashes = {}
    for row in rows:  # copies have the same pixels and so the same hash
        row["phash"] = hashes.setdefault(row["content_sha256"], row["phash"])
    rank = {"test": 0, "val": 1, "train": 2}
    expected = {
        a["sample_id"]
        for a in rows
        for b in rows
        if a["content_sha256"] != b["content_sha256"]
        and (a["phash"] ^ b["phash"]).bit_count() <= 4
        and rank[a["split"]] > rank[b["split"]]
    }
    result = run_check(CHECK, samples_view(rows))
    leaks = found(result.findings, "leakage_near_duplicate")
    assert {row["sample_id"] for row in leaks} == expected
    assert expected
    split_of = {row["sample_id"]: row["split"] for row in rows}
    for leak in leaks:
        assert all(rank[split_of[other]] < rank[split_of[leak["sample_id"]]] for other in leak["related_ids"])


def test_a_crowd_of_equal_hashes_across_splits() -> None:
    rows = [sample(i, phash=5, split="test" if i == 1234 else "train") for i in range(2_000)]
    result = run_check(CHECK, samples_view(rows))
    leaks = found(result.findings, "leakage_near_duplicate")
    assert len(leaks) == 1_999
    assert all(row["related_ids"] == [rows[1234]["sample_id"]] for row in leaks)


def test_a_group_across_splits_is_named_on_the_training_side() -> None:
    rows = [
        sample(0, group_video="v", split="train"),
        sample(1, group_video="v", split="test"),
        sample(2, group_video="w", split="train"),
        sample(3, split="test"),
        sample(4, group_video="v", split="test", error_code="truncated"),
    ]
    result = run_check(CHECK, samples_view(rows))
    (leak,) = found(result.findings, "leakage_group")
    assert leak["sample_id"] == rows[0]["sample_id"]
    assert json.loads(leak["reason_args"]) == {
        "split": "train",
        "other_split": "test",
        "group": "video",
        "key": "v",
    }
    assert statistic(result.statistics, "share_of_samples", "route=group")["value"] == 1 / 4


def test_ranks_read_the_leading_word() -> None:
    assert split_ranks(["val2017", "Test_A", "train", "testimony", None]) == [4, 0, 9, 9, -1]
