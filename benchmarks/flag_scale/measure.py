"""`curate flag` on a large table: CPU seconds and peak memory, beside cleanlab on one of its teachers.

    python benchmarks/flag_scale/measure.py --rows 500000 --classes 100 --teachers 5 --folder /tmp/scale [--cleanlab]

Makes the table (once), runs `python -m curate flag` in a process of its own and prints its CPU seconds, its seconds and
its peak resident memory; the start of Python, reading and writing are in it. The start alone is told apart twice: by
a table of 1,000 rows, and by the same call in a process that has loaded its libraries (`in_process`).

With --cleanlab, `find_label_issues` is timed on the first teacher's probabilities and the same labels: by default with
one process, by default as it comes, and with filter_by="both" and ranked issues, the setting that its documentation
calls the most careful. In these the probabilities are in memory beforehand; what it takes to read that one column and
the labels from the same file, and to turn them into what cleanlab wants, is told beside them (`reading`): who has files
pays for it too. Its own start is in none of these. All take turns, --repeats times; the least of each counts, for other
work on the machine only ever adds. --defaults writes the table as pyarrow does unless told otherwise (dictionaries,
snappy, one row group in a million rows) instead of plain and uncompressed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

GROUP_ROWS = 20_000


def make(path: Path, n_rows: int, n_classes: int, n_teachers: int, *, defaults: bool) -> None:
    """Write labels, a tenth of them wrong, and teachers that share a part of their errors."""
    random, width = np.random.default_rng(0), np.dtype(np.float32 if defaults else np.float16)
    names = np.array([f"class{i:03d}" for i in range(n_classes)])
    kind = pa.list_(pa.field("item", pa.float16()), n_classes)
    fields = [("label", pa.string()), *((f"prob_t{m}", kind) for m in range(n_teachers))]
    group_rows = min(n_rows, 1_000_000) if defaults else GROUP_ROWS
    how: dict[str, Any] = {} if defaults else {"compression": "none", "use_dictionary": ["label"]}
    if defaults:
        kind = pa.list_(pa.field("item", pa.float32()), n_classes)
        fields = [("label", pa.string()), *((f"prob_t{m}", kind) for m in range(n_teachers))]
    with pq.ParquetWriter(path, pa.schema(fields), **how) as writer:
        for start in range(0, n_rows, group_rows):
            n = min(group_rows, n_rows - start)
            truth = random.integers(0, n_classes, n)
            given = np.where(random.random(n) < 0.1, random.integers(0, n_classes, n), truth)
            columns: list[pa.Array] = [pa.array(names[given])]
            shared = random.standard_normal((n, n_classes), dtype=np.float32)
            for _ in range(n_teachers):
                logits = 0.6 * shared + random.standard_normal((n, n_classes), dtype=np.float32)
                logits[np.arange(n), truth] += 6.0
                probs = np.exp(logits - logits.max(axis=1, keepdims=True))
                probs /= probs.sum(axis=1, keepdims=True)
                columns.append(pa.FixedSizeListArray.from_arrays(pa.array(probs.astype(width).ravel()), type=kind))
            writer.write_table(pa.Table.from_arrays(columns, names=[name for name, _ in fields]))


def flag(path: Path) -> tuple[float, float, float]:
    """Return CPU seconds, seconds and peak resident memory in MB of `curate flag` on the table."""
    out = path.with_suffix(".flags.parquet")
    command = [sys.executable, "-m", "curate", "flag", str(path), "--out", str(out), "--json", "--quiet"]
    started, peak_mb = time.perf_counter(), 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: S603 - our own command
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        while not ended:
            peak_mb = max(peak_mb, high_water_mb(process.pid))
            time.sleep(0.02)
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"curate flag ended with exit code {process.returncode}")
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - started, peak_mb


def flag_in_process(path: Path) -> tuple[float, float]:
    """Return CPU seconds and seconds of `flag_table` in a process that has loaded its libraries."""
    code = (
        "import sys, time, pathlib; from curate.cli.keep_out import keep_out; keep_out('pandas')\n"
        "from curate.teachers.flag_table import flag_table\n"
        "import cv2\n"
        "started, cpu = time.perf_counter(), time.process_time()\n"
        "flag_table(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))\n"
        "print(time.process_time() - cpu, time.perf_counter() - started)"
    )
    command = [sys.executable, "-c", code, str(path), str(path.with_suffix(".flags.parquet"))]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    how: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True, "check": True, "env": environment}
    told = subprocess.run(command, **how)  # noqa: S603, PLW1510 - our own code; it is checked
    cpu, seconds = map(float, told.stdout.split())
    return cpu, seconds


def high_water_mb(pid: int) -> float:
    """Return the most memory that a process held so far; ru_maxrss would count this one's, from before the exec."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


SETTINGS: dict[str, dict[str, Any]] = {
    "default_one_process": {"n_jobs": 1},
    "default": {},
    "both_ranked": {"n_jobs": 1, "filter_by": "both", "return_indices_ranked_by": "normalized_margin"},
}


def cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def read_one(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and the first teacher's probabilities as cleanlab wants them."""
    table = pq.read_table(path, columns=["label", "prob_t0"])
    given = table["label"].combine_chunks().dictionary_encode()
    order = np.argsort(np.argsort(np.array(given.dictionary.to_pylist())))
    probs = np.asarray(table["prob_t0"].combine_chunks().flatten()).astype(np.float64).reshape(len(given), -1)
    probs /= probs.sum(axis=1, keepdims=True)
    return order[given.indices.to_numpy()], probs


def peers(path: Path) -> Callable[[str], tuple[float, float]]:
    """Return a function from a setting, or "reading", to CPU seconds, its children's too, and seconds of cleanlab."""
    from cleanlab.filter import find_label_issues  # noqa: PLC0415 - a benchmark extra

    labels, probs = read_one(path)

    def timed(setting: str) -> tuple[float, float]:
        started, cpu = time.perf_counter(), cpu_s()
        if setting == "reading":
            read_one(path)
        else:
            find_label_issues(labels, probs, **SETTINGS[setting])
        return cpu_s() - cpu, time.perf_counter() - started

    return timed


def main() -> None:
    """Make, run, print a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--teachers", type=int, default=5)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--cleanlab", action="store_true")
    parser.add_argument("--defaults", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    end = "_defaults.parquet" if options.defaults else ".parquet"
    path, small = (
        options.folder / f"{n_rows}x{options.classes}x{options.teachers}{end}" for n_rows in (options.rows, 1000)
    )
    for file, n_rows in ((path, options.rows), (small, 1000)):
        if not file.is_file():
            make(file, n_rows, options.classes, options.teachers, defaults=options.defaults)
    runs: dict[str, list[tuple[float, ...]]] = {}
    cleanlab = peers(path) if options.cleanlab else None
    for _ in range(options.repeats):
        if cleanlab:
            for setting in ("reading", *SETTINGS):
                runs.setdefault(f"cleanlab_one_teacher_{setting}", []).append(cleanlab(setting))
        runs.setdefault("curate_all_teachers", []).append(flag(path))
        runs.setdefault("curate_all_teachers_in_process", []).append(flag_in_process(path))
        runs.setdefault("curate_1000_rows", []).append(flag(small))
    load = os.getloadavg()[0]
    told: dict[str, float] = {
        "load": round(load, 1),
        "cores": os.cpu_count() or 1,
        "rows": options.rows,
        "classes": options.classes,
        "teachers": options.teachers,
    }
    for name, found in runs.items():
        for unit, values in zip(("cpu_s", "s", "peak_mb"), zip(*found, strict=True), strict=False):
            told[f"{name}_{unit}"] = round(min(values), 1 if unit == "peak_mb" else 2)
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
