"""Several labels an image: what curate flags beside cleanlab on the same out-of-fold probabilities; F1 without tuning.

Generated pictures (`tests/tagged_world.py`), the default probes; cleanlab's `find_multilabel_issues_per_class`, default
settings, is given each probe alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from tagged_world import CLASSES, listed, make_world

import curate
from curate import schema
from curate.teachers.multi_label import fit_multi_label, score_cells


def f1(flagged: np.ndarray, wrong: np.ndarray) -> float:
    """Return the harmonic mean of precision and recall."""
    return 2 * float((flagged & wrong).sum()) / max(1, int(flagged.sum() + wrong.sum()))


def measured(n: int, seed: int) -> dict[str, float]:
    """Return F1 by method of one generated world."""
    from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class  # noqa: PLC0415 - an extra

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        world = make_world(folder / "images", n, seed=seed)
        tags = pa.array([listed(row) for row in world.given], pa.list_(pa.string()))
        pq.write_table(
            pa.table({"image": [f"images/{one}" for one in world.names], "tags": tags}), folder / "t.parquet"
        )
        source = "{format: table, path: t.parquet, columns: {image: image, label: tags}}"
        (folder / "tags.yaml").write_text(f"name: tags\nsource: {source}\n")
        curate.run(folder / "tags.yaml", workspace=folder / "workspace", until="teach", review=False)
        told = [pq.read_table(file) for file in folder.glob("workspace/tags/cache/teachers-tags/*.parquet")]
        table = next(one for one in told if "present_probes_linear" in one.column_names)
    row = {schema.sample_id_of("tags", f"images/{name}"): at for at, name in enumerate(world.names)}
    order = [row[one] for one in table["label_id"].to_pylist()]  # of several labels an image, the image's id
    given, wrong = world.given[order], world.wrong[order]
    names = [name.removeprefix("present_") for name in table.column_names if name.startswith("present_")]
    probs = [np.array(table[f"present_{name}"].to_pylist(), dtype=np.float32) for name in names]
    model = fit_multi_label(given, names, np.stack(probs, axis=1))
    cells = score_cells(model, given, np.ones(len(given), dtype=bool), names, probs)
    found = {"wrong answers": float(wrong.sum()), "curate": f1(cells.flagged, wrong)}
    labels = [list(np.flatnonzero(one)) for one in given]
    for name, p in zip(names, probs, strict=True):
        flagged = np.asarray(find_multilabel_issues_per_class(labels, np.clip(p, 1e-6, 1 - 1e-6)))
        found[f"cleanlab on {name}"] = f1(flagged if flagged.shape == wrong.shape else flagged.T, wrong)
    return found


def main() -> None:
    """Print a line for each seed and method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=600, help="pictures")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 7])
    options = parser.parse_args()
    print(f"{options.n} pictures, {len(CLASSES)} classes")
    for seed in options.seeds:
        for name, value in measured(options.n, seed).items():
            print(f"seed {seed}  {name:28} {value:.3f}")


if __name__ == "__main__":
    main()
