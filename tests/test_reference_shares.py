"""A reference population in a spec: its shares are those of a whole."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from curate.spec import AttributeSpec


def _declare(**shares: float) -> AttributeSpec:
    return AttributeSpec(column="race", obtained="perceived", reference=shares, reference_name="census 2020")


@pytest.mark.parametrize("shares", [{}, {"a": 0.5, "b": 0.3}, {"a": 60.0, "b": 40.0}, {"a": 1.2, "b": -0.2}])
def test_shares_that_are_of_no_whole_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="sum to 1"):
        _declare(**shares)


def test_not_a_number_is_refused_and_rounding_is_let_through() -> None:
    with pytest.raises(ValidationError, match="sum to 1"):
        _declare(a=float("nan"), b=1.0)
    assert _declare(a=0.33, b=0.33, c=0.33).reference == {"a": 0.33, "b": 0.33, "c": 0.33}
