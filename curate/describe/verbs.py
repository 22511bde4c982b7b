"""`curate describe`: a folder that describes a version and holds its files, so that it can be published as it is."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from curate import schema
from curate.adapters.object_store import StorePath
from curate.describe.card import card
from curate.describe.croissant import croissant
from curate.describe.datasheet import datasheet
from curate.describe.facts import UNKNOWN, Facts, gather
from curate.describe.lineage import events
from curate.describe.strict import problems
from curate.errors import ConfigError, StageError
from curate.export.folder import refuse_foreign, written_beside
from curate.export.record import MARKER, record_export
from curate.manifest import log
from curate.manifest.place import Place
from curate.manifest.store import MANIFEST
from curate.manifest.verify import file_promises, require

PAGES = ("croissant.json", "README.md", "DATASHEET.md", "openlineage.jsonl")


def describe_version(
    workspace: Path, reference: str, *, out: Path, files: str = "link", root: Place | None = None
) -> dict[str, Any]:
    """Write the descriptions of a version to the folder `out`, with its files beside them; return what was written.

    `out` appears whole or not at all; an earlier description there is replaced, anything else is not.

    Args:
        workspace: where it is written down what was described.
        reference: NAME, NAME@ID or NAME@vN.
        out: the folder to write.
        files: link (hard links where the file system allows it, else copies), copy, or none.
        root: where releases are, a folder or a place in an object store; None = the workspace's own.

    Raises:
        ConfigError: no such version, or `out` holds something else.
        StageError: the description breaks its own rules; nothing is written.
        VerificationError: the version is not what was published; nothing is written.
    """
    if files not in {"link", "copy", "none"}:
        raise ConfigError(f"--files must be link, copy or none; given: {files}.")
    version = log.resolve(root or workspace / "manifests", reference)
    refuse_foreign(out)
    require(file_promises(version), version)
    facts = gather(version)
    described = croissant(facts)
    wrong = problems(described)
    if wrong:
        raise StageError("The description is not what it should be; nothing was written:\n  " + "\n  ".join(wrong))
    with written_beside(out) as beside:
        _write_pages(beside, facts, described)
        if files != "none":
            for relative in [MANIFEST, *(entry["path"] for entry in facts.manifest["files"])]:
                _place(version / relative, beside / relative, link=files == "link")
        validated = _validate(beside / PAGES[0]) if files != "none" else "not checked: it needs the files beside it"
    name = reference.partition("@")[0]
    if files != "none":
        record_export(workspace, name, version=facts.id, kind="describe", out=out)
    return {
        "version": facts.id,
        "out": str(out),
        "files": [*PAGES],
        "mlcroissant": validated,
        "unknown": [key for key, value in described.items() if value in (UNKNOWN, [UNKNOWN])],
    }


def describe_lines(result: Mapping[str, Any]) -> list[str]:
    """Return what was written, for people."""
    told = [f"{', '.join(result['files'])} → {result['out']}", f"  mlcroissant: {result['mlcroissant']}"]
    if result["unknown"]:
        told.append(f"  unknown, since nobody said (about: in the spec): {', '.join(result['unknown'])}")
    return told


def _write_pages(folder: Path, facts: Facts, described: Mapping[str, Any]) -> None:
    marker = {"format": "describe", "version": facts.id}
    lines = [schema.canonical_json(event) + "\n" for event in events(facts)] if facts.at else []
    pages = {
        "croissant.json": json.dumps(described, indent=1, ensure_ascii=False) + "\n",
        "README.md": card(facts),
        "DATASHEET.md": datasheet(facts),
        "openlineage.jsonl": "".join(lines),
        MARKER: json.dumps(marker, indent=1) + "\n",
    }
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")


def _validate(file: Path) -> str:
    """Return what mlcroissant says of a description.

    Raises:
        StageError: it refuses it.
    """
    if find_spec("mlcroissant") is None:
        return "not checked: pip install 'curate[describe]'"
    import mlcroissant  # noqa: PLC0415 - takes seconds to import, and is an extra

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # between mlcroissant and rdflib
            found = mlcroissant.Dataset(jsonld=file).metadata.issues.warnings
    except (mlcroissant.ValidationError, ValueError) as error:
        raise StageError(f"mlcroissant refuses the description; nothing was written: {error}") from error
    return "valid" if not found else f"valid; it warns: {'; '.join(sorted(found))}"


def _place(source: Place, target: Path, *, link: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, StorePath):
        with target.open("wb") as file:
            file.writelines(source.chunks())
    elif link:
        try:
            target.hardlink_to(source)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(source, target)
    else:
        shutil.copyfile(source, target)
