"""The distillation loss of masks: at each pixel what `distillation_loss` is of a row."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn import functional

from curate.errors import InputError
from curate.feed.masks import IGNORE
from curate.feed.shares import (
    TINY,
    Trust,
    believed,
    check_options,
    divergence,
    hard_share,
    refuse_cut_tail,
    stored_temperature,
    tempered,
    weighted_mean,
)

Tensor = torch.Tensor
_LEAST_KNOWN = 0.5  # of the mass around a pixel that teachers have to vouch for


def mask_distillation_loss(
    logits: Tensor,
    soft: Mapping[str, Tensor] | None,
    hard: Tensor | None,
    weight: Tensor | None = None,
    temperature: float | None = None,
    alpha: float = 0.5,
    trust: Trust = "teachers",
    settled: Tensor | None = None,
) -> Tensor:
    """Return the weighted mean over pixels of (1 - h) T² KL(soft ‖ softmax(logits / T)) + h CE(hard, softmax(logits)).

    The share of the label is h = (1 - alpha) r, r = p(label) / max p of the teachers there at temperature 1: boundaries
    that they see elsewhere and regions that they deny count less (docs/decisions/022-student-policy.md). Logits and
    class maps are brought to the size of the mask, bilinear. A pixel without a label learns from the class map alone,
    one without a class map from its label; one with neither counts nothing. Of top-k maps the divergence is over the
    classes that are stored there and "any other".

    Args:
        logits: (n, K, h, w), any float type; computed in float32.
        soft: of a batch: `probs` (n, K, rows, columns), `known` and `temperature` (n,), and `tail` of top-k maps.
        hard: (n, H, W) int64 classes, `IGNORE` (-100) where there is none; None for class maps only.
        weight: (n, H, W) or (n,), at least 0; None = 1.
        temperature: T; None = the stored one. Another is only possible where all classes are stored.
        alpha: the least share of the first term, 0 to 1.
        trust: "teachers", or "full": r = 1.
        settled: (n, H, W) bool, where a person decided the label: r = 1; None = nobody did.

    Raises:
        ConfigError: alpha or temperature out of range, another word for trust, or nothing to learn from.
        InputError: another temperature than the stored one with a cut-off tail; shapes that do not fit.
    """
    check_options(soft, hard, alpha, temperature, trust)
    logits = _at_size(logits, soft, hard)
    nowhere = torch.zeros_like(logits[:, 0], dtype=torch.bool)
    has_hard = nowhere if hard is None else hard != IGNORE
    known, per_pixel = nowhere, torch.zeros_like(logits[:, 0])
    share = has_hard.float()
    if soft is not None:
        p, tail, known = _maps_at(soft, logits.shape[-2:], logits.device)
        stored = stored_temperature(soft)
        own = stored if temperature is None else float(temperature)
        if hard is not None:
            at = p.gather(1, hard.clamp(min=0)[:, None])[:, 0]
            ratio = believed(at, p.amax(dim=1), stored) if trust == "teachers" else torch.ones_like(at)
            share = hard_share(known, has_hard, ratio, alpha, settled)
        term = own**2 * _divergence(logits, p, tail, stored, own)
        per_pixel = torch.where(known, (1.0 - share) * term, 0.0)
    if hard is not None:
        plain = functional.cross_entropy(logits, hard.clamp(min=0), reduction="none")
        per_pixel = per_pixel + torch.where(has_hard, share * plain, 0.0)
    if weight is not None and weight.ndim == 1:
        weight = weight[:, None, None]
    return weighted_mean(per_pixel, known | has_hard, weight)


def _at_size(logits: Tensor, soft: Mapping[str, Tensor] | None, hard: Tensor | None) -> Tensor:
    logits = logits.float()
    if logits.ndim != 4:
        raise InputError(f"Logits of masks are (n, K, h, w); given: {tuple(logits.shape)}.")
    if soft is not None and soft["probs"].shape[:2] != logits.shape[:2]:
        raise InputError(
            f"Logits and class maps need one number of images and classes; given: {tuple(logits.shape)} and "
            f"{tuple(soft['probs'].shape)}."
        )
    if hard is None or logits.shape[-2:] == hard.shape[-2:]:
        return logits
    return functional.interpolate(logits, size=hard.shape[-2:], mode="bilinear", align_corners=False)


def _maps_at(
    soft: Mapping[str, Tensor], size: torch.Size, device: torch.device
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return (n, K, h, w) probabilities and (n, h, w) tails that sum to 1 together, and where they are known."""
    p = functional.interpolate(soft["probs"].to(device).float(), size=size, mode="bilinear", align_corners=False)
    tail = None
    mass = p.sum(dim=1)
    if "tail" in soft:
        coarse = soft["tail"].to(device).float()[:, None]
        tail = functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)[:, 0]
        mass = mass + tail
    known = soft["known"].to(device)[:, None, None] & (mass > _LEAST_KNOWN)
    scale = mass.clamp(min=TINY)
    return p / scale[:, None], None if tail is None else tail / scale, known


def _divergence(logits: Tensor, p: Tensor, tail: Tensor | None, stored: float, own: float) -> Tensor:
    log_q = functional.log_softmax(logits / own, dim=1)
    if tail is None:
        return divergence(tempered(p, stored, own), log_q)
    refuse_cut_tail("class maps", stored, own)
    others = log_q.masked_fill(p > 0, -torch.inf).logsumexp(dim=1)
    others = torch.where((p > 0).all(dim=1), 0.0, others)  # bilinear: all classes are stored around here
    term: Tensor = divergence(p, log_q) + torch.special.xlogy(tail, tail) - tail * others
    return term
