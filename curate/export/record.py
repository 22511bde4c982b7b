"""What was exported from a workspace and where to: an erasure names the exports that it cannot reach."""

from __future__ import annotations

import json
from pathlib import Path

from curate.runs import write_text

MARKER = "curate-export.json"  # in every export; a folder without one is never replaced


def exports_file(root: Path, name: str) -> Path:
    """Return where exports of a dataset are written down."""
    return root / name / "exports.json"


def read_exports(root: Path, name: str) -> list[dict[str, str]]:
    """Return version, format and folder of each export of a dataset, one a folder."""
    try:
        content: list[dict[str, str]] = json.loads(exports_file(root, name).read_bytes())
    except (OSError, ValueError):
        return []
    return content


def record_export(root: Path, name: str, *, version: str, kind: str, out: Path) -> None:
    """Write down that a version was exported; an earlier export to the same folder is replaced, as the folder was."""
    folder = str(out.absolute())
    kept = [one for one in read_exports(root, name) if one["out"] != folder]
    new = {"version": version, "format": kind, "out": folder}
    write_text(exports_file(root, name), json.dumps([*kept, new], indent=1, ensure_ascii=False) + "\n")
