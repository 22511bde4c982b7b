"""The distillation loss on stored soft labels: Kullback-Leibler to what is stored, cross-entropy to the hard label.

Source: Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network": alpha T² KL(p ‖ q) + (1 - alpha) CE,
where the second share is smaller the less the teachers believe the hard label (docs/decisions/022-student-policy.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional

from curate.errors import ConfigError, InputError
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
NO_LABEL = -1


def targets(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `distillation_loss`, `multi_label_loss` or `mask_distillation_loss` takes from a batch."""
    if "mask" in batch:
        return {
            "soft": batch.get("soft"),
            "hard": batch["mask"],
            **{key: batch[key] for key in ("weight", "settled")},
        }
    if "label" not in batch:
        raise ConfigError(
            "targets() needs a batch of images with one label or several; this one has boxes. Their labels, weights and "
            "soft labels are batch['labels'], batch['weights'] and batch['soft'], places where nothing is to be learnt "
            "batch['ignore'], a list with an entry for each image."
        )
    told = {"soft": batch.get("soft"), "hard": batch["label"], "weight": batch["weight"]}
    return {**told, "settled": batch["settled"]} if "settled" in batch else told


def distillation_loss(
    logits: Tensor,
    soft: Mapping[str, Tensor] | None,
    hard: Tensor | None,
    weight: Tensor | None = None,
    temperature: float | None = None,
    alpha: float = 0.5,
    trust: Trust = "teachers",
    settled: Tensor | None = None,
) -> Tensor:
    """Return the weighted mean of (1 - h) T² KL(soft ‖ softmax(logits / T)) + h CE(hard, softmax(logits)).

    The share of the hard label is h = (1 - alpha) r, where r = p(hard label) / max p of the teachers at temperature
    1: all of it where it is their own first choice, next to none where they think little of it. With trust "full",
    and where a person settled the label, r = 1: the textbook's alpha for every row.

    How the first term is made follows from what is stored (`manifest.soft_layout`), p being the stored probabilities
    and q those of the student, both at T:

    - full: Σ p log(p / q) over all classes.
    - top-k: the same over k + 1 outcomes, the k classes and "any other": the student is told how much probability the
      rest has, not where. It is at most the full KL (data processing), and zero
      where the student agrees on all that is known.
    - sampled: -Σ_top p log q - (tail_mass / m) Σ_j log q(c_j), plus Σ_top p log p: a gradient whose expectation is
      that of the full KL; the value lacks the entropy of the tail, which no student changes.

    A row without a soft label has the second term only, one without a hard label (-1) the first only, at full share;
    one without both counts nothing. Of a label in a cut-off tail, r is that of an average class there.

    Args:
        logits: (n, K), any float type; computed in float32.
        soft: of a batch: `probs`, or `top_classes`, `top_probs`, `tail_mass` (and `tail_classes`), with `known` and
            `temperature` per row; None for hard labels only.
        hard: (n,) int64, -1 where there is none; None for soft labels only.
        weight: (n,) of the rows, at least 0; None = 1.
        temperature: T; None = the stored one. Another is only possible where all classes are stored.
        alpha: the least share of the first term, 0 to 1.
        trust: "teachers" or "full", see above.
        settled: (n,) bool, whether a person decided the hard label; None = nobody did.

    Raises:
        ConfigError: alpha or temperature out of range, another word for trust, or nothing to learn from.
        InputError: another temperature than the stored one with a cut-off tail; shapes that do not fit.
    """
    check_options(soft, hard, alpha, temperature, trust)
    logits = logits.float()
    nowhere = logits.new_zeros(logits.shape[0], dtype=torch.bool)
    known = soft["known"].to(logits.device) if soft is not None else nowhere
    has_hard = hard != NO_LABEL if hard is not None else nowhere
    ratio = torch.ones_like(logits[:, 0])
    if soft is not None and hard is not None and trust == "teachers":
        ratio = _believed(soft, hard.clamp(min=0), logits.shape[1])
    share = hard_share(known, has_hard, ratio, alpha, settled)
    per_row = torch.zeros_like(ratio)
    if soft is not None:
        scaled, own = _soft_term(logits, soft, temperature)
        per_row = torch.where(known, (1.0 - share) * own**2 * scaled, 0.0)
    if hard is not None:
        plain = functional.cross_entropy(logits, hard.clamp(min=0), reduction="none")
        per_row = per_row + torch.where(has_hard, share * plain, 0.0)
    return weighted_mean(per_row, known | has_hard, weight)


def multi_label_loss(
    logits: Tensor,
    soft: Mapping[str, Tensor] | None,
    hard: Tensor | None,
    weight: Tensor | None = None,
    alpha: float = 0.5,
) -> Tensor:
    """Return the weighted mean over images of the binary cross-entropy, averaged over the classes that are known.

    The target of a class is alpha times its soft label and (1 - alpha) times its hard one; whichever is alone counts
    whole, and a class without either counts nothing.

    Args:
        logits: (n, K), any float type; computed in float32.
        soft: of a batch: `probs` (n, K) of each class alone, NaN unknown, and `known` (n,); None for hard labels only.
        hard: (n, K), 1 there, 0 not there, NaN not decided; None for soft labels only.
        weight: (n,) of the images, at least 0; None = 1.
        alpha: share of the soft label, 0 to 1.

    Raises:
        ConfigError: alpha out of range, or nothing to learn from.
        InputError: shapes that do not fit.
    """
    if not 0.0 <= alpha <= 1.0:
        raise ConfigError(f"alpha is in [0, 1]; given: {alpha}.")
    if soft is None and hard is None:
        raise ConfigError("A loss needs soft labels, hard labels or both; given: neither.")
    logits = logits.float()
    nothing = torch.full_like(logits, torch.nan)
    h = nothing if hard is None else hard.to(logits.device).float()
    p = nothing
    if soft is not None:
        p = torch.where(soft["known"].to(logits.device)[:, None], soft["probs"].to(logits.device).float(), nothing)
    if h.shape != logits.shape or p.shape != logits.shape:
        raise InputError(
            f"Logits and labels must have one shape; given: {tuple(logits.shape)}, {tuple(h.shape)}, {tuple(p.shape)}."
        )
    has_hard, has_soft = ~h.isnan(), ~p.isnan()
    share = torch.where(has_soft & has_hard, alpha, has_soft.float())
    target = share * p.nan_to_num() + (1.0 - share) * h.nan_to_num()
    counted = (has_hard | has_soft).float()
    cells = functional.binary_cross_entropy_with_logits(logits, target, reduction="none") * counted
    per_row = cells.sum(dim=1) / counted.sum(dim=1).clamp(min=1.0)
    return weighted_mean(per_row, counted.any(dim=1), weight)


def _soft_term(logits: Tensor, soft: Mapping[str, Tensor], temperature: float | None) -> tuple[Tensor, float]:
    """Return (n,) KL at T, and T."""
    stored = stored_temperature(soft)
    own = stored if temperature is None else float(temperature)
    log_q = functional.log_softmax(logits / own, dim=1)
    if "probs" in soft:
        return _full(log_q, soft["probs"].float(), stored, own), own
    refuse_cut_tail("soft labels", stored, own)
    return (_sampled if "tail_classes" in soft else _bucketed)(log_q, soft), own


def _believed(soft: Mapping[str, Tensor], hard: Tensor, n_classes: int) -> Tensor:
    """Return (n,) `believed`; the label may stand in a cut-off tail."""
    if "probs" in soft:
        probs = soft["probs"].float()
        own = probs.gather(1, hard[:, None])[:, 0]
    else:
        probs = soft["top_probs"].float()
        hit = soft["top_classes"].long() == hard[:, None]
        rest = soft["tail_mass"].float() / max(1, n_classes - probs.shape[1])
        own = torch.where(hit.any(dim=1), (probs * hit).sum(dim=1), rest)
    return believed(own, probs.amax(dim=1), stored_temperature(soft))


def _full(log_q: Tensor, p: Tensor, stored: float, own: float) -> Tensor:
    if p.shape != log_q.shape:
        raise InputError(
            f"Logits and soft labels must have one shape; given: {tuple(log_q.shape)}, {tuple(p.shape)}."
        )
    return divergence(tempered(p, stored, own), log_q)


def _head(log_q: Tensor, soft: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Return (n, k) classes, (n, k) probabilities and (n,) tail mass; the last two normalised, float16 rounds."""
    classes, p, tail = soft["top_classes"].long(), soft["top_probs"].float(), soft["tail_mass"].float()
    if classes.shape[0] != log_q.shape[0] or classes.shape[1] >= log_q.shape[1]:
        raise InputError(
            f"Top {classes.shape[1]} of {tuple(log_q.shape)} logits: the soft labels are of other classes."
        )
    total = (p.sum(dim=1) + tail).clamp(min=TINY)
    return classes, p / total[:, None], tail / total


def _bucketed(log_q: Tensor, soft: Mapping[str, Tensor]) -> Tensor:
    classes, p, tail = _head(log_q, soft)
    head = divergence(p, log_q.gather(1, classes))
    others = torch.ones_like(log_q, dtype=torch.bool).scatter(1, classes, value=False)
    log_tail = log_q.masked_fill(~others, -torch.inf).logsumexp(dim=1)  # not log(1 - Σ q): that loses small tails
    term: Tensor = head + torch.special.xlogy(tail, tail) - tail * log_tail
    return term


def _sampled(log_q: Tensor, soft: Mapping[str, Tensor]) -> Tensor:
    classes, p, tail = _head(log_q, soft)
    head = divergence(p, log_q.gather(1, classes))
    term: Tensor = head - tail * log_q.gather(1, soft["tail_classes"].long()).mean(dim=1)
    return term
