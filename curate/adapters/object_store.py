"""Places in S3, GCS or Azure that read like paths, so that a version is the same thing on a disk and in a bucket.

Only what releases need: reading, listing, and a put that fails where something is already there. Credentials come
from the environment (`AWS_ACCESS_KEY_ID`, `AWS_REGION`, `AWS_ENDPOINT_URL`, `GOOGLE_APPLICATION_CREDENTIALS`,
`AZURE_STORAGE_ACCOUNT_NAME`, …), never from a spec, an option or a URL.
"""

from __future__ import annotations

import io
import itertools
import posixpath
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from curate.adapters.store_answers import Answer, StoreError, asked, telling
from curate.errors import ConfigError

__all__ = ["SCHEMES", "Found", "StoreError", "StorePath", "open_store"]

SCHEMES = ("s3", "gs", "az")
_RETRY = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}
_CHUNK_BYTES = 8 << 20
_AT_ONCE = 16


class Found(NamedTuple):
    """An object below a place: its path relative to that place, its size and when the store wrote it."""

    path: str
    n_bytes: int
    written: datetime


@dataclass(frozen=True)
class StorePath:
    """A place in an object store: `/`, `name`, `parent` and the readers of `pathlib.Path` that releases use."""

    root: str  # URL of bucket and prefix
    key: str  # below it, '/' between parts; '' = the root itself
    store: Any = field(compare=False, repr=False)  # obstore's

    def __str__(self) -> str:
        return f"{self.root}/{self.key}" if self.key else self.root

    def __truediv__(self, more: str) -> StorePath:
        return StorePath(self.root, posixpath.join(self.key, more), self.store)

    @property
    def name(self) -> str:
        """The last part."""
        return posixpath.basename(self.key)

    @property
    def parent(self) -> StorePath:
        """What this is in."""
        return StorePath(self.root, posixpath.dirname(self.key), self.store)

    def _asked(self, doing: str, call: Callable[[], Answer]) -> Answer:
        return asked(self.root, self, doing, call)

    def is_file(self) -> bool:
        """Whether there is an object."""
        import obstore  # noqa: PLC0415 - only remote releases need it

        try:
            self._asked("look at", lambda: obstore.head(self.store, self.key))
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Whether anything lies below."""
        return next(self.below(), None) is not None

    def read_bytes(self) -> bytes:
        """Return the object."""
        import obstore  # noqa: PLC0415 - as above

        return self._asked("read", lambda: bytes(obstore.get(self.store, self.key).bytes()))

    def chunks(self) -> Iterator[bytes]:
        """Yield the object in pieces; it is never in memory as a whole."""
        import obstore  # noqa: PLC0415 - as above

        answer = self._asked("read", lambda: obstore.get(self.store, self.key))
        with telling(self.root, self, "read"):
            for chunk in answer.stream(min_chunk_size=_CHUNK_BYTES):
                yield bytes(chunk)

    def open(self) -> io.RawIOBase:
        """Return a file that reads ranges, for Parquet."""
        import obstore  # noqa: PLC0415 - as above

        return _Ranges(self, self._asked("read", lambda: int(obstore.head(self.store, self.key)["size"])))

    def below(self) -> Iterator[Found]:
        """Yield every object below this place, by path."""
        import obstore  # noqa: PLC0415 - as above

        prefix = f"{self.key}/" if self.key else ""
        pages = self._asked("list", lambda: _begun(obstore.list(self.store, prefix or None)))
        with telling(self.root, self, "list"):
            for page in pages:
                for item in page:
                    yield Found(item["path"].removeprefix(prefix), item["size"], item["last_modified"])

    def names(self) -> list[str]:
        """Return the names of what lies directly below, folders included, sorted."""
        import obstore  # noqa: PLC0415 - as above

        listed = self._asked("list", lambda: obstore.list_with_delimiter(self.store, self.key or None))
        inside = [*listed["common_prefixes"], *(item["path"] for item in listed["objects"])]
        return sorted(posixpath.basename(path.rstrip("/")) for path in inside)

    def read_all(self, names: list[str]) -> list[bytes]:
        """Return the objects of these names below this place, several at a time."""
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            return list(pool.map(lambda name: (self / name).read_bytes(), names))

    def put_new(self, content: bytes) -> bool:
        """Write the object unless there is one; return whether it was written by this call.

        An answer that got lost on its way is asked for again by the client and then looks like a loss; what is
        there tells: callers make their content unlike that of any other.
        """
        import obstore  # noqa: PLC0415 - as above
        from obstore.exceptions import AlreadyExistsError, PreconditionError  # noqa: PLC0415 - as above

        def create() -> bool:
            try:
                obstore.put(self.store, self.key, content, mode="create")
            except (AlreadyExistsError, PreconditionError):
                return False
            return True

        return self._asked("write", create) or self.read_bytes() == content

    def put(self, content: bytes | Path) -> None:
        """Write the object, a file in pieces; one that is there is replaced in one step."""
        import obstore  # noqa: PLC0415 - as above

        self._asked("write", lambda: obstore.put(self.store, self.key, content, mode="overwrite"))

    def delete(self) -> None:
        """Remove the object; none there is fine."""
        import obstore  # noqa: PLC0415 - as above

        self._asked("delete", lambda: obstore.delete(self.store, self.key))


class _Ranges(io.RawIOBase):
    """An object as a file: each read is a range of it."""

    def __init__(self, place: StorePath, n_bytes: int) -> None:
        self._place, self._n_bytes, self._at = place, n_bytes, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._n_bytes}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any writable buffer
        import obstore  # noqa: PLC0415 - as above

        end = min(self._at + len(buffer), self._n_bytes)
        if end <= self._at:
            return 0
        place, ends = self._place, {"start": self._at, "end": end}
        part = asked(place.root, place, "read", lambda: bytes(obstore.get_range(place.store, place.key, **ends)))
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)


def open_store(url: str) -> StorePath:
    """Return the place that a URL names: s3://bucket/prefix, gs://bucket/prefix, az://container/prefix.

    Azure's account comes from the environment, as its key does: `AZURE_STORAGE_ACCOUNT_NAME`.

    Raises:
        ConfigError: a URL that no store has, or one with credentials in it.
    """
    from obstore.exceptions import BaseError  # noqa: PLC0415 - as above
    from obstore.store import from_url  # noqa: PLC0415 - as above

    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not parts.netloc or parts.username or parts.query:
        shown = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
        raise ConfigError(
            f"Releases live in a folder or at s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX; "
            f"given: {shown}. Credentials come from the environment, not from the URL."
        )
    root = url.rstrip("/")
    try:
        return StorePath(root, "", from_url(root, retry_config=_RETRY))
    except (BaseError, ValueError) as error:
        raise ConfigError(
            f"{root} cannot be opened: {_first_line(error)}. Its settings come from the environment."
        ) from error


def _begun(pages: Iterable[Any]) -> Iterator[Any]:
    """Return the pages with the first one asked for already, so that a refusal comes here."""
    rest = iter(pages)
    return itertools.chain(list(itertools.islice(rest, 1)), rest)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__
