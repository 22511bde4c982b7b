"""Real releases from small real runs: pictures with a class that looks like HTML, and street scenes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import curate
from curate.state import RunResult

HOSTILE = "<script>alert('x')</script>"
CLASSES = ("a & b", HOSTILE)
SPEC = """
name: shapes
description: "Bars and rings <img src=http://example.org/x.png>"
source:
  format: table
  path: labels.csv
  columns: {image: file, label: label, split: split, reference_label: truth}
task: classification
attributes:
  hand: {column: hand, obtained: perceived}
teachers:
  - {kind: probes, features: pixels, folds: 3, classifiers: [linear, neighbours]}
"""


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("shapes")
    _draw(folder)
    (folder / "shapes.yaml").write_text(SPEC, encoding="utf-8")
    return curate.run(folder / "shapes.yaml", workspace=folder / "ws", review=False, workers=1)


@pytest.fixture(scope="session")
def street(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("street")
    spec = Path(__file__).parents[2] / "datasets" / "street.yaml"
    return curate.run(spec, workspace=folder / "ws", review=False, workers=1)


def _draw(folder: Path) -> None:
    """Write 80 pictures of bars and rings, four of them with the other label, one copied, one damaged."""
    import cv2  # noqa: PLC0415 - as in the package

    rng = np.random.default_rng(7)
    rows = []
    for number in range(80):
        kind = number % 2
        image = rng.integers(150, 190, (48, 48, 3), dtype=np.uint8)
        x, y = (int(v) for v in rng.integers(16, 32, 2))
        if kind:
            cv2.circle(image, (x, y), int(rng.integers(8, 14)), (20, 20, 200), 3)
        else:
            cv2.line(image, (x, 2), (y, 46), (200, 40, 20), 4)
        name = f"{number:03}.png"
        cv2.imwrite(str(folder / name), image)
        hand = "left" if number < 4 else "right" if number < 70 else ""
        given = 1 - kind if number in {10, 21, 32, 43} else kind
        split = "test" if number % 4 == 0 else "train"
        rows.append((name, CLASSES[given], split, CLASSES[kind], hand))
    (folder / "copy.png").write_bytes((folder / "001.png").read_bytes())
    (folder / "damaged.png").write_bytes((folder / "002.png").read_bytes()[:200])
    rows += [("copy.png", CLASSES[1], "test", CLASSES[1], "right"), ("damaged.png", CLASSES[0], "train", "", "")]
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("file", "label", "split", "truth", "hand"), *rows])
