"""How fine class maps should be, and how to pool teachers into them: bytes, and how well they predict true masks.

    python benchmarks/soft_labels/class_maps.py IMAGES.tar [--every 4] [--steps 60] [--keep FOLDER]

IMAGES.tar as for `benchmarks/label_errors/masks.py`. Teachers are the three small ones of `mask_teachers.py`, trained on
masks with planted errors. Each map is brought back to the size of the image (bilinear) and held against the masks
before errors were planted: log loss (nats a pixel), and the share of pixels where the likeliest class is true. Bytes
are those of an image in a Parquet file. Weights are the shares of pixels on which a teacher and the masks with errors
agree, over those on which they do not; the sharpness is what a run fits, to the masks with errors.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "label_errors"))
from mask_plants import plant
from mask_teachers import VOID, teach
from masks import read
from unpacked import unpacked

from curate.manifest.soft_layout import Layout, encode
from curate.teachers.regions.answers import Answer
from curate.teachers.regions.cells import cell_mass, grid_size
from curate.teachers.regions.sharpness import fit_sharpness

SIDES = (16, 32, 48, 64, 96, 128)
N_KINDS = 14  # each class is split into so many by smooth random fields: many classes that teachers mix up
TOP_KS = (2, 4, 8, 16)


def n_bytes(*columns: np.ndarray) -> int:
    """Return what the arrays take in Parquet, as a version writes them."""
    total = 0
    for column in columns:
        buffer = io.BytesIO()
        table = pa.table({"map": pa.array([column.reshape(-1)], pa.list_(pa.from_numpy_dtype(column.dtype)))})
        pq.write_table(table, buffer, compression="zstd", compression_level=3, use_dictionary=False)
        total += buffer.tell()
    return total


def resized(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    made = np.stack([cv2.resize(one, size[::-1], interpolation=cv2.INTER_LINEAR) for one in maps])
    return made / made.sum(axis=0)


def scores(maps: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    known = truth != VOID
    own = np.take_along_axis(maps, np.where(known, truth, 0)[None], axis=0)[0][known]
    return float(-np.log(np.maximum(own, 1e-4)).mean()), float((maps.argmax(axis=0) == truth)[known].mean())


def sharpened(maps: np.ndarray, exponent: float) -> np.ndarray:
    made = maps**exponent
    return made / made.sum(axis=0)


def log_pool(maps: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    logs = sum(w * np.log(np.maximum(one, 1e-3)) for w, one in zip(weights, maps, strict=True))
    made = np.exp(logs - logs.max(axis=0))
    return made / made.sum(axis=0)


def fitted(pooled: list[np.ndarray], given: list[np.ndarray], n_classes: int) -> float:
    """Return the sharpness of a mean, as a run fits it."""
    cells = np.concatenate([one.reshape(n_classes, -1).T for one in pooled])
    labels = np.concatenate([one.reshape(n_classes, -1).T for one in given])
    known = labels.sum(axis=1) > 0.5
    return fit_sharpness(cells[known], labels[known])


def of_kinds(coarse: np.ndarray, truth: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a map and a mask with `N_KINDS` times as many classes: what kind a pixel is follows a smooth field."""
    fields = random.normal(size=(N_KINDS, 6, 8)).astype(np.float32) * 3
    smooth = np.stack([cv2.resize(one, coarse.shape[:0:-1], interpolation=cv2.INTER_CUBIC) for one in fields])
    share = np.exp(smooth - smooth.max(axis=0))
    share /= share.sum(axis=0)
    many = (coarse[:, None] * share[None]).reshape(-1, *coarse.shape[1:])
    kind = (resized(share, truth.shape).cumsum(axis=0) > random.random(truth.shape)).argmax(axis=0)
    return many.astype(np.float32), np.where(truth == VOID, VOID, truth * N_KINDS + kind)


def cut(maps: np.ndarray, k: int) -> tuple[np.ndarray, int]:
    """Return what top-k maps say (the tail spread evenly), and their bytes."""
    n_classes, *size = maps.shape
    cells = np.ascontiguousarray(maps.reshape(n_classes, -1).T)
    nothing = np.zeros(len(cells))
    columns = encode(cells, nothing.astype(bool), Layout("top_k", n_classes, k, 0), nothing)
    top, probs = (one.values.to_numpy(zero_copy_only=False).reshape(-1, k) for one in columns[:2])
    tail = columns[2].to_numpy(zero_copy_only=False)
    dense = np.repeat(tail.astype(np.float32)[:, None] / (n_classes - k), n_classes, axis=1)
    np.put_along_axis(dense, top.astype(np.int64), probs.astype(np.float32), axis=1)
    return np.ascontiguousarray(dense.T).reshape(n_classes, *size), n_bytes(top.T.copy(), probs.T.copy(), tail)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--ignore", type=int, default=11)
    parser.add_argument("--every", type=int, default=4, help="score every n-th frame")
    parser.add_argument("--steps", type=int, default=60, help="of each network's training")
    parser.add_argument("--keep", type=Path, help="folder for the teachers' maps; used again")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with unpacked(options.images) as folder, tempfile.TemporaryDirectory() as temporary:
        images, true = read(folder, options.ignore)
        given, _ = plant(true, 0)
        n_classes = int(max(m[m != VOID].max() for m in given.values())) + 1
        teachers = teach(images, given, n_classes, options.keep or Path(temporary) / "made", options.steps)
        stems = sorted(images)[:: options.every]
        report(stems, true, given, teachers, n_classes)


def report(stems: list[str], true: dict, given: dict, teachers: dict[str, Path], n_classes: int) -> None:
    found: dict[str, list[tuple[float, ...]]] = {}
    size = next(iter(true.values())).shape
    whole = {
        stem: [np.load(path / f"{stem}.npy").astype(np.float32) for path in teachers.values()] for stem in stems
    }
    whole = {stem: [one / one.sum(axis=0) for one in maps] for stem, maps in whole.items()}
    right = [
        np.mean([(maps[at].argmax(axis=0) == given[s])[given[s] != VOID].mean() for s, maps in whole.items()])
        for at in range(len(teachers))
    ]
    weights = np.array([share / (1 - share) for share in right])
    weights /= weights.sum()
    print("weights", dict(zip(teachers, weights.round(2).tolist(), strict=True)))

    def mean(maps: list[np.ndarray]) -> np.ndarray:
        return np.tensordot(weights.astype(np.float32), np.stack(maps), 1)

    def cells(maps: np.ndarray, side: int) -> np.ndarray:
        return cell_mass(Answer(n_classes, probs=maps), grid_size(*size, side))

    labels = [
        cell_mass(
            Answer(n_classes, codes=np.where(given[s] == VOID, -1, given[s]).astype(np.int32)), grid_size(*size, 64)
        )
        for s in stems
    ]
    sharpness = fitted([cells(mean(whole[s]), 64) for s in stems], labels, n_classes)
    print("sharpness", sharpness)
    random = np.random.default_rng(0)
    for stem in stems:
        truth, maps = true[stem], whole[stem]
        pooled = mean(maps)
        rows = {
            "every pixel: mean": (pooled, 0),
            "every pixel: mean, sharpened": (sharpened(pooled, sharpness), 0),
            "every pixel: log pool, weights sum to 1": (log_pool(maps, weights), 0),
            "every pixel: log pool, sharpened": (log_pool(maps, weights * sharpness), 0),
        }
        for side in SIDES:
            coarse = sharpened(cells(pooled, side), sharpness)
            rows[f"{side} cells: mean, sharpened"] = (resized(coarse, size), n_bytes(coarse.astype(np.float16)))
        rows["64 cells: mean"] = (resized(cells(pooled, 64), size), 0)
        hard = np.tensordot(weights, np.eye(n_classes)[np.stack([one.argmax(axis=0) for one in maps])], 1)
        hard = cells(np.moveaxis(hard, 2, 0).astype(np.float32), 64)
        rows["64 cells: mean of class ids"] = (resized(hard, size), n_bytes(hard.astype(np.float16)))
        for name, (one, taken) in rows.items():
            found.setdefault(name, []).append((*scores(one, truth), taken))
        many, kinds = of_kinds(sharpened(cells(pooled, 64), sharpness), truth, random)
        full = n_bytes(many.astype(np.float16))
        found.setdefault(f"{len(many)} classes: full", []).append((*scores(resized(many, size), kinds), full))
        for k in TOP_KS:
            dense, taken = cut(many, k)
            found.setdefault(f"{len(many)} classes: top {k}", []).append(
                (*scores(resized(dense, size), kinds), taken)
            )
    print(f"{'':42} log loss  right   bytes an image")
    for name, values in found.items():
        loss, share, taken = np.mean(values, axis=0)
        print(f"{name:42} {loss:7.4f}  {share:6.2%}  {taken:9,.0f}")


if __name__ == "__main__":
    main()
