"""How far soft labels of two versions are apart: classes by name, whatever each version stores of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.manifest.diff_compare import Mask, flat
from curate.manifest.soft_layout import Layout

OBJECTNESS = "objectness"
LEAST = 0.05  # smaller ones are counted, not told: who fits teachers again gets other last digits everywhere
_SHOWN = 3  # classes in a text
_CHUNK = 4_096  # rows of (rows, classes) float32 at once

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Form:
    """How a version stores soft labels.

    Attributes:
        layout: of the ensemble's columns.
        classes: K names, in the order of the probabilities.
        each_alone: whether each class stands alone, so that they sum to nothing.
        settings: what of them the policy decides: layout, temperature and the like.
        teachers: name -> digest and preprocessing.
        weights: what was fitted to put them together: the weight of each, the sharpness of all.
    """

    layout: Layout
    classes: tuple[str, ...]
    each_alone: bool
    settings: Mapping[str, Any]
    teachers: Mapping[str, Any]
    weights: Mapping[str, Any]

    @classmethod
    def of(cls, manifest: Mapping[str, Any], key: str) -> Form | None:
        """Return the form of `soft` or `soft_masks`; None where the version has none."""
        told = manifest.get(key)
        if told is None:
            return None
        classes = tuple(manifest["classes"])
        layout = Layout(told["layout"], len(classes), told.get("top_k") or 0, told.get("n_draws") or 0)
        names = ("layout", "top_k", "n_draws", "temperature", "longest_cells", "boxes_from")
        settings = {name: told.get(name) for name in names}
        alone = "alone" in told["kind"]
        weights = {"weights": told.get("weights"), "sharpness": told.get("sharpness")}
        return cls(layout, classes, alone, settings, told.get("teachers", {}), weights)

    @property
    def columns(self) -> list[pa.Field]:
        """The ensemble's columns."""
        return self.layout.fields()

    def causes(self, later: Form) -> list[str]:
        """Return why every soft label may differ from this form to a later one, as codes; at least one."""
        found = {
            "classes_changed": self.classes != later.classes,
            "soft_settings_changed": self.settings != later.settings,
            "teachers_changed": self.teachers != later.teachers,
            "teacher_weights_changed": self.weights != later.weights,
        }
        return [code for code, holds in found.items() if holds] or ["answers_changed"]


def stored_differs(was: pa.Table, now: pa.Table, names: Sequence[str]) -> Mask:
    """Return where columns differ bit by bit; rows where both are null are alike."""
    differs = np.zeros(was.num_rows, dtype=np.bool_)
    for name in names:
        if (name in was.column_names) != (name in now.column_names):
            differs[:] = True
        elif name in was.column_names:
            differs |= _bits_differ(flat(was[name]), flat(now[name]))
    return differs


def _bits_differ(was: pa.Array, now: pa.Array) -> Mask:
    if was.type != now.type:
        return np.ones(len(was), dtype=np.bool_)
    has, had = (pc.is_valid(side).to_numpy(zero_copy_only=False) for side in (was, now))
    before, after = (_values(side) for side in (was, now))
    unsigned = f"u{before.dtype.itemsize}"
    differs = (before.view(unsigned) != after.view(unsigned)).any(axis=1)
    found: Mask = np.where(has & had, differs, has != had)
    return found


def _values(column: pa.Array) -> NDArray[Any]:
    """Return (n, width) values of a column of numbers or of lists of one length; 0 where a row has none."""
    width = 1
    if pa.types.is_fixed_size_list(column.type):
        width = column.type.list_size
        column = column.values.slice(column.offset * width, len(column) * width)
    if column.null_count:
        column = pc.fill_null(column, pa.scalar(np.float16(0) if column.type == pa.float16() else 0, column.type))
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False).reshape(-1, width)
    return values


def dense(rows: pa.Table, form: Form, union: Sequence[str]) -> tuple[Floats, Mask]:
    """Return (n, len(union)) probabilities, NaN for a class that the row does not name, and which rows have any."""
    place = {name: at for at, name in enumerate(union)}
    own = np.asarray([place[name] for name in form.classes], dtype=np.int64)
    probs = np.full((rows.num_rows, len(union)), np.nan, dtype=np.float32)
    columns = [_values(flat(rows[field.name])) for field in form.columns[:2]]
    known = pc.is_valid(flat(rows[form.columns[0].name])).to_numpy(zero_copy_only=False)
    if form.layout.name == "full":
        probs[:, own] = columns[0]
    else:
        np.put_along_axis(probs, own[columns[0].astype(np.int64)], columns[1].astype(np.float32), axis=1)
    return probs, known


def distances(was: Floats, now: Floats, *, each_alone: bool = False) -> Floats:
    """Return how far distributions are apart, 0 to 1.

    The total variation distance (half the sum of what each class differs by) of the classes that both name and all
    others as one: of cut off ones a lower bound of the true distance. Where each class stands alone: the largest
    difference of one.

    Args:
        was: (n, K), NaN for a class that is not named.
        now: the same.
        each_alone: whether each class stands alone.
    """
    both = ~np.isnan(was) & ~np.isnan(now)
    apart = np.abs(np.where(both, was - now, 0.0))
    if each_alone:
        one_sided = (np.isnan(was) != np.isnan(now)).any(axis=1)
        return np.where(one_sided, 1.0, apart.max(axis=1, initial=0.0)).astype(np.float32)
    rests = [np.clip(1.0 - np.where(both, side, 0.0).sum(axis=1), 0.0, 1.0) for side in (was, now)]
    # what is left over by rounding alone is no class
    rest = np.where(both.all(axis=1), 0.0, np.abs(rests[0] - rests[1]))
    found: Floats = np.minimum(1.0, 0.5 * (apart.sum(axis=1) + rest)).astype(np.float32)
    return found


def apart(was: pa.Table, now: pa.Table, forms: tuple[Form, Form], union: Sequence[str]) -> Floats:
    """Return how far rows are apart, 0 to 1: in their classes or in their objectness, whichever is further.

    Args:
        was: columns of `Form.columns`, and `objectness` where detectors judged.
        now: the same of the later version.
        forms: of both.
        union: classes of both.
    """
    found = np.zeros(was.num_rows, dtype=np.float32)
    alone = forms[0].each_alone or forms[1].each_alone
    for start in range(0, was.num_rows, _CHUNK):
        (p, has_p), (q, has_q) = (
            dense(side.slice(start, _CHUNK), form, union) for side, form in zip((was, now), forms, strict=True)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of NaN, which stand for what is not named
            far = distances(p, q, each_alone=alone)
        found[start : start + _CHUNK] = np.where(has_p & has_q, far, has_p != has_q)
    if OBJECTNESS in was.column_names or OBJECTNESS in now.column_names:
        found = np.maximum(found, _objectness_apart(was, now))
    return found


def _objectness_apart(was: pa.Table, now: pa.Table) -> Floats:
    sides = []
    for side in (was, now):
        column = side[OBJECTNESS] if OBJECTNESS in side.column_names else pa.nulls(side.num_rows, pa.float16())
        filled = pc.fill_null(flat(column), np.float16("nan"))
        sides.append(filled.to_numpy(zero_copy_only=False).astype(np.float32))
    one_sided = np.isnan(sides[0]) != np.isnan(sides[1])
    return np.where(one_sided, 1.0, np.nan_to_num(np.abs(sides[0] - sides[1]))).astype(np.float32)


def texts(rows: pa.Table, form: Form) -> list[str | None]:
    """Return the likeliest classes of each row with their probability, after the objectness where there is one."""
    found: list[str | None] = []
    for start in range(0, rows.num_rows, _CHUNK):
        part = rows.slice(start, _CHUNK)
        probs, known = dense(part, form, form.classes)
        order = np.argsort(-np.nan_to_num(probs, nan=-1.0), axis=1, kind="stable")[:, :_SHOWN]
        chances = part[OBJECTNESS].to_pylist() if OBJECTNESS in part.column_names else [None] * part.num_rows
        for row, (has, chance) in enumerate(zip(known.tolist(), chances, strict=True)):
            named = [(form.classes[at], float(probs[row, at])) for at in order[row]] if has else []
            shown = ", ".join(f"{name} {prob:.2f}" for name, prob in named if prob >= 0.005)
            there = None if chance is None else f"objectness {float(chance):.2f}"
            found.append(": ".join(filter(None, (there, shown))) or None)
    return found
