"""Planted errors on tracks where they are hard to find: shaky boxes, few frames, moving cameras, crowds, bad trackers.

    python benchmarks/label_errors/tracks_stress.py TRACKS.zip [--seeds 3] [--scenes jitter_2,crowd] [--out FILE.csv]

Errors are planted as in tracks.py and measured alike, without a tracker, with each alone and with all. Every scene
changes labels and trackers first:

- plain: nothing;
- jitter_N: every edge of a labeled box moves by noise of N % of the box's diagonal, afresh in each frame;
- crowd: ids are exchanged only between boxes that overlap or stand within half a diagonal; crowd_jitter_2: both;
- half_rate, third_rate: every second, every third frame is left;
- camera: the picture pans up to 8 pixels a frame and shakes with 3 pixels (standard deviation);
- unseen: labels of boxes of which less than a quarter is visible are gone (natural gaps);
- holes: every tenth labeled box is gone in half of the frames at random (annotators who skip);
- fragments: a tracker's ids end after 15 frames on average and go on under a new one, and half of its boxes are gone;
- lazy: all with 2 % noise, half of the frames, a moving camera and fragments.

Printed per scene and contender: average precision, and F1 of what is flagged, by kind; then what is flagged per
10,000 boxes where nothing was planted.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tracks import BOX, FRAME, ID, KINDS, Planter, Pool, curate_scores, plant, trackers_in, tracks_in

Rows = np.ndarray
Change = Callable[[Rows, np.random.Generator], Rows]
VISIBILITY = 8


@dataclass
class Scene:
    """What happens to the labels, to a tracker, and whose ids are exchanged."""

    labels: tuple[Change, ...] = ()
    both: tuple[Change, ...] = ()
    trackers: tuple[Change, ...] = ()
    crowd: bool = False


def jitter(share: float) -> Change:
    def change(rows: Rows, random: np.random.Generator) -> Rows:
        moved = rows.copy()
        moved[:, BOX] += random.normal(size=(len(rows), 4)) * share * np.hypot(rows[:, 4], rows[:, 5])[:, None]
        moved[:, 4:6] = np.maximum(moved[:, 4:6], 3)
        moved[:, BOX] = np.round(moved[:, BOX])
        return moved

    return change


def every(n: int) -> Change:
    def change(rows: Rows, _random: np.random.Generator) -> Rows:
        left = rows[rows[:, FRAME] % n == 1 % n].copy()
        left[:, FRAME] = left[:, FRAME] // n + 1
        return left

    return change


def camera(rows: Rows, _random: np.random.Generator) -> Rows:
    at = np.arange(20_000)
    shake = np.random.default_rng(7)
    pan = np.stack([8 * np.sin(at / 40), 3 * np.sin(at / 25)], axis=1).cumsum(axis=0)
    place = pan + shake.normal(scale=3, size=(len(at), 2))
    moved = rows.copy()
    moved[:, 2:4] = np.round(moved[:, 2:4] + place[moved[:, FRAME].astype(int)], 1)
    return moved


def unseen(rows: Rows, _random: np.random.Generator) -> Rows:
    return rows[rows[:, VISIBILITY] >= 0.25]


def holes(rows: Rows, random: np.random.Generator) -> Rows:
    frames = random.random(20_000) < 0.5
    return rows[~(frames[rows[:, FRAME].astype(int)] & (random.random(len(rows)) < 0.1))]


def fragments(rows: Rows, random: np.random.Generator) -> Rows:
    order = np.lexsort([rows[:, FRAME], rows[:, ID]])
    rows = rows[order].copy()
    rows[:, ID] = np.cumsum((np.diff(rows[:, ID], prepend=-1) != 0) | (random.random(len(rows)) < 1 / 15))
    return rows[random.random(len(rows)) < 0.5]


SCENES = {
    "plain": Scene(),
    "jitter_1": Scene(labels=(jitter(0.01),)),
    "jitter_2": Scene(labels=(jitter(0.02),)),
    "jitter_3": Scene(labels=(jitter(0.03),)),
    "jitter_5": Scene(labels=(jitter(0.05),)),
    "crowd": Scene(crowd=True),
    "crowd_jitter_2": Scene(labels=(jitter(0.02),), crowd=True),
    "half_rate": Scene(both=(every(2),)),
    "third_rate": Scene(both=(every(3),)),
    "camera": Scene(both=(camera,)),
    "unseen": Scene(labels=(unseen,)),
    "holes": Scene(labels=(holes,)),
    "fragments": Scene(trackers=(fragments,)),
    "lazy": Scene(labels=(jitter(0.02),), both=(every(2), camera), trackers=(fragments,)),
}


class CrowdPlanter(Planter):
    """Exchanges ids only where two boxes overlap or nearly do."""

    def spot(self, length: int) -> tuple[int, np.ndarray] | None:
        if not self.in_switch:
            return super().spot(length)
        for _ in range(200):
            found = super().spot(length)
            if found is not None and self.close(found[0], found[1][0]):
                return found
        return None

    def id_switch(self) -> None:
        self.in_switch = True
        super().id_switch()
        self.in_switch = False

    def neighbours(self, one: int, row: int, n: int) -> list[int]:
        return self.close(one, row) if self.in_switch else super().neighbours(one, row, n)

    def close(self, one: int, row: int) -> list[int]:
        centre = self.truth[row, 2:4] + self.truth[row, 4:6] / 2
        found = []
        for other in super().neighbours(one, row, 3):
            rows = self.frames_of[other]
            there = self.truth[rows[self.truth[rows, FRAME] == self.truth[row, FRAME]][0]]
            apart = np.hypot(*(there[2:4] + there[4:6] / 2 - centre))
            if apart < 0.5 * max(np.hypot(*there[4:6]), np.hypot(*self.truth[row, 4:6])):
                found.append(other)
        return found

    in_switch = False


def write(path: Path, rows: Rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, rows, fmt="%.10g", delimiter=",")
    return path


def changed(path: Path, changes: Iterable[Change], random: np.random.Generator) -> Rows:
    rows = np.loadtxt(path, delimiter=",")
    for change in changes:
        rows = change(rows, random)
    return rows


def truth_of(scene: Scene, path: Path, random: np.random.Generator) -> Rows:
    """Return the labels of a sequence as they are in the scene; they are drawn before the teachers."""
    return changed(path, (*scene.labels, *scene.both), random)


def write_teachers(
    scene: Scene, folder: Path, sequence: str, home: Path, random: np.random.Generator
) -> dict[str, Path]:
    """Write under `home` what each tracker says of a sequence in the scene."""
    changes = (*scene.both, *scene.trackers)
    return {
        name: write(home / name / sequence, changed(folder / name / sequence, changes, random))
        for name in trackers_in(folder)
    }


def run_scene(scene: Scene, folder: Path, seeds: int) -> list[list[str]]:
    names = trackers_in(folder)
    contenders = {"no tracker": [], names[-1]: names[-1:], "all": names}
    pools: dict[tuple[str, str], Pool] = {}
    clean = {title: dict.fromkeys(KINDS, 0.0) for title in contenders}
    n_clean = 0
    for file in sorted((folder / "gt").glob("*.txt")):
        for seed in range(seeds):
            random = np.random.default_rng([seed, len(file.name)])
            truth = truth_of(scene, file, random)
            made, left = plant(truth, 1000 * seed + len(file.name), CrowdPlanter if scene.crowd else Planter)
            with tempfile.TemporaryDirectory() as temporary:
                home = Path(temporary)
                teachers = write_teachers(scene, folder, file.name, home, random)
                spoiled = write(home / "spoiled" / file.name, made.rows[left])
                as_given = write(home / "given" / file.name, truth)
                n_clean += len(truth)
                for title, chosen in contenders.items():
                    told = {name: teachers[name] for name in chosen}
                    scores, flagged = curate_scores(spoiled, told, len(left))
                    _pool(pools, title, scores, flagged, made, left)
                    _, alarms = curate_scores(as_given, told, len(truth))
                    for kind in KINDS:
                        clean[title][kind] += alarms[kind].sum()
    return [
        [title, *(_cell(pools[title, k], clean[title][k] * 1e4 / n_clean) for k in KINDS)] for title in contenders
    ]


def _cell(pool: Pool, alarms: float) -> str:
    flagged, wrong = np.concatenate(pool.flagged), np.concatenate(pool.wrong)
    f1 = 2 * (flagged & wrong).sum() / max(flagged.sum() + wrong.sum(), 1)
    return f"{pool.measure(0)[0]:.2f} {f1:.2f} {alarms:.1f}"


def _pool(pools, title, scores, flagged, made, left) -> None:  # noqa: ANN001
    for kind in KINDS:
        wrong = np.isin(left, sorted(made.wrong[kind]))
        counted = ~np.isin(left, sorted(made.neither[kind] - made.wrong[kind]))
        pool = pools.setdefault((title, kind), Pool())
        pool.score.append(scores[kind][counted])
        pool.wrong.append(wrong[counted])
        pool.track.append(np.zeros(counted.sum(), dtype=int))
        pool.flagged.append(flagged[kind][counted])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tracks", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scenes", default=",".join(SCENES))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    table = [["scene", "contender", *KINDS]]
    print("AP, F1, flagged per 10,000 boxes without planted errors")
    print(" | ".join(table[0]))
    with tracks_in(options.tracks) as folder:
        for name in options.scenes.split(","):
            for row in run_scene(SCENES[name], folder, options.seeds):
                table.append([name, *row])
                print(" | ".join(table[-1]), flush=True)
    if options.out:
        with options.out.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(table)


if __name__ == "__main__":
    main()
