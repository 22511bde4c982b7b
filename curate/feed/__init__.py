"""A published version as what a trainer reads: PyTorch datasets and a loss that takes the stored soft labels.

import curate.feed
feed = curate.feed.open("digits@v1", workspace="workspace", split="train")
for batch in feed.stream(batch_size=64, size_px=(32, 32)):
    loss = curate.feed.distillation_loss(model(batch["image"] / 255), **curate.feed.targets(batch))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curate.feed.batches import collate as collate
    from curate.feed.box_targets import box_targets as box_targets
    from curate.feed.loss import distillation_loss as distillation_loss
    from curate.feed.loss import multi_label_loss as multi_label_loss
    from curate.feed.loss import targets as targets
    from curate.feed.mask_loss import mask_distillation_loss as mask_distillation_loss
    from curate.feed.masks import IGNORE as IGNORE
    from curate.feed.release import Feed as Feed
    from curate.feed.release import open_feed as open  # noqa: A004 - read as curate.feed.open
    from curate.feed.warp import random_affine as random_affine

_PUBLIC = {
    "IGNORE": ("masks", "IGNORE"),
    "open": ("release", "open_feed"),
    "Feed": ("release", "Feed"),
    "box_targets": ("box_targets", "box_targets"),
    "collate": ("batches", "collate"),
    "distillation_loss": ("loss", "distillation_loss"),
    "multi_label_loss": ("loss", "multi_label_loss"),
    "mask_distillation_loss": ("mask_loss", "mask_distillation_loss"),
    "random_affine": ("warp", "random_affine"),
    "targets": ("loss", "targets"),
}
__all__ = [
    "IGNORE",
    "Feed",
    "box_targets",
    "collate",
    "distillation_loss",
    "mask_distillation_loss",
    "multi_label_loss",
    "open",
    "random_affine",
    "targets",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attribute
    """Load a public name when it is first used: torch is imported by what needs it only."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'curate.feed' has no attribute {name!r}. Public names: {', '.join(__all__)}")
    module, attribute = _PUBLIC[name]
    value = getattr(import_module(f"curate.feed.{module}"), attribute)
    globals()[name] = value
    return value
