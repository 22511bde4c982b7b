"""Samples, scan, labels and verdicts joined to the rows of a release."""

from __future__ import annotations

import fnmatch
import hashlib
import hmac
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate import schema
from curate.errors import InputError
from curate.manifest.tables import DATA, EXCLUDED
from curate.policy import Policy
from curate.verdict_people import moved_boxes, taken_ids
from curate.verdict_rows import row_table

NOT_SCANNED = "not_scanned"
_N_NULLS = 65_536
BLOCK_ROWS = 65_536  # joined at once; a table of all rows and all columns would be held twice
_FROM_SCAN = ("content_sha256", "n_bytes", "width_px", "height_px", "error_code", "error_args")
_FROM_SAMPLES = ("source", "uri", "container", "container_offset", "split", "license", "label_state", *_FROM_SCAN)
_FROM_LABELS = ("task", "bbox", "mask", "polygons", "track_id", "frame", "annotator", "flags")
_FROM_VERDICTS = ("action", "released_label", "weight", "risk", "reasons", "reason_codes")


def with_scan(samples: pa.Table, scan: pa.Table) -> pa.Table:
    """Return samples with what the scan measured; a sample that was not scanned counts as unreadable."""
    at = pc.index_in(samples["sample_id"], value_set=scan["sample_id"].combine_chunks())
    stand_alike = scan["sample_id"].equals(samples["sample_id"])
    known = [name for name in samples.column_names if name not in _FROM_SCAN]
    joined = samples.select(known)
    for name in _FROM_SCAN:
        joined = joined.append_column(schema.SCAN.field(name), scan[name] if stand_alike else scan[name].take(at))
    unread = pc.or_(pc.is_null(at), pc.is_null(joined["content_sha256"]))
    code = pc.if_else(unread, pc.coalesce(joined["error_code"], NOT_SCANNED), joined["error_code"])
    return joined.set_column(joined.schema.get_field_index("error_code"), "error_code", code)


def joined_rows(
    samples: pa.Table,
    labels: pa.Table,
    verdicts: pa.Table,
    decisions: pa.Table,
    policy: Policy,
    salt: bytes | None,
) -> Iterator[pa.Table]:
    """Yield `tables.DATA` columns plus error_code and error_args for every row, sorted by sample and label id, in blocks.

    `decisions` are those that stand (`verdict_people.standing`); a box that a person moved is released in its new
    place, the given one stays in `given_bbox`; an id that a person took for it is its `track_id`, the given one stays in
    `given_track_id`.

    Raises:
        InputError: the verdicts are not exactly one a row.
    """
    rows = row_table(samples, labels).drop_columns(["task", "error_code"])
    sample_at = pc.index_in(rows["sample_id"], value_set=samples["sample_id"].combine_chunks())
    label_at = pc.index_in(rows["label_id"], value_set=labels["label_id"].combine_chunks(), skip_nulls=True)
    verdict_at = pc.index_in(_keys(rows), value_set=_keys(verdicts))
    if verdict_at.null_count or verdicts.num_rows != rows.num_rows:
        msg = (
            f"Each of the {rows.num_rows} rows needs exactly one verdict; there are {verdicts.num_rows} verdicts "
            f"and {verdict_at.null_count} rows without one. Pass the same tables to decide and to build_release."
        )
        raise InputError(msg)
    # of chunks, each `take` would make a whole first
    samples, labels, verdicts = (table.combine_chunks() for table in (samples, labels, verdicts))
    for start in range(0, max(rows.num_rows, 1), BLOCK_ROWS):
        sample, label, verdict = (
            table.take(at.slice(start, BLOCK_ROWS))
            for table, at in ((samples, sample_at), (labels, label_at), (verdicts, verdict_at))
        )
        yield _joined(rows.slice(start, BLOCK_ROWS), sample, label, verdict, decisions, policy, salt)


def _joined(
    rows: pa.Table,
    sample: pa.Table,
    label: pa.Table,
    verdict: pa.Table,
    decisions: pa.Table,
    policy: Policy,
    salt: bytes | None,
) -> pa.Table:
    """Return a block of `joined_rows` from tables that stand beside each other row by row."""
    columns: dict[str, pa.ChunkedArray | pa.Array] = {"sample_id": rows["sample_id"], "label_id": rows["label_id"]}
    columns |= {name: _column(sample, name) for name in _FROM_SAMPLES}
    columns |= {name: label[name] for name in _FROM_LABELS}
    columns |= {name: verdict[name] for name in _FROM_VERDICTS}
    columns["given_label"] = rows["label"]
    moved = moved_boxes(decisions, rows["label_id"], rows["content_sha256"])
    columns["given_mask"] = pa.nulls(rows.num_rows, schema.MASK_RLE)
    columns["given_bbox"], columns["bbox"] = _boxes(columns["bbox"], decisions["to_bbox"], moved)
    taken = taken_ids(decisions, rows["label_id"], rows["content_sha256"])
    columns["given_track_id"], columns["track_id"] = renamed_tracks(columns["track_id"], taken)
    columns["attributes"] = _text_map(sample, schema.ATTRIBUTE_PREFIX, policy.attributes_released, ())
    columns["groups"] = _text_map(sample, schema.GROUP_PREFIX, policy.attributes_released, ("subject",))
    columns["subject_key"] = _subject_keys(sample, salt)
    table = pa.table(columns).select([*DATA.names, "error_code", "error_args"])
    return share_nulls(table)


def share_nulls(table: pa.Table) -> pa.Table:
    """Return the table with columns that are null throughout as views of one array: boxes of no box are large."""
    for at, field in enumerate(table.schema):
        if table.num_rows and table[at].null_count == table.num_rows and not pa.types.is_null(field.type):
            table = table.set_column(at, field, _nulls(field.type, table.num_rows))
    return table


def _nulls(kind: pa.DataType, n: int) -> pa.ChunkedArray:
    whole, rest = divmod(n, _N_NULLS)
    block = _block_of_nulls(kind)
    return pa.chunked_array([*([block] * whole), *([block.slice(0, rest)] if rest else [])], kind)


@lru_cache(maxsize=64)
def _block_of_nulls(kind: pa.DataType) -> pa.Array:
    return pa.nulls(_N_NULLS, kind)


def renamed_tracks(
    given: pa.Array | pa.ChunkedArray, taken: pa.Array | pa.ChunkedArray
) -> tuple[pa.ChunkedArray | pa.Array, pa.ChunkedArray | pa.Array]:
    """Return the ids as given of rows that got another one (null elsewhere), and the ids that are released.

    Args:
        given: the ids as given.
        taken: see `verdict_people.taken_ids`.
    """
    differs = pc.fill_null(pc.not_equal(taken, given), False)  # noqa: FBT003 - pyarrow takes it by position
    return pc.if_else(differs, given, None), pc.coalesce(taken, given)


def excluded_by_ingest(outcomes: pa.Table) -> pa.Table:
    """Return `tables.EXCLUDED` for the input rows that never became a sample or a label, sorted."""
    out = outcomes.filter(pc.equal(outcomes["outcome"], "out"))
    out = out.sort_by([(name, "ascending") for name in ("kind", "row", "reason_code", "reason_args", "label_id")])
    n = out.num_rows
    places = zip(out["kind"].to_pylist(), out["row"].to_pylist(), strict=True)
    reasons = [schema.stable_id("outcome", kind, row) for kind, row in places]
    starts = pa.array(np.arange(n + 1, dtype=np.int32))
    nothing = pa.MapArray.from_arrays(
        pa.array(np.zeros(n + 1, dtype=np.int32)), pa.array([], pa.string()), pa.array([], pa.string())
    )
    codes = pc.fill_null(out["reason_code"], "unknown").combine_chunks()
    columns = {
        "stage": pa.array(["ingest"] * n, pa.string()),
        "sample_id": out["sample_id"],
        "label_id": out["label_id"],
        "action": pa.array(["drop"] * n, pa.string()),
        "reasons": pa.ListArray.from_arrays(starts, pa.array(reasons, pa.string())),
        "reason_codes": pa.ListArray.from_arrays(starts, codes),
        "weight": pa.array(np.zeros(n)),
        "attributes": nothing,
        "groups": nothing,
        "row": out["row"],
        "kind": out["kind"],
        "reason_args": out["reason_args"],
    }
    full = {f.name: columns.get(f.name, pa.nulls(n, f.type)) for f in EXCLUDED}
    return pa.table(full).cast(EXCLUDED)


def _keys(table: pa.Table) -> pa.Array:
    """Return one key a row: the label's id, or the sample's for a row without a label."""
    return pc.coalesce(
        table["label_id"], pc.binary_join_element_wise("sample", table["sample_id"], ":")
    ).combine_chunks()


def _boxes(given: pa.ChunkedArray, drawn: pa.ChunkedArray, moved: NDArray[np.int64]) -> tuple[pa.Array, pa.Array]:
    """Return the given boxes of the rows that were moved (null elsewhere), and the boxes that are released."""
    n = len(given)
    both = pa.concat_arrays([given.combine_chunks(), drawn.combine_chunks()])
    at = np.arange(n)
    is_moved = moved >= 0
    drawn_at = np.flatnonzero(is_moved)
    pairs = (both.take(pa.array(where)).to_pylist() for where in (drawn_at, n + moved[drawn_at]))
    is_moved[drawn_at] = [was != now for was, now in zip(*pairs, strict=True)]  # an added label came with its box
    return (
        given.combine_chunks().take(pa.array(at, mask=~is_moved)),
        both.take(pa.array(np.where(is_moved, n + moved, at))),
    )


def _column(table: pa.Table, name: str) -> pa.ChunkedArray | pa.Array:
    return table[name] if name in table.column_names else pa.nulls(table.num_rows, DATA.field(name).type)


def _text_map(
    sample: pa.Table, prefix: str, released: tuple[str, ...], only_by_name: tuple[str, ...]
) -> pa.MapArray:
    """Return name -> value of the released columns; `*` releases all but those that must be named."""
    names = [name.removeprefix(prefix) for name in sample.column_names if name.startswith(prefix)]
    chosen = sorted(
        name
        for name in names
        if name in released
        or (name not in only_by_name and any(fnmatch.fnmatchcase(name, pattern) for pattern in released))
    )
    n, k = sample.num_rows, len(chosen)
    keys: NDArray[np.int64] = np.tile(np.arange(k), n)
    values = pa.concat_arrays(
        [pa.array([], pa.string()), *(sample[prefix + name].combine_chunks().cast(pa.string()) for name in chosen)]
    )
    interleaved = (np.arange(k)[None, :] * n + np.arange(n)[:, None]).ravel()
    offsets = pa.array((np.arange(n + 1) * k).astype(np.int32))
    return pa.MapArray.from_arrays(
        offsets, pa.array(chosen, pa.string()).take(pa.array(keys)), values.take(pa.array(interleaved))
    )


def _subject_keys(sample: pa.Table, salt: bytes | None) -> pa.Array:
    """Return an HMAC-SHA256 of each subject, cut to 24 hex characters; all null without a salt."""
    if salt is None or "subject_id" not in sample.column_names:
        return pa.nulls(sample.num_rows, pa.string())
    encoded = sample["subject_id"].combine_chunks().cast(pa.string()).dictionary_encode()
    hashed = [
        hmac.new(salt, subject.encode(), hashlib.sha256).hexdigest()[:24]
        for subject in encoded.dictionary.to_pylist()
    ]
    return pa.array(hashed, pa.string()).take(encoded.indices)
