"""Commands as curate prints them: with the places that the one before was given, so that they run as they stand."""

from __future__ import annotations

import shlex
from pathlib import Path

from curate.runs import default_workspace


def workspace_option(root: Path) -> str:
    """Return ` --workspace ROOT`, quoted for a shell; empty where `root` is the default one here."""
    if Path(root).resolve() == default_workspace().resolve():
        return ""
    return f" --workspace {shlex.quote(shown_path(Path(root)))}"


def manifests_option(manifests: object) -> str:
    """Return ` --manifests PLACE`, quoted for a shell; empty where none was given."""
    return f" --manifests {shlex.quote(str(manifests))}" if manifests else ""


def releases_option(root: object) -> str:
    """Return ` --manifests ROOT`, quoted for a shell; empty where releases are in the default workspace here."""
    if isinstance(root, Path):
        same = root.resolve() == (default_workspace() / "manifests").resolve()
        return "" if same else manifests_option(shown_path(root))
    return manifests_option(root)


def shown_path(path: Path) -> str:
    """Return a path as short as it can be told here: relative where it lies below the current folder."""
    here = Path.cwd().resolve()
    full = path.resolve()
    return str(full.relative_to(here)) if full.is_relative_to(here) and full != here else str(full)
