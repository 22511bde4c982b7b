"""The labels of a source while they are collected: their ids, the same label twice, and labels that contradict."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from curate import schema
from curate.ingest.blocks import Rows
from curate.ingest.location import Problem, shown

LABEL_EXTRAS = tuple(schema.LABELS.names[4:])  # bbox, mask, … after label_id, sample_id, task and label
_ANNOTATOR = LABEL_EXTRAS.index("annotator")
_N_CONTENT = 5  # the first extras of a label, bbox … frame, are what it says
# places in a row of labels, in the order of its schema
_SAMPLE, _TASK, _LABEL, _SOURCE_KEY = 1, 2, 3, 10


class CollectedLabels:
    """Labels in plain rows, each with the outcomes of the input rows that gave it.

    Args:
        outcomes: in the order of `schema.INGEST_OUTCOMES`; one is appended for each label that is added.
    """

    def __init__(self, outcomes: Rows) -> None:
        self.rows = Rows(schema.LABELS)
        self._outcomes = outcomes
        self._at: dict[str, int] = {}  # label_id -> row
        self._again: dict[str, list[int]] = {}  # label_id -> outcomes beyond the first
        self._first_outcome = array("q")  # by row
        self._n_of: dict[str, int] = {}  # sample_id -> labels seen, for ordinals
        self._conflicting: set[str] = set()  # label ids

    def add(
        self, row: str, kind: str, sample_id: str, label: str, task: str, key: str | None, extras: tuple[Any, ...]
    ) -> str | None:
        """Add a label; return its id, also where it was there already, or None where it contradicts one.

        Args:
            row: of the input, for the outcome.
            kind: of the outcome, "image" or "label".
            sample_id: whose label it is.
            label: the class.
            task: one of `schema.TASKS`.
            key: its own id; None = the annotator for classification, else the ordinal in its image.
            extras: values of `LABEL_EXTRAS`.
        """
        ordinal = self._n_of.get(sample_id, 0)
        if key is None:
            key = (extras[_ANNOTATOR] or "") if task == "classification" else str(ordinal)
        label_id = schema.label_id_of(sample_id, task, key)
        at = self._at.get(label_id)
        if at is not None:
            return self._add_again(row, label_id, at, label, extras)
        self._n_of[sample_id] = ordinal + 1
        self._at[label_id] = len(self.rows)
        self._first_outcome.append(len(self._outcomes))
        self.rows.append((label_id, sample_id, task, label, *extras))
        self._outcomes.append((row, kind, "added", None, None, sample_id, label_id))
        return label_id

    def _add_again(self, row: str, label_id: str, at: int, label: str, extras: tuple[Any, ...]) -> str | None:
        first = self.rows[at]
        agrees = first[_LABEL] == label and all(map(_same, first[_LABEL + 1 :], extras[:_N_CONTENT]))
        self._again.setdefault(label_id, []).append(len(self._outcomes))
        self._outcomes.append((row, "label", "already present", None, None, first[_SAMPLE], label_id))
        if not agrees:
            self._conflicting.add(label_id)
        return label_id if agrees else None

    def settle_conflicts(self, uri_of: Callable[[str], str]) -> tuple[np.ndarray, dict[str, int]]:
        """Put every input row of a contradicted label out.

        Returns:
            Which rows stay, and how many labels each sample that lost some has left.
        """
        keep = np.ones(len(self.rows), dtype=bool)
        n_left: dict[str, int] = {}
        for label_id in sorted(self._conflicting):
            at = self._at[label_id]
            keep[at] = False
            sample_id = self.rows[at][_SAMPLE]
            outcomes = [self._first_outcome[at], *self._again[label_id]]
            problem = self._conflict(at, len(outcomes), uri_of)
            args = schema.canonical_json(problem.args)
            for index in outcomes:
                row, kind, *_ = self._outcomes[index]
                self._outcomes.change(index, (row, kind, "out", problem.code, args, sample_id, None))
            n_left[sample_id] = n_left.get(sample_id, self._n_of[sample_id]) - 1
        return keep, n_left

    def _conflict(self, at: int, n_rows: int, uri_of: Callable[[str], str]) -> Problem:
        label = self.rows[at]
        if label[_TASK] != "classification":
            return Problem("duplicate_id", {"id": shown(label[_SOURCE_KEY] or label[0])})
        return Problem("conflicting_labels", {"path": shown(uri_of(label[_SAMPLE])), "n_rows": n_rows})


def _same(one: object, other: object) -> bool:
    if isinstance(one, Sequence) and not isinstance(one, str | bytes) and isinstance(other, Sequence):
        return list(one) == list(other)
    return one == other
