"""Several reasons for one label as one sentence that a person can check: teachers, then neighbours, then people."""

from __future__ import annotations

from collections.abc import Iterable

SENTENCES: dict[str, str] = {}

# what begins a reason code -> its place in the sentence; what is not here stands after, in the order that it came in
_ORDER = (
    "decision_",
    "teachers_",
    "label_unseen",
    "label_left_out",
    "box_noise_",
    "region",
    "track_",
    "neighbour",
    "annotators_",
    "annotator_",
    "duplicate_conflict",
)


def join_reasons(reasons: Iterable[tuple[str, str]]) -> str:
    """Return one sentence of (code, sentence) pairs; a sentence that stands twice stands once.

    Parts are set apart by semicolons and end in one full stop. "" for none.
    """
    kept: dict[str, str] = {}
    for code, sentence in reasons:
        text = sentence.strip().removesuffix(".")
        if text:
            kept.setdefault(text, code)
    ordered = sorted(kept.items(), key=lambda one: _place(one[1]))  # stable
    if not ordered:
        return ""
    first, *others = (text for text, _ in ordered)
    return "; ".join([first, *map(_continued, others)]) + "."


def _place(code: str) -> int:
    return next((at for at, start in enumerate(_ORDER) if code.startswith(start)), len(_ORDER))


def _continued(text: str) -> str:
    """Return a sentence as it goes on after a semicolon: its first word small, unless it is a name or in capitals."""
    first = text.split(" ", 1)[0]
    is_plain = first in _PLAIN_STARTS
    return text[0].lower() + text[1:] if is_plain else text


_PLAIN_STARTS = frozenset({"A", "An", "Another", "Annotator", "No", "One", "Of", "Teachers", "The", "This"})
