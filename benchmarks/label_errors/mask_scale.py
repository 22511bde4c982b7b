"""CPU time and memory of `curate flag --task segmentation` on masks as large as street cameras make them.

    python benchmarks/label_errors/mask_scale.py FOLDER [--masks 32 64] [--height 1024] [--width 2048] [--classes 19]

Draws masks of smooth regions with one wrong rectangle each, and two teachers: PNGs at full size, float16 probabilities
at a quarter. Eight different ones are drawn, the others are links to them. Each number of masks is judged by a process of
its own; memory that does not grow with their number is what a set of any size needs.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from curate.teachers.regions.flag_masks import flag_masks

N_DRAWN = 8
SHRUNK = 4  # probabilities come at a quarter of the size


def draw(folder: Path, n: int, height: int, width: int, n_classes: int) -> None:
    """Write `n` masks and both teachers' answers, all but the first few as links."""
    for name in ("labels", "ids", "maps"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for at in range(min(n, N_DRAWN)):
        random = np.random.default_rng(at)
        small = (width // SHRUNK, height // SHRUNK)
        coarse = random.normal(size=(n_classes, 9, 17)).astype(np.float32)
        field = np.stack([cv2.resize(one, small, interpolation=cv2.INTER_LINEAR) for one in coarse])
        odds = np.exp(3.0 * field)
        np.save(folder / "maps" / f"{at:05}.npy", (odds / odds.sum(axis=0)).astype(np.float16))
        ids = np.kron(field.argmax(axis=0), np.ones((SHRUNK, SHRUNK), dtype=np.int64)).astype(np.uint8)
        Image.fromarray(ids).save(folder / "ids" / f"{at:05}.png")
        top, left = random.integers(0, ids.shape[0] - 60), random.integers(0, ids.shape[1] - 80)
        ids[top : top + 60, left : left + 80] = random.integers(n_classes)
        Image.fromarray(ids).save(folder / "labels" / f"{at:05}.png")
    for at in range(N_DRAWN, n):
        for name, ending in (("labels", "png"), ("ids", "png"), ("maps", "npy")):
            link = folder / name / f"{at:05}.{ending}"
            if not link.exists():
                os.link(folder / name / f"{at % N_DRAWN:05}.{ending}", link)


def judge(folder: Path, n_classes: int) -> None:
    teachers = {"ids": folder / "ids", "maps": folder / "maps"}
    cpu, wall = time.process_time(), time.perf_counter()
    found = flag_masks(
        folder / "labels", teachers, folder / "flags.parquet", classes=[str(k) for k in range(n_classes)]
    )
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{found.n_images:,} masks, {found.n_regions:,} regions: {cpu / found.n_images:.2f} CPU-s a mask, "
        f"{wall:.0f} s, peak {peak_mb:,.0f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--masks", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--height", type=int, default=1024)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--judge", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.judge:
        judge(options.folder, options.classes)
        return
    for n in options.masks:
        folder = options.folder / f"{n}-masks"
        draw(folder, n, options.height, options.width, options.classes)
        again = [sys.executable, __file__, str(folder), "--classes", str(options.classes), "--judge"]
        subprocess.run(again, check=True)  # noqa: S603 - this file, in a process of its own


if __name__ == "__main__":
    main()
