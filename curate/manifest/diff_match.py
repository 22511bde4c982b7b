"""Which rows of two versions are about the same label, and which of those differ; rows come window by window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.manifest.diff_compare import (
    Mask,
    box_differs,
    flat,
    flat_differs,
    list_differs,
    maps_differ,
    masks_differ,
)
from curate.manifest.diff_partners import matched, places
from curate.manifest.diff_windows import Piece, Walk, compared
from curate.manifest.row_groups import RowGroup
from curate.manifest.tables import DATA

Rows = NDArray[np.int64]
Pair = tuple[pa.Table, pa.Table]

_CODED = ("released_label", "split", "action", "license")
_FLAT = {
    "relabeled": "released_label",
    "track changed": "track_id",
    "split moved": "split",
    "weight changed": "weight",
    "action changed": "action",
    "image changed": "content_sha256",
    "license changed": "license",
}
_IDS = ("sample_id", "label_id")
_NESTED = {
    "reboxed": ("bbox",),
    "remasked": ("mask", "polygons"),
    "attributes changed": ("attributes", "groups"),
    "flags changed": ("flags",),
}
_WALKED = (*_IDS, *_FLAT.values(), *(column for columns in _NESTED.values() for column in columns))
TOLD = (
    "uri", "reasons", "reason_codes", "given_label", "given_bbox", "given_mask", "given_track_id", "height_px", "width_px"
)  # fmt: skip # read where rows differ, and only there
_FEW = 32  # stretches of partners that are compared without copying


@dataclass(frozen=True, slots=True)
class Changed:
    """The rows that came, went or differ.

    Attributes:
        old: of the earlier version, ascending by sample.
        new: of the later version, ascending by sample.
        rows_old: the place of each row of `old` in its version.
        rows_new: the place of each row of `new` in its version.
        pairs: for each change the places of the rows before and after, in `rows_old` and `rows_new`.
        gone: places of rows that only the earlier version has.
        came: places of rows that only the later version has.
    """

    old: pa.Table
    new: pa.Table
    rows_old: Rows
    rows_new: Rows
    pairs: Mapping[str, tuple[Rows, Rows]]
    gone: Rows
    came: Rows

    def of(self, change: str) -> Pair:
        """Return the rows of a change, before and after, without columns that another change is about."""
        before, after = self.pairs[change]
        own = _NESTED.get(change, (_FLAT.get(change, "action"),))
        columns = [*_IDS, "action", *TOLD, "released_label", *own]
        old, new = (side.select(dict.fromkeys(columns)) for side in (self.old, self.new))
        return _at(old, self.rows_old, before), _at(new, self.rows_new, after)

    @property
    def removed(self) -> pa.Table:
        """Rows that only the earlier version has."""
        return _at(self.old, self.rows_old, self.gone)

    @property
    def added(self) -> pa.Table:
        """Rows that only the later version has."""
        return _at(self.new, self.rows_new, self.came)


def changed_rows(old: Sequence[RowGroup], new: Sequence[RowGroup], pool: Executor) -> Changed:
    """Return the rows of `data/` that differ between two versions, with all columns that a diff tells.

    Both are read once, in step, and only a few row groups of each are in memory. Where a label is among those that went
    and those that came, because rows do not ascend by sample or it went to another one, all are matched at once instead.

    Args:
        old: row groups of the earlier version.
        new: row groups of the later version.
        pool: reads and compares; whatever it does, the answer is the same.
    """
    walks = [Walk(groups, _schema(_WALKED), _CODED, pool) for groups in (old, new)]
    found = _together(list(compared(walks, pool, compare)))
    if pc.any(pc.is_in(keys_of(found.removed), value_set=keys_of(found.added)), min_count=0).as_py():
        found = _together([compare(*(Piece(0, _whole(groups)) for groups in (old, new)))])
    wanted = [(group, rows) for groups, rows in ((old, found.rows_old), (new, found.rows_new)) for group in groups]
    told = list(pool.map(lambda one: _told(*one), wanted))  # of both versions at once
    return replace(found, old=_with_told(found.old, told[: len(old)]), new=_with_told(found.new, told[len(old) :]))


def keys_of(table: pa.Table) -> pa.Array:
    """Return what rows are matched by: the label's id, or the sample's for a row without a label."""
    if not table["label_id"].null_count:
        return flat(table["label_id"])
    return flat(pc.coalesce(table["label_id"], pc.binary_join_element_wise("sample", table["sample_id"], ":")))


def compare(old: Piece, new: Piece) -> Changed:
    """Compare the rows of a window; a key stands once in a version."""
    keys_old, keys_new = keys_of(old.rows), keys_of(new.rows)
    alike = matched(keys_old, keys_new)
    at_old, at_new = places(alike)
    pieces: list[Pair]
    if len(alike) <= _FEW:  # compared as they lie
        pieces = [(old.rows.slice(i, n), new.rows.slice(j, n)) for i, j, n in alike]
    else:
        pieces = [(_picked(old.rows, at_old), _picked(new.rows, at_new))]
    pairs = {}
    for change, differs in _COMPARED.items():
        at = np.flatnonzero(np.concatenate([np.zeros(0, np.bool_), *(differs(*pair) for pair in pieces)]))
        pairs[change] = (at_old[at], at_new[at])
    gone, came = _others(len(keys_old), at_old), _others(len(keys_new), at_new)
    wanted = [
        np.unique(np.concatenate([alone, *(pair[side] for pair in pairs.values())]))
        for side, alone in enumerate((gone, came))
    ]
    return Changed(
        _plain(old.rows.take(pa.array(wanted[0]))),
        _plain(new.rows.take(pa.array(wanted[1]))),
        wanted[0] + old.start,
        wanted[1] + new.start,
        {change: (before + old.start, after + new.start) for change, (before, after) in pairs.items()},
        gone + old.start,
        came + new.start,
    )


def _others(n: int, at: Rows) -> Rows:
    alone = np.ones(n, dtype=np.bool_)
    alone[at] = False
    return np.flatnonzero(alone)


def _picked(rows: pa.Table, at: Rows) -> pa.Table:
    """Take, by a filter where the order stays (releases are sorted, so it does): several times as fast."""
    if not bool((at[1:] > at[:-1]).all()):
        return rows.take(pa.array(at))
    chosen = np.zeros(rows.num_rows, dtype=np.bool_)
    chosen[at] = True
    return rows.filter(pa.array(chosen))


def _at(table: pa.Table, places: Rows, wanted: Rows) -> pa.Table:
    return table.take(pa.array(np.searchsorted(places, wanted)))


def _told(group: RowGroup, rows: Rows) -> pa.Table:
    """Return `TOLD` of those of these rows, which ascend, that are in a row group; it is read only if there are any."""
    first, last = np.searchsorted(rows, [group.start, group.start + group.n_rows])
    if first == last:
        return _no_rows(TOLD)
    found = group.read(TOLD, coded=["given_label"])
    for name in TOLD:  # versions of earlier curates lack some
        if name not in found.column_names:
            found = found.append_column(name, pa.nulls(found.num_rows, DATA.field(name).type))
    return _plain(found.select(TOLD).take(pa.array(rows[first:last] - group.start)))


def _with_told(table: pa.Table, parts: Sequence[pa.Table]) -> pa.Table:
    told = pa.concat_tables([_no_rows(TOLD), *parts]).combine_chunks()
    for name in TOLD:
        table = table.append_column(DATA.field(name), told[name])
    return table


def _whole(groups: Sequence[RowGroup]) -> pa.Table:
    parts = [group.read(_WALKED) for group in groups]
    return pa.concat_tables([_no_rows(_WALKED), *(_plain(part) for part in parts)]).combine_chunks()


def _together(parts: Sequence[Changed]) -> Changed:
    def joined(places: Sequence[Rows]) -> Rows:
        return np.concatenate([np.zeros(0, np.int64), *places])

    return Changed(
        pa.concat_tables([_no_rows(_WALKED), *(part.old for part in parts)]).combine_chunks(),
        pa.concat_tables([_no_rows(_WALKED), *(part.new for part in parts)]).combine_chunks(),
        joined([part.rows_old for part in parts]),
        joined([part.rows_new for part in parts]),
        {
            change: (joined([p.pairs[change][0] for p in parts]), joined([p.pairs[change][1] for p in parts]))
            for change in _COMPARED
        },
        joined([part.gone for part in parts]),
        joined([part.came for part in parts]),
    )


def _schema(columns: Sequence[str]) -> pa.Schema:
    return pa.schema([DATA.field(name) for name in columns])


def _no_rows(columns: Sequence[str]) -> pa.Table:
    return _schema(columns).empty_table()


def _plain(rows: pa.Table) -> pa.Table:
    """Return the rows with the types of `DATA`: words in the place of codes."""
    return rows.cast(_schema(rows.column_names))


def _flat_differs(column: str) -> Callable[[pa.Table, pa.Table], Mask]:
    """Return a comparison of a flat column at matched rows; null equals null, and differs from any value."""
    return lambda was, now: flat_differs(was[column], now[column])


def _box_differs(was: pa.Table, now: pa.Table) -> Mask:
    return box_differs(flat(was["bbox"]), flat(now["bbox"]))


def _mask_differs(was: pa.Table, now: pa.Table) -> Mask:
    """Whether mask or polygons differ."""
    differs = np.zeros(was.num_rows, dtype=np.bool_)
    before, after = was["mask"], now["mask"]
    if before.null_count < len(before) or after.null_count < len(after):
        differs |= masks_differ(before, after)
    before, after = was["polygons"], now["polygons"]
    if before.null_count < len(before) or after.null_count < len(after):
        differs |= list_differs(flat(before), flat(after))
    return differs


def _attributes_differ(was: pa.Table, now: pa.Table) -> Mask:
    return maps_differ(*(flat(side["attributes"]) for side in (was, now))) | maps_differ(
        *(flat(side["groups"]) for side in (was, now))
    )


def _flags_differ(was: pa.Table, now: pa.Table) -> Mask:
    before, after = flat(was["flags"]), flat(now["flags"])
    return np.zeros(len(before), dtype=np.bool_) if before.equals(after) else list_differs(before, after)


_COMPARED: dict[str, Callable[[pa.Table, pa.Table], Mask]] = {
    **{change: _flat_differs(column) for change, column in _FLAT.items()},
    "reboxed": _box_differs,
    "remasked": _mask_differs,
    "attributes changed": _attributes_differ,
    "flags changed": _flags_differ,
}
