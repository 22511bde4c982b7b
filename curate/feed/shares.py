"""How a soft and a hard label share a loss, be it of images or of pixels (docs/decisions/022-student-policy.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch

from curate.errors import ConfigError, InputError

Tensor = torch.Tensor
Trust = Literal["teachers", "full"]
TINY = torch.finfo(torch.float32).tiny


def check_options(
    soft: Mapping[str, Tensor] | None, hard: Tensor | None, alpha: float, temperature: float | None, trust: str
) -> None:
    """Refuse what no loss can be made from.

    Raises:
        ConfigError: alpha or temperature out of range, another word for trust, or nothing to learn from.
    """
    if not 0.0 <= alpha <= 1.0 or (temperature is not None and not temperature > 0):
        raise ConfigError(f"alpha is in [0, 1] and the temperature above 0; given: {alpha} and {temperature}.")
    if trust not in {"teachers", "full"}:
        raise ConfigError(f"trust is teachers or full; given: {trust!r}.")
    if soft is None and hard is None:
        raise ConfigError("A distillation loss needs soft labels, hard labels or both; given: neither.")


def stored_temperature(soft: Mapping[str, Tensor]) -> float:
    """Return the one temperature of a batch; raise InputError where there are several."""
    low, high = soft["temperature"].aminmax()
    if low != high:
        raise InputError(f"A batch has soft labels of one temperature; given: {low:g} to {high:g}.")
    return float(low)


def refuse_cut_tail(what: str, stored: float, asked: float) -> None:
    """Raise InputError where soft labels with a cut-off tail would have to be brought to another temperature."""
    if abs(asked - stored) > 1e-6 * stored:
        raise InputError(
            f"The {what} are stored at temperature {stored:g} with a cut-off tail, which cannot be brought to "
            f"{asked:g}. Train at {stored:g}, or publish with `temperature: {asked:g}` or `soft_layout: full` in the "
            "policy."
        )


def tempered(p: Tensor, stored: float, asked: float) -> Tensor:
    """Return probabilities over dim 1 at another temperature than the stored one, summing to 1."""
    if asked != stored:
        p = p ** (stored / asked)
    return p / p.sum(dim=1, keepdim=True).clamp(min=TINY)


def divergence(p: Tensor, log_q: Tensor) -> Tensor:
    """Return Σ p log(p / q) over dim 1."""
    term: Tensor = (torch.special.xlogy(p, p) - p * log_q).sum(dim=1)
    return term


def believed(own: Tensor, highest: Tensor, stored: float) -> Tensor:
    """Return r = p(hard label) / max p at temperature 1, 0 to 1, of what is stored: p at T is p ** (1 / T)."""
    ratio: Tensor = (own / highest.clamp(min=TINY)).clamp(0.0, 1.0) ** stored
    return ratio


def hard_share(known: Tensor, has_hard: Tensor, ratio: Tensor, alpha: float, settled: Tensor | None) -> Tensor:
    """Return h = (1 - alpha) r where both labels are, r = 1 where a person settled it; else 1 with a hard label, or 0."""
    if settled is not None:
        ratio = torch.where(settled.to(ratio.device), 1.0, ratio)
    return torch.where(known & has_hard, (1.0 - alpha) * ratio, has_hard.float())


def weighted_mean(values: Tensor, counted: Tensor, weight: Tensor | None) -> Tensor:
    """Return the mean of what is counted; 0 where nothing is. The weight has the shape of the values or fits it."""
    weights = counted.float() * (1.0 if weight is None else weight.to(values.device).float())
    return (values * weights).sum() / weights.sum().clamp(min=TINY)
