"""Planted errors on real masks, found with small models as teachers: average precision over regions, by kind.

    python benchmarks/label_errors/masks.py IMAGES.tar [--ignore 11] [--every 1] [--steps 120] [--out results.csv]

IMAGES.tar (or a folder) has images and PNG masks of class ids with the same stems, in a folder each (the one with
"annot" in its name holds the masks); frames of a drive, in order of their names.

Simulated are the errors. Each mask gets up to two of each kind, in regions that do not touch: a region of another class
(drawn by how often the classes occur), a region dropped (it becomes what surrounds it), a region invented (the outline
of a region of another frame, where one class fills it), a boundary that is eroded or dilated by 1 to 1.5 % of the
image's diagonal, or moved by half as much again. Regions are of .05 to 8 % of the image.
Real are images, masks (with the errors that they have: what is found of those counts as false), and the teachers'
mistakes: `mask_teachers.py`, trained on the wrong labels of other blocks of the drive.

cleanlab (extra `benchmark`) gets the mean of the same probability maps, or those of the U-Net: the pixel scores of
`get_label_quality_scores`, averaged over each region; for missing regions, the connected parts of what
`find_label_issues` marks, with `downsample` 1, and 8 (its default 16 does not divide these sizes well).
A missing region is found by a row whose box overlaps it with an IoU from .3 on; every other row is false. Intervals are
95 %, from a bootstrap over blocks of five consecutive frames.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from mask_plants import EIGHT, KINDS, Plants, numbered, plant
from mask_teachers import VOID, teach
from PIL import Image
from scipy import ndimage
from unpacked import unpacked

from curate.teachers.regions.flag_masks import flag_masks


def read(folder: Path, ignore: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    files = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in {".png", ".jpg", ".jpeg"}]
    is_mask = ["annot" in str(p.parent).lower() for p in files]
    images = {
        p.stem: np.asarray(Image.open(p).convert("RGB")) for p, m in zip(files, is_mask, strict=True) if not m
    }
    masks = {p.stem: np.asarray(Image.open(p)).astype(np.int64) for p, m in zip(files, is_mask, strict=True) if m}
    masks = {stem: np.where(mask == ignore, VOID, mask) for stem, mask in masks.items() if stem in images}
    return {stem: images[stem] for stem in masks}, masks


BLOCK = 5  # frames that are drawn together
Answers = dict[str, list[tuple[str, tuple[int, int, int, int], float]]]  # kind -> image, box, risk
RegionScores = dict[str, dict[str, np.ndarray]]  # kind -> image -> risk by region, in the order of `regions`


def ask_curate(labels: Path, teachers: dict[str, Path], names: list[str], masks) -> tuple[RegionScores, list]:  # noqa: ANN001
    out = labels.parent / "flags.parquet"
    flag_masks(labels, teachers, out, classes=names)
    rows = pq.read_table(out).to_pylist()
    scores = {
        kind: {stem: np.zeros(numbered(m)[1]) for stem, m in masks.items()} for kind in KINDS if kind != "missing"
    }
    missing = []
    for row in rows:
        if row["issue"] == "missing":
            missing.append((row["image"], row["bbox"], row["risk"]))
        elif row["issue"] in scores:
            scores[row["issue"]][row["image"]][row["component"]] = row["risk"]
    return scores, missing


def ask_cleanlab(teachers: list[Path], masks, downsample: int) -> tuple[RegionScores, list] | None:  # noqa: ANN001
    try:
        from cleanlab.segmentation.filter import find_label_issues  # noqa: PLC0415 - a benchmark extra
        from cleanlab.segmentation.rank import get_label_quality_scores  # noqa: PLC0415 - as above
    except ImportError:
        print("cleanlab is not installed: pip install 'curate[benchmark]'", file=sys.stderr)
        return None
    scores: dict[str, np.ndarray] = {}
    missing = []
    for stem, whole in masks.items():
        height = whole.shape[0] // downsample * downsample  # it refuses sizes that are no multiple
        mask = whole[:height]
        probs = np.mean([np.load(f / f"{stem}.npy").astype(np.float32)[:, :height] for f in teachers], axis=0)
        given = np.where(mask == VOID, 0, mask)
        _, quality = get_label_quality_scores(given[None], probs[None], verbose=False)
        pixel = np.where(mask == VOID, 0, 1 - quality[0])
        numbers, n = numbered(whole)
        inside = numbers[:height].ravel()
        total = np.bincount(inside, weights=pixel.ravel(), minlength=n + 1)
        scores[stem] = (total / np.maximum(np.bincount(inside, minlength=n + 1), 1))[1:]
        marked = find_label_issues(given[None], probs[None], downsample=downsample, n_jobs=1, verbose=False)[0]
        parts, _ = ndimage.label(marked & (mask != VOID), structure=EIGHT)
        for number, place in enumerate(ndimage.find_objects(parts), start=1):
            part = parts[place] == number
            if part.sum() >= 5e-4 * mask.size:
                box = (place[1].start, place[0].start, part.shape[1], part.shape[0])
                missing.append((stem, box, float(pixel[place][part].mean())))
    return dict.fromkeys((kind for kind in KINDS if kind != "missing"), scores), missing


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = ndimage.find_objects(mask.astype(int))[0]
    return columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start


def box_iou(a, b) -> float:  # noqa: ANN001
    w = max(0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
    h = max(0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]))
    return w * h / (a[2] * a[3] + b[2] * b[3] - w * h)


def average_precision(risk: np.ndarray, hit: np.ndarray, weight: np.ndarray, n_true: float) -> float:
    if not len(risk):
        return 0.0 if n_true else np.nan
    order = np.argsort(-risk, kind="stable")
    level, hits, seen = risk[order], np.cumsum((weight * hit)[order]), np.cumsum(weight[order])
    last = np.append(level[1:] != level[:-1], True)
    hits, seen = hits[last], seen[last]
    return float((np.diff(hits, prepend=0.0) * hits / np.maximum(seen, 1e-12)).sum() / n_true) if n_true else np.nan


def measured(risk, hit, image, n_true: dict[str, int], n_resamples: int) -> str:  # noqa: ANN001
    """Return the average precision with a bootstrap over blocks of consecutive frames; what nobody proposes is lost."""
    stems = sorted(n_true)
    at = np.searchsorted(stems, image) if len(image) else np.zeros(0, dtype=int)
    true = np.array([n_true[stem] for stem in stems], dtype=float)
    value = average_precision(risk, hit, np.ones(len(risk)), true.sum())
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(n_resamples):
        n_blocks = -(-len(stems) // BLOCK)
        weight = np.repeat(random.multinomial(n_blocks, np.ones(n_blocks) / n_blocks), BLOCK)[: len(stems)].astype(
            float
        )
        drawn.append(average_precision(risk, hit, weight[at], float((weight * true).sum())))
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return f"{value:.3f} [{low:.3f}, {high:.3f}] of {int(true.sum())}"


@dataclass
class Truth:
    """Of one mask: which regions, in the order of `regions`, are planted ones of each kind."""

    n_regions: int
    hits: dict[str, np.ndarray]


def truth_of(mask: np.ndarray, own: dict[str, list[np.ndarray]]) -> Truth:
    numbers, n = numbered(mask)
    area = np.bincount(numbers.ravel(), minlength=n + 1)
    hits = {}
    for kind, parts in own.items():
        hits[kind] = np.zeros(n, dtype=bool)
        for part in parts:
            inside = np.bincount(numbers[part], minlength=n + 1)
            inside[0] = 0
            hits[kind] |= (inside / (area + part.sum() - inside) >= 0.8)[1:]
    return Truth(n, hits)


def score(
    answer: tuple[RegionScores, list], truths: dict[str, Truth], plants: Plants, n_resamples: int
) -> list[str]:
    scores, missing = answer
    cells = []
    for kind in KINDS:
        n_true = {stem: len(plants.at[stem][kind]) for stem in truths}
        risk, hit, image = [], [], []
        if kind == "missing":
            left = {stem: [box_of(part) for part in plants.at[stem][kind]] for stem in truths}
            for stem, box, value in sorted(missing, key=lambda one: -one[2]):
                found = next((one for one in left[stem] if box_iou(one, box) >= 0.3), None)
                if found is not None:
                    left[stem].remove(found)
                risk.append(value), hit.append(found is not None), image.append(stem)
        else:
            for stem, truth in truths.items():
                risk += scores[kind][stem].tolist()
                hit += truth.hits[kind].tolist()
                image += [stem] * truth.n_regions
        cells.append(measured(np.array(risk), np.array(hit, dtype=float), np.array(image), n_true, n_resamples))
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--ignore", type=int, default=11)
    parser.add_argument("--every", type=int, default=1, help="use every n-th frame")
    parser.add_argument("--steps", type=int, default=120, help="of each network's training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--keep", type=Path, help="folder for the planted masks and the teachers' maps; used again")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with unpacked(options.images) as folder, tempfile.TemporaryDirectory() as temporary:
        images, true = read(folder, options.ignore)
        kept = sorted(images)[:: options.every]
        images, true = {stem: images[stem] for stem in kept}, {stem: true[stem] for stem in kept}
        masks, plants = plant(true, options.seed)
        n_classes = int(max(m[m != VOID].max() for m in masks.values())) + 1
        place = options.keep or Path(temporary) / "made"
        (place / "labels").mkdir(parents=True, exist_ok=True)
        for stem, mask in masks.items():
            Image.fromarray(mask.astype(np.uint8)).save(place / "labels" / f"{stem}.png")
        started = time.perf_counter()
        teachers = teach(images, masks, n_classes, place, options.steps)
        print(f"{len(masks)} masks; teaching took {time.perf_counter() - started:.0f} s", file=sys.stderr)
        for name, path in teachers.items():
            same = [np.load(path / f"{s}.npy").argmax(0)[true[s] != VOID] == true[s][true[s] != VOID] for s in true]
            print(f"  {name}: {np.concatenate(same).mean():.1%} of the pixels right", file=sys.stderr)
        names = [str(one) for one in range(n_classes)]
        rows = [["contender", *KINDS, "seconds"]]
        truths = {stem: truth_of(mask, plants.at[stem]) for stem, mask in masks.items()}
        every, best = list(teachers.values()), [teachers["unet"]]
        contenders = {
            "curate, all teachers": lambda: ask_curate(place / "labels", teachers, names, masks),
            "cleanlab, all teachers": lambda: ask_cleanlab(every, masks, 1),
            "cleanlab, unet": lambda: ask_cleanlab(best, masks, 1),
            "cleanlab, all teachers, downsample=8": lambda: ask_cleanlab(every, masks, 8),
        } | {
            f"curate, {name}": lambda one={name: path}: ask_curate(place / "labels", one, names, masks)
            for name, path in teachers.items()
        }
        for title, ask in contenders.items():
            started = time.perf_counter()
            answer = ask()
            seconds = time.perf_counter() - started
            if answer is not None:
                rows.append([title, *score(answer, truths, plants, options.resamples), f"{seconds:.1f}"])
                print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    for row in rows:
        print(" | ".join(row))
    if options.out:
        with options.out.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)


if __name__ == "__main__":
    main()
