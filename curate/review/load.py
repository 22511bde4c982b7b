"""From tables to the FiftyOne dataset `curate-NAME`: what is new goes in, what changed is rewritten.

What reviewers did is pulled to the ledger before anything is rewritten, and stays visible afterwards. Fields and
tags of the user's own are kept. A sample whose tables say the same as last time is not touched.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from os import fspath
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.adapters.mongod import ensure_database
from curate.errors import StageError
from curate.review import baseline as baselines
from curate.review import dataset as datasets
from curate.review import ledger, merge, rows, views
from curate.review.documents import Builder, Prepared, Tables
from curate.review.pull import PullReport, pull_open
from curate.review.signals import Target, standing_signals

Progress = Callable[[int, int | None], None]
_CHUNK = 5_000
_LOCK_TIMEOUT_S = 600
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a load did.

    Attributes:
        dataset: the FiftyOne dataset's name.
        n_samples: how many it holds now; `n_added + n_updated + n_unchanged`.
        n_added: inserted.
        n_updated: rewritten because the tables say something else than last time.
        n_unchanged: not touched.
        n_removed: taken out because the tables do not hold them any more.
        views: names of the saved views.
        pulled: decisions that were brought to the ledger first; None for a new dataset.
        direct: whether documents were inserted directly (False with an untested FiftyOne).
    """

    dataset: str
    n_samples: int
    n_added: int
    n_updated: int
    n_unchanged: int
    n_removed: int
    views: tuple[str, ...]
    pulled: PullReport | None
    direct: bool


def load_dataset(  # noqa: PLR0913 - one argument a table, all by keyword
    name: str,
    *,
    workspace: Path,
    samples: pa.Table,
    labels: pa.Table,
    media_paths: Sequence[str | Path],
    scan: pa.Table | None = None,
    findings: pa.Table | None = None,
    verdicts: pa.Table | None = None,
    predictions: pa.Table | None = None,
    classes: Sequence[str] = (),
    render: rows.Render = rows.plain_render,
    reviewer: str | None = None,
    progress: Progress | None = None,
) -> LoadReport:
    """Make the FiftyOne dataset `curate-NAME` say what the tables say, and save its views.

    Args:
        name: the dataset's name.
        workspace: where its database and ledger are.
        samples: `schema.SAMPLES` with attributes and groups; unreadable files are rows too.
        labels: `schema.LABELS`. Classification becomes Classification (Classifications where a sample has several);
            boxes, tracks and segments become Detections, masks inside their boxes.
        media_paths: a plain file for each row of `samples`.
        scan: `schema.SCAN`.
        findings: `schema.FINDINGS` of all checks.
        verdicts: `schema.VERDICTS`.
        predictions: `sample_id` and `prob_<teacher>` columns as wide as `classes`.
        classes: the classes in their order; a label that a reviewer gives must be one of them.
        render: (reason code, arguments) -> sentence.
        reviewer: who made the edits that are pulled first; see `ledger.reviewer_name`.
        progress: called with (samples done, samples in all).

    Raises:
        ConfigError: a dataset of that name exists and curate did not make it; no database.
        StageError: the rewriting was disturbed again and again.
    """
    import filelock  # noqa: PLC0415 - only where a database is used

    tables = Tables(
        samples, labels, scan, findings, verdicts, predictions,
        [fspath(path) for path in media_paths], tuple(classes), rows.ground_truth_kind(labels), render,
    )  # fmt: skip
    folder = ledger.ledger_folder(workspace, name)
    ensure_database(workspace)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.parent / "load.lock", timeout=_LOCK_TIMEOUT_S):
        pulled = None
        if datasets.exists(name):
            dataset = datasets.open_dataset(name)
            pulled = pull_open(dataset, folder, reviewer=reviewer)
        else:
            dataset = datasets.make_dataset(name)
        return _Load(dataset, tables, folder, pulled).run(progress)


class _Load:
    """One load: the dataset, what it should say, and what the ledger holds."""

    def __init__(self, dataset: Any, tables: Tables, folder: Path, pulled: PullReport | None) -> None:  # noqa: ANN401
        self.dataset = dataset
        self.tables = tables
        self.pulled = pulled
        self.builder = Builder(tables)
        self.held = standing_signals(ledger.read(folder).decisions)
        self.added_boxes: dict[str, merge.Held] = {}
        for target, signals in self.held.items():
            if any(kind == "added" for kind, _ in signals):
                mine: dict[Target, Any] = dict(self.added_boxes.get(target[0], {}))
                self.added_boxes[target[0]] = mine | {target: signals}
        self.direct = datasets.is_tested_version()

    def run(self, progress: Progress | None) -> LoadReport:
        builder, tables = self.builder, self.tables
        self._declare()
        self.owned = datasets.owned_fields(builder.extra_fields, builder.teachers)
        self.samples = baselines.samples_of(self.dataset)
        self.baselines = baselines.collection_of(self.dataset)
        digests = {
            d["_id"]: d.get("digest") for d in self.baselines.find({"pending": {"$exists": False}}, {"digest": 1})
        }
        present = {d["_id"] for d in self.samples.find({}, {"_id": 1})}
        n = tables.samples.num_rows
        n_added = n_updated = 0
        wanted = set()
        for start in range(0, n, _CHUNK):
            prepared = builder.prepare(start, min(_CHUNK, n - start))
            wanted |= {p.document["_id"] for p in prepared}
            new = [p for p in prepared if p.document["_id"] not in present]
            changed = [
                p
                for p in prepared
                if p.document["_id"] in present and digests.get(p.document["_id"]) != p.baseline["digest"]
            ]
            self._insert(new)
            self._update(changed)
            n_added += len(new)
            n_updated += len(changed)
            if progress:
                progress(min(start + _CHUNK, n), n)
        n_removed = self._remove((present | digests.keys()) - wanted, present)
        self.dataset.reload()
        saved = views.save_views(self.dataset, tables.classes)
        return LoadReport(
            dataset=self.dataset.name,
            n_samples=n,
            n_added=n_added,
            n_updated=n_updated,
            n_unchanged=n - n_added - n_updated,
            n_removed=n_removed,
            views=tuple(saved),
            pulled=self.pulled,
            direct=self.direct,
        )

    def _declare(self) -> None:
        dataset, kind = self.dataset, self.tables.kind
        former = datasets.ground_truth_kind(dataset)
        if former != kind:  # the task changed, or somebody deleted the field; marks are in the ledger by now
            if former is not None:
                dataset.delete_sample_field("ground_truth")
            baselines.collection_of(dataset).drop()  # every sample is written anew
        datasets.declare_fields(dataset, kind, self.builder.extra_fields, self.builder.teachers)
        dataset.info = {
            **dataset.info,
            datasets.MARK: {"layout": datasets.LAYOUT, "classes": list(self.tables.classes)},
        }
        dataset.default_classes = list(self.tables.classes)
        datasets.declare_looks(dataset, kind)
        dataset.save()

    def _shown(self, prepared: Prepared, current: dict[str, Any] | None, before: Mapping[str, Any] | None) -> Any:  # noqa: ANN401
        """Return the document to write: tables, what reviewers did, what the ledger holds."""
        document = merge.merge(prepared.document, current, before)
        sample_id = str(document["_id"])
        mine = self.added_boxes.get(sample_id)
        kind = self.tables.kind
        if mine and kind in merge.LABEL_LISTS:
            known = {str(label["_id"]) for label in merge.labels_of(document)}
            extra = merge.added_labels(sample_id, mine, known, kind)
            if extra:
                labels = [*merge.labels_of(document), *extra]
                document = {**document, "ground_truth": {"_cls": kind, merge.LABEL_LISTS[kind]: labels}}
        return merge.replay(document, prepared.baseline, self.held)

    def _insert(self, prepared: Sequence[Prepared]) -> None:
        if not prepared:
            return
        now = datetime.now(UTC)
        documents = [
            {**self._shown(p, None, None), "_rand": _rand(p), "_dataset_id": self.dataset._doc.id}  # noqa: SLF001
            | {"created_at": now, "last_modified_at": now}
            for p in prepared
        ]
        if self.direct:
            self.samples.insert_many(documents, ordered=False)
        else:
            write_through_fiftyone(self.dataset, documents)
        self._remember(prepared)

    def _remember(self, prepared: Sequence[Prepared]) -> None:
        import pymongo  # noqa: PLC0415 - only where a database is used

        writes = [pymongo.ReplaceOne({"_id": p.baseline["_id"]}, p.baseline, upsert=True) for p in prepared]
        self.baselines.bulk_write(writes, ordered=False)

    def _update(self, prepared: Sequence[Prepared]) -> None:
        if not prepared:
            return
        ids = [p.document["_id"] for p in prepared]
        before = {d["_id"]: d for d in self.baselines.find({"_id": {"$in": ids}})}
        self.baselines.update_many({"_id": {"$in": ids}}, {"$set": {"pending": True}})
        waiting = list(prepared)
        for _ in range(_ATTEMPTS):
            waiting = self._update_once(waiting, before)
            if not waiting:
                break
        else:
            msg = f"{len(waiting)} samples of {self.dataset.name} were edited while they were rewritten. Run again."
            raise StageError(msg)
        self._remember(prepared)

    def _update_once(self, prepared: Sequence[Prepared], before: Mapping[Any, Any]) -> list[Prepared]:
        """Rewrite what nobody edited since it was read; return the others."""
        import pymongo  # noqa: PLC0415 - only where a database is used

        now = datetime.now(UTC)
        current = {d["_id"]: d for d in self.samples.find({"_id": {"$in": [p.document["_id"] for p in prepared]}})}
        writes = []
        for p in prepared:
            identity = p.document["_id"]
            shown = self._shown(p, current.get(identity), before.get(identity))
            gone = {field: "" for field in self.owned if field not in shown}
            values = {key: value for key, value in shown.items() if key != "_id"} | {"last_modified_at": now}
            seen = {"_id": identity, "last_modified_at": current.get(identity, {}).get("last_modified_at")}
            writes.append(pymongo.UpdateOne(seen, {"$set": values, "$unset": gone} if gone else {"$set": values}))
        if self.samples.bulk_write(writes, ordered=False).matched_count == len(writes):
            return []
        ids = list(current)
        found = self.samples.find({"_id": {"$in": ids}}, {"last_modified_at": 1})
        written = {d["_id"] for d in found if _ms(d.get("last_modified_at")) == _ms(now)}
        return [p for p in prepared if p.document["_id"] not in written and p.document["_id"] in current]

    def _remove(self, ids: set[Any], present: set[Any]) -> int:
        chosen = sorted(ids)
        for start in range(0, len(chosen), _CHUNK):
            query = {"_id": {"$in": chosen[start : start + _CHUNK]}}
            self.baselines.delete_many(query)  # first: a sample without a baseline is nobody's deletion
            self.samples.delete_many(query)
        return len(ids & present)


def write_through_fiftyone(dataset: Any, documents: Sequence[Mapping[str, Any]]) -> None:  # noqa: ANN401
    """Write sample documents by FiftyOne's own code: slower, for versions whose layout was not compared.

    Raises:
        StageError: this FiftyOne has no way to write samples with given ids.
    """
    import fiftyone as fo  # noqa: PLC0415 - costs seconds to import

    made = [fo.Sample.from_dict(dict(document)) for document in documents]
    write = getattr(dataset, "_upsert_samples", None)  # add_samples would give the samples new ids
    if write is None:
        msg = (
            f"FiftyOne {fo.__version__} cannot be written to; install the tested one: pip install fiftyone==1.22.1"
        )
        raise StageError(msg)
    write(made, expand_schema=False)


def _ms(moment: datetime | None) -> int | None:
    """Return milliseconds, which is what MongoDB keeps; a moment without a zone is UTC."""
    if moment is None:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(aware.timestamp() * 1_000_000) // 1000


def _rand(prepared: Prepared) -> float:
    """Return FiftyOne's shuffling key, from the id: the same sample is always in the same place."""
    return random.Random(str(prepared.document["_id"])).random()  # noqa: S311 - a place in an order, no secret
