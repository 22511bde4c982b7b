"""`curate diff` of two versions against DuckDB's bare anti-joins over the same files: the target is under 3 times.

    python benchmarks/manifest/diff.py --rows 1000000

DuckDB answers which label ids were added and which removed (two anti-joins), with as many threads as it likes, and
nothing more: it reads one column of each version, twice. curate says that, and what of label, box, split, weight,
action and bytes changed in every row that stayed, with the cause of each: it reads nine columns of every row and five
more of the rows that differ. Both are run alternately on the same Parquet files; the best of each counts, and the CPU
time stands beside it. Rows come and go in every row group, and others change in every row group, so that no row group
is the same in both versions, or lies in the same place, and none can be passed over.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import synthetic

from curate.manifest.build import Release
from curate.manifest.diff import Diff, diff
from curate.manifest.publish import publish
from curate.manifest.stream import RowStream
from curate.manifest.tables import DATA


def main() -> None:
    """Publish two versions, compare them both ways, print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--changed", type=float, default=0.01, help="share of rows whose label, split, … differ")
    parser.add_argument("--gone", type=float, default=0.01, help="share of rows that come and go")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="curate-diff-") as folder:
        old, new = (
            publish(version(arguments, later=later), Path(folder), "synthetic").path for later in (False, True)
        )
        runs: dict[str, list[tuple[float, float]]] = {"DuckDB, anti-joins": [], "curate diff": []}
        for _ in range(arguments.repeats):
            began_s = time.perf_counter(), time.process_time()
            counts = anti_joins(old, new)
            runs["DuckDB, anti-joins"].append((time.perf_counter() - began_s[0], time.process_time() - began_s[1]))
            began_s = time.perf_counter(), time.process_time()
            found: Diff = diff(old, new)
            runs["curate diff"].append((time.perf_counter() - began_s[0], time.process_time() - began_s[1]))
        changes = found.summary["changes"]
        if counts != (changes["added"], changes["removed"]):
            raise SystemExit(f"they do not agree: DuckDB {counts}, curate {changes}")
        print(f"{arguments.rows:,} rows; {', '.join(f'{n:,} {change}' for change, n in changes.items() if n)}")
        best = {name: [min(seconds) for seconds in zip(*each, strict=True)] for name, each in runs.items()}
        for name, (wall_s, cpu_s) in best.items():
            print(f"{name:<20}{wall_s:>8.2f} s{cpu_s:>8.2f} CPU-s")
        wall, cpu = (
            ours / theirs for ours, theirs in zip(best["curate diff"], best["DuckDB, anti-joins"], strict=True)
        )
        print(f"ratio: {wall:.2f} (target: under 3), of CPU time {cpu:.2f}")


def anti_joins(old: Path, new: Path) -> tuple[int, int]:
    """Return how many label ids were added and removed."""
    query = "select count(*) from '{}/data/*.parquet' a anti join '{}/data/*.parquet' b using (label_id)"
    counted = [duckdb.sql(query.format(*pair)).fetchall()[0][0] for pair in ((new, old), (old, new))]
    return int(counted[0]), int(counted[1])


def version(arguments: argparse.Namespace, *, later: bool) -> Release:
    """Return the earlier or later version: a share of rows is changed, another share came or went."""
    release = synthetic.release(arguments.rows)

    def batches() -> Iterator[pa.Table]:
        changed = arguments.changed if later else 0.0
        n_gone = int(synthetic.BATCH_ROWS * arguments.gone)
        for batch in synthetic.data_batches(arguments.rows, 1000, changed):
            yield batch.slice(0, batch.num_rows - n_gone) if later else batch.slice(n_gone)

    data = RowStream(DATA, batches)
    return Release(**{name: getattr(release, name) for name in Release.__slots__} | {"data": data, "soft": None})


if __name__ == "__main__":
    main()
