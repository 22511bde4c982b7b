"""How soft labels are stored: whole, as the most probable classes and the mass of the rest, or with samples of it.

- `full`: K probabilities.
- `top_k`: the k most probable classes, their probabilities, and the mass of all others together.
- `sampled`: as top_k, and m draws c_1 … c_m from the others (with repetition), proportional to their probability
  (systematic sampling: one uniform number a row). p̂ = Σ_top p_i e_i + (tail_mass / m) Σ_j e_{c_j} has E[p̂] = p,
  so a loss that is linear in the teacher's probabilities, as cross-entropy is, has the gradient of the full one in
  expectation. That is the importance-sampled tail of sparse logit sampling, with the head kept exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

LayoutName = Literal["full", "top_k", "sampled"]
AskedLayout = Literal["auto", "full", "top_k", "sampled"]
TOP_K = 32

Matrix = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Layout:
    """What is stored of K probabilities.

    Attributes:
        name: full, top_k or sampled.
        n_classes: K.
        top_k: classes stored exactly; 0 for full.
        n_draws: draws from the rest; 0 unless sampled.
    """

    name: LayoutName
    n_classes: int
    top_k: int
    n_draws: int

    @property
    def index_type(self) -> pa.DataType:
        """The smallest type that holds a class's position."""
        return pa.uint16() if self.n_classes <= 1 << 16 else pa.int32()

    def fields(self, teacher: str | None = None) -> list[pa.Field]:
        """Return the columns, of the ensemble or of one teacher."""
        end = f"_{teacher}" if teacher else ""
        half = pa.float16()
        if self.name == "full":
            return [pa.field(f"probs{end}", pa.list_(half, self.n_classes))]
        made = [
            pa.field(
                f"top_classes{end}", pa.list_(self.index_type, self.top_k)
            ),  # most probable first; ties: lower
            pa.field(f"top_probs{end}", pa.list_(half, self.top_k)),
            pa.field(f"tail_mass{end}", half),  # probability of all other classes together
        ]
        if self.name == "sampled":
            made.append(pa.field(f"tail_classes{end}", pa.list_(self.index_type, self.n_draws)))
        return made


def layout_for(n_classes: int, asked: AskedLayout = "auto", top_k: int = TOP_K) -> Layout:
    """Return the layout for so many classes.

    `auto` is full where that takes no more bytes than top_k does (2 K against (index + 2) k + 2: up to 2 k + 1
    classes), else top_k. Any layout is full where top_k would leave nothing out.
    """
    index_bytes = 2 if n_classes <= 1 << 16 else 4
    whole = 2 * n_classes <= (index_bytes + 2) * top_k + 2
    if asked == "full" or n_classes <= top_k or (asked == "auto" and whole):
        return Layout("full", n_classes, 0, 0)
    if asked == "sampled":
        return Layout("sampled", n_classes, top_k, top_k)
    return Layout("top_k", n_classes, top_k, 0)


def encode(probs: Matrix, missing: Bools, layout: Layout, offsets: NDArray[np.float64]) -> list[pa.Array]:
    """Return the columns of `Layout.fields` for (n, K) probabilities; null where `missing`.

    Args:
        probs: rows that sum to one.
        missing: rows without a soft label.
        layout: what to store.
        offsets: (n,) in [0, 1), see `sampling_offsets`; read by `sampled` only.
    """
    mask = pa.array(missing)
    half = probs.astype(np.float16)
    if layout.name == "full":
        return [_lists(half, mask)]
    n_classes, top_k = layout.n_classes, layout.top_k
    # one unique integer a class: probability bits (monotone, they are not negative), then the lower class first
    kind, shift = (np.uint32, 16) if n_classes <= 1 << 16 else (np.uint64, 32)
    low = (1 << shift) - 1
    bits: NDArray[Any] = half.view(np.uint16).astype(kind)
    keys = (bits << kind(shift)) | (low - np.arange(n_classes)).astype(kind)
    top = np.sort(np.partition(keys, n_classes - top_k, axis=1)[:, -top_k:], axis=1)[:, ::-1].astype(np.int64)
    top_classes = low - (top & low)
    top_probs = (top >> shift).astype(np.uint16).view(np.float16)
    # summed by class order so that the rounding never depends on how the partition came out
    rest = probs.astype(np.float64)
    np.put_along_axis(rest, top_classes, 0.0, axis=1)
    index = layout.index_type.to_pandas_dtype()
    columns = [
        _lists(top_classes.astype(index), mask),
        _lists(top_probs, mask),
        pa.array(rest.sum(axis=1).astype(np.float16), mask=missing),
    ]
    if layout.name == "sampled":
        drawn = _draws(rest, offsets, layout.n_draws, fallback=top_classes[:, 0])
        columns.append(_lists(drawn.astype(index), mask))
    return columns


def sampling_offsets(keys: Sequence[str], seed: int) -> NDArray[np.float64]:
    """Return a uniform number in [0, 1) for each row, made from its id: never from its position."""
    digests = [hashlib.sha256(f"soft\0{seed}\0{key}".encode()).digest()[:8] for key in keys]
    bits = np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64) >> np.uint64(11)
    offsets: NDArray[np.float64] = bits.astype(np.float64) / float(1 << 53)
    return offsets


def _draws(
    rest: NDArray[np.float64], offsets: NDArray[np.float64], m: int, *, fallback: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return (n, m) classes drawn in proportion to `rest` (n, K); `fallback` where a row has nothing left."""
    n, n_classes = rest.shape
    cumulated = np.cumsum(rest, axis=1)
    empty = cumulated[:, -1] <= 0
    cumulated /= np.where(empty, 1.0, cumulated[:, -1])[:, None]
    upto = np.clip(np.ceil(m * cumulated - offsets[:, None]), 0, m).astype(np.int64)
    upto[empty] = 0
    counts = np.diff(upto, axis=1, prepend=0)
    counts[empty, fallback[empty]] = m
    classes = np.broadcast_to(np.arange(n_classes), (n, n_classes))
    return np.repeat(classes.ravel(), counts.ravel()).reshape(n, m)


def _lists(values: NDArray[np.generic], mask: pa.Array) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1], mask=mask)
