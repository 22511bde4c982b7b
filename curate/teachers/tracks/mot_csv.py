"""MOT files: a text line a box: frame, id, left, top, width, height, then confidence, class, visibility."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from curate.errors import InputError
from curate.teachers.tracks.boxes import Bools, Floats, Ints

MIN_COLUMNS = 6
CONSIDER_COLUMN = 6
CLASS_COLUMN = 7
SUFFIXES = (".txt", ".csv")


@dataclass(frozen=True, slots=True)
class MotFile:
    """The boxes of one file, in its order.

    Attributes:
        sequence: name of the sequence.
        line: (N,) number of the line, from 1.
        frame: (N,).
        track: (N,).
        box: (N, 4) x, y, width, height in pixels.
        number: (N,) class number; 0 where the file gives none.
        confidence: (N,) the seventh column; NaN where the file has none. In ground truth, 0 says: do not consider.
    """

    sequence: str
    line: Ints
    frame: Ints
    track: Ints
    box: Floats
    number: Ints
    confidence: Floats

    def ignored(self) -> Bools:
        """(N,) which boxes of ground truth are not to be considered; none where all would be."""
        marked: Bools = self.confidence == 0
        return marked if not marked.all() else np.zeros(len(marked), dtype=np.bool_)


def read_mot(path: Path, sequence: str | None = None) -> MotFile:
    """Read a MOT file; a first line of words is a header and passed over.

    Raises:
        InputError: not there, no numbers, fewer than six columns, a frame or id that is no whole number, no box.
    """
    table, n_skipped = _table_of(path, _first_line(path))
    columns = [one.to_numpy().astype(np.float64) for one in table.columns]
    line = np.arange(1, table.num_rows + 1) + n_skipped
    frame, track = (_whole(columns[at], line, what, path) for at, what in ((0, "frame"), (1, "id")))
    classes = columns[CLASS_COLUMN] if len(columns) > CLASS_COLUMN else np.zeros(len(line))
    is_class = np.isfinite(classes) & (classes > 0)
    if (classes[is_class] != np.round(classes[is_class])).any():
        is_class[:] = False  # a share of visibility, or a score
    number = np.where(is_class, classes, 0).astype(np.int64)
    confidence = columns[CONSIDER_COLUMN] if len(columns) > CONSIDER_COLUMN else np.full(len(line), np.nan)
    name = sequence if sequence is not None else _sequence_of(path)
    return MotFile(name, line, frame, track, np.stack(columns[2:6], axis=1), number, confidence)


def _first_line(path: Path) -> str:
    """Return the first line of a file, where it may be one of a MOT file."""
    try:
        with path.open(encoding="utf-8") as stream:
            first = stream.readline()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Tracks need a MOT text file; {path} cannot be read: {error}") from error
    if not first.strip():
        raise InputError(f"Tracks need a MOT text file with a line a box; {path} is empty.")
    if first.lstrip("\ufeff \t")[:1] in {"{", "["}:
        raise InputError(
            f"Tracks need a MOT text file, a line a box: frame, id, left, top, width, height; {path} is JSON. "
            f"Write its boxes as such lines."
        )
    return first


def _table_of(path: Path, first: str) -> tuple[pa.Table, int]:
    """Return the columns up to the class as numbers, named f0, f1, …, and how many lines of words stand before."""
    words = first.strip().strip(",").split(",")
    n_skipped = int(not _is_number(words[0]))
    if len(words) < MIN_COLUMNS:
        raise InputError(
            f"A MOT line has at least {MIN_COLUMNS} values separated by commas (frame, id, left, top, width, height); "
            f"the first line of {path} has {len(words)}: {first.strip()[:80]!r}."
        )
    names = [f"f{column}" for column in range(len(first.rstrip("\r\n").split(",")))]
    try:
        table = pa.csv.read_csv(
            path,
            read_options=pa.csv.ReadOptions(column_names=names, skip_rows=n_skipped),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names[: CLASS_COLUMN + 1], pa.float64()),
                include_columns=names[: CLASS_COLUMN + 1],
            ),
        )
    except pa.ArrowInvalid as error:
        raise InputError(
            f"{path} is no MOT text file (numbers separated by commas): {_where(path, len(names), n_skipped)}"
        ) from error
    if not table.num_rows:
        raise InputError(f"Tracks need a MOT text file with a line a box; {path} holds none.")
    return table, n_skipped


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _where(path: Path, n_columns: int, n_skipped: int) -> str:
    """Return the first line that is not as the first one, and what is wrong with it."""
    with path.open(encoding="utf-8", errors="replace") as stream:
        for number, line in enumerate(stream, 1):
            words = line.rstrip("\r\n").split(",")
            if line.strip() and len(words) != n_columns:
                return f"line {number} has {len(words)} values, the first line has {n_columns}."
            odd = [word for word in words[: CLASS_COLUMN + 1] if word.strip() and not _is_number(word)]
            if odd and number > n_skipped:
                return f"line {number} holds {odd[0][:40]!r}, which is no number."
    return "a line cannot be read."


def _whole(values: Floats, line: Ints, what: str, path: Path) -> Ints:
    bad = np.flatnonzero(~np.isfinite(values) | (values != np.round(values)) | (np.abs(values) > 2**53))
    if len(bad):
        raise InputError(f"{path}, line {line[bad[0]]}: the {what} must be a whole number; it is {values[bad[0]]}.")
    return values.astype(np.int64)


def _sequence_of(path: Path) -> str:
    """Return the name of a file's sequence: that of its folder in the layout SEQUENCE/gt/gt.txt, else its own."""
    if path.stem in {"gt", "det"} and path.parent.name == path.stem:
        return path.resolve().parent.parent.name
    return path.stem


def mot_files(path: Path) -> Mapping[str, Path]:
    """Return sequence -> file: of the one file, or of a folder of files, or of folders SEQUENCE/gt/gt.txt.

    Raises:
        InputError: neither, or two files of one sequence.
    """
    if path.is_file():
        return {_sequence_of(path): path}
    if not path.is_dir():
        raise InputError(f"Tracks need a MOT text file or a folder of them; there is no {path}.")
    files = sorted(one for one in path.iterdir() if one.suffix.lower() in SUFFIXES and one.is_file())
    files = files or sorted(path.glob("*/gt/gt.txt"))
    found: dict[str, Path] = {}
    for file in files:
        name = _sequence_of(file)
        if name in found:
            raise InputError(f"The sequence {name} has two files in {path}: {found[name].name} and {file.name}.")
        found[name] = file
    if not found:
        raise InputError(
            f"Tracks need MOT text files; {path} has neither NAME.txt nor NAME/gt/gt.txt for any sequence."
        )
    return found


def columns_of(files: Sequence[MotFile]) -> tuple[list[str], list[str], Ints, Floats, Ints]:
    """Return sequence, id, frame, box and class number of all files' boxes, one after the other."""
    if not files:
        return [], [], np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0, np.int64)
    sequence = [file.sequence for file in files for _ in range(len(file.line))]
    track = [str(one) for file in files for one in file.track.tolist()]
    return (
        sequence,
        track,
        np.concatenate([file.frame for file in files]),
        np.concatenate([file.box for file in files]),
        np.concatenate([file.number for file in files]),
    )
