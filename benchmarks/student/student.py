"""The student: a small pixel CNN, the same for every arm, and what is measured of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from arms import Arm
from world import Task

from curate.feed.loss import distillation_loss

BATCH = 64
LEARNING_RATE = 5e-3
DISTURBANCES = ("as they are", "darker", "brighter", "blurred", "occluded")


class Whitened(torch.nn.Module):
    """Pixels of 0 to 255 to about unit variance, so that the exported model takes what a camera gives."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return (pixels - 120.0) / 64.0


def network(n_classes: int, width: int) -> torch.nn.Module:
    """Return four convolutions on patches of two pixels: 97,000 weights at width 32."""
    layers: list[torch.nn.Module] = [Whitened(), torch.nn.PixelUnshuffle(2)]
    channels = 12
    for stage, stride in ((width, 1), (2 * width, 2), (4 * width, 2)):
        layers += [
            torch.nn.Conv2d(channels, stage, 3, stride=stride, padding=1, bias=False),
            torch.nn.BatchNorm2d(stage),
            torch.nn.ReLU(inplace=True),
        ]
        channels = stage
    head = (torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(channels, n_classes))
    return torch.nn.Sequential(*layers, *head)


def prepared(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).float()


def train(task: Task, arm: Arm, seed: int, *, n_steps: int, width: int) -> torch.nn.Module:
    """Return the trained student. Every arm takes the same number of steps, however many rows it has."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = network(len(task.classes), width).to(memory_format=torch.channels_last)
    step = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=5e-4, fused=True)
    plan = torch.optim.lr_scheduler.OneCycleLR(step, LEARNING_RATE, total_steps=n_steps, pct_start=0.2)
    queue = np.empty(0, dtype=np.int64)
    for _ in range(n_steps):
        if queue.size < BATCH:
            queue = np.concatenate([queue, rng.permutation(len(arm.rows))])
        at, queue = queue[:BATCH], queue[BATCH:]
        images = prepared(augmented(task.pixels[arm.rows[at]], rng)).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = net(images)
        loss = distillation_loss(logits, **arm.batch(at))
        step.zero_grad()
        loss.backward()
        step.step()
        plan.step()
    return net.eval()


def augmented(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return mirrored and shifted images: one shift a batch, a coin for each image."""
    turned = np.where(rng.random(len(pixels))[:, None, None, None] < 0.5, pixels[..., ::-1], pixels)
    down, right = rng.integers(0, 7, 2)
    padded = np.pad(turned, ((0, 0), (0, 0), (3, 3), (3, 3)), mode="reflect")
    return padded[:, :, down : down + pixels.shape[2], right : right + pixels.shape[3]]


def disturbed(pixels: np.ndarray, how: str) -> np.ndarray:
    """Return test images as they are, darker, brighter, blurred, or with a gray square over a seventh of them."""
    if how in {"darker", "brighter"}:
        return np.clip(pixels * (0.4 if how == "darker" else 1.7), 0, 255).astype(np.uint8)
    if how == "blurred":
        rows = [cv2.GaussianBlur(np.ascontiguousarray(image.transpose(1, 2, 0)), (0, 0), 1.0) for image in pixels]
        return np.stack(rows).transpose(0, 3, 1, 2)
    made = pixels.copy()
    if how == "occluded":
        side = round(pixels.shape[2] * 0.375)
        corners = np.random.default_rng(5).integers(0, pixels.shape[2] - side, (len(pixels), 2))
        for image, (y, x) in zip(made, corners, strict=True):
            image[:, y : y + side, x : x + side] = 128
    return made


def probabilities(net: torch.nn.Module, pixels: np.ndarray) -> np.ndarray:
    """Return (N, K)."""
    images = prepared(pixels).to(memory_format=torch.channels_last)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        parts = [torch.softmax(net(images[at : at + 500]).float(), 1) for at in range(0, len(pixels), 500)]
    return torch.cat(parts).numpy()


def measured(net: torch.nn.Module, task: Task, disturbances: Sequence[str] = DISTURBANCES) -> dict[str, Any]:
    """Return which test images are right, a digit for each, under each disturbance; and ECE."""
    pixels, truth = task.pixels[task.test], task.truth[task.test]
    found: dict[str, Any] = {"right": {}}
    for how in disturbances:
        probs = probabilities(net, disturbed(pixels, how))
        found["right"][how] = "".join("01"[hit] for hit in (probs.argmax(1) == truth).astype(int))
        if how == "as they are":
            found["ece"] = expected_calibration_error(probs, truth)
    return found


def expected_calibration_error(probs: np.ndarray, truth: np.ndarray, n_bins: int = 15) -> float:
    """Return the mean gap of confidence and accuracy over bins of equal width (Guo et al. 2017)."""
    confidence, right = probs.max(1), probs.argmax(1) == truth
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gaps = [
        abs(right[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean() for b in set(bins.tolist())
    ]
    return float(sum(gaps))
