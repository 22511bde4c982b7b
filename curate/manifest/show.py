"""One version at a glance, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from curate.manifest import log
from curate.manifest.log import LogEntry
from curate.manifest.place import Place
from curate.manifest.read import load_named_manifest
from curate.manifest.signatures import n_signatures
from curate.manifest.used import read_uses
from curate.manifest.verify_files import missing_or_cut

SHORT_ID = 7


def show(root: Place, reference: str, *, lineage: bool = False) -> dict[str, Any]:
    """Return what a version is, as JSON values: counts, gates, files, tags, parents, uses, whether it is retracted.

    Files that are missing or cut off are named; nothing is hashed but the manifest.

    Args:
        root: where releases are.
        reference: NAME, NAME@ID, NAME@vN or NAME@TAG.
        lineage: also every version that it came from, the nearest first, and those that came from it.

    Raises:
        ConfigError: no such version.
        VerificationError: its manifest is not what the ID promises, or the log cannot be read.
    """
    path = log.resolve(root, reference)
    name = reference.partition("@")[0]
    entries = log.read_log(root, name)
    manifest = load_named_manifest(path)
    published = log.publications(entries)[path.name]
    head = log.latest(entries)
    gone = log.retractions(entries).get(path.name)
    shown: dict[str, Any] = {
        "name": name,
        "version": published.number,
        "id": path.name,
        "path": str(path),
        "published": {"at": published.at, "host": published.host},
        "is_latest": head is not None and head.id == path.name,
        "retracted": {"at": gone.at, "why": gone.why} if gone else None,
        "tags": sorted(word for word, version_id in log.tags(entries).items() if version_id == path.name),
        "gates": manifest["gates"],
        "counts": manifest["counts"],
        "classes": manifest["classes"],
        "soft": manifest["soft"],
        "soft_masks": manifest.get("soft_masks"),
        "tables": {kind: table["rows"] for kind, table in manifest["tables"].items()},
        "n_files": len(manifest["files"]),
        "n_bytes": sum(entry["bytes"] for entry in manifest["files"]),
        "damage": missing_or_cut(path, manifest),
        "inputs": manifest["inputs"],
        "made_with": manifest["versions"],
        "n_signatures": n_signatures(path),
        "uses": [asdict(use) for use in read_uses(root, name, path.name)],
        "parents": list(published.parents),
        "history": [_event(entry) for entry in entries if entry.id == path.name],
    }
    if lineage:
        shown["lineage"] = {
            "ancestors": [_version(entry) for entry in ancestors(entries, path.name)],
            "children": [_version(e) for e in log.publications(entries).values() if path.name in e.parents],
        }
    return shown


def ancestors(entries: Sequence[LogEntry], version_id: str) -> list[LogEntry]:
    """Return the publications that a version came from, its parent first, each once.

    A parent is the version that was the latest when another was published.
    """
    published = log.publications(entries)
    found: dict[str, LogEntry] = {}
    waiting = list(published[version_id].parents)
    while waiting:
        parent = waiting.pop(0)
        if parent in found or parent == version_id or parent not in published:
            continue
        found[parent] = published[parent]
        waiting += published[parent].parents
    return list(found.values())


def show_lines(shown: Mapping[str, Any]) -> list[str]:
    """Return it for people."""
    counts, soft = shown["counts"], shown["soft"]
    state = "RETRACTED" if shown["retracted"] else "latest" if shown["is_latest"] else "not the latest"
    actions = ", ".join(f"{n:,} {action}" for action, n in counts["by_action"].items() if n)
    told = [
        f"{shown['name']} v{shown['version']} ({shown['id'][:SHORT_ID]}), {state}",
        *([f"  retracted   {shown['retracted']['at']}: {shown['retracted']['why']}"] if shown["retracted"] else []),
        f"  published   {shown['published']['at']} by {shown['published']['host']}",
        f"  rows        {counts['n_released']:,} released of {counts['n_in']:,}; {counts['n_excluded']:,} stay behind",
        f"  verdicts    {actions}",
        f"  classes     {len(shown['classes'])}",
        f"  soft labels {'none' if soft is None else _soft_line(soft)}",
        *([f"  class maps  {_maps_line(shown)}"] if shown["soft_masks"] else []),
        f"  gates       {shown['gates']}",
        f"  files       {shown['n_files']}, {shown['n_bytes']:,} bytes → {shown['path']}",
        *(f"  DAMAGED     {damage}" for damage in shown["damage"]),
        f"  tags        {', '.join(shown['tags']) or 'none'}",
        f"  signatures  {shown['n_signatures'] or 'UNSIGNED'}",
        f"  parents     {', '.join(parent[:SHORT_ID] for parent in shown['parents']) or 'none'}",
        f"  used by     {', '.join(use['by'] for use in shown['uses']) or 'nobody said'}",
    ]
    if "lineage" in shown:
        told += [f"  came from   {_version_line(version)}" for version in shown["lineage"]["ancestors"]]
        told += [f"  led to      {_version_line(version)}" for version in shown["lineage"]["children"]]
    later = [event for event in shown["history"] if event["kind"] != "publish"]
    return [*told, *(f"  then        {_event_line(event)}" for event in later)]


def _soft_line(soft: Mapping[str, Any]) -> str:
    teachers = ", ".join(sorted(soft.get("weights") or {}))
    return f"{soft['kind']} of {teachers or 'teachers'} at temperature {soft['temperature']}"


def _maps_line(shown: Mapping[str, Any]) -> str:
    maps = shown["soft_masks"]
    teachers = ", ".join(name for name, weight in sorted(maps["weights"].items()) if float(weight) > 0)
    size = f"{maps['longest_cells']} cells on the longer side"
    return f"{shown['tables']['soft_masks']:,} images, {size}, of {teachers} at temperature {maps['temperature']}"


def _version(entry: LogEntry) -> dict[str, Any]:
    rows = {key: entry.counts.get(key) for key in ("n_released", "n_excluded")}
    return {"version": entry.number, "id": entry.id, "at": entry.at, "gates": entry.gates, **rows}


def _version_line(version: Mapping[str, Any]) -> str:
    n_rows = "?" if version["n_released"] is None else f"{version['n_released']:,}"
    return f"v{version['version']} ({version['id'][:SHORT_ID]}) {version['at']}, {n_rows} rows, gates {version['gates']}"


def _event(entry: LogEntry) -> dict[str, Any]:
    given = {key: value for key, value in (("why", entry.why), ("tag", entry.tag)) if value}
    return {"number": entry.number, "kind": entry.kind, "at": entry.at, "host": entry.host, **given, **entry.more}


def _event_line(event: Mapping[str, Any]) -> str:
    word = f" {event['tag']}" if event.get("tag") else ""
    why = f": {event['why']}" if event.get("why") else ""
    return f"{event['kind']}{word} {event['at']} by {event['host']}{why}"
