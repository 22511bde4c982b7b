from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from curate import schema
from curate.check import run_check
from curate.checks.box_noise import CHECK
from curate.teachers.boxes import arrange
from curate.teachers.boxes.from_view import read_boxes
from curate.views import boxes_view

N_IMAGES, CLASSES = 40, ("bus", "car", "dog")


def tables() -> tuple[pa.Table, pa.Table, pa.Table]:
    """Return samples, labels and detections: five boxes an image, one of them not to be considered in every fourth."""
    random = np.random.default_rng(3)
    ids = [schema.stable_id("sample", str(at)) for at in range(N_IMAGES)]
    samples = pa.table(
        {
            "sample_id": ids,
            "label_state": ["labeled"] * N_IMAGES,
            "error_code": pa.nulls(N_IMAGES),
            "content_sha256": ids,
        }
    )
    labels, found = [], []
    for at, sample_id in enumerate(ids):
        for number in range(5):
            box = [*random.uniform(0, 0.6, 2), *random.uniform(0.1, 0.4, 2)]
            name = CLASSES[number % 3]
            flags = [["ignored"], ["crowd"], ["truncated"], None][at % 4] if number == 4 else None
            key = schema.stable_id("label", f"{at} {number}")
            labels.append(
                {"label_id": key, "sample_id": sample_id, "task": "detection", "label": name, "bbox": box}
                | {"flags": flags}
            )
            near = [float(v) for v in np.array(box) + random.normal(0, 0.01, 4)]
            score = float(random.uniform(0.3, 1))
            found += [
                {"sample_id": sample_id, "teacher": one, "label": name, "bbox": near, "score": score}
                for one in "ab"
            ]
    own = pa.schema(
        [schema.LABELS.field(name) for name in ("label_id", "sample_id", "task", "label", "bbox", "flags")]
    )
    return samples, pa.Table.from_pylist(labels, own), pa.Table.from_pylist(found, schema.DETECTIONS)


@pytest.fixture(scope="module")
def view() -> pa.Table:
    samples, labels, found = tables()
    return boxes_view(labels, samples, found, ["a", "b"])


def test_what_the_source_wants_ignored_is_a_region_and_no_box_to_judge(view: pa.Table) -> None:
    read = read_boxes(view, ["a", "b"], CLASSES)
    assert len(read.crowds.image) == N_IMAGES / 2  # ignored and crowd, not what is truncated
    assert len(read.given.image) == 5 * N_IMAGES - N_IMAGES / 2


def test_parts_hold_every_box_once(view: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrange, "CELLS_AT_ONCE", 200)
    whole = read_boxes(view, ["a", "b"], CLASSES)
    parts = list(whole.in_parts(len(CLASSES)))
    assert len(parts) > 3
    assert [one for part in parts for one in part.sample_ids] == whole.sample_ids
    assert [one for part in parts for one in part.label_ids] == whole.label_ids
    starts = np.cumsum([0, *(len(part.sample_ids) for part in parts)])
    for name in ("given", "found", "crowds"):
        images = [getattr(part, name).image + start for part, start in zip(parts, starts, strict=False)]
        assert np.concatenate(images).tolist() == getattr(whole, name).image.tolist()
        boxes = np.concatenate([getattr(part, name).boxes for part in parts])
        assert boxes.tolist() == getattr(whole, name).boxes.tolist()


def test_findings_do_not_depend_on_how_many_images_are_judged_at_once(
    view: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = run_check(CHECK, view)
    monkeypatch.setattr(arrange, "CELLS_AT_ONCE", 200)
    in_parts = run_check(CHECK, view)
    assert in_parts.findings.equals(at_once.findings)
    assert in_parts.statistics.equals(at_once.statistics)
