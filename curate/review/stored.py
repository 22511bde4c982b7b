"""The FiftyOne dataset as MongoDB holds it: enough to read what reviewers did without loading FiftyOne (seconds)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from curate.review import baseline as baselines
from curate.review import dataset as datasets
from curate.review.fields import GROUND_TRUTH

_TIMEOUT_MS = 10_000


@dataclass(frozen=True, slots=True)
class Stored:
    """A dataset that curate made.

    Attributes:
        name: FiftyOne's name of it.
        classes: those that were declared when it was loaded.
        kind: class name of the ground truth field; None where somebody deleted the field.
        samples: pymongo's collection of its samples.
        baselines: that of what curate last wrote about each.
    """

    name: str
    classes: tuple[str, ...]
    kind: str | None
    samples: Any
    baselines: Any


def of_dataset(dataset: Any) -> Stored:  # noqa: ANN401 - fiftyone is loaded late
    """Return the same of a dataset that FiftyOne has open."""
    classes = tuple(dataset.info[datasets.MARK].get("classes") or ())
    kind = datasets.ground_truth_kind(dataset)
    return Stored(dataset.name, classes, kind, baselines.samples_of(dataset), baselines.collection_of(dataset))


@contextmanager
def open_stored(uri: str, name: str) -> Iterator[Stored | None]:
    """Open the dataset of `name` in the database at `uri`.

    None says only that it was not found at once: FiftyOne may be told, in a file of its own, to use another name
    for its database, and it alone says whether a dataset is there.
    """
    import pymongo  # noqa: PLC0415 - only where a database is used

    with pymongo.MongoClient(uri, serverSelectionTimeoutMS=_TIMEOUT_MS) as client:
        database = client[os.environ.get("FIFTYONE_DATABASE_NAME") or "fiftyone"]
        found = database["datasets"].find_one({"name": datasets.dataset_name(name)})
        mark = ((found or {}).get("info") or {}).get(datasets.MARK)
        yield None if found is None or mark is None else _stored(database, found, mark)


def _stored(database: Any, found: dict[str, Any], mark: dict[str, Any]) -> Stored:  # noqa: ANN401 - pymongo's
    kinds = {field["name"]: field.get("embedded_doc_type") or "" for field in found.get("sample_fields") or ()}
    kind = kinds.get(GROUND_TRUTH)
    return Stored(
        name=found["name"],
        classes=tuple(mark.get("classes") or ()),
        kind=None if kind is None else kind.rsplit(".", 1)[-1],
        samples=database[found["sample_collection_name"]],
        baselines=database[baselines.collection_name(found["_id"])],
    )
