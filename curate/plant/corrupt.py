"""Labels → the same labels with planted errors, and the list of what was planted. Pure; nothing given is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from curate import schema
from curate.errors import ConfigError, did_you_mean
from curate.plant import classes as classing
from curate.plant import shapes, tracks
from curate.plant.choose import PLANTED, chosen
from curate.plant.classes import Opinions, n_of
from curate.plant.shapes import Row

MAX_SHARE = 0.25

# kind → (tasks that it is for, what it does); the order is that in which labels are given out
KINDS: dict[str, tuple[tuple[str, ...], str]] = {
    "hard": (("classification",), "the class that the teachers find next likely, where that is closest"),
    "class": (("classification",), "a class that this one is taken for, as the teachers see it"),
    "uniform": (("classification",), "any other class"),
    "drop": (("detection", "tracking"), "the box is gone"),
    "shift": (("detection", "tracking"), "the box is moved to an IoU of .3 to .6"),
    "swap": (("detection", "segmentation", "tracking"), "the box or mask has any other class"),
    "invent": (("detection", "tracking"), "a box where nothing is labeled"),
    "erode": (("segmentation",), "the mask is eroded to at most 60 % of its area"),
    "switch": (("tracking",), "two tracks exchange their ids from the frame on in which they are closest"),
}
NOT_MULTI_LABEL = (
    "curate plant cannot plant errors in several labels an image (task: multi_label) yet; it can in classification (one "
    "label an image), detection, segmentation and tracking. `curate run` judges such labels; see docs/multi-label.md for "
    "how well it found planted errors there."
)
NEEDS_TEACHERS = frozenset({"hard", "class"})


@dataclass(frozen=True, slots=True)
class Corrupted:
    """Labels with errors in them, and which.

    Attributes:
        labels: `schema.LABELS`.
        planted: `PLANTED`.
    """

    labels: pa.Table
    planted: pa.Table


@dataclass
class _Work:
    """Rows while they are changed; `taken` keeps two errors from meeting in one label."""

    rows: dict[str, Row]
    classes: tuple[str, ...]
    share: float
    seed: int
    opinions: Opinions | None
    sequence_of: Mapping[str, str]
    taken: set[str] = field(default_factory=set)
    planted: list[Row] = field(default_factory=list)

    def of(self, kind: str) -> list[Row]:
        """Return the rows that a kind is for, in the order of their ids; those in `taken` are not to be chosen."""
        tasks = KINDS[kind][0]
        return [row for _, row in sorted(self.rows.items()) if row["task"] in tasks]

    def note(self, kind: str, before: Row, to_label: str | None, seen_at: str | None = None) -> None:
        """Write down what was planted."""
        self.taken |= {before["label_id"]} | ({seen_at} if seen_at else set())
        found = {"label_id": before["label_id"], "sample_id": before["sample_id"], "kind": kind, "seen_at": seen_at}
        self.planted.append(found | {"from_label": before["label"], "to_label": to_label, "bbox": before["bbox"]})


def kinds_for(labels: pa.Table, wanted: Sequence[str] = ()) -> list[str]:
    """Return the kinds to plant: those wanted, or all that the tasks of the labels allow.

    Raises:
        ConfigError: several labels an image, a kind that does not exist, or that no label is fit for.
    """
    tasks = set(labels["task"].to_pylist())
    if tasks == {schema.MULTI_LABEL}:
        raise ConfigError(NOT_MULTI_LABEL)
    fitting = [kind for kind, (for_tasks, _) in KINDS.items() if tasks & set(for_tasks)]
    for kind in wanted:
        if kind not in KINDS:
            hint = did_you_mean(kind, KINDS)
            raise ConfigError(f"There is no kind of error {kind!r}. Kinds: {', '.join(KINDS)}. {hint}".rstrip())
        if kind not in fitting:
            raise ConfigError(
                f"The kind {kind!r} is for {' or '.join(KINDS[kind][0])}; the labels are for {', '.join(sorted(tasks))}. "
                f"Kinds that fit: {', '.join(fitting) or 'none'}."
            )
    return [kind for kind in fitting if not wanted or kind in wanted]


def corrupt(
    labels: pa.Table,
    kinds: Sequence[str],
    *,
    share: float,
    classes: Sequence[str],
    seed: int = 0,
    opinions: Opinions | None = None,
    sequence_of: Mapping[str, str] | None = None,
) -> Corrupted:
    """Plant errors in a copy of labels; no label gets two.

    Args:
        labels: `schema.LABELS`; ids are unique.
        kinds: of `KINDS`.
        share: of the labels that a kind is for, for each kind.
        classes: that there are.
        seed: of all choices; a label's fate follows from its id.
        opinions: of the teachers, for the kinds that need them.
        sequence_of: sample id → its video, for tracks.

    Raises:
        ConfigError: a share out of bounds, too many kinds for it, or opinions that are needed and not there.
    """
    if not 0.0 < share <= MAX_SHARE:
        raise ConfigError(f"The share of planted errors lies above 0 and is at most {MAX_SHARE}; given: {share}.")
    if share * len(kinds) > 0.5:
        raise ConfigError(
            f"{len(kinds)} kinds with a share of {share} each would spoil most labels. Lower --share."
        )
    if opinions is None and set(kinds) & NEEDS_TEACHERS:
        raise ConfigError(f"The kinds {', '.join(sorted(NEEDS_TEACHERS))} need teachers that judge these labels.")
    rows = {row["label_id"]: row for row in labels.to_pylist()}
    work = _Work(rows, tuple(classes), share, seed, opinions, sequence_of or {})
    for kind in [one for one in KINDS if one in kinds]:
        _PLANTERS[kind](work, kind)
    ordered = sorted(work.rows.values(), key=lambda row: (row["sample_id"], row["label_id"]))
    planted = sorted(work.planted, key=lambda row: row["label_id"])
    return Corrupted(schema.table_from_rows(ordered, schema.LABELS), schema.table_from_rows(planted, PLANTED))


def _relabel(work: _Work, kind: str, changes: Mapping[str, str]) -> None:
    for one, to_label in changes.items():
        before = work.rows[one]
        work.rows[one] = {**before, "label": to_label}
        work.note(kind, before, to_label)


def _names(rows: Sequence[Row]) -> dict[str, str]:
    return {row["label_id"]: row["label"] for row in rows}


def _uniform(work: _Work, kind: str) -> None:
    if len(work.classes) < 2:
        raise ConfigError(f"The kind {kind!r} needs at least two classes; there is {len(work.classes)}.")
    some = classing.some(_names(work.of(kind)), work.share, work.seed, kind, work.taken)
    _relabel(work, kind, classing.uniform(some, work.classes, work.seed, kind))


def _class(work: _Work, kind: str) -> None:
    assert work.opinions is not None  # noqa: S101 - `corrupt` has refused it
    everything = {one: label for one, label in _names(work.of(kind)).items() if one in work.opinions.row_of}
    some = classing.some(everything, work.share, work.seed, kind, work.taken)
    _relabel(work, kind, classing.by_class(some, everything, work.opinions, work.seed))


def _hard(work: _Work, kind: str) -> None:
    assert work.opinions is not None  # noqa: S101 - as above
    everything = _names(work.of(kind))
    _relabel(work, kind, classing.hard(everything, work.opinions, n_of(len(everything), work.share), work.taken))


def _drop(work: _Work, kind: str) -> None:
    rows = work.of(kind)
    following = tracks.following(tracks.tracks_of(rows, work.sequence_of))
    ids = [one for one in shapes.droppable(rows) if work.rows[one]["track_id"] is None or one in following]
    samples: set[str] = set()
    for one in chosen(ids, len(ids), work.seed, kind, work.taken):
        if len(samples) >= n_of(len(ids), work.share):
            return
        before, after = work.rows[one], following.get(one)
        if (
            before["sample_id"] in samples
            or one in work.taken
            or after in work.taken
            or (after is not None and after not in work.rows)
        ):
            continue  # one an image, so that none is left without a label
        samples.add(before["sample_id"])
        del work.rows[one]
        work.note(kind, before, None, after)


def _shift(work: _Work, kind: str) -> None:
    ids = [row["label_id"] for row in work.of(kind) if row["bbox"] is not None]
    for one in chosen(ids, n_of(len(ids), work.share), work.seed, kind, work.taken):
        before = work.rows[one]
        moved = shapes.shifted(before["bbox"], "plant", str(work.seed), kind, one)
        work.rows[one] = {**before, "bbox": moved, "mask": None, "polygons": None}
        work.note(kind, before, before["label"])


def _invent(work: _Work, kind: str) -> None:
    rows = work.of(kind)
    for made in shapes.invented(rows, n_of(len(rows), work.share), work.seed):
        work.rows[made["label_id"]] = made
        work.note(kind, made, made["label"])
        work.planted[-1]["from_label"] = None


def _erode(work: _Work, kind: str) -> None:
    ids = [row["label_id"] for row in work.of(kind) if row["mask"] is not None or row["polygons"]]
    for one in chosen(ids, n_of(len(ids), work.share), work.seed, kind, work.taken):
        before = work.rows[one]
        smaller = shapes.eroded(before)
        if smaller is not None:
            work.rows[one] = smaller
            work.note(kind, before, before["label"])


def _switch(work: _Work, kind: str) -> None:
    known = tracks.tracks_of(work.of(kind), work.sequence_of)
    changed, begins = tracks.switches(known, work.share, work.seed, work.taken)
    for one, track in changed.items():
        work.rows[one] = {**work.rows[one], "track_id": track}
    for one in begins:
        work.note(kind, work.rows[one], work.rows[one]["label"])


_PLANTERS: dict[str, Callable[[_Work, str], None]] = {
    "hard": _hard,
    "class": _class,
    "uniform": _uniform,
    "drop": _drop,
    "shift": _shift,
    "swap": _uniform,
    "invent": _invent,
    "erode": _erode,
    "switch": _switch,
}
