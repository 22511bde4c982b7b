"""Ids that leave their course together and come back: is that told as jumps, or as an exchange that never was?

    python benchmarks/label_errors/tracks_excursions.py [--seeds 3] [--first-seed 0] [--no-teachers]

In simulated scenes (those of tracks_simulated.py), with and without two simulated trackers, which lose people behind
others, mix up neighbours now and then and end after some seconds. About twelve events of one kind are planted in each
copy, 25 frames apart, on an id and its nearest neighbours:

- pair / apart: two ids are off in one frame, alike / each its own way, by .15 to 1.5 diagonals;
- swap-like: one of two stands where the other should be, and that one is off elsewhere;
- three: three ids off alike; half: every second id of the frame;
- run / run apart: two ids off for 2 to 4 frames;
- before gap / after gap: two ids off in one frame, and one of them pauses for 3 to 12 frames beside it;
- enter: an id ends, and a new one begins in the next frame, a third to two diagonals away (nothing is off);
- exchange: two ids carry each other's names for 1 to 6 frames. These are to be found as switches.

Told of each: events with a flagged id switch at an id concerned within 30 frames (for `exchange`: where it begins),
boxes off that are flagged as jumps, and rows that are flagged for an id switch an event.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from tracks_simulated import SCENES, simulated
from tracks_stress import write

from curate.teachers.tracks.flag_tracks import flag_tracks

FRAME, ID, XY, WH = 0, 1, slice(2, 4), slice(4, 6)
KINDS = (
    "pair",
    "apart",
    "swap-like",
    "three",
    "half",
    "run",
    "run apart",
    "before gap",
    "after gap",
    "enter",
    "exchange",
)
CHOSEN = ("steady", "jitter 1 %", "jitter 2 %", "jitter 2 %, 40 people")
N_EVENTS, APART = 12, 25


@dataclass
class Event:
    ids: set[float]
    frame: float
    off: list[int] = field(default_factory=list)


class Copy:
    """Labels with events of one kind, and what they are."""

    def __init__(self, truth: np.ndarray, kind: str, seed: int) -> None:
        self.random = np.random.default_rng([seed, KINDS.index(kind)])
        self.truth, self.rows, self.kind = truth, truth.copy(), kind
        self.gone = np.zeros(len(truth), dtype=bool)
        self.at = {(row[FRAME], row[ID]): place for place, row in enumerate(truth)}
        self.events: list[Event] = []
        frames = np.unique(truth[:, FRAME])
        for frame in frames[20:-20:APART][:N_EVENTS]:
            self.plant(frame)

    def there(self, one: float, low: float, high: float) -> bool:
        return all((frame, one) in self.at for frame in np.arange(low, high + 1))

    def plant(self, frame: float) -> None:
        here = np.flatnonzero(self.truth[:, FRAME] == frame)
        here = here[[self.there(one, frame - 12, frame + 24) for one in self.truth[here, ID]]]
        n = {"three": 3, "half": max(len(here) // 2, 2)}.get(self.kind, 2)
        if self.kind == "enter":
            return self.enter(frame)
        if len(here) < n:
            return None
        first = self.random.choice(here)
        apart = np.hypot(*(self.truth[here, XY] - self.truth[first, XY]).T)
        chosen = here[np.argsort(apart, kind="stable")[:n]]
        ids = self.truth[chosen, ID]
        event = Event(set(ids.tolist()), frame)
        length = int(
            self.random.integers(1, 7)
            if self.kind == "exchange"
            else self.random.integers(2, 5)
            if "run" in self.kind
            else 1
        )
        by = self.vector(chosen)
        for step in range(length):
            rows = [self.at[frame + step, one] for one in ids]
            if self.kind == "exchange":
                self.rows[rows, ID] = ids[::-1]
                continue
            for place, row in enumerate(rows):
                alike = "apart" not in self.kind
                by = by if alike else self.vector(chosen)
                if self.kind == "swap-like" and place == 0:
                    self.rows[row, XY] = np.round(
                        self.truth[rows[1], XY] + self.truth[rows[1], WH] / 2 - self.truth[row, WH] / 2, 1
                    )
                else:
                    self.rows[row, XY] = np.round(self.truth[row, XY] + by, 1)
                event.off.append(row)
        if "gap" in self.kind:
            n_gone = int(self.random.integers(3, 13))
            sign = 1 if self.kind == "before gap" else -1
            for step in range(1, n_gone + 1):
                if (frame + sign * step, ids[0]) in self.at:
                    self.gone[self.at[frame + sign * step, ids[0]]] = True
        self.events.append(event)
        return None

    def vector(self, rows: np.ndarray) -> np.ndarray:
        angle = self.random.uniform(0, 2 * np.pi)
        length = np.exp(self.random.uniform(np.log(0.15), np.log(1.5)))
        return length * np.hypot(*self.truth[rows, WH].T).mean() * np.array([np.cos(angle), np.sin(angle)])

    def enter(self, frame: float) -> None:
        here = [
            one for one in self.truth[self.truth[:, FRAME] == frame, ID] if self.there(one, frame - 12, frame + 24)
        ]
        if not here:
            return
        one = self.random.choice(here)
        later = np.flatnonzero((self.rows[:, ID] == one) & (self.rows[:, FRAME] > frame))
        if not len(later):  # it was given another name before
            return
        angle, length = self.random.uniform(0, 2 * np.pi), self.random.uniform(0.34, 2)
        by = length * np.hypot(*self.truth[self.at[frame, one], WH]) * np.array([np.cos(angle), np.sin(angle)])
        turn = self.rows[later, XY] - self.rows[later[0], XY]
        self.rows[later, XY] = self.rows[later[0], XY] + by + turn * self.random.choice([-1, 1], 2)
        name = self.rows[:, ID].max() + 1
        self.rows[later, ID] = name
        self.events.append(Event({one, name}, frame))


def tracker(truth: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return what a tracker that loses the hidden and mixes up neighbours makes of the people in a scene."""
    seen, name, called, last = [], 0, {}, {}
    for frame in np.unique(truth[:, FRAME]):
        here = truth[truth[:, FRAME] == frame]
        low, high = here[:, None, XY], here[:, None, XY] + here[:, None, WH]
        shared = np.clip(np.minimum(high, high.swapaxes(0, 1)) - np.maximum(low, low.swapaxes(0, 1)), 0, None).prod(
            axis=2
        )
        share = shared / here[:, WH].prod(axis=1)[:, None]
        bottom = here[:, 3] + here[:, 5]
        front = (bottom[None, :] > bottom[:, None]) * share
        for one, row in enumerate(here):
            if front[one].max(initial=0) > 0.6 or random.random() < 0.1:
                continue
            own = row[ID]
            if own not in called or frame - last[own] > 30 or random.random() < 1 / 150:
                name += 1
                called[own] = name
            other = here[int(np.argmax(np.where(np.arange(len(here)) == one, 0, share[one]))), ID]
            if share[one].sum() > 1.5 and other in called and random.random() < 0.02:
                called[own], called[other] = called[other], called[own]
            last[own] = frame
            made = row.copy()
            made[ID] = called[own]
            made[2:6] += random.normal(size=4) * 0.015 * np.hypot(*row[WH])
            seen.append(made)
    rows = np.round(np.asarray(seen), 1)
    _, first = np.unique(rows[:, [FRAME, ID]], axis=0, return_index=True)
    return rows[np.sort(first)]


def measured(copy: Copy, table) -> tuple[int, int, int, int, int]:  # noqa: ANN001
    """Return events, those with a switch, boxes off, those flagged as jumps, rows flagged for a switch."""
    flagged = table[table["flagged"] & table["line"].notna()]
    switched = flagged[flagged["issue"] == "id_switch"]
    hit = 0
    for event in copy.events:
        near = switched[
            (switched["frame"] - event.frame).between(
                -3 if copy.kind == "exchange" else -30, 3 if copy.kind == "exchange" else 30
            )
        ]
        hit += bool(near["id"].isin(event.ids).any())
    jumps = set(
        zip(flagged[flagged["issue"] == "jump"]["frame"], flagged[flagged["issue"] == "jump"]["id"], strict=True)
    )
    off = [(copy.rows[row, FRAME], copy.rows[row, ID]) for event in copy.events for row in event.off]
    return len(copy.events), hit, len(off), sum(one in jumps for one in off), len(switched)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--scenes", default=";".join(CHOSEN))
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--no-teachers", action="store_true")
    options = parser.parse_args()
    print("| scene | kind | alone: switches told | jumps | switch rows an event | with trackers: the same |")
    for name in options.scenes.split(";"):
        totals: dict[tuple[str, bool], np.ndarray] = {}
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            truth = simulated(SCENES[name], np.random.default_rng([seed, 7]))
            with tempfile.TemporaryDirectory() as folder:
                home = Path(folder)
                random = np.random.default_rng([seed, 8])
                teachers = (
                    {}
                    if options.no_teachers
                    else {one: write(home / f"{one}.txt", tracker(truth, random)) for one in ("a", "b")}
                )
                for kind in options.kinds.split(","):
                    copy = Copy(truth, kind, seed)
                    labels = write(home / "gt.txt", copy.rows[~copy.gone])
                    for told in ({}, teachers) if teachers else ({},):
                        flag_tracks(labels, told, home / "out.parquet")
                        counts = np.array(measured(copy, pq.read_table(home / "out.parquet").to_pandas()))
                        totals[kind, bool(told)] = totals.get((kind, bool(told)), 0) + counts
        for kind in options.kinds.split(","):
            cells = []
            for told in (False, True):
                if (kind, told) in totals:
                    n, hit, n_off, n_jumps, n_rows = totals[kind, told]
                    cells.append(f"{hit}/{n} | {n_jumps}/{n_off} | {n_rows / max(n, 1):.1f}")
            print("|", name, "|", kind, "|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
