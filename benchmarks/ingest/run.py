"""Time and peak memory of reading many rows and labels: what a run does before it looks at a pixel.

    python benchmarks/ingest/run.py
    python benchmarks/ingest/run.py --n-files 20000 coco

Files of one byte are written to folders of a thousand, then read as

- `folder`: a folder per class, a row a file;
- `table`: a Parquet table of paths and labels, five annotators an image;
- `bytes`: a Parquet table that holds the images themselves, a row an image, five times as many;
- `coco`: half of the files with ten boxes each.

Each format is read in a process of its own. `limit` is a bare loop over the same rows that makes nothing but the ids
(a sha256 for each sample, label and row) and lists of tuples: what Python itself takes for as many rows.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

N_CLASSES = 20
N_ANNOTATORS = 5
N_BOXES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formats", nargs="*", default=["folder", "table", "bytes", "coco"])
    parser.add_argument("--n-files", type=int, default=200_000)
    parser.add_argument("--keep", type=Path, help="folder to work in, kept and used again")
    parser.add_argument("--read", help="internal: read one format in this process")
    arguments = parser.parse_args()
    if arguments.read:
        print(json.dumps(read(arguments.read, arguments.keep, arguments.n_files)))
    elif arguments.keep:
        report(arguments.formats, arguments.keep.resolve(), arguments.n_files)
    else:
        with tempfile.TemporaryDirectory(prefix="curate-ingest-") as folder:
            report(arguments.formats, Path(folder), arguments.n_files)


def report(formats: list[str], folder: Path, n_files: int) -> None:
    print(
        f"{'':<8}{'rows':>11}{'images':>10}{'labels':>11}{'s':>8}{'CPU s':>8}{'CPU s/1M':>10}{'limit':>7}{'peak MB':>9}"
    )
    for name in formats:
        WRITERS[name](folder, n_files)
        command = [sys.executable, __file__, "--read", name, "--keep", str(folder), "--n-files", str(n_files)]
        told = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - this file
        if told.returncode:
            sys.exit(told.stderr)
        one = json.loads(told.stdout)
        print(
            f"{name:<8}{one['rows']:>11,}{one['images']:>10,}{one['labels']:>11,}{one['wall_s']:>8.1f}{one['cpu_s']:>8.1f}"
            f"{one['cpu_s'] / one['rows'] * 1e6:>10.1f}{limit_s(one['rows']) / one['rows'] * 1e6:>7.1f}"
            f"{one['peak_mb']:>9,.0f}"
        )


def read(name: str, folder: Path, n_files: int) -> dict[str, Any]:
    from curate.ingest import ReadOptions, read_rows, source_named  # noqa: PLC0415 - so that `limit_s` stands alone

    options, columns, root = {
        "folder": ({}, {}, folder / "files"),
        "table": ({"images": "files"}, {"image": "path", "label": "label", "annotator": "annotator"}, folder),
        "bytes": ({}, {"image": "image", "label": "label"}, folder / f"bytes-{n_files}.parquet"),
        "coco": ({"annotations": f"coco-{n_files}.json", "images": "files"}, {}, folder),
    }[name]
    if name == "table":
        root = folder / f"table-{n_files}.parquet"
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    given = ReadOptions(source="b", root=root, columns=columns, options=options, scratch=folder / "scratch")
    found = read_rows(source_named({"bytes": "table"}.get(name, name)), given)
    return {
        "rows": found.outcomes.num_rows,
        "images": found.samples.num_rows,
        "labels": found.labels.num_rows,
        "wall_s": time.perf_counter() - start_s,
        "cpu_s": time.process_time() - start_cpu_s,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
    }


def limit_s(n_rows: int) -> float:
    start_s = time.process_time()
    rows = []
    for number in range(n_rows):
        text = str(number)
        sample = hashlib.sha256(text.encode()).hexdigest()[:24]
        label = hashlib.sha256(sample.encode()).hexdigest()[:24]
        rows.append((text, "image", "added", None, None, sample, label))
    return time.process_time() - start_s


def path_of(number: int) -> str:
    return f"class-{number % N_CLASSES:02}/{number // 1000:05}/{number:07}.jpg"


def write_folder(folder: Path, n_files: int) -> None:
    for number in range(n_files):
        file = folder / "files" / path_of(number)
        if number < 1000 * N_CLASSES or number % 1000 < N_CLASSES:
            file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            file.write_bytes(b"x")


def write_table(folder: Path, n_files: int) -> None:
    write_folder(folder, n_files)
    numbers = np.repeat(np.arange(n_files), N_ANNOTATORS)
    table = pa.table(
        {
            "path": [path_of(int(number)) for number in numbers],
            "label": [f"class {number % N_CLASSES}" for number in numbers],
            "annotator": [f"annotator {at}" for at in np.arange(len(numbers)) % N_ANNOTATORS],
        }
    )
    pq.write_table(table, folder / f"table-{n_files}.parquet")


def write_bytes(folder: Path, n_files: int) -> None:
    n = n_files * N_ANNOTATORS
    table = pa.table(
        {
            "image": pa.array([b"\xff\xd8\xff%d" % number for number in range(n)], pa.binary()),
            "label": [f"class {number % N_CLASSES}" for number in range(n)],
        }
    )
    pq.write_table(table, folder / f"bytes-{n_files}.parquet")


def write_coco(folder: Path, n_files: int) -> None:
    write_folder(folder, n_files)
    n = n_files // 2
    boxes = np.random.default_rng(0).integers(0, 300, (n * N_BOXES, 4)).tolist()
    document = {
        "images": [{"id": at, "file_name": path_of(at), "width": 640, "height": 640} for at in range(n)],
        "categories": [{"id": at, "name": f"class {at}"} for at in range(N_CLASSES)],
        "annotations": [
            {
                "id": at,
                "image_id": at // N_BOXES,
                "category_id": at % N_CLASSES,
                "bbox": [x, y, w + 1, h + 1],
                "iscrowd": 0,
            }
            for at, (x, y, w, h) in enumerate(boxes)
        ],
    }
    (folder / f"coco-{n_files}.json").write_text(json.dumps(document), encoding="utf-8")


WRITERS: dict[str, Callable[[Path, int], None]] = {
    "folder": write_folder,
    "table": write_table,
    "bytes": write_bytes,
    "coco": write_coco,
}

if __name__ == "__main__":
    main()
