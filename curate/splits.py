"""Splits for samples that came without one: by a hash, so that a sample keeps its split for ever."""

from __future__ import annotations

import hashlib
from itertools import accumulate
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.errors import ConfigError, did_you_mean
from curate.spec import SplitSpec

UNSPLIT = "unsplit"  # what a sample is in when nothing was given and no rule was declared


def assign_splits(samples: pa.Table, rule: Literal["given"] | SplitSpec, *, seed: int) -> pa.Table:
    """Return the samples with a split each; a given one is kept.

    The group (or else the sample) decides by a hash of its name and the seed: adding data moves nothing.

    Args:
        samples: `schema.SAMPLES` with `group_*`.
        rule: "given" leaves what has none in the split "unsplit"; a SplitSpec shares it out.
        seed: another seed gives another assignment.

    Raises:
        ConfigError: the rule names a group that the samples do not have.
    """
    if rule == "given":
        return _with_split(samples, pc.fill_null(samples["split"], UNSPLIT))
    keys = samples["sample_id"]
    if rule.by is not None:
        column = schema.GROUP_PREFIX + rule.by
        if column not in samples.column_names:
            groups = [n.removeprefix(schema.GROUP_PREFIX) for n in samples.column_names if n.startswith("group_")]
            raise ConfigError(
                f"split.by needs a declared group; given: {rule.by!r}. Groups: {', '.join(groups) or 'none'}. "
                f"{did_you_mean(rule.by, groups)}".rstrip()
            )
        keys = pc.coalesce(samples[column], keys)
    unique = pc.unique(keys)
    names = list(rule.fractions)
    bounds = list(accumulate(rule.fractions.values()))
    chosen = [_choose(f"{seed}\0{key}", names, bounds) for key in unique.to_pylist()]
    assigned = pa.array(chosen, pa.string()).take(pc.index_in(keys, value_set=unique))
    return _with_split(samples, pc.coalesce(samples["split"], assigned))


def _with_split(samples: pa.Table, split: pa.ChunkedArray) -> pa.Table:
    return samples.set_column(samples.column_names.index("split"), "split", split)


def _choose(key: str, names: list[str], bounds: list[float]) -> str:
    at = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()[:8], "big") / 2**64
    return next((name for name, bound in zip(names, bounds, strict=True) if at < bound), names[-1])
