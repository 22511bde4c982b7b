"""`curate verify` against reading and hashing the same files, in one run: the target is at least 0.8 of that speed.

    python benchmarks/manifest/verify.py --rows 1000000

`verify --bytes` hashes and compares. `verify` also decodes the tables and recomputes every verdict, which no disk can
hide: its line says what that costs.

Bare: sha256 over every file of the version, in as many threads as verify uses. Both are run alternately; the best of
each counts. Files are in the page cache, so that the disk does not hide what verify adds; on a disk slower than the
hash the ratio is higher.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import synthetic

from curate.manifest.publish import publish
from curate.manifest.verify import verify
from curate.manifest.verify_files import AT_ONCE


def main() -> None:
    """Publish a version, verify it, hash it, print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="curate-verify-") as folder:
        version = publish(synthetic.release(arguments.rows), Path(folder), "synthetic").path
        n_bytes = sum(path.stat().st_size for path in version.rglob("*") if path.is_file())
        ways: dict[str, Callable[[], object]] = {
            "read and sha256": lambda: hashed(version),
            "verify --bytes": lambda: kept(version, only_bytes=True),
            "verify": lambda: kept(version, only_bytes=False),
        }
        best = dict.fromkeys(ways, float("inf"))
        for _ in range(arguments.repeats):
            for name, way in ways.items():
                began_s = time.perf_counter()
                way()
                best[name] = min(best[name], time.perf_counter() - began_s)
        print(f"{arguments.rows:,} rows, {n_bytes / 1e6:,.0f} MB")
        for name, seconds in best.items():
            share = best["read and sha256"] / seconds
            print(f"{name:<20}{seconds:>8.2f} s{n_bytes / 1e6 / seconds:>10,.0f} MB/s   {share:.2f} of bare")


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
