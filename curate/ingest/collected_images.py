"""The images of a collector: where each is, whether it came before, and what was said about it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from collections.abc import Set as AbstractSet

import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.ingest.assemble import PLACED, sample_table
from curate.ingest.blocks import Rows, Texts
from curate.ingest.location import MAX_IMAGE_BYTES, Locator, Problem, member_uri, shown
from curate.ingest.source import ReadOptions

Text = Mapping[str, str | None]
# container, container_offset, n_bytes, mtime_ns, split, license, subject_id: in the order of schema.SAMPLES
Given = tuple[str | None, int | None, int | None, int | None, str | None, str | None, str | None]
_URI = 2  # place in a row of samples


class CollectedImages:
    """Rows of samples in the order in which they came; each image once.

    Args:
        options: what the spec says; `source`, `attributes` and `groups` are used here.
        locator: finds plain files.
    """

    def __init__(self, options: ReadOptions, locator: Locator) -> None:
        self._source = options.source
        self._locator = locator
        self._rows = Rows(PLACED)
        self._states: list[str] = []
        self._splits: list[str | None] = []  # each name one object: another row of the image has to agree
        self._split_names: dict[str | None, str | None] = {}
        self._extra: dict[str, Texts] = {}
        for name in options.attributes:
            self._extra[schema.ATTRIBUTE_PREFIX + name] = Texts()
        for name in options.groups:
            self._extra[schema.GROUP_PREFIX + name] = Texts()
        self._row_at: dict[str, int] = {}  # sample_id -> row
        self._id_at: dict[str, str] = {}  # path of a plain file that was looked up -> sample_id
        self._tokens: dict[str, Hashable] = {}  # sample_id -> what else must agree for "the same image"

    def __contains__(self, sample_id: str) -> bool:
        return sample_id in self._row_at

    def uri_of(self, sample_id: str) -> str:
        """Return the path of an image that was added."""
        uri: str = self._rows[self._row_at[sample_id]][_URI]
        return uri

    def add(
        self,
        path: str,
        given: Given,
        *,
        attributes: Text | None,
        groups: Text | None,
        label_state: str,
        token: Hashable,
    ) -> tuple[str | Problem, bool]:
        """Add an image; return its sample id and whether it is new, or why it is out. See `Collector.add_image`."""
        container, offset, n_bytes, mtime_ns, split, license_id, subject_id = given
        is_named = n_bytes is None and container is None
        sample_id = self._id_at.get(path, "") if is_named else ""
        if not sample_id:
            place = self._located(path) if is_named else _placed(path, n_bytes, mtime_ns)
            if isinstance(place, Problem):
                return place, False
            uri, n_bytes, mtime_ns = place
            sample_id = schema.sample_id_of(self._source, uri)
        if sample_id in self._row_at:
            return self._again(sample_id, split, token, label_state), False
        index = self._row_at[sample_id] = len(self._rows)
        if is_named:
            self._id_at[path] = sample_id
        if token is not None:
            self._tokens[sample_id] = token
        self._rows.append(
            (sample_id, self._source, uri, container, offset, n_bytes, mtime_ns, split, license_id, subject_id)
        )
        self._states.append(label_state)
        self._splits.append(self._split_names.setdefault(split, split))
        self._add_extra(index, schema.ATTRIBUTE_PREFIX, attributes or {})
        self._add_extra(index, schema.GROUP_PREFIX, groups or {})
        return sample_id, True

    def _located(self, path: str) -> tuple[str, int | None, int | None] | Problem:
        located = self._locator.locate(path)
        if isinstance(located, Problem):
            return located
        if located.n_bytes > MAX_IMAGE_BYTES:
            return _too_large(located.uri, located.n_bytes)
        # the same object where it is the same text: a million paths are kept once
        return path if located.uri == path else located.uri, located.n_bytes, located.mtime_ns

    def _again(self, sample_id: str, split: str | None, token: Hashable, label_state: str) -> str | Problem:
        """Return the id of an image that is there, or why this row cannot be about the same one."""
        at = self._row_at[sample_id]
        if self._tokens.get(sample_id) != token:
            return Problem("duplicate_id", {"id": shown(self.uri_of(sample_id))})
        if split != self._splits[at]:
            args = {"path": shown(self.uri_of(sample_id)), "first": self._splits[at], "second": split}
            return Problem("in_two_splits", args)
        if label_state != "unlabeled":
            self._states[at] = label_state
        return sample_id

    def _add_extra(self, index: int, prefix: str, values: Text) -> None:
        for name, value in values.items():
            self._extra.setdefault(prefix + name, Texts()).put(index, value)

    def drain(self, labeled: pa.Array, had_bad_label: AbstractSet[str], lost: set[str]) -> pa.Table:
        """Return the samples without those in `lost`, sorted by place, and hold none any more.

        Args:
            labeled: ids of the images that have a label.
            had_bad_label: ids of those of which a label was out: without another one they are not negative.
            lost: ids of those that are out after all.
        """
        placed = self._rows.drain()
        ids, states = placed["sample_id"], pa.chunked_array([pa.array(self._states, pa.string())])
        bad = pc.is_in(ids, value_set=pa.array(sorted(had_bad_label), pa.string()))
        unlabeled = pc.or_(pc.equal(states, "labeled"), bad)
        states = pc.if_else(unlabeled, "unlabeled", states)
        states = pc.if_else(pc.is_in(ids, value_set=labeled), "labeled", states)
        extra = {name: column.array(placed.num_rows) for name, column in self._extra.items()}
        return sample_table(placed, states, extra, lost)


def _placed(path: str, n_bytes: int | None, mtime_ns: int | None) -> tuple[str, int | None, int | None] | Problem:
    uri = member_uri(path)
    if isinstance(uri, Problem):
        return uri
    if n_bytes == 0:
        return Problem("zero_bytes", {"path": shown(path)})
    if n_bytes is not None and n_bytes > MAX_IMAGE_BYTES:
        return _too_large(uri, n_bytes)
    return uri, n_bytes, mtime_ns


def _too_large(uri: str, n_bytes: int) -> Problem:
    return Problem("too_many_bytes", {"path": shown(uri), "n_bytes": n_bytes, "limit": MAX_IMAGE_BYTES})
