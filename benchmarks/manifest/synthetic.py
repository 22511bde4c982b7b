"""Rows of a release of any length, made batch by batch: the same number of rows gives the same rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.gates import gate_result
from curate.manifest.build import Release
from curate.manifest.soft import MADE_FOR, soft_schema
from curate.manifest.soft_layout import Layout
from curate.manifest.stream import RowStream
from curate.manifest.tables import DATA, DECISIONS, EXCLUDED
from curate.policy import Policy

BATCH_ROWS = 50_000


def release(n_rows: int, n_classes: int = 1000, top_k: int = 10) -> Release:
    """Return a release of `n_rows` streamed rows with top-k soft labels of `n_classes` classes."""
    policy = Policy(use_default_gates=False).written_out()
    statistics = schema.empty(schema.STATISTICS)
    gates = gate_result(statistics, policy.all_gates())
    n_by_action = {action: n_rows if action == "keep" else 0 for action in schema.ACTIONS}
    counts = {"n_in": n_rows, "n_released": n_rows, "n_excluded": 0, "n_samples_released": n_rows}
    soft = {"kind": "ensemble", "layout": "top_k", "top_k": top_k, "n_missing": 0, "temperature": "1.0"}
    return Release(
        data=RowStream(DATA, lambda: data_batches(n_rows, n_classes)),
        soft=RowStream(
            soft_schema(Layout("top_k", n_classes, top_k, 0)), lambda: soft_batches(n_rows, n_classes, top_k)
        ),
        excluded=EXCLUDED.empty_table(),
        findings=schema.empty(schema.FINDINGS),
        decisions=DECISIONS.empty_table(),
        evidence={
            "policy": policy.model_dump(mode="json"),
            "statistics": [],
            "teachers": [],
            "gates": {"outcome": "passed", "rows": []},
        },
        head={
            "classes": [f"class {at}" for at in range(n_classes)],
            "counts": {**counts, "by_action": n_by_action},
            "gates": gates.outcome,
            "inputs": {},
            "soft": {**soft, "weights": {"teacher": "1.0"}},
        },
        statistics=statistics,
        gates=gates,
    )


def data_batches(n_rows: int, n_classes: int, changed: float = 0.0) -> Iterator[pa.Table]:
    """Yield `tables.DATA`; of a `changed` share of the rows label, split, weight and box are others."""
    for start in range(0, n_rows, BATCH_ROWS):
        n = min(BATCH_ROWS, n_rows - start)
        random = np.random.default_rng(start)
        numbers = np.arange(start, start + n)
        classes = random.integers(0, n_classes, n)
        boxes = random.random((n, 4)).astype(np.float64)
        weights, splits = np.ones(n), random.random(n) < 0.8
        digests = image_digests(start, n)
        other = np.random.default_rng(start + 1).random((4, n)) < changed
        classes = np.where(other[0], (classes + 1) % n_classes, classes)
        splits, weights = np.where(other[1], ~splits, splits), np.where(other[2], 0.5, weights)
        boxes[other[3], 2] /= 2
        names = pc.binary_join_element_wise("class ", pa.array(classes).cast(pa.string()), "")
        ids = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 24, "0")
        columns = {
            "sample_id": ids,
            "label_id": pc.binary_replace_slice(ids.cast(pa.binary()), 0, 1, b"a").cast(pa.string()),
            "source": same("synthetic", n),
            "uri": pc.binary_join_element_wise("images/", ids, ".jpg", ""),
            "content_sha256": hexadecimal(digests, n),
            "split": pc.if_else(pa.array(splits), "train", "test"),
            "task": same("classification", n),
            "label_state": same("labeled", n),
            "given_label": names,
            "released_label": names,
            "action": same("keep", n),
            "reasons": lists(n),
            "reason_codes": lists(n),
            "risk": pa.array(np.zeros(n)),  # as the policy says of a row that nothing was found about
            "weight": pa.array(weights),
            "attributes": maps(n),
            "groups": maps(n),
            "bbox": pa.FixedSizeListArray.from_arrays(pa.array(boxes.ravel()), 4),
            "n_bytes": pa.array(np.full(n, 65_000)),
            "width_px": pa.array(np.full(n, 640, np.int32)),
            "height_px": pa.array(np.full(n, 480, np.int32)),
            "license": same("CC0-1.0", n),
        }
        full = [columns.get(field.name, pa.nulls(n, field.type)) for field in DATA]
        yield pa.table(full, names=DATA.names).cast(DATA)


def soft_batches(n_rows: int, n_classes: int, top_k: int) -> Iterator[pa.Table]:
    """Yield `soft.soft_schema(Layout("top_k", n_classes, top_k, 0))`."""
    for start in range(0, n_rows, BATCH_ROWS):
        n = min(BATCH_ROWS, n_rows - start)
        random = np.random.default_rng(start)
        tops = np.sort(random.random((n, top_k)).astype(np.float16), axis=1)[:, ::-1] / np.float16(top_k)
        classes = random.integers(0, n_classes, (n, top_k), dtype=np.uint16)
        ids = pc.utf8_lpad(pa.array(np.arange(start, start + n)).cast(pa.string()), 24, "0")
        label_ids = pc.binary_replace_slice(ids.cast(pa.binary()), 0, 1, b"a").cast(pa.string())
        tail = (1 - tops.astype(np.float32).sum(axis=1)).astype(np.float16)
        columns = [
            ids,
            label_ids,
            pa.array(np.frombuffer(image_digests(start, n), ">u8")[::4].astype(np.uint64), MADE_FOR.type),
            pa.FixedSizeListArray.from_arrays(pa.array(classes.ravel()), top_k),
            pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(tops).ravel()), top_k),
            pa.array(tail),
        ]
        yield pa.table(columns, schema=soft_schema(Layout("top_k", n_classes, top_k, 0)))


def image_digests(start: int, n: int) -> bytes:
    """Return the digests of the images of `n` rows from `start` on, 32 bytes each; soft labels are made for these."""
    return np.random.default_rng((start, 1)).bytes(32 * n)


def same(word: str, n: int) -> pa.Array:
    """Return `n` times the same word."""
    return pa.repeat(pa.scalar(word), n)


def hexadecimal(digests: bytes, n: int) -> pa.Array:
    """Return `n` digests of 32 bytes as text."""
    offsets = pa.py_buffer(np.arange(0, 64 * (n + 1), 64, dtype=np.int32))
    return pa.StringArray.from_buffers(n, offsets, pa.py_buffer(digests.hex().encode()))


def lists(n: int) -> pa.Array:
    """Return `n` empty lists of text."""
    return pa.ListArray.from_arrays(pa.array(np.zeros(n + 1, np.int32)), pa.array([], pa.string()))


def maps(n: int) -> pa.Array:
    """Return `n` empty maps from text to text."""
    empty = pa.array([], pa.string())
    return pa.MapArray.from_arrays(pa.array(np.zeros(n + 1, np.int32)), empty, empty)
