"""The loss of masks against the loss of rows, pixel by pixel, and what it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import ConfigError, InputError
from curate.feed import IGNORE, distillation_loss, mask_distillation_loss

N, K, H, W = 2, 5, 3, 4


def soft_of(seed: int, temperature: float = 1.0, known: tuple[bool, ...] = (True, True)) -> dict[str, torch.Tensor]:
    probs = np.random.default_rng(seed).dirichlet(np.full(K, 0.5), size=(N, H, W))
    maps = torch.tensor(np.moveaxis(probs, 3, 1), dtype=torch.float32)
    return {
        "probs": torch.where(torch.tensor(known)[:, None, None, None], maps, 0.0),
        "known": torch.tensor(known),
        "temperature": torch.full((N,), temperature),
    }


def as_rows(values: torch.Tensor) -> torch.Tensor:
    """Return (n, c, h, w) or (n, h, w) as rows."""
    return values.movedim(1, -1).reshape(-1, values.shape[1]) if values.ndim == 4 else values.reshape(-1)


def rows_loss(
    logits: torch.Tensor,
    soft: Mapping[str, torch.Tensor],
    hard: torch.Tensor,
    **more: Any,  # noqa: ANN401 - options of the loss
) -> torch.Tensor:
    n_px = H * W
    rows = {
        "probs": as_rows(soft["probs"]),
        "known": soft["known"].repeat_interleave(n_px),
        "temperature": soft["temperature"].repeat_interleave(n_px),
    }
    flat = {name: as_rows(value) if isinstance(value, torch.Tensor) else value for name, value in more.items()}
    return distillation_loss(as_rows(logits), rows, torch.where(as_rows(hard) == IGNORE, -1, as_rows(hard)), **flat)


@settings(deadline=None)
@given(st.integers(0, 30), st.sampled_from([1.0, 2.0]), st.sampled_from(["teachers", "full"]), st.floats(0, 1))
def test_each_pixel_is_a_row_of_the_other_loss(
    seed: int, temperature: float, trust: Literal["teachers", "full"], alpha: float
) -> None:
    torch.manual_seed(seed)
    logits, hard = torch.randn(N, K, H, W), torch.randint(0, K, (N, H, W))
    hard[:, 0, :2] = IGNORE
    soft = soft_of(seed, temperature, (True, seed % 2 == 0))
    more = {"weight": torch.rand(N, H, W), "alpha": alpha, "trust": trust, "settled": torch.rand(N, H, W) > 0.7}
    expected = rows_loss(logits, soft, hard, **more)
    torch.testing.assert_close(mask_distillation_loss(logits, soft, hard, **more), expected, rtol=1e-5, atol=1e-6)


def test_another_temperature_of_full_maps_is_that_of_rows() -> None:
    logits, hard, soft = torch.randn(N, K, H, W), torch.randint(0, K, (N, H, W)), soft_of(1, 2.0)
    expected = rows_loss(logits, soft, hard, temperature=3.0)
    torch.testing.assert_close(mask_distillation_loss(logits, soft, hard, temperature=3.0), expected)


def test_a_pixel_with_neither_counts_nothing_and_plain_labels_are_cross_entropy() -> None:
    logits, hard = torch.randn(N, K, H, W, requires_grad=True), torch.randint(0, K, (N, H, W))
    hard[0] = IGNORE
    loss = mask_distillation_loss(logits, None, hard)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, hard))
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad[0].any()
    nothing = mask_distillation_loss(logits, soft_of(0, known=(False, False)), torch.full((N, H, W), IGNORE))
    assert nothing.item() == 0.0


def test_maps_and_logits_of_other_sizes_come_to_the_size_of_the_mask() -> None:
    soft = soft_of(3)
    flat = {**soft, "probs": soft["probs"].mean(dim=(2, 3), keepdim=True)}
    hard = torch.full((N, 12, 16), IGNORE)
    logits = torch.randn(N, K, 1, 1)
    expected = mask_distillation_loss(logits, flat, None)
    torch.testing.assert_close(mask_distillation_loss(logits, flat, hard), expected)


def test_what_nobody_knows_round_a_pixel_is_not_learned() -> None:
    soft = soft_of(4)
    soft["probs"][:, :, :, 2:] = 0.0
    logits = torch.randn(N, K, H, W, requires_grad=True)
    mask_distillation_loss(logits, soft, None).backward()
    assert logits.grad is not None
    assert logits.grad[..., :2].any()
    assert not logits.grad[..., 2:].any()


def test_top_k_maps_tell_the_mass_of_the_rest_only() -> None:
    full = soft_of(5)
    top = full["probs"].topk(2, dim=1)
    cut = torch.zeros_like(full["probs"]).scatter(1, top.indices, top.values)
    soft = {**full, "probs": cut, "tail": 1 - cut.sum(dim=1)}
    logits = torch.randn(N, K, H, W)
    loss = mask_distillation_loss(logits, soft, None)
    assert 0 < loss.item() <= mask_distillation_loss(logits, full, None).item()
    agrees = torch.where(cut > 0, full["probs"], (soft["tail"] / (K - 2))[:, None].expand_as(cut)).log()
    assert mask_distillation_loss(agrees, soft, None).item() == pytest.approx(0.0, abs=1e-5)
    with pytest.raises(InputError, match="cut-off tail"):
        mask_distillation_loss(logits, soft, None, temperature=2.0)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"alpha": 2.0}, ConfigError, "alpha is in"),
        ({"trust": "nobody"}, ConfigError, "trust is"),
        ({"logits": torch.zeros(N, K)}, InputError, "Logits of masks"),
        ({"logits": torch.zeros(N, K + 1, H, W)}, InputError, "one number of images and classes"),
        ({"soft": None, "hard": None}, ConfigError, "given: neither"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], error: type[Exception], said: str) -> None:
    given_values = {
        "logits": torch.zeros(N, K, H, W),
        "soft": soft_of(0),
        "hard": torch.zeros(N, H, W, dtype=torch.long),
    }
    with pytest.raises(error, match=said):
        mask_distillation_loss(**{**given_values, **options})
