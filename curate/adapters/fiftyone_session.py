"""Which database this process's FiftyOne talks to.

FiftyOne holds one lazy, global connection per process and caches datasets by name. A second workspace in the
same process therefore has to drop both, or it would show the datasets of the first.
"""

from __future__ import annotations

import os
import sys

from curate.errors import StageError

URI = "FIFTYONE_DATABASE_URI"
_OURS = "CURATE_EMBEDDED_URI"  # inherited by child processes: tells our own setting from the user's

_QUIET = {
    "FIFTYONE_DATABASE_VALIDATION": "false",  # the bundled mongod 6.0 is older than what FiftyOne asks for
    "FIFTYONE_DO_NOT_TRACK": "1",
    "FIFTYONE_SHOW_PROGRESS_BARS": "false",
    "FIFTYONE_LOGGING_LEVEL": "WARNING",  # it logs to stdout, which belongs to the caller
}


def given_uri() -> str | None:
    """Return the MongoDB that the user named, or None if there is none or curate itself set it."""
    uri = os.environ.get(URI)
    return uri if uri and uri != os.environ.get(_OURS) else None


def use(uri: str, *, embedded: bool) -> None:
    """Set what FiftyOne reads and, where it is loaded already, connect it to `uri`."""
    os.environ[URI] = uri
    if embedded:
        os.environ[_OURS] = uri
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if "fiftyone" in sys.modules:
        _reconnect(uri)


def release(uri: str) -> None:
    """Forget `uri`: called before its mongod stops, so that nothing waits for it at exit."""
    if os.environ.get(_OURS) == uri:
        os.environ.pop(_OURS, None)
        if os.environ.get(URI) == uri:
            os.environ.pop(URI)
    if "fiftyone" in sys.modules:
        import fiftyone as fo  # noqa: PLC0415 - loaded already
        import fiftyone.core.odm.database as connection  # noqa: PLC0415 - loaded already

        if fo.config.database_uri == uri:
            connection._disconnect()  # noqa: SLF001 - FiftyOne has no public way to disconnect
            fo.config.database_uri = None
            _forget()


def _reconnect(uri: str) -> None:
    import fiftyone as fo  # noqa: PLC0415 - loaded already
    import fiftyone.core.odm.database as connection  # noqa: PLC0415 - loaded already

    connected = connection._connection_kwargs.get("host")  # noqa: SLF001 - see `release`
    fo.config.database_validation = False
    fo.config.do_not_track = True
    if fo.config.database_uri == uri and connected in {None, uri}:
        return
    try:
        connection._disconnect()  # noqa: SLF001 - see `release`
        connection._connection_kwargs.clear()  # noqa: SLF001 - holds the former address
        _forget()
    except AttributeError as error:  # pragma: no cover - only with an untested FiftyOne
        msg = (
            f"This process's FiftyOne {fo.__version__} is connected to another workspace's database and cannot be "
            f"moved to {uri}. Use one process per workspace."
        )
        raise StageError(msg) from error
    fo.config.database_uri = uri


def _forget() -> None:
    """Drop what FiftyOne keeps of the former database: datasets by name, and collections of a client that is closed."""
    import fiftyone as fo  # noqa: PLC0415 - loaded already
    from fiftyone.factory import repo_factory  # noqa: PLC0415 - loaded already

    fo.Dataset._instances.clear()  # noqa: SLF001 - see the module's docstring
    repo_factory.RepositoryFactory.repos.clear()  # `Dataset.delete` asks them for its operators' runs
    repo_factory._db = None  # noqa: SLF001 - as above
