"""`curate verify` against reading and hashing the same files, in one run: the target is at least 0.8 of that speed.

    python benchmarks/manifest/verify.py --rows 1000000 [--found .05]

`verify --bytes` hashes and compares. `verify` also decodes ids, labels, verdicts and soft labels' origins, compares
them row by row, and recomputes every verdict, which no disk can hide: its line says what that costs. Of a share of the
rows (`--found`) a finding speaks; soft labels say which image they were made for.

Bare: sha256 over every file of the version, in as many threads as verify uses. Both are run alternately; the best of
each counts. Files are in the page cache, so that the disk does not hide what verify adds; on a disk slower than the
hash the ratio is higher.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import synthetic

from curate.check import build_findings
from curate.manifest.build import Release
from curate.manifest.publish import publish
from curate.manifest.stream import RowStream
from curate.manifest.tables import DATA
from curate.manifest.verify import verify
from curate.manifest.verify_files import AT_ONCE
from curate.policy import Policy
from curate.verdicts import decide


def main() -> None:
    """Publish a version, verify it, hash it, print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--found", type=float, default=0.05, help="share of rows of which a finding speaks")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="curate-verify-") as folder:
        made = with_findings(synthetic.release(arguments.rows), arguments.found)
        version = publish(made, Path(folder), "synthetic").path
        n_bytes = sum(path.stat().st_size for path in version.rglob("*") if path.is_file())
        ways: dict[str, Callable[[], object]] = {
            "read and sha256": lambda: hashed(version),
            "verify --bytes": lambda: kept(version, only_bytes=True),
            "verify": lambda: kept(version, only_bytes=False),
        }
        best, cpu = dict.fromkeys(ways, float("inf")), dict.fromkeys(ways, float("inf"))
        for _ in range(arguments.repeats):
            for name, way in ways.items():
                began_s, cpu_began_s = time.perf_counter(), time.process_time()
                way()
                best[name] = min(best[name], time.perf_counter() - began_s)
                cpu[name] = min(cpu[name], time.process_time() - cpu_began_s)
        print(f"{arguments.rows:,} rows, {n_bytes / 1e6:,.0f} MB, findings about {arguments.found:.0%}")
        for name, seconds in best.items():
            share = best["read and sha256"] / seconds
            print(
                f"{name:<20}{seconds:>8.2f} s{n_bytes / 1e6 / seconds:>10,.0f} MB/s   {share:.2f} of bare"
                f"{cpu[name]:>8.2f} CPU-s"
            )


def with_findings(release: Release, share: float) -> Release:
    """Return the release with a finding about every so-manieth row, and the verdicts that follow from it."""
    policy = Policy.model_validate(release.evidence["policy"])

    def found_in(batch: pa.Table) -> pa.Table:
        step = round(1 / share) if share else batch.num_rows + 1
        about = {"issue": "mislabel", "risk": 0.25, "reason_code": "teachers_disagree"}
        pairs = (
            batch.select(["sample_id", "label_id"]).take(pa.array(np.arange(0, batch.num_rows, step))).to_pylist()
        )
        return build_findings("label_noise", [{**pair, **about} for pair in pairs])

    def batches() -> Iterator[pa.Table]:
        for batch in release.data.batches():
            labels = batch.rename_columns({"given_label": "label"})
            samples = batch.select(["sample_id", "content_sha256"])
            verdicts = decide(samples, labels, found_in(batch), policy)
            yield pa.table(
                [verdicts[n] if n in verdicts.column_names else batch[n] for n in DATA.names], schema=DATA
            )

    findings = pa.concat_tables([found_in(batch) for batch in release.data.batches()])
    fields = {name: getattr(release, name) for name in Release.__slots__}
    return Release(**fields | {"data": RowStream(DATA, batches), "findings": findings})


def hashed(version: Path) -> list[str]:
    """Return the sha256 of every file of a version."""

    def one(path: Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        return list(pool.map(one, [path for path in version.rglob("*") if path.is_file()]))


def kept(version: Path, *, only_bytes: bool) -> None:
    """Verify, and refuse to time a version that does not keep its promises."""
    broken = [promise for promise in verify(version, only_bytes=only_bytes) if promise.ok is False]
    if broken:
        raise SystemExit(f"not comparable: {broken}")


if __name__ == "__main__":
    main()
