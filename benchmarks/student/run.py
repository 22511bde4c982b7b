"""The proof: the same small student from raw, pruned, distilled, soft, released and true labels.

    python benchmarks/student/run.py DATA.parquet --out results [--noise human] [--truth clean_label]
        [--seeds 10] [--train 12000] [--test 4000] [--epochs 20] [--settings settings.yaml]

DATA has `image` (encoded), `label` (given) and the truth, which students and curate never see but for the two oracle
arms and the test. A seed is a random subset of `train` rows and the student's initialisation. `--noise uniform:0.4`
moves 40 % of the true labels to another class instead. The arms stand in `world.arms`; `settings` (teachers, policy,
alpha) are those of curate, the same for every arm that uses its teachers. Every arm takes the same number of steps.

Each cell (arm, seed) is a file under `results`; the same command goes on where it was stopped. Intervals are 95 %, by a
paired bootstrap over seeds and test images. `results/table.md` and `results/table.json` hold everything; the release's
student of seed 0 is exported to ONNX and INT8 beside them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from edge import export
from student import BATCH, DISTURBANCES, measured, network, train
from world import Arm, Task, curated, noisy, read_task

ARMS = (
    "raw labels", "pruned by cleanlab", "distilled on raw labels", "soft labels only", "curate release", "oracle",
    "oracle and soft labels",
)  # fmt: skip
OURS, RIVALS = "curate release", ("raw labels", "pruned by cleanlab", "distilled on raw labels", "soft labels only")
N_RESAMPLES = 2000
LOGGER = logging.getLogger("student")


def cells(
    task: Task, options: argparse.Namespace, settings: Mapping[str, Any]
) -> Iterator[tuple[str, int, dict[str, Any]]]:
    for seed in range(options.seeds):
        made: dict[str, Arm] | None = None
        for arm in ARMS:
            path = options.out / "cells" / f"{arm.replace(' ', '-')}-{seed}.json"
            if not path.is_file():
                made = made or arms_of(task, options, settings, seed)
                n_steps = options.epochs * -(-options.train // BATCH)
                net = train(task, made[arm], seed, n_steps=n_steps, width=options.width)
                found = {**measured(net, task), "n_rows": len(made[arm].rows)}
                path.parent.mkdir(parents=True, exist_ok=True)
                if (arm, seed) == (OURS, 0):
                    torch.save(net.state_dict(), options.out / "student.pt")
                beside = path.with_suffix(".part")
                beside.write_text(json.dumps(found), encoding="utf-8")
                beside.replace(path)
                LOGGER.info("seed %d, %s: %.4f", seed, arm, np.mean(found["right"]["as they are"]))
            yield arm, seed, json.loads(path.read_text(encoding="utf-8"))


def arms_of(task: Task, options: argparse.Namespace, settings: Mapping[str, Any], seed: int) -> dict[str, Arm]:
    rows = np.sort(np.random.default_rng([seed, 3]).permutation(task.pool)[: options.train])
    return curated(task, noisy(task, options.noise, seed), rows, options.out / "runs" / str(seed), settings)


def interval(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    """Return the mean difference of (seeds, test images) and its bootstrap interval over both."""
    difference = ours - theirs
    rng = np.random.default_rng(0)
    n_seeds, n_images = difference.shape
    draws = [
        difference[rng.integers(0, n_seeds, n_seeds)][:, rng.integers(0, n_images, n_images)].mean()
        for _ in range(N_RESAMPLES)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(difference.mean()), float(low), float(high)


def table(found: Mapping[tuple[str, int], Mapping[str, Any]], task: Task, n_seeds: int) -> list[dict[str, Any]]:
    truth = task.truth[task.test]
    rows = []
    for arm in ARMS:
        mine = [found[arm, seed] for seed in range(n_seeds)]
        right = {how: np.asarray([cell["right"][how] for cell in mine], dtype=float) for how in DISTURBANCES}
        by_class = [right["as they are"][:, truth == at].mean() for at in range(len(task.classes))]
        row: dict[str, Any] = {"arm": arm, "n_rows": float(np.mean([cell["n_rows"] for cell in mine]))}
        row |= {how: float(values.mean()) for how, values in right.items()}
        row |= {"worst_class": float(min(by_class)), "ece": float(np.mean([cell["ece"] for cell in mine]))}
        if arm in RIVALS:
            ours = np.asarray([found[OURS, seed]["right"]["as they are"] for seed in range(n_seeds)], dtype=float)
            row["ours_minus_this"] = interval(ours, right["as they are"])
        rows.append(row)
    return rows


def as_markdown(
    rows: Sequence[Mapping[str, Any]], models: Sequence[Mapping[str, Any]], about: Mapping[str, Any]
) -> str:
    lines = [", ".join(f"{key} {value}" for key, value in about.items() if key != "settings"), ""]
    lines += [
        f"| trained on | rows | accuracy | release minus this | worst class | ECE | {' | '.join(DISTURBANCES[1:])} |"
    ]
    lines += ["| --- " * (6 + len(DISTURBANCES) - 1) + "|"]
    for row in rows:
        gap = row.get("ours_minus_this")
        told = f"{100 * gap[0]:+.2f} ({100 * gap[1]:+.2f} to {100 * gap[2]:+.2f})" if gap else "-"
        cells_ = [f"{100 * row[how]:.2f}" for how in DISTURBANCES[1:]]
        lines.append(
            f"| {row['arm']} | {row['n_rows']:.0f} | {100 * row['as they are']:.2f} | {told} | "
            f"{100 * row['worst_class']:.2f} | {row['ece']:.3f} | {' | '.join(cells_)} |"
        )
    lines += [
        "",
        "| model (release, seed 0) | bytes | latency ms, 1 image, 1 thread | accuracy |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {m['model']} | {m['bytes']:,} | {m['latency_ms']:.3f} | {100 * m['accuracy']:.2f} |" for m in models
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--noise", default="human")
    parser.add_argument("--truth", default="clean_label")
    for name, value in (("seeds", 10), ("train", 12_000), ("test", 4_000), ("epochs", 20), ("width", 16)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--settings", type=Path)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    settings = yaml.safe_load(options.settings.read_text(encoding="utf-8")) if options.settings else {}
    names = ("noise", "truth", "seeds", "train", "test", "epochs", "width", "limit")
    about = {name: getattr(options, name) for name in names} | {"settings": settings}
    refuse_other(options.out, {key: value for key, value in about.items() if key != "seeds"}, options.data)
    task = read_task(options.data, options.truth, options.test, options.limit)
    found = {(arm, seed): cell for arm, seed, cell in cells(task, options, settings)}
    net = network(len(task.classes), options.width)
    net.load_state_dict(torch.load(options.out / "student.pt", weights_only=True))
    models = export(net.eval(), task, options.out)
    rows = table(found, task, options.seeds)
    (options.out / "table.json").write_text(
        json.dumps({"about": about, "rows": rows, "models": models}, indent=1) + "\n"
    )
    text = as_markdown(rows, models, about)
    (options.out / "table.md").write_text(text, encoding="utf-8")
    print(text)


def refuse_other(out: Path, about: Mapping[str, Any], data: Path) -> None:
    """Refuse a folder with cells of other settings; more seeds may be added."""
    with data.open("rb") as file:
        told = json.dumps({**about, "data": hashlib.file_digest(file, "sha256").hexdigest()}, sort_keys=True)
    path = out / "about.json"
    if path.is_file() and path.read_text(encoding="utf-8") != told:
        raise SystemExit(f"{out} holds results of other settings; give another folder.")
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(told, encoding="utf-8")


if __name__ == "__main__":
    main()
