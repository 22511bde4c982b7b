"""The sheet that a person fills in: a CSV with a row per look, and nothing on it that says what is suspected."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from curate import runs
from curate.audit.answers import Answer, read_claim, read_verdict
from curate.audit.claims import question_of
from curate.audit.design import Design, Item
from curate.errors import ConfigError, InputError, did_you_mean

COLUMNS = ("look", "image", "given_label", "box", "answer", "true_label", "note")
CLAIM_COLUMNS = ("look", "image", "annotation", "place", "given_label", "question", "answer", "true_label", "note")


def write_sheet(design: Design, path: Path) -> None:
    """Write the looks in their order; `box` is x, y, width, height relative to the image.

    Of claims, `place` is the box in pixels, or the frames, and the issue is a question.

    Raises:
        ConfigError: there is a sheet with answers at `path`.
    """
    if path.exists() and _is_filled(path):
        raise ConfigError(
            f"{path} holds answers already. Take them in with --answers {path}, or name another file."
        )
    items = {item.item: item for item in design.items}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(CLAIM_COLUMNS if design.issues else COLUMNS)
    for look in design.looks:
        item = items[look.item]
        if item.issue is not None:
            writer.writerow([look.look, *_claim(item, str(design.subject["things"])), "", "", ""])
            continue
        box = " ".join(f"{value:.4f}" for value in item.bbox or ())
        writer.writerow([look.look, item.uri or item.sample_id, item.given_label or "", box, "", "", ""])
    runs.write_text(path, text.getvalue().replace("\r\n", "\n"))


def read_sheet(design: Design, path: Path, *, reviewer: str, classes: Sequence[str] = ()) -> list[Answer]:
    """Return the answers on a sheet; rows without one are left out.

    Args:
        design: of the audit.
        path: of the sheet.
        reviewer: who filled it in.
        classes: what a true label may be; empty = not known.

    Raises:
        ConfigError: there is no sheet.
        InputError: it is no sheet, an answer cannot be understood, or a true label is no class.
    """
    rows = _rows(path)
    items = {item.item: item for item in design.items}
    asked = {look.look: items[look.item] for look in design.looks}
    answers: list[Answer] = []
    for number, row in rows:
        look = (row.get("look") or "").strip()
        where = f"{path.name} row {number}"
        if look not in asked:
            raise InputError(f"{where}: the look {look!r} was never asked for. Is the sheet of another audit?")
        true_label = (row.get("true_label") or "").strip() or None
        if true_label and classes and true_label not in classes:
            hint = did_you_mean(true_label, classes)
            raise InputError(f"{where}: the true label {true_label!r} is no class of the dataset. {hint}".rstrip())
        item = asked[look]
        if item.issue is not None:
            verdict = read_claim(row.get("answer"), where=where)
        else:
            verdict = read_verdict(row.get("answer"), true_label, item.given_label, where=where)
        if verdict is not None:
            answers.append(Answer(look, verdict, true_label if verdict == "wrong" else None, reviewer))
    return answers


def _claim(item: Item, things: str) -> list[str]:
    """Return image, annotation, place, label and question: what is given, and nothing of what is suggested."""
    annotation = item.annotation or "(none)"
    question = question_of(things, item.issue or "")
    return [item.uri or item.sample_id, annotation, item.place or "", item.given_label or "", question]


def looks_on(path: Path) -> list[str]:
    """Return the ids of the looks on a sheet.

    Raises:
        ConfigError: there is no sheet.
        InputError: it is no sheet.
    """
    return [(row.get("look") or "").strip() for _, row in _rows(path)]


def _is_filled(path: Path) -> bool:
    return any((row.get("answer") or "").strip() or (row.get("true_label") or "").strip() for _, row in _rows(path))


def _rows(path: Path) -> list[tuple[int, dict[str, str | None]]]:
    if not path.is_file():
        raise ConfigError(f"There is no sheet at {path}. Write one with --csv {path}")
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets put a byte order mark before it
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text ({error}). Save it as CSV, UTF-8.") from error
    head = text.partition("\n")[0]
    delimiter = ";" if head.count(";") > head.count(",") else ","
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter)
    missing = [name for name in ("look", "answer") if name not in (reader.fieldnames or ())]
    if missing:
        raise InputError(f"{path} lacks the column {missing[0]!r}; a sheet has {', '.join(COLUMNS)}.")
    return [(number, row) for number, row in enumerate(reader, start=2)]
