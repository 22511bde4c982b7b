"""What `verify --deep` adds: every value decodes, the suite of the release passes again, statistics recompute."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.errors import VerificationError
from curate.manifest.place import parquet_file
from curate.manifest.read import STREAMED, load_evidence, load_table
from curate.manifest.release_statistics import own_statistics
from curate.manifest.verify_maps import MASS_TOLERANCE, no_map
from curate.manifest.verify_meaning import Check
from curate.manifest.verify_rows import Opened


def _values(opened: Opened) -> tuple[list[str], str]:
    """Decode every column of every part, batch by batch; in labels and weights look at the values too."""
    version, manifest = opened.place, opened.manifest
    wrong: list[str] = []
    n_values = 0
    for entry in manifest["files"]:
        if entry["rows"] is None:
            continue
        try:
            n_rows = STREAMED.get(entry["path"].partition("/")[0], 65_536)
            for batch in parquet_file(version / entry["path"]).iter_batches(batch_size=n_rows):
                batch.validate(full=True)
                n_values += batch.num_rows * batch.num_columns
                if entry["path"].startswith("data/"):
                    wrong += [f"{entry['path']} {told}" for told in _odd(batch, manifest["classes"])]
                elif entry["path"].startswith(("soft/", "soft_boxes/")):
                    odd = _no_distribution(batch, len(manifest["classes"]), alone=_is_alone(manifest))
                    wrong += [f"{entry['path']} {told}" for told in odd]
                elif entry["path"].startswith("soft_masks/"):
                    wrong += [f"{entry['path']} {told}" for told in no_map(batch, manifest)]
        except (OSError, pa.ArrowException) as error:
            wrong.append(f"{entry['path']} cannot be decoded: {str(error).splitlines()[0]}")
    return sorted(
        set(wrong)
    ), f"{n_values:,} decoded; labels are classes, weights in [0, 1], soft labels {_WORDS[_is_alone(manifest)]}"


def _odd(batch: pa.RecordBatch, classes: list[str]) -> Iterator[str]:
    labels = batch["released_label"].drop_null()
    if not pc.all(pc.is_in(labels, value_set=pa.array(classes, pa.string()))).as_py() and len(labels):
        yield "holds labels that are no class"
    for name in ("weight", "risk"):
        low, high = (pc.min_max(batch[name])[bound].as_py() for bound in ("min", "max"))
        if low is not None and not (low >= 0 and high <= 1):
            yield f"holds a {name} outside [0, 1]"


_WORDS = {False: "sum to 1", True: "are in [0, 1]"}


def _is_alone(manifest: Mapping[str, Any]) -> bool:
    """Return whether the soft label of each class stands alone."""
    return bool(manifest["soft"]) and str(manifest["soft"]["kind"]).endswith("each class alone")


def _no_distribution(batch: pa.RecordBatch, n_classes: int, *, alone: bool = False) -> Iterator[str]:
    """Say where soft labels are none: probabilities in [0, 1] that sum to 1 (or stand alone), classes that exist."""
    if "objectness" in batch.schema.names:
        chance = batch["objectness"].drop_null().to_numpy(zero_copy_only=False).astype(np.float64)
        if not ((chance >= 0) & (chance <= 1)).all():
            yield "holds an objectness outside [0, 1]"
    full = "probs" in batch.schema.names
    if not full and "top_probs" not in batch.schema.names:
        return
    column = batch["probs" if full else "top_probs"]
    valid = np.flatnonzero(pc.is_valid(column).to_numpy(zero_copy_only=False))
    if not valid.size:
        return
    kept = column.drop_null()
    probs = pc.list_flatten(kept).to_numpy(zero_copy_only=False).astype(np.float64)
    if alone:
        known = probs[~np.isnan(probs)]  # a class that no teacher knows
        if not ((known >= 0) & (known <= 1)).all():
            yield "holds soft labels outside [0, 1]"
        return
    lengths = pc.list_value_length(kept).to_numpy(zero_copy_only=False).astype(np.int64)
    mass = np.add.reduceat(probs, np.concatenate([[0], np.cumsum(lengths)[:-1]]))
    if not full:
        mass = mass + batch["tail_mass"].to_numpy(zero_copy_only=False)[valid].astype(np.float64)
        tops = pc.min_max(pc.list_flatten(batch["top_classes"].drop_null()))
        if not (tops["min"].as_py() >= 0 and tops["max"].as_py() < n_classes):
            yield "names classes that are not there"
    if not (np.isfinite(probs).all() and (probs >= 0).all() and (np.abs(mass - 1) <= MASS_TOLERANCE).all()):
        yield "holds soft labels that do not sum to 1"


def _statistics(opened: Opened) -> tuple[list[str], str]:
    """Recompute the statistics that the stored tables determine and compare them with the stored ones."""
    version, manifest = opened.place, opened.manifest
    data = load_table(version, manifest, "data", ["sample_id", "action"])
    excluded = load_table(version, manifest, "excluded", ["action", "reason_codes"])
    stored = {_key(row): row["value"] for row in load_evidence(version, "statistics")}
    again = own_statistics(schema.empty(schema.STATISTICS), schema.empty(schema.INGEST_OUTCOMES), data, excluded)
    expected = {
        _key(row): row["value"] for table in again for row in table.to_pylist() if row["check"] == "release"
    }
    wrong = [
        f"{'.'.join(key[:2])} is stored as {stored.get(key)}, the tables say {value}"
        for key, value in expected.items()
        if not _same(stored.get(key), value)
    ]
    n_other = len(stored) - len(expected)
    return wrong, f"{len(expected)} recomputed from the tables; {n_other} need images or teachers and are not"


def _suites(opened: Opened) -> tuple[list[str], str]:
    """Hold data/ against the expectation suite again, with the sets that it was held against."""
    version, manifest = opened.place, opened.manifest
    names = {entry["path"] for entry in manifest["files"]}
    if "evidence/expectations_manifest.json" not in names:
        return [], "the release was published without a suite"
    then = load_evidence(version, "expectations_manifest")
    if "errored" in then:
        return [], "errored when the release was made, and its gate says so; not run again"
    from curate.gx import load_suite, validate  # noqa: PLC0415 - Great Expectations takes seconds to import

    suite = then["suite"]
    allowed = _allowed(load_suite(suite), then["expectations"])
    data = load_table(version, manifest, "data")
    now = validate(data, suite, allowed=allowed).evidence
    if now["suite_sha256"] != then["suite_sha256"]:
        raise VerificationError(
            f"the suite {suite} of this curate is another one than the release was held against; "
            f"verify --deep needs curate {manifest['versions']['curate']}"
        )
    wrong = [
        f"{suite} {line['type']} ({line['kwargs'].get('column', '')}): {was['outcome']} then, {line['outcome']} now"
        for was, line in zip(then["expectations"], now["expectations"], strict=True)
        if (was["outcome"], was["n_unexpected"]) != (line["outcome"], line["n_unexpected"])
    ]
    return wrong, f"{suite}: {now['n_expectations']} expectations on {data.num_rows:,} rows, the same outcomes"


def _allowed(suite: Mapping[str, Any], lines: list[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the sets that stood in the suite's placeholders when the release was made."""
    found: dict[str, list[Any]] = {}
    for item, line in zip(suite["expectations"], lines, strict=False):
        for name, value in item.get("kwargs", {}).items():
            if isinstance(value, dict) and "$allowed" in value:
                found[str(value["$allowed"])] = list(line["kwargs"].get(name, ()))
    return found


def _key(row: Mapping[str, Any]) -> tuple[str, str, str | None]:
    return row["check"], row["name"], row["group"]


def _same(stored: Any, value: float | None) -> bool:  # noqa: ANN401 - a JSON number, or text for what JSON lacks
    if stored is None or value is None:
        return stored is None and value is None
    return math.isclose(float(stored), value, rel_tol=1e-12, abs_tol=0.0)


DEEP: Mapping[str, Check] = {"values": _values, "statistics": _statistics, "suites": _suites}
