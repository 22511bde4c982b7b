"""Places in S3, GCS or Azure that read like paths, so that a version is the same thing on a disk and in a bucket.

Only what releases need: reading, listing, and a put that fails where something is already there. Credentials come
from the environment (`AWS_ACCESS_KEY_ID`, `AWS_REGION`, `AWS_ENDPOINT_URL`, `GOOGLE_APPLICATION_CREDENTIALS`,
`AZURE_STORAGE_ACCOUNT_NAME`, …), never from a spec, an option or a URL.
"""

from __future__ import annotations

import io
import posixpath
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from curate.errors import ConfigError, StageError

SCHEMES = ("s3", "gs", "az")
_RETRY = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}
_CHUNK_BYTES = 8 << 20
_AT_ONCE = 16
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")


class StoreError(StageError, OSError):
    """An object store that did not do what was asked: no permission, no answer, no such bucket."""


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

    def is_file(self) -> bool:
        """Whether there is an object."""
        import obstore  # noqa: PLC0415 - only remote releases need it

        try:
            with _told(self):
                obstore.head(self.store, self.key)
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Whether anything lies below."""
        return next(self.below(), None) is not None

    def read_bytes(self) -> bytes:
        """Return the object."""
        import obstore  # noqa: PLC0415 - as above

        with _told(self):
            return bytes(obstore.get(self.store, self.key).bytes())

    def chunks(self) -> Iterator[bytes]:
        """Yield the object in pieces; it is never in memory as a whole."""
        import obstore  # noqa: PLC0415 - as above

        with _told(self):
            for chunk in obstore.get(self.store, self.key).stream(min_chunk_size=_CHUNK_BYTES):
                yield bytes(chunk)

    def open(self) -> io.RawIOBase:
        """Return a file that reads ranges, for Parquet."""
        import obstore  # noqa: PLC0415 - as above

        with _told(self):
            return _Ranges(self, int(obstore.head(self.store, self.key)["size"]))

    def below(self) -> Iterator[Found]:
        """Yield every object below this place, by path."""
        import obstore  # noqa: PLC0415 - as above

        prefix = f"{self.key}/" if self.key else ""
        with _told(self):
            for page in obstore.list(self.store, prefix or None):
                for item in page:
                    yield Found(item["path"].removeprefix(prefix), item["size"], item["last_modified"])

    def names(self) -> list[str]:
        """Return the names of what lies directly below, folders included, sorted."""
        import obstore  # noqa: PLC0415 - as above

        with _told(self):
            listed = obstore.list_with_delimiter(self.store, self.key or None)
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

        with _told(self):
            try:
                obstore.put(self.store, self.key, content, mode="create")
            except (AlreadyExistsError, PreconditionError):
                return self.read_bytes() == content
        return True

    def put(self, content: bytes | Path) -> None:
        """Write the object, a file in pieces; one that is there is replaced in one step."""
        import obstore  # noqa: PLC0415 - as above

        with _told(self):
            obstore.put(self.store, self.key, content, mode="overwrite")

    def delete(self) -> None:
        """Remove the object; none there is fine."""
        import obstore  # noqa: PLC0415 - as above

        with _told(self):
            obstore.delete(self.store, self.key)


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
        with _told(self._place):
            part = bytes(obstore.get_range(self._place.store, self._place.key, start=self._at, end=end))
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)


def open_store(url: str) -> StorePath:
    """Return the place that a URL names: s3://bucket/prefix, gs://bucket/prefix, az://account/container/prefix.

    Raises:
        ConfigError: a URL that no store has, or one with credentials in it.
    """
    from obstore.exceptions import BaseError  # noqa: PLC0415 - as above
    from obstore.store import from_url  # noqa: PLC0415 - as above

    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not parts.netloc or parts.username or parts.query:
        shown = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
        raise ConfigError(
            f"Releases live in a folder or at s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://ACCOUNT/CONTAINER/PREFIX; "
            f"given: {shown}. Credentials come from the environment, not from the URL."
        )
    root = url.rstrip("/")
    try:
        return StorePath(root, "", from_url(root, retry_config=_RETRY))
    except (BaseError, ValueError) as error:
        raise ConfigError(
            f"{root} cannot be opened: {_first_line(error)}. Its settings come from the environment."
        ) from error


@contextmanager
def _told(place: StorePath) -> Iterator[None]:
    """Turn the store's errors into one that names the place; what is not there is a FileNotFoundError."""
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError  # noqa: PLC0415 - as above

    try:
        yield
    except (FileNotFoundError, BaseError) as error:
        if any(code in str(error) for code in _NO_BUCKET):
            raise StoreError(f"There is no bucket of {place.root}. Make it first.") from error
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(f"{place} is not there") from error
        denied = isinstance(error, PermissionDeniedError | UnauthenticatedError)
        if denied or any(
            f"status code: {code}" in str(error) for code in (401, 403)
        ):  # a refused listing has no type
            raise StoreError(
                f"{place}: permission denied. The credentials in the environment need to read, list and (to publish) "
                f"write there: {_first_line(error)}"
            ) from error
        raise StoreError(f"{place}: the store did not answer as it should: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__
