"""Read class maps in random order, from a folder and from an S3 server on loopback: maps a second, reads, memory.

python benchmarks/feed/class_maps.py --maps 100000
python benchmarks/feed/class_maps.py --maps 2000 --store
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
import s3_server as s3

from curate.feed.map_reader import MapReader
from curate.manifest.place import Place
from curate.manifest.soft_layout import Layout
from curate.manifest.soft_masks import GROUP_ROWS, PART_ROWS, soft_masks_schema

LAYOUT = Layout("full", 4, 0, 0)
SIDE = 16
N_READS = 4_000


def write(folder: Path, n: int) -> list[Place]:
    """Write `n` maps of 4 classes and 16 x 16 cells in the order of their ids."""
    schema = soft_masks_schema(LAYOUT)
    size, parts, generator = LAYOUT.n_classes * SIDE * SIDE, list[Place](), np.random.default_rng(0)
    for number, start in enumerate(range(0, n, PART_ROWS)):
        rows = min(PART_ROWS, n - start)
        flat = pa.array(generator.random(rows * size).astype(np.float16))
        offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * size)
        grid = pa.array([SIDE] * rows, pa.int32())
        ids = pa.array([f"{at:032x}" for at in range(start, start + rows)])
        keys = pa.array([0] * rows, schema.field(1).type)
        columns = [ids, keys, grid, grid, pa.ListArray.from_arrays(offsets, flat)]
        path = folder / f"part-{number:05d}.parquet"
        pq.write_table(pa.table(columns, schema=schema), path, row_group_size=GROUP_ROWS, compression="zstd")
        parts.append(path)
    return parts


def measure(parts: list[Place], n: int) -> str:
    """Open the maps, read some in random order and in their order; return what it cost."""
    before_mb = _peak_mb()
    began_s = time.perf_counter()
    reader = MapReader(parts, LAYOUT, 1.0, SIDE)
    open_s = time.perf_counter() - began_s
    told = [f"open {open_s:.2f} s"]
    for name, order in (
        ("random", np.random.default_rng(1).integers(0, n, min(N_READS, n))),
        ("in order", np.arange(min(N_READS, n))),
    ):
        n_before = reader.n_groups_read
        began_s = time.perf_counter()
        n_missing = sum(reader.read(f"{at:032x}") is None for at in order.tolist())
        took_s = time.perf_counter() - began_s
        n_groups = (reader.n_groups_read - n_before) / len(order)
        told.append(f"{name}: {len(order) / took_s:,.0f} maps/s, {n_groups:.2f} row groups read a map")
        if n_missing:
            sys.exit(f"{n_missing} maps were not found")
    return "; ".join([*told, f"peak memory +{_peak_mb() - before_mb:.0f} MB"])


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Write the maps, measure, print."""
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("--maps", type=int, default=100_000)
    given.add_argument("--store", action="store_true", help="From an S3 server on loopback.")
    options = given.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        parts = write(Path(folder), options.maps)
        if not options.store:
            sys.stdout.write(f"folder, {options.maps:,} maps: {measure(parts, options.maps)}\n")
            return
        from curate.adapters.object_store import open_store  # noqa: PLC0415 - only where a store is asked

        with s3.serving() as address:
            os.environ.update(s3.settings_for(address))
            s3.make_bucket(address, "maps")
            bucket = open_store("s3://maps/soft_masks")
            for path in parts:
                (bucket / path.name).put(path)  # type: ignore[arg-type]
            stored: list[Place] = [bucket / path.name for path in parts]
            sys.stdout.write(f"S3 on loopback, {options.maps:,} maps: {measure(stored, options.maps)}\n")


if __name__ == "__main__":
    main()
