"""How a whole run grows: seconds, CPU and memory of each stage at two sizes, and what a second run costs.

    python benchmarks/pipeline/scale.py --n 60000

    python benchmarks/pipeline/scale.py --n 300000 --classes 100 --review

    python benchmarks/pipeline/scale.py --n 150000 --classes 20 --boxes

Small JPEGs are drawn into Parquet shards (labels of which a tenth is wrong, groups, annotators, splits, one in a hundred
a copy), with a table of a teacher's probabilities; with --boxes into a folder beside COCO files of seven boxes an
image and of two detectors (drawn_boxes.py). Each size runs in a process of its own, three times: everything
new, nothing changed, and one shard in a hundred changed. The exponent is log(seconds ratio) / log(size ratio): 1 is
linear. Memory is the resident memory of the process and its workers at its peak, sampled; mongod stands apart.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from drawn_boxes import SPEC as BOXES_SPEC
from drawn_boxes import draw_boxes, draw_pictures

N_SHARDS = 100
SECONDS_SHOWN = 0.5
SPEC = """\
name: scale
source:
  format: table
  path: shards
  columns: {{image: image, name: file, label: label, annotator: annotator, split: split}}
classes: [{classes}]
groups: {{video: group}}
teachers: [{teacher}]
policy: {{use_default_gates: false}}
"""
TABLE = "{kind: table, name: one, path: teacher.parquet, out_of_fold: true}"
PROBES = "{kind: probes}"


def main() -> None:
    """Measure both sizes and print them side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=60_000, help="images of the larger run; the smaller has a fifth")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--probes", action="store_true", help="curate's own classifiers in the place of a table")
    parser.add_argument("--boxes", action="store_true", help="boxes and two detectors, about seven boxes an image")
    parser.add_argument("--review", action="store_true", help="load the FiftyOne view too")
    parser.add_argument("--keep", type=Path, help="folder to work in, kept; default: a temporary one")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        json.dump(measured(arguments.measure, review=arguments.review), sys.stdout)
        return
    if arguments.keep:
        report(arguments, arguments.keep.resolve())
        return
    with tempfile.TemporaryDirectory(prefix="curate-scale-") as folder:
        report(arguments, Path(folder))


def report(arguments: argparse.Namespace, folder: Path) -> None:
    """Draw both sets, run them, and print stages, growth and what a second run costs."""
    sizes = (arguments.n // 5, arguments.n)
    runs = [three_runs(folder / str(n), n, arguments) for n in sizes]
    print(f"{sizes[0]:,} and {sizes[1]:,} images, {arguments.classes} classes\n")
    print(f"{'':<30}{'seconds':>17}{'CPU s':>15}{'exponent':>10}{'peak MB':>15}")
    few, many = (run["new"] for run in runs)
    for stage, (seconds, cpu, peak) in many["stages"].items():
        before = few["stages"].get(stage, (0.0, 0.0, 0.0))
        if seconds >= SECONDS_SHOWN:
            print(line(stage, (before[0], seconds), (before[1], cpu), (before[2], peak), sizes))
    for kind, told in (
        ("new", "everything new"),
        ("again", "nothing changed"),
        ("changed", "1 shard in 100 changed"),
    ):
        pair = [run[kind] for run in runs]
        print(line(told, *(tuple(one[key] for one in pair) for key in ("seconds", "cpu", "peak")), sizes))
    slope = (many["peak"] - few["peak"]) / (sizes[1] - sizes[0])
    print(f"\n{many['n'] / many['seconds']:,.0f} images/s; {slope / 1e3:,.1f} kB of memory an image")
    print(f"state on disk: {many['disk'] / 1e6:,.0f} MB; report: {many['report'] / 1e3:,.0f} kB; {many['id'][:12]}")
    at_million = few["peak"] + slope * (1e6 - sizes[0])
    print(f"A million images would take {at_million / 1e9:.1f} GB, if it goes on like this: not measured.")


def line(
    name: str, seconds: tuple[float, ...], cpu: tuple[float, ...], peak: tuple[float, ...], sizes: tuple[int, int]
) -> str:
    """Return both sizes of each number, and the exponent of the CPU seconds: they know no other users."""
    few, many = cpu
    grown = f"{math.log(many / few) / math.log(sizes[1] / sizes[0]):.2f}" if few >= SECONDS_SHOWN / 5 else "–"  # noqa: RUF001
    return (
        f"{name:<30}{seconds[0]:>8.1f}{seconds[1]:>9.1f}{few:>7.1f}{many:>8.1f}{grown:>10}"
        f"{peak[0] / 1e6:>7,.0f}{peak[1] / 1e6:>8,.0f}"
    )


def three_runs(folder: Path, n: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what each of the three runs took."""
    names = class_names(arguments.classes)
    if arguments.boxes:
        draw_boxes(folder, n, names)
    else:
        draw(folder, n, arguments.classes)
    teacher, spec = PROBES if arguments.probes else TABLE, BOXES_SPEC if arguments.boxes else SPEC
    (folder / "scale.yaml").write_text(spec.format(classes=", ".join(names), teacher=teacher))
    told = {"new": run(folder, review=arguments.review), "again": run(folder, review=arguments.review)}
    if arguments.boxes:
        draw_pictures(folder, n, 0, variant=1)
    else:
        draw_shard(folder, n, arguments.classes, 0, variant=1)
    told["changed"] = run(folder, review=arguments.review)
    if arguments.review:
        stop = [sys.executable, "-m", "curate", "db", "stop", "--workspace", str(folder / "workspace")]
        subprocess.run(stop, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own interpreter
    return told


def run(folder: Path, *, review: bool) -> dict[str, Any]:
    """Measure one run in a process of its own."""
    command = [sys.executable, __file__, "--measure", str(folder), *(["--review"] if review else [])]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - as above
    if done.returncode:
        sys.exit(done.stderr)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


class Watch:
    """Hears of stages; notes seconds, CPU seconds and memory of each, and of what lies between them."""

    def __init__(self) -> None:
        self.stages: dict[str, list[float]] = {}
        self._workers: dict[int, float] = {}  # process -> its CPU seconds so far: nobody here waits for it
        self._stage, self._seconds, self._cpu, self._peak = "start", time.monotonic(), 0.0, 0
        threading.Thread(target=self._sample, daemon=True).start()

    def stage_started(self, stage: str) -> None:
        """Close what came before."""
        self._close(stage)

    def progress(self, n_done: int, n_total: int | None) -> None:
        """Say nothing."""

    def stage_done(self, stage: str, seconds: float, *, cached: bool, note: str) -> None:  # noqa: ARG002 - as called
        """Close the stage."""
        self._close(f"after {stage}")

    def _close(self, following: str) -> None:
        own = os.times()
        seconds, cpu = time.monotonic(), own.user + own.system + sum(self._workers.copy().values())
        told = self.stages.setdefault(self._stage, [0.0, 0.0, 0.0])
        told[0] += seconds - self._seconds
        told[1] += cpu - self._cpu
        told[2] = max(told[2], self._peak)
        self._stage, self._seconds, self._cpu, self._peak = following, seconds, cpu, 0

    def _sample(self) -> None:
        """Look twenty times a second; memory that processes share counts for each of them."""
        me = psutil.Process()
        while True:
            total = me.memory_info().rss
            for one in me.children(recursive=True):
                try:
                    if one.name() != "mongod":
                        total += one.memory_info().rss
                        self._workers[one.pid] = sum(one.cpu_times()[:2])
                except psutil.NoSuchProcess:
                    continue
            self._peak = max(self._peak, total)
            time.sleep(0.05)


def measured(folder: Path, *, review: bool) -> Mapping[str, Any]:
    """Run the spec in `folder` and return what it took."""
    watch, began_s = Watch(), time.monotonic()
    from curate.pipeline import run as run_pipeline  # noqa: PLC0415 - its import is a part of what a run takes

    workspace = folder / "workspace"
    result = run_pipeline(folder / "scale.yaml", workspace=workspace, review=review, listener=watch)
    watch.stage_started("end")
    state = (path for part in ("scale", "manifests") for path in (workspace / part).rglob("*"))
    return {
        "n": result.counts["n_images"],
        "seconds": time.monotonic() - began_s,
        "cpu": sum(cpu for _, cpu, _ in watch.stages.values()),
        "peak": max(peak for _, _, peak in watch.stages.values()),
        "stages": watch.stages,
        "disk": sum(path.lstat().st_size for path in state if path.is_file()),
        "report": result.report.stat().st_size if result.report else 0,
        "id": result.published.id if result.published else "",
    }


def class_names(n_classes: int) -> list[str]:
    """Return c000, c001, …"""
    return [f"c{number:03}" for number in range(n_classes)]


def draw(folder: Path, n: int, n_classes: int) -> None:
    """Write `n` small JPEGs in shards, and a teacher's probabilities, right for nine rows in ten."""
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    drawn = [draw_shard(folder, n, n_classes, shard) for shard in range(N_SHARDS)]
    random = np.random.default_rng(0)
    parts = []
    for names, truth in drawn:
        logits = random.normal(0, 1, (len(truth), n_classes)).astype(np.float32)
        logits[np.arange(len(truth)), truth] += np.where(random.random(len(truth)) < 0.9, 6.0, 0.0)
        probs = np.exp(logits - logits.max(axis=1, keepdims=True))
        probs /= probs.sum(axis=1, keepdims=True)
        column = pa.FixedSizeListArray.from_arrays(pa.array(probs.astype(np.float16).ravel()), n_classes)
        parts.append(pa.table({"uri": names, "prob_one": column}))
    pq.write_table(pa.concat_tables(parts), folder / "teacher.parquet")


def draw_shard(folder: Path, n: int, n_classes: int, shard: int, variant: int = 0) -> tuple[list[str], np.ndarray]:
    """Write one shard and return its file names and true classes; another variant has other bytes in each image."""
    n_rows = n // N_SHARDS
    truth_of, random = np.random.default_rng(shard), np.random.default_rng((shard, variant))
    truth = truth_of.integers(0, n_classes, n_rows)
    given = np.where(truth_of.random(n_rows) < 0.1, truth_of.integers(0, n_classes, n_rows), truth)
    images = [picture(random, int(one), n_classes) for one in truth]
    for row in range(100, n_rows, 100):
        images[row] = images[row - 1]
    files = [f"{shard:02}/{row:06}.jpg" for row in range(n_rows)]
    names = class_names(n_classes)
    table = pa.table(
        {
            "image": pa.array(images, pa.binary()),
            "file": files,
            "label": [names[one] for one in given],
            "group": [f"video-{shard}-{row // 20}" for row in range(n_rows)],
            "annotator": [f"annotator-{row % 50}" for row in range(n_rows)],
            "split": np.where(np.arange(n_rows) // 20 % 5 == 0, "val", "train"),
        }
    )
    pq.write_table(table, folder / "shards" / f"{shard:02}.parquet", compression="none", row_group_size=2_000)
    return files, truth


def picture(random: np.random.Generator, label: int, n_classes: int) -> bytes:
    """Return a JPEG of 32 to 64 px: coarse blobs, and a stripe pattern that depends on the class."""
    side = int(random.integers(32, 65))
    coarse = random.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    blobs = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    angle = math.pi * label / n_classes
    across = np.add.outer(np.arange(side) * math.sin(angle), np.arange(side) * math.cos(angle))
    stripes = (60 * np.sin(across / 2)).astype(np.int16)
    mixed = np.clip(blobs.astype(np.int16) // 2 + stripes[..., None] + 64, 0, 255).astype(np.uint8)
    encoded: bytes = cv2.imencode(".jpg", mixed, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
    return encoded


if __name__ == "__main__":
    main()
