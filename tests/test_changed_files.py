"""What changed in the source is noticed by the next run, however the source names its files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import curate


def picture(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((16, 16, 3), shade, dtype=np.uint8)).save(path)


def spec_of_table(folder: Path) -> Path:
    (folder / "labels.csv").write_text("file,label\nimages/0.png,cat\nimages/1.png,dog\nimages/2.png,cat\n")
    spec = folder / "few.yaml"
    spec.write_text(
        "name: few\nteachers: []\nsource: {format: table, path: labels.csv, columns: {image: file, label: label}}\n"
    )
    return spec


def spec_of_coco(folder: Path) -> Path:
    images = ", ".join(f'{{"id": {n}, "file_name": "images/{n}.png", "width": 16, "height": 16}}' for n in range(3))
    (folder / "boxes.json").write_text(
        f'{{"images": [{images}], "categories": [{{"id": 1, "name": "cat"}}], '
        '"annotations": [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 1, 8, 8]}]}'
    )
    spec = folder / "few.yaml"
    spec.write_text("name: few\nteachers: []\nsource: {format: coco, path: boxes.json}\n")
    return spec


def shas(spec: Path, **options: bool) -> dict[str, str | None]:
    result = curate.run(spec, until="scan", review=False, workers=1, workspace=spec.parent / "workspace", **options)
    joined = (
        result.tables["samples"]
        .select(["sample_id", "uri"])
        .join(result.tables["scan"].select(["sample_id", "content_sha256"]), "sample_id")
    )
    return dict(zip(joined["uri"].to_pylist(), joined["content_sha256"].to_pylist(), strict=True))


@pytest.mark.parametrize("spec_of", [spec_of_table, spec_of_coco])
def test_images_that_a_file_names_are_looked_at_in_every_run(
    tmp_path: Path, spec_of: Callable[[Path], Path]
) -> None:
    spec = spec_of(tmp_path)
    picture(tmp_path / "images" / "0.png", 10)
    picture(tmp_path / "images" / "1.png", 20)
    before = shas(spec)
    assert sorted(before) == ["images/0.png", "images/1.png"]

    picture(tmp_path / "images" / "1.png", 200)  # another picture under the old name
    picture(tmp_path / "images" / "2.png", 30)  # one that was missing has come
    after = shas(spec)

    assert sorted(after) == ["images/0.png", "images/1.png", "images/2.png"]
    assert after["images/0.png"] == before["images/0.png"]
    assert after["images/1.png"] != before["images/1.png"]


def test_what_rehash_found_is_what_later_runs_go_by(tmp_path: Path) -> None:
    spec = spec_of_table(tmp_path)
    for number in range(3):
        picture(tmp_path / "images" / f"{number}.png", 10 * number)
    before = shas(spec)
    file = tmp_path / "images" / "1.png"
    stat = file.stat()
    picture(file, 11)
    assert file.stat().st_size == stat.st_size
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    assert shas(spec) == before  # size and time are as they were
    rehashed = shas(spec, rehash=True)
    assert rehashed["images/1.png"] != before["images/1.png"]
    assert shas(spec) == rehashed
    assert shas(spec, rehash=True) == rehashed
