"""Planted errors on real tracks, found with real trackers as teachers: average precision over boxes, by kind.

    python benchmarks/label_errors/tracks.py TRACKS.zip [--seeds 5] [--resamples 200] [--jitter 0] [--out results.csv]

TRACKS.zip (or a folder) has `gt/SEQUENCE.txt` and, for each tracker, `NAME/SEQUENCE.txt`, all MOT csv. In every seed
each sequence gets, per 25 long tracks, 6 errors of each kind, on ids and frames that are 25 frames apart:

- id switch: an id and one of its three nearest neighbours exchange ids, for good or for 10 to 40 frames. To be found
  is the first box of either id; the other boxes that carry a wrong id count neither way, and have a row of their own;
- class flip: 1 to 20 boxes of an id get another class of the set;
- gap: 2 to 20 boxes in the middle of a track are taken out. To be found is the box after them;
- jump: 1 to 5 boxes move by .3 to 3 box diagonals. To be found is each of them;
- duplicate id: a box gets the id of one of its five nearest neighbours. To be found is that box; the other one of
  that id counts neither way.

Only ids that are followed by the trackers' kind (class 1, to be considered) are hit. Nothing gives a planted box
away but the error: all coordinates are whole pixels like the ground truth's, ids are renumbered at random, rows are
shuffled, the frame's edge is kept, and equal risks count as one group. Intervals: bootstrap over the tracks.
The ground truth is interpolated and very smooth; `--jitter .02` moves every edge of every box by noise of that share
of its diagonal first, as labels drawn frame by frame have it.
Beside curate (without, with one and with all trackers) stand rules that anybody would write first; no peer has any.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from unpacked import unpacked

from curate.teachers.tracks.flag_tracks import flag_tracks

KINDS = ("id_switch", "class_flip", "gap", "jump", "duplicate_id")
APART = 25
FRAME, ID, BOX, CLASS, CONSIDER = 0, 1, slice(2, 6), 7, 6


@contextmanager
def tracks_in(path: Path) -> Iterator[Path]:
    """Give the folder with `gt` and the trackers' folders, in `path` or in the archive at `path`."""
    with unpacked(path) as folder:
        yield next(one.parent for one in (folder / "gt", *folder.rglob("gt")) if one.is_dir())


def trackers_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name != "gt")


@dataclass
class Planted:
    rows: np.ndarray
    wrong: dict[str, set[int]] = field(default_factory=lambda: {kind: set() for kind in KINDS})
    neither: dict[str, set[int]] = field(default_factory=lambda: {kind: set() for kind in KINDS})
    all_wrong_ids: set[int] = field(default_factory=set)
    removed: set[int] = field(default_factory=set)


class Planter:
    """Plants errors into one sequence; every error keeps `APART` frames from any other on the ids it touches."""

    def __init__(self, rows: np.ndarray, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.made = Planted(rows.copy())
        self.truth = rows
        self.frames_of = {}
        eligible = rows[(rows[:, CLASS] == 1) & (rows[:, CONSIDER] == 1)]
        for one in np.unique(eligible[:, ID]):
            at = np.flatnonzero(rows[:, ID] == one)
            if len(at) >= 3 * APART:
                self.frames_of[int(one)] = at[np.argsort(rows[at, FRAME])]
        self.busy: dict[int, list[tuple[int, int]]] = {one: [] for one in self.frames_of}
        self.classes = np.unique(rows[:, CLASS])

    def free(self, one: int, low: int, high: int) -> bool:
        return all(high + APART < a or low - APART > b for a, b in self.busy[one])

    def spot(self, length: int) -> tuple[int, np.ndarray] | None:
        """Return an id and `length` rows in a row of its track, a second away from both its ends."""
        for _ in range(200):
            one = int(self.random.choice(list(self.frames_of)))
            at = self.frames_of[one]
            if len(at) < length + 20:
                continue
            start = int(self.random.integers(10, len(at) - length - 9))
            rows = at[start : start + length]
            low, high = self.truth[rows[[0, -1]], FRAME].astype(int)
            if self.free(one, low, high):
                return one, rows
        return None

    def neighbours(self, one: int, row: int, n: int) -> list[int]:
        here = self.truth[self.truth[:, FRAME] == self.truth[row, FRAME]]
        here = here[[int(i) in self.frames_of and int(i) != one for i in here[:, ID]]]
        centre = self.truth[row, 2:4] + self.truth[row, 4:6] / 2
        order = np.argsort(np.hypot(*(here[:, 2:4] + here[:, 4:6] / 2 - centre).T), kind="stable")
        return [int(i) for i in here[order[:n], ID]]

    def id_switch(self) -> None:
        lasts = self.random.random() < 0.5
        length = 1 if lasts else int(self.random.integers(10, 41))
        found = self.spot(length)
        if found is None:
            return
        one, rows = found
        low, high = self.truth[rows[[0, -1]], FRAME].astype(int)
        near = self.neighbours(one, rows[0], 3)
        self.random.shuffle(near)
        for other in near:
            theirs = self.frames_of[other]
            frames = self.truth[theirs, FRAME]
            if not ({low - 1, low, high} <= set(frames.astype(int)) and self.free(other, low, high)):
                continue
            until = np.inf if lasts else high
            first = [int(at[self.truth[at, FRAME] == low][0]) for at in (self.frames_of[one], theirs)]
            ids = self.made.rows[first, ID]
            later = (self.truth[:, FRAME] >= low) & (self.truth[:, FRAME] <= until)
            held = [later & (self.made.rows[:, ID] == i) for i in ids]
            for rows_of, new in zip(held, ids[::-1], strict=True):
                self.made.rows[rows_of, ID] = new
            self.made.wrong["id_switch"] |= set(first)
            for who in (one, other):
                self.busy[who].append((low, high + 1))
            return

    def class_flip(self) -> None:
        found = self.spot(int(self.random.integers(1, 21)))
        if found:
            self.take(*found)
            self.made.rows[found[1], CLASS] = self.random.choice(self.classes[self.classes != 1])
            self.made.wrong["class_flip"] |= {int(i) for i in found[1]}

    def gap(self) -> None:
        found = self.spot(int(self.random.integers(2, 21)))
        if found:
            self.take(*found)
            at = self.frames_of[found[0]]
            place = int(np.flatnonzero(at == found[1][-1])[0])
            first = int(np.flatnonzero(at == found[1][0])[0])
            self.made.removed |= {int(i) for i in found[1]}
            self.made.wrong["gap"].add(int(at[place + 1]))
            self.made.neither["gap"].add(int(at[first - 1]))

    def jump(self) -> None:
        found = self.spot(int(self.random.integers(1, 6)))
        if found:
            self.take(*found)
            rows = found[1]
            x, y, w, h = self.truth[rows[0], BOX]
            angle = self.random.uniform(0, 2 * np.pi)
            by = self.random.uniform(0.3, 3.0) * np.hypot(w, h) * np.array([np.cos(angle), np.sin(angle)])
            right, bottom = (self.truth[:, 2:4] + self.truth[:, 4:6]).max(axis=0)
            for axis, (at, side, end) in enumerate(((x, w, right), (y, h, bottom))):
                if not 0 <= at + by[axis] <= end - side:
                    by[axis] = -by[axis]
            self.made.rows[rows, 2:4] = np.round(self.truth[rows, 2:4] + by)
            self.made.wrong["jump"] |= {int(i) for i in rows}

    def duplicate_id(self) -> None:
        found = self.spot(1)
        if found is None:
            return
        one, (row,) = found
        frame = int(self.truth[row, FRAME])
        near = [other for other in self.neighbours(one, row, 5) if self.free(other, frame, frame)]
        if not near:
            return
        other = int(self.random.choice(near))
        twin = self.frames_of[other][self.truth[self.frames_of[other], FRAME] == frame][0]
        for who in (one, other):
            self.busy[who].append((frame, frame))
        self.made.rows[row, ID] = self.made.rows[twin, ID]
        self.made.wrong["duplicate_id"].add(int(row))
        self.made.neither["duplicate_id"].add(int(twin))

    def take(self, one: int, rows: np.ndarray) -> None:
        low, high = self.truth[rows[[0, -1]], FRAME].astype(int)
        self.busy[one].append((low, high))


def plant(rows: np.ndarray, seed: int, kind: type[Planter] = Planter) -> tuple[Planted, np.ndarray]:
    """Return what was planted, and the place in the shuffled file of each row that is left."""
    planter = kind(rows, seed)
    n_each = max(2, round(6 * len(planter.frames_of) / 25))
    for _ in range(n_each):
        for error in KINDS:
            getattr(planter, error)()
    carries = set(np.flatnonzero(planter.made.rows[:, ID] != rows[:, ID]).tolist())
    planter.made.all_wrong_ids = carries - planter.made.wrong["duplicate_id"]
    planter.made.neither["id_switch"] = planter.made.all_wrong_ids - planter.made.wrong["id_switch"]
    left = np.setdiff1d(np.arange(len(rows)), sorted(planter.made.removed))
    planter.random.shuffle(left)
    ids = np.unique(planter.made.rows[:, ID])
    new = dict(zip(ids, planter.random.permutation(len(ids)) + 1, strict=True))
    planter.made.rows[:, ID] = [new[i] for i in planter.made.rows[:, ID]]
    return planter.made, left


Scores = dict[str, np.ndarray]


def curate_scores(labels: Path, teachers: dict[str, Path], n: int) -> tuple[Scores, dict[str, np.ndarray]]:
    """Return the risk by kind, and what is flagged, of each line."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "flags.parquet"
        flag_tracks(labels, teachers, out)
        table = pq.read_table(out, columns=["line", "issue", "risk", "flagged"]).to_pandas()
    table = table[table["line"].notna()]
    scores, flagged = {}, {}
    for kind in KINDS:
        own = table[table["issue"] == kind]
        scores[kind], flagged[kind] = np.zeros(n), np.zeros(n, dtype=bool)
        scores[kind][own["line"].astype(int) - 1] = own["risk"]
        flagged[kind][own["line"].astype(int) - 1] = own["flagged"] & (own["risk"] >= 0.5)
    return scores, flagged


def simple_scores(rows: np.ndarray) -> Scores:
    """Return what rules that look at the box before say: of its id, in order of frames."""
    order = np.lexsort([rows[:, FRAME], rows[:, ID]])
    scores = {kind: np.zeros(len(rows)) for kind in KINDS}
    for before, after in pairwise(order):
        one, two = rows[before], rows[after]
        if one[ID] != two[ID]:
            continue
        n = two[FRAME] - one[FRAME]
        moved = np.hypot(*(two[2:4] + two[4:6] / 2 - one[2:4] - one[4:6] / 2)) / np.hypot(*two[4:6])
        scores["jump"][after] = moved
        low, high = np.maximum(one[2:4], two[2:4]), np.minimum(one[2:4] + one[4:6], two[2:4] + two[4:6])
        shared = np.clip(high - low, 0, None).prod()
        scores["id_switch"][after] = 1 - shared / (one[4:6].prod() + two[4:6].prod() - shared)
        scores["gap"][after] = max(n - 1, 0)
        scores["class_flip"][after] = one[CLASS] != two[CLASS]
        if n == 0:
            scores["duplicate_id"][[before, after]] = 1
    return scores


def average_precision(score: np.ndarray, wrong: np.ndarray, weight: np.ndarray) -> float:
    order = np.argsort(-score, kind="stable")
    levels, hit, all_ = score[order], (weight * wrong)[order], weight[order]
    last = np.append(levels[1:] != levels[:-1], True)
    hits, seen = np.cumsum(hit)[last], np.cumsum(all_)[last]
    total = hits[-1]
    return float((np.diff(hits, prepend=0.0) * hits / np.maximum(seen, 1e-300)).sum() / total) if total else np.nan


@dataclass
class Pool:
    """What a contender said of a kind over all seeds and sequences."""

    score: list[np.ndarray] = field(default_factory=list)
    wrong: list[np.ndarray] = field(default_factory=list)
    track: list[np.ndarray] = field(default_factory=list)
    flagged: list[np.ndarray] = field(default_factory=list)

    def measure(self, n_resamples: int) -> tuple[float, float, float]:
        score, wrong = np.concatenate(self.score), np.concatenate(self.wrong)
        _, track = np.unique(np.concatenate(self.track), return_inverse=True)
        _, score = np.unique(score, return_inverse=True)
        value = average_precision(score, wrong, np.ones(len(score)))
        random = np.random.default_rng(0)
        n = int(track.max()) + 1
        drawn = [
            average_precision(score, wrong, random.multinomial(n, np.ones(n) / n)[track].astype(float))
            for _ in range(n_resamples)
        ]
        low, high = np.nanquantile(drawn, [0.025, 0.975]) if drawn else (np.nan, np.nan)
        return value, float(low), float(high)

    def f1(self) -> str:
        flagged, wrong = np.concatenate(self.flagged), np.concatenate(self.wrong)
        hit = (flagged & wrong).sum()
        return f"{hit / max(flagged.sum(), 1):.2f} {hit / max(wrong.sum(), 1):.2f}"


def contenders(names: list[str]) -> dict[str, list[str] | None]:
    """Return who is asked: title -> trackers beside curate, None for the simple rules."""
    alone: dict[str, list[str] | None] = {f"curate, {name}": [name] for name in names}
    return {"simple rules": None, "curate, no teacher": [], **alone, "curate, all trackers": names}


def run(folder: Path, seeds: int, n_resamples: int, jitter: float) -> list[list[str]]:
    names = trackers_in(folder)
    pools: dict[tuple[str, str], Pool] = {}
    seconds: dict[str, float] = {}
    for file in sorted((folder / "gt").glob("*.txt")):
        truth = np.loadtxt(file, delimiter=",")
        if jitter:
            noise = np.random.default_rng(0).normal(size=(len(truth), 4)) * jitter
            truth[:, BOX] += noise * np.hypot(truth[:, 4], truth[:, 5])[:, None]
            truth[:, 4:6] = np.maximum(truth[:, 4:6], 3)
            truth[:, BOX] = np.round(truth[:, BOX])
        for seed in range(seeds):
            made, left = plant(truth, 1000 * seed + len(file.name))
            rows = made.rows[left]
            with tempfile.TemporaryDirectory() as temporary:
                labels = Path(temporary) / file.name
                np.savetxt(labels, rows, fmt="%d,%d,%d,%d,%d,%d,%d,%d,%.4f")
                for title, chosen in contenders(names).items():
                    started = time.perf_counter()
                    if chosen is None:
                        scores, flagged = simple_scores(rows), None
                    else:
                        teachers = {name: folder / name / file.name for name in chosen}
                        scores, flagged = curate_scores(labels, teachers, len(rows))
                    seconds[title] = seconds.get(title, 0.0) + time.perf_counter() - started
                    _pool(pools, title, scores, flagged, made, left, f"{file.name}/{seed}")
    table = [["contender", *KINDS, "all wrong ids", "seconds"]]
    for title, spent in seconds.items():
        cells = []
        for kind in (*KINDS, "all wrong ids"):
            pool = pools[title, kind]
            value, low, high = pool.measure(n_resamples)
            n_wrong = int(np.concatenate(pool.wrong).sum())
            told = f"{value:.3f} [{low:.3f}, {high:.3f}] of {n_wrong}"
            cells.append(f"{told}, P R {pool.f1()}" if pool.flagged else told)
        table.append([title, *cells, f"{spent:.1f}"])
    return table


def _pool(pools, title, scores, flagged, made, left, unit) -> None:  # noqa: ANN001
    track = np.array([f"{unit}/{i}" for i in made.rows[left, ID].astype(int)])
    for kind in (*KINDS, "all wrong ids"):
        issue = kind if kind in KINDS else "id_switch"
        marked = made.wrong[kind] if kind in KINDS else made.all_wrong_ids
        skipped = made.neither.get(kind, set())
        wrong = np.isin(left, sorted(marked))
        counted = ~np.isin(left, sorted(skipped - marked))
        pool = pools.setdefault((title, kind), Pool())
        pool.score.append(scores[issue][counted])
        pool.wrong.append(wrong[counted])
        pool.track.append(track[counted])
        if flagged is not None and kind in KINDS:
            pool.flagged.append(flagged[issue][counted])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tracks", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--jitter", type=float, default=0.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tracks_in(options.tracks) as folder:
        rows = run(folder, options.seeds, options.resamples, options.jitter)
    for row in rows:
        print(" | ".join(row))
    if options.out:
        with options.out.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)


if __name__ == "__main__":
    main()
