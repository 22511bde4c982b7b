"""Items into a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a batch of items, as `DataLoader(collate_fn=…)` takes it.

    Tensors of one shape are stacked, mappings key by key, numbers become a tensor; what differs in shape (images
    without `size_px`) stays a list, and so do ids and everything of which an item has its own number (boxes,
    their labels, weights and soft labels, boxes that only teachers see).

    Raises:
        ValueError: no item.
    """
    if not items:
        raise ValueError("a batch needs an item")
    own_number = {"boxes", "labels", "weights", "ignore"} | (
        {"soft", "teacher_boxes"} if "boxes" in items[0] else set()
    )
    return {
        key: [item[key] for item in items] if key in own_number else _joined([item[key] for item in items])
        for key in items[0]
    }


def _joined(values: list[Any]) -> Any:  # noqa: ANN401 - a tensor, a mapping or a list
    first = values[0]
    if isinstance(first, torch.Tensor):
        if not all(value.shape == first.shape for value in values):
            return values
        if first.ndim == 3 and not first.is_contiguous() and first.permute(1, 2, 0).is_contiguous():
            # pixels as they were decoded: one copy, and the memory format that convolutions are fastest in
            return torch.stack([value.permute(1, 2, 0) for value in values]).permute(0, 3, 1, 2)
        return torch.stack(values)
    if isinstance(first, dict):
        return {key: _joined([value[key] for value in values]) for key in first}
    if isinstance(first, bool | int | float):
        return torch.tensor(values)
    return values
