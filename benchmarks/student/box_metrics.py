"""Average precision by the rules of COCO, kept apart by image so that images can be resampled."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

MATCHES = ("k", "image", "score", "hit", "n_true")
_RECALLS = np.linspace(0.0, 1.0, 101)  # to the last bit as pycocotools has them: a recall may lie just below


def matched(
    found: Sequence[Mapping[str, np.ndarray]], boxes: np.ndarray, label: np.ndarray, image: np.ndarray,
    size_px: np.ndarray, n_classes: int,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Match detections and true boxes with pycocotools.

    Args:
        found: of each of n images, `boxes` (relative), `scores`, `labels`.
        boxes: (B, 4) true ones, x0, y0, x1, y1 relative.
        label: (B,) classes.
        image: (B,) positions in `found`.
        size_px: (n, 2) width, height.
        n_classes: K.

    Returns:
        `k`, `image`, `score` of D detections, `hit` (D, 10) at IoU .5 to .95, `n_true` (n, K); and `stats`, the
        mAP and AP50 that pycocotools gives.
    """
    scale = np.tile(size_px, 2).astype(np.float64)
    truth = COCO()
    truth.dataset = {
        "images": [{"id": at + 1} for at in range(len(found))],
        "categories": [{"id": k + 1} for k in range(n_classes)],
        "annotations": [
            {"id": number + 1, "image_id": int(at) + 1, "category_id": int(k) + 1, "bbox": _xywh(box * scale[at]),
             "area": float(np.prod((box * scale[at])[2:] - (box * scale[at])[:2])), "iscrowd": 0}
            for number, (box, k, at) in enumerate(zip(boxes, label, image, strict=True))
        ],
    }  # fmt: skip
    rows = [
        {"image_id": at + 1, "category_id": int(k) + 1, "bbox": _xywh(box * scale[at]), "score": float(score)}
        for at, one in enumerate(found)
        for box, score, k in zip(one["boxes"], one["scores"], one["labels"], strict=True)
    ]
    n_true = np.zeros((len(found), n_classes), np.int64)
    np.add.at(n_true, (image, label), 1)
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        judged = COCOeval(truth, truth.loadRes(rows) if rows else COCO(), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    parts = [one for one in judged.evalImgs if one is not None and one["aRng"] == judged.params.areaRng[0]]
    parts = [one for one in parts if one["dtScores"]]
    n_found = [len(one["dtScores"]) for one in parts]
    hits = [np.asarray(one["dtMatches"]).T > 0 for one in parts]
    return {
        "k": np.repeat(np.array([one["category_id"] - 1 for one in parts], np.int64), n_found),
        "image": np.repeat(np.array([one["image_id"] - 1 for one in parts], np.int64), n_found),
        "score": np.concatenate([np.zeros(0), *(one["dtScores"] for one in parts)]),
        "hit": np.concatenate([np.zeros((0, len(judged.params.iouThrs)), bool), *hits]),
        "n_true": n_true,
        "stats": np.asarray(judged.stats[:2]),
    }


def _xywh(box: np.ndarray) -> list[float]:
    return [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]


def average_precisions(cell: Mapping[str, np.ndarray], weight: np.ndarray | None = None) -> np.ndarray:
    """Return (K, 10) average precisions of classes at IoU .5 to .95, each image counted `weight` times; NaN without any.

    With weight 1 they are those of pycocotools: precision made monotone, read at 101 recalls.
    """
    weight = np.ones(len(cell["n_true"])) if weight is None else weight
    found = np.full((cell["n_true"].shape[1], cell["hit"].shape[1]), np.nan)
    for k in range(len(found)):
        n_true = weight @ cell["n_true"][:, k]
        if n_true == 0:
            continue
        mine = np.flatnonzero(cell["k"] == k)
        mine = mine[np.argsort(-cell["score"][mine], kind="stable")]
        w = weight[cell["image"][mine]]
        true = np.cumsum(w[:, None] * cell["hit"][mine], axis=0)
        seen = np.cumsum(w)[:, None]
        precision = np.maximum.accumulate((true / np.maximum(seen, 1e-12))[::-1], axis=0)[::-1]
        for iou in range(found.shape[1]):
            at = np.searchsorted(true[:, iou] / n_true, _RECALLS, side="left")
            found[k, iou] = (
                np.where(at < len(mine), precision[np.minimum(at, len(mine) - 1), iou], 0.0).mean()
                if len(mine)
                else 0.0
            )
    return found


def map_and_ap50(cell: Mapping[str, np.ndarray], weight: np.ndarray | None = None) -> np.ndarray:
    """Return mAP and AP50, means over classes."""
    found = average_precisions(cell, weight)
    return np.array([np.nanmean(found), np.nanmean(found[:, 0])])


def paired(
    ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]], n_resamples: int = 500
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean difference of mAP and AP50 and its 95 % bounds, by bootstrap over seeds and test images."""
    rng = np.random.default_rng(0)
    n_seeds, n_images = len(ours), len(ours[0]["n_true"])
    mean = np.mean([map_and_ap50(a) - map_and_ap50(b) for a, b in zip(ours, theirs, strict=True)], axis=0)
    draws = []
    for _ in range(n_resamples):
        weight = np.bincount(rng.integers(0, n_images, n_images), minlength=n_images).astype(float)
        seeds = rng.integers(0, n_seeds, n_seeds)
        each = {s: map_and_ap50(ours[s], weight) - map_and_ap50(theirs[s], weight) for s in set(seeds.tolist())}
        draws.append(np.mean([each[s] for s in seeds.tolist()], axis=0))
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return mean, low, high
