"""The error family. Each message says what was needed, what was given and what to do next."""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """What the process tells its caller."""

    OK = 0
    GATE_FAILED = 1
    USAGE = 2
    INPUT = 3
    CRASHED = 4
    VERIFICATION = 5


class CurateError(Exception):
    """Anything curate raises on purpose; `exit_code` is what the command line ends with."""

    exit_code: ExitCode = ExitCode.CRASHED


class ConfigError(CurateError):
    """A spec, an option or an argument that cannot be used as written."""

    exit_code = ExitCode.USAGE


class InputError(CurateError):
    """Input data that cannot be used: nothing readable, a wrong width, a missing column."""

    exit_code = ExitCode.INPUT

    @classmethod
    def from_missing_columns(
        cls, missing: Iterable[str], available: Sequence[str], *, needed_by: str
    ) -> InputError:
        """Name the columns that `needed_by` reads and the table lacks."""
        names = sorted(missing)
        hints = [hint for name in names if (hint := did_you_mean(name, available))]
        shown = ", ".join(available) or "none"
        return cls(
            f"{needed_by} needs the column{'s' * (len(names) > 1)} {', '.join(names)}. "
            f"The table has: {shown}.{''.join(' ' + hint for hint in hints)}"
        )


class TooFewRowsError(InputError):
    """Too little data to say anything: "insufficient data", which is neither a failure nor a pass."""


class StageError(CurateError):
    """A stage that crashed; the cause is chained."""

    exit_code = ExitCode.CRASHED


class VerificationError(CurateError):
    """A manifest version that is not what it says it is."""

    exit_code = ExitCode.VERIFICATION


class NewerVersionError(VerificationError):
    """A version that a newer curate wrote, and this one cannot read."""


class MissingExtraError(ConfigError):
    """An optional dependency that this call needs and that is not installed."""

    @classmethod
    def from_extra(cls, package: str, extra: str, *, needed_by: str) -> MissingExtraError:
        """Say which extra brings `package`."""
        return cls(
            f"{needed_by} needs the package {package}, which is not installed. "
            f"Install it with: pip install 'curate[{extra}]'"
        )


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return "Did you mean 'x'?" for the nearest of `words`, or an empty string."""
    near = difflib.get_close_matches(str(word), [str(w) for w in words], n=1, cutoff=0.6)
    return f"Did you mean {near[0]!r}?" if near else ""


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


@contextmanager
def writing(place: str | Path) -> Iterator[None]:
    """Say what could not be written where a disk is full, a file may not grow or nothing may be written.

    Raises:
        StageError: names the place; what stood there before is what the caller left there.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        msg = (
            f"{place} cannot be written: {os.strerror(error.errno)}. Nothing half-written was left in its place. Make "
            f"room, or write elsewhere, and run the same command again."
        )
        raise StageError(msg) from error
