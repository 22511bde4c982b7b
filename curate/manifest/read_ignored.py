"""What is to be ignored in a version, read or found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from curate.manifest.ignore import READ, ignored
from curate.manifest.place import Place
from curate.manifest.read import load_evidence, load_table
from curate.manifest.tables import IGNORE
from curate.policy import Policy


def load_ignored(version: Place, manifest: Mapping[str, Any]) -> pa.Table:
    """Return `tables.IGNORE` of a version; of one that an earlier curate made, found from what it holds.

    Raises:
        VerificationError: a part is missing or cannot be read.
    """
    if "ignore" in manifest["tables"]:
        return load_table(version, manifest, "ignore")
    found = ignored(
        load_table(version, manifest, "data", READ["data"]),
        load_table(version, manifest, "excluded", READ["excluded"]),
        load_table(version, manifest, "findings"),
        load_table(version, manifest, "decisions"),
        Policy.of_version(load_evidence(version, "policy")),
    )
    return IGNORE.empty_table() if found is None else found
