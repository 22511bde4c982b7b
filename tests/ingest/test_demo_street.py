from __future__ import annotations

import csv
import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from PIL import Image

from curate.config import load_spec
from curate.errors import ConfigError
from curate.ingest.demo_street import SOURCE
from curate.ingest.rle import decode_mask
from curate.ingest.source import Ingested, ReadOptions
from curate.ingest.street_errors import N_PLANTED
from curate.ingest.street_scene import HEIGHT_PX, WIDTH_PX

SPEC = Path(__file__).parents[2] / "datasets" / "street.yaml"


def options(scratch: Path, **changes: Any) -> ReadOptions:  # noqa: ANN401 - fields of ReadOptions
    spec = load_spec(SPEC).spec
    given: dict[str, Any] = {
        "classes": tuple(spec.classes),
        "attributes": {name: attribute.column for name, attribute in spec.attributes.items()},
        "groups": spec.groups,
    }
    return ReadOptions(source="street", root=scratch, scratch=scratch, **{**given, **changes})


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def ingested(scratch: Path) -> Ingested:
    return SOURCE.read(options(scratch))


@pytest.fixture(scope="module")
def planted(scratch: Path, ingested: Ingested) -> list[dict[str, str]]:
    assert ingested.samples.num_rows
    with (SOURCE.folder(options(scratch)) / "planted.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def rows_by_key(ingested: Ingested) -> dict[str, dict[str, Any]]:
    return {row["source_key"]: row for row in ingested.labels.to_pylist()}


def keys(planted: list[dict[str, str]], kind: str) -> list[str]:
    return [row["key"] for row in planted if row["kind"] == kind]


def iou(one: list[float], other: list[float]) -> float:
    left, top = max(one[0], other[0]), max(one[1], other[1])
    right, bottom = min(one[0] + one[2], other[0] + other[2]), min(one[1] + one[3], other[1] + other[3])
    shared = max(0.0, right - left) * max(0.0, bottom - top)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def mask_box(row: dict[str, Any]) -> list[float]:
    mask = decode_mask(row["mask"])
    y, x = np.nonzero(mask)
    left, top, right, bottom = x.min(), y.min(), x.max() + 1, y.max() + 1
    return [left / WIDTH_PX, top / HEIGHT_PX, (right - left) / WIDTH_PX, (bottom - top) / HEIGHT_PX]


def test_every_image_is_in_and_only_the_inverted_boxes_are_out(ingested: Ingested) -> None:
    assert ingested.samples.num_rows == 120
    out = ingested.outcomes.filter(pc.field("outcome") == "out")
    assert out["reason_code"].to_pylist() == ["box_inverted"] * N_PLANTED["inverted"]
    assert set(ingested.labels["label"].to_pylist()) == {"bicycle", "car", "person", "sign", "truck"}
    assert set(ingested.labels["task"].to_pylist()) == {"tracking"}


def test_what_was_planted_is_what_was_written_down(planted: list[dict[str, str]]) -> None:
    counts = Counter(row["kind"] for row in planted)
    assert counts == {**N_PLANTED, "track_switched": 2, "group_leakage": 1}


def test_swapped_labels_differ_from_the_truth_and_no_others_do(
    ingested: Ingested, planted: list[dict[str, str]]
) -> None:
    rows = rows_by_key(ingested)
    wrong = {key for key, row in rows.items() if row["reference_label"] and row["label"] != row["reference_label"]}
    assert wrong == set(keys(planted, "swapped"))
    nothing = {key for key, row in rows.items() if not row["reference_label"]}
    assert nothing == {f"{key}+invented" for key in keys(planted, "invented")} | {
        f"{key}+again" for key in keys(planted, "duplicated")
    }


def test_dropped_and_inverted_boxes_are_not_there(ingested: Ingested, planted: list[dict[str, str]]) -> None:
    assert not set(rows_by_key(ingested)) & {*keys(planted, "dropped"), *keys(planted, "inverted")}


def test_boxes_fit_their_masks_unless_one_of_them_was_damaged(
    ingested: Ingested, planted: list[dict[str, str]]
) -> None:
    damaged = {*keys(planted, "shifted"), *keys(planted, "mask_eroded")}
    for key, row in rows_by_key(ingested).items():
        if row["mask"] is None:
            continue
        fit = iou(row["bbox"], mask_box(row))
        if key in keys(planted, "shifted"):
            assert fit < 0.6
        elif key not in damaged:
            assert fit == pytest.approx(1.0)


def test_duplicated_boxes_lie_on_their_original(ingested: Ingested, planted: list[dict[str, str]]) -> None:
    rows = rows_by_key(ingested)
    for key in keys(planted, "duplicated"):
        assert iou(rows[key]["bbox"], rows[f"{key}+again"]["bbox"]) > 0.9


def test_tracks_jump_only_where_they_were_switched(ingested: Ingested) -> None:
    rows = rows_by_key(ingested)
    changed = {key.rsplit("-", 1)[0] for key, row in rows.items() if row["track_id"] and row["track_id"] not in key}
    assert changed == {"v1-0", "v1-5", "v4-1", "v4-6"}


def test_one_video_leaks_and_the_others_keep_together(ingested: Ingested) -> None:
    splits: dict[str, set[str]] = {}
    for row in ingested.samples.to_pylist():
        splits.setdefault(row["group_video"], set()).add(row["split"])
    assert [video for video, found in splits.items() if len(found) > 1] == ["video-3"]
    assert set().union(*splits.values()) == {"train", "val", "test"}


def test_light_and_people_are_attributes(ingested: Ingested) -> None:
    assert Counter(ingested.samples["attr_lighting"].to_pylist()) == {"day": 40, "dusk": 40, "night": 40}
    assert len(set(ingested.samples["attr_skin_tone"].to_pylist()) - {None}) >= 2
    assert len(set(ingested.samples["attr_clothing"].to_pylist()) - {None}) >= 2


def test_lighting_can_be_measured(ingested: Ingested, scratch: Path) -> None:
    means: dict[str, list[float]] = {}
    for row in ingested.samples.to_pylist():
        with Image.open(scratch / row["uri"]) as image:
            assert image.size == (WIDTH_PX, HEIGHT_PX)
            means.setdefault(row["attr_lighting"], []).append(float(np.asarray(image).mean()))
    assert min(means["day"]) > max(means["dusk"]) > min(means["dusk"]) > max(means["night"])


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_another_run_draws_the_same_bytes(ingested: Ingested, scratch: Path, tmp_path: Path) -> None:
    again = SOURCE.read(options(tmp_path))
    files = digest(SOURCE.folder(options(tmp_path)))
    assert files == digest(SOURCE.folder(options(scratch)))
    images = [value for name, value in files.items() if name.endswith(".png")]
    assert len(set(images)) == 120
    assert again.labels.equals(ingested.labels)
    assert again.samples.drop_columns(["mtime_ns"]).equals(ingested.samples.drop_columns(["mtime_ns"]))


def test_an_unknown_column_names_the_nearest(scratch: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'lighting'"):
        SOURCE.read(options(scratch, attributes={"light": "lightning"}))


def test_the_spec_says_how_each_attribute_was_obtained() -> None:
    attributes = load_spec(SPEC).spec.attributes
    assert {name: attribute.obtained for name, attribute in attributes.items()} == {
        "lighting": "measured",
        "skin_tone": "synthetic",
        "clothing": "synthetic",
    }
