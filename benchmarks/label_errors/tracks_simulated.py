"""Long exchanges, gaps and jumps in simulated scenes: other frame rates, cameras, numbers of people, shaky drawing.

    python benchmarks/label_errors/tracks_simulated.py [--seeds 2]

People walk with a slowly changing velocity, stop and go on, and leave; the nearer to the camera, the larger. Nothing
here comes from the sequences that tracks.py reads. Errors are planted and counted as tracks_judge.py does in its style
"long", without trackers: AP over boxes.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from tracks import average_precision
from tracks_judge import FRAME, ID, WH, XY, Judge, measured
from tracks_stress import write

from curate.teachers.tracks.flag_tracks import flag_tracks

SIDES = (1920, 1080)
COUNTED = (
    ("id_switch", "first"),
    ("id_switch", "all"),
    ("gap", "first"),
    ("gap", "rows"),
    ("jump", "first"),
    ("any", "all"),
)


@dataclass(frozen=True)
class Scene:
    """People in the picture at a time, seconds, frames a second, annotated frames, drawing noise and camera speed.

    `jitter` is the standard deviation of each edge in diagonals; with `heavy`, one box in ten has four times as much.
    """

    people: int = 15
    seconds: float = 40.0
    rate: float = 25.0
    stride: int = 1
    jitter: float = 0.0
    heavy: bool = False
    pan_px: float = 0.0


SCENES = {
    "steady": Scene(),
    "jitter 1 %": Scene(jitter=0.01),
    "jitter 2 %": Scene(jitter=0.02),
    "jitter 2 %, one in ten 8 %": Scene(jitter=0.02, heavy=True),
    "jitter 2 %, every 5th frame": Scene(jitter=0.02, stride=5, seconds=120.0),
    "jitter 2 %, 10 frames a second": Scene(jitter=0.02, rate=10.0, seconds=80.0),
    "jitter 2 %, moving camera": Scene(jitter=0.02, pan_px=8.0),
    "jitter 2 %, 6 people": Scene(jitter=0.02, people=6, seconds=80.0),
    "jitter 2 %, 40 people": Scene(jitter=0.02, people=40, seconds=20.0),
}


def simulated(scene: Scene, random: np.random.Generator) -> np.ndarray:
    """Return MOT rows: frame, id, x, y, w, h, consider, class, visibility."""
    n_frames = int(scene.seconds * scene.rate)
    rows: list[np.ndarray] = []
    name = 0
    for _ in range(scene.people):
        frame = 0
        while frame < n_frames:
            name += 1
            length = min(int(random.uniform(4, 20) * scene.rate), n_frames - frame)
            rows.append(walk(name, frame, length, scene, random))
            frame += length + int(random.uniform(0.5, 3) * scene.rate)
    truth = np.concatenate(rows)
    pan = scene.pan_px * np.sin(np.arange(n_frames + 1) / scene.rate * 1.5).cumsum()
    truth[:, XY.start] += pan[truth[:, FRAME].astype(int)]
    diagonal = np.hypot(*truth[:, WH].T)[:, None]
    shake = scene.jitter * diagonal * (np.where(random.random((len(truth), 1)) < 0.1, 4, 1) if scene.heavy else 1)
    low = truth[:, XY] + random.normal(size=(len(truth), 2)) * shake
    high = truth[:, XY] + truth[:, WH] + random.normal(size=(len(truth), 2)) * shake
    truth[:, XY], truth[:, WH] = low, np.maximum(high - low, 2)
    truth = truth[truth[:, FRAME] % scene.stride == 1 % scene.stride]
    truth[:, FRAME] = truth[:, FRAME] // scene.stride + 1
    return np.round(truth, 1)


def walk(name: int, start: int, n: int, scene: Scene, random: np.random.Generator) -> np.ndarray:
    """Return the rows of one person: velocities wander, three seconds to forget; now and then a stop of some seconds."""
    depth = random.uniform(0.3, 1.0)
    height = 360 * depth
    keeps = np.exp(-1 / (3 * scene.rate))
    speed = np.zeros((n, 2))
    speed[0] = random.normal(size=2) * [height * 0.5, height * 0.1] / scene.rate
    for at in range(1, n):
        push = random.normal(size=2) * [height * 0.5, height * 0.1] / scene.rate
        speed[at] = keeps * speed[at - 1] + np.sqrt(1 - keeps**2) * push
    moving = np.ones(n)
    if random.random() < 0.3:
        stop = int(random.integers(n))
        moving[stop : stop + int(random.uniform(1, 4) * scene.rate)] = 0
    foot = random.uniform([0, 300], SIDES) * [1, depth] + (speed * moving[:, None]).cumsum(axis=0)
    width = height * 0.4 * (1 + 0.1 * np.sin(np.arange(n) / scene.rate * 6 + random.uniform(0, 6)))
    rows = np.ones((n, 9))
    rows[:, FRAME], rows[:, ID] = np.arange(start, start + n) + 1, name
    rows[:, XY] = foot - np.stack([width / 2, np.full(n, height)], axis=1)
    rows[:, WH] = np.stack([width, np.full(n, height)], axis=1)
    return rows


def judged(scene: Scene, seed: int) -> dict[tuple[str, str], tuple]:
    truth = simulated(scene, np.random.default_rng([seed, 1]))
    judge = Judge(truth, "long", seed, only=("switch", "gap", "jump"))
    rows, number = judge.done()
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / "gt.txt", Path(folder) / "out.parquet"
        write(file, rows)
        flag_tracks(file, {}, out)
        return measured(judge, number, rows, pq.read_table(out).to_pandas())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--scenes", nargs="*", choices=SCENES, default=list(SCENES), metavar="SCENE")
    parser.add_argument("--seconds", type=float, help="of each scene; default: its own")
    options = parser.parse_args()
    seeds = options.seeds
    print("| scene |", " | ".join(" ".join(one) for one in COUNTED), "|")
    for name in options.scenes:
        scene = replace(SCENES[name], seconds=options.seconds or SCENES[name].seconds)
        found = [judged(scene, seed) for seed in range(seeds)]
        cells = []
        for key in COUNTED:
            parts = [one[key] for one in found if key in one]
            risk, wrong = (np.concatenate([part[at] for part in parts]) for at in (0, 1))
            cells.append(f"{average_precision(risk, wrong, np.ones(len(risk))):.2f}")
        print("|", name, "|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
