"""Same and similar pictures: which rows show one picture, and which pictures are close to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.check import Batches
from curate.checks.families import Ints, families, links
from curate.checks.hamming import near_pairs
from curate.checks.splits import TEST_FIRST, split_ranks

NEEDS = (
    "sample_id",
    "error_code",
    "split",
    "content_sha256",
    "thumbnail_sha256",
    "phash",
    "entropy_bits",
    "brightness_p05",
    "brightness_p50",
    "brightness_p99",
    "width_px",
    "height_px",
)


@dataclass(frozen=True, slots=True)
class SimilarityParams:
    """What counts as the same or nearly the same picture.

    Attributes:
        max_distance_bits: of the 64-bit perceptual hash. Measured on 200 photographs, 10,000 thumbnails of
            32 px, 6,000 faces and 1,797 digits: 4 bits hold at least 99.8 % of the copies that were compressed
            again, halved or brightened (crops of 2 %: 36 to 77 %), and 0, 21, 5 and 77 of all pairs of given
            pictures, some of which are true near duplicates; 8 bits hold 0, 129, 146 and 1,417.
        max_tone_difference: largest difference of a brightness percentile (5, 50, 99) between near duplicates.
        max_aspect_ratio: largest ratio of the aspect ratios of near duplicates.
        min_entropy_bits: pictures below are too flat for a perceptual hash to mean anything.
        max_related: how many neighbours a finding names.
        split_order: names of evaluation splits, the one to keep cleanest first; all others are for training.
    """

    max_distance_bits: int = 4
    max_tone_difference: float = 0.1
    max_aspect_ratio: float = 1.1
    min_entropy_bits: float = 1.0
    max_related: int = 10
    split_order: tuple[str, ...] = TEST_FIRST


@dataclass(frozen=True, slots=True)
class Pictures:
    """Rows sorted by the hash of their id, grouped into pictures (same pixels) and nodes (same fingerprint).

    Attributes:
        sample_id: shape (N,), object.
        split: shape (N,), object; None = not assigned.
        rank: shape (N,), see `split_ranks`.
        picture: shape (N,), number of the picture; rows with the same pixels share it.
        same_bytes: shape (N,), number of the file content; equal numbers have equal bytes.
        kept: shape (P,), row that stands for each picture: of the cleanest split, then the first row.
        node: shape (P,), number of the fingerprint of each picture, -1 where it is not compared.
        is_flat: shape (P,), too flat to compare.
        edges: shape (E, 2), pairs of nodes that are near each other, without self-pairs, left < right.
        distance_bits: shape (E,).
        is_complete: whether every near pair was found.
    """

    sample_id: npt.NDArray[np.object_]
    split: npt.NDArray[np.object_]
    rank: Ints
    picture: Ints
    same_bytes: Ints
    kept: Ints
    node: Ints
    is_flat: npt.NDArray[np.bool_]
    edges: Ints
    distance_bits: Ints
    is_complete: bool


def gather(batches: Batches, columns: Sequence[str]) -> pa.Table | None:
    """Return the columns of all batches as one table; None where there is no batch."""
    parts = [batch.select(list(columns)) for batch in batches]
    return pa.Table.from_batches(parts) if parts else None


def find_pictures(batches: Batches, params: SimilarityParams) -> Pictures | None:
    """Return the pictures of a samples view (columns `NEEDS`) without its unreadable rows; None if none is left.

    Rows are put in the order of their ids first, which are hashes: the order of the input leaves no trace.
    """
    table = gather(batches, NEEDS)
    if table is None:
        return None
    table = table.filter(pc.is_null(table["error_code"]))
    if not table.num_rows:
        return None
    table = table.sort_by("sample_id").combine_chunks()
    names = pc.dictionary_encode(table["split"].combine_chunks())
    words = np.asarray([*names.dictionary.to_pylist(), None], dtype=object)  # a name is one object, not one a row
    split = words[np.asarray(pc.fill_null(names.indices, len(words) - 1))]
    rank = _ranks(table["split"], params.split_order)
    picture = families(
        table["sample_id"],
        np.concatenate([links(table["content_sha256"]), links(table["thumbnail_sha256"])]),
    )
    same_bytes = families(table["sample_id"], links(table["content_sha256"]))
    kept = _kept(picture, rank)
    node, is_flat, codes, tone, aspect = _nodes(table.take(pa.array(kept)), params)
    edges, distance_bits, is_complete = _near(codes, tone, aspect, params)
    ids = np.asarray(table["sample_id"].to_pylist(), dtype=object)
    return Pictures(ids, split, rank, picture, same_bytes, kept, node, is_flat, edges, distance_bits, is_complete)


def near_duplicate_links(view: pa.Table, params: SimilarityParams | None = None) -> Ints:
    """Return pairs of row positions of a samples view, shape (P, 2), that chain every family of near duplicates.

    Copies and near duplicates; give them to `families`, together with `links` of group keys, for folds that
    keep a family together.
    """
    pictures = find_pictures(view.to_batches(), params or SimilarityParams())
    if pictures is None:
        return np.zeros((0, 2), dtype=np.int64)
    ids = view["sample_id"].combine_chunks()
    rows = pc.index_in(pa.array(pictures.sample_id, pa.string()), value_set=ids).to_numpy().astype(np.int64)
    kept = rows[pictures.kept]
    same = np.stack([rows, kept[pictures.picture]], axis=1)
    compared = np.flatnonzero(pictures.node >= 0)
    first = np.full(int(pictures.node.max(initial=-1)) + 1, -1, dtype=np.int64)
    first[pictures.node[compared[::-1]]] = kept[compared[::-1]]
    in_node = np.stack([kept[compared], first[pictures.node[compared]]], axis=1)
    pairs = np.concatenate([same, in_node, first[pictures.edges]])
    return np.asarray(pairs[pairs[:, 0] != pairs[:, 1]], dtype=np.int64)


def _ranks(splits: pa.ChunkedArray, order: Sequence[str]) -> Ints:
    encoded = pc.dictionary_encode(splits.combine_chunks())
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    ranks = np.asarray([*split_ranks(encoded.dictionary.to_pylist(), order), -1], dtype=np.int64)
    return np.asarray(ranks[np.asarray(pc.fill_null(encoded.indices, len(ranks) - 1))], dtype=np.int64)


def _kept(picture: Ints, rank: Ints) -> Ints:
    order = np.lexsort((np.arange(len(rank)), np.where(rank < 0, np.iinfo(np.int64).max, rank), picture))
    return np.asarray(order[np.unique(picture[order], return_index=True)[1]], dtype=np.int64)


def _floats(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    return np.asarray(pc.cast(table[name], pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def _nodes(
    table: pa.Table, params: SimilarityParams
) -> tuple[Ints, npt.NDArray[np.bool_], npt.NDArray[np.uint64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the node and flatness of each picture, and the hash, tone and aspect of each node."""
    with np.errstate(divide="ignore", invalid="ignore"):
        aspect = _floats(table, "width_px") / _floats(table, "height_px")
    names = ("brightness_p05", "brightness_p50", "brightness_p99")
    tone = np.stack([_floats(table, name) for name in names], axis=1)
    entropy = _floats(table, "entropy_bits")
    is_flat = ~(entropy >= params.min_entropy_bits)
    compared = ~is_flat & np.asarray(table["phash"].is_valid()) & np.isfinite(tone).all(axis=1)
    compared &= np.isfinite(aspect) & (aspect > 0)
    codes = np.asarray(pc.fill_null(table["phash"], 0).to_numpy(), dtype=np.uint64)[compared]
    print_of = np.rec.fromarrays(  # pictures that differ in nothing that is compared are one node
        [codes, *np.round(tone[compared] * 100).astype(np.int16).T, np.round(np.log(aspect[compared]) * 100)]
    )
    _, first, inverse = np.unique(print_of, return_index=True, return_inverse=True)
    node = np.full(len(compared), -1, dtype=np.int64)
    node[compared] = inverse
    chosen = np.flatnonzero(compared)[first]
    unique_codes = np.asarray(codes[first], dtype=np.uint64)
    return (
        node,
        is_flat,
        unique_codes,
        np.round(tone[chosen] * 100) / 100,
        np.round(np.log(aspect[chosen]) * 100) / 100,
    )


def _near(
    codes: npt.NDArray[np.uint64],
    tone: npt.NDArray[np.float64],
    log_aspect: npt.NDArray[np.float64],
    params: SimilarityParams,
) -> tuple[Ints, Ints, bool]:
    pairs = near_pairs(codes, params.max_distance_bits)
    tolerance = 1e-9  # the values are rounded to 0.01
    close = np.abs(tone[pairs.left] - tone[pairs.right]).max(axis=1, initial=0.0)
    close_enough = close <= params.max_tone_difference + tolerance
    shape = np.abs(log_aspect[pairs.left] - log_aspect[pairs.right])
    close_enough &= shape <= np.log(params.max_aspect_ratio) + tolerance
    edges = np.stack([pairs.left, pairs.right], axis=1)[close_enough]
    return edges, pairs.distance_bits[close_enough], pairs.is_complete
