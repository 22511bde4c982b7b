"""Small scenes with errors in their masks, run with two segmenters, for tests of decisions on single regions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import curate
from curate.ingest.rle import decode_mask
from curate.manifest.verify import verify
from curate.state import RunResult

N, SIZE = 12, (48, 64)
CLASSES = ("ground", "box", "disc")
WRONG, ALSO, GONE = 3, 5, 7  # images with errors
FALSE_BOX, MORE_BOX = (slice(30, 42), slice(40, 56)), (slice(28, 40), slice(44, 60))


def scene(number: int) -> np.ndarray:
    ids = np.zeros(SIZE, dtype=np.uint8)
    ids[4:22, 2 + number : 20 + number] = 1
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    ids[(y - 34) ** 2 + (x - 16 - number) ** 2 < 64] = 2
    return ids


def labeled(number: int) -> np.ndarray:
    ids = scene(number)
    if number == WRONG:
        ids[FALSE_BOX] = 1
    if number == ALSO:
        ids[MORE_BOX] = 1
    if number == GONE:
        ids[ids == 2] = 0
    return ids


def write_scenes(root: Path, name: str) -> Path:
    """Write images, masks, what two segmenters say and a spec; return the spec."""
    for folder in ("images", "masks", "ids", "net"):
        (root / folder).mkdir()
    random = np.random.default_rng(0)
    for number in range(N):
        pixels = random.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"zq{number:02}.png")
        Image.fromarray(labeled(number)).save(root / "masks" / f"zq{number:02}.png")
        ids, net = scene(number), scene(number)
        ids[(ids == 1) & (number in {0, 4, 9})] = (
            0  # a teacher that is always of the labels' opinion is not believed
        )
        net[(net == 2) & (number in {2, 6, 10})] = 0
        Image.fromarray(ids).save(root / "ids" / f"zq{number:02}.png")
        seen = np.eye(3, dtype=np.float32)[net].transpose(2, 0, 1)
        np.save(root / "net" / f"zq{number:02}.npy", (0.94 * seen + 0.02).astype(np.float16))
    (root / "scenes.yaml").write_text(
        f"name: {name}\n"
        "source: {format: masks, path: ., images: images, masks: masks}\n"
        f"classes: [{', '.join(CLASSES)}]\n"
        "teachers: [{kind: masks, name: ids, path: ids}, {kind: masks, name: net, path: net}]\n"
        "policy: {soft_masks_cells: 16, rules: [{issue: near_duplicate, action: keep}]}\n"
    )
    return root / "scenes.yaml"


def run(spec: Path, workspace: Path, *, review: bool = False) -> RunResult:
    return curate.run(spec, workspace=workspace, review=review)


def in_doubt(result: RunResult, number: int) -> dict[str, Any]:
    """Return the flagged finding about an image."""
    (sample,) = (r for r in result.tables["samples"].to_pylist() if r["uri"].endswith(f"zq{number:02}.png"))
    findings = [r for r in result.tables["findings"].to_pylist() if r["check"] == "mask_noise" and r["flagged"]]
    (one,) = (row for row in findings if row["sample_id"] == sample["sample_id"])
    return one


def released(result: RunResult, number: int) -> dict[str, dict[str, Any]]:
    assert result.release is not None
    rows = [r for r in result.release.data.to_pylist() if r["uri"].endswith(f"zq{number:02}.png")]
    return {row["released_label"]: row for row in rows}


def pixels(row: dict[str, Any]) -> np.ndarray:
    return np.asarray(decode_mask(row["mask"]), dtype=bool)


def broken(result: RunResult) -> list[str]:
    assert result.published is not None
    return [f"{one.name}: {one.detail}" for one in verify(result.published.path, deep=True) if one.ok is False]
