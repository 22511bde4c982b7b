"""A version in a diff: its manifest, its row groups, and the rows that say why something is out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate.errors import VerificationError
from curate.manifest.diff_match import keys_of
from curate.manifest.place import Place, resolved
from curate.manifest.read import load_named_manifest, load_table
from curate.manifest.row_groups import RowGroup, row_groups
from curate.manifest.verify_files import missing_or_cut


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two versions.

    Attributes:
        id: of the version.
        version: where it is.
        manifest: of it.
        out: action and reasons of what this version excluded.
        out_keys: what `out` is matched by.
    """

    id: str
    version: Place
    manifest: Mapping[str, Any]
    out: pa.Table
    out_keys: pa.Array

    @classmethod
    def of(cls, version: Place) -> Side:
        """Return the side of a version.

        Raises:
            InputError: there is no version.
            VerificationError: it cannot be read, or a file is missing or cut off: also of what both versions share.
        """
        manifest = load_named_manifest(version)
        damage = missing_or_cut(version, manifest)
        if damage:
            msg = f"{version} is not what was published: {'; '.join(damage[:3])}. Run curate verify."
            raise VerificationError(msg)
        wanted = ["sample_id", "label_id", "action", "reasons", "reason_codes"]
        out = load_table(version, manifest, "excluded", [*wanted, "stage"])
        out = out.filter(pc.equal(out["stage"], "verdict")).combine_chunks()
        return cls(resolved(version).name, version, manifest, out, keys_of(out))

    def has(self, kind: str) -> bool:
        """Whether the version has a table."""
        return kind in self.manifest["tables"]

    def parts(self, kind: str) -> set[str]:
        """Return the sha256 of each part of a table."""
        return {one["sha256"] for one in self.manifest["files"] if one["path"].startswith(f"{kind}/")}

    def groups(self, kind: str, *, but: set[str], beside: str | None = None) -> list[RowGroup]:
        """Return row groups of a table without parts of these sha256: what both versions have is in no diff.

        `beside`: the table whose parts `but` speaks of, where another is wanted that has the same rows in each part.
        """
        named = beside or kind
        files = [one for one in self.manifest["files"] if one["path"].startswith(f"{named}/")]
        left_out = {one["path"].replace(named, kind, 1) for one in files if one["sha256"] in but}
        return row_groups(self.version, self.manifest, kind, but=left_out)

    def table(self, kind: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return a table, its parts in order."""
        return load_table(self.version, self.manifest, kind, columns)


def rows_at(
    groups: Sequence[RowGroup], places: NDArray[np.int64], columns: Sequence[str], pool: Executor
) -> pa.Table:
    """Return columns of the rows at these places, in their order; a row group is read only where it has one."""
    order = np.argsort(places, kind="stable")
    ascending = places[order]

    def part(group: RowGroup) -> pa.Table | None:
        first, last = np.searchsorted(ascending, [group.start, group.start + group.n_rows])
        if first == last:
            return None
        return group.read(columns).take(pa.array(ascending[first:last] - group.start))

    found = [one for one in pool.map(part, groups) if one is not None]
    if not found:
        return pa.table({})
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return pa.concat_tables(found).combine_chunks().take(pa.array(back))
