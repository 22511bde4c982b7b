"""`curate diff` of two versions against DuckDB's bare anti-joins over the same files: the target is under 3 times.

    python benchmarks/manifest/diff.py --rows 1000000

DuckDB answers which label ids were added and which removed (two anti-joins), with as many threads as it likes, and
nothing more. curate says that, and what of label, box, split, weight, action and bytes changed in every row that
stayed, with the cause of each. Both are run alternately on the same Parquet files; the best of each counts.
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
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="curate-diff-") as folder:
        old, new = (
            publish(version(arguments, later=later), Path(folder), "synthetic").path for later in (False, True)
        )
        best = {"DuckDB, anti-joins": float("inf"), "curate diff": float("inf")}
        for _ in range(arguments.repeats):
            began_s = time.perf_counter()
            counts = anti_joins(old, new)
            best["DuckDB, anti-joins"] = min(best["DuckDB, anti-joins"], time.perf_counter() - began_s)
            began_s = time.perf_counter()
            found: Diff = diff(old, new)
            best["curate diff"] = min(best["curate diff"], time.perf_counter() - began_s)
        changes = found.summary["changes"]
        if counts != (changes["added"], changes["removed"]):
            raise SystemExit(f"they do not agree: DuckDB {counts}, curate {changes}")
        print(f"{arguments.rows:,} rows; {', '.join(f'{n:,} {change}' for change, n in changes.items() if n)}")
        for name, seconds in best.items():
            print(f"{name:<20}{seconds:>8.2f} s")
        print(f"ratio: {best['curate diff'] / best['DuckDB, anti-joins']:.2f} (target: under 3)")


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
