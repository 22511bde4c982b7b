"""What FiftyOne's database holds of erased samples: documents of curate's datasets, what they say of each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.adapters import fiftyone_session, mongod
from curate.adapters.mongod_rebuild import has_embedded_data, rebuild_database
from curate.governance.journal import Erasure
from curate.governance.traces import Traces
from curate.review.dataset import MARK, dataset_name

_SYSTEM = {"admin", "config", "local"}


@dataclass(frozen=True, slots=True)
class Found:
    """What a database holds.

    Attributes:
        n_documents: of curate's own datasets, that are about an erased sample.
        others: collections that curate did not make and that name one; they are left alone.
    """

    n_documents: int
    others: tuple[str, ...]


def is_used(root: Path) -> bool:
    """Return whether there is a database to look at: the workspace's own, or one that FIFTYONE_DATABASE_URI names."""
    return fiftyone_session.given_uri() is not None or has_embedded_data(root)


def look(root: Path, erasure: Erasure) -> Found:
    """Return what the database holds; starts the workspace's own where it does not run."""
    if not is_used(root):
        return Found(0, ())
    ids, traces = set(erasure.sample_ids), erasure.traces
    n_documents, others = 0, set()
    with _client(root) as client:
        own = _own_collections(client, erasure)
        for database, collection in _collections(client):
            for document in client[database][collection].find({}):
                if (database, collection) in own:
                    n_documents += collection.startswith("samples.") and str(document["_id"]) in ids
                elif _is_data(database, collection) and _hits(document, traces):
                    others.add(f"{database}.{collection}")
    return Found(n_documents, tuple(sorted(others)))


def clear_database(root: Path, erasure: Erasure) -> None:
    """Delete the documents of erased samples and what others say of them, then rebuild the files.

    A database that FIFTYONE_DATABASE_URI names is compacted instead: its files, its oplog and its backups are its
    owner's.
    """
    if not is_used(root):
        return
    given = fiftyone_session.given_uri()
    if given is not None or (root / "mongo" / "data").is_dir():
        with _client(root) as client:
            _delete(client, erasure, compact=given is not None)
    if given is None:
        rebuild_database(root)


def _delete(client: Any, erasure: Erasure, *, compact: bool) -> None:  # noqa: ANN401 - pymongo is loaded late
    ids, traces = set(erasure.sample_ids), erasure.traces
    # baselines sort before samples: a sample that is gone while its baseline is there would read as a reviewer's drop
    for database, name in sorted(_own_collections(client, erasure)):
        collection = client[database][name]
        for document in list(collection.find({})):
            if str(document["_id"]) in ids:
                collection.delete_one({"_id": document["_id"]})
            elif _hits(document, traces):
                collection.replace_one({"_id": document["_id"]}, _without(document, traces))
        if compact:
            client[database].command("compact", name, force=True)
    own = [document["_id"] for document in _own_datasets(client, erasure)]
    for name, key in (("datasets", "_id"), ("views", "_dataset_id"), ("workspaces", "_dataset_id")):
        registered = client["fiftyone"][name]
        for document in list(registered.find({key: {"$in": own}})):
            if _hits(document, traces):
                registered.replace_one({"_id": document["_id"]}, _without(document, traces))


def _own_datasets(client: Any, erasure: Erasure) -> list[Mapping[str, Any]]:  # noqa: ANN401 - as above
    """Return FiftyOne's documents of the datasets that curate made for these names."""
    names = [dataset_name(name) for name in erasure.datasets]
    wanted = [*names, *(f"{name}.unfinished" for name in names)]
    found = client["fiftyone"]["datasets"].find({"name": {"$in": wanted}})
    return [document for document in found if MARK in (document.get("info") or {})]


def _own_collections(client: Any, erasure: Erasure) -> set[tuple[str, str]]:  # noqa: ANN401 - as above
    """Return (database, collection) of the samples, frames and baselines of the datasets that curate made."""
    found = set()
    for document in _own_datasets(client, erasure):
        held = [document.get("sample_collection_name"), document.get("frame_collection_name")]
        held.append(f"curate.baselines.{document['_id']}")
        found |= {("fiftyone", name) for name in held if name}
    return found & set(_collections(client))


def _collections(client: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - as above
    for database in client.list_database_names():
        if database not in _SYSTEM:
            for name in client[database].list_collection_names(filter={"type": "collection"}):
                yield database, name


def _is_data(database: str, collection: str) -> bool:
    return database != "fiftyone" or collection.startswith(("samples.", "frames."))


def _client(root: Path) -> Any:  # noqa: ANN401 - as above
    import pymongo  # noqa: PLC0415 - only where a database is used

    given = fiftyone_session.given_uri()
    uri = given or mongod.start_embedded(root.expanduser().resolve() / "mongo").uri
    return pymongo.MongoClient(uri, serverSelectionTimeoutMS=10_000)


def _hits(value: Any, traces: Traces) -> bool:  # noqa: ANN401 - any BSON value
    if isinstance(value, Mapping):
        return any(_hits(inner, traces) for inner in value.values())
    if isinstance(value, list | tuple):
        return any(_hits(inner, traces) for inner in value)
    return type(value).__name__ in {"str", "ObjectId"} and traces.hits(str(value))


def _without(value: Any, traces: Traces) -> Any:  # noqa: ANN401 - any BSON value
    """Return a document without the values that name something erased."""
    if isinstance(value, Mapping):
        return {key: _without(inner, traces) for key, inner in value.items() if not _names(inner, traces)}
    if isinstance(value, list | tuple):
        return [_without(inner, traces) for inner in value if not _names(inner, traces)]
    return value


def _names(value: Any, traces: Traces) -> bool:  # noqa: ANN401 - any BSON value
    return not isinstance(value, Mapping | list | tuple) and _hits(value, traces)
