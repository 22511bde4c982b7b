"""A version read back: its manifest and its tables, from the listed files only."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from curate import schema
from curate.errors import InputError, NewerVersionError, VerificationError
from curate.manifest.place import Place, parquet_file, place_of, resolved
from curate.manifest.soft_masks import GROUP_ROWS
from curate.manifest.store import FORMAT, FORMAT_VERSION, MANIFEST, canonical_manifest
from curate.manifest.stream import RowStream

STREAMED = {"soft_masks": GROUP_ROWS}  # table -> rows that are read at once: it may be larger than memory

NEWER = "was written by a newer curate"
_LISTED = re.compile(
    r"(?:(?:data|soft|soft_boxes|soft_masks|ignore|excluded|findings|decisions)/part-\d{5}\.parquet"
    r"|evidence/[A-Za-z0-9][\w.-]*\.json)"
)


@dataclass(frozen=True, slots=True)
class LoadedRelease:
    """The tables of a version; see `build.Release` for what they hold."""

    id: str
    path: Place
    manifest: Mapping[str, Any]
    data: pa.Table
    soft: pa.Table | None
    soft_boxes: pa.Table | None
    soft_masks: RowStream | None
    ignore: pa.Table | None
    excluded: pa.Table
    findings: pa.Table
    decisions: pa.Table
    evidence: Mapping[str, Any]


def load_release(
    version: str | Place, columns: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> LoadedRelease:
    """Return the tables of a version; hashes are not checked (`verify` does that), the manifest is.

    Args:
        version: where it is.
        columns: table -> the columns to read; none of a table: it is left out. A table that is not named is read whole.

    Raises:
        InputError: there is no version at this path.
        VerificationError: the manifest cannot be read, or a listed file is missing or broken.
    """
    version = place_of(version)
    manifest, version_id = load_manifest(version)
    evidence = {}
    for entry in manifest["files"]:
        if entry["path"].startswith("evidence/"):
            name = entry["path"].removeprefix("evidence/").removesuffix(".json")
            evidence[name] = load_evidence(version, name)
    tables = {
        kind: load_table(version, manifest, kind, columns.get(kind))
        for kind in manifest["tables"]
        if kind not in STREAMED and list(columns.get(kind, ("all",)))
    }
    return LoadedRelease(
        id=version_id,
        path=version,
        manifest=manifest,
        data=tables["data"],
        soft=tables.get("soft"),
        soft_boxes=tables.get("soft_boxes"),
        soft_masks=stream_table(version, manifest, "soft_masks") if "soft_masks" in manifest["tables"] else None,
        ignore=tables.get("ignore"),
        excluded=tables["excluded"],
        findings=tables["findings"],
        decisions=tables["decisions"],
        evidence=evidence,
    )


def load_manifest(version: Place) -> tuple[Mapping[str, Any], str]:
    """Return the manifest and the ID that its bytes have.

    Raises:
        InputError: there is no folder.
        NewerVersionError: a newer curate wrote it.
        VerificationError: no manifest.json, or one that curate did not write or cannot read.
    """
    if not version.is_dir():
        msg = f"A version is a folder with a {MANIFEST}; there is no folder {version}."
        raise InputError(msg)
    path = version / MANIFEST
    if (isinstance(path, Path) and path.is_symlink()) or not path.is_file():
        msg = f"{path} is missing, so this is no published version. Publish it again from its run."
        raise VerificationError(msg)
    content = path.read_bytes()
    try:
        manifest = json.loads(content)
        _refuse_strange(manifest)
        if canonical_manifest(manifest) != content:
            raise ValueError("its bytes are not the canonical form")  # noqa: TRY301 - joins the others below
    except NewerVersionError as error:
        msg = f"{path} {NEWER}: {error}. Install that or a later one: pip install -U curate."
        raise NewerVersionError(msg) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        msg = f"{path} is not a manifest that curate wrote: {error}. Restore the version from a copy."
        raise VerificationError(msg) from error
    return manifest, hashlib.sha256(content).hexdigest()


def load_named_manifest(version: Place) -> Mapping[str, Any]:
    """Return the manifest of a version whose folder is called as the manifest hashes; the files are not read.

    Raises:
        InputError: there is no folder.
        VerificationError: no manifest, or another one than the ID promises.
    """
    manifest, version_id = load_manifest(version)
    named = resolved(version).name
    if named != version_id:
        msg = (
            f"{version / MANIFEST} is not what its ID promises: it hashes to {version_id}, its folder is {named}. "
            f"Somebody changed it; restore the version from a copy."
        )
        raise VerificationError(msg)
    return manifest


def load_table(
    version: Place, manifest: Mapping[str, Any], kind: str, columns: Sequence[str] | None = None
) -> pa.Table:
    """Return a table of a version, its parts in order.

    Raises:
        VerificationError: a part is missing or cannot be read.
    """
    parts = []
    for relative in parts_of(version, manifest, kind):
        try:
            parts.append(parquet_file(version / relative).read(columns=list(columns) if columns else None))
        except (OSError, pa.ArrowException) as error:
            raise unreadable(version / relative, error) from error
    return pa.concat_tables(parts)


def parts_of(version: Place, manifest: Mapping[str, Any], kind: str) -> list[str]:
    """Return the paths of a table's parts in order.

    Raises:
        VerificationError: there is none.
    """
    paths = sorted(entry["path"] for entry in manifest["files"] if entry["path"].startswith(f"{kind}/"))
    if not paths:
        msg = f"{version} lists no part of {kind}/, though its manifest describes that table."
        raise VerificationError(msg)
    return paths


def unreadable(part: Place, error: Exception) -> VerificationError:
    """Return the error for a part that is listed and cannot be read."""
    return VerificationError(f"{part} is listed in the manifest and cannot be read: {error}. Run curate verify.")


def stream_table(version: Place, manifest: Mapping[str, Any], kind: str) -> RowStream:
    """Return a table of a version that is read batch by batch, each time anew.

    Raises:
        VerificationError: the first part is missing or cannot be read; later ones when they are read.
    """
    parts = [version / path for path in parts_of(version, manifest, kind)]

    def batches() -> Iterator[pa.RecordBatch]:
        for part in parts:
            try:
                yield from parquet_file(part).iter_batches(batch_size=STREAMED[kind])
            except (OSError, pa.ArrowException) as error:
                raise unreadable(part, error) from error

    try:
        columns = parquet_file(parts[0]).schema_arrow.remove_metadata()
    except (OSError, pa.ArrowException) as error:
        raise unreadable(parts[0], error) from error
    return RowStream(columns, batches)


def load_evidence(version: Place, name: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return what evidence/NAME.json holds.

    Raises:
        VerificationError: the file is missing or no JSON.
    """
    path = version / "evidence" / f"{name}.json"
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        msg = f"{path} cannot be read: {error}. Run curate verify."
        raise VerificationError(msg) from error


def _refuse_strange(manifest: Mapping[str, Any]) -> None:
    if manifest["format"] != FORMAT:
        raise ValueError(f"its format is {manifest['format']!r}, not {FORMAT!r}")
    for key, known in (("format_version", FORMAT_VERSION), ("schema_version", schema.SCHEMA_VERSION)):
        if manifest[key] > known:
            msg = f"its {key} is {manifest[key]}, this curate reads up to {known}"
            raise NewerVersionError(msg)
    paths = [entry["path"] for entry in manifest["files"]]
    strange = [path for path in paths if not _LISTED.fullmatch(path)]
    if strange or len(set(paths)) != len(paths):
        raise ValueError(f"it lists files that a version does not have: {(strange or paths)[:3]}")
    for entry in manifest["files"]:
        if not isinstance(entry["bytes"], int) or not re.fullmatch(r"[0-9a-f]{64}", entry["sha256"]):
            raise ValueError(f"its entry of {entry['path']} has no size or sha256")
    missing = {"data", "excluded", "findings", "decisions"} - set(manifest["tables"])
    if missing:
        raise ValueError(f"it describes no table {', '.join(sorted(missing))}")
    absent = {"name", "counts", "classes", "gates", "inputs", "soft"} - set(manifest)
    if absent:
        raise ValueError(f"it lacks {', '.join(sorted(absent))}")
