"""Publishing streamed rows against bare pyarrow writing the same columns: seconds, and the peak of memory.

    python benchmarks/manifest/publish.py --rows 1000000 2000000

Each measurement is a process of its own. Making the rows costs time in all of them; it is measured alone and taken
off. `bare, same settings` writes with the compression and row groups of a release; `bare, defaults` with pyarrow's
own. Peak memory is that of the whole process (ru_maxrss), interpreter and libraries included.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import synthetic

from curate.manifest.publish import publish
from curate.manifest.stream import PART_ROWS, ROW_GROUP_ROWS, Cutter, RowStream

KINDS = ("rows only", "bare, same settings", "bare, defaults", "curate")
SAME = {"compression": "zstd", "compression_level": 3, "version": "2.6", "use_dictionary": False}


def main() -> None:
    """Measure every kind at every number of rows and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--top-k", type=int, default=10)
    parser.add_argument("--one", choices=KINDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measured(arguments.one, arguments.rows[0], arguments.classes, arguments.top_k)))
        return
    for n_rows in arguments.rows:
        print(f"\n{n_rows:,} rows, top {arguments.top_k} of {arguments.classes:,} classes")
        print(f"{'':<22}{'s':>8}{'s without rows':>16}{'rows/s':>12}{'peak MB':>10}{'MB on disk':>12}")
        found = {kind: in_a_process(kind, n_rows, arguments) for kind in KINDS}
        made_s = found["rows only"]["wall_s"]
        for kind, one in found.items():
            net_s = one["wall_s"] - made_s
            rate = f"{n_rows / net_s:>12,.0f}" if net_s > 0 else f"{'':>12}"
            print(
                f"{kind:<22}{one['wall_s']:>8.1f}{net_s:>16.1f}{rate}{one['peak_mb']:>10,.0f}{one['disk_mb']:>12,.0f}"
            )
        for kind in KINDS[1:3]:
            ratio = (found[kind]["wall_s"] - made_s) / (found["curate"]["wall_s"] - made_s)
            print(f"speed of curate / {kind}: {ratio:.2f}")


def in_a_process(kind: str, n_rows: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Measure in a fresh interpreter."""
    command = [sys.executable, __file__, "--one", kind, "--rows", str(n_rows)]
    command += ["--classes", str(arguments.classes), "--top-k", str(arguments.top_k)]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE)  # noqa: S603 - our own interpreter
    return dict(json.loads(ended.stdout))


def measured(kind: str, n_rows: int, n_classes: int, top_k: int) -> dict[str, float]:
    """Return seconds, peak memory and bytes written of one kind."""
    release = synthetic.release(n_rows, n_classes, top_k)
    with tempfile.TemporaryDirectory(prefix="curate-publish-") as folder:
        began_s = time.perf_counter()
        if kind == "curate":
            publish(release, Path(folder), "synthetic")
        else:
            for name, rows in (("data", release.data), ("soft", release.soft)):
                write(kind, rows, Path(folder) / name)
        wall_s = time.perf_counter() - began_s
        n_bytes = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"wall_s": wall_s, "peak_mb": peak_kb / 1e3, "disk_mb": n_bytes / 1e6}


def write(kind: str, rows: RowStream, folder: Path) -> None:
    """Write rows with bare pyarrow, in parts and row groups as long as those of a release; or only make them."""
    if kind == "rows only":
        for _ in rows.batches():
            pass
        return
    folder.mkdir()
    cutter, number = Cutter(rows), 0
    options = SAME if kind == "bare, same settings" else {}
    while not cutter.is_done:
        with pq.ParquetWriter(folder / f"part-{number}.parquet", rows.schema, **options) as writer:
            n_left = PART_ROWS
            while n_left > 0 and not cutter.is_done:
                group: pa.Table = cutter.take(min(ROW_GROUP_ROWS, n_left))
                writer.write_table(group)
                n_left -= group.num_rows
        number += 1


if __name__ == "__main__":
    main()
