"""curate: labeled images in, a release to distill from and a reason for every row out.

Everything the command line does is one import away and returns values:

    import curate
    run = curate.run("datasets/digits.yaml")
    run.published.path, run.report, run.tables["verdicts"]
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from curate.manifest.diff import diff as diff
    from curate.manifest.read import load_release as load_release
    from curate.manifest.verify import verify as verify
    from curate.pipeline import run as run
    from curate.state import RunResult as RunResult
    from curate.teachers.flag_table import flag_table as flag_table
    from curate.teachers.regions.flag_masks import flag_masks as flag_masks
    from curate.teachers.tracks.flag_tracks import flag_tracks as flag_tracks

_PUBLIC = {
    "run": "curate.pipeline",
    "RunResult": "curate.state",
    "load_spec": "curate.config",
    "write_spec": "curate.init",
    "scan_folder": "curate.scan",
    "flag_table": "curate.teachers.flag_table",
    "flag_masks": "curate.teachers.regions.flag_masks",
    "flag_tracks": "curate.teachers.tracks.flag_tracks",
    "evaluate": "curate.teachers.evaluation",
    "read_log": "curate.manifest.log",
    "resolve": "curate.manifest.log",
    "load_release": "curate.manifest.read",
    "diff": "curate.manifest.diff",
    "verify": "curate.manifest.verify",
    "render_reason": "curate.reasons",
    "plan_erasure": "curate.governance.plan",
    "erase": "curate.governance.erase",
    "resume_erasure": "curate.governance.erase",
    "Check": "curate.check",
}

__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604 - the names below are loaded when they are asked for


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attribute
    """Load a public name when it is first used: `import curate` stays quick."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'curate' has no attribute {name!r}. Public names: {', '.join(_PUBLIC)}")
    attribute = "render" if name == "render_reason" else name
    value = getattr(import_module(_PUBLIC[name]), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
