from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from checks_views import found, label, labels_view, sample, statistic

from curate.check import CheckResult, run_check
from curate.checks.mask_noise import CHECK
from curate.ingest.rle import encode_mask
from curate.reasons import render

NAMES = ("bird", "cat", "dog")


def scene(number: int) -> np.ndarray:
    """Return 60 x 80 px: dog all over, a cat and a bird in it."""
    ids = np.full((60, 80), 2)
    ids[10:30, 5 + number : 30 + number] = 1
    ids[35:50, 45 + number : 65 + number] = 0
    return ids


def segments(ids: np.ndarray) -> list[dict[str, Any]]:
    return [{"label": NAMES[one], "mask": encode_mask(ids == one)} for one in np.unique(ids)]


def rows(edited: np.ndarray | None = None, *, carrier: int = 0) -> list[dict[str, Any]]:
    """Return six images, a row a class; the last one is `edited`; one row an image holds what a teacher says."""
    made = []
    for number in range(6):
        image = sample(number, width_px=80, height_px=60)
        given = segments(edited if edited is not None and number == 5 else scene(number))
        for place, one in enumerate(given):
            seen = {"masks_a": segments(scene(number))} if place == min(carrier, len(given) - 1) else {}
            made.append(label(10 * number + place, image, task="segmentation", **one, **seen))
    return made


def judged(labels: list[dict[str, Any]]) -> CheckResult:
    return run_check(CHECK, labels_view(labels))


def test_masks_that_a_teacher_shares_have_no_finding() -> None:
    result = judged(rows())
    assert result.findings.num_rows == 0
    assert statistic(result.statistics, "share_with_finding")["n"] == 18


def test_a_dropped_region_stands_at_the_label_that_covers_it() -> None:
    edited = scene(5)
    edited[edited == 0] = 2
    labels = rows(edited)
    (missing,) = (row for row in judged(labels).findings.to_pylist() if row["flagged"])
    (dog,) = (
        row["label_id"] for row in labels if row["label"] == "dog" and row["sample_id"] == missing["sample_id"]
    )
    assert (missing["issue"], missing["label_id"], missing["suggested_label"]) == ("region_missing", dog, "bird")
    assert missing["suggested_bbox"] == pytest.approx([50 / 80, 35 / 60, 20 / 80, 15 / 60])
    assert render(missing["reason_code"], missing["reason_args"]).startswith("1 of 1 teachers see bird (300 px at")


def test_a_region_of_another_class_and_an_invented_one_are_told_apart() -> None:
    edited = scene(5)
    edited[edited == 1] = 0
    (wrong,) = (row for row in judged(rows(edited)).findings.to_pylist() if row["flagged"])
    assert (wrong["issue"], wrong["suggested_label"]) == ("region_wrong_class", "cat")
    edited = scene(5)
    edited[40:55, 10:25] = 1
    spurious = [row for row in judged(rows(edited)).findings.to_pylist() if row["flagged"]]
    assert [(row["issue"], row["suggested_label"]) for row in spurious] == [("region_spurious", "dog")]


def test_which_label_of_an_image_holds_the_masks_leaves_no_trace() -> None:
    edited = scene(5)
    edited[edited == 1] = 0
    assert judged(rows(edited)).findings.to_pylist() == judged(rows(edited, carrier=2)).findings.to_pylist()


def test_boxes_and_broken_masks_are_left_to_others() -> None:
    labels = rows()
    labels[0]["mask"] = {"height_px": 60, "width_px": 80, "counts": b"04"}
    labels += [label(900, sample(9), task="detection", mask=encode_mask(scene(0) == 1))]
    assert not found(judged(labels).findings, "region_wrong_class")


def test_without_an_answer_there_is_nothing_to_judge() -> None:
    labels = rows()
    for row in labels:
        row["masks_a"] = None
    assert statistic(judged(labels).statistics, "share_with_finding")["outcome"] == "insufficient data"
