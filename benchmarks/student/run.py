"""The proof: the same small student from raw, pruned, distilled, soft, released and true labels.

    python benchmarks/student/run.py DATA.parquet --out results [--noise human uniform:0.4 pairs:0.12] [--seeds 10]
        [--arms 'curate release' 'soft labels only'] [--truth clean_label] [--group brightness] [--train 5000]
        [--pool 10000] [--test 4000] [--epochs 14] [--settings settings.yaml] [--workspace DIR]

DATA has `image` (encoded), `label` (given) and the truth, which students and curate never see but for the two oracle
arms, made noise and the test. A seed is a random subset of `train` rows of the pool, the noise's draw, the student's
initialisation and the order of its batches, the same for every arm. The arms stand in `arms.arms`; `settings` (teachers,
policy) are those of curate. The release's student has the feed's loss with its defaults. Every arm takes the same steps.

Each cell (noise, arm, seed) is a file under `results`; the same command goes on where it was stopped, and more
seeds, noises and arms may be added. `results/table.md` and `results/table.json` hold everything; the release's student
of the first noise and seed 0 is exported to ONNX and INT8 beside them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from arms import ARMS, OURS, arms
from curated import Curated, curated
from student import BATCH, measured, network, train
from tables import as_markdown, rows_of
from world import BRIGHTNESS, Task, noisy, read_task

LOGGER = logging.getLogger("student")
Cells = dict[tuple[str, int], Mapping[str, Any]]


def cells_of(task: Task, options: argparse.Namespace, settings: Mapping[str, Any]) -> dict[str, Cells]:
    """Return noise -> (arm, seed) -> what was measured; seed by seed, so that whatever is there can be compared."""
    found: dict[str, Cells] = {noise: {} for noise in options.noise}
    for seed in range(options.seeds):
        for noise, cells in found.items():
            made: Curated | None = None
            for arm in options.arms:
                path = cell_path(options.out, noise, arm, seed)
                if not path.is_file():
                    made = made or subset(task, noise, options, settings, seed)
                    train_cell(task, made, arm, seed, options, path)
                    LOGGER.info("seed %d, %s, %s", seed, noise, arm)
                cells[arm, seed] = json.loads(path.read_text(encoding="utf-8"))
    return found


def cell_path(out: Path, noise: str, arm: str, seed: int) -> Path:
    """Return where a cell stands; true labels are the same whatever was wrong with the given ones."""
    folder = "any" if arm == "oracle" else noise.replace(":", "-")
    return out / "cells" / folder / f"{arm.replace(' ', '-')}-{seed}.json"


def subset(task: Task, noise: str, options: argparse.Namespace, settings: Mapping[str, Any], seed: int) -> Curated:
    rows = np.sort(np.random.default_rng([seed, 3]).permutation(task.pool)[: options.train])
    folder = options.out / "runs" / f"{noise.replace(':', '-')}-{seed}"
    return curated(task, noisy(task, noise, seed), rows, folder, options.workspace, settings)


def train_cell(task: Task, made: Curated, arm: str, seed: int, options: argparse.Namespace, path: Path) -> None:
    given = arms(task, made)[arm]
    n_steps = options.epochs * -(-options.train // BATCH)
    net = train(task, given, seed, n_steps=n_steps, width=options.width)
    noise = float((made.given != task.truth[made.rows]).mean())
    found = {**measured(net, task), "n_rows": len(given.rows), "noise": noise}
    path.parent.mkdir(parents=True, exist_ok=True)
    if arm == OURS and seed == 0:
        torch.save(net.state_dict(), path.with_suffix(".pt"))
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(found), encoding="utf-8")
    beside.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--noise", nargs="+", default=["human"])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS, help="the release has to be one of them")
    parser.add_argument("--truth", default="clean_label")
    parser.add_argument("--group", default=BRIGHTNESS, help="column, or brightness: thirds of the images")
    sizes = (("train", 5000), ("pool", 10_000), ("test", 4000), ("epochs", 14), ("width", 32), ("side-px", 24))
    for name, value in (("seeds", 10), *sizes):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--settings", type=Path)
    parser.add_argument(
        "--workspace", type=Path, help="of curate; one that is shared saves computing features again"
    )
    options = parser.parse_args()
    if OURS not in options.arms:
        parser.error(f"--arms needs {OURS!r}, which the others are compared with")
    options.workspace = options.workspace or options.out / "workspace"
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    LOGGER.setLevel(logging.INFO)
    torch.set_num_threads(1)
    settings = yaml.safe_load(options.settings.read_text(encoding="utf-8")) if options.settings else {}
    names = ("truth", "group", *(name.replace("-", "_") for name, _ in sizes))
    about = {name: getattr(options, name) for name in names} | {"settings": settings}
    refuse_other(options.out, about, options.data)
    task = read_task(
        options.data, truth=options.truth, n_test=options.test, n_pool=options.pool, group=options.group,
        side_px=options.side_px,
    )  # fmt: skip
    found = cells_of(task, options, settings)
    from edge import export  # noqa: PLC0415 - needs onnx and onnxscript, after hours of training

    net = network(len(task.classes), options.width)
    weights = cell_path(options.out, options.noise[0], OURS, 0).with_suffix(".pt")
    net.load_state_dict(torch.load(weights, weights_only=True))
    models = export(net.eval(), task, options.out)
    rows = {noise: rows_of(cells, task, options.seeds, options.arms) for noise, cells in found.items()}
    told = {"about": about | {"seeds": options.seeds}, "rows": rows, "models": models}
    (options.out / "table.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    text = as_markdown(rows, models, told["about"])
    (options.out / "table.md").write_text(text, encoding="utf-8")
    print(text)


def refuse_other(out: Path, about: Mapping[str, Any], data: Path) -> None:
    """Refuse a folder with cells of other settings; more seeds and noises may be added."""
    with data.open("rb") as file:
        told = json.dumps({**about, "data": hashlib.file_digest(file, "sha256").hexdigest()}, sort_keys=True)
    path = out / "about.json"
    if path.is_file() and path.read_text(encoding="utf-8") != told:
        raise SystemExit(f"{out} holds results of other settings; give another folder.")
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(told, encoding="utf-8")


if __name__ == "__main__":
    main()
