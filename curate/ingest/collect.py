"""The collector that every format appends to: ids, classes, duplicates and outcomes are decided here once.

A format walks through its input and calls, for each row, exactly one of

- `add_image`: an image without a label of its own in this row (COCO `images`, a VOC file, …);
- `add_label`: an annotation of an image that was added before;
- `add_labeled_image`: a row that is both (a file in a class folder, a row of a table);
- `put_out`: a row that cannot be used, with a reason;

and ends with `finish()`. Each call leaves one outcome, so `n_in = n_added + n_already + n_out`.

Rows that contradict each other (two labels of one annotator for one image, one annotation id with two contents) are
all out: to keep the first would make the result depend on the order of the rows.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pyarrow.compute as pc

from curate import schema
from curate.errors import InputError
from curate.ingest.assemble import label_table
from curate.ingest.blocks import Rows
from curate.ingest.boxes import box_problem
from curate.ingest.classes import ClassNames
from curate.ingest.collected_images import CollectedImages
from curate.ingest.collected_labels import LABEL_EXTRAS, CollectedLabels
from curate.ingest.location import Locator, Problem
from curate.ingest.source import Ingested, ReadOptions


class Collector:
    """Collects the rows of one source into plain columns; tables are built once, in `finish`.

    Args:
        options: what the spec says; `classes`, `aliases`, `attributes` and `groups` are used here.
        task: what the labels are for (`schema.TASKS`), unless `add_label` says otherwise.
        locator: finds plain files; by default under `options.root`.
    """

    def __init__(
        self, options: ReadOptions, *, task: str = "classification", locator: Locator | None = None
    ) -> None:
        self.options = options
        self.task = task
        self.locator = locator or Locator(options.root)
        self._outcomes = Rows(schema.INGEST_OUTCOMES)
        self._images = CollectedImages(options, self.locator)
        self._labels = CollectedLabels(self._outcomes)
        self._had_bad_label: set[str] = set()
        self._came_with_label: dict[str, int] = {}  # sample_id -> outcome of the row that brought image and label
        self._class_names = ClassNames(options.classes, options.aliases)

    # -- images ---------------------------------------------------------------------------------------------

    def add_image(  # noqa: PLR0913 - one argument a column
        self,
        row: str,
        uri: str,
        *,
        container: str | None = None,
        container_offset: int | None = None,
        n_bytes: int | None = None,
        mtime_ns: int | None = None,
        split: str | None = None,
        license: str | None = None,  # noqa: A002 - the column's name
        subject_id: str | None = None,
        attributes: Mapping[str, str | None] | None = None,
        groups: Mapping[str, str | None] | None = None,
        label_state: str = "unlabeled",
        token: Hashable = None,
    ) -> str | None:
        """Add an image; return its sample id, also where it was there already, or None where it is out.

        Without `container` and `n_bytes` the file is looked up under the root: a path that leaves the root, a
        missing or an empty file is out. A format that has listed the files itself gives `n_bytes` and `mtime_ns`
        and a `uri` that is relative to the root. `label_state` says what the image is if no label is added:
        "negative" (somebody looked, nothing is there) or "unlabeled". Two rows with the same `uri` are the same
        image if their `token` (container place, checksum, …) and split agree.
        """
        given = (container, container_offset, n_bytes, mtime_ns, split, license, subject_id)
        result, is_new = self._images.add(
            uri, given, attributes=attributes, groups=groups, label_state=label_state, token=token
        )
        if isinstance(result, Problem):
            self._out(row, "image", result)
            return None
        self._image_alone(row, result, is_new=is_new)
        return result

    def _image_alone(self, row: str, sample_id: str, *, is_new: bool) -> None:
        outcome = "added" if is_new else "already present"
        self._outcomes.append((row, "image", outcome, None, None, sample_id, None))
        self._came_with_label.pop(sample_id, None)  # a row of its own vouches for the image from now on

    # -- labels ---------------------------------------------------------------------------------------------

    def add_label(
        self,
        row: str,
        sample_id: str | None,
        label: str | None,
        *,
        task: str | None = None,
        key: str | None = None,
        size_px: tuple[int, int] | None = None,
        **columns: Any,  # noqa: ANN401 - the optional columns of schema.LABELS
    ) -> str | None:
        """Add a label of an image; return its label id, or None where it is out.

        `sample_id` is what `add_image` returned; None (the image is out, or unknown) puts the label out. `key` is
        the annotation's own id (goes into the label id); without one it is the label's ordinal in its image, or for
        classification the annotator. `size_px` is (width, height) for the tolerance of `box_problem`.
        `columns`: bbox, mask, polygons, track_id, frame, annotator, source_key, reference_label, flags.
        """
        if sample_id is None or sample_id not in self._images:
            self._out(row, "label", Problem("image_not_there"))
            return None
        name = self._class_names.judge(label) if label else Problem("label_missing")
        box = columns.get("bbox")
        problem = name if isinstance(name, Problem) else None
        if problem is None and box is not None:
            problem = box_problem(
                box, width_px=size_px[0] if size_px else None, height_px=size_px[1] if size_px else None
            )
        if problem is not None or isinstance(name, Problem):
            self._had_bad_label.add(sample_id)
            self._out(row, "label", problem or Problem("label_missing"), sample_id)
            return None
        extras = tuple(map(columns.get, LABEL_EXTRAS))
        return self._labels.add(row, "label", sample_id, name, task or self.task, key, extras)

    def add_labeled_image(  # noqa: PLR0913 - one argument a column
        self,
        row: str,
        uri: str,
        label: str | None,
        *,
        annotator: str | None = None,
        source_key: str | None = None,
        reference_label: str | None = None,
        container: str | None = None,
        container_offset: int | None = None,
        n_bytes: int | None = None,
        mtime_ns: int | None = None,
        split: str | None = None,
        license: str | None = None,  # noqa: A002 - the column's name
        subject_id: str | None = None,
        attributes: Mapping[str, str | None] | None = None,
        groups: Mapping[str, str | None] | None = None,
        label_state: str = "unlabeled",
        token: Hashable = None,
    ) -> str | None:
        """Add a row that is an image and its classification in one; return the sample id, or None where it is out.

        An empty label leaves the image unlabeled. An unknown class puts the row out, and with it the image, unless
        another row brings it. The other arguments are those of `add_image`.
        """
        name = self._class_names.judge(label) if label else None
        if isinstance(name, Problem):
            self._out(row, "image", name)
            return None
        place = (container, container_offset, n_bytes, mtime_ns, split, license, subject_id)
        sample_id, is_new = self._images.add(
            uri, place, attributes=attributes, groups=groups, label_state=label_state, token=token
        )
        if isinstance(sample_id, Problem):
            self._out(row, "image", sample_id)
            return None
        if name is None:
            self._image_alone(row, sample_id, is_new=is_new)
            return sample_id
        if is_new:
            self._came_with_label[sample_id] = len(self._outcomes)
        if reference_label:
            reference_label = self.options.aliases.get(reference_label, reference_label)
        extras = (None, None, None, None, None, annotator, source_key, reference_label, None)
        self._labels.add(
            row, "image" if is_new else "label", sample_id, name, "classification", annotator or "", extras
        )
        return sample_id

    # -- rows that are out ----------------------------------------------------------------------------------

    def put_out(
        self,
        row: str,
        kind: str,
        reason_code: str,
        reason_args: Mapping[str, Any] | None = None,
        *,
        sample_id: str | None = None,
    ) -> None:
        """Put a row out. `kind` is "image" or "label".

        A label that is out with its `sample_id` keeps the image from being called negative.
        """
        if kind == "label" and sample_id is not None:
            self._had_bad_label.add(sample_id)
        self._out(row, kind, Problem(reason_code, reason_args or {}), sample_id)

    def _out(self, row: str, kind: str, problem: Problem, sample_id: str | None = None) -> None:
        args = schema.canonical_json(problem.args)
        self._outcomes.append((row, kind, "out", problem.code, args, sample_id, None))

    # -- the end --------------------------------------------------------------------------------------------

    def finish(self) -> Ingested:
        """Build the tables, in an order that does not depend on that of the rows (outcomes keep the source's).

        Raises:
            InputError: the source had not a single row.
        """
        if not self._outcomes:
            msg = (
                f"{self.options.root} holds no image and no label of the format in the spec. "
                f"Check source.path and source.format, or let `curate init` look at it."
            )
            raise InputError(msg)
        keep, left = self._labels.settle_conflicts(self._images.uri_of)
        self._had_bad_label |= left.keys()
        lost = {one for one, n_left in left.items() if n_left == 0 and one in self._came_with_label}
        labels = label_table(self._labels.rows.drain(), keep)
        samples = self._images.drain(pc.unique(labels["sample_id"]), self._had_bad_label, lost)
        classes = self.options.classes
        if classes is None:
            classes = tuple(sorted(pc.unique(labels["label"]).to_pylist()))
        return Ingested(samples, labels, self._outcomes.drain(), classes)
