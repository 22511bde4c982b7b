"""The proof for boxes: the same small detector from raw, released and true boxes.

    python benchmarks/student/detector.py DATA --out results [--noise mixed:0.2 drop:0.3] [--seeds 3] [--first-seed 0]
        [--test 110] [--steps 360] [--teacher-steps 240] [--teachers 1] [--folds 3] [--policy policy.yaml]

DATA is a spec, or a tar, zip or folder of Pascal VOC; its boxes are taken for true. A seed is a draw of errors in the
training boxes, the teachers, and initialisation and order of the students, the same for every arm; the images to test
on stay the same and keep their boxes. Teachers are detectors of the students' kind, trained on the wrong boxes of the
other folds. curate sees images, wrong boxes and what the teachers found; students of its release read `curate.feed`.
Every arm takes the same number of steps.

Each cell (noise, arm, seed) is a file under `results`, teachers and releases are too: the same command goes on where it
was stopped, and more seeds or noises may be added. `results/table.md` and `results/table.json` hold everything.
"""

from __future__ import annotations

import argparse
import json
import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from box_arms import ARMS, OURS, arms, curated
from box_metrics import map_and_ap50, matched, paired
from box_net import found_in, train
from box_teachers import teacher_files
from box_world import World, boxes_of, read_world, spoiled

LOGGER = logging.getLogger("student")
SIZES = (
    ("seeds", 3), ("first-seed", 0), ("test", 110), ("steps", 360), ("teacher-steps", 240), ("teachers", 1), ("folds", 3),
    ("width", 24), ("height-px", 144), ("width-px", 192), ("resamples", 500),
)  # fmt: skip
ADDED = (
    "noise",
    "seeds",
    "first_seed",
    "resamples",
    "arms",
    "out",
    "data",
    "policy",
)  # may differ from call to call
Cells = dict[tuple[str, int], Mapping[str, Any]]


def cells_of(world: World, noise: str, options: argparse.Namespace) -> tuple[Cells, list[dict[str, Any]]]:
    """Return (arm, seed) -> what was measured, and what was planted and released of each seed."""
    found: Cells = {}
    told = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        paths = {arm: cell_path(options.out, noise, arm, seed) for arm in options.arms}
        about = options.out / "cells" / noise.replace(":", "-") / f"about-{seed}.json"
        missing = [arm for arm, path in paths.items() if not path.is_file()]
        if missing or not about.is_file():
            about.parent.mkdir(parents=True, exist_ok=True)
            train_cells(world, noise, seed, {arm: paths[arm] for arm in missing}, about, options)
        told.append(json.loads(about.read_text(encoding="utf-8")))
        for arm, path in paths.items():
            with np.load(path) as stored:
                found[arm, seed] = dict(stored)
    return found, told


def cell_path(out: Path, noise: str, arm: str, seed: int) -> Path:
    """Return where a cell stands; true boxes are the same whatever was wrong with the given ones."""
    folder = "any" if arm == "oracle" else noise.replace(":", "-")
    return out / "cells" / folder / f"{arm.replace(',', '').replace(' ', '-')}-{seed}.npz"


def train_cells(
    world: World, noise: str, seed: int, paths: Mapping[str, Path], about: Path, options: argparse.Namespace
) -> None:
    """Plant, teach, curate, train: one seed of one noise."""
    labels, planted = spoiled(world, noise, seed)
    folder = options.out / "runs" / f"{noise.replace(':', '-')}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    given, truth = boxes_of(world, labels, world.train), boxes_of(world, world.labels, world.train)
    teachers = teacher_files(
        world, given, folder, seed, n_teachers=options.teachers, n_folds=options.folds, n_steps=options.teacher_steps,
        width=options.width,
    )  # fmt: skip
    kept = folder / "release.pkl"
    if not kept.is_file():
        kept.write_bytes(pickle.dumps(curated(world, labels, teachers, folder, options.settings)))
    items, counts = pickle.loads(kept.read_bytes())  # noqa: S301 - written here
    counts |= {"n_given": len(given.label), "n_true": len(truth.label), "planted": planted}
    about.write_text(json.dumps(counts) + "\n", encoding="utf-8")
    tested = boxes_of(world, world.labels, world.test)
    place = np.searchsorted(world.test, tested.image)
    every = arms(world, given, truth, items)
    for arm, path in paths.items():
        net = train(
            world.pixels[world.train],
            every[arm],
            len(world.classes),
            seed,
            n_steps=options.steps,
            width=options.width,
        )
        found = found_in(net, world.pixels[world.test])
        cell = matched(found, tested.boxes, tested.label, place, world.size_px[world.test], len(world.classes))
        LOGGER.info("%s, seed %d, %s: mAP %.3f, AP50 %.3f", noise, seed, arm, *cell["stats"])
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".part.npz")
        np.savez(beside, **cell)
        beside.replace(path)


def rows_of(cells: Cells, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each arm: means over seeds, and what the release is better by."""
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    rows = []
    for arm in options.arms:
        mine = [cells[arm, seed] for seed in seeds]
        both = np.array([map_and_ap50(cell) for cell in mine])
        row: dict[str, Any] = {
            "arm": arm,
            "map": float(both[:, 0].mean()),
            "ap50": float(both[:, 1].mean()),
            "map_by_seed": both[:, 0].round(4).tolist(),
            "ap50_by_seed": both[:, 1].round(4).tolist(),
        }
        if arm != "raw labels" and "raw labels" in options.arms:
            raw = [cells["raw labels", seed] for seed in seeds]
            mean, low, high = paired(mine, raw, options.resamples)
            row |= {
                f"{name}_minus_raw": [float(v[at]) for v in (mean, low, high)]
                for at, name in enumerate(("map", "ap50"))
            }
        rows.append(row)
    return rows


def as_markdown(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the tables of all noises."""
    lines = []
    for noise, told in tables.items():
        lines += [f"`{noise}`", ""]
        lines += [_of_seed(one) for one in told["seeds"]]
        lines += [
            "",
            "| trained on | mAP | minus raw (95 %) | AP50 | minus raw (95 %) |",
            "| --- | --- | --- | --- | --- |",
        ]
        for row in told["rows"]:
            gaps = [_gap(row.get(f"{name}_minus_raw")) for name in ("map", "ap50")]
            name = f"**{row['arm']}**" if row["arm"] == OURS else row["arm"]
            lines.append(f"| {name} | {100 * row['map']:.1f} | {gaps[0]} | {100 * row['ap50']:.1f} | {gaps[1]} |")
        lines.append("")
    return "\n".join(lines)


def _gap(gap: list[float] | None) -> str:
    return f"{100 * gap[0]:+.1f} ({100 * gap[1]:+.1f} to {100 * gap[2]:+.1f})" if gap else "-"


def _of_seed(one: Mapping[str, Any]) -> str:
    planted = ", ".join(f"{n} {kind}" for kind, n in sorted(one["planted"].items())) or "nothing"
    flags = ", ".join(f"{n} {issue}" for issue, n in one["flags"].items())
    held = one["n_images_held_back"]
    return (
        f"{one['n_true']} boxes, planted: {planted}; flagged: {flags}; released: {one['n_boxes']} boxes of "
        f"{one['n_images']} images, {one['n_ignored']} places to ignore, {held} images held back"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--noise", nargs="+", default=["mixed:0.2"])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--policy", type=Path, help="YAML of a policy; default: the default policy")
    parser.add_argument("--limit", type=int)
    for name, value in SIZES:
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    options.settings = yaml.safe_load(options.policy.read_text(encoding="utf-8")) if options.policy else {}
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    LOGGER.setLevel(logging.INFO)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    refuse_other(options)
    size_px = (options.height_px, options.width_px)
    world = read_world(options.data, options.out, size_px=size_px, n_test=options.test, limit=options.limit)
    tables = {}
    for noise in options.noise:
        cells, told = cells_of(world, noise, options)
        tables[noise] = {"seeds": told, "rows": rows_of(cells, options)}
    about = {name: value for name, value in sorted(vars(options).items()) if name not in {"out", "data", "policy"}}
    (options.out / "table.json").write_text(
        json.dumps({"about": about, **tables}, indent=1) + "\n", encoding="utf-8"
    )
    (options.out / "table.md").write_text(as_markdown(tables), encoding="utf-8")
    print(as_markdown(tables))


def refuse_other(options: argparse.Namespace) -> None:
    """Refuse a folder with cells of other settings; more seeds, noises and arms may be added."""
    told = {name: value for name, value in vars(options).items() if name not in ADDED}
    text = json.dumps({**told, "data": options.data.name}, sort_keys=True)
    path = options.out / "about.json"
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise SystemExit(f"{options.out} holds results of other settings; give another folder.")
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
