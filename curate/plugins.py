"""Entry points of other packages: one that cannot be loaded is a fault of the installation, and is named."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

from curate.errors import ConfigError


class PluginError(ConfigError):
    """An entry point that is declared and cannot be loaded; the cause is chained."""


def load_plugin(entry: EntryPoint) -> Any:  # noqa: ANN401 - whatever the package provides; the caller looks
    """Return what an entry point names.

    Raises:
        PluginError: it cannot be imported; names the entry point, its package and what to do.
    """
    try:
        return entry.load()
    except Exception as error:
        package = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "an unnamed package"
        named = entry.dist.name if entry.dist is not None else "PACKAGE"
        msg = (
            f"The entry point {entry.name!r} in {entry.group} names {entry.value!r} of the package {package}, and that "
            f"cannot be loaded: {type(error).__name__}: {error}. Mend the entry point or what it imports and install "
            f"{named} again, or leave it out: pip uninstall {named}"
        )
        raise PluginError(msg) from error
