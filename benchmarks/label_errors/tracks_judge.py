"""Errors planted and counted in other ways than tracks.py does: what a stranger who judges would do.

    python benchmarks/label_errors/tracks_judge.py TRACKS.zip [--seeds 2] [--scenes plain,jitter_2] [--out FILE.csv]

Nothing keeps errors apart: two may hit one id, or one box. Boxes that are not to be considered are there, and are
neither hit nor counted. Three styles, each with all kinds in one copy:

- brief: any two ids that are in the frame exchange names from there to their ends; one box gets another class;
  1 to 10 boxes of an id are gone; one box moves by .3 to 2 of its widths and heights; a box gets the id of any other
  box of the frame;
- long: two of the nearest exchange names for 5 to 60 frames; 2 to 40 boxes get another class; 20 to 50 are gone; 3 to
  15 boxes move, all alike or each its own way; a copy of a box, moved by a tenth of its size, gets the same id;
- ends: an id that ends gives its name to one that begins later (reuse); up to the last third of an id is gone (cut).

Counted for each kind (AP over boxes; a row's risk of that issue, 0 without one): `first` only the box (or boxes) where
it begins, `all` every box that was changed, both against all other boxes; `first` leaves out the others that were
changed where a box can only follow; `rows` for gaps: missing boxes that are rows with a null line against all rows of
that kind; `any`: every changed box of any kind, by the highest risk of any issue.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from tracks import average_precision, tracks_in
from tracks_stress import SCENES, truth_of, write, write_teachers

from curate.teachers.tracks.flag_tracks import flag_tracks

FRAME, ID, XY, WH, CONSIDER, CLASS = 0, 1, slice(2, 4), slice(4, 6), 6, 7
ISSUE_OF = {"reuse": "id_switch", "copy": "duplicate_id", "cut": "cut_short"}
KINDS = ("id_switch", "reuse", "class_flip", "gap", "cut", "jump", "duplicate_id", "copy")
STYLES = dict.fromkeys(("brief", "long"), ("switch", "flip", "gap", "jump", "twice")) | {"ends": ("reuse", "cut")}


class Judge:
    """One copy of one sequence with errors, and which rows they changed."""

    def __init__(self, truth: np.ndarray, style: str, seed: int, only: tuple[str, ...] = ()) -> None:
        self.random = np.random.default_rng(seed)
        self.truth, self.rows = truth, truth.copy()
        self.style = style
        self.gone = np.zeros(len(truth), dtype=bool)
        self.first: dict[str, set[int]] = defaultdict(set)
        self.all: dict[str, set[int]] = defaultdict(set)
        self.reused: set[float] = set()
        self.added: list[tuple[int, np.ndarray]] = []
        good = np.flatnonzero((truth[:, CONSIDER] != 0) & (truth[:, CLASS] == 1))
        ids, counts = np.unique(truth[good, ID], return_counts=True)
        self.of = {}
        for one in ids[counts >= 10]:
            at = good[truth[good, ID] == one]
            self.of[one] = at[np.argsort(truth[at, FRAME])]
        for _ in range(max(5, len(self.of) // 3)):
            for name in only or STYLES[style]:
                getattr(self, name)()

    def run(self, low: int, high: int, edge: int = 3) -> np.ndarray:
        """Return some boxes of an id in a row, not at its ends."""
        n = int(self.random.integers(low, high + 1))
        long = [one for one in self.of if len(self.of[one]) > n + 2 * edge]
        at = self.of[self.random.choice(long or list(self.of))]
        n = min(n, len(at) - 2 * edge)
        start = int(self.random.integers(edge, len(at) - n - edge + 1))
        return at[start : start + n]

    def beside(self, row: int, n: int | None) -> np.ndarray:
        here = np.flatnonzero((self.truth[:, FRAME] == self.truth[row, FRAME]) & (self.truth[:, CONSIDER] != 0))
        here = here[(self.truth[here, ID] != self.truth[row, ID]) & (self.truth[here, CLASS] == 1)]
        apart = np.hypot(*(self.truth[here, XY] - self.truth[row, XY]).T)
        return here[np.argsort(apart, kind="stable")[:n]]

    def switch(self) -> None:
        row = self.run(1, 1)[0]
        near = self.beside(row, None if self.style == "brief" else 3)
        if not len(near):
            return
        other = int(self.random.choice(near))
        one, two = self.rows[[row, other], ID]
        start = self.truth[row, FRAME]
        stop = np.inf if self.style == "brief" else start + self.random.integers(5, 61)
        span = (self.rows[:, FRAME] >= start) & (self.rows[:, FRAME] < stop)
        ones, twos = (
            np.flatnonzero(span & (self.rows[:, ID] == one)),
            np.flatnonzero(span & (self.rows[:, ID] == two)),
        )
        if one == two:
            return
        self.rows[ones, ID], self.rows[twos, ID] = two, one

    def flip(self) -> None:
        rows = self.run(1, 1) if self.style == "brief" else self.run(2, 40)
        others = np.setdiff1d(np.unique(self.truth[:, CLASS]), [1])
        self.rows[rows, CLASS] = self.random.choice(others)
        self.note("class_flip", rows, rows)

    def gap(self) -> None:
        rows = self.run(1, 10) if self.style == "brief" else self.run(20, 50)
        at = self.of[self.truth[rows[0], ID]]
        after = at[int(np.flatnonzero(at == rows[-1])[0]) + 1]
        self.gone[rows] = True
        self.note("gap", [after], rows)

    def jump(self) -> None:
        rows = self.run(1, 1) if self.style == "brief" else self.run(3, 15)
        alike = self.style == "brief" or self.random.random() < 0.5
        n = 1 if alike else len(rows)
        by = self.random.uniform(0.3, 2.0, size=(n, 2)) * self.random.choice([-1, 1], size=(n, 2))
        self.rows[rows, XY] = np.round(self.rows[rows, XY] + by * self.truth[rows, WH])
        self.note("jump", rows, rows)

    def twice(self) -> None:
        row = int(self.run(1, 1)[0])
        if self.style == "long":
            new = self.rows[row].copy()
            new[XY] = np.round(new[XY] + self.random.choice([-1, 1], 2) * np.maximum(0.1 * new[WH], 1))
            self.added.append((row, new))
            return
        near = self.beside(row, None)
        if len(near):
            self.rows[row, ID] = self.rows[self.random.choice(near), ID]
            self.note("duplicate_id", [row], [row])

    def reuse(self) -> None:
        ends = [(self.truth[at[-1], FRAME], at) for at in self.of.values()]
        late = [at for at in self.of.values() if any(end < self.truth[at[0], FRAME] - 3 for end, _ in ends)]
        if not late:
            return
        at = late[int(self.random.integers(len(late)))]
        before = [own for end, own in ends if end < self.truth[at[0], FRAME] - 3]
        old = before[int(self.random.integers(len(before)))]
        names = {self.truth[at[0], ID], self.truth[old[0], ID]}
        if names & self.reused or self.gone[at].any() or self.gone[old].any():
            return
        self.reused |= names
        self.rows[at, ID] = self.truth[old[0], ID]
        self.note("reuse", [at[0]], at)

    def cut(self) -> None:
        whole = [at for at in self.of.values() if len(at) > 60 and not self.gone[at].any()]
        whole = [at for at in whole if self.truth[at[0], ID] not in self.reused]
        if whole:
            at = whole[int(self.random.integers(len(whole)))]
            n = int(self.random.integers(15, max(len(at) // 3, 16)))
            self.gone[at[-n:]] = True
            self.note("cut", [at[-n - 1]], at[-n:])

    def note(self, kind: str, first: object, changed: object) -> None:
        self.first[kind] |= {int(i) for i in first}
        self.all[kind] |= {int(i) for i in changed}

    def hands(self) -> set[int]:
        """Return the boxes at which a name goes over to another thing than it stood on just before."""
        left = np.setdiff1d(np.flatnonzero(~self.gone), sorted(self.all["duplicate_id"]))
        order = left[np.lexsort([self.truth[left, FRAME], self.rows[left, ID]])]
        same = self.rows[order[1:], ID] == self.rows[order[:-1], ID]
        return set(order[1:][same & (self.truth[order[1:], ID] != self.truth[order[:-1], ID])].tolist())

    def done(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows to write and, for each, its number in the truth (beyond: added copies)."""
        renamed = np.flatnonzero(self.rows[:, ID] != self.truth[:, ID])
        self.all["id_switch"] = set(renamed.tolist()) - self.all["duplicate_id"] - self.all["reuse"]
        self.first["id_switch"] = self.hands() & self.all["id_switch"]
        number = np.flatnonzero(~self.gone)
        rows = self.rows[number]
        for place, (source, new) in enumerate(self.added):
            if self.gone[source]:
                continue
            new[ID] = self.rows[source, ID]
            rows, number = np.vstack([rows, new]), np.append(number, len(self.truth) + place)
            self.note("copy", [number[-1]], [number[-1]])
        order = self.random.permutation(len(rows))
        return rows[order], number[order]


def scores_of(table, n: int) -> tuple[dict[str, np.ndarray], np.ndarray]:  # noqa: ANN001
    risks: dict[str, np.ndarray] = {}
    lined = table[table["line"].notna()]
    highest = np.zeros(n)
    for issue, own in lined.groupby("issue"):
        risks[issue] = np.zeros(n)
        risks[issue][own["line"].astype(int) - 1] = own["risk"]
        highest = np.maximum(highest, risks[issue])
    return risks, highest


def measured(judge: Judge, number: np.ndarray, rows: np.ndarray, table) -> dict[tuple[str, str], tuple]:  # noqa: ANN001
    """Return (kind, way) -> risks and whether each is one to be found."""
    risks, highest = scores_of(table, len(number))
    counted = rows[:, CONSIDER] != 0
    zero = np.zeros(len(number))
    found: dict[tuple[str, str], tuple] = {}
    for kind in KINDS:
        if not judge.first[kind]:
            continue
        issue = ISSUE_OF.get(kind, kind)
        risk = risks.get(issue, zero)
        first = np.isin(number, sorted(judge.first[kind]))
        changed = np.isin(number, sorted(judge.all[kind])) | first
        mine = {"id_switch": ("reuse",), "reuse": ("id_switch",)}.get(kind, ())
        other = np.isin(number, sorted({i for name in mine for i in judge.all[name]})) & ~changed
        others = {"gap": "cut", "cut": "gap", "duplicate_id": "copy"}.get(kind)
        other |= np.isin(number, sorted(judge.first[others])) & ~changed if others in judge.first else False
        keep = counted & ~other
        found[kind, "first"] = (risk[keep], first[keep])
        if kind in ("id_switch", "reuse"):
            found[kind, "first, rest out"] = (risk[keep & (first | ~changed)], first[keep & (first | ~changed)])
            found[kind, "all"] = (risk[keep], changed[keep])
        if kind == "gap":
            missing = table[table["line"].isna() & (table["issue"] == "gap")]
            cells = {
                (int(judge.truth[i, FRAME]), int(judge.rows[i, ID])) for i in judge.all["gap"] if judge.gone[i]
            }
            cells -= {(int(judge.truth[i, FRAME]), int(judge.rows[i, ID])) for i in judge.all["cut"]}
            hit = np.array(
                [cell in cells for cell in zip(missing["frame"], missing["id"], strict=True)], dtype=bool
            )
            n_lost = len(cells) - int(hit.sum())
            found[kind, "rows"] = (
                np.append(missing["risk"].to_numpy(), np.zeros(n_lost)), np.append(hit, np.ones(n_lost, dtype=bool))
            )  # fmt: skip
    wrong = np.isin(number, sorted(set().union(*judge.all.values(), *judge.first.values())))
    found["any", "all"] = (highest[counted], wrong[counted])
    return found


def run_scene(name: str, folder: Path, seeds: int, *, apart: bool) -> list[list[str]]:
    scene = SCENES[name]
    pools: dict[tuple, list] = defaultdict(list)
    for file in sorted((folder / "gt").glob("*.txt")):
        for seed in range(seeds):
            random = np.random.default_rng([seed, len(file.name)])
            truth = truth_of(scene, file, random)
            with tempfile.TemporaryDirectory() as temporary:
                home = Path(temporary)
                teachers = write_teachers(scene, folder, file.name, home, random)
                copies = [(style, (one,)) for style, all_ in STYLES.items() for one in all_]
                for style, only in copies if apart else [(style, ()) for style in STYLES]:
                    judge = Judge(truth, style, 100 * seed + len(style), only)
                    rows, number = judge.done()
                    labels = write(home / style / file.name, rows)
                    for title, told in (("alone", {}), ("both", teachers)):
                        flag_tracks(labels, told, home / "flags.parquet")
                        table = pq.read_table(home / "flags.parquet").to_pandas()
                        for (kind, way), pair in measured(judge, number, rows, table).items():
                            pools[kind, style, way, title].append(pair)
    lines: dict[tuple, dict[str, float]] = defaultdict(dict)
    for (kind, style, way, title), parts in pools.items():
        risk, wrong = (np.concatenate(column) for column in zip(*parts, strict=True))
        lines[kind, style, way][title] = average_precision(risk, wrong, np.ones(len(risk)))
        lines[kind, style, way]["n"] = int(wrong.sum())
    order = sorted(lines, key=lambda key: ((*KINDS, "any").index(key[0]), key[1:]))
    return [
        [name, *key, f"{lines[key]['alone']:.2f}", f"{lines[key]['both']:.2f}", str(lines[key]["n"])]
        for key in order
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tracks", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--scenes", default="plain,jitter_2,third_rate,camera,unseen,lazy")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--apart", action="store_true", help="each kind in a copy of its own")
    options = parser.parse_args()
    table = [["scene", "kind", "style", "counted", "no tracker", "all trackers", "n"]]
    print(" | ".join(table[0]))
    with tracks_in(options.tracks) as folder:
        for name in options.scenes.split(","):
            for row in run_scene(name, folder, options.seeds, apart=options.apart):
                table.append(row)
                print(" | ".join(row), flush=True)
    if options.out:
        with options.out.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(table)


if __name__ == "__main__":
    main()
