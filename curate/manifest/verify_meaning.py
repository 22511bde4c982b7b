"""Promises about meaning: rows, counts, soft labels, verdicts and gates recompute from what is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.errors import InputError, VerificationError
from curate.gates import gate_result
from curate.manifest.ignore import READ, ignored
from curate.manifest.place import Place, parquet_file
from curate.manifest.promise import Promise, promise_of
from curate.manifest.read import load_evidence, load_table
from curate.manifest.rows import renamed_tracks
from curate.manifest.soft import MADE_FOR, image_keys
from curate.manifest.stale import refuse_other_images, refuse_stale
from curate.manifest.store import describe
from curate.manifest.verify_maps import refuse_other_words, wrong_maps
from curate.manifest.verify_rows import Opened
from curate.manifest.vouched import vouched
from curate.verdict_people import taken_ids
from curate.verdicts import decide

Check = Callable[[Opened], tuple[list[str], str]]


def _rows(version: Opened) -> tuple[list[str], str]:
    wrong, manifest = [], version.manifest
    n_rows = dict.fromkeys(manifest["tables"], 0)
    for entry in manifest["files"]:
        kind = entry["path"].partition("/")[0]
        if kind not in n_rows:
            continue
        file = parquet_file(version.place / entry["path"])
        n_rows[kind] += file.metadata.num_rows
        if file.metadata.num_rows != entry["rows"]:
            wrong.append(f"{entry['path']} has {file.metadata.num_rows} rows, listed are {entry['rows']}")
        if describe(file.schema_arrow.empty_table())["columns"] != manifest["tables"][kind]["columns"]:
            wrong.append(f"{entry['path']} has other columns than described")
    wrong += [
        f"{kind}/ has {n} rows, described are {manifest['tables'][kind]['rows']}"
        for kind, n in n_rows.items()
        if n != manifest["tables"][kind]["rows"]
    ]
    return wrong, ", ".join(f"{kind} {n}" for kind, n in n_rows.items())


def _counts(version: Opened) -> tuple[list[str], str]:
    counts, tables = version.manifest["counts"], version.manifest["tables"]
    n_excluded = tables["excluded"]["rows"]
    n_rows = version.n_rows
    wrong = []
    if (counts["n_released"], counts["n_excluded"]) != (n_rows, n_excluded):
        wrong.append(f"data and excluded have {n_rows} and {n_excluded} rows, counted were {counts}")
    if counts["n_in"] != n_rows + n_excluded:
        wrong.append(f"{counts['n_in']} rows came in, {n_rows} + {n_excluded} are here")
    if version.rows.drops:
        wrong.append("data/ holds rows with the action drop")
    if _holds_a_row_twice(version):
        wrong.append("data/ holds a row twice")
    return wrong, f"{counts['n_in']} in = {counts['n_released']} released + {counts['n_excluded']} excluded"


def _holds_a_row_twice(version: Opened) -> bool:
    """Compare the numbers of the ids; only where two are equal, or ids have none, the ids themselves."""
    numbers = version.rows.keys
    if numbers is not None:
        numbers = np.sort(numbers)
        if not (numbers[1:] == numbers[:-1]).any():
            return False
    data = load_table(version.place, version.manifest, "data", ["sample_id", "label_id"])
    return bool(pc.count_distinct(pc.coalesce(data["label_id"], data["sample_id"])).as_py() != data.num_rows)


def _soft(version: Opened) -> tuple[list[str], str]:
    wrong: list[str] = []
    told: list[str] = []
    if "soft" in version.manifest["tables"]:
        found, detail = _soft_rows(version)
        wrong, told = wrong + found, [*told, detail]
    if "soft_masks" in version.manifest["tables"]:
        found, detail = wrong_maps(version.place, version.manifest)
        wrong, told = wrong + found, [*told, detail]
    return wrong, "; ".join(told) or "none in this version"


def _soft_rows(version: Opened) -> tuple[list[str], str]:
    manifest, seen = version.manifest, version.rows
    told = manifest["soft"]
    detail = f"{told['layout']}, beside data/ row by row, temperature {told['temperature']}; none is stale"
    if seen.soft:
        return [seen.soft], detail
    try:
        refuse_stale(seen.stale, version.n_rows)
        wrong = _soft_boxes(version.place, manifest)
        refuse_other_words(version.place, manifest, ("soft/", "soft_boxes/"), manifest["soft"])
    except InputError as error:
        return [str(error)], detail
    return wrong, detail


def _soft_boxes(version: Place, manifest: Mapping[str, Any]) -> list[str]:
    """Say what is wrong with boxes that only detectors see: each lies in a released image, and was seen in its bytes."""
    if "soft_boxes" not in manifest["tables"]:
        return []
    boxes = load_table(version, manifest, "soft_boxes", ["sample_id", MADE_FOR.name])
    data = load_table(version, manifest, "data", ["sample_id", "uri", "content_sha256"]).combine_chunks()
    at = pc.index_in(boxes["sample_id"], value_set=data["sample_id"])
    if at.null_count:
        return ["soft_boxes/ holds boxes of images that are not released"]
    of_image = data.take(at)
    refuse_other_images(of_image, boxes[MADE_FOR.name], image_keys(of_image["content_sha256"]))
    return []


def _verdicts(version: Opened) -> tuple[list[str], str]:
    """Decide again about every row that something speaks of; the others were held against silence where they lie."""
    names = schema.VERDICTS.names
    seen, excluded = version.rows, version.excluded
    released = seen.spoken.append_column("error_code", pa.nulls(seen.spoken.num_rows, pa.string()))
    rows = pa.concat_tables([released, excluded.select(released.column_names)], promote_options="permissive")
    rows = rows.sort_by([("sample_id", "ascending"), ("label_id", "ascending")]).combine_chunks()
    labels = rows.filter(pc.is_valid(rows["label_id"])).rename_columns({"given_label": "label"})
    first = rows.group_by("sample_id", use_threads=False).aggregate(
        [("content_sha256", "first"), ("error_code", "first")]
    )
    samples = first.rename_columns(["sample_id", "content_sha256", "error_code"])
    again = decide(samples, labels, version.findings, version.policy, version.decisions)
    odd = {name for name in names if not again[name].combine_chunks().equals(rows[name].combine_chunks())}
    different = [name for name in names if name in odd | seen.odd]
    wrong = (
        [f"recomputed from findings, policy and decisions they differ in: {', '.join(different)}"]
        if different
        else []
    )
    wrong += _masks(version) + _tracks(version)
    told = f"{excluded.num_rows + version.n_rows} recomputed from findings, policy and decisions"
    wrong += _ignore(version)
    if "ignore" not in version.manifest["tables"]:
        return wrong, told
    n_places = version.manifest["tables"]["ignore"]["rows"]
    return wrong, f"{told}; so are {n_places} places to ignore"


def _ignore(version: Opened) -> list[str]:
    """Find again what nobody vouches for, and compare with what is stored; without such a table nothing may be found."""
    is_stored = "ignore" in version.manifest["tables"]
    if not is_stored and "given_mask" not in _columns_of_data(version):  # published by an earlier curate
        return []
    may_find = version.rows.masks or version.excluded.num_rows or version.findings["label_id"].null_count
    if not (is_stored or may_find):
        return []
    names = READ["data"] if version.rows.masks else ("sample_id", "content_sha256")
    data = load_table(version.place, version.manifest, "data", names)
    excluded = load_table(version.place, version.manifest, "excluded", READ["excluded"])
    found = ignored(data, excluded, version.findings, version.decisions, version.policy)
    if found is None and not is_stored:
        return []
    stored = load_table(version.place, version.manifest, "ignore").combine_chunks() if is_stored else None
    if found is None or stored is None or any(not stored[name].equals(found[name]) for name in stored.column_names):
        return ["ignore/ is not what was held back in released images"]
    return []


def _columns_of_data(version: Opened) -> set[str]:
    return {column["name"] for column in version.manifest["tables"]["data"]["columns"]}


def _masks(version: Opened) -> list[str]:
    """Take the regions in doubt out of the given masks again, move those that people gave away, and compare."""
    if "given_mask" not in _columns_of_data(version):  # published by an earlier curate
        return []
    if not version.rows.masks:
        return []
    names = ["sample_id", "label_id", "task", "action", "content_sha256", "released_label", "mask", "given_mask"]
    data = load_table(version.place, version.manifest, "data", names)
    data = data.filter(pc.equal(data["task"], "segmentation")).combine_chunks()
    whole = pa.array(
        [g or m for g, m in zip(data["given_mask"].to_pylist(), data["mask"].to_pylist(), strict=True)],
        schema.MASK_RLE,
    )
    at = names.index("mask")
    given = data.set_column(at, data.schema.field("mask"), whole)
    again = vouched(
        given.set_column(at + 1, data.schema.field("given_mask"), pa.nulls(data.num_rows, schema.MASK_RLE)),
        version.findings,
        version.decisions,
    )
    different = [name for name in ("mask", "given_mask") if again[name].to_pylist() != data[name].to_pylist()]
    return [f"without the regions in doubt masks differ in: {', '.join(different)}"] if different else []


def _tracks(version: Opened) -> list[str]:
    """Give the labels of tracks the ids that people took for them again, and compare with what was released."""
    if not version.rows.tracks or "given_track_id" not in _columns_of_data(
        version
    ):  # no track; or an earlier curate's
        return []
    names = ["label_id", "content_sha256", "track_id", "given_track_id"]
    data = load_table(version.place, version.manifest, "data", names).combine_chunks()
    given = pc.coalesce(data["given_track_id"], data["track_id"])
    taken = taken_ids(version.decisions, data["label_id"], data["content_sha256"])
    again = dict(zip(("given_track_id", "track_id"), renamed_tracks(given, taken), strict=True))
    different = [name for name in again if again[name].to_pylist() != data[name].to_pylist()]
    return (
        [f"given the ids that people took for them labels differ in: {', '.join(different)}"] if different else []
    )


def _gates(version: Opened) -> tuple[list[str], str]:
    """Judge the stored statistics again by the stored policy."""
    numbers = ("value", "low", "high", "threshold")
    rows = [
        {key: float(value) if key in numbers and value is not None else value for key, value in row.items()}
        for row in load_evidence(version.place, "statistics")
    ]
    again = gate_result(schema.table_from_rows(rows, schema.STATISTICS), version.policy.all_gates()).outcome
    said = version.manifest["gates"]
    wrong = [] if again == said else [f"the manifest says {said}, statistics and policy say {again}"]
    return wrong, f"{said}; judged again from statistics and policy"


BY_MEANING: Mapping[str, Check] = {
    "rows": _rows,
    "counts": _counts,
    "soft labels": _soft,
    "verdicts": _verdicts,
    "gates": _gates,
}


def kept(name: str, check: Check, version: Opened) -> Promise:
    """Return the promise that a check is about; what cannot be checked is broken, not left out."""
    try:
        wrong, detail = check(version)
    except (VerificationError, InputError, OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        return Promise(name, ok=False, detail=f"cannot be checked: {error}")
    return promise_of(name, wrong, detail)
