"""Several annotators for one image: which answer is the given one; the others are kept beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ConfigError, did_you_mean
from curate.ingest.source import Ingested


def choose_given(ingested: Ingested, given: str) -> Ingested:
    """Leave one label per image in `labels`, move the others to `annotations`.

    Args:
        ingested: with at most one classification label per image and annotator.
        given: "majority": a row with the label that most annotators chose (a tie, and which of its rows stands for
            it, is decided by the label ids, which are hashes); "first": the row that stands first in the source; or
            the name of an annotator, whose answer is the given one (images without it are unlabeled).

    Raises:
        ConfigError: no annotator is called `given`.
    """
    labels = ingested.labels
    if labels.num_rows == 0:
        return ingested
    samples = _codes(labels["sample_id"])
    ids = _ranks(labels["label_id"])
    if given == "majority":
        keep = _first_of_each(samples, (*_votes(samples, _codes(labels["label"]), ids), ids))
    elif given == "first":
        added = ingested.outcomes.filter(pc.equal(ingested.outcomes["outcome"], "added"))["label_id"]
        keep = _first_of_each(samples, (_numpy(pc.index_in(labels["label_id"], added.combine_chunks())),))
    else:
        keep = _numpy(pc.fill_null(pc.equal(labels["annotator"], given), False))  # noqa: FBT003 - pyarrow's signature
        if not keep.any():
            names = [str(name) for name in pc.unique(labels["annotator"]).to_pylist()]
            msg = f"source.given names the annotator {given!r}, who labeled nothing. {did_you_mean(given, names)}"
            raise ConfigError(f"{msg.rstrip()} Or take majority or first.")
    if keep.all():
        return ingested
    chosen, others = labels.filter(pa.array(keep)), labels.filter(pa.array(~keep))
    return replace(ingested, samples=_states(ingested.samples, chosen, others), labels=chosen, annotations=others)


def _numpy(array: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(array.to_numpy())


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    """Return int64 codes (N,) that are equal where the strings are."""
    return np.asarray(column.combine_chunks().dictionary_encode().indices.to_numpy())


def _ranks(column: pa.ChunkedArray) -> np.ndarray:
    """Return the place of each string in sorted order, int64 (N,)."""
    order = np.asarray(pc.sort_indices(column).to_numpy())
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order))
    return ranks


def _votes(samples: np.ndarray, labels: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row minus the votes for its label in its image, and the smallest id among them."""
    pairs = samples.astype(np.int64) * (int(labels.max()) + 1) + labels
    _, inverse, counts = np.unique(pairs, return_inverse=True, return_counts=True)
    smallest = np.full(len(counts), np.iinfo(np.int64).max)
    np.minimum.at(smallest, inverse, ids)
    return -counts[inverse], smallest[inverse]


def _first_of_each(samples: np.ndarray, keys: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return which rows come first in their image by `keys`, the first key first; bool (N,)."""
    order = np.lexsort((*reversed(keys), samples))
    first = np.ones(len(order), dtype=bool)
    first[1:] = samples[order][1:] != samples[order][:-1]
    keep = np.zeros(len(order), dtype=bool)
    keep[order[first]] = True
    return keep


def _states(samples: pa.Table, chosen: pa.Table, others: pa.Table) -> pa.Table:
    """Call an image unlabeled if none of its labels is the given one."""
    ids = samples["sample_id"]
    unlabeled = pc.and_(
        pc.is_in(ids, others["sample_id"].combine_chunks()),
        pc.invert(pc.is_in(ids, chosen["sample_id"].combine_chunks())),
    )
    at = samples.schema.get_field_index("label_state")
    states = pc.if_else(unlabeled, "unlabeled", samples["label_state"])
    return samples.set_column(at, samples.schema.field(at), states)
