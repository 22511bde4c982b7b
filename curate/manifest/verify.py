"""Verify: what a version promises, checked one by one; what is not checked or not promised is said to be so."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate import schema
from curate.errors import InputError, VerificationError
from curate.gates import gate_result
from curate.manifest import log
from curate.manifest.read import load_evidence, load_manifest, load_table
from curate.manifest.soft import MADE_FOR, image_keys
from curate.manifest.stale import refuse_other_classes, refuse_other_images, refuse_other_teachers
from curate.manifest.store import MANIFEST, describe, sha256_of
from curate.manifest.tombstone import read_tombstone
from curate.policy import Policy
from curate.verdicts import decide

Progress = Callable[[int, int | None], None]

NOT_PROMISED = (
    "that released labels are true, that the data is free of bias, that there is a lawful basis to use it"
)
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Promise:
    """A promise of a version and whether it is kept; `ok` None = not checked, or not promised."""

    name: str
    ok: bool | None
    detail: str


def verify(version: str | Path, *, progress: Progress | None = None) -> list[Promise]:
    """Return every promise of the version at this path with what was found; see `require` for the exception.

    Checked: manifest.json can be read; the folder's name is its sha256; every listed file is there with its bytes
    and sha256, and nothing unlisted is; tables have the rows and columns described; counts add up; soft labels lie
    beside the rows they are about; verdicts and gates recompute from what is stored; parents are there.

    Args:
        version: folder of the version, `…/NAME/versions/ID`.
        progress: called with (bytes hashed, bytes in all).

    Raises:
        InputError: there is no folder at this path.
    """
    version = Path(version)
    promises = file_promises(version, progress=progress)
    if any(promise.ok is False for promise in promises):
        why = "not checked: the files are not what was published"
        promises += [Promise(name, None, why) for name in _BY_MEANING]
    else:
        manifest, _ = load_manifest(version)
        promises += [_kept(name, check, version, manifest) for name, check in _BY_MEANING.items()]
    promises.append(_parents(version))
    promises.append(Promise("signature", None, "UNSIGNED: nobody vouches for this version with a key"))
    promises.append(Promise("not promised", None, NOT_PROMISED))
    return promises


def require(promises: list[Promise], version: str | Path) -> None:
    """Raise a VerificationError that names each broken promise; return if there is none."""
    broken = [promise for promise in promises if promise.ok is False]
    if broken:
        lines = "\n".join(f"  {promise.name}: {promise.detail}" for promise in broken)
        msg = f"{version} is not what was published:\n{lines}\nRestore it from a copy, or publish it again."
        raise VerificationError(msg)


def file_promises(version: Path, *, progress: Progress | None = None) -> list[Promise]:
    """Return the promises that are about bytes: manifest, id, files, nothing unlisted.

    Raises:
        InputError: there is no folder at this path.
    """
    try:
        manifest, version_id = load_manifest(version)
    except VerificationError as error:
        return [Promise("manifest", ok=False, detail=str(error))]
    listed = {entry["path"]: entry for entry in manifest["files"]}
    present, odd = _walk(version)
    unlisted = sorted(odd | (present - set(listed) - {MANIFEST}))
    damage = _damage(version, listed, progress)
    n_bytes = sum(entry["bytes"] for entry in listed.values())
    named = version.resolve().name
    return [
        Promise(
            "manifest", ok=True, detail=f"format {manifest['format_version']}, schema {manifest['schema_version']}"
        ),
        _promise(
            "id",
            [] if named == version_id else [f"the folder says {named}, {MANIFEST} hashes to {version_id}"],
            f"is the sha256 of {MANIFEST}",
        ),
        _promise("files", damage, f"{len(listed)} files, {n_bytes} bytes, each with its sha256"),
        _promise("nothing unlisted", unlisted, "no other file, folder or link"),
    ]


def _walk(version: Path) -> tuple[set[str], set[str]]:
    """Return the plain files of a version, and what should not be there whatever the manifest lists."""
    files: set[str] = set()
    odd: set[str] = set()
    folders = [version]
    while folders:
        folder = folders.pop()
        n_inside = 0
        with os.scandir(folder) as entries:
            for entry in entries:
                n_inside += 1
                relative = Path(entry.path).relative_to(version).as_posix()
                if entry.is_symlink():
                    odd.add(f"{relative} (a link)")
                elif entry.is_dir():
                    folders.append(Path(entry.path))
                elif entry.is_file():
                    files.add(relative)
                else:
                    odd.add(f"{relative} (no plain file)")
        if not n_inside:
            odd.add(f"{folder.relative_to(version).as_posix()}/ (an empty folder)")
    return files, odd


def _damage(version: Path, listed: Mapping[str, Mapping[str, Any]], progress: Progress | None) -> list[str]:
    n_all = sum(entry["bytes"] for entry in listed.values())
    n_done = 0
    found = []
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        for entry, damage in zip(
            listed.values(), pool.map(lambda entry: _file_damage(version, entry), listed.values()), strict=True
        ):
            n_done += entry["bytes"]
            found += [damage] if damage else []
            if progress:
                progress(n_done, n_all)
    return found


def _file_damage(version: Path, entry: Mapping[str, Any]) -> str | None:
    path = version / entry["path"]
    if path.is_symlink() or path.parent.is_symlink():
        return f"{entry['path']} is a link"
    try:
        n_bytes = path.stat().st_size
        if n_bytes != entry["bytes"]:
            return f"{entry['path']} has {n_bytes} bytes, listed are {entry['bytes']}"
        if sha256_of(path) != entry["sha256"]:
            return f"{entry['path']} was changed: its sha256 is not the listed one"
    except FileNotFoundError:
        return f"{entry['path']} is missing"
    except OSError as error:
        return f"{entry['path']} cannot be read: {error.strerror}"
    return None


def _rows(version: Path, manifest: Mapping[str, Any]) -> tuple[list[str], str]:
    wrong = []
    n_rows = dict.fromkeys(manifest["tables"], 0)
    for entry in manifest["files"]:
        kind = entry["path"].partition("/")[0]
        if kind not in n_rows:
            continue
        file = pq.ParquetFile(version / entry["path"])
        n_rows[kind] += file.metadata.num_rows
        if file.metadata.num_rows != entry["rows"]:
            wrong.append(f"{entry['path']} has {file.metadata.num_rows} rows, listed are {entry['rows']}")
        if describe(file.schema_arrow.empty_table())["columns"] != manifest["tables"][kind]["columns"]:
            wrong.append(f"{entry['path']} has other columns than described")
    wrong += [
        f"{kind}/ has {n} rows, described are {manifest['tables'][kind]['rows']}"
        for kind, n in n_rows.items()
        if n != manifest["tables"][kind]["rows"]
    ]
    return wrong, ", ".join(f"{kind} {n}" for kind, n in n_rows.items())


def _counts(version: Path, manifest: Mapping[str, Any]) -> tuple[list[str], str]:
    counts = manifest["counts"]
    data = load_table(version, manifest, "data", ["sample_id", "label_id", "action"])
    n_excluded = manifest["tables"]["excluded"]["rows"]
    wrong = []
    if (counts["n_released"], counts["n_excluded"]) != (data.num_rows, n_excluded):
        wrong.append(f"data and excluded have {data.num_rows} and {n_excluded} rows, counted were {counts}")
    if counts["n_in"] != data.num_rows + n_excluded:
        wrong.append(f"{counts['n_in']} rows came in, {data.num_rows} + {n_excluded} are here")
    if pc.any(pc.equal(data["action"], "drop")).as_py():
        wrong.append("data/ holds rows with the action drop")
    keys = pc.coalesce(data["label_id"], data["sample_id"])
    if pc.count_distinct(keys).as_py() != data.num_rows:
        wrong.append("data/ holds a row twice")
    return wrong, f"{counts['n_in']} in = {counts['n_released']} released + {counts['n_excluded']} excluded"


def _soft(version: Path, manifest: Mapping[str, Any]) -> tuple[list[str], str]:
    if "soft" not in manifest["tables"]:
        return [], "none in this version"
    ids = ["sample_id", "label_id"]
    soft = load_table(version, manifest, "soft", [*ids, MADE_FOR.name]).combine_chunks()
    data = load_table(version, manifest, "data", [*ids, "uri", "content_sha256"]).combine_chunks()
    told = manifest["soft"]
    detail = f"{told['layout']}, beside data/ row by row, temperature {told['temperature']}; none is stale"
    if soft.num_rows != data.num_rows or not all(soft[name].equals(data[name]) for name in ids):
        return ["the rows of soft/ are not those of data/"], detail
    try:
        if MADE_FOR.name in soft.column_names:
            refuse_other_images(data, soft[MADE_FOR.name], image_keys(data["content_sha256"]))
        _refuse_other_words(version, manifest)
    except InputError as error:
        return [str(error)], detail
    return [], detail


def _refuse_other_words(version: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse soft files that name other classes or another temperature, and teachers that are not those of the cards."""
    for entry in manifest["files"]:
        if entry["path"].startswith("soft/"):
            words = pq.ParquetFile(version / entry["path"]).schema_arrow.metadata or {}
            refuse_other_classes(json.loads(words.get(b"classes", b"[]")), manifest["classes"])
            if words.get(b"temperature", b"").decode() != manifest["soft"]["temperature"]:
                raise InputError(f"{entry['path']} has another temperature than the manifest")
    cards = {card["name"]: card for card in load_evidence(version, "teachers") if "name" in card}
    refuse_other_teachers(manifest["soft"].get("teachers", {}), cards)


def _verdicts(version: Path, manifest: Mapping[str, Any]) -> tuple[list[str], str]:
    """Recompute every verdict and compare it with the stored one."""
    names = ["sample_id", "label_id", "given_label", "content_sha256"]
    verdict = schema.VERDICTS.names
    columns = [*names, *(name for name in verdict if name not in names)]
    data = load_table(version, manifest, "data", columns)
    excluded = load_table(version, manifest, "excluded", [*columns, "error_code", "stage"])
    excluded = excluded.filter(pc.equal(excluded["stage"], "verdict")).drop_columns(["stage"])
    data = data.append_column("error_code", pa.nulls(data.num_rows, pa.string()))
    rows = pa.concat_tables(
        [t.select([*columns, "error_code"]) for t in (data, excluded)], promote_options="permissive"
    )
    rows = rows.sort_by([("sample_id", "ascending"), ("label_id", "ascending")]).combine_chunks()
    labels = rows.filter(pc.is_valid(rows["label_id"])).rename_columns({"given_label": "label"})
    first = rows.group_by("sample_id", use_threads=False).aggregate(
        [("content_sha256", "first"), ("error_code", "first")]
    )
    samples = first.rename_columns(["sample_id", "content_sha256", "error_code"])
    policy = Policy.model_validate(load_evidence(version, "policy"))
    findings, decisions = (load_table(version, manifest, kind) for kind in ("findings", "decisions"))
    again = decide(samples, labels, findings, policy, decisions)
    different = [name for name in verdict if not again[name].combine_chunks().equals(rows[name].combine_chunks())]
    wrong = (
        [f"recomputed from findings, policy and decisions they differ in: {', '.join(different)}"]
        if different
        else []
    )
    return wrong, f"{rows.num_rows} recomputed from findings, policy and decisions"


def _gates(version: Path, manifest: Mapping[str, Any]) -> tuple[list[str], str]:
    """Judge the stored statistics again by the stored policy."""
    numbers = ("value", "low", "high", "threshold")
    rows = [
        {key: float(value) if key in numbers and value is not None else value for key, value in row.items()}
        for row in load_evidence(version, "statistics")
    ]
    policy = Policy.model_validate(load_evidence(version, "policy"))
    again = gate_result(schema.table_from_rows(rows, schema.STATISTICS), policy.all_gates()).outcome
    said = manifest["gates"]
    wrong = [] if again == said else [f"the manifest says {said}, statistics and policy say {again}"]
    return wrong, f"{said}; judged again from statistics and policy"


_BY_MEANING: Mapping[str, Callable[[Path, Mapping[str, Any]], tuple[list[str], str]]] = {
    "rows": _rows,
    "counts": _counts,
    "soft labels": _soft,
    "verdicts": _verdicts,
    "gates": _gates,
}


def _parents(version: Path) -> Promise:
    version = version.resolve()
    base = version.parent.parent
    try:
        entries = [entry for entry in log.read_log(base.parent, base.name) if entry.id == version.name]
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the log is what this promise is about
        return Promise("parents", ok=False, detail=str(error))
    if not entries:
        return Promise("parents", None, "not checked: no log beside this folder names the version")
    parents = sorted({parent for entry in entries for parent in entry.parents})
    lost = [parent for parent in parents if not (version.parent / parent / MANIFEST).is_file()]
    try:
        erased = [parent for parent in parents if read_tombstone(base, parent) is not None]
    except VerificationError as error:
        return Promise("parents", ok=False, detail=str(error))
    missing = [f"{parent} is not there" for parent in lost if parent not in erased]
    told = f"{len(parents) - len(erased)} parents are there"
    return _promise("parents", missing, f"{told}, {len(erased)} tombstoned (erased on request)" if erased else told)


def _kept(
    name: str,
    check: Callable[[Path, Mapping[str, Any]], tuple[list[str], str]],
    version: Path,
    manifest: Mapping[str, Any],
) -> Promise:
    try:
        wrong, detail = check(version, manifest)
    except (VerificationError, InputError, OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        return Promise(name, ok=False, detail=f"cannot be checked: {error}")
    return _promise(name, wrong, detail)


def _promise(name: str, wrong: list[str], detail: str) -> Promise:
    if not wrong:
        return Promise(name, ok=True, detail=detail)
    more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return Promise(name, ok=False, detail="; ".join(wrong[:_SHOWN]) + more)
