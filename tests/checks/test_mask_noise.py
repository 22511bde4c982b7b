from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from checks_views import found, label, labels_view, sample, samples_view, statistic

from curate import views
from curate.check import CheckResult, run_check
from curate.checks.mask_noise import CHECK
from curate.ingest.rle import encode_mask
from curate.reasons import render
from curate.teachers.regions.answers import Answer
from curate.teachers.regions.doubt import doubt_of, share_in_doubt
from curate.teachers.regions.given import drawn
from curate.teachers.regions.judge import Source, measured, regions_column, weigh
from curate.teachers.regions.measure import MaskAnswers

NAMES = ("bird", "cat", "dog")
N = 5  # with more regions than these, one that agrees with nearly all labels is taken to repeat them
LAST = N - 1


def scene(number: int) -> np.ndarray:
    """Return 60 x 80 px: dog all over, a cat and a bird in it."""
    ids = np.full((60, 80), 2)
    ids[10:30, 5 + number : 30 + number] = 1
    ids[35:50, 45 + number : 65 + number] = 0
    return ids


def view_of(edited: np.ndarray | None = None, broken: dict[str, Any] | None = None) -> pa.Table:
    """Return some images with a label a class; the last one is `edited`; a teacher sees the scene as it is."""
    rows, given = [], {}
    for number in range(N):
        ids = edited if edited is not None and number == LAST else scene(number)
        image = sample(number, width_px=80, height_px=60)
        own = [{"label": NAMES[one], "mask": encode_mask(ids == one)} for one in np.unique(ids)]
        given[image["sample_id"]] = (number, own)
        if broken and number == 0:
            own[0] = broken
        rows += [label(10 * number + at, image, task="segmentation", **one) for at, one in enumerate(own)]
    samples = sorted(given)

    def load(name: str) -> MaskAnswers:
        number, own = given[name]
        intact = [one for one in own if one is not broken]
        return MaskAnswers(drawn(intact, NAMES), [Answer(3, codes=scene(number))])

    source = Source(samples, ["a"], NAMES, load)
    regions = regions_column(list(measured(source, weigh(source), samples)))
    images = samples_view([sample(number, width_px=80, height_px=60) for number in range(N)])
    labels = labels_view(rows)
    return views.regions_view(labels, images, pa.table({"sample_id": samples, "regions": regions}))


def judged(*given: Any) -> CheckResult:  # noqa: ANN401 - those of `view_of`
    return run_check(CHECK, view_of(*given))


def flagged(*given: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - as above
    return [row for row in judged(*given).findings.to_pylist() if row["flagged"]]


def label_ids(view: pa.Table) -> dict[str, str]:
    return {one["label"]: one["label_id"] for one in view.sort_by("sample_id")["given_masks"][-1].as_py()}


def test_masks_that_a_teacher_shares_have_no_finding() -> None:
    result = judged()
    assert result.findings.num_rows == 0
    assert statistic(result.statistics, "share_with_finding")["n"] == 3 * N


def test_a_dropped_region_stands_at_the_label_that_covers_it() -> None:
    edited = scene(LAST)
    edited[edited == 0] = 2
    (missing,) = flagged(edited)
    masks = {row["sample_id"]: row["given_masks"] for row in view_of(edited).to_pylist()}
    (dog,) = (one["label_id"] for one in masks[missing["sample_id"]] if one["label"] == "dog")
    assert (missing["issue"], missing["label_id"], missing["suggested_label"]) == ("region_missing", dog, "bird")
    assert missing["suggested_bbox"] == pytest.approx([49 / 80, 35 / 60, 20 / 80, 15 / 60])
    assert render(missing["reason_code"], missing["reason_args"]).startswith("1 of 1 teachers see bird (300 px at")
    np.testing.assert_array_equal(doubt_of(missing["reason_args"]), scene(LAST) == 0)


def test_a_region_of_another_class_and_an_invented_one_are_told_apart() -> None:
    edited = scene(LAST)
    edited[edited == 1] = 0
    (wrong,) = flagged(edited)
    assert (wrong["issue"], wrong["suggested_label"]) == ("region_wrong_class", "cat")
    edited = scene(LAST)
    edited[40:55, 10:25] = 1
    assert [(row["issue"], row["suggested_label"]) for row in flagged(edited)] == [("region_spurious", "dog")]


def test_each_flagged_region_of_a_label_is_a_finding_of_its_own() -> None:
    edited = scene(LAST)
    edited[2:8, 50:70] = 1
    edited[40:55, 10:25] = 1
    rows = flagged(edited)
    assert [row["issue"] for row in rows] == ["region_spurious"] * 2
    assert len({row["finding_id"] for row in rows}) == 2
    assert len({row["label_id"] for row in rows}) == 1
    boxes = {tuple(json.loads(row["reason_args"])["bbox_px"]): row for row in rows}
    assert set(boxes) == {(50, 2, 20, 6), (10, 40, 15, 15)}
    n_cat = int((edited == 1).sum())
    assert share_in_doubt(boxes[50, 2, 20, 6]["reason_args"]) == pytest.approx(120 / n_cat, abs=1e-6)
    total = statistic(judged(edited).statistics, "share_with_finding", "issue=region_spurious")
    assert (total["value"], json.loads(total["detail"])) == (1 / (3 * N), {"n_regions": 2})


def test_a_broken_mask_is_left_to_others() -> None:
    broken = {"label": "bird", "mask": {"height_px": 60, "width_px": 80, "counts": b"04"}}
    assert not found(judged(None, broken).findings, "region_wrong_class")


def test_without_an_answer_there_is_nothing_to_judge() -> None:
    result = run_check(CHECK, view_of().slice(0, 0))
    assert statistic(result.statistics, "share_with_finding")["outcome"] == "insufficient data"
