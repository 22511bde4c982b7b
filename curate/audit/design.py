"""What is fixed before anyone looks: which labels are looked at, with which chance, and which thresholds may be had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import pyarrow as pa

from curate import runs, schema
from curate.errors import InputError

FORMAT = 1

# One row a label of a readable image.
POPULATION = pa.schema(
    [
        pa.field("label_id", pa.string(), nullable=False),
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("uri", pa.string()),
        pa.field("given_label", pa.string()),
        pa.field("bbox", schema.BBOX),
        pa.field("risk", pa.float64(), nullable=False),  # orders the labels; 0 where nobody judged it
        pa.field("flagged", pa.bool_(), nullable=False),
        pa.field("suggested_label", pa.string()),
        pa.field("finding_id", pa.string()),
        pa.field("content_sha256", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Band:
    """A stratum. `n_drawn` of its `n_all` labels are looked at, each with the probability n_drawn / n_all."""

    name: str
    flagged: bool
    n_all: int
    n_drawn: int


@dataclass(frozen=True, slots=True)
class Item:
    """A label that was drawn, with what is known of it before anyone looks."""

    item: int
    band: int
    inclusion_probability: float
    rank: int
    label_id: str
    sample_id: str
    uri: str | None
    given_label: str | None
    bbox: list[float] | None
    risk: float
    flagged: bool
    suggested_label: str | None
    finding_id: str | None
    content_sha256: str | None


@dataclass(frozen=True, slots=True)
class Look:
    """One question to a person; `repeat` asks about an item for the second time."""

    look: str
    item: int
    repeat: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """A threshold that may be chosen: labels of this risk and above, in all and by band."""

    risk: float
    n_above: int
    by_band: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Design:
    """Everything about an audit that is fixed before anyone looks.

    Attributes:
        subject: what was audited: name and version, or the digest of a table.
        seed: of the draw.
        budget: looks, repeats included.
        alpha: error of each statement.
        target_precision: what a threshold has to reach; None = not named beforehand.
        n_flagged: labels that are flagged.
        population_sha256: of the ids and given labels of all labels.
        membership_sha256: of the table that says which band each label is in.
        bands: strata.
        items: what was drawn.
        looks: in the order in which they are asked.
        candidates: thresholds, strictest first.
    """

    subject: Mapping[str, Any]
    seed: int
    budget: int
    alpha: float
    target_precision: float | None
    n_flagged: int
    population_sha256: str
    membership_sha256: str
    bands: tuple[Band, ...]
    items: tuple[Item, ...]
    looks: tuple[Look, ...]
    candidates: tuple[Candidate, ...]

    @property
    def n_population(self) -> int:
        """Labels that an answer speaks for."""
        return sum(band.n_all for band in self.bands)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; `Design.from_json` reads them back."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Return the design that `to_json` gave.

        Raises:
            InputError: it is none, or one of a newer curate.
        """
        try:
            if value["format"] != FORMAT:
                raise ValueError(f"its format is {value['format']}, this curate reads {FORMAT}")  # noqa: TRY301 - joins the others below
            given = {name: value[name] for name in cls.__dataclass_fields__}
            given["bands"] = tuple(Band(**band) for band in value["bands"])
            given["items"] = tuple(Item(**item) for item in value["items"])
            given["looks"] = tuple(Look(**look) for look in value["looks"])
            given["candidates"] = tuple(
                Candidate(c["risk"], c["n_above"], tuple(c["by_band"])) for c in value["candidates"]
            )
            return cls(**given)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"This is not the design of an audit: {error}. Restore the file, or draw a new one."
            ) from error

    @property
    def digest(self) -> str:
        """The sha256 of the design: who shows it before the answers has shown that nothing was chosen after them."""
        return runs.digest_json(self.to_json())


def population_digest(population: pa.Table) -> str:
    """Return the sha256 of which labels there are and what they say; row order leaves no trace."""
    return runs.digest_table(population.select(["label_id", "given_label"]).sort_by("label_id").combine_chunks())
