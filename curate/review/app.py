"""The FiftyOne App on a dataset that curate made."""

from __future__ import annotations

import contextlib
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from curate.adapters.mongod import ensure_database
from curate.errors import ConfigError, did_you_mean
from curate.review import dataset as datasets
from curate.review.views import SUSPECTS

ADDRESS = "127.0.0.1"  # the App asks for no password: it is not for the network
DEFAULT_PORT = 5151


@dataclass(frozen=True, slots=True)
class AppSession:
    """An App that is open.

    Attributes:
        dataset: FiftyOne's name of the dataset.
        view: the saved view that it opens on, None for the whole dataset.
        url: what to open in a browser.
        port: of 127.0.0.1.
        session: FiftyOne's own session.
    """

    dataset: str
    view: str | None
    url: str
    port: int
    session: Any

    def wait(self) -> None:
        """Block until the App's last browser tab is closed, or Ctrl-C; then disconnect."""
        try:
            self.session.wait()
        except KeyboardInterrupt:
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Disconnect; the server ends with this process."""
        self.session.close()


def open_app(
    name: str,
    *,
    workspace: Path,
    port: int | None = None,
    view: str | None = SUSPECTS,
    wait: bool = False,
) -> AppSession:
    """Open the App on dataset `name`; it serves 127.0.0.1 only and opens no browser by itself.

    Args:
        name: the dataset's name.
        workspace: where its database is.
        port: None = 5151, or a free one where that is taken.
        view: a saved view; None = everything.
        wait: whether to block until the browser tab is closed.

    Raises:
        ConfigError: no such dataset or view, or the port is taken.
    """
    chosen = free_port(port)
    ensure_database(workspace)
    dataset = datasets.open_dataset(name)
    if view is not None and view not in dataset.list_saved_views():
        saved = dataset.list_saved_views()
        hint = did_you_mean(view, saved)
        raise ConfigError(f"There is no saved view {view!r}. Views: {', '.join(saved)}. {hint}".rstrip())
    import fiftyone as fo  # noqa: PLC0415 - costs seconds to import

    shown = dataset if view is None else dataset.load_saved_view(view)
    with contextlib.redirect_stdout(sys.stderr):  # it prints while it waits for its server; stdout is the caller's
        session = fo.launch_app(shown, remote=True, address=ADDRESS, port=chosen, auto=False)
    opened = AppSession(dataset.name, view, url_of(dataset, view, chosen), chosen, session)
    if wait:
        opened.wait()
    return opened


def url_of(dataset: Any, view: str | None, port: int) -> str:  # noqa: ANN401 - fiftyone is loaded late
    """Return what to open in a browser for a saved view of a dataset."""
    slug = None if view is None else dataset._get_saved_view_doc(view).slug  # noqa: SLF001 - URLs name views by slug
    query = f"?{urlencode({'view': slug})}" if slug else ""
    return f"http://{ADDRESS}:{port}/datasets/{quote(dataset.name)}{query}"


def free_port(wanted: int | None) -> int:
    """Return a port that nobody listens on: FiftyOne would attach to whatever App is there, of any workspace."""
    if _is_free(wanted or DEFAULT_PORT):
        return wanted or DEFAULT_PORT
    if wanted is not None:
        raise ConfigError(f"Port {wanted} is taken, perhaps by another App. Close it, or name another with --port.")
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except (OSError, OverflowError):
            return False
    return True
