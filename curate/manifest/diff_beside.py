"""What changed beside the rows of `data/`: their soft labels, class maps, boxes that only detectors see, `ignore/`."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.errors import VerificationError
from curate.manifest.diff_compare import flat
from curate.manifest.diff_maps import map_text, maps_apart
from curate.manifest.diff_match import keys_of
from curate.manifest.diff_partners import matched, places
from curate.manifest.diff_side import Side, rows_at
from curate.manifest.diff_soft import OBJECTNESS, Form, apart, stored_differs, texts
from curate.manifest.diff_windows import Piece, Walk, compared
from curate.manifest.row_groups import RowGroup
from curate.manifest.soft import MADE_FOR

_TOLD = ("sample_id", "label_id", "uri", "action", "reasons", "reason_codes")
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Beside:
    """Rows of a table that are further apart than what is told, side by side.

    Attributes:
        before: `_TOLD` of the earlier version.
        after: of the later one.
        texts: before and after, in words.
        causes: codes, a list a row.
        n_compared: rows that both versions have.
        n_differ: those of them that differ at all.
    """

    before: pa.Table
    after: pa.Table
    texts: tuple[pa.Array, pa.Array]
    causes: pa.Array
    n_compared: int
    n_differ: int


@dataclass(frozen=True, slots=True)
class _Apart:
    old: Places
    new: Places
    texts: tuple[list[str | None], list[str | None]]
    other_image: list[bool]
    ids: list[str]
    n_compared: int
    n_differ: int


def soft_changes(old: Side, new: Side, pool: Executor, least: float) -> Beside | None:
    """Return the released rows whose soft label moved by `least` or more; None where a version stores none.

    Rows are matched as those of `data/` are. Memory is bounded by what is told.

    Raises:
        VerificationError: a table cannot be read, or soft labels do not lie beside their rows.
    """
    forms = Form.of(old.manifest, "soft"), Form.of(new.manifest, "soft")
    if forms[0] is None or forms[1] is None or not (old.has("soft") and new.has("soft")):
        return None
    same = old.parts("soft") & new.parts("soft")
    groups = [side.groups("soft", but=same) for side in (old, new)]
    compare = partial(_soft_apart, forms=(forms[0], forms[1]), least=least)
    walks = [_walk(own, form, ("label_id",), pool) for own, form in zip(groups, forms, strict=True) if form]
    found = _joined(list(compared(walks, pool, compare)))
    beside = [side.groups("data", but=same, beside="soft") for side in (old, new)]
    told = [_told(*one, found.ids, pool) for one in zip(beside, (found.old, found.new), (old, new), strict=True)]
    return _beside(told, found, forms[0].causes(forms[1]))


def _walk(groups: Sequence[RowGroup], form: Form, more: Sequence[str], pool: Executor) -> Walk:
    names = ["sample_id", *more, MADE_FOR.name, OBJECTNESS, *(field.name for field in form.columns)]
    held = {field.name: field for group in groups[:1] for field in group.footer.schema.to_arrow_schema()}
    return Walk(groups, pa.schema([held[name] for name in names if name in held]), (), pool)


def _soft_apart(old: Piece, new: Piece, *, forms: tuple[Form, Form], least: float) -> _Apart:
    if not (old.rows.num_rows and new.rows.num_rows):
        return _NONE
    at_old, at_new = places(matched(keys_of(old.rows), keys_of(new.rows)))
    was, now = old.rows.take(pa.array(at_old)), new.rows.take(pa.array(at_new))
    names = dict.fromkeys([OBJECTNESS, *(field.name for form in forms for field in form.columns)])
    differs = np.flatnonzero(stored_differs(was, now, list(names)) | _labels_differ(forms, was.num_rows))
    was, now = was.take(pa.array(differs)), now.take(pa.array(differs))
    union = list(dict.fromkeys([*forms[0].classes, *forms[1].classes]))
    far = np.flatnonzero(apart(was, now, forms, union) >= least)
    was, now = was.take(pa.array(far)), now.take(pa.array(far))
    at = differs[far]
    return _Apart(
        at_old[at] + old.start,
        at_new[at] + new.start,
        (texts(was, forms[0]), texts(now, forms[1])),
        _other_image(was, now),
        now["sample_id"].to_pylist(),
        len(at_old),
        len(differs),
    )


def _labels_differ(forms: tuple[Form, Form], n: int) -> NDArray[np.bool_]:
    """The same numbers mean something else under another class list."""
    return np.full(n, forms[0].classes != forms[1].classes)


def _other_image(was: pa.Table, now: pa.Table) -> list[bool]:
    differs = pc.not_equal(was[MADE_FOR.name], now[MADE_FOR.name])
    return list(pc.fill_null(differs, fill_value=False).to_pylist())


def map_changes(old: Side, new: Side, pool: Executor, least: float) -> Beside | None:
    """Return the images whose class map moved by `least` or more, on average over its cells; None without any maps.

    Raises:
        VerificationError: a table cannot be read.
    """
    forms = Form.of(old.manifest, "soft_masks"), Form.of(new.manifest, "soft_masks")
    if forms[0] is None or forms[1] is None or not (old.has("soft_masks") and new.has("soft_masks")):
        return None
    same = old.parts("soft_masks") & new.parts("soft_masks")
    groups = [side.groups("soft_masks", but=same) for side in (old, new)]
    compare = partial(_maps_apart, forms=(forms[0], forms[1]), least=least)
    walks = [
        _walk(own, form, ("n_rows", "n_columns"), pool) for own, form in zip(groups, forms, strict=True) if form
    ]
    found = _joined(list(compared(walks, pool, compare)))
    told = [of_images(side, found.ids) for side in (old, new)]
    return _beside(told, found, forms[0].causes(forms[1]))


def _maps_apart(old: Piece, new: Piece, *, forms: tuple[Form, Form], least: float) -> _Apart:
    if not (old.rows.num_rows and new.rows.num_rows):
        return _NONE
    at_old, at_new = places(matched(flat(old.rows["sample_id"]), flat(new.rows["sample_id"])))
    was, now = old.rows.take(pa.array(at_old)), new.rows.take(pa.array(at_new))
    distance = maps_apart(was, now, forms)
    differs = distance > 0
    far = np.flatnonzero(differs & (distance >= least))
    was, now = was.take(pa.array(far)), now.take(pa.array(far))
    return _Apart(
        at_old[far] + old.start,
        at_new[far] + new.start,
        (
            [map_text(was, row, forms[0]) for row in range(len(far))],
            [map_text(now, row, forms[1]) for row in range(len(far))],
        ),
        _other_image(was, now),
        now["sample_id"].to_pylist(),
        len(at_old),
        int(differs.sum()),
    )


def of_images(side: Side, sample_ids: Sequence[str]) -> pa.Table:
    """Return `TOLD` of images as wholes: without label, action and reasons."""
    if not sample_ids:
        return _no_rows()
    data = side.table("data", ["sample_id", "uri"]).combine_chunks()
    at = pc.index_in(pa.array(sample_ids, pa.string()), value_set=data["sample_id"].combine_chunks())
    n = len(sample_ids)
    nothing, lists = pa.nulls(n, pa.string()), pa.nulls(n, pa.list_(pa.string()))
    columns = [pa.array(sample_ids, pa.string()), nothing, data["uri"].take(at), nothing, lists, lists]
    return pa.table(columns, names=list(_TOLD))


def _no_rows() -> pa.Table:
    kinds = [pa.string()] * 4 + [pa.list_(pa.string())] * 2
    return pa.schema(zip(_TOLD, kinds, strict=True)).empty_table()


def _told(
    groups: Sequence[RowGroup], at: Places, side: Side, sample_ids: Sequence[str], pool: Executor
) -> pa.Table:
    if not len(at):
        return _no_rows()
    rows = rows_at(groups, at, _TOLD, pool)
    if rows.num_rows != len(at) or rows["sample_id"].to_pylist() != list(sample_ids):
        msg = f"soft/ of {side.version} does not lie beside data/ row by row. Run curate verify."
        raise VerificationError(msg)
    return rows


def _joined(parts: Sequence[_Apart]) -> _Apart:
    return _Apart(
        np.concatenate([np.zeros(0, np.int64), *(part.old for part in parts)]),
        np.concatenate([np.zeros(0, np.int64), *(part.new for part in parts)]),
        ([text for part in parts for text in part.texts[0]], [text for part in parts for text in part.texts[1]]),
        [other for part in parts for other in part.other_image],
        [one for part in parts for one in part.ids],
        sum(part.n_compared for part in parts),
        sum(part.n_differ for part in parts),
    )


_NONE = _joined([])


def _beside(told: Sequence[pa.Table], found: _Apart, causes: Sequence[str]) -> Beside:
    known = [code for code in causes if code != "answers_changed"]
    each = [(["image_bytes_changed", *known] if other else list(causes)) for other in found.other_image]
    before, after = (pa.array(text, pa.string()) for text in found.texts)
    kind = pa.list_(pa.string())
    return Beside(told[0], told[1], (before, after), pa.array(each, kind), found.n_compared, found.n_differ)
