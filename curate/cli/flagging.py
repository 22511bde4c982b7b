"""What `curate flag` hands on: one function a task."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.errors import ConfigError, did_you_mean

Told = tuple[Mapping[str, Any], list[str]]  # for machines, for people


def flag_one_table(
    table: Path | None,
    labels: Path | None,
    teachers: Sequence[str] | None,
    out: Path,
    classes: Sequence[str] | None,
    progress: Callable[[int, int | None], None],
    *,
    same_features: Sequence[Sequence[str]] = (),
) -> Told:
    """Flag a table of labels and teachers' probabilities."""
    if table is None or labels is not None or teachers or _task_meant(table):
        raise ConfigError(
            _task_meant(table)
            or "curate flag needs a TABLE.parquet with label and prob_<teacher> columns. For --labels and --teacher say "
            f"which --task they are of: {', '.join(TASKS)}."
        )
    from curate.teachers.flag_table import flag_table  # noqa: PLC0415 - pulls in SciPy
    from curate.teachers.flag_words import flag_lines  # noqa: PLC0415 - `curate --help` needs none of it

    summary = flag_table(table, out, classes=classes, same_features=same_features, progress=progress)
    return summary.to_json(), flag_lines(summary)


def _task_meant(table: Path | None) -> str | None:
    """Return what to do where something is given for a table that only another task reads, else None."""
    if table is None or not table.exists():
        return None
    ending = table.suffix.lower()
    task = {".json": "detection", ".txt": "tracking"}.get(ending, "segmentation" if table.is_dir() else None)
    if task is None:
        return None
    reads = {"detection": "a COCO file", "tracking": "a MOT file", "segmentation": "a folder of masks"}[task]
    return (
        f"{table} is no table: without --task, curate flag reads a TABLE.parquet of classes. Is it {reads}? Then: "
        f"curate flag --task {task} --labels {shlex.quote(str(table))} --teacher NAME=PATH --out FLAGS.parquet"
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """What a task is flagged from: labels, teachers by name, and what to write; options that only some tasks read."""

    labels: Path
    teachers: Mapping[str, Path]
    out: Path
    classes: Sequence[str] | None = None
    ignore: Sequence[int] | None = None


def flag_files(
    task: str,
    table: Path | None,
    labels: Path | None,
    teachers: Sequence[str] | None,
    out: Path,
    *,
    classes: Sequence[str] | None,
    ignore: Sequence[int] | None,
) -> Told:
    """Flag label files of a task beside the files of its teachers."""
    if task not in TASKS:
        known = ["classification", *TASKS]
        raise ConfigError(
            f"--task is one of {', '.join(known)}; given: {task!r}. {did_you_mean(task, known)}".rstrip()
        )
    if table is not None or labels is None:
        raise ConfigError(
            f"curate flag --task {task} needs --labels PATH and no table; teachers are --teacher NAME=PATH."
        )
    return TASKS[task](Asked(labels, teachers_of(teachers), out, classes, ignore))


def teachers_of(given: Sequence[str] | None) -> dict[str, Path]:
    """Return name -> path of `NAME=PATH` options.

    Raises:
        ConfigError: one without a name or a path, or a name that stands twice.
    """
    found: dict[str, Path] = {}
    for one in given or ():
        name, equals, path = one.partition("=")
        if not (name and equals and path):
            raise ConfigError(f"--teacher is NAME=PATH, for example --teacher big=big.txt; given: {one!r}.")
        if name in found:
            raise ConfigError(f"Two teachers are called {name!r}; each needs a name of its own.")
        found[name] = Path(path)
    return found


def _tracking(asked: Asked) -> Told:
    from curate.teachers.tracks.flag_tracks import flag_tracks  # noqa: PLC0415 - pulls in SciPy

    summary = flag_tracks(asked.labels, asked.teachers, asked.out, classes=asked.classes)
    return summary.to_json(), summary.lines()


def _segmentation(asked: Asked) -> Told:
    from curate.teachers.regions.flag_masks import IGNORE, flag_masks  # noqa: PLC0415 - pulls in SciPy

    ignore = IGNORE if asked.ignore is None else asked.ignore
    summary = flag_masks(asked.labels, asked.teachers, asked.out, classes=asked.classes, ignore=ignore)
    return summary.to_json(), summary.lines()


def _detection(asked: Asked) -> Told:
    from curate.teachers.boxes.flag_coco import flag_boxes  # noqa: PLC0415 - pulls in SciPy

    if asked.classes is not None:
        raise ConfigError(
            "--task detection takes its classes from the categories of --labels; leave --classes out."
        )
    summary = flag_boxes(asked.labels, asked.teachers, asked.out)
    return summary.to_json(), summary.lines()


TASKS: dict[str, Callable[[Asked], Told]] = {
    "detection": _detection,
    "segmentation": _segmentation,
    "tracking": _tracking,
}
