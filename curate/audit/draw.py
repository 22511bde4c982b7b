"""Who is looked at: bands of risk, a simple random sample in each.

Bands decide how wide the intervals get, never whether they are right: within a band every label has the same
chance, and that chance is recorded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
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
    ids = population["label_id"].to_pylist()
    keys = np.array([hashlib.sha256(f"{salt}\0{one}".encode()).digest()[:8] for one in ids], dtype="S8")
    risk = population["risk"].to_numpy().astype(np.float64)
    flagged = np.asarray(population["flagged"].to_numpy(zero_copy_only=False), dtype=bool)
    keys_as_ints = np.frombuffer(keys.tobytes(), dtype=">u8") if len(keys) else np.zeros(0, ">u8")
    order = np.lexsort((keys_as_ints, -risk))
    rank = np.empty(len(ids), dtype=np.int64)
    rank[order] = np.arange(1, len(ids) + 1)
    band_of, names = _bands(flagged[order])
    band = np.empty(len(ids), dtype=np.int64)
    band[order] = band_of
    sizes = np.bincount(band, minlength=len(names))
    drawn = _allocate(sizes, [dict(BANDS)[name] for name in names], budget - budget // LOOKS_PER_REPEAT)
    rows = [_smallest(keys_as_ints, np.flatnonzero(band == b), n) for b, n in enumerate(drawn)]
    items = _items(population, np.concatenate(rows), band, rank, sizes, drawn)
    bands = tuple(Band(name, name == "flagged", int(sizes[b]), int(drawn[b])) for b, name in enumerate(names))
    membership = pa.table({"label_id": population["label_id"], "band": pa.array(band.astype(np.int8))})
    membership = membership.sort_by("label_id").combine_chunks()
    design = Design(
        subject=dict(subject),
        seed=seed,
        budget=budget,
        alpha=alpha,
        target_precision=target_precision,
        n_flagged=int(flagged.sum()),
        population_sha256=population_digest(population),
        membership_sha256=runs.digest_table(membership),
        bands=bands,
        items=items,
        looks=_looks(items, salt, budget // LOOKS_PER_REPEAT),
        candidates=_candidates(risk, band, len(names), int(flagged.sum())),
    )
    return design, membership


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


def _smallest(keys: np.ndarray, rows: np.ndarray, n: int) -> np.ndarray:
    return rows[np.argsort(keys[rows], kind="stable")[:n]]


def _items(
    population: pa.Table,
    rows: np.ndarray,
    band: np.ndarray,
    rank: np.ndarray,
    sizes: np.ndarray,
    drawn: Sequence[int],
) -> tuple[Item, ...]:
    told = population.select(POPULATION.names).take(pa.array(rows)).to_pylist()
    return tuple(
        Item(
            item=number,
            band=int(band[row]),
            inclusion_probability=drawn[int(band[row])] / int(sizes[band[row]]),
            rank=int(rank[row]),
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


def _candidates(risk: np.ndarray, band: np.ndarray, n_bands: int, n_flagged: int) -> tuple[Candidate, ...]:
    """Return thresholds from strict to lenient: close to each other around today's cut, coarser further off."""
    falling = np.sort(risk)[::-1]
    centre = max(n_flagged, min(60, len(risk)))
    ranks = np.concatenate(
        [
            np.geomspace(max(1.0, centre / 20), centre * 0.5, 12),
            np.linspace(centre * 0.5, centre * 1.6, 45),
            np.geomspace(centre * 1.6, max(centre * 1.6, len(risk)), 18),
        ]
    )
    places = np.unique(np.clip(np.round(ranks).astype(int), 1, len(risk))) - 1
    values = sorted({float(falling[place]) for place in places}, reverse=True)
    found = []
    for value in values:
        above = risk >= value
        by_band = np.bincount(band[above], minlength=n_bands)
        found.append(Candidate(value, int(above.sum()), tuple(int(n) for n in by_band)))
    return tuple(found)
