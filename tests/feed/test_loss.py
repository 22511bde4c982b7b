from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import ConfigError, InputError
from curate.feed.loss import distillation_loss
from curate.manifest.soft_layout import Layout, encode, sampling_offsets

Tensor = torch.Tensor


def stored(
    probs: Any,  # noqa: ANN401 - array-like
    name: str,
    *,
    top_k: int = 3,
    m: int = 4,
    temperature: float = 1.0,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Return soft labels as a batch holds them, through the encoding that versions are written with."""
    values = np.asarray(probs, dtype=np.float32)
    n, k = values.shape
    layout = Layout(name, k, top_k, m)  # type: ignore[arg-type]
    columns = encode(values, np.zeros(n, bool), layout, sampling_offsets([f"r{i}" for i in range(n)], seed))
    arrays = {
        field.name: torch.tensor(np.asarray(column.to_pylist(), dtype=np.float32))
        for field, column in zip(layout.fields(), columns, strict=True)
    }
    arrays = {name: array.long() if "classes" in name else array.half() for name, array in arrays.items()}
    return {**arrays, "known": torch.ones(n, dtype=torch.bool), "temperature": torch.full((n,), temperature)}


def dirichlet(n: int, k: int, seed: int = 0) -> Any:  # noqa: ANN401 - an array
    return np.random.default_rng(seed).dirichlet(np.full(k, 0.5), n)


def test_all_classes_stored_it_is_the_textbook_loss() -> None:
    probs, logits = (
        torch.tensor(dirichlet(6, 5)).float(),
        torch.randn(6, 5, generator=torch.Generator().manual_seed(0)),
    )
    hard = torch.tensor([0, 1, 2, 3, 4, 0])
    weight = torch.tensor([1.0, 0.5, 0.0, 2.0, 1.0, 1.0])
    got = distillation_loss(
        logits, stored(probs, "full", temperature=2.0), hard, weight, 2.0, alpha=0.3, trust="full"
    )
    p = probs.half().float()
    kl = torch.nn.functional.kl_div(
        torch.log_softmax(logits / 2, 1), p / p.sum(1, keepdim=True), reduction="none"
    ).sum(1)
    ce = torch.nn.functional.cross_entropy(logits, hard, reduction="none")
    expected = ((0.3 * 4 * kl + 0.7 * ce) * weight).sum() / weight.sum()
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("name", ["full", "top_k", "sampled"])
def test_a_hard_label_counts_as_far_as_the_teachers_believe_it(name: str, temperature: float) -> None:
    p = np.array([[0.6, 0.3, 0.1, 0.0, 0.0]])
    tempered = p ** (1 / temperature) / (p ** (1 / temperature)).sum()
    soft = stored(tempered, name, temperature=temperature)
    logits = torch.randn(1, 5, generator=torch.Generator().manual_seed(7))

    def loss(hard: int, **keys: Any) -> float:  # noqa: ANN401 - of the loss
        return distillation_loss(logits, soft, torch.tensor([hard]), **keys).item()

    for label, believed in ((0, 1.0), (1, 0.5), (2, 1 / 6), (4, 0.0)):
        textbook = loss(label, alpha=1 - 0.8 * believed, trust="full")
        assert loss(label, alpha=0.2) == pytest.approx(textbook, rel=5e-3)
    assert loss(4, alpha=0.2, settled=torch.tensor([True])) == loss(4, alpha=0.2, trust="full")
    assert loss(1, alpha=1.0) == loss(4, alpha=1.0)


def test_a_label_in_a_cut_off_tail_counts_as_an_average_one_there() -> None:
    soft = stored([[0.5, 0.2, 0.15, 0.1, 0.05]], "top_k")
    logits = torch.randn(1, 5, generator=torch.Generator().manual_seed(8))
    for label in (3, 4):
        hard = torch.tensor([label])
        expected = distillation_loss(logits, soft, hard, alpha=1 - 0.075 / 0.5, trust="full")
        assert distillation_loss(logits, soft, hard, alpha=0.0).item() == pytest.approx(expected.item(), rel=5e-3)


def test_full_soft_labels_can_be_brought_to_another_temperature() -> None:
    scores = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    logits = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
    at_one = distillation_loss(logits, stored(torch.softmax(scores, 1), "full"), None, temperature=3.0)
    at_three = distillation_loss(logits, stored(torch.softmax(scores / 3, 1), "full", temperature=3.0), None)
    assert at_one.item() == pytest.approx(at_three.item(), rel=1e-2)


@pytest.mark.parametrize("name", ["top_k", "sampled"])
def test_a_cut_off_tail_cannot(name: str) -> None:
    soft = stored(dirichlet(2, 9), name, temperature=2.0)
    distillation_loss(torch.zeros(2, 9), soft, None, temperature=2.0)
    with pytest.raises(
        InputError, match="stored at temperature 2 with a cut-off tail, which cannot be brought to 1"
    ):
        distillation_loss(torch.zeros(2, 9), soft, None, temperature=1.0)


@settings(max_examples=40, deadline=None)
@given(k=st.integers(5, 30), seed=st.integers(0, 50), scale=st.floats(0, 30))
def test_top_k_is_the_divergence_of_k_and_one_outcomes(k: int, seed: int, scale: float) -> None:
    probs = dirichlet(3, k, seed)
    logits = torch.tensor(np.random.default_rng(seed).normal(0, scale, (3, k)), requires_grad=True)
    got = distillation_loss(logits, stored(probs, "top_k"), None)
    whole = distillation_loss(logits, stored(probs, "full"), None)
    # which three are stored is decided after rounding, ties go to the lower class
    at = np.argsort(-probs.astype(np.float32).astype(np.float16), axis=1, kind="stable")
    p = np.take_along_axis(probs, at, 1)
    q = torch.softmax(logits.detach(), 1).numpy()
    q_top = np.take_along_axis(q, at[:, :3], 1)
    p_all = np.concatenate([p[:, :3], p[:, 3:].sum(1, keepdims=True)], 1)
    q_rest = np.take_along_axis(q, at[:, 3:], 1).sum(1, keepdims=True)
    q_all = np.maximum(np.concatenate([q_top, q_rest], 1), 1e-45)
    if scale < 5:
        expected = float((p_all * np.log(p_all / q_all)).sum(1).mean())
        assert got.item() == pytest.approx(expected, rel=2e-2, abs=2e-3)
    assert got.item() <= whole.item() + 2e-3 * (1 + scale)
    assert got.item() >= -1e-5
    got.backward()
    assert torch.isfinite(logits.grad).all()  # type: ignore[arg-type]


def test_a_student_that_agrees_on_all_that_is_known_is_left_in_peace() -> None:
    probs = dirichlet(3, 9)
    logits = torch.tensor(np.log(probs)).float().requires_grad_()
    distillation_loss(logits, stored(probs, "top_k"), None).backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-3


def test_the_gradient_of_sampled_ones_is_that_of_full_ones_on_average() -> None:
    one = dirichlet(1, 12, 5)
    n = 4000
    probs = np.repeat(one, n, 0)
    start = torch.randn(1, 12, generator=torch.Generator().manual_seed(3))

    def gradient(name: str) -> Any:  # noqa: ANN401 - an array
        logits = start.repeat(n, 1).requires_grad_()
        (distillation_loss(logits, stored(probs, name, m=3), None) * n).backward()
        assert logits.grad is not None
        return logits.grad.numpy()

    drawn, whole = gradient("sampled"), gradient("full")
    spread = drawn.std(0) / math.sqrt(n)
    assert (np.abs(drawn.mean(0) - whole[0]) < 5 * spread + 2e-3).all()
    assert np.abs(gradient("top_k")[0] - whole[0]).max() > 0.02  # what top-k of three leaves out here


def test_rows_without_one_kind_of_label_learn_from_the_other() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(4))
    soft = stored(dirichlet(4, 3), "full")
    soft["known"] = torch.tensor([True, True, False, False])
    hard = torch.tensor([1, -1, 2, -1])
    both, only_soft, only_hard = (
        distillation_loss(logits[at : at + 1], {k: v[at : at + 1] for k, v in soft.items()}, hard[at : at + 1])
        for at in (0, 1, 2)
    )
    assert only_soft.item() == pytest.approx(
        distillation_loss(logits[1:2], {k: v[1:2] for k, v in soft.items()}, None).item()
    )
    assert only_hard.item() == pytest.approx(distillation_loss(logits[2:3], None, hard[2:3]).item())
    whole = distillation_loss(logits, soft, hard)
    assert whole.item() == pytest.approx(((both + only_soft + only_hard) / 3).item())  # the last row counts nothing
    none = {key: value[3:] for key, value in soft.items()}
    assert distillation_loss(logits[3:], none, hard[3:]).item() == 0.0


def test_what_does_not_fit_says_so() -> None:
    soft = stored(dirichlet(2, 9), "top_k")
    with pytest.raises(ConfigError, match="neither"):
        distillation_loss(torch.zeros(2, 3), None, None)
    with pytest.raises(ConfigError, match="given: 2 and None"):
        distillation_loss(torch.zeros(2, 9), soft, None, alpha=2)
    with pytest.raises(ConfigError, match="teachers or full; given: 'me'"):
        distillation_loss(torch.zeros(2, 9), soft, None, trust="me")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="temperature above 0"):
        distillation_loss(torch.zeros(2, 9), soft, None, temperature=0)
    with pytest.raises(InputError, match="Top 3 of"):
        distillation_loss(torch.zeros(2, 3), soft, None)
    with pytest.raises(InputError, match="one shape"):
        distillation_loss(torch.zeros(2, 9), stored(dirichlet(2, 8), "full"), None)
    soft["temperature"][1] = 2
    with pytest.raises(InputError, match="given: 1 to 2"):
        distillation_loss(torch.zeros(2, 9), soft, None)
