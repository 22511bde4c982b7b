"""curate beside ObjectLab and plain agreement on boxes: average precision by issue, errors planted fairly.

    python benchmarks/label_errors/boxes.py BOXES.zip [--seeds 3] [--resamples 200] [--teachers a,b] [--rate 0.05]
        [--only-curate] [--out results.csv]

BOXES.zip holds `gt.json` (COCO) and a COCO results list for each detector. Of the boxes 5 % (`--rate`) each are dropped,
moved to an IoU of .3 to .6, given another class, and as many are invented: a third with the size of another box anywhere,
a third of a size of its own, a third beside an object. Planted and clean rows are shuffled, renumbered and rounded to
whole pixels alike; all contenders read the same file. AP is over boxes (missing: candidates, one for each dropped
box at an IoU of .5 or more, out of all dropped boxes). Intervals are 95 % bootstrap over images. ObjectLab (cleanlab,
extra `benchmark`) gets the detector that agrees best with the labels, as it takes one. F1 is of what curate flags.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from curate.teachers.boxes.arrange import arrange_found, arrange_given, relative
from curate.teachers.boxes.evidence import match
from curate.teachers.boxes.flag_coco import flag_boxes
from curate.teachers.boxes.fuse import fuse
from curate.teachers.boxes.geometry import iou_of, overlaps

ISSUES = ("missing", "location", "swap", "spurious")
RATE = 0.05
Array = np.ndarray[Any, Any]


@dataclass
class Boxes:
    image: Array
    bbox: Array
    label: Array
    kind: Array  # of given boxes: "", location, swap, spurious

    def take(self, rows: Array) -> Boxes:
        return Boxes(self.image[rows], self.bbox[rows], self.label[rows], self.kind[rows])


@dataclass
class Task:
    size: Array  # (I, 2) px
    given: Boxes
    dropped: Boxes
    n_classes: int
    found: dict[str, tuple[Boxes, Array]]  # teacher -> boxes, scores


@dataclass
class Ranked:
    """Of one issue: a risk per row, whether it is right to flag it, its image, and how many there are to find."""

    risk: Array
    hit: Array
    image: Array
    flagged: Array | None
    sought: Array  # image of each error


def read(path: Path, chosen: list[str] | None) -> Task:
    with zipfile.ZipFile(path) as archive:
        parts = {Path(n).stem: json.loads(archive.read(n)) for n in archive.namelist() if n.endswith(".json")}
    truth = parts.pop("gt")
    images = {one["id"]: number for number, one in enumerate(truth["images"])}
    classes = {one["id"]: number for number, one in enumerate(truth["categories"])}

    def boxes(rows: list[dict[str, Any]]) -> Boxes:
        image = np.array([images[one["image_id"]] for one in rows])
        label = np.array([classes[one["category_id"]] for one in rows])
        return Boxes(image, np.array([one["bbox"] for one in rows], float), label, np.full(len(rows), "", object))

    size = np.array([(one["width"], one["height"]) for one in truth["images"]], float)
    names = sorted(chosen or parts)
    found = {name: (boxes(parts[name]), np.array([one["score"] for one in parts[name]], float)) for name in names}
    given = boxes(truth["annotations"])
    return Task(size, given, given.take(np.zeros(0, int)), len(classes), found)


def plant(task: Task, seed: int, rate: float = RATE) -> Task:
    random = np.random.default_rng(seed)
    given, n = task.given, len(task.given.image)
    k = round(rate * n)
    chosen = random.permutation(n)
    drop, shift, swap = chosen[:k], chosen[k : 2 * k], chosen[2 * k : 3 * k]
    bbox, label, kind = given.bbox.copy(), given.label.copy(), given.kind.copy()
    for row in shift:
        bbox[row] = moved(random, bbox[row], task.size[given.image[row]], (0.3, 0.6))
    kind[shift] = "location"
    label[swap] = (label[swap] + random.integers(1, task.n_classes, k)) % task.n_classes
    kind[swap] = "swap"
    made = [invented(random, task, place % 3) for place in range(k)]
    new = np.array([one[1] for one in made]).reshape(-1, 4)
    keep = np.setdiff1d(np.arange(n), drop)
    all_boxes = Boxes(
        np.concatenate([given.image[keep], [one[0] for one in made]]).astype(int),
        np.maximum(
            np.round(np.concatenate([bbox[keep], new])),
            [-np.inf, -np.inf, 1, 1],
        ),
        np.concatenate([label[keep], given.label[random.integers(n, size=k)]]).astype(int),
        np.concatenate([kind[keep], np.full(k, "spurious", object)]),
    )
    return Task(
        task.size,
        all_boxes.take(random.permutation(len(all_boxes.image))),
        given.take(drop),
        task.n_classes,
        task.found,
    )


def moved(random: np.random.Generator, box: Array, size: Array, between: tuple[float, float]) -> Array:
    while True:
        sides = box[2:] * np.exp(random.normal(0, 0.3, 2))
        start = box[:2] + box[2:] / 2 + random.normal(0, 0.35, 2) * box[2:] - sides / 2
        low, high = np.clip(start, 0, size), np.clip(start + sides, 0, size)
        new = np.round(np.concatenate([low, high - low]))
        if new[2:].min() >= 2 and between[0] <= iou_of(new, box) <= between[1]:
            return new


def invented(random: np.random.Generator, task: Task, style: int) -> tuple[int, Array]:
    """Return an image and a box in it that holds none of its objects (IoU at most .3)."""
    given = task.given
    while True:
        other = random.integers(len(given.image))
        image = int(given.image[other]) if style == 2 else int(random.integers(len(task.size)))
        size = task.size[image]
        sides = given.bbox[other, 2:] / task.size[given.image[other]] * size
        if style == 1:
            sides = random.uniform(0.05, 0.5, 2) * size
        start = random.uniform(0, 1, 2) * (size - sides)
        if style == 2:
            start = given.bbox[other, :2] + random.normal(0, 0.8, 2) * sides
        low, high = np.clip(start, 0, size), np.clip(start + sides, 0, size)
        box = np.round(np.concatenate([low, high - low]))
        here = given.bbox[given.image == image]
        if box[2:].min() >= 2 and (not len(here) or iou_of(box[None], here).max() <= 0.3):
            return image, box


def write(task: Task, folder: Path) -> tuple[Path, dict[str, Path]]:
    given = task.given
    labels = folder / "labels.json"
    content = {
        "images": [
            {"id": number, "width": int(w), "height": int(h)} for number, (w, h) in enumerate(task.size.tolist())
        ],
        "categories": [{"id": number, "name": f"class {number}"} for number in range(task.n_classes)],
        "annotations": [
            {"id": number, "image_id": image, "category_id": label, "bbox": bbox, "iscrowd": 0}
            for number, (image, label, bbox) in enumerate(
                zip(given.image.tolist(), given.label.tolist(), given.bbox.tolist(), strict=True)
            )
        ],
    }
    labels.write_text(json.dumps(content))
    teachers = {}
    for name, (boxes, scores) in task.found.items():
        teachers[name] = folder / f"{name}.json"
        rows = zip(boxes.image.tolist(), boxes.label.tolist(), boxes.bbox.tolist(), scores.tolist(), strict=True)
        keys = ("image_id", "category_id", "bbox", "score")
        teachers[name].write_text(json.dumps([dict(zip(keys, row, strict=True)) for row in rows]))
    return labels, teachers


def of_given(task: Task, issue: str, risk: Array, flagged: Array | None = None) -> Ranked:
    hit = task.given.kind == issue
    return Ranked(risk, hit, task.given.image, flagged, task.given.image[hit])


def of_candidates(task: Task, image: Array, bbox: Array, risk: Array, flagged: Array | None = None) -> Ranked:
    """Best first, each candidate finds the dropped box that it overlaps most, if that is not found yet."""
    order = np.lexsort((*bbox.T, image, -risk))
    image, bbox, risk = image[order], bbox[order], risk[order]
    lost = np.argsort(task.dropped.image, kind="stable")
    candidate, place, iou = overlaps(image, bbox, task.dropped.image[lost], task.dropped.bbox[lost], min_iou=0.5)
    hit, free = np.zeros(len(risk), bool), np.ones(len(lost), bool)
    for pair in np.lexsort((-iou, candidate)).tolist():
        if free[place[pair]] and not hit[candidate[pair]]:
            hit[candidate[pair]], free[place[pair]] = True, False
    return Ranked(risk, hit, image, None if flagged is None else flagged[order], task.dropped.image)


def curate_ranks(task: Task, folder: Path) -> dict[str, Ranked]:
    labels, teachers = write(task, folder)
    summary = flag_boxes(labels, teachers, folder / "flags.parquet")
    table = pq.read_table(folder / "flags.parquet")
    rates = [f"{k} {'not known' if v is None else f'{v:.3f}'}" for k, v in summary.rates.items()]
    print(f"  {summary.why}; rates {', '.join(rates)}", file=sys.stderr)
    found = {}
    for issue in ISSUES:
        rows = table.filter(np.asarray(table["issue"].to_pylist()) == issue)
        risk, flagged = rows["risk"].to_numpy(), rows["flagged"].to_numpy()
        if issue == "missing":
            bbox = np.array(rows["suggested_bbox"].to_pylist()).reshape(-1, 4)
            found[issue] = of_candidates(task, rows["image_id"].to_numpy(), bbox, risk, flagged)
        else:
            order = np.argsort(rows["annotation_id"].to_numpy())
            found[issue] = of_given(task, issue, risk[order], flagged[order])
    return found


def plain_ranks(task: Task, _folder: Path) -> dict[str, Ranked]:
    """Fused boxes, Hungarian match, the formulas without anything that is fitted."""
    given, n = task.given, len(task.given.image)
    keys = np.arange(len(task.size), dtype=np.uint64)
    names = [str(number) for number in range(task.n_classes)]
    placed = arrange_given(
        given.image, relative(given.bbox, given.image, task.size), given.label, keys, names, keys[:1].repeat(n)
    )
    image = np.concatenate([boxes.image for boxes, _ in task.found.values()])
    bbox = np.concatenate([boxes.bbox for boxes, _ in task.found.values()])
    label = np.concatenate([boxes.label for boxes, _ in task.found.values()])
    score = np.concatenate([scores for _, scores in task.found.values()])
    teacher = np.repeat(np.arange(len(task.found)), [len(scores) for _, scores in task.found.values()])
    seen = arrange_found(image, relative(bbox, image, task.size), label, score, teacher)
    clusters = fuse(seen, len(task.found), task.n_classes)
    cluster, iou = match(placed.given, clusters)
    matched, strength = cluster >= 0, clusters.objectness
    seen_by, spread = np.where(matched, strength[cluster], 0), np.where(matched, clusters.spread[cluster], 0)
    mass = np.zeros((n, task.n_classes))
    for teacher in range(len(task.found)):
        its = np.flatnonzero(seen.teacher == teacher)
        box, other, near = overlaps(
            placed.given.image, placed.given.boxes, seen.image[its], seen.boxes[its], min_iou=0.1
        )
        one = np.zeros_like(mass)
        np.maximum.at(one, (box, seen.label[its][other]), seen.score[its][other] * np.minimum(1, near / 0.5))
        mass += one
    mass /= len(task.found)
    own = mass[np.arange(n), placed.given.label].copy()
    mass[np.arange(n), placed.given.label] = 0
    a, b, near = overlaps(placed.given.image, placed.given.boxes, clusters.image, clusters.boxes, min_iou=0)
    support, covered = np.zeros(n), np.zeros(len(strength))
    np.maximum.at(support, a, strength[b] * np.minimum(1, near / 0.3))
    np.maximum.at(covered, b, near)
    back = np.argsort(placed.row)
    risks = {
        "location": seen_by * np.maximum(0, 1 - iou - 2 * spread),
        "swap": np.log(mass.max(axis=1) + 0.02) - np.log(own + 0.02),
        "spurious": 1 - support,
    }
    pixels = clusters.boxes * np.tile(task.size[clusters.image], 2)
    found = {"missing": of_candidates(task, clusters.image, pixels, strength * (1 - covered))}
    return found | {issue: of_given(task, issue, risk[back]) for issue, risk in risks.items()}


def objectlab_ranks(task: Task, _folder: Path) -> dict[str, Ranked] | None:
    try:
        from cleanlab.object_detection.rank import (  # noqa: PLC0415 - a benchmark extra
            compute_badloc_box_scores,
            compute_overlooked_box_scores,
            compute_swap_box_scores,
        )
    except ImportError:
        print("cleanlab is not installed: pip install 'curate[benchmark]'", file=sys.stderr)
        return None
    name = max(task.found, key=lambda one: agreement(task, one))
    boxes, scores = task.found[name]
    labels, predictions, rows = [], [], []
    for number in range(len(task.size)):
        mine = np.flatnonzero(task.given.image == number)
        rows.append(mine)
        labels.append({"bboxes": ends(task.given.bbox[mine]), "labels": task.given.label[mine]})
        its = np.flatnonzero(boxes.image == number)
        whole = np.concatenate([ends(boxes.bbox[its]), scores[its, None]], axis=1)
        predictions.append(
            np.array([whole[boxes.label[its] == k] for k in range(task.n_classes)] + [None], dtype=object)[:-1]
        )
    n = len(task.given.image)
    found = {}
    for issue, compute in (("location", compute_badloc_box_scores), ("swap", compute_swap_box_scores)):
        quality, risk = compute(labels=labels, predictions=predictions), np.zeros(n)
        for mine, values in zip(rows, quality, strict=True):
            risk[mine] = 1 - np.nan_to_num(np.asarray(values, float), nan=1.0)
        found[issue] = of_given(task, issue, risk)
    quality = compute_overlooked_box_scores(labels=labels, predictions=predictions)
    # one score for each prediction of an image, class by class
    image, bbox, risk = [], [], []
    for number, (values, of_class) in enumerate(zip(quality, predictions, strict=True)):
        stacked = np.concatenate(list(of_class))
        scores = np.asarray(values, float)
        known = np.isfinite(scores)
        image.append(np.full(known.sum(), number))
        bbox.append(stacked[known, :4])
        risk.append(1 - scores[known])
    corners = np.concatenate(bbox)
    pixels = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    found["missing"] = of_candidates(task, np.concatenate(image), pixels, np.concatenate(risk))
    return found


def agreement(task: Task, name: str) -> float:
    boxes, scores = task.found[name]
    sure = np.flatnonzero(scores >= 0.5)
    sure = sure[np.argsort(boxes.image[sure], kind="stable")]
    a, b, _ = overlaps(task.given.image, task.given.bbox, boxes.image[sure], boxes.bbox[sure], min_iou=0.5)
    hits = len(np.unique(a[task.given.label[a] == boxes.label[sure][b]]))
    return 2 * hits / (len(task.given.image) + len(sure))


def ends(bbox: Array) -> Array:
    return np.concatenate([bbox[:, :2], bbox[:, :2] + bbox[:, 2:]], axis=1)


def average_precision(ranked: Ranked, weight: Array) -> float:
    """Return the AP with a weight for each image; equal risks count as one group."""
    w, sought = weight[ranked.image], weight[ranked.sought].sum()
    _, level = np.unique(-ranked.risk, return_inverse=True)
    hits = np.cumsum(np.bincount(level, w * ranked.hit))
    seen = np.cumsum(np.bincount(level, w))
    gained = np.diff(hits, prepend=0.0)
    return float((gained * hits / np.maximum(seen, 1e-12)).sum() / max(sought, 1e-12))


def f1_of(ranked: Ranked, flagged: Array) -> float:
    return float(2 * (ranked.hit & flagged).sum() / max(flagged.sum() + len(ranked.sought), 1))


def row_of(name: str, seed: int, issue: str, ranked: Ranked, n_images: int, n_resamples: int) -> list[str]:
    whole = average_precision(ranked, np.ones(n_images))
    random = np.random.default_rng(0)
    draws = [
        average_precision(ranked, random.multinomial(n_images, np.full(n_images, 1 / n_images)).astype(float))
        for _ in range(n_resamples)
    ]
    low, high = np.quantile(draws, [0.025, 0.975]) if draws else (np.nan, np.nan)
    flags = (
        ["", ""]
        if ranked.flagged is None
        else [f"{f1_of(ranked, ranked.flagged):.3f}", str(int(ranked.flagged.sum()))]
    )
    return [name, str(seed), issue, f"{whole:.3f}", f"{low:.3f}", f"{high:.3f}", *flags]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("boxes", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--teachers", help="a,b: only these")
    parser.add_argument("--rate", type=float, default=RATE, help="share of the boxes for each kind of error")
    parser.add_argument("--only-curate", action="store_true", help="leave the other contenders out")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    clean = read(options.boxes, options.teachers.split(",") if options.teachers else None)
    contenders = {"curate": curate_ranks, "plain agreement": plain_ranks, "ObjectLab": objectlab_ranks}
    contenders = {"curate": curate_ranks} if options.only_curate else contenders
    rows = [["method", "seed", "issue", "AP", "low", "high", "F1 of flags", "flagged"]]
    print(" | ".join(rows[0]))
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        task = plant(clean, seed, options.rate)
        for name, rank in contenders.items():
            started = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                found = rank(task, Path(folder))
            if found is None:
                continue
            print(f"{name}, seed {seed}: {time.perf_counter() - started:.1f} s", file=sys.stderr)
            for issue in ISSUES:
                if issue in found:
                    rows.append(row_of(name, seed, issue, found[issue], len(task.size), options.resamples))
                    print(" | ".join(rows[-1]), flush=True)
    for name in contenders:
        for issue in ISSUES:
            values = [float(row[3]) for row in rows[1:] if row[0] == name and row[2] == issue]
            if values:
                print(f"mean of {len(values)} seeds | {name} | {issue} | {np.mean(values):.3f}")
    if options.out:
        with options.out.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)


if __name__ == "__main__":
    main()
