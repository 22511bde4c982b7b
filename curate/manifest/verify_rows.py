"""One pass over the rows of a version, row group by row group: all that counts, soft labels and verdicts need.

A row of which no finding, no decision and no exclusion speaks has the one verdict that the policy gives when nothing
is said, and is compared with that where it lies. Only rows that something speaks of are kept, to be decided again.
"""

from __future__ import annotations

import bisect
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate import schema
from curate.errors import InputError
from curate.manifest.diff_compare import Mask, flat_differs
from curate.manifest.place import Place
from curate.manifest.read import load_evidence, load_table
from curate.manifest.row_groups import RowGroup, id_numbers, read_rows, row_groups
from curate.manifest.soft import MADE_FOR, image_keys
from curate.manifest.tables import DATA
from curate.policy import Policy
from curate.verdicts import decide

SPOKEN = ("sample_id", "label_id", "given_label", "task", "content_sha256", *schema.VERDICTS.names[2:])
_KEPT = pa.schema([DATA.field(name) for name in SPOKEN])
_IDS = ("sample_id", "label_id")
_AT_ONCE = min(4, os.cpu_count() or 1)  # row groups in memory


@dataclass(frozen=True, slots=True)
class Silence:
    """The verdict of a row of which nothing speaks: action, weight and risk; its label stays, it has no reasons."""

    action: str
    weight: float
    risk: float

    @classmethod
    def of(cls, policy: Policy) -> Silence | None:
        """Return it as `decide` gives it; None where the label would not stay, or a reason would be given."""
        sample = {"sample_id": "s", "source": "", "uri": "", "label_state": "labeled"}
        label = {"label_id": "l", "sample_id": "s", "task": "classification", "label": "x"}
        verdict = decide(
            schema.table_from_rows([sample], schema.SAMPLES),
            schema.table_from_rows([label], schema.LABELS),
            schema.empty(schema.FINDINGS),
            policy,
        ).to_pylist()[0]
        plain = verdict["released_label"] == "x" and not verdict["reasons"] and not verdict["reason_codes"]
        return cls(verdict["action"], verdict["weight"], verdict["risk"]) if plain else None


@dataclass(frozen=True, slots=True)
class Spoken:
    """Of which samples and labels findings, decisions or exclusions speak; `everything`: of all of them, for safety."""

    samples: Sequence[str]  # sorted
    labels: pa.Array
    everything: bool = False

    def mask(self, rows: pa.Table) -> Mask:
        """Return which rows of a part of the table are spoken of."""
        if self.everything:
            return np.ones(rows.num_rows, dtype=np.bool_)
        spoken = np.zeros(rows.num_rows, dtype=np.bool_)
        if self.samples:
            ends = pc.min_max(rows["sample_id"]).as_py()  # a part of a sorted table: few of the samples lie in it
            low, high = (
                bisect.bisect_left(self.samples, ends["min"]),
                bisect.bisect_right(self.samples, ends["max"]),
            )
            spoken |= is_in(rows["sample_id"], pa.array(self.samples[low:high], pa.string()))
        if len(self.labels):
            spoken |= is_in(rows["label_id"], self.labels)
        return spoken


@dataclass(frozen=True, slots=True)
class Seen:
    """What one row group, or all of them together, holds.

    Attributes:
        spoken: the rows that something speaks of, `SPOKEN`.
        odd: columns in which a row of which nothing speaks has another verdict than silence gives.
        drops: whether a row has the action drop.
        masks: whether a row is a mask's.
        tracks: whether a row is a track's.
        keys: a number of each row's id, equal for equal ids; None where the ids are of no fixed length.
        orderly: whether rows ascend by sample, and a row without a label is its sample's only one.
        ends: first and last row, (sample id, label id).
        soft: what is wrong with the soft labels beside the rows; None: nothing.
        stale: `uri` of rows whose soft label was made for another image.
    """

    spoken: pa.Table
    odd: set[str]
    drops: bool
    masks: bool
    tracks: bool
    keys: NDArray[np.uint64] | None
    orderly: bool
    ends: list[tuple[str, str | None]]
    soft: str | None = None
    stale: list[str] = field(default_factory=list)


class Opened:
    """A version whose files are what was published, and what a pass over its rows finds; the pass is made once."""

    def __init__(self, place: Place, manifest: Mapping[str, Any]) -> None:
        self.place, self.manifest = place, manifest

    @cached_property
    def policy(self) -> Policy:
        """The policy that the verdicts were made by."""
        return Policy.of_version(load_evidence(self.place, "policy"))

    @cached_property
    def groups(self) -> list[RowGroup]:
        """The row groups of `data/`."""
        return row_groups(self.place, self.manifest, "data")

    @property
    def n_rows(self) -> int:
        """Rows in `data/`."""
        return sum(group.n_rows for group in self.groups)

    @cached_property
    def findings(self) -> pa.Table:
        """All findings."""
        return load_table(self.place, self.manifest, "findings")

    @cached_property
    def decisions(self) -> pa.Table:
        """All decisions."""
        return load_table(self.place, self.manifest, "decisions")

    @cached_property
    def excluded(self) -> pa.Table:
        """The rows that a verdict took out: `SPOKEN` and error_code."""
        out = load_table(self.place, self.manifest, "excluded", [*SPOKEN, "error_code", "stage"])
        return out.filter(pc.equal(out["stage"], "verdict")).drop_columns(["stage"])

    @cached_property
    def rows(self) -> Seen:
        """What `data/`, and `soft/` beside it, hold."""
        told = [self.findings, self.decisions, self.excluded]
        silence = Silence.of(self.policy)
        samples = pc.unique(pa.chunked_array([chunk for table in told for chunk in table["sample_id"].chunks]))
        spoken = Spoken(
            sorted(samples.drop_null().to_pylist()), pa.array([], pa.string()), everything=silence is None
        )
        seen = self._pass(spoken, silence)
        if not seen.orderly:
            return self._pass(Spoken((), pa.array([], pa.string()), everything=True), silence)
        labels = pa.chunked_array([chunk for table in told for chunk in table["label_id"].chunks], pa.string())
        known = pa.concat_arrays([table["label_id"].combine_chunks() for table in (seen.spoken, self.excluded)])
        stray = pc.unique(labels.filter(pc.invert(pc.is_in(labels, value_set=known)))).drop_null()
        if len(stray):  # said of a label under the name of another sample, or of one that is not here at all
            others = self._pass(Spoken((), stray), silence).spoken["sample_id"].to_pylist()
            if others:
                everyone = sorted({*spoken.samples, *others})
                return self._pass(Spoken(everyone, pa.array([], pa.string())), silence)
        return seen

    def _pass(self, spoken: Spoken, silence: Silence | None) -> Seen:
        soft = row_groups(self.place, self.manifest, "soft") if "soft" in self.manifest["tables"] else None
        look = partial(_look, soft=soft, spoken=spoken, silence=silence)
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            seen = _together(list(pool.map(look, self.groups)))
        if soft is not None and sum(group.n_rows for group in soft) != self.n_rows:
            return replace(seen, soft=MISALIGNED)
        return seen


MISALIGNED = "the rows of soft/ are not those of data/"


def _look(group: RowGroup, *, soft: Sequence[RowGroup] | None, spoken: Spoken, silence: Silence | None) -> Seen:
    rows = group.read([name for name in SPOKEN if name != "content_sha256"])
    chosen = spoken.mask(rows)
    hashes = pa.nulls(rows.num_rows, pa.string())
    wrong, stale = None, list[str]()
    if chosen.any():
        hashes = group.read(["content_sha256"])["content_sha256"]
    if soft is not None:
        wrong, stale = _beside(soft, group, rows, hashes if chosen.any() else None)
    kept = rows.append_column("content_sha256", hashes).filter(pa.array(chosen)).select(SPOKEN)
    last = rows.num_rows - 1
    return Seen(
        spoken=kept,
        odd=set() if silence is None or chosen.all() else _odd(rows, chosen, silence),
        drops=bool(pc.any(pc.equal(rows["action"], "drop")).as_py()),
        masks=bool(pc.any(pc.equal(rows["task"], "segmentation")).as_py()),
        tracks=bool(pc.any(pc.equal(rows["task"], "tracking")).as_py()),
        keys=id_numbers(pc.coalesce(rows["label_id"], rows["sample_id"]).combine_chunks()),
        orderly=_orderly(rows),
        ends=[tuple(rows[name][at].as_py() for name in _IDS) for at in (0, last)] if rows.num_rows else [],
        soft=wrong,
        stale=stale,
    )


def _odd(rows: pa.Table, chosen: Mask, silence: Silence) -> set[str]:
    """Return the columns in which an unchosen row is not what silence makes of it."""
    expected = rows["given_label"]
    if rows["label_id"].null_count:
        expected = pc.if_else(pc.is_valid(rows["label_id"]), expected, pa.scalar(None, pa.string()))
    differs = {
        "action": pc.fill_null(pc.not_equal(rows["action"], silence.action), fill_value=True).to_numpy(),
        "weight": rows["weight"].to_numpy() != silence.weight,
        "risk": rows["risk"].to_numpy() != silence.risk,
    }
    if not rows["released_label"].equals(expected):
        differs["released_label"] = flat_differs(rows["released_label"], expected)
    for name in ("reasons", "reason_codes"):
        differs[name] = pc.fill_null(pc.list_value_length(rows[name]), -1).to_numpy() != 0
    return {name for name, mask in differs.items() if (mask & ~chosen).any()}


def _beside(
    soft: Sequence[RowGroup], group: RowGroup, rows: pa.Table, hashes: pa.ChunkedArray | None
) -> tuple[str | None, list[str]]:
    """Return what is wrong with the soft labels beside rows, and `uri` of those made for another image."""
    found = read_rows(soft, group.start, group.n_rows, [*_IDS, MADE_FOR.name])
    if found.num_rows != rows.num_rows or not all(found[name].equals(rows[name]) for name in _IDS):
        return MISALIGNED, []
    if MADE_FOR.name not in found.column_names or found[MADE_FOR.name].null_count == found.num_rows:
        return None, []
    if hashes is None:
        hashes = group.read(["content_sha256"])["content_sha256"]
    try:
        differs = pc.fill_null(pc.not_equal(found[MADE_FOR.name], image_keys(hashes)), fill_value=False)
    except InputError as error:
        return str(error), []
    return None, group.read(["uri"])["uri"].filter(differs).to_pylist() if pc.any(differs).as_py() else []


def _orderly(rows: pa.Table) -> bool:
    ids = rows["sample_id"].combine_chunks()
    first, second = ids[:-1], ids[1:]
    if not pc.all(pc.less_equal(first, second), min_count=0).as_py():
        return False
    bare = pc.is_null(rows["label_id"]).to_numpy()
    if not bare.any():
        return True
    same = pc.equal(first, second).to_numpy(zero_copy_only=False)
    return not (same & (bare[:-1] | bare[1:])).any()


def is_in(values: pa.ChunkedArray, these: pa.Array) -> Mask:
    """Return which values are among these; null is not."""
    found: Mask = pc.is_in(values, value_set=these, skip_nulls=True).to_numpy(zero_copy_only=False)
    return found


def _together(parts: Sequence[Seen]) -> Seen:
    keys = [part.keys for part in parts if part.keys is not None]
    ends = [part.ends for part in parts if part.ends]
    joins = all(
        last[0] < first[0] or (last[0] == first[0] and None not in {last[1], first[1]})
        for (_, last), (first, _) in pairwise(ends)
    )
    return Seen(
        spoken=pa.concat_tables([part.spoken for part in parts]) if parts else _KEPT.empty_table(),
        odd=set().union(*(part.odd for part in parts)),
        drops=any(part.drops for part in parts),
        masks=any(part.masks for part in parts),
        tracks=any(part.tracks for part in parts),
        keys=np.concatenate([np.zeros(0, np.uint64), *keys]) if len(keys) == len(parts) else None,
        orderly=joins and all(part.orderly for part in parts),
        ends=[ends[0][0], ends[-1][1]] if ends else [],
        soft=next((part.soft for part in parts if part.soft), None),
        stale=[uri for part in parts for uri in part.stale],
    )
