"""A version without the erased rows: the release that takes its place. Pure, on the tables of the version."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.gates import gate_result, judge
from curate.governance.traces import Traces
from curate.manifest.build import Release
from curate.manifest.ignore import ignored
from curate.manifest.inputs import UNKNOWN
from curate.manifest.read import LoadedRelease, load_table
from curate.manifest.release_statistics import own_statistics, sorted_statistics
from curate.manifest.stream import RowStream
from curate.policy import Policy
from curate.runs import digest_json
from curate.verdict_boxes import decided_places, without_places
from curate.verdict_people import standing
from curate.verdicts import decide

NOTE = (
    "Rows were erased on request. Statistics of checks, gates on them and soft labels of other rows are those of the "
    "version before; the next run computes them anew."
)


def successor(version: LoadedRelease, sample_ids: pa.Array, traces: Traces) -> Release:
    """Return what is left of a version without some samples.

    Their rows go from every table. A finding of another row that names them keeps its place without the name, under
    a new id. Verdicts are computed again from what is left, so that nothing else changes and the version verifies.

    Args:
        version: as it was published.
        sample_ids: string, of the samples that go.
        traces: what of them is taken out of texts and evidence.
    """
    policy = Policy.of_version(version.evidence["policy"])
    findings, renamed = _findings(version.findings, sample_ids, traces, _decided(version))
    decisions = _without(version.decisions, sample_ids)
    decisions = _replaced(decisions, "finding_id", _mapped(decisions["finding_id"], renamed))
    keep = pc.invert(_are_in(version.data["sample_id"], sample_ids))
    data = version.data.filter(keep)
    excluded = _excluded(version.excluded, sample_ids, traces)
    data, excluded = _judged(data, excluded, findings, decisions, policy)
    statistics = _statistics(version.evidence["statistics"], data, excluded, traces)
    gates = gate_result(statistics, policy.all_gates())
    judged = sorted_statistics(judge(statistics, policy.all_gates()))
    n_gone = version.data.num_rows - data.num_rows + version.excluded.num_rows - excluded.num_rows
    soft = None if version.soft is None else version.soft.filter(keep).combine_chunks()
    soft_boxes = None if version.soft_boxes is None else _without(version.soft_boxes, sample_ids).combine_chunks()
    soft_masks = None if version.soft_masks is None else _streamed_without(version.soft_masks, sample_ids)
    head = _head(version.manifest, data, excluded, (soft, soft_boxes), decisions, gates.outcome)
    if soft_masks is not None:
        maps = load_table(version.path, version.manifest, "soft_masks", ["sample_id"])
        head = _with_maps(head, data, _without(maps, sample_ids).num_rows)
    evidence = {
        **traces.scrub_json(version.evidence),
        "erasure": {"n_rows": n_gone + _n_before(version), "note": NOTE},
        "gates": {"outcome": gates.outcome, "rows": gates.rows.to_pylist()},
        "policy": version.evidence["policy"],
        "statistics": judged.to_pylist(),
        "teachers": version.evidence["teachers"],
    }
    return Release(
        data=data,
        soft=soft,
        excluded=excluded,
        findings=findings,
        decisions=decisions.combine_chunks(),
        evidence=evidence,
        head=head,
        statistics=judged,
        gates=gates,
        soft_boxes=soft_boxes,
        soft_masks=soft_masks,
        ignore=None
        if version.ignore is None
        else ignored(data, excluded, findings, decisions.combine_chunks(), policy),
    )


def named_in(version: LoadedRelease, sample_ids: pa.Array, traces: Traces) -> tuple[int, int, list[str]]:
    """Return rows of `data/` and `excluded/` that go, and ids of findings that name an erased sample.

    A version that names one in nothing but its evidence counts as one row, so that it is not passed over.
    """
    n_data = _count(_are_in(version.data["sample_id"], sample_ids))
    n_excluded = version.excluded.num_rows - _excluded(version.excluded, sample_ids, traces).num_rows
    findings = version.findings.filter(_about(version.findings, sample_ids))["finding_id"].to_pylist()
    if not (n_data or n_excluded or findings):
        tables = (version.findings, version.decisions, version.excluded)
        if traces.json_hits(version.evidence) or any(any(traces.rows(table)) for table in tables):
            n_excluded = 1
    return n_data, n_excluded, findings


def _n_before(version: LoadedRelease) -> int:
    """Return the rows that former erasures took out."""
    return int(version.evidence.get("erasure", {}).get("n_rows", 0))


def _about(findings: pa.Table, sample_ids: pa.Array) -> pa.ChunkedArray:
    """Return which findings are about an erased sample or name one as related."""
    related = findings["related_ids"].combine_chunks()
    parents = pc.list_parent_indices(related).filter(_are_in(pc.list_flatten(related), sample_ids))
    named = np.zeros(findings.num_rows, dtype=bool)
    named[np.asarray(parents, dtype=np.int64)] = True
    return pc.or_(_are_in(findings["sample_id"], sample_ids), pa.array(named))


def _decided(version: LoadedRelease) -> set[tuple[str, str]]:
    """Return (sample, track) of every place of a version at which a person answered whether the track misses a box."""
    names = ["sample_id", "content_sha256"]
    parts = [version.data.select(names), version.excluded.select(names)]
    samples = pa.concat_tables(parts, promote_options="permissive")
    return decided_places(standing(version.decisions), samples.combine_chunks())


def _findings(
    findings: pa.Table, sample_ids: pa.Array, traces: Traces, decided: Collection[tuple[str, str]]
) -> tuple[pa.Table, dict[str, str]]:
    """Return the findings of the other samples, and old id -> new id of those that named an erased one."""
    left = _without(findings, sample_ids)
    named = set(left.filter(_about(left, sample_ids))["finding_id"].to_pylist())
    spoken = pa.array(traces.rows(left.select(["reason_args"])), pa.bool_())
    touched = pc.or_(_about(left, sample_ids), spoken)
    untouched = left.filter(pc.invert(touched))
    gone = set(sample_ids.to_pylist())
    rows, renamed = [], {}
    for row in left.filter(touched).to_pylist():
        related = [one for one in row["related_ids"] or () if one not in gone]
        erased = gone.intersection(row["related_ids"] or ())
        told = without_places(json.loads(row["reason_args"]), erased, decided)
        args = schema.canonical_json(traces.scrub_json(told))
        new = row | {"related_ids": related or None, "reason_args": args}
        if row["finding_id"] in named:
            new["finding_id"] = schema.finding_id_of(
                row["check"], row["issue"], row["sample_id"], row["label_id"], related
            )
            renamed[row["finding_id"]] = new["finding_id"]
        rows.append(new)
    known = set(untouched["finding_id"].to_pylist())
    fresh: dict[str, dict[str, Any]] = {}
    for row in rows:  # two findings that differed only in what was erased are one now
        if row["finding_id"] not in known:
            fresh.setdefault(row["finding_id"], row)
    changed = pa.Table.from_pylist(list(fresh.values()), schema=findings.schema)
    table = pa.concat_tables([untouched, changed]).sort_by("finding_id").combine_chunks()
    return table, renamed


def _excluded(excluded: pa.Table, sample_ids: pa.Array, traces: Traces) -> pa.Table:
    """Return the excluded rows of other samples; an input row without a sample goes where it names an erased path."""
    left = _without(excluded, sample_ids)
    anonymous = pc.and_(pc.is_null(left["sample_id"]), pc.equal(left["stage"], "ingest"))
    named = pa.array(traces.rows(left.select(["row", "reason_args"])), pa.bool_())
    return left.filter(pc.invert(pc.and_(anonymous, named)))


def _judged(
    data: pa.Table, excluded: pa.Table, findings: pa.Table, decisions: pa.Table, policy: Policy
) -> tuple[pa.Table, pa.Table]:
    """Return both tables with the verdicts that the findings and decisions that are left give."""
    by_verdict = pc.equal(excluded["stage"], "verdict")
    judged, ingest = excluded.filter(by_verdict), excluded.filter(pc.invert(by_verdict))
    names = ["sample_id", "label_id", "given_label", "task", "content_sha256"]
    good = data.select(names).append_column("error_code", pa.nulls(data.num_rows, pa.string()))
    rows = pa.concat_tables([good, judged.select([*names, "error_code"])], promote_options="permissive")
    rows = rows.combine_chunks()
    first = rows.group_by("sample_id", use_threads=False).aggregate(
        [("content_sha256", "first"), ("error_code", "first")]
    )
    samples = first.rename_columns(["sample_id", "content_sha256", "error_code"])
    labels = rows.filter(pc.is_valid(rows["label_id"])).rename_columns({"given_label": "label"})
    verdicts = decide(samples, labels, findings, policy, decisions)
    # the columns stay those of the version: a later curate may write more
    both = pa.concat_tables([_with_verdicts(judged, verdicts), ingest])
    return _with_verdicts(data, verdicts).combine_chunks(), both.combine_chunks()


def _with_verdicts(rows: pa.Table, verdicts: pa.Table) -> pa.Table:
    at = pc.index_in(_keys(rows), value_set=_keys(verdicts))
    for name in ("reasons", "reason_codes"):  # whatever is left decides as before: only the ids of findings change
        rows = _replaced(rows, name, verdicts[name].take(at))
    for name in ("action", "released_label", "weight", "risk"):
        rows = _replaced(rows, name, verdicts[name].take(at))
    return rows


def _keys(table: pa.Table) -> pa.Array:
    keys = pc.coalesce(table["label_id"], pc.binary_join_element_wise("sample", table["sample_id"], ":"))
    return keys.combine_chunks()


def _statistics(rows: Any, data: pa.Table, excluded: pa.Table, traces: Traces) -> pa.Table:  # noqa: ANN401 - JSON
    """Return the statistics of the version, without texts about what was erased, and `release.*` counted again."""
    numbers = ("value", "low", "high", "threshold")
    clean = [
        {key: float(value) if key in numbers and value is not None else value for key, value in row.items()}
        | {
            "group": row["group"] and traces.scrub_json(row["group"]),
            "detail": _scrubbed_text(row["detail"], traces),
        }
        for row in rows
        if row["check"] != "release"
    ]
    kept = schema.table_from_rows(clean, schema.STATISTICS)
    outcomes = schema.empty(schema.INGEST_OUTCOMES)
    own = [
        table for table in own_statistics(kept, outcomes, data, excluded) if table["check"][0].as_py() == "release"
    ]
    return sorted_statistics(pa.concat_tables([kept, *own]))


def _scrubbed_text(text: str | None, traces: Traces) -> str | None:
    if text is None or not traces.hits(text):
        return text
    return schema.canonical_json(traces.scrub_json(json.loads(text)))


def _head(
    manifest: Mapping[str, Any],
    data: pa.Table,
    excluded: pa.Table,
    soft_tables: tuple[pa.Table | None, pa.Table | None],
    decisions: pa.Table,
    gates: str,
) -> dict[str, Any]:
    actions = pa.chunked_array([*data["action"].chunks, *excluded["action"].chunks], pa.string())
    by_action = {item["values"]: item["counts"] for item in pc.value_counts(actions).to_pylist()}
    counts = {
        "n_in": data.num_rows + excluded.num_rows,
        "n_released": data.num_rows,
        "n_excluded": excluded.num_rows,
        "n_samples_released": pc.count_distinct(data["sample_id"]).as_py(),
        "by_action": {action: by_action.get(action, 0) for action in schema.ACTIONS},
    }
    inputs = {**manifest["inputs"], "decisions": digest_json(decisions.to_pylist())}
    if inputs.get("predictions", "none") != "none":
        inputs["predictions"] = UNKNOWN  # its digest was over predictions of rows that are gone
    if "labels" in inputs:
        inputs["labels"] = UNKNOWN  # as above
    described, (soft, soft_boxes) = manifest["soft"], soft_tables
    if soft_boxes is not None:
        described = {**described, "n_teacher_only": soft_boxes.num_rows}
        inputs["detectors"] = UNKNOWN  # as above
    if described is not None and soft is not None:
        column = "probs" if "probs" in soft.column_names else "top_probs"
        described = (
            {**described, "n_missing": soft[column].null_count} if column in soft.column_names else described
        )
    kept = {name: manifest[name] for name in manifest if name not in _WRITTEN}
    return kept | {"counts": counts, "gates": gates, "inputs": inputs, "soft": described}


def _with_maps(head: dict[str, Any], data: pa.Table, n_maps: int) -> dict[str, Any]:
    """Return the head with how many images with masks have no class map now."""
    n_images = pc.count_distinct(data.filter(pc.equal(data["task"], "segmentation"))["sample_id"]).as_py()
    told = {**head["soft_masks"], "n_missing": n_images - n_maps}
    return head | {"soft_masks": told, "inputs": {**head["inputs"], "class_maps": UNKNOWN}}


# what `store.write_version` writes itself
_WRITTEN = {"format", "format_version", "schema_version", "name", "files", "tables", "versions"}


def _without(table: pa.Table, sample_ids: pa.Array) -> pa.Table:
    return table.filter(pc.invert(_are_in(table["sample_id"], sample_ids)))


def _streamed_without(rows: RowStream, sample_ids: pa.Array) -> RowStream:
    def batches() -> Iterator[pa.Table]:
        for batch in rows.batches():
            yield _without(pa.table(batch), sample_ids)

    return RowStream(rows.schema, batches)


def _are_in(values: pa.ChunkedArray | pa.Array, sample_ids: pa.Array) -> pa.ChunkedArray | pa.Array:
    return pc.fill_null(pc.is_in(values, value_set=sample_ids), False)  # noqa: FBT003 - pyarrow takes it by position


def _count(which: pa.ChunkedArray | pa.Array) -> int:
    return int(pc.sum(which).as_py() or 0)


def _mapped(column: pa.ChunkedArray, renamed: Mapping[str, str]) -> pa.Array:
    return pa.array([renamed.get(value, value) for value in column.to_pylist()], pa.string())


def _replaced(table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(at), values.cast(table.schema.field(at).type))
