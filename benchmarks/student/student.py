"""The student: a small pixel CNN, the same for every arm, and what is measured of it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from world import Arm, Task

from curate.feed.loss import distillation_loss

BATCH = 128


def network(n_classes: int, width: int) -> torch.nn.Module:
    layers: list[torch.nn.Module] = []
    channels = 3
    for stage in (width, 2 * width, 4 * width):
        for _ in range(2):
            layers += [
                torch.nn.Conv2d(channels, stage, 3, padding=1, bias=False),
                torch.nn.BatchNorm2d(stage),
                torch.nn.ReLU(),
            ]
            channels = stage
        layers.append(torch.nn.MaxPool2d(2))
    return torch.nn.Sequential(
        *layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(channels, n_classes)
    )


def prepared(pixels: np.ndarray) -> torch.Tensor:
    return (torch.from_numpy(np.ascontiguousarray(pixels)).float() - 120.0) / 64.0


def train(task: Task, arm: Arm, seed: int, *, n_steps: int, width: int) -> torch.nn.Module:
    """Return the trained student. Every arm takes the same number of steps, however many rows it has."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = network(len(task.classes), width)
    step = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=5e-4)
    plan = torch.optim.lr_scheduler.OneCycleLR(step, 6e-3, total_steps=n_steps)
    queue = np.empty(0, dtype=np.int64)
    for _ in range(n_steps):
        if queue.size < BATCH:
            queue = np.concatenate([queue, rng.permutation(len(arm.rows))])
        at, queue = queue[:BATCH], queue[BATCH:]
        loss = distillation_loss(
            net(prepared(augmented(task.pixels[arm.rows[at]], rng))),
            None if arm.soft is None else soft_batch(arm.soft[at], arm.temperature),
            torch.from_numpy(arm.hard[at].astype(np.int64)),
            torch.from_numpy(arm.weight[at]),
            alpha=arm.alpha,
        )
        step.zero_grad()
        loss.backward()
        step.step()
        plan.step()
    return net.eval()


def soft_batch(probs: np.ndarray, temperature: float) -> dict[str, torch.Tensor]:
    known = np.isfinite(probs).all(axis=1)
    values = torch.from_numpy(np.where(known[:, None], probs, 0)).float()
    return {
        "probs": values,
        "known": torch.from_numpy(known),
        "temperature": torch.full((len(probs),), temperature),
    }


def augmented(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return mirrored and shifted images: one shift a batch, a coin for each image."""
    turned = np.where(rng.random(len(pixels))[:, None, None, None] < 0.5, pixels[..., ::-1], pixels)
    down, right = rng.integers(0, 9, 2)
    padded = np.pad(turned, ((0, 0), (0, 0), (4, 4), (4, 4)), mode="reflect")
    return padded[:, :, down : down + pixels.shape[2], right : right + pixels.shape[3]]


def disturbed(pixels: np.ndarray, how: str) -> np.ndarray:
    """Return test images as they are, darker, brighter, blurred, or with a gray square over a seventh of them."""
    if how in {"darker", "brighter"}:
        return np.clip(pixels * (0.4 if how == "darker" else 1.7), 0, 255).astype(np.uint8)
    if how == "blurred":
        rows = [cv2.GaussianBlur(np.ascontiguousarray(image.transpose(1, 2, 0)), (0, 0), 1.2) for image in pixels]
        return np.stack(rows).transpose(0, 3, 1, 2)
    made = pixels.copy()
    if how == "occluded":
        corners = np.random.default_rng(5).integers(0, pixels.shape[2] - 12, (len(pixels), 2))
        for image, (y, x) in zip(made, corners, strict=True):
            image[:, y : y + 12, x : x + 12] = 128
    return made


DISTURBANCES = ("as they are", "darker", "brighter", "blurred", "occluded")


def probabilities(net: torch.nn.Module, pixels: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        parts = [torch.softmax(net(prepared(pixels[at : at + 512])), 1) for at in range(0, len(pixels), 512)]
    return torch.cat(parts).numpy()


def measured(net: torch.nn.Module, task: Task) -> dict[str, Any]:
    """Return which test images are right (under each disturbance), and ECE."""
    pixels, truth = task.pixels[task.test], task.truth[task.test]
    found: dict[str, Any] = {"right": {}}
    for how in DISTURBANCES:
        probs = probabilities(net, disturbed(pixels, how))
        found["right"][how] = (probs.argmax(1) == truth).astype(int).tolist()
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
