"""Images a second of curate's scan, beside CleanVision and a pass that only reads and decodes, on the same images.

    python benchmarks/scan/run.py photos.tar small.parquet --n 1000

Each argument is a folder, a tar, or a Parquet file with encoded images in `image`. They are written out as plain
files first, again and again under other names until there are `--n`, so that process start is a small part. Each
contender runs in a process of its own, with as many workers as CPUs; the time is from its first call to its last
result, process start included, imports not. Contenders take turns over `--rounds` and the best round of each
counts, so that another program that runs for a while hits all alike. On a machine with other work the CPU time is
what can be compared: that of the whole process tree, imports and process start included. CleanVision (`pip install
'curate[benchmark]'`) looks for the same issues, and for exact and near duplicates, which curate's scan prepares
by its hashes: with `--checks` curate's time holds the image_quality and duplicates checks too.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import cycle
from pathlib import Path

import pyarrow.parquet as pq

ENDINGS = {".jpg", ".jpeg", ".png"}
PR_SET_CHILD_SUBREAPER = 36  # Linux: CPU time of workers counts here even where their parent does not wait for them
ISSUES = ("dark", "light", "blurry", "low_information", "grayscale", "odd_size", "odd_aspect_ratio")
ISSUES_OF_SETS = ("exact_duplicates", "near_duplicates")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", type=Path)
    parser.add_argument("--n", type=int, default=1000, help="images")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--checks", action="store_true", help="curate's time holds its image checks too")
    parser.add_argument("--run", choices=CONTENDERS, help="internal: one contender over one folder")
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(CONTENDERS[arguments.run](arguments.sources[0])))
        return
    chosen = ["decode", "curate with checks" if arguments.checks else "curate", "CleanVision"]
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for source in arguments.sources:
        with tempfile.TemporaryDirectory(prefix="curate-scan-benchmark-") as scratch:
            n = write_out(source, Path(scratch), arguments.n)
            report(source.name, n, Path(scratch), chosen, arguments.rounds)


def report(name: str, n: int, folder: Path, chosen: list[str], rounds: int) -> None:
    wall_s = {contender: float("inf") for contender in chosen}
    cpu_s = dict(wall_s)
    for _ in range(rounds):
        for contender in chosen:
            wall, cpu = measured(contender, folder)
            wall_s[contender], cpu_s[contender] = min(wall, wall_s[contender]), min(cpu, cpu_s[contender])
    mean_kb = sum(file.stat().st_size for file in folder.iterdir()) / n / 1000
    print(f"{name}: {n:,} images of {mean_kb:,.1f} kB, {len(os.sched_getaffinity(0))} CPUs, best of {rounds}")
    print(f"  {'':<20}{'img/s':>8}{'x CleanVision':>15}{'CPU ms/img':>12}{'x CleanVision':>15}")
    for contender in chosen:
        wall, cpu = wall_s[contender], cpu_s[contender]
        ratios = wall_s["CleanVision"] / wall, cpu_s["CleanVision"] / cpu
        print(f"  {contender:<20}{n / wall:>8,.0f}{ratios[0]:>15.1f}{cpu / n * 1e3:>12.2f}{ratios[1]:>15.1f}")


def measured(contender: str, folder: Path) -> tuple[float, float]:
    """Return seconds of the clock without imports, and seconds of CPU of the whole process tree with them."""
    command = [sys.executable, __file__, str(folder), "--run", contender]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - this file
    if told.returncode:
        sys.exit(f"{contender} failed:\n{told.stderr}")
    with contextlib.suppress(ChildProcessError):
        while True:  # workers that outlived their parent are ours by now
            os.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(told.stdout.splitlines()[-1]), cpu_s


def write_out(source: Path, folder: Path, n: int) -> int:
    images = list(encoded_images(source, n))
    for number, (data, ending) in zip(range(n), cycle(images), strict=False):
        (folder / f"{number:06}{ending}").write_bytes(data)
    return n


def encoded_images(source: Path, n: int) -> Iterator[tuple[bytes, str]]:
    if source.suffix == ".parquet":
        for batch in pq.ParquetFile(source).iter_batches(batch_size=1000, columns=["image"]):
            yield from ((data, ".jpg") for data in batch["image"].to_pylist()[:n])
            n -= batch.num_rows
            if n <= 0:
                return
    elif source.is_dir():
        files = sorted(path for path in source.rglob("*") if path.suffix.lower() in ENDINGS)
        yield from ((path.read_bytes(), path.suffix.lower()) for path in files[:n])
    else:
        with tarfile.open(source) as archive:
            for member in archive:
                handle = archive.extractfile(member) if Path(member.name).suffix.lower() in ENDINGS else None
                if handle is not None:
                    yield handle.read(), Path(member.name).suffix.lower()


def with_curate(folder: Path) -> float:
    from curate.scan import scan_folder  # noqa: PLC0415 - each contender imports its own

    start_s = time.perf_counter()
    scan_folder(folder)
    return time.perf_counter() - start_s


def with_curate_and_checks(folder: Path) -> float:
    from curate.check import run_check  # noqa: PLC0415 - each contender imports its own
    from curate.checks import duplicates, image_quality  # noqa: PLC0415 - as above
    from curate.scan import scan_folder  # noqa: PLC0415 - as above

    start_s = time.perf_counter()
    scanned = scan_folder(folder)
    for check in (image_quality.CHECK, duplicates.CHECK):
        run_check(check, scanned)
    return time.perf_counter() - start_s


def with_cleanvision(folder: Path) -> float:
    from cleanvision import Imagelab  # noqa: PLC0415 - an extra

    start_s = time.perf_counter()
    lab = Imagelab(data_path=str(folder))
    lab.find_issues({name: {} for name in (*ISSUES, *ISSUES_OF_SETS)}, verbose=False)
    return time.perf_counter() - start_s


def only_decoded(folder: Path) -> float:
    start_s = time.perf_counter()
    files = sorted(str(path) for path in folder.iterdir())
    n_workers = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(n_workers) as pool:
        n_pixels = sum(pool.map(decoded_pixels, files, chunksize=64))
    assert n_pixels  # noqa: S101 - a pass that decoded nothing would be a fast one
    return time.perf_counter() - start_s


def decoded_pixels(file: str) -> int:
    import cv2  # noqa: PLC0415 - each contender imports its own
    import numpy as np  # noqa: PLC0415 - as above

    cv2.setNumThreads(1)
    pixels = cv2.imdecode(np.frombuffer(Path(file).read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    return 0 if pixels is None else pixels.size


CONTENDERS: dict[str, Callable[[Path], float]] = {
    "decode": only_decoded,
    "curate": with_curate,
    "curate with checks": with_curate_and_checks,
    "CleanVision": with_cleanvision,
}


if __name__ == "__main__":
    main()
