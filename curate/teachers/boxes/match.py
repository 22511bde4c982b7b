"""Which given box and which cluster are about the same thing: one to one, the best total (Hungarian)."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from curate.teachers.boxes.geometry import Floats, Ints, best_rows

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
    is_met = np.zeros(n, dtype=bool)
    is_met[given] = is_met[n_given + cluster] = True
    n_rows, n_columns = (
        np.bincount(component[part][is_met[part]], minlength=n) for part in (slice(n_given), slice(n_given, n))
    )
    alone = (n_rows == 1) | (n_columns == 1)  # all edges share a node, so only one can be chosen: the best
    best = best_rows(n, of_edge, worth)
    best = best[alone & (best >= 0)]
    chosen[given[best]] = best
    order = np.argsort(of_edge, kind="stable")
    order = order[~alone[of_edge[order]]]
    _, first, count = np.unique(of_edge[order], return_index=True, return_counts=True)
    row, column = _places(component[:n_given])[given], _places(component[n_given:])[cluster]
    for start, size in zip(first.tolist(), count.tolist(), strict=True):
        edges = order[start : start + size]
        matrix = np.zeros((n_rows[of_edge[edges[0]]], n_columns[of_edge[edges[0]]]))
        edge = np.full(matrix.shape, -1, dtype=np.int64)
        at = row[edges], column[edges]
        matrix[at], edge[at] = worth[edges], edges
        left, right = linear_sum_assignment(matrix, maximize=True)
        found = edge[left, right]
        chosen[given[found[found >= 0]]] = found[found >= 0]
    return chosen


def _places(group: Ints) -> Ints:
    """Return the place of each entry among those of its group, from 0."""
    order = np.argsort(group, kind="stable")
    is_first = np.diff(group[order], prepend=-1) != 0
    place = np.empty(len(group), dtype=np.int64)
    place[order] = np.arange(len(group)) - np.maximum.accumulate(np.where(is_first, np.arange(len(group)), 0))
    return place
