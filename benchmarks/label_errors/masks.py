"""Planted errors on real masks, found with small models as teachers: average precision over regions, by kind.

    python benchmarks/label_errors/masks.py IMAGES.tar [--ignore 11] [--every 1] [--steps 120] [--out results.csv]

IMAGES.tar (or a folder) has images and PNG masks of class ids with the same stems, in a folder each (the one with
"annot" in its name holds the masks); frames of a drive, in order of their names.

Simulated is: the errors. Each mask gets up to two of each kind, in regions that do not touch: a region of another class
(drawn by how often the classes occur), a region dropped (it becomes what surrounds it), a region invented (the outline
of a region of another frame, where one class fills it), a boundary moved by 1 to 1.5 % of the image's diagonal (eroded
or dilated). Regions are of .05 to 8 % of the image, and eroded ones keep a core.
Real are: images, masks (with the errors that they have: what is found of those counts as false), and the teachers'
mistakes. Teachers are two small convolutional networks of different width and view and a forest on pixels and their
surroundings, trained on the *wrong* labels of three quarters of the drive, in blocks, and asked about the rest.

cleanlab (extra `benchmark`) gets the mean of the same probability maps: its pixel scores (the label's probability),
averaged over each region; for missing regions, the connected parts of what `find_label_issues` marks.
A missing region is found by a row whose box overlaps it with an IoU from .3 on; every other row is false.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier
from torch import nn

from curate.teachers.regions.flag_masks import flag_masks

KINDS = ("wrong_class", "spurious", "missing", "boundary")
N_FOLDS = 4
AT_PX = (90, 120)  # what the models see
VOID = 255
EIGHT = np.ones((3, 3))


@dataclass
class Plants:
    """Where errors are: image -> kind -> masks of the regions as they are now (of missing ones, as they were)."""

    at: dict[str, dict[str, list[np.ndarray]]] = field(default_factory=dict)


def read(folder: Path, ignore: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    files = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in {".png", ".jpg", ".jpeg"}]
    is_mask = ["annot" in str(p.parent).lower() for p in files]
    images = {
        p.stem: np.asarray(Image.open(p).convert("RGB")) for p, m in zip(files, is_mask, strict=True) if not m
    }
    masks = {p.stem: np.asarray(Image.open(p)).astype(np.int64) for p, m in zip(files, is_mask, strict=True) if m}
    masks = {stem: np.where(mask == ignore, VOID, mask) for stem, mask in masks.items() if stem in images}
    return {stem: images[stem] for stem in masks}, masks


def regions(mask: np.ndarray) -> list[tuple[int, np.ndarray]]:
    found = []
    for one in np.unique(mask[mask != VOID]):
        parts, n = ndimage.label(mask == one, structure=EIGHT)
        found += [(int(one), parts == number) for number in range(1, n + 1)]
    return found


def crop_of(mask: np.ndarray, by_px: float) -> tuple[slice, slice]:
    pad = int(by_px) + 2
    place = ndimage.find_objects(mask.astype(np.uint8))[0]
    return tuple(slice(max(one.start - pad, 0), one.stop + pad) for one in place)


def grown(mask: np.ndarray, by_px: float) -> np.ndarray:
    place, wide = crop_of(mask, by_px), np.zeros_like(mask)
    wide[place] = ndimage.distance_transform_edt(~mask[place]) <= by_px
    return wide


def thinned(mask: np.ndarray, by_px: float) -> np.ndarray:
    place, thin = crop_of(mask, 0), np.zeros_like(mask)
    thin[place] = ndimage.distance_transform_edt(mask[place]) > by_px
    return thin


def plant(masks: dict[str, np.ndarray], seed: int) -> tuple[dict[str, np.ndarray], Plants]:
    random = np.random.default_rng(seed)
    counts = np.bincount(np.concatenate([m[m != VOID] for m in masks.values()]))
    plants, made = Plants(), {}
    outlines = []
    sizes = {stem: mask.size for stem, mask in masks.items()}
    for stem, mask in masks.items():
        outlines += [
            part[ndimage.find_objects(part.astype(int))[0]]
            for _, part in regions(mask)
            if 5e-4 * sizes[stem] <= part.sum() <= 0.02 * sizes[stem]
        ]
    for stem, true in masks.items():
        mask, busy = true.copy(), np.zeros(true.shape, dtype=bool)
        own = {kind: [] for kind in KINDS}
        parts = [p for p in regions(true) if 5e-4 * true.size <= p[1].sum() <= 0.08 * true.size]
        random.shuffle(parts)
        width = 0.0125 * np.hypot(*true.shape)
        for kind in ("wrong_class", "missing", "boundary", "spurious") * 2:
            if kind == "spurious":
                _invent(mask, busy, own, outlines, counts, random)
                continue
            while parts:
                one, part = parts.pop()
                if (busy & part).any():
                    continue
                if _change(kind, mask, one, part, busy, own, counts, width, random):
                    break
        plants.at[stem], made[stem] = own, mask
    return made, plants


def _change(kind, mask, one, part, busy, own, counts, width, random) -> bool:  # noqa: ANN001, PLR0913, PLR0917 - a planter's state
    shape = part
    if kind == "wrong_class":
        weight = counts.astype(float)
        weight[one] = 0
        new = int(random.choice(len(weight), p=weight / weight.sum()))
        if (mask[ndimage.binary_dilation(part, EIGHT) & ~part] == new).any():
            return False  # it would merge with a neighbour and be no region of its own
        mask[part] = new
    elif kind == "missing":
        ring = ndimage.binary_dilation(part, EIGHT) & ~part
        around = mask[ring][mask[ring] != VOID]
        if not len(around) or (around == one).any():
            return False
        mask[part] = np.bincount(around).argmax()
    else:
        by = width * random.uniform(0.8, 1.2)
        if random.random() < 0.5:
            shape = thinned(part, by)
            if shape.sum() < 0.25 * part.sum():
                return False
            lost = part & ~shape
            place = crop_of(part, width)
            unknown = (part | (mask == VOID))[place]
            nearest = ndimage.distance_transform_edt(unknown, return_distances=False, return_indices=True)
            mask[lost] = mask[place][tuple(nearest)][lost[place]]
        else:
            shape = (grown(part, by) & (mask != VOID) & ~busy) | part
            if (mask[ndimage.binary_dilation(shape, EIGHT) & ~part] == one).any():
                return False
            mask[shape] = one
    busy |= grown(part | shape, 2 * width)
    own[kind].append(shape)
    return True


def _invent(mask, busy, own, outlines, counts, random) -> None:  # noqa: ANN001
    for _ in range(50):
        outline = outlines[int(random.integers(len(outlines)))]
        top, left = (
            int(random.integers(0, side - size + 1)) for side, size in zip(mask.shape, outline.shape, strict=True)
        )
        part = np.zeros(mask.shape, dtype=bool)
        part[top : top + outline.shape[0], left : left + outline.shape[1]] = outline
        near = grown(part, 3)
        under = np.unique(mask[near])
        if len(under) != 1 or under[0] == VOID or (busy & near).any():
            continue
        weight = counts.astype(float)
        weight[under[0]] = 0
        mask[part] = int(random.choice(len(weight), p=weight / weight.sum()))
        busy |= grown(part, 6)
        own["spurious"].append(part)
        return


class Network(nn.Module):
    def __init__(self, width: int, n_classes: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(5, width, 5, padding=2), nn.BatchNorm2d(width), nn.ReLU()]
        for d in dilations:
            layers += [nn.Conv2d(width, width, 3, padding=d, dilation=d), nn.BatchNorm2d(width), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Conv2d(width, n_classes, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(self.body(x), size=x.shape[2:], mode="bilinear")


def inputs(images: list[np.ndarray]) -> torch.Tensor:
    """Return (N, 5, H, W): colours and the place in the picture."""
    small = [np.asarray(Image.fromarray(one).resize(AT_PX[::-1], Image.Resampling.BILINEAR)) for one in images]
    pixels = torch.tensor(np.stack(small)).permute(0, 3, 1, 2).float() / 128 - 1
    y, x = torch.meshgrid(torch.linspace(-1, 1, AT_PX[0]), torch.linspace(-1, 1, AT_PX[1]), indexing="ij")
    return torch.cat([pixels, torch.stack([y, x]).expand(len(images), 2, *AT_PX)], dim=1)


def shrunk(mask: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(mask.astype(np.uint8)).resize(AT_PX[::-1], Image.Resampling.NEAREST)).astype(
        int
    )


def taught_network(x, y, test, n_classes, width, dilations, steps, seed) -> np.ndarray:  # noqa: ANN001
    torch.manual_seed(seed)
    model = Network(width, n_classes, dilations)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=steps)
    random = np.random.default_rng(seed)
    for _ in range(steps):
        rows = torch.tensor(random.integers(0, len(x), 4))
        batch, target = x[rows], y[rows]
        if random.random() < 0.5:
            batch, target = batch.flip(3), target.flip(2)
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(batch), target, ignore_index=VOID).backward()
        optimiser.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        return torch.cat([model(test[i : i + 4]).softmax(1) for i in range(0, len(test), 4)]).numpy()


def surroundings(x: torch.Tensor) -> np.ndarray:
    """Return (N, H, W, F): colours at three blurs, their spread, and the place."""
    pixels = x[:, :3].numpy()
    found = [x.numpy()]
    for sigma in (2.0, 6.0):
        mean = ndimage.gaussian_filter(pixels, (0, 0, sigma, sigma))
        found += [mean, ndimage.gaussian_filter(pixels**2, (0, 0, sigma, sigma)) - mean**2]
    return np.moveaxis(np.concatenate(found, axis=1), 1, 3)


def taught_forest(x, y, test, n_classes, seed) -> np.ndarray:  # noqa: ANN001
    random = np.random.default_rng(seed)
    features, target = surroundings(x).reshape(-1, 17), y.numpy().ravel()
    known = np.flatnonzero(target != VOID)
    rows = random.choice(known, min(30_000, len(known)), replace=False)
    forest = RandomForestClassifier(20, max_depth=14, min_samples_leaf=3, n_jobs=1, random_state=seed)
    forest.fit(features[rows], target[rows])
    probs = np.zeros((len(test), *AT_PX, n_classes), dtype=np.float32)
    probs[..., forest.classes_] = forest.predict_proba(surroundings(test).reshape(-1, 17)).reshape(
        *probs.shape[:3], -1
    )
    return np.moveaxis(probs, 3, 1)


def teach(
    images: dict[str, np.ndarray], masks: dict[str, np.ndarray], n_classes: int, folder: Path, steps: int
) -> dict[str, Path]:
    """Write a probability map (npy, float16) a teacher and image, each by a model that has not seen it."""
    stems = sorted(images)
    x = inputs([images[stem] for stem in stems])
    y = torch.tensor(np.stack([shrunk(masks[stem]) for stem in stems]))
    fold = np.arange(len(stems)) * N_FOLDS // len(stems)
    for number in range(N_FOLDS):
        if all((folder / "forest" / f"{stems[at]}.npy").exists() for at in np.flatnonzero(fold == number)):
            continue
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        given = (x[train], y[train], x[test], n_classes)
        answers = {
            "net_wide": taught_network(*given, 16, (1, 2, 4, 8), steps, number),
            "net_narrow": taught_network(*given, 12, (1, 2, 1, 4), steps, 100 + number),
            "forest": taught_forest(*given, number),
        }
        for name, probs in answers.items():
            (folder / name).mkdir(exist_ok=True)
            for row, at in enumerate(test):
                shape = masks[stems[at]].shape
                full = nn.functional.interpolate(
                    torch.tensor(probs[row])[None].float(), size=shape, mode="bilinear"
                )[0]
                np.save(folder / name / f"{stems[at]}.npy", (full / full.sum(0)).numpy().astype(np.float16))
    return {name: folder / name for name in ("net_wide", "net_narrow", "forest")}


Answers = dict[str, list[tuple[str, tuple[int, int, int, int], float]]]  # kind -> image, box, risk
RegionScores = dict[str, dict[str, np.ndarray]]  # kind -> image -> risk by region, in the order of `regions`


def ask_curate(labels: Path, teachers: dict[str, Path], names: list[str], masks) -> tuple[RegionScores, list]:  # noqa: ANN001
    out = labels.parent / "flags.parquet"
    flag_masks(labels, teachers, out, classes=names)
    rows = pq.read_table(out).to_pylist()
    scores = {
        kind: {stem: np.zeros(len(regions(m))) for stem, m in masks.items()} for kind in KINDS if kind != "missing"
    }
    missing = []
    for row in rows:
        if row["issue"] == "missing":
            missing.append((row["image"], row["bbox"], row["risk"]))
        elif row["issue"] in scores:
            scores[row["issue"]][row["image"]][row["component"]] = row["risk"]
    return scores, missing


def ask_cleanlab(labels: Path, teachers: dict[str, Path], masks) -> tuple[RegionScores, list] | None:  # noqa: ANN001
    try:
        from cleanlab.segmentation.filter import find_label_issues  # noqa: PLC0415 - a benchmark extra
    except ImportError:
        print("cleanlab is not installed: pip install 'curate[benchmark]'", file=sys.stderr)
        return None
    del labels
    scores: dict[str, np.ndarray] = {}
    missing = []
    for stem, mask in masks.items():
        probs = np.mean([np.load(f / f"{stem}.npy").astype(np.float32) for f in teachers.values()], axis=0)
        given = np.where(mask == VOID, 0, mask)
        pixel = 1 - np.take_along_axis(probs, given[None], 0)[0]
        pixel[mask == VOID] = 0
        scores[stem] = np.array([pixel[part].mean() for _, part in regions(mask)])
        marked = find_label_issues(given[None], probs[None], downsample=1, n_jobs=1, verbose=False)[0] & (
            mask != VOID
        )
        parts, _ = ndimage.label(marked, structure=EIGHT)
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
    """Return the average precision with a bootstrap over images; what is never proposed counts as not found."""
    stems = sorted(n_true)
    at = np.searchsorted(stems, image) if len(image) else np.zeros(0, dtype=int)
    true = np.array([n_true[stem] for stem in stems], dtype=float)
    value = average_precision(risk, hit, np.ones(len(risk)), true.sum())
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(n_resamples):
        weight = random.multinomial(len(stems), np.ones(len(stems)) / len(stems)).astype(float)
        drawn.append(average_precision(risk, hit, weight[at], float((weight * true).sum())))
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return f"{value:.3f} [{low:.3f}, {high:.3f}] of {int(true.sum())}"


def score(answer: tuple[RegionScores, list], masks, plants: Plants, n_resamples: int) -> list[str]:  # noqa: ANN001
    scores, missing = answer
    cells = []
    for kind in KINDS:
        n_true = {stem: len(plants.at[stem][kind]) for stem in masks}
        risk, hit, image = [], [], []
        if kind == "missing":
            left = {stem: [box_of(part) for part in plants.at[stem][kind]] for stem in masks}
            for stem, box, value in sorted(missing, key=lambda one: -one[2]):
                found = next((one for one in left[stem] if box_iou(one, box) >= 0.3), None)
                if found is not None:
                    left[stem].remove(found)
                risk.append(value), hit.append(found is not None), image.append(stem)
        else:
            for stem, mask in masks.items():
                for number, (_, part) in enumerate(regions(mask)):
                    inside = [(part & one).sum() / (part | one).sum() >= 0.8 for one in plants.at[stem][kind]]
                    risk.append(scores[kind][stem][number]), hit.append(any(inside)), image.append(stem)
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
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.images
        if folder.is_file():
            with tarfile.open(folder) as archive:
                archive.extractall(temporary, filter="data")
            folder = Path(temporary)
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
        teachers = {name: place / name for name in ("net_wide", "net_narrow", "forest")}
        if not all((path / f"{stem}.npy").exists() for path in teachers.values() for stem in masks):
            teachers = teach(images, masks, n_classes, place, options.steps)
        print(f"{len(masks)} masks; teaching took {time.perf_counter() - started:.0f} s", file=sys.stderr)
        for name, path in teachers.items():
            same = [np.load(path / f"{s}.npy").argmax(0)[true[s] != VOID] == true[s][true[s] != VOID] for s in true]
            print(f"  {name}: {np.concatenate(same).mean():.1%} of the pixels right", file=sys.stderr)
        names = [str(one) for one in range(n_classes)]
        asked = {"curate, all teachers": teachers} | {
            f"curate, {name}": {name: path} for name, path in teachers.items()
        }
        rows = [["contender", *KINDS, "seconds"]]
        for title, chosen in [*asked.items(), ("cleanlab, all teachers", None)]:
            started = time.perf_counter()
            if chosen is None:
                answer = ask_cleanlab(place / "labels", teachers, masks)
            else:
                answer = ask_curate(place / "labels", chosen, names, masks)
            seconds = time.perf_counter() - started
            if answer is not None:
                rows.append([title, *score(answer, masks, plants, options.resamples), f"{seconds:.1f}"])
    for row in rows:
        print(" | ".join(row))
    if options.out:
        with options.out.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)


if __name__ == "__main__":
    main()
