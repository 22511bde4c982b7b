"""What a run costs in disk and memory for each image: measured at two sizes, so that fixed costs stand apart.

    python benchmarks/disk/measure.py --n 2000

    python benchmarks/disk/measure.py --n 20000 --side 16 --tables-only

Small noisy images of a few classes are generated; the pipeline runs without and then with the FiftyOne view. Bytes
per image are the slope between N/4 and N images; what is left is the fixed cost. Every number is from this machine
and these settings: a million images are an extrapolation by a factor of N, which the output says.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

MB = 1e6
GB = 1e9
SPEC = """\
name: disk
source: {{format: folder, path: images}}
teachers: [{teachers}]
policy:
  use_default_gates: false
"""


def main() -> None:
    """Measure at N/4 and N images and print the slopes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2000, help="images of the larger run")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--side", type=int, default=64, help="pixels of a side")
    parser.add_argument("--features", default="pixels")
    parser.add_argument("--tables-only", action="store_true", help="no teachers and no FiftyOne view")
    parser.add_argument("--keep", type=Path, help="folder to work in, kept; default: a temporary one")
    arguments = parser.parse_args()
    if arguments.keep:
        report(arguments, arguments.keep.resolve())
        return
    with tempfile.TemporaryDirectory(prefix="curate-disk-") as folder:
        report(arguments, Path(folder))


def report(arguments: argparse.Namespace, folder: Path) -> None:
    """Measure both sizes below `folder` and print bytes per image, the fixed cost, memory and an extrapolation."""
    sizes = (arguments.n // 4, arguments.n)
    few, many = (measured(folder / str(n), n, arguments) for n in sizes)
    print(
        f"{sizes[0]:,} and {sizes[1]:,} images of {arguments.side} x {arguments.side} px, "
        f"{arguments.classes} classes, one label each, "
        f"{'no teacher, no view' if arguments.tables_only else f'three probes on {arguments.features}'}\n"
    )
    print(f"{'':<26}{'bytes/image':>12}{'fixed MB':>10}{'GB per million':>16}")
    for name in many:
        if name.endswith("_s") or name.startswith("memory"):
            continue
        slope = (many[name] - few[name]) / (sizes[1] - sizes[0])
        fixed = max(many[name] - slope * sizes[1], 0.0) / MB
        print(f"{name:<26}{slope:>12,.0f}{fixed:>10,.1f}{(slope * 1e6 / GB):>16,.2f}")
    print()
    for name in ("memory: no review", "memory: with review", "memory: mongod"):
        grown = (many[name] - few[name]) / (sizes[1] - sizes[0])
        print(
            f"{name:<26}{few[name] / MB:>8,.0f} MB at {sizes[0]:,}, {many[name] / MB:,.0f} MB at {sizes[1]:,} "
            f"({grown:,.0f} bytes/image)"
        )
    for name in ("no review_s", "with review_s"):
        print(
            f"{name.removesuffix('_s'):<26}{few[name]:>8,.0f} s at {sizes[0]:,}, "
            f"{many[name]:,.0f} s at {sizes[1]:,}"
        )
    print(
        f"\nA million images is an extrapolation from {sizes[1]:,}: "
        f"a factor of {1e6 / sizes[1]:,.0f}. Not measured."
    )


def measured(folder: Path, n: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Return bytes by part, peak memory in bytes and seconds, for a run over `n` generated images."""
    draw(folder / "images", n, arguments.classes, arguments.side)
    spec = folder / "disk.yaml"
    probes = f"{{kind: probes, features: {arguments.features}}}"
    spec.write_text(SPEC.format(teachers="" if arguments.tables_only else probes))
    workspace = folder / "workspace"
    without = run(["run", str(spec), "--no-review"], workspace)
    cache, mongo = workspace / "disk" / "cache", workspace / "mongo"
    with_view = dict.fromkeys(without, 0.0)
    if not arguments.tables_only:
        with_view = run(["run", str(spec)], workspace)
        stop = command(["db", "stop"], workspace)
        subprocess.run(stop, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own interpreter
    stages = {f"  cache {stage.name}": n_bytes(stage) for stage in sorted(cache.iterdir()) if stage.is_dir()}
    tables = [path for path in files(mongo) if path.name.startswith(("collection-", "index-"))]
    return {
        "images themselves": n_bytes(folder / "images"),
        "cache, all stages": n_bytes(cache),
        **{name: size for name, size in stages.items() if not name.startswith(("  cache check", "  cache expect"))},
        "manifest version": n_bytes(workspace / "manifests"),
        "report": n_bytes(workspace / "disk" / "report"),
        "mongo collections, indexes": sum(path.stat().st_size for path in tables),
        "mongo, all files": n_bytes(mongo),
        "memory: no review": without["tree_bytes"],
        "memory: with review": with_view["tree_bytes"],
        "memory: mongod": with_view["mongod_bytes"],
        "no review_s": without["wall_s"],
        "with review_s": with_view["wall_s"],
    }


def draw(folder: Path, n: int, n_classes: int, side: int) -> None:
    """Write `n` PNG files, a folder per class: noise on a level that depends on the class, each file different."""
    random = np.random.default_rng(0)
    for number in range(n):
        at = number % n_classes
        pixels = random.normal(40 + 180 * at / n_classes, 20, (side, side, 3)).clip(0, 255).astype(np.uint8)
        file = folder / f"class-{at:03}" / f"{number:07}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)


def run(arguments: list[str], workspace: Path) -> Mapping[str, float]:
    """Run curate and return seconds and the peak of the resident memory of its process tree, and of mongod's."""
    began_s = time.monotonic()
    process = psutil.Popen(command(arguments, workspace), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    peaks = {"tree_bytes": 0.0, "mongod_bytes": 0.0}
    over = threading.Event()
    watcher = threading.Thread(target=watch, args=(process.pid, str(workspace / "mongo"), peaks, over))
    watcher.start()
    _, told = process.communicate()
    over.set()
    watcher.join()
    if process.returncode:
        sys.exit(f"curate {' '.join(arguments)} ended with {process.returncode}:\n{told.decode()}")
    return {**peaks, "wall_s": time.monotonic() - began_s}


def watch(pid: int, mongo: str, peaks: dict[str, float], over: threading.Event) -> None:
    """Sample memory ten times a second; pages shared by workers count for each: the sum is an upper bound."""
    while not over.wait(0.1):
        tree, databases = 0, 0
        try:
            children = psutil.Process(pid).children(recursive=True)
            ours = [psutil.Process(pid), *children]
        except psutil.NoSuchProcess:
            return
        for one in ours:
            try:
                if one.name() == "mongod":
                    continue
                tree += one.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        for one in psutil.process_iter(["name", "cmdline"]):
            if one.info["name"] == "mongod" and mongo in " ".join(one.info["cmdline"] or ()):
                try:
                    databases += one.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
        peaks["tree_bytes"] = max(peaks["tree_bytes"], tree)
        peaks["mongod_bytes"] = max(peaks["mongod_bytes"], databases)


def command(arguments: list[str], workspace: Path) -> list[str]:
    """Return the command line of curate in this environment."""
    return [sys.executable, "-m", "curate", *arguments, "--workspace", str(workspace), "--json", "--quiet"]


def files(folder: Path) -> list[Path]:
    """Return the plain files below a folder."""
    return [Path(base) / name for base, _, names in os.walk(folder) for name in names]


def n_bytes(folder: Path) -> int:
    """Return the bytes of the files below a folder, as they are long, not as they are stored."""
    return sum(path.lstat().st_size for path in files(folder))


if __name__ == "__main__":
    main()
