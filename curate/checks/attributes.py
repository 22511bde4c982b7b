"""What a spec declares about attributes, and how their values are counted and shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from curate import schema

UNKNOWN = "(unknown)"
SMALL = 10  # counts below are shown as "<10"


@dataclass(frozen=True, slots=True)
class AttributeDeclaration:
    """How an attribute is known and what population it is held against.

    Attributes:
        name: without the prefix `attr_`.
        obtained: self-reported, perceived, inferred, measured, synthetic; "undeclared" where the spec is silent.
        reference: (value, share) of the population; None = there is none, and none is made up.
        reference_name: where the reference is from, with its date.
    """

    name: str
    obtained: str = "undeclared"
    reference: tuple[tuple[str, float], ...] | None = None
    reference_name: str | None = None

    @property
    def may_gate(self) -> bool:
        """Whether a gate may fail on it: what a model inferred, or nobody declared, can only warn."""
        return self.obtained not in {"inferred", "undeclared"}


def declared(name: str, declarations: Sequence[AttributeDeclaration]) -> AttributeDeclaration:
    """Return the declaration of the attribute `name`."""
    return next((d for d in declarations if d.name == name), AttributeDeclaration(name))


def attribute_columns(names: Sequence[str]) -> list[str]:
    """Return the attribute columns among the names, sorted."""
    return sorted(name for name in names if name.startswith(schema.ATTRIBUTE_PREFIX))


def suppressed(counts: Mapping[str, int], small: int = SMALL) -> set[str]:
    """Return the values whose counts must not be shown: small ones, and a second where a single one is.

    With one hidden count the total minus the others reveals it, so the next smallest is hidden as well.
    A count of 0 is a gap, not a person, and is shown.
    """
    hidden = {value for value, n in counts.items() if 0 < n < small}
    if len(hidden) == 1:
        others = sorted((n, value) for value, n in counts.items() if value not in hidden and n > 0)
        hidden |= {others[0][1]} if others else set()
    return hidden


def as_published(counts: Mapping[str, int]) -> list[float]:
    """Return the counts with those of `suppressed` values taken as equally large.

    Their sum follows from what is shown, what each is does not: a number made of these says no more than that.
    """
    hidden = suppressed(counts)
    mean = sum(counts[value] for value in hidden) / len(hidden) if hidden else 0.0
    return [mean if value in hidden else float(count) for value, count in counts.items()]


def shown_instead(count: int) -> str:
    """Return what is shown instead of the number of a value in `suppressed`."""
    return f"<{SMALL}" if count < SMALL else "hidden with it"


def why_hidden(count: int) -> str:
    """Return why the number of a value in `suppressed` is not told, for gates and people."""
    if count < SMALL:
        return f"fewer than {SMALL} pictures"
    return f"hidden, so that a value with fewer than {SMALL} pictures cannot be worked out"
