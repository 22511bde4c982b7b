"""The teacher `masks` in a spec: from folders of PNGs to findings, without any other teacher being asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import curate

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
