"""How long labels and detections take to load, beside pycocotools' own COCO() and loadRes() on the same files.

    python benchmarks/label_errors/load_boxes.py [--boxes 1000000] [--repeats 3]

Made files, ten boxes an image, as many detections as boxes. Each is read `repeats` times in turn, in one process; the
fastest counts. The ratio is the claim: below 1, curate is faster.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO

from curate.teachers.boxes.coco import read_detections, read_labels


def write(folder: Path, n_boxes: int) -> tuple[Path, Path]:
    random = np.random.default_rng(0)
    n_images = max(n_boxes // 10, 1)
    image, category = random.integers(n_images, size=n_boxes).tolist(), random.integers(1, 81, n_boxes).tolist()
    boxes = np.round(random.uniform(1, 300, (n_boxes, 4)), 2).tolist()
    scores = np.round(random.uniform(0, 1, n_boxes), 4).tolist()
    common = [{"image_id": i, "category_id": c, "bbox": b} for i, c, b in zip(image, category, boxes, strict=True)]
    labels, found = folder / "labels.json", folder / "found.json"
    content: dict[str, Any] = {
        "images": [{"id": k, "file_name": f"{k}.jpg", "width": 640, "height": 640} for k in range(n_images)]
    }
    content["categories"] = [{"id": k, "name": f"class {k}"} for k in range(1, 81)]
    content["annotations"] = [
        {**one, "id": k + 1, "area": one["bbox"][2] * one["bbox"][3], "iscrowd": 0} for k, one in enumerate(common)
    ]
    labels.write_text(json.dumps(content))
    found.write_text(json.dumps([{**one, "score": s} for one, s in zip(common, scores, strict=True)]))
    return labels, found


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        labels, found = write(Path(folder), options.boxes)

        def theirs() -> None:
            with contextlib.redirect_stdout(io.StringIO()):
                COCO(str(labels)).loadRes(str(found))

        def ours() -> None:
            read_detections(found, "made", read_labels(labels))

        times: dict[str, list[float]] = {"curate": [], "pycocotools": []}
        for _ in range(options.repeats):
            times["curate"].append(seconds(ours))
            times["pycocotools"].append(seconds(theirs))
    best = {name: min(values) for name, values in times.items()}
    for name, value in best.items():
        print(f"{name}: {value:.1f} s for {options.boxes:,} labels and as many detections")
    print(f"ratio curate / pycocotools: {best['curate'] / best['pycocotools']:.2f}")


if __name__ == "__main__":
    main()
