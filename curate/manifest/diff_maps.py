"""How far class maps of two versions are apart, cell by cell, and what of the image each class has."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.manifest.diff_soft import Floats, Form, distances
from curate.manifest.soft_masks import dense_maps

_SHOWN = 4  # classes in a text
_GRID = ("n_rows", "n_columns")


def maps_apart(was: pa.Table, now: pa.Table, forms: tuple[Form, Form]) -> NDArray[np.float64]:
    """Return how far maps are apart, 0 to 1: the mean over the cells of their total variation distance.

    A cell that only one version says anything of counts 1; maps on different grids, or one that is missing, are 1
    apart.

    Args:
        was: sample_id, n_rows, n_columns and the columns of the layout.
        now: the same rows of the later version.
        forms: of both.
    """
    found = np.zeros(was.num_rows, dtype=np.float64)
    alike = forms[0].layout == forms[1].layout and forms[0].classes == forms[1].classes
    names = [*_GRID, *(field.name for field in forms[0].columns)]
    for row in range(was.num_rows):
        if alike and all(was[name][row] == now[name][row] for name in names):
            continue
        found[row] = _apart(_cells(was, row, forms[0]), _cells(now, row, forms[1]), forms)
    return found


def _apart(was: Floats | None, now: Floats | None, forms: tuple[Form, Form]) -> float:
    if was is None or now is None or was.shape[0] != now.shape[0]:
        return float((was is None) != (now is None) or was is not None)
    union = list(dict.fromkeys([*forms[0].classes, *forms[1].classes]))
    sides = []
    for cells, form in ((was, forms[0]), (now, forms[1])):
        wide = np.full((len(cells), len(union)), np.nan, dtype=np.float32)
        wide[:, [union.index(name) for name in form.classes]] = cells
        sides.append(wide)
    says = [np.nan_to_num(side).sum(axis=1) > 0 for side in sides]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of NaN, which stand for what is not named
        far = distances(sides[0], sides[1])
    return float(np.where(says[0] & says[1], far, says[0] != says[1]).mean()) if len(far) else 0.0


def _cells(rows: pa.Table, row: int, form: Form) -> Floats | None:
    """Return (cells, K) probabilities, NaN for a class that a cell does not name; None without a map."""
    values: dict[str, Any] = {name: rows[name][row].as_py() for name in _GRID}
    for field in form.columns:
        scalar = rows[field.name][row]
        values[field.name] = scalar.values.to_numpy(zero_copy_only=False) if scalar.is_valid else None
    found = dense_maps(values, form.layout)
    if found is None:
        return None
    cells = found[0].reshape(form.layout.n_classes, -1).T.astype(np.float32)
    if form.layout.name == "full":
        return cells
    named = np.zeros(cells.shape, dtype=np.bool_)
    top = np.asarray(values[form.columns[0].name], np.int64).reshape(form.layout.top_k, -1).T
    np.put_along_axis(named, top, values=True, axis=1)
    return np.where(named & (cells.sum(axis=1, keepdims=True) > 0), cells, np.nan).astype(np.float32)


def map_text(rows: pa.Table, row: int, form: Form) -> str | None:
    """Return the share of the image that each of the largest classes has, by its mass in the cells."""
    cells = _cells(rows, row, form)
    if cells is None:
        return None
    mass = np.nan_to_num(cells).sum(axis=0)
    total = float(mass.sum())
    order = np.argsort(-mass, kind="stable")[:_SHOWN]
    shown = [f"{form.classes[at]} {mass[at] / total:.1%}" for at in order if total and mass[at] / total >= 0.0005]
    return f"{', '.join(shown) or 'nothing known'} on {rows['n_rows'][row]} x {rows['n_columns'][row]} cells"
