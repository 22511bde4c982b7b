"""Who is looked at: bands of risk, a simple random sample in each.

Bands decide how wide the intervals get, never whether they are right: within a band every label has the same
chance, and that chance is recorded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from curate import runs, schema
from curate.audit.design import POPULATION, Band, Candidate, Design, Item, Look, population_digest
from curate.errors import ConfigError, InputError
from curate.statistics.exact import ALPHA

MIN_BUDGET = 30
LOOKS_PER_REPEAT = 11  # one look of eleven repeats one of the other ten

# band → (share of the looks, what it holds); the flagged ones carry precision, the others recall and the noise rate
BANDS: tuple[tuple[str, float], ...] = (("flagged", 0.40), ("near", 0.22), ("rest", 0.38))
_NEAR = (0.5, 60)  # as many as half of the flagged labels, at least 60


def draw(
    population: pa.Table,
    *,
    subject: Mapping[str, Any],
    budget: int,
    seed: int = 0,
    target_precision: float | None = None,
    alpha: float = ALPHA,
) -> tuple[Design, pa.Table]:
    """Draw the labels to look at.

    Bands are made of the flagged labels and, by falling risk, of those just below them and of the rest: precision
    stands on the first, the threshold on the first two, recall and the noise rate on all. Who is drawn is decided by a
    hash of seed and label id, so row order leaves no trace and the same call draws the same labels.

    Args:
        population: `POPULATION`; ids are unique.
        subject: says what was audited; its `number` keeps two audits of one dataset apart.
        budget: looks in all; one of eleven asks about a label for the second time.
        seed: of the draw.
        target_precision: what a threshold has to reach, named before anyone looks.
        alpha: error of each statement.

    Returns:
        The design, and `label_id`, `band` of every label, sorted by id.

    Raises:
        ConfigError: a budget below 30, or a target that is no share.
        InputError: no labels, or an id that stands twice.
    """
    _refuse(population, budget, target_precision)
    salt = f"{seed}\0{schema.canonical_json(dict(subject))}"
    n_repeats = budget // LOOKS_PER_REPEAT
    ranked = _ranked(population, salt)
    drawn = _allocate(ranked.sizes, [dict(BANDS)[name] for name in ranked.names], budget - n_repeats)
    items = _items(population, ranked, drawn)
    membership = pa.table({"label_id": population["label_id"], "band": pa.array(ranked.band.astype(np.int8))})
    membership = membership.sort_by("label_id").combine_chunks()
    sizes = zip(ranked.names, ranked.sizes.tolist(), drawn, strict=True)
    design = Design(
        subject=dict(subject),
        seed=seed,
        budget=budget,
        alpha=alpha,
        target_precision=target_precision,
        n_flagged=ranked.n_flagged,
        population_sha256=population_digest(population),
        membership_sha256=runs.digest_table(membership),
        bands=tuple(Band(name, name == "flagged", n_all, n_drawn) for name, n_all, n_drawn in sizes),
        items=items,
        looks=_looks(items, salt, n_repeats),
        candidates=_candidates(ranked),
    )
    return design, membership


@dataclass(frozen=True, slots=True)
class _Ranked:
    """The labels by falling risk, in their bands.

    Attributes:
        keys: (N,) hashes of the ids; they break ties and say who is drawn.
        risk: (N,).
        rank: (N,) from 1, the riskiest.
        band: (N,) index into `names`.
        names: of the bands that hold any label.
        sizes: labels in each.
        n_flagged: labels.
    """

    keys: np.ndarray
    risk: np.ndarray
    rank: np.ndarray
    band: np.ndarray
    names: list[str]
    sizes: np.ndarray
    n_flagged: int


def _ranked(population: pa.Table, salt: str) -> _Ranked:
    ids = population["label_id"].to_pylist()
    digests = b"".join(hashlib.sha256(f"{salt}\0{one}".encode()).digest()[:8] for one in ids)
    keys = np.frombuffer(digests, dtype=">u8")
    risk = population["risk"].to_numpy().astype(np.float64)
    flagged = np.asarray(population["flagged"].to_numpy(zero_copy_only=False), dtype=bool)
    order = np.lexsort((keys, -risk))
    rank, band = (np.empty(len(ids), dtype=np.int64) for _ in range(2))
    rank[order] = np.arange(1, len(ids) + 1)
    band[order], names = _bands(flagged[order])
    sizes = np.bincount(band, minlength=len(names))
    return _Ranked(keys, risk, rank, band, names, sizes, int(flagged.sum()))


def _refuse(population: pa.Table, budget: int, target_precision: float | None) -> None:
    if budget < MIN_BUDGET:
        raise ConfigError(f"An audit needs a budget of at least {MIN_BUDGET} looks; given: {budget}.")
    if target_precision is not None and not 0.0 < target_precision < 1.0:
        raise ConfigError(f"A target precision lies between 0 and 1; given: {target_precision}.")
    if not population.num_rows:
        raise InputError("There is no label to audit. Run the pipeline on labeled images first.")
    if len(set(population["label_id"].to_pylist())) != population.num_rows:
        raise InputError("Each label can be drawn once, and some ids stand twice. Give every row its own id.")


def _bands(flagged: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return the band of each label, in the order of falling risk, and the names of the bands that hold any."""
    n_flagged = int(flagged.sum())
    place = np.cumsum(~flagged) - 1  # among those that are not flagged
    near = max(int(n_flagged * _NEAR[0]), _NEAR[1])
    code = np.where(flagged, 0, np.where(place < near, 1, 2))
    present = sorted(set(code.tolist()))
    return np.searchsorted(present, code), [BANDS[one][0] for one in present]


def _allocate(sizes: Sequence[int] | np.ndarray, shares: Sequence[float], n: int) -> list[int]:
    """Return how many to draw from each band: by its share, at most all of it; what one cannot use others get."""
    drawn = [0] * len(sizes)
    left = min(n, int(np.sum(sizes)))
    while left:
        open_bands = [b for b, size in enumerate(sizes) if drawn[b] < size]
        total = sum(shares[b] for b in open_bands)
        given = {b: min(int(sizes[b]) - drawn[b], int(left * shares[b] / total)) for b in open_bands}
        if not any(given.values()):
            given = {max(open_bands, key=lambda b: (shares[b], -b)): 1}
        for b, more in given.items():
            drawn[b] += more
            left -= more
    return drawn


def _items(population: pa.Table, ranked: _Ranked, drawn: Sequence[int]) -> tuple[Item, ...]:
    """Return the labels of each band whose keys are the smallest, with what is known of them."""
    of_band = [np.flatnonzero(ranked.band == band) for band in range(len(drawn))]
    chosen = [
        rows[np.argsort(ranked.keys[rows], kind="stable")[:n]] for rows, n in zip(of_band, drawn, strict=True)
    ]
    rows = np.concatenate(chosen)
    told = population.select(POPULATION.names).take(pa.array(rows)).to_pylist()
    return tuple(
        Item(
            item=number,
            band=int(ranked.band[row]),
            inclusion_probability=drawn[int(ranked.band[row])] / int(ranked.sizes[ranked.band[row]]),
            rank=int(ranked.rank[row]),
            **known,
        )
        for number, (row, known) in enumerate(zip(rows.tolist(), told, strict=True))
    )


def _looks(items: Sequence[Item], salt: str, n_repeats: int) -> tuple[Look, ...]:
    """Return the questions in an order that tells nothing about risk; second looks come in the second half."""

    def key(item: Item, what: str) -> str:
        return schema.stable_id("audit", salt, what, item.label_id)

    first = sorted(items, key=lambda item: key(item, "first"))
    half = len(first) // 2
    again = sorted(first[:half], key=lambda item: key(item, "chosen for a second look"))[:n_repeats]
    later = [(key(item, "first"), item, False) for item in first[half:]]
    later += [(key(item, "second"), item, True) for item in again]
    ordered = [(key(item, "first"), item, False) for item in first[:half]] + sorted(later, key=lambda one: one[0])
    return tuple(Look(look[:12], item.item, repeat) for look, item, repeat in ordered)


def _candidates(ranked: _Ranked) -> tuple[Candidate, ...]:
    """Return thresholds from strict to lenient: close to each other around today's cut, coarser further off."""
    falling, n_labels = np.sort(ranked.risk)[::-1], len(ranked.risk)
    centre = max(ranked.n_flagged, min(60, n_labels))
    ranks = np.concatenate(
        [
            np.geomspace(max(1.0, centre / 20), centre * 0.5, 12),
            np.linspace(centre * 0.5, centre * 1.6, 45),
            np.geomspace(centre * 1.6, max(centre * 1.6, n_labels), 18),
        ]
    )
    places = np.unique(np.clip(np.round(ranks).astype(int), 1, n_labels)) - 1
    values = sorted({float(falling[place]) for place in places}, reverse=True)
    found = []
    for value in values:
        above = ranked.risk >= value
        by_band = np.bincount(ranked.band[above], minlength=len(ranked.names))
        found.append(Candidate(value, int(above.sum()), tuple(int(n) for n in by_band)))
    return tuple(found)
