"""What a person says about a label, and how to read it in whatever way it was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from curate.audit.design import Design
from curate.errors import InputError, did_you_mean
from curate.statistics.exact import share_interval

Verdict = Literal["correct", "wrong", "can't tell"]
VERDICTS: tuple[Verdict, ...] = ("correct", "wrong", "can't tell")
_WORDS: dict[str, Verdict] = {
    "correct": "correct", "right": "correct", "ok": "correct", "yes": "correct", "c": "correct",
    "wrong": "wrong", "incorrect": "wrong", "no": "wrong", "w": "wrong",
    "can't tell": "can't tell", "cant tell": "can't tell", "cannot tell": "can't tell", "cant-tell": "can't tell",
    "can't-tell": "can't tell", "unsure": "can't tell", "?": "can't tell",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """What somebody said about one look. `true_label` is named where the given one is wrong and the true one known."""

    look: str
    verdict: Verdict
    true_label: str | None = None
    reviewer: str = "unknown"

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    def says_what(self, other: Answer | None) -> bool:
        """Return whether another answer says the same of the same look, whoever gave it."""
        return other is not None and (self.verdict, self.true_label) == (other.verdict, other.true_label)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often a person who is asked twice says the same, with the exact 95 % interval."""

    n_pairs: int
    n_same: int
    low: float
    high: float


def read_verdict(text: str | None, true_label: str | None, given: str | None, *, where: str) -> Verdict | None:
    """Return what was said, or None where nothing was.

    A true label other than the given one says "wrong" by itself.

    Raises:
        InputError: a word that is no answer, or a true label that contradicts it.
    """
    word = (text or "").strip().lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    other = bool(true_label) and true_label != given
    if not word:
        return "wrong" if other else ("correct" if true_label else None)
    verdict = _WORDS.get(word)
    if verdict is None:
        raise InputError(
            f"{where}: an answer is one of {', '.join(VERDICTS)}; given: {text!r}. {did_you_mean(word, _WORDS)}".rstrip()
        )
    if verdict == "correct" and other:
        raise InputError(
            f"{where} says correct and names {true_label!r} as the true label of {given!r}. Which is it?"
        )
    if verdict == "wrong" and true_label and not other:
        raise InputError(f"{where} says wrong and names the given label {given!r} as the true one. Which is it?")
    return verdict


_CLAIM_WORDS: dict[str, Verdict] = {"yes": "wrong", "y": "wrong", "no": "correct", "n": "correct"}
_CLAIM_WORDS |= {word: verdict for word, verdict in _WORDS.items() if verdict == "can't tell"}


def read_claim(text: str | None, *, where: str) -> Verdict | None:
    """Return what was said to the question of a claim: yes is "wrong", as the annotation is; None where nothing was.

    Raises:
        InputError: a word that is no answer. "Correct" could be the claim or the annotation, so it is none.
    """
    word = (text or "").strip().lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    if not word:
        return None
    verdict = _CLAIM_WORDS.get(word)
    if verdict is None:
        raise InputError(
            f"{where}: the question on the sheet is answered by yes, no or can't tell; given: {text!r}. "
            f"{did_you_mean(word, _CLAIM_WORDS)}".rstrip()
        )
    return verdict


def latest(answers: Sequence[Answer]) -> dict[str, Answer]:
    """Return the last answer to each look."""
    return {answer.look: answer for answer in answers}


def unknown_looks(design: Design, answers: Mapping[str, Answer]) -> list[str]:
    """Return answers to questions that this audit never asked."""
    asked = {look.look for look in design.looks}
    return sorted(set(answers) - asked)


def unanswered(design: Design, answers: Mapping[str, Answer]) -> list[str]:
    """Return the looks without an answer, in the order in which they are asked."""
    return [look.look for look in design.looks if look.look not in answers]


def by_item(design: Design, answers: Mapping[str, Answer]) -> dict[int, Answer]:
    """Return the answer that counts for each item: the one to its first look."""
    return {look.item: answers[look.look] for look in design.looks if not look.repeat and look.look in answers}


def agreement(design: Design, answers: Mapping[str, Answer]) -> Agreement:
    """Return how often the second look says what the first one said (correct, wrong or can't tell)."""
    first = by_item(design, answers)
    pairs = [
        (first[look.item].verdict, answers[look.look].verdict)
        for look in design.looks
        if look.repeat and look.look in answers and look.item in first
    ]
    n_same = sum(one == other for one, other in pairs)
    return Agreement(len(pairs), n_same, *share_interval(n_same, len(pairs)))
