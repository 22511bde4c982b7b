"""The small detector: anchor-free, centres and distances at a stride of 4; the same for teachers and every arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

Tensor = torch.Tensor
STRIDE = 4
BATCH = 16
LEARNING_RATE = 4e-3
N_FOUND = 60  # boxes an image at most
LEAST_SCORE = 0.02


@dataclass(frozen=True)
class Targets:
    """What a detector learns of one image; boxes are x0, y0, x1, y1 relative to the image.

    Attributes:
        boxes: (n, 4) float32.
        scores: (n, K) float32 what the heatmap should say at the centre of each box: 1 for the class of a hard label,
            the chance of each class for a soft one.
        weights: (n,) float32.
        ignore: (m, 4) float32 places where nothing is learnt of what lacks a box.
    """

    boxes: np.ndarray
    scores: np.ndarray
    weights: np.ndarray
    ignore: np.ndarray


class Block(torch.nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = torch.nn.Sequential(conv(channels, channels), conv(channels, channels, active=False))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.inner(x))


def conv(n_in: int, n_out: int, stride: int = 1, *, active: bool = True) -> torch.nn.Module:
    layers = [
        torch.nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False),
        torch.nn.BatchNorm2d(n_out),
    ]
    return torch.nn.Sequential(*layers, torch.nn.ReLU(inplace=True)) if active else torch.nn.Sequential(*layers)


class Detector(torch.nn.Module):
    """(N, 3, H, W) of 0 to 255 -> (N, K, H/4, W/4) logits of centres, (N, 4, …) distances to the sides in cells."""

    def __init__(self, n_classes: int, width: int = 32) -> None:
        super().__init__()
        w = width
        self.at4 = torch.nn.Sequential(conv(3, w // 2, 2), conv(w // 2, w, 2))
        self.at8 = torch.nn.Sequential(conv(w, 2 * w, 2), Block(2 * w))
        self.at16 = torch.nn.Sequential(conv(2 * w, 2 * w, 2), Block(2 * w))
        self.across = torch.nn.ModuleList(torch.nn.Conv2d(n, w, 1) for n in (w, 2 * w, 2 * w))
        self.joined = torch.nn.Sequential(conv(w, w), conv(w, w))
        self.centre = torch.nn.Conv2d(w, n_classes, 1)
        self.sides = torch.nn.Conv2d(w, 4, 1)
        torch.nn.init.constant_(self.centre.bias, -4.0)
        torch.nn.init.constant_(self.sides.bias, 1.0)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.at4((pixels - 128.0) / 64.0)
        middle = self.at8(fine)
        coarse = self.at16(middle)
        one, two, three = (layer(x) for layer, x in zip(self.across, (fine, middle, coarse), strict=True))
        two = two + functional.interpolate(three, size=two.shape[2:])
        one = one + functional.interpolate(two, size=one.shape[2:])
        x = self.joined(one)
        return self.centre(x).float(), self.sides(x).float().clamp(-4.0, 6.0).exp()


def maps_of(targets: Sequence[Targets], n_classes: int, size: tuple[int, int]) -> dict[str, Tensor]:
    """Return the targets of a batch at the stride.

    `near` (N, K, h, w): how little a cell is a negative. `ignored` (N, h, w): nothing is learnt there. Of each box
    `at` (image, row, column), `scores`, `weights`, and `sides` in cells from the middle of its cell.
    """
    h, w = size
    near = np.zeros((len(targets), n_classes, h, w), np.float32)
    ignored = np.zeros((len(targets), h, w), bool)
    ys, xs = np.arange(h)[:, None] + 0.5, np.arange(w)[None] + 0.5
    at, scores, weights, sides = [], [], [], []
    for number, one in enumerate(targets):
        for x0, y0, x1, y1 in one.ignore * [w, h, w, h]:
            ignored[number] |= (xs >= x0) & (xs <= x1) & (ys >= y0) & (ys <= y1)
        for box, score, weight in zip(one.boxes * [w, h, w, h], one.scores, one.weights, strict=True):
            x0, y0, x1, y1 = box
            cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
            row, column = min(max(int(cy), 0), h - 1), min(max(int(cx), 0), w - 1)
            wide, high = max(x1 - x0, 1.0) / 6, max(y1 - y0, 1.0) / 6
            gauss = np.exp(-((xs - cx) ** 2 / (2 * wide**2) + (ys - cy) ** 2 / (2 * high**2)))
            gauss[row, column] = 1.0
            for k in np.flatnonzero(score > 0):
                np.maximum(near[number, k], score[k] * gauss, out=near[number, k])
            at.append((number, row, column))
            scores.append(score)
            weights.append(weight)
            middle_x, middle_y = column + 0.5, row + 0.5
            sides.append([middle_x - x0, middle_y - y0, x1 - middle_x, y1 - middle_y])
    n = len(at)
    return {
        "near": torch.from_numpy(near),
        "ignored": torch.from_numpy(ignored),
        "at": torch.tensor(at, dtype=torch.long).reshape(n, 3),
        "scores": torch.from_numpy(np.asarray(scores, np.float32).reshape(n, n_classes)),
        "weights": torch.tensor(np.asarray(weights, np.float32)),
        "sides": torch.from_numpy(np.asarray(sides, np.float32).reshape(n, 4)).clamp(min=0.05),
    }


def loss_of(centre: Tensor, sides: Tensor, maps: dict[str, Tensor]) -> Tensor:
    """Return the loss of a batch.

    Centres: the focal loss of CenterNet (Zhou et al. 2019), whose positives take soft targets as in the quality focal
    loss (Li et al. 2020): |y - p|² BCE(y, p). Cells in an ignored place are no negatives. Sides: 1 - GIoU
    (Rezatofighi et al. 2019).
    """
    image, row, column = maps["at"].T
    p = centre.sigmoid()
    away = (1 - maps["near"]) ** 4 * p**2 * functional.softplus(centre)
    counts = (~maps["ignored"])[:, None].expand_as(away).clone()
    counts[image, :, row, column] = False
    negatives = (away * counts).sum()
    logits, y, weight = centre[image, :, row, column], maps["scores"], maps["weights"]
    plain = functional.binary_cross_entropy_with_logits(logits, y, reduction="none")
    positives = (((y - logits.sigmoid()).abs() ** 2 * plain).sum(1) * weight).sum()
    n = (maps["scores"].sum(1).clamp(max=1) * weight).sum().clamp(min=1.0)
    sure = weight * y.sum(1).clamp(max=1)
    boxes = ((1 - giou(sides[image, :, row, column], maps["sides"])) * sure).sum()
    return (positives + negatives + 2.0 * boxes) / n


def giou(one: Tensor, other: Tensor) -> Tensor:
    """Return the generalised IoU of boxes given as distances left, up, right, down from one point."""
    least, most = torch.minimum(one, other), torch.maximum(one, other)
    both = (least[:, 0] + least[:, 2]) * (least[:, 1] + least[:, 3])
    areas = [(b[:, 0] + b[:, 2]) * (b[:, 1] + b[:, 3]) for b in (one, other, most)]
    union = areas[0] + areas[1] - both
    return both / union - (areas[2] - union) / areas[2]


def train(
    pixels: np.ndarray, targets: Sequence[Targets | None], n_classes: int, seed: int, *, n_steps: int, width: int
) -> Detector:
    """Return a trained detector: initialisation, order and augmentation follow from the seed, steps are as many as said.

    Args:
        pixels: (n, 3, H, W) uint8.
        targets: of each image; None: it is passed over, the order of the others stays.
        n_classes: K.
        seed: of everything random.
        n_steps: batches of `BATCH` images.
        width: of the network.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = Detector(n_classes, width).to(memory_format=torch.channels_last).train()
    step = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=1e-3, fused=True)
    plan = torch.optim.lr_scheduler.OneCycleLR(step, LEARNING_RATE, total_steps=n_steps, pct_start=0.2)
    size = (pixels.shape[2] // STRIDE, pixels.shape[3] // STRIDE)
    there = np.array([one is not None for one in targets])
    queue = np.empty(0, dtype=np.int64)
    for _ in range(n_steps):
        while queue.size < BATCH:
            order = rng.permutation(len(pixels))
            queue = np.concatenate([queue, order[there[order]]])
        at, queue = queue[:BATCH], queue[BATCH:]
        images, learnt = augmented(pixels[at], [one for i in at if (one := targets[i]) is not None], rng)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            centre, sides = net(torch.from_numpy(images).float().contiguous(memory_format=torch.channels_last))
        loss = loss_of(centre, sides, maps_of(learnt, n_classes, size))
        step.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        step.step()
        plan.step()
    return net.eval()


def augmented(
    pixels: np.ndarray, targets: Sequence[Targets], rng: np.random.Generator
) -> tuple[np.ndarray, list[Targets]]:
    """Return each image mirrored or not, both ways, and lighter or darker by up to a fifth; boxes go along."""
    images, learnt = np.empty(pixels.shape, np.float32), []
    for number, one in enumerate(targets):
        image, boxes, ignore = pixels[number], one.boxes, one.ignore
        for axis, (a, b) in ((2, (0, 2)), (1, (1, 3))):
            if rng.random() < 0.5:
                image = np.flip(image, axis)
                boxes, ignore = (mirrored(some, a, b) for some in (boxes, ignore))
        images[number] = np.clip(image * rng.uniform(0.8, 1.2), 0, 255)
        learnt.append(Targets(boxes, one.scores, one.weights, ignore))
    return images, learnt


def mirrored(boxes: np.ndarray, a: int, b: int) -> np.ndarray:
    turned = boxes.copy()
    turned[:, [a, b]] = 1 - boxes[:, [b, a]]
    return turned


def found_in(net: Detector, pixels: np.ndarray) -> list[dict[str, Any]]:
    """Return for each image `boxes` (n, 4) x0, y0, x1, y1 relative, `scores` (n,) falling, `labels` (n,)."""
    told: list[dict[str, Any]] = []
    for start in range(0, len(pixels), 32):
        images = torch.from_numpy(pixels[start : start + 32]).float().contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            centre, sides = net(images)
        chance = centre.sigmoid()
        peaks = chance * (functional.max_pool2d(chance, 3, 1, 1) == chance)
        n, k, h, w = peaks.shape
        score, at = peaks.reshape(n, -1).topk(min(N_FOUND, k * h * w))
        label, row, column = at // (h * w), at % (h * w) // w, at % w
        far = sides.permute(0, 2, 3, 1)[torch.arange(n)[:, None], row, column]
        x, y = column + 0.5, row + 0.5
        boxes = torch.stack([x - far[..., 0], y - far[..., 1], x + far[..., 2], y + far[..., 3]], -1)
        boxes = (boxes / torch.tensor([w, h, w, h])).clamp(0, 1)
        for one in range(n):
            kept = score[one] >= LEAST_SCORE
            parts = {"boxes": boxes, "scores": score, "labels": label}
            told.append({name: part[one][kept].numpy() for name, part in parts.items()})
    return told
