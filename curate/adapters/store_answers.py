"""What an object store answered, told to people; where it is busy, it is asked again."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from curate.errors import StageError

PATIENCE_S = 60.0  # how long a store may say that it is busy
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 8.0
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
_BUSY = re.compile(r"status code: (503|429)|\b(SlowDown|ServerBusy|TooManyRequests|ThrottlingException)\b")
_DENIED = re.compile(r"status code: (401|403)|\b(AccessDenied|AllAccessDisabled|AuthorizationFailure)\b")
_UNKNOWN = re.compile(
    r"\b(InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|ExpiredToken|AuthenticationFailed)\b"
)
_UNREACHABLE = re.compile(r"error sending request|tcp connect error|dns error|[Cc]onnection refused")

Answer = TypeVar("Answer")


class StoreError(StageError, OSError):
    """An object store that did not do what was asked: no permission, no answer, no such bucket."""


def asked(root: str, place: object, doing: str, call: Callable[[], Answer]) -> Answer:
    """Return what a store answers to a call; one that says that it is busy is asked again.

    Args:
        root: URL of bucket and prefix.
        place: what the call is about.
        doing: what the call does to it, as a verb: read, list, write, delete.
        call: repeated while the store says that it is busy; made so that twice is once.

    Raises:
        FileNotFoundError: nothing is there.
        StoreError: it did not do what was asked.
    """
    from obstore.exceptions import BaseError  # noqa: PLC0415 - only remote releases need it

    began_s, wait_s = time.monotonic(), _FIRST_WAIT_S
    while True:
        with telling(root, place, doing):
            try:
                return call()
            except BaseError as error:
                if not _BUSY.search(str(error)) or time.monotonic() - began_s > PATIENCE_S:
                    raise
        time.sleep(wait_s)
        wait_s = min(wait_s * 2, _LONGEST_WAIT_S)


@contextmanager
def telling(root: str, place: object, doing: str) -> Iterator[None]:
    """Turn the store's errors into one that names the place; what is not there is a FileNotFoundError."""
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError  # noqa: PLC0415 - as above

    try:
        yield
    except (FileNotFoundError, BaseError) as error:
        if any(code in str(error) for code in _NO_BUCKET):
            raise StoreError(f"There is no bucket of {root}. Make it first.") from error
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(f"{place} is not there") from error
        denied = isinstance(error, PermissionDeniedError | UnauthenticatedError)  # a refused listing has no type
        raise StoreError(f"{place}: {_words(str(error), doing, denied=denied)}") from error


def _words(error: str, doing: str, *, denied: bool) -> str:
    code = _UNKNOWN.search(error)
    if code:
        return (
            f"permission denied to {doing} it: the store does not accept the credentials in the environment "
            f"({code.group(0)}). Check the key, the secret and the clock of this machine."
        )
    if denied or _DENIED.search(error):
        return (
            f"permission denied to {doing} it. The credentials in the environment need to read and list there, to "
            f"publish also to write, to collect (gc) and erase also to delete."
        )
    if _BUSY.search(error):
        return (
            f"the store says that it is too busy to {doing} it, and did not change its mind. Run the same command again "
            f"later."
        )
    if _UNREACHABLE.search(error):
        return (
            f"the store did not answer when asked to {doing} it: it cannot be reached. Check the network and the "
            f"address (AWS_ENDPOINT_URL where it is not Amazon's)."
        )
    line = error.splitlines()[0][:300] if error else "it gave no reason"
    return f"the store did not answer as it should when asked to {doing} it: {line}"
