"""Which of two splits must stay clean: names of splits and their order."""

from __future__ import annotations

import re
from collections.abc import Sequence

TEST_FIRST = ("test", "holdout", "eval", "evaluation", "val", "valid", "validation", "dev", "minival")


def split_ranks(splits: Sequence[str | None], order: Sequence[str] = TEST_FIRST) -> list[int]:
    """Return a rank for each split: 0 is the one that must stay cleanest, `len(order)` is for training.

    The leading letters count, in lower case: `val2017`, `Test_A`. Any split that `order` does not name is for
    training; None (no split) has rank -1: nothing can leak into it or out of it.
    """
    return [-1 if split is None else _rank(split, order) for split in splits]


def _rank(split: str, order: Sequence[str]) -> int:
    found = re.match(r"[a-z]+", split.lower())
    word = found.group() if found else ""
    return order.index(word) if word in order else len(order)
