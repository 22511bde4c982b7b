"""What a detector learns from an item: boxes, the chance of each class at each, and where nothing is to be learnt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch

from curate.errors import ConfigError

Tensor = torch.Tensor


def box_targets(
    item: Mapping[str, Any],
    n_classes: int,
    *,
    alpha: float = 0.5,
    trust: Literal["teachers", "full"] = "teachers",
    teacher_boxes: bool = True,
) -> dict[str, Tensor]:
    """Return the boxes of an item with soft targets, as `distillation_loss` gives them to images.

    The target of class k at a released box is h [k = label] + (1 - h) o p_k, where o is the detectors' objectness there
    and p their class mass. The share of the label is h = (1 - alpha) r with r = o p(label) / max over the classes and
    "nothing there" (1 - o): all of it where the label is the detectors' own first choice, next to none where they
    think little of it. With trust "full", r = 1. A box that no detector looked at has its label alone; a box that
    only they see has o p_k. Without soft labels in the version everything is as labeled.

    Args:
        item: of a feed of boxes.
        n_classes: K.
        alpha: the least share of the detectors, 0 to 1; 0 with trust "full": labels as they are.
        trust: "teachers" or "full", see above.
        teacher_boxes: whether boxes that only detectors see are among them.

    Returns:
        `boxes` (n + m, 4) relative corners, `scores` (n + m, K) in [0, 1], `weights` (n + m,), all float32, released
        ones first; `ignore` (i, 4): what lacks a box there is no negative.

    Raises:
        ConfigError: alpha out of range, another word for trust, or an item without boxes.
    """
    if not 0.0 <= alpha <= 1.0 or trust not in {"teachers", "full"}:
        raise ConfigError(f"alpha is in [0, 1] and trust teachers or full; given: {alpha} and {trust!r}.")
    if "boxes" not in item:
        raise ConfigError("box_targets() needs an item with boxes; for images with labels use distillation_loss().")
    hard = torch.nn.functional.one_hot(item["labels"], n_classes).float()
    scores, weights, boxes = hard, item["weights"].float(), item["boxes"].float()
    if "objectness" in item.get("soft", {}):
        p = _chances(item["soft"], n_classes)
        known = item["soft"]["objectness"].isfinite()
        nothing = (1.0 - p.sum(1)).clamp(min=0.0)
        highest = torch.maximum(p.amax(1), nothing).clamp(min=1e-6)
        believed = (p * hard).sum(1) / highest if trust == "teachers" else torch.ones(len(p))
        share = torch.where(known, (1.0 - alpha) * believed, 1.0)[:, None]
        scores = share * hard + (1.0 - share) * p
    if teacher_boxes and "teacher_boxes" in item:
        theirs = item["teacher_boxes"]
        boxes = torch.cat([boxes, theirs["boxes"].float()])
        scores = torch.cat([scores, _chances(theirs, n_classes)])
        weights = torch.cat([weights, torch.ones(len(theirs["boxes"]))])
    return {"boxes": boxes, "scores": scores, "weights": weights, "ignore": item["ignore"].float()}


def _chances(soft: Mapping[str, Tensor], n_classes: int) -> Tensor:
    """Return (n, K) objectness times class mass at temperature 1; 0 where the detectors see nothing."""
    objectness = soft["objectness"].float().nan_to_num()
    if "probs" in soft:
        mass = soft["probs"].float().nan_to_num()
    else:
        top = soft["top_probs"].float()
        rest = soft["tail_mass"].float() / max(1, n_classes - top.shape[1])
        mass = rest[:, None].repeat(1, n_classes).scatter(1, soft["top_classes"].long(), top)
    if mass.numel():
        mass = mass ** soft["temperature"].float().reshape(-1, 1)
        mass = mass / mass.sum(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    known = soft["known"].to(torch.bool)[:, None] if mass.numel() else torch.ones(0, 1, dtype=torch.bool)
    found: Tensor = torch.where(known, objectness[:, None] * mass, 0.0)
    return found
