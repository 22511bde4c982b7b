"""Products of matrices in one thread, so that no bit of a result hangs on how many CPUs there are."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

Given = ParamSpec("Given")
Told = TypeVar("Told")


def in_one_thread(function: Callable[Given, Told]) -> Callable[Given, Told]:
    """Return the function with BLAS and OpenMP at one thread while it runs.

    Two threads add up in another order than one, and a chance beside its cut becomes a flag or none. On a busy machine
    they mostly wait for each other besides.
    """

    @functools.wraps(function)
    def limited(*args: Given.args, **kwargs: Given.kwargs) -> Told:
        with threadpool_limits(limits=1):
            return function(*args, **kwargs)

    return limited
