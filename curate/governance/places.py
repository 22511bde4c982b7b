"""Where releases of a workspace were published beside its own folder, stores too: all of it that anything names."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.adapters.object_store import StoreError
from curate.config import load_spec
from curate.errors import ConfigError
from curate.manifest.place import Place, names_in, place_of

_VARIABLE = "CURATE_MANIFESTS"


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Places of releases outside WORKSPACE/manifests.

    Attributes:
        folders: that can be read and written, absolute, sorted; and object stores that can be listed.
        out_of_reach: folders that are not there or cannot be written, stores that do not answer or refuse, each with
            who names it; and datasets that a run published and that stand in no place that is known.
        unknown: runs that published and do not say where, and whose spec cannot be read.
    """

    folders: Sequence[Place] = ()
    out_of_reach: Sequence[str] = ()
    unknown: Sequence[str] = ()


def elsewhere(root: Path, given: str | None = None) -> Elsewhere:
    """Return every place of releases that an option, the environment, a run record or a run's spec names.

    Args:
        root: the workspace.
        given: what `--manifests` says.
    """
    named: dict[str, str] = {}
    for place in (given, os.environ.get(_VARIABLE)):
        if place:
            named.setdefault(_absolute(place, Path.cwd()), f"--manifests or {_VARIABLE}")
    unknown: list[str] = []
    in_spec = functools.cache(_in_spec)  # many runs have one spec
    for file in sorted(root.glob("*/runs/*/run.json")):
        for place, who in _named_by(file, root, in_spec, unknown):
            named.setdefault(place, who)
    named.pop(str((root / "manifests").resolve()), None)
    folders = sorted(place for place in named if _is_usable(place))
    far = [f"{place} (named by {named[place]})" for place in sorted(set(named) - set(folders))]
    known = {path.name for top in (root / "manifests", *map(place_of, folders)) for path in releases_in(top)}
    published = {file.parents[2].name for file in root.glob("*/runs/*/run.json") if _published(_read(file))}
    if not far:
        far = [f"a folder that nothing names (a run published {name} there)" for name in sorted(published - known)]
    return Elsewhere(
        folders=tuple(map(place_of, folders)),
        out_of_reach=tuple(far),
        unknown=tuple(unknown),
    )


def releases_in(place: Place) -> list[Place]:
    """Return the releases in a folder or store, sorted: what holds versions, with or without a log."""
    found = [place / name for name in names_in(place) if not name.startswith(".")]
    return [one for one in found if (one / "versions").is_dir()]


def _named_by(
    file: Path, root: Path, in_spec: Callable[[str], str | None], unknown: list[str]
) -> Iterator[tuple[str, str]]:
    """Yield what a run record and the spec of the run name; a folder that is not there only if the run published."""
    record = _read(file)
    published = record.get("state") == "running" or _published(record)
    of_run, spec = record.get("manifests"), record.get("spec")
    of_spec = None
    if spec:
        try:
            of_spec = in_spec(str(spec))
        except ConfigError:
            if published and not of_run:
                unknown.append(f"{file.parent.name} of {file.parents[2].name}")
    if of_run and (published or _is_usable(_absolute(of_run, root))):
        yield _absolute(of_run, root), f"run {file.parent.name}"
    # a record that says where the run published is believed: a spec that was changed since published nothing there
    if of_spec and ("://" in of_spec or _is_usable(of_spec) or (published and not of_run)):
        yield of_spec, str(spec)


def _published(record: Mapping[str, Any]) -> bool:
    return any(stage.get("stage") == "manifest" and "error" not in stage for stage in record.get("stages", ()))


def _in_spec(spec: str) -> str | None:
    loaded = load_spec(spec)
    given = loaded.spec.manifests
    if not given:
        return None
    return given if "://" in given else str(loaded.resolve(given))


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _absolute(place: str, beside: Path) -> str:
    """Return a URL as it is, a folder without links and dots."""
    place = place.removeprefix("file://")
    return place if "://" in place else str((beside / place).resolve())


def _is_usable(place: str) -> bool:
    """Return whether a folder can be written to, or a store be listed: whether it lets itself be written shows later."""
    if "://" not in place:
        return Path(place).is_dir() and os.access(place, os.R_OK | os.W_OK | os.X_OK)
    try:
        names_in(place_of(place))
    except (ConfigError, StoreError):
        return False
    return True
