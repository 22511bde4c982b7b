"""Soft targets of boxes, against the formula written out."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")
import torch

import curate.feed
from curate.errors import ConfigError


def an_item(temperature: float = 1.0) -> dict[str, Any]:
    """Return four boxes of class 0: believed, of another class, not looked at, not seen; and one only teachers see."""
    mass = torch.tensor([[0.8, 0.2], [0.1, 0.9], [0.0, 0.0], [0.0, 0.0]]) ** (1 / temperature)
    soft = {
        "objectness": torch.tensor([0.9, 0.8, torch.nan, 0.0]),
        "probs": mass / mass.sum(1, keepdim=True).clamp(min=1e-9),
        "known": torch.tensor([True, True, False, False]),
        "temperature": torch.full((4,), temperature),
    }
    theirs = {
        "boxes": torch.tensor([[0.5, 0.5, 1.0, 1.0]]),
        "objectness": torch.tensor([0.4]),
        "known": torch.tensor([True]),
    }
    theirs |= {"probs": torch.tensor([[0.25, 0.75]]), "temperature": torch.ones(1)}
    return {
        "boxes": torch.rand(4, 4),
        "labels": torch.zeros(4, dtype=torch.long),
        "weights": torch.tensor([1.0, 0.5, 1.0, 1.0]),
        "ignore": torch.tensor([[0.0, 0.0, 0.1, 0.1]]),
        "soft": soft,
        "teacher_boxes": theirs,
    }


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_label_counts_as_far_as_detectors_believe_it(temperature: float) -> None:
    made = curate.feed.box_targets(an_item(temperature), 2)
    h = [0.5, 0.5 * 0.08 / 0.72, 1.0, 0.0]
    own = [[0.72, 0.18], [0.08, 0.72], [0.0, 0.0], [0.0, 0.0]]
    expected = [[h[at] + (1 - h[at]) * p[0], (1 - h[at]) * p[1]] for at, p in enumerate(own)]
    assert torch.allclose(made["scores"], torch.tensor([*expected, [0.1, 0.3]]), atol=1e-5)
    assert made["boxes"].shape == (5, 4)
    assert made["weights"].tolist() == [1.0, 0.5, 1.0, 1.0, 1.0]
    assert made["ignore"].shape == (1, 4)


def test_labels_as_they_are_and_trust_in_full() -> None:
    item = an_item()
    hard = curate.feed.box_targets(item, 2, alpha=0.0, trust="full", teacher_boxes=False)
    assert hard["scores"].tolist() == [[1.0, 0.0]] * 4
    assert torch.equal(hard["boxes"], item["boxes"])
    half = curate.feed.box_targets(item, 2, trust="full")["scores"]
    assert torch.allclose(half[1], torch.tensor([0.5 + 0.5 * 0.08, 0.5 * 0.72]))
    none = {name: value for name, value in item.items() if name not in {"soft", "teacher_boxes"}}
    assert curate.feed.box_targets(none, 2)["scores"].tolist() == [[1.0, 0.0]] * 4


def test_of_what_is_cut_off_each_class_has_its_part_of_the_rest() -> None:
    item = an_item()
    item["soft"] = {
        "objectness": torch.tensor([1.0] * 4),
        "top_classes": torch.tensor([[2]] * 4),
        "top_probs": torch.tensor([[0.7]] * 4),
        "tail_mass": torch.tensor([0.3] * 4),
        "known": torch.ones(4, dtype=torch.bool),
        "temperature": torch.ones(4),
    }
    made = curate.feed.box_targets(item, 4, teacher_boxes=False)["scores"]
    h = 0.5 * 0.1 / 0.7
    assert torch.allclose(made[0], torch.tensor([h + (1 - h) * 0.1, (1 - h) * 0.1, (1 - h) * 0.7, (1 - h) * 0.1]))


def test_an_image_without_boxes_has_none() -> None:
    item = an_item()
    item |= {name: item[name][:0] for name in ("boxes", "labels", "weights")}
    for part in ("soft", "teacher_boxes"):
        item[part] = {name: value[:0] for name, value in item[part].items()}
    made = curate.feed.box_targets(item, 2)
    assert (made["boxes"].shape, made["scores"].shape) == ((0, 4), (0, 2))


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="alpha"):
        curate.feed.box_targets(an_item(), 2, alpha=1.5)
    with pytest.raises(ConfigError, match="trust"):
        curate.feed.box_targets(an_item(), 2, trust="none")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="with boxes"):
        curate.feed.box_targets({"label": torch.tensor(0)}, 2)
