"""Pairs of 64-bit hashes that differ in few bits: multi-index hashing in NumPy, bounded in time and memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

HASH_BITS = 64
WINDOW = 512  # how many neighbours in one bucket a hash is compared with
MAX_PAIRS = 20_000_000


@dataclass(frozen=True, slots=True)
class NearPairs:
    """Pairs of positions with `left` < `right`, in ascending order, and the bits in which they differ.

    `is_complete` is False where a bucket was too crowded or there were too many pairs: some are then missing.
    """

    left: Ints
    right: Ints
    distance_bits: Ints
    is_complete: bool


def near_pairs(
    codes: Codes, max_distance_bits: int, *, window: int = WINDOW, max_pairs: int = MAX_PAIRS
) -> NearPairs:
    """Return every pair of `codes` (shape (N,), uint64) that differs in at most `max_distance_bits` bits.

    The hash is cut into `m` chunks, so that two codes within distance d agree in at least m - d of them
    (pigeonhole); codes are sorted by each choice of m - d chunks and compared inside the buckets that arise.
    In a bucket each code is compared with the next `window` ones only, so that a bucket of a million equal
    hashes costs a million times `window` and not a million squared; that something was cut is said.

    Source: Norouzi, Punjani, Fleet, "Fast exact search in Hamming space with multi-index hashing" (2014);
    Manku, Jain, Sarma, "Detecting near-duplicates for web crawling" (2007) for the choice of chunks.
    """
    if not 0 <= max_distance_bits < HASH_BITS // 2:
        msg = f"max_distance_bits must be between 0 and {HASH_BITS // 2 - 1}; given: {max_distance_bits}"
        raise ValueError(msg)
    n = len(codes)
    order = np.argsort(codes, kind="stable").astype(np.int64)
    in_order = codes[order]
    n_chunks, n_chosen = _chunks(n, max_distance_bits)
    found, is_complete = np.zeros(0, dtype=np.uint64), True
    for mask in _masks(n_chunks, n_chosen):
        pairs, was_whole = _pairs_in_buckets(in_order, mask, max_distance_bits, window, max_pairs)
        found = np.unique(np.concatenate([found, pairs]))
        is_complete &= was_whole
        if len(found) > max_pairs:
            found, is_complete = found[:max_pairs], False
            break
    first = order[(found >> np.uint64(32)).astype(np.int64)]
    second = order[(found & np.uint64(0xFFFFFFFF)).astype(np.int64)]
    left, right = np.minimum(first, second), np.maximum(first, second)
    sorting = np.lexsort((right, left))
    left, right = left[sorting], right[sorting]
    distance = np.bitwise_count(codes[left] ^ codes[right]).astype(np.int64)
    return NearPairs(left, right, distance, is_complete)


def _chunks(n: int, max_distance_bits: int) -> tuple[int, int]:
    """Return the number of chunks and how many must agree, at the least cost for `n` evenly spread codes."""
    best, best_cost = (max_distance_bits + 1, 1), math.inf
    for n_chosen in range(1, 5):
        n_chunks = max_distance_bits + n_chosen
        bits = HASH_BITS * n_chosen / n_chunks
        n_masks = math.comb(n_chunks, n_chosen)
        cost = n_masks * (20 * n + n * n / 2 ** (bits + 1))  # a sort costs about 20 comparisons a row
        if cost < best_cost:
            best, best_cost = (n_chunks, n_chosen), cost
    return best


def _masks(n_chunks: int, n_chosen: int) -> list[np.uint64]:
    edges = [round(HASH_BITS * k / n_chunks) for k in range(n_chunks + 1)]
    chunks = [((1 << (high - low)) - 1) << low for low, high in pairwise(edges)]
    return [np.uint64(sum(chosen)) for chosen in combinations(chunks, n_chosen)]


def _pairs_in_buckets(
    codes: Codes, mask: np.uint64, max_distance_bits: int, window: int, max_pairs: int
) -> tuple[Codes, bool]:
    """Return pairs of positions packed as left << 32 | right, and whether every bucket was seen whole."""
    keys = codes & mask
    order = np.argsort(keys, kind="stable").astype(np.int64)
    keys, sorted_codes = keys[order], codes[order]
    active = np.arange(len(codes), dtype=np.int64)
    parts: list[Codes] = []
    n_found = 0
    for step in range(1, window + 1):
        active = active[active + step < len(codes)]
        active = active[keys[active] == keys[active + step]]
        if not len(active):
            return _packed(parts), True
        bits = np.bitwise_count(sorted_codes[active] ^ sorted_codes[active + step])
        hits = active[bits <= max_distance_bits]
        one, other = order[hits], order[hits + step]
        low, high = np.minimum(one, other).astype(np.uint64), np.maximum(one, other).astype(np.uint64)
        parts.append((low << np.uint64(32)) | high)
        n_found += len(hits)
        if n_found > max_pairs:
            return _packed(parts), False
    active = active[active + window + 1 < len(codes)]
    return _packed(parts), not bool((keys[active] == keys[active + window + 1]).any())


def _packed(parts: list[Codes]) -> Codes:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint64)
