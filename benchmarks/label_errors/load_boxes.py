"""How long labels and detections take to load, beside pycocotools' own COCO() and loadRes() on the same files.

    python benchmarks/label_errors/load_boxes.py [--boxes 1000000] [--repeats 1]

Made files, ten boxes an image, as many detections as boxes. Both take turns, `repeats` times, each time in a process of
its own; the fastest counts. CPU seconds are without the start of Python; the peak of memory is of the whole process.
The ratio of CPU seconds is the claim: below 1, curate is faster.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

READERS = ("curate", "pycocotools")


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


def load(reader: str, labels: Path, found: Path) -> None:
    """Load both files once; print CPU seconds, seconds and peak MB as JSON."""
    if reader == "curate":
        from curate.teachers.boxes.coco import read_detections, read_labels  # noqa: PLC0415 - one reader a process
    else:
        from pycocotools.coco import COCO  # noqa: PLC0415 - as above
    started, cpu = time.perf_counter(), time.process_time()
    if reader == "curate":
        kept: object = read_detections(found, "made", read_labels(labels))
    else:
        with contextlib.redirect_stdout(io.StringIO()):
            kept = COCO(str(labels)).loadRes(str(found))
    took = (time.process_time() - cpu, time.perf_counter() - started)
    del kept
    print(json.dumps([*took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def timed(reader: str, labels: Path, found: Path) -> list[float]:
    """Return CPU seconds, seconds and peak MB of a reader in a process of its own."""
    command = [sys.executable, __file__, "--reader", reader, "--labels", str(labels), "--found", str(found)]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603 - this very file
    return [float(value) for value in json.loads(told.stdout)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--reader", choices=READERS, help=argparse.SUPPRESS)
    parser.add_argument("--labels", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--found", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reader:
        load(options.reader, options.labels, options.found)
        return
    with tempfile.TemporaryDirectory() as folder:
        print(f"making {options.boxes:,} labels and as many detections", flush=True)
        # in a process of its own too: what a child's memory is counted from is what its parent held
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as maker:
            files = maker.submit(write, Path(folder), options.boxes).result()
        runs: dict[str, list[list[float]]] = {reader: [] for reader in READERS}
        for _ in range(options.repeats):
            for reader, found in runs.items():
                found.append(timed(reader, *files))
                print(
                    f"{reader}: {found[-1][0]:.1f} CPU s, {found[-1][1]:.1f} s, {found[-1][2]:.0f} MB", flush=True
                )
    best = {reader: [min(column) for column in zip(*found, strict=True)] for reader, found in runs.items()}
    ours, theirs = (best[reader] for reader in READERS)
    print(f"ratio curate / pycocotools: {ours[0] / theirs[0]:.2f} of CPU time, {ours[2] / theirs[2]:.2f} of memory")


if __name__ == "__main__":
    main()
