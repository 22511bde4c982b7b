"""Which rows belong together: connected components of pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]


def families(sample_ids: pa.ChunkedArray | pa.Array | Sequence[str], pairs: npt.ArrayLike) -> Ints:
    """Return the family of each row: rows that are joined by a chain of pairs have the same number.

    Args:
        sample_ids: N ids. They make the numbers independent of the row order: families are counted in the
            order of their smallest id.
        pairs: shape (P, 2), positions of rows that belong together.

    Returns:
        Shape (N,), int64, 0 … n_families - 1.
    """
    ids = sample_ids if isinstance(sample_ids, pa.ChunkedArray | pa.Array) else pa.array(sample_ids, pa.string())
    n = len(ids)
    edges = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    if not n:
        return np.zeros(0, dtype=np.int64)
    if len(edges) and (edges.min() < 0 or edges.max() >= n):
        msg = f"pairs are positions of the {n} rows; given: {int(edges.min())} … {int(edges.max())}"
        raise ValueError(msg)
    from scipy.sparse import coo_array  # noqa: PLC0415 - a run over unchanged input needs no graph
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415 - as above

    graph = coo_array((np.ones(len(edges), dtype=np.int8), (edges[:, 0], edges[:, 1])), shape=(n, n))
    _, components = connected_components(graph, directed=False)
    by_id = pc.sort_indices(ids).to_numpy()  # stable, and no Python object for each id
    first_of: Ints = np.unique(components[by_id], return_index=True)[1].astype(np.int64)
    number = np.argsort(np.argsort(first_of, kind="stable"), kind="stable")
    return np.asarray(number[components], dtype=np.int64)


def links(keys: pa.ChunkedArray | pa.Array) -> Ints:
    """Return pairs of positions, shape (P, 2), that chain the rows with the same key; null joins nothing."""
    array = keys.combine_chunks() if isinstance(keys, pa.ChunkedArray) else keys
    codes = np.asarray(pc.fill_null(pc.dictionary_encode(array).indices, -1), dtype=np.int64)
    order = np.argsort(codes, kind="stable")
    same = (codes[order[1:]] == codes[order[:-1]]) & (codes[order[1:]] >= 0)
    return np.stack([order[:-1][same], order[1:][same]], axis=1).astype(np.int64)
