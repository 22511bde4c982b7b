"""Wrong folders found with nothing but the images: a folder per class, some files in the wrong one, default features.

    python benchmarks/label_errors/folders.py TABLE.parquet --share 0.08 --seeds 3

TABLE has `image` (encoded) and `clean_label`. For each seed it draws rows, writes them as a folder per class with
`--share` of the files in another class's folder, runs `curate run` on a spec of two lines, and holds the flags against
what was moved. `--share 0` counts flags on clean folders.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import curate


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("table", type=Path)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--share", type=float, default=0.08)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    whole = pq.read_table(given.table, columns=["image", "clean_label"])
    for seed in range(given.seeds):
        rng = np.random.default_rng(seed)
        table = whole.take(rng.choice(whole.num_rows, given.rows, replace=False))
        with tempfile.TemporaryDirectory() as folder:
            print(f"seed {seed}: {measure(table.to_pylist(), given.share, rng, Path(folder))}", flush=True)


def measure(rows: list[dict[str, object]], share: float, rng: np.random.Generator, root: Path) -> str:
    names = sorted({str(row["clean_label"]) for row in rows})
    moved = set()
    for number, row in enumerate(rows):
        name = truth = str(row["clean_label"])
        if rng.random() < share:
            name = str(rng.choice([other for other in names if other != truth]))
            moved.add(f"{name}/{number:05}.jpg")
        file = root / "data" / name / f"{number:05}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(row["image"])  # type: ignore[arg-type]
    (root / "folders.yaml").write_text("name: folders\nsource: {format: folder, path: data}\n")
    run = curate.run(root / "folders.yaml", workspace=root / "workspace", until="flag", review=False)
    uri = dict(zip(*(run.tables["samples"][name].to_pylist() for name in ("sample_id", "uri")), strict=True))
    findings = run.tables["findings"].to_pylist()
    flags = {uri[row["sample_id"]] for row in findings if row["issue"] == "mislabel" and row["flagged"]}
    hits = len(flags & moved)
    if not moved:
        return f"{len(flags)} of {len(rows)} clean labels flagged"
    precision, recall = hits / max(1, len(flags)), hits / len(moved)
    f1 = 2 * hits / (len(flags) + len(moved))
    return f"{len(moved)} moved, {len(flags)} flagged: precision {precision:.2f}, recall {recall:.2f}, F1 {f1:.2f}"


if __name__ == "__main__":
    main()
