# ruff: noqa: ANN401 - FiftyOne and the fixtures have no types
from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate import schema
from curate.check import build_findings
from curate.review import dataset, views
from curate.review.load import load_dataset
from curate.teachers.regions.shapes import Shape

pytestmark = pytest.mark.mongo


def doubts(toy: Any) -> pa.Table:
    """Findings about the person's mask: a part that is a car's, and a car that its mask covers."""
    mask = np.zeros((48, 64), np.bool_)
    mask[12:20, 22:30] = True
    mask[12, 22] = False
    drawn = Shape.of(mask, (0, 0), mask.shape)
    seen = Shape.of(np.roll(mask, 6, axis=1), (0, 0), mask.shape)
    assert drawn is not None
    assert seen is not None
    common = {
        "sample_id": toy.sample_ids[0],
        "label_id": toy.label_ids[1],
        "flagged": True,
        "suggested_label": "car",
    }
    rows = [
        {"issue": "region_wrong_class", "risk": 0.6, "reason_args": {"drawn": drawn.to_json()}},
        {"issue": "region_missing", "risk": 0.9, "reason_args": {"drawn": drawn.to_json(), "seen": seen.to_json()}},
        {"issue": "region_spurious", "risk": 0.2, "reason_args": {}},
    ]
    return build_findings("mask_noise", [common | row | {"reason_code": row["issue"]} for row in rows])


def test_regions_in_doubt_are_drawn_where_they_are_with_their_shape(street: Any) -> None:
    toy = street
    toy.arguments["findings"] = pa.concat_tables([toy.arguments["findings"], doubts(toy)])
    report = load_dataset("regions", **toy.arguments)
    sample = dataset.open_dataset("regions")[toy.sample_ids[0]]
    missing, wrong = sample.regions.detections  # worst first; without a shape there is nothing to draw
    assert (missing.issue, missing.label, missing.given, missing.risk) == ("region_missing", "car", "person", 0.9)
    assert missing.bounding_box == pytest.approx([28 / 64, 12 / 48, 8 / 64, 8 / 48], abs=1e-6)  # as teachers see it
    assert wrong.bounding_box == pytest.approx([22 / 64, 12 / 48, 8 / 64, 8 / 48], abs=1e-6)  # as it is labeled
    assert wrong.mask.shape == (8, 8)
    assert not wrong.mask[0, 0]
    assert wrong.mask.sum() == 63
    assert wrong.for_label == toy.label_ids[1]
    assert wrong.reason.startswith("region wrong class")
    assert views.WRONG_REGIONS in report.views
    assert dataset.open_dataset("regions").load_saved_view(views.WRONG_REGIONS).values("id") == [toy.sample_ids[0]]


def test_regions_go_when_nothing_doubts_them_any_more(street: Any) -> None:
    toy = street
    before = toy.arguments["findings"]
    load_dataset("doubts-gone", **(toy.arguments | {"findings": pa.concat_tables([before, doubts(toy)])}))
    assert load_dataset("doubts-gone", **toy.arguments).n_updated == 1
    shown = dataset.open_dataset("doubts-gone")[toy.sample_ids[0]]
    assert not (shown.regions and shown.regions.detections)


def test_no_region_without_findings(street: Any) -> None:
    toy = street
    empty = schema.table_from_rows([], toy.arguments["findings"].schema)
    load_dataset("no-doubts", **(toy.arguments | {"findings": empty}))
    assert dataset.open_dataset("no-doubts").load_saved_view(views.WRONG_REGIONS).count() == 0


def test_how_the_app_draws_is_said_once_and_left_to_the_user_then(street: Any) -> None:
    load_dataset("looks", **street.arguments)
    opened = dataset.open_dataset("looks")
    assert opened.app_config.color_scheme.color_by == "value"
    assert {"ground_truth", "regions", "issues"} <= set(opened.app_config.active_fields.paths)
    opened.app_config.color_scheme.color_by = "field"
    opened.app_config.active_fields.paths = ["ground_truth"]
    opened.save()
    load_dataset("looks", **street.arguments)
    opened.reload()
    assert opened.app_config.color_scheme.color_by == "field"
    assert opened.app_config.active_fields.paths == ["ground_truth"]
