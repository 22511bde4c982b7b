"""The teacher `masks` in a spec: from folders of PNGs to findings, without any other teacher being asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy import ndimage

import curate
from curate import views
from curate.spec import MasksSpec
from curate.teachers.regions.segmenters import asked_of, find_regions

NAMES = ["road", "car", "tree"]
SPEC = """
name: streets
source: {format: masks, path: data, images: images, masks: masks, classes: [road, car, tree]}
teachers:
  - {kind: masks, name: seg, path: seen}
"""


def scene(number: int) -> np.ndarray:
    mask = np.zeros((60, 80), dtype=np.uint8)
    mask[:20] = 2
    mask[35:50, 10 + 3 * number : 40 + 3 * number] = 1
    return mask


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for name in ("data/images", "data/masks", "seen"):
        (tmp_path / name).mkdir(parents=True)
    for number in range(6):
        pixels = random.integers(0, 255, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / "images" / f"{number}.png")
        given = scene(number)
        if number == 3:
            given[given == 1] = 0  # the car is gone
        Image.fromarray(given).save(tmp_path / "data" / "masks" / f"{number}.png")
        if number % 2:
            Image.fromarray(scene(number)).save(tmp_path / "seen" / f"{number}.png")
        else:
            probs = np.stack([np.where(scene(number) == one, 0.8, 0.1) for one in range(3)]).astype(np.float16)
            np.savez(tmp_path / "seen" / f"{number}.npz", probs)
    (tmp_path / "streets.yaml").write_text(SPEC)
    return tmp_path


def test_what_is_missing_from_a_mask_waits_for_review(folder: Path) -> None:
    run = curate.run(folder / "streets.yaml", workspace=folder / "ws", until="review", review=False)
    hits = [row for row in run.tables["findings"].to_pylist() if row["check"] == "mask_noise" and row["flagged"]]
    assert [(row["issue"], row["suggested_label"]) for row in hits] == [("region_missing", "car")]
    labels = {row["label_id"]: row["label"] for row in run.tables["labels"].to_pylist()}
    assert labels[hits[0]["label_id"]] == "road"
    actions = {row["label_id"]: row["action"] for row in run.tables["verdicts"].to_pylist()}
    assert actions[hits[0]["label_id"]] == "review"
    ran = {row["check"]: row["outcome"] for row in run.tables["statistics"].to_pylist() if row["name"] == "ran"}
    assert ran["mask_noise"] is None
    assert "label_noise" not in ran  # no teacher of classes is in the spec: it has no subject


def test_a_teacher_without_files_is_errored_and_the_check_did_not_run(folder: Path) -> None:
    for file in (folder / "seen").iterdir():
        file.rename(file.with_name(f"other-{file.name}"))
    run = curate.run(folder / "streets.yaml", workspace=folder / "ws", until="flag", review=False)
    rows = [row for row in run.tables["statistics"].to_pylist() if row["name"] == "ran"]
    outcomes = {(row["check"], row["group"]): row["outcome"] for row in rows}
    assert outcomes["teachers", "teacher=seg"] == "errored"
    assert outcomes["mask_noise", None] == "errored"


N = 20


def unsure(true: np.ndarray, number: int) -> np.ndarray:
    """Return float16 probabilities that are hardly ever above one half: what is likeliest tells little."""
    random = np.random.default_rng(number)
    hot = np.stack([ndimage.gaussian_filter((true == one).astype(float), 2) for one in range(3)])
    mixed = 0.45 * hot + 0.55 * random.dirichlet(np.full(3, 4.0), true.shape).transpose(2, 0, 1)
    return (mixed / mixed.sum(axis=0)).astype(np.float16)


@pytest.fixture
def doubtful(folder: Path) -> Path:
    """Return twenty images, a car gone, one called a tree, one in the sky, and two teachers unsure of everything."""
    random = np.random.default_rng(1)
    for name in ("seen", "more"):
        (folder / name).mkdir(exist_ok=True)
    for file in (folder / "seen").iterdir():
        file.unlink()
    for number in range(N):
        true = scene(number % 6)
        given = true.copy()
        if number in {3, 8}:
            given[given == 1] = 0 if number == 3 else 2
        if number == 7:
            given[5:15, 20:40] = 1
        pixels = random.integers(0, 255, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "data" / "images" / f"{number}.png")
        Image.fromarray(given).save(folder / "data" / "masks" / f"{number}.png")
        np.save(folder / "seen" / f"{number}.npy", unsure(true, number))
        np.save(folder / "more" / f"{number}.npy", unsure(true, 100 + number))
    (folder / "streets.yaml").write_text(SPEC + "  - {kind: masks, name: more, path: more}\n")
    return folder


def flagged_by_run(folder: Path, **options: int) -> dict[tuple[Any, ...], float]:
    run = curate.run(folder / "streets.yaml", workspace=folder / "ws", until="flag", review=False, **options)
    stems = {row["sample_id"]: Path(row["uri"]).stem for row in run.tables["samples"].to_pylist()}
    rows = [row for row in run.tables["findings"].to_pylist() if row["check"] == "mask_noise" and row["flagged"]]
    return {
        (
            stems[row["sample_id"]],
            row["issue"].removeprefix("region_"),
            tuple(json.loads(row["reason_args"])["bbox_px"]),
            row["suggested_label"],
        ): row["risk"]
        for row in rows
    }


def flagged_by_flag(folder: Path) -> dict[tuple[Any, ...], float]:
    teachers = {"seg": folder / "seen", "more": folder / "more"}
    curate.flag_masks(folder / "data" / "masks", teachers, folder / "flags.parquet", classes=NAMES)
    rows = [row for row in pq.read_table(folder / "flags.parquet").to_pylist() if row["flagged"]]
    return {
        (row["image"], row["issue"], tuple(row["bbox"]), row["suggested_label"]): row["risk"]
        for row in rows
        if row["issue"] != "image"
    }


def test_a_run_and_the_command_flag_find_the_same_in_the_same_probabilities(doubtful: Path) -> None:
    expected = flagged_by_flag(doubtful)
    assert {issue for _, issue, _, _ in expected} >= {"wrong_class", "spurious", "missing"}
    assert flagged_by_run(doubtful, workers=3) == expected


def test_a_teacher_that_calls_and_orders_its_classes_otherwise_is_read_as_it_means_them(doubtful: Path) -> None:
    expected = flagged_by_flag(doubtful)
    order = [2, 0, 1]
    for file in (doubtful / "more").iterdir():
        np.save(file, np.load(file)[order])
    own = f"classes: [{', '.join(NAMES[one] for one in order)}]"
    (doubtful / "streets.yaml").write_text(SPEC + f"  - {{kind: masks, name: more, path: more, {own}}}\n")
    assert flagged_by_run(doubtful) == pytest.approx(expected)


def test_a_teacher_with_a_file_that_cannot_be_used_is_errored_and_the_other_goes_on(doubtful: Path) -> None:
    np.save(doubtful / "more" / "7.npy", np.full((3, 60, 80), 3.0))
    run = curate.run(doubtful / "streets.yaml", workspace=doubtful / "ws", until="flag", review=False)
    rows = run.tables["statistics"].to_pylist()
    outcomes = {row["group"]: row["outcome"] for row in rows if row["check"] == "teachers" and row["name"] == "ran"}
    assert outcomes == {"teacher=more": "errored", "teacher=seg": None}
    (why,) = (json.loads(row["detail"])["message"] for row in rows if row["group"] == "teacher=more")
    assert "7.npy must hold numbers from 0 that sum to 1" in why
    weighed = [row["group"] for row in rows if row["check"] == "mask_noise" and row["name"] == "teacher_weight"]
    assert weighed == ["teacher=seg"]


def test_what_was_measured_is_kept_for_a_run_that_goes_on(doubtful: Path, tmp_path: Path) -> None:
    run = curate.run(doubtful / "streets.yaml", workspace=doubtful / "ws", until="scan", review=False)
    labels = views.labels_view(run.tables["labels"], views.samples_view(run.tables["samples"], run.tables["scan"]))
    spec = MasksSpec(kind="masks", name="seg", path="seen")
    asked = asked_of(spec, pc.unique(labels["uri"]).to_pylist(), doubtful / "seen", NAMES)
    done: list[int] = []

    def find() -> pa.Table:
        return find_regions(
            [asked], labels, NAMES, folder=tmp_path / "kept", progress=lambda n, _: done.append(n)
        ).table

    first = find()
    assert done == [16, N]
    assert find().equals(first)
    assert done == [16, N]
    assert first["sample_id"].to_pylist() == sorted(first["sample_id"].to_pylist())


def test_what_was_measured_under_other_names_of_the_classes_is_measured_anew(folder: Path) -> None:
    run = curate.run(folder / "streets.yaml", workspace=folder / "ws", until="scan", review=False)
    labels = views.labels_view(run.tables["labels"], views.samples_view(run.tables["samples"], run.tables["scan"]))

    def find(names: list[str], kept: str) -> pa.Table:
        spec = MasksSpec(kind="masks", name="seg", path="seen", classes=names)
        asked = asked_of(spec, pc.unique(labels["uri"]).to_pylist(), folder / "seen", NAMES)
        return find_regions([asked], labels, NAMES, folder=folder / kept).table

    turned = ["car", "tree", "road"]
    right, wrong = find(NAMES, "one"), find(turned, "two")
    assert not wrong.equals(right)
    assert find(turned, "one").equals(wrong)
