"""Newton's method within bounds, for convex losses of a few parameters whose second derivatives come cheap.

A step is taken with the parameters that a bound holds left out, and is shortened until the loss falls (projected
Newton, Bertsekas 1982).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from curate.teachers.noise import Floats

Derivatives = tuple[float, Floats, Floats]
Loss = Callable[[Floats], Derivatives]  # value, (T,) gradient, (T, T) second derivatives

FLAT = 1e-5  # of the gradient, as SciPy's L-BFGS-B has it
_STEPS = 100
_SHORTENINGS = 25
_ENOUGH = 1e-9  # that a step would still gain, likewise
_LEAST_CURVATURE = 1e-9
_DESCENT = 1e-4  # of what the gradient promises


def minimize_within(loss: Loss, start: Floats, high: float) -> tuple[Floats, float]:
    """Return (T,) parameters between 0 and `high` where the loss is least, and the loss there.

    Args:
        loss: its value, gradient and second derivatives; these may be those of a sample.
        start: (T,).
        high: the upper bound of all parameters.
    """
    point = np.clip(start, 0.0, high)
    here = loss(point)
    for _ in range(_STEPS):
        value, gradient, curvature = here
        if is_flat(point, gradient, high):
            break
        step = _newton_step(point, gradient, curvature, high)
        gain = 0.5 * float(gradient @ step)
        if gain <= _ENOUGH:
            return np.clip(point - step, 0.0, high), value - gain
        found = _descend(loss, point, step, here, high)
        if found is None:
            break
        point, here = found
    return point, here[0]


def is_flat(point: Floats, gradient: Floats, high: float) -> bool:
    """Whether the gradient, but for what pushes against a bound, is next to nothing."""
    return bool(np.abs(point - np.clip(point - gradient, 0.0, high)).max() <= FLAT)


def _newton_step(point: Floats, gradient: Floats, curvature: Floats, high: float) -> Floats:
    held = ((point <= 0.0) & (gradient > 0)) | ((point >= high) & (gradient < 0))
    free = np.flatnonzero(~held)
    sizes, axes = np.linalg.eigh(curvature[np.ix_(free, free)])
    step = np.zeros(len(point))
    step[free] = axes @ ((axes.T @ gradient[free]) / np.maximum(sizes, _LEAST_CURVATURE))
    return step


def _descend(
    loss: Loss, point: Floats, step: Floats, here: Derivatives, high: float
) -> tuple[Floats, Derivatives] | None:
    """Return a point along the step where the loss is lower, and its derivatives; None where there is none."""
    for halvings in range(_SHORTENINGS):
        there = np.clip(point - step / 2.0**halvings, 0.0, high)
        found = loss(there)
        if found[0] <= here[0] - _DESCENT * float(here[1] @ (point - there)):
            return there, found
    return None
