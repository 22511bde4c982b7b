"""Promises about meaning: rows, counts, soft labels, verdicts and gates recompute from what is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.errors import InputError, VerificationError
from curate.gates import gate_result
from curate.manifest.place import Place, parquet_file
from curate.manifest.promise import Promise, promise_of
from curate.manifest.read import load_evidence, load_table
from curate.manifest.read_ignored import ignored_in
from curate.manifest.soft import MADE_FOR, image_keys
from curate.manifest.stale import refuse_other_images
from curate.manifest.store import describe
from curate.manifest.verify_maps import refuse_other_words, wrong_maps
from curate.manifest.vouched import vouched
from curate.policy import Policy
from curate.verdicts import decide

Check = Callable[[Place, Mapping[str, Any]], tuple[list[str], str]]


def _rows(version: Place, manifest: Mapping[str, Any]) -> tuple[list[str], str]:
    wrong = []
    n_rows = dict.fromkeys(manifest["tables"], 0)
    for entry in manifest["files"]:
        kind = entry["path"].partition("/")[0]
        if kind not in n_rows:
            continue
        file = parquet_file(version / entry["path"])
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


def _counts(version: Place, manifest: Mapping[str, Any]) -> tuple[list[str], str]:
    counts = manifest["counts"]
    data = load_table(version, manifest, "data", ["sample_id", "label_id", "action"])
    n_excluded = manifest["tables"]["excluded"]["rows"]
    wrong = []
    if (counts["n_released"], counts["n_excluded"]) != (data.num_rows, n_excluded):
        wrong.append(f"data and excluded have {data.num_rows} and {n_excluded} rows, counted were {counts}")
    if counts["n_in"] != data.num_rows + n_excluded:
        wrong.append(f"{counts['n_in']} rows came in, {data.num_rows} + {n_excluded} are here")
    if pc.any(pc.equal(data["action"], "drop")).as_py():
        wrong.append("data/ holds rows with the action drop")
    keys = pc.coalesce(data["label_id"], data["sample_id"])
    if pc.count_distinct(keys).as_py() != data.num_rows:
        wrong.append("data/ holds a row twice")
    return wrong, f"{counts['n_in']} in = {counts['n_released']} released + {counts['n_excluded']} excluded"


def _soft(version: Place, manifest: Mapping[str, Any]) -> tuple[list[str], str]:
    wrong: list[str] = []
    told: list[str] = []
    if "soft" in manifest["tables"]:
        found, detail = _soft_rows(version, manifest)
        wrong, told = wrong + found, [*told, detail]
    if "soft_masks" in manifest["tables"]:
        found, detail = wrong_maps(version, manifest)
        wrong, told = wrong + found, [*told, detail]
    return wrong, "; ".join(told) or "none in this version"


def _soft_rows(version: Place, manifest: Mapping[str, Any]) -> tuple[list[str], str]:
    ids = ["sample_id", "label_id"]
    soft = load_table(version, manifest, "soft", [*ids, MADE_FOR.name]).combine_chunks()
    data = load_table(version, manifest, "data", [*ids, "uri", "content_sha256"]).combine_chunks()
    told = manifest["soft"]
    detail = f"{told['layout']}, beside data/ row by row, temperature {told['temperature']}; none is stale"
    if soft.num_rows != data.num_rows or not all(soft[name].equals(data[name]) for name in ids):
        return ["the rows of soft/ are not those of data/"], detail
    try:
        if MADE_FOR.name in soft.column_names:
            refuse_other_images(data, soft[MADE_FOR.name], image_keys(data["content_sha256"]))
        wrong = _soft_boxes(version, manifest, data)
        refuse_other_words(version, manifest, ("soft/", "soft_boxes/"), manifest["soft"])
    except InputError as error:
        return [str(error)], detail
    return wrong, detail


def _soft_boxes(version: Place, manifest: Mapping[str, Any], data: pa.Table) -> list[str]:
    """Say what is wrong with boxes that only detectors see: each lies in a released image, and was seen in its bytes."""
    if "soft_boxes" not in manifest["tables"]:
        return []
    boxes = load_table(version, manifest, "soft_boxes", ["sample_id", MADE_FOR.name])
    at = pc.index_in(boxes["sample_id"], value_set=data["sample_id"])
    if at.null_count:
        return ["soft_boxes/ holds boxes of images that are not released"]
    of_image = data.take(at)
    refuse_other_images(of_image, boxes[MADE_FOR.name], image_keys(of_image["content_sha256"]))
    return []


def _verdicts(version: Place, manifest: Mapping[str, Any]) -> tuple[list[str], str]:
    """Recompute every verdict and compare it with the stored one."""
    names = ["sample_id", "label_id", "given_label", "task", "content_sha256"]
    verdict = schema.VERDICTS.names
    columns = [*names, *(name for name in verdict if name not in names)]
    data = load_table(version, manifest, "data", columns)
    excluded = load_table(version, manifest, "excluded", [*columns, "error_code", "stage"])
    excluded = excluded.filter(pc.equal(excluded["stage"], "verdict")).drop_columns(["stage"])
    data = data.append_column("error_code", pa.nulls(data.num_rows, pa.string()))
    rows = pa.concat_tables(
        [t.select([*columns, "error_code"]) for t in (data, excluded)], promote_options="permissive"
    )
    rows = rows.sort_by([("sample_id", "ascending"), ("label_id", "ascending")]).combine_chunks()
    labels = rows.filter(pc.is_valid(rows["label_id"])).rename_columns({"given_label": "label"})
    first = rows.group_by("sample_id", use_threads=False).aggregate(
        [("content_sha256", "first"), ("error_code", "first")]
    )
    samples = first.rename_columns(["sample_id", "content_sha256", "error_code"])
    policy = Policy.of_version(load_evidence(version, "policy"))
    findings, decisions = (load_table(version, manifest, kind) for kind in ("findings", "decisions"))
    again = decide(samples, labels, findings, policy, decisions)
    different = [name for name in verdict if not again[name].combine_chunks().equals(rows[name].combine_chunks())]
    wrong = (
        [f"recomputed from findings, policy and decisions they differ in: {', '.join(different)}"]
        if different
        else []
    )
    wrong += _masks(version, manifest, findings)
    told = f"{rows.num_rows} recomputed from findings, policy and decisions"
    if "ignore" not in manifest["tables"]:
        return wrong, told
    stored, found = load_table(version, manifest, "ignore").combine_chunks(), ignored_in(version, manifest)
    if found is None or not all(stored[name].equals(found[name]) for name in stored.column_names):
        wrong.append("ignore/ is not what was held back in released images")
    return wrong, f"{told}; so are {stored.num_rows} places to ignore"


def _masks(version: Place, manifest: Mapping[str, Any], findings: pa.Table) -> list[str]:
    """Take the regions in doubt out of the given masks again, and compare with what was released."""
    columns = {column["name"] for column in manifest["tables"]["data"]["columns"]}
    if "given_mask" not in columns:  # published by an earlier curate
        return []
    names = ["sample_id", "label_id", "task", "action", "mask", "given_mask"]
    data = load_table(version, manifest, "data", names)
    data = data.filter(pc.equal(data["task"], "segmentation")).combine_chunks()
    if not data.num_rows:
        return []
    whole = pa.array(
        [g or m for g, m in zip(data["given_mask"].to_pylist(), data["mask"].to_pylist(), strict=True)],
        schema.MASK_RLE,
    )
    given = data.set_column(4, data.schema.field("mask"), whole)
    again = vouched(
        given.set_column(5, data.schema.field("given_mask"), pa.nulls(data.num_rows, schema.MASK_RLE)), findings
    )
    different = [name for name in ("mask", "given_mask") if again[name].to_pylist() != data[name].to_pylist()]
    return [f"without the regions in doubt masks differ in: {', '.join(different)}"] if different else []


def _gates(version: Place, manifest: Mapping[str, Any]) -> tuple[list[str], str]:
    """Judge the stored statistics again by the stored policy."""
    numbers = ("value", "low", "high", "threshold")
    rows = [
        {key: float(value) if key in numbers and value is not None else value for key, value in row.items()}
        for row in load_evidence(version, "statistics")
    ]
    policy = Policy.of_version(load_evidence(version, "policy"))
    again = gate_result(schema.table_from_rows(rows, schema.STATISTICS), policy.all_gates()).outcome
    said = manifest["gates"]
    wrong = [] if again == said else [f"the manifest says {said}, statistics and policy say {again}"]
    return wrong, f"{said}; judged again from statistics and policy"


BY_MEANING: Mapping[str, Check] = {
    "rows": _rows,
    "counts": _counts,
    "soft labels": _soft,
    "verdicts": _verdicts,
    "gates": _gates,
}


def kept(name: str, check: Check, version: Place, manifest: Mapping[str, Any]) -> Promise:
    """Return the promise that a check is about; what cannot be checked is broken, not left out."""
    try:
        wrong, detail = check(version, manifest)
    except (VerificationError, InputError, OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        return Promise(name, ok=False, detail=f"cannot be checked: {error}")
    return promise_of(name, wrong, detail)
