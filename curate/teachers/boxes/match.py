"""Which given box and which cluster are about the same thing: one to one, the best total (Hungarian)."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from curate.teachers.boxes.geometry import Floats, Ints

OTHER_CLASS = 0.5  # worth of a pair whose classes differ, beside one where they agree


def assign(n_given: int, n_clusters: int, given: Ints, cluster: Ints, worth: Floats) -> Ints:
    """Return for each given box the pair (row of the edges) that it is matched by; -1 = none.

    Args:
        n_given: number of given boxes.
        n_clusters: number of clusters.
        given: (E,) of each pair that may be matched.
        cluster: (E,).
        worth: (E,) above 0; the sum over the matched pairs is the largest possible.
    """
    chosen = np.full(n_given, -1, dtype=np.int64)
    if not len(given):
        return chosen
    n = n_given + n_clusters
    graph = coo_array((np.ones(len(given)), (given, n_given + cluster)), shape=(n, n))
    _, component = connected_components(graph, directed=False)
    of_edge = component[given]
    order = np.argsort(of_edge, kind="stable")
    _, first, count = np.unique(of_edge[order], return_index=True, return_counts=True)
    alone = order[first[count == 1]]
    chosen[given[alone]] = alone
    for start, size in zip(first[count > 1].tolist(), count[count > 1].tolist(), strict=True):
        edges = order[start : start + size]
        rows, row = np.unique(given[edges], return_inverse=True)
        columns, column = np.unique(cluster[edges], return_inverse=True)
        if len(rows) == 1 or len(columns) == 1:
            best = edges[np.argmax(worth[edges])]
            chosen[given[best]] = best
            continue
        matrix = np.zeros((len(rows), len(columns)))
        edge = np.full(matrix.shape, -1, dtype=np.int64)
        matrix[row, column], edge[row, column] = worth[edges], edges
        left, right = linear_sum_assignment(matrix, maximize=True)
        found = edge[left, right]
        chosen[given[found[found >= 0]]] = found[found >= 0]
    return chosen
