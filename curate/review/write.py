"""Documents into the database so that no edit is lost: what a reviewer does meanwhile is merged, not overwritten."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from curate.errors import StageError
from curate.review import baseline as baselines
from curate.review import dataset as datasets
from curate.review import merge
from curate.review.documents import Prepared
from curate.review.signals import Target

_CHUNK = 5_000
_ATTEMPTS = 5


class Writer:
    """Writes to one dataset; beside each sample it keeps what was written, to tell a reviewer's edits later.

    Args:
        dataset: of FiftyOne.
        kind: of its ground truth.
        owned: the fields that are curate's; all others are the user's.
        held: what the ledger holds of each target.
    """

    def __init__(self, dataset: Any, kind: str, owned: set[str], held: Mapping[Target, Any]) -> None:  # noqa: ANN401
        self.dataset, self.kind, self.owned, self.held = dataset, kind, owned, held
        self.samples = baselines.samples_of(dataset)
        self.baselines = baselines.collection_of(dataset)
        self.added_boxes: dict[str, merge.Held] = {}
        for target, signals in held.items():
            if any(kind_of == "added" for kind_of, _ in signals):
                mine: dict[Target, Any] = dict(self.added_boxes.get(target[0], {}))
                self.added_boxes[target[0]] = mine | {target: signals}
        self.direct = datasets.is_tested_version()

    def insert(self, prepared: Sequence[Prepared]) -> None:
        """Write samples that are not there yet."""
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

    def update(self, prepared: Sequence[Prepared]) -> None:
        """Rewrite samples; what reviewers did to them stays.

        Raises:
            StageError: they were edited again and again meanwhile.
        """
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

    def remove(self, ids: set[Any], present: set[Any]) -> int:
        """Take samples out; return how many of them were there."""
        chosen = sorted(ids)
        for start in range(0, len(chosen), _CHUNK):
            query = {"_id": {"$in": chosen[start : start + _CHUNK]}}
            self.baselines.delete_many(query)  # first: a sample without a baseline is nobody's deletion
            self.samples.delete_many(query)
        return len(ids & present)

    def _shown(self, prepared: Prepared, current: dict[str, Any] | None, before: Mapping[str, Any] | None) -> Any:  # noqa: ANN401
        """Return the document to write: tables, what reviewers did, what the ledger holds."""
        document = merge.merge(prepared.document, current, before)
        sample_id = str(document["_id"])
        mine = self.added_boxes.get(sample_id)
        kind = self.kind
        if mine and kind in merge.LABEL_LISTS:
            known = {str(label["_id"]) for label in merge.labels_of(document)}
            extra = merge.added_labels(sample_id, mine, known, kind)
            if extra:
                labels = [*merge.labels_of(document), *extra]
                document = {**document, "ground_truth": {"_cls": kind, merge.LABEL_LISTS[kind]: labels}}
        return merge.replay(document, prepared.baseline, self.held)

    def _remember(self, prepared: Sequence[Prepared]) -> None:
        import pymongo  # noqa: PLC0415 - only where a database is used

        writes = [pymongo.ReplaceOne({"_id": p.baseline["_id"]}, p.baseline, upsert=True) for p in prepared]
        self.baselines.bulk_write(writes, ordered=False)

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
