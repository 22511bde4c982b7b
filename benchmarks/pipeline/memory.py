"""What a whole run holds in memory at millions of images: by stage, by the place in the code, by table and column.

    python benchmarks/pipeline/memory.py --drawn 200000 --times 5

Decoding a million pictures says nothing about memory (a shard at a time is held) and takes long. So pictures are drawn
and run once (`scale.py` draws them), then their rows are laid out several times under other names: each copy has
the measures of the first one, and hashes of its own, which stand in the scan cache as if they had been read. The run over
all of them is a process of its own, in which everything but the scan is new; it prints its peak of resident memory,
sampled, where it was reached, and how many bytes a table holds for each image.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import scale

import curate
from curate import pipeline, runs, schema
from curate.incremental import KEY, SHARD_ROWS
from curate.stages import read
from curate.stages.context import Context

SHOWN_PLACES = 3  # of each stage
SAMPLED_S = 0.02


def main() -> None:
    """Draw, lay out, run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drawn", type=int, default=20_000, help="pictures that are drawn and decoded")
    parser.add_argument("--times", type=int, default=5, help="how often their rows are laid out")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--keep", type=Path, help="folder to work in, kept; default: a temporary one")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure)
        return
    with tempfile.TemporaryDirectory(prefix="curate-memory-") as temporary:
        folder = arguments.keep.resolve() if arguments.keep else Path(temporary)
        drawn, whole = folder / "drawn", folder / "whole"
        scale.draw(drawn, arguments.drawn, arguments.classes)
        names = ", ".join(scale.class_names(arguments.classes))
        for one in (drawn, whole):
            one.mkdir(parents=True, exist_ok=True)
            (one / "scale.yaml").write_text(scale.SPEC.format(classes=names, teacher=scale.TABLE))
        curate.run(drawn / "scale.yaml", workspace=drawn / "workspace", until="scan", review=False)
        lay_out(drawn, whole, arguments.times)
        write_scan(drawn, whole)
        command = [sys.executable, __file__, "--measure", str(whole)]
        sys.exit(subprocess.run(command, check=False).returncode)  # noqa: S603 - our own interpreter


def lay_out(drawn: Path, whole: Path, times: int) -> None:
    """Write the shards and the teacher's table `times` times, each copy in a folder of its own name."""
    (whole / "shards").mkdir(exist_ok=True)
    teacher, parts = pq.read_table(drawn / "teacher.parquet"), []
    for copy in range(times):
        for file in sorted((drawn / "shards").glob("*.parquet")):
            table = pq.read_table(file)
            for name in ("file", "group"):
                at = table.column_names.index(name)
                table = table.set_column(at, name, pc.binary_join_element_wise(str(copy), table[name], "/"))
            pq.write_table(
                table, whole / "shards" / f"{copy}-{file.name}", compression="none", row_group_size=2_000
            )
        parts.append(teacher.set_column(0, "uri", pc.binary_join_element_wise(str(copy), teacher["uri"], "/")))
    pq.write_table(pa.concat_tables(parts), whole / "teacher.parquet")


def write_scan(drawn: Path, whole: Path) -> None:
    """Write the scan cache of all copies: the measures of the pictures that were read, other hashes for each copy."""
    first, context = opened(drawn), opened(whole)
    samples, measured = read.ingest(first).samples, cached_scan(first)
    wanted = read.ingest(context).samples
    copy, _, uri = zip(*(name.partition("/") for name in wanted["uri"].to_pylist()), strict=True)
    place = pc.index_in(pa.array(uri), value_set=samples["uri"].combine_chunks())
    at = pc.index_in(samples["sample_id"].take(place), value_set=measured["sample_id"].combine_chunks())
    table, number = measured.take(at), np.asarray(copy, dtype=np.uint64)
    flips = np.random.default_rng(0).integers(0, 2**63, int(number.max()) + 1, dtype=np.uint64)
    flips[0] = 0
    columns = {name: table[name] for name in schema.SCAN.names}
    columns["sample_id"] = wanted["sample_id"]
    columns["phash"] = pa.array(table["phash"].to_numpy().astype(np.uint64) ^ flips[number])
    for name in ("content_sha256", "thumbnail_sha256"):
        hashes = zip(copy, table[name].to_pylist(), strict=True)
        columns[name] = pa.array([hashlib.sha256(f"{one}{value}".encode()).hexdigest() for one, value in hashes])
    table = pa.table(columns).cast(schema.SCAN)
    keys = pa.array(read._file_keys(wanted, context.spec.max_pixels))  # noqa: SLF001 - stands in for the scan
    for start in range(0, table.num_rows, SHARD_ROWS):
        own = keys.slice(start, SHARD_ROWS)
        file = context.run.workspace.cache / "scan" / f"{runs.digest_json(own.to_pylist())}.parquet"
        runs.write_table(file, table.slice(start, SHARD_ROWS).append_column(KEY, own))
    for ingested in (context.run.workspace.cache / "ingest").glob("*"):
        ingested.unlink()  # it is measured too


def opened(folder: Path) -> Context:
    """Return the context of a run that does nothing yet."""
    return pipeline.open_run(
        folder / "scale.yaml",
        workspace=folder / "workspace",
        limit=None,
        rehash=False,
        workers=1,
        listener=runs.Silent(),
    )


def cached_scan(context: Context) -> pa.Table:
    """Return what was measured of every picture."""
    files = sorted((context.run.workspace.cache / "scan").glob("*.parquet"))
    return pa.concat_tables([pq.read_table(file, partitioning=None) for file in files])


class Watch:
    """Hears of stages; notes the peak of each, and where in the code it was reached."""

    def __init__(self) -> None:
        self.stage, self.began_s = "start", time.monotonic()
        self.stages: list[tuple[str, float, int, int]] = []
        self.places: dict[tuple[str, str], int] = {}
        self._peak, self._me, self._main = 0, psutil.Process(), threading.main_thread().ident
        threading.Thread(target=self._sample, daemon=True).start()

    def stage_started(self, stage: str) -> None:
        """Close what came before."""
        self.close(stage)

    def progress(self, n_done: int, n_total: int | None) -> None:
        """Say nothing."""

    def stage_done(self, stage: str, seconds: float, *, cached: bool, note: str) -> None:  # noqa: ARG002 - as called
        """Close the stage."""
        self.close(f"after {stage}")

    def close(self, following: str) -> None:
        """Note the stage that ends."""
        now = time.monotonic()
        self.stages.append((self.stage, now - self.began_s, self._peak, pa.total_allocated_bytes()))
        self.stage, self.began_s, self._peak = following, now, 0

    def _sample(self) -> None:
        while True:
            resident = self._me.memory_info().rss
            self._peak = max(self._peak, resident)
            key = (self.stage, self._place())
            self.places[key] = max(self.places.get(key, 0), resident)
            time.sleep(SAMPLED_S)

    def _place(self) -> str:
        frame, called = sys._current_frames().get(self._main or 0), []  # noqa: SLF001 - the only way to see another thread
        while frame is not None:
            inside = frame.f_code.co_filename.partition("/curate/")[2]
            if inside:
                called.append(f"{inside}:{frame.f_lineno} {frame.f_code.co_name}")
            frame = frame.f_back
        return " < ".join(called[:SHOWN_PLACES])


def measure(folder: Path) -> None:
    """Run and print stages, places and tables."""
    watch = Watch()
    began_s = time.monotonic()
    result = curate.run(folder / "scale.yaml", workspace=folder / "workspace", review=False, listener=watch)
    watch.close("end")
    n = result.counts["n_images"]
    print(
        f"{n:,} images in {time.monotonic() - began_s:,.0f} s; {result.published.id[:12] if result.published else ''}\n"
    )
    print(f"{'':<32}{'seconds':>9}{'peak MB':>9}{'Arrow MB after':>16}")
    for stage, seconds, peak, held in watch.stages:
        print(f"{stage:<32}{seconds:>9.1f}{peak / 1e6:>9,.0f}{held / 1e6:>16,.0f}")
    told: Counter[str] = Counter()
    print("\nwhere the most was resident, MB")
    for (stage, place), peak in sorted(watch.places.items(), key=lambda item: -item[1]):
        told[stage] += 1
        if told[stage] <= SHOWN_PLACES and peak > 0.9 * max(watch.places.values()):
            print(f"{peak / 1e6:>8,.0f}  {stage}: {place}")
    print("\nbytes an image, by table and column (a column that shares its bytes with another counts in both)")
    tables = dict(result.tables)
    if result.release is not None:
        tables |= {"data/": result.release.data, "excluded/": result.release.excluded}
        tables |= {"soft/": result.release.soft} if result.release.soft is not None else {}
    for name, table in tables.items():
        sizes = {column: table[column].nbytes / n for column in table.column_names}
        told_of = ", ".join(f"{column} {size:.0f}" for column, size in sizes.items() if size >= 1)
        print(f"{name:<14}{sum(sizes.values()):>6.0f}  {told_of}")


if __name__ == "__main__":
    main()
