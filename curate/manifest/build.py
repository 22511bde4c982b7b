"""Tables of a run → a release: rows that go out, rows that stay behind with reasons, soft labels, evidence."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.errors import InputError, StageError
from curate.gates import GateResult, gate_result, judge
from curate.manifest.ignore import ignored
from curate.manifest.inputs import digest_answered
from curate.manifest.release_statistics import Validate, all_statistics, sorted_statistics
from curate.manifest.rows import excluded_by_ingest, joined_rows, share_nulls, with_scan
from curate.manifest.soft_masks import make_soft_masks
from curate.manifest.soft_release import SoftLabels, make_soft
from curate.manifest.stale import refuse_stale_predictions
from curate.manifest.stream import RowStream
from curate.manifest.tables import DATA, DECISIONS, EXCLUDED
from curate.manifest.vouched import vouched
from curate.policy import Policy
from curate.verdict_people import standing
from curate.verdicts import decide
from curate.views import kept

if TYPE_CHECKING:
    from curate.teachers.regions.class_maps import ClassMaps


@dataclass(frozen=True, slots=True)
class Release:
    """Everything that a version will hold, before a byte is written.

    Attributes:
        data: `tables.DATA`, released rows only.
        soft: `soft.soft_schema`, same rows in the same order as `data`, with detectors `soft_boxes.OBJECTNESS` too;
            None without soft labels.
        soft_boxes: `soft_boxes.teacher_only_schema`, what only detectors see in released images; None without any.
        soft_masks: `soft_masks.soft_masks_schema`, class maps of released images; None without segmenters.
        ignore: `tables.IGNORE`, what nobody vouches for in released images; None where there is nothing of it.
        excluded: `tables.EXCLUDED`.
        findings: `schema.FINDINGS`, what the verdicts were made from.
        decisions: `tables.DECISIONS` in ledger order, those that stand.
        evidence: name -> JSON value; written to evidence/NAME.json.
        head: what stands in manifest.json besides the files; strings, integers, lists and mappings only.
        statistics: `schema.STATISTICS`, judged.
        gates: what the gates say.
    """

    data: pa.Table
    soft: pa.Table | None
    excluded: pa.Table
    findings: pa.Table
    decisions: pa.Table
    evidence: Mapping[str, Any]
    head: Mapping[str, Any]
    statistics: pa.Table
    gates: GateResult
    soft_boxes: pa.Table | None = None
    soft_masks: RowStream | None = None
    ignore: pa.Table | None = None


def build_release(  # noqa: PLR0913 - one keyword for each table of the flow
    *,
    samples: pa.Table,
    labels: pa.Table,
    scan: pa.Table,
    verdicts: pa.Table,
    findings: pa.Table,
    outcomes: pa.Table,
    policy: Policy,
    classes: Sequence[str],
    statistics: pa.Table | None = None,
    decisions: pa.Table | None = None,
    predictions: pa.Table | None = None,
    places: pa.Table | None = None,
    cards: Sequence[Any] = (),
    teacher_weights: Mapping[str, float] | None = None,
    class_maps: Sequence[ClassMaps] = (),
    mask_weights: Mapping[str, float] | None = None,
    mask_sharpness: float = 1.0,
    evidence: Mapping[str, Any] | None = None,
    digests: Mapping[str, str] | None = None,
    seed: int = 0,
    salt: bytes | None = None,
    validate: Validate | None = None,
) -> Release:
    """Return the release of a run.

    Every label and every sample without labels ends in `data` or in `excluded`, and so does every input row that
    ingest left out. Rows of unreadable or unscanned images are excluded whatever their verdict says.

    Args:
        samples: `schema.SAMPLES` with `attr_*` and `group_*`; scan columns in it are replaced by those of `scan`.
        labels: `schema.LABELS`.
        scan: `schema.SCAN`.
        verdicts: `schema.VERDICTS`, one for each row of a readable image (`verdicts.decide`).
        findings: `schema.FINDINGS`, all that `verdicts` came from.
        outcomes: `schema.INGEST_OUTCOMES`.
        policy: decides which attributes and groups leave, whether soft labels are released, and the gates.
        classes: class names in their final order.
        statistics: `schema.STATISTICS` of the checks; `ingest.share_out` and `release.*` are added here.
        decisions: `schema.DECISIONS` in ledger order, as given to `decide`.
        predictions: label_id and `prob_<teacher>`; with sample_id instead, each class stands alone.
        places: what detectors see together (`teachers.boxes.pooled.pool_boxes`).
        cards: a mapping, a dataclass or an object with `to_json()` for each teacher; no clock, no absolute path.
        teacher_weights: teacher -> weight in the ensemble; None = all alike.
        class_maps: of segmenters, on disk.
        mask_weights: segmenter -> weight; None = all alike.
        mask_sharpness: exponent of their mean (`teachers.regions.sharpness`).
        evidence: name -> JSON value, further evidence without clock or absolute path.
        digests: name -> sha256 of what else decides the content: spec, labels of the source, suites, …
        seed: the run's seed.
        salt: secret of the workspace for the keyed hash of subjects; None leaves subjects out.
        validate: called with `data`; returns (statistics, evidence) that are judged and stored with the rest.

    Raises:
        InputError: a row of a readable image has no verdict, or predictions do not fit the classes.
        StageError: rows were lost or made up on the way.
    """
    policy = policy.written_out()
    samples = with_scan(samples, scan)
    verdicts = _complete(samples, labels, findings, policy, decisions, verdicts)
    said = standing(decisions if decisions is not None else schema.empty(schema.DECISIONS)).combine_chunks()
    stands = said.select(DECISIONS.names).cast(DECISIONS).combine_chunks()
    data, excluded = _parted(joined_rows(samples, labels, verdicts, said, policy, salt), policy, outcomes)
    data = vouched(data, findings, stands)
    counts = _counts(labels, samples, outcomes, data, excluded)
    teachers = [_card(card) for card in cards]
    made = _soft_labels(data, predictions, places, classes, policy, teacher_weights, teachers, seed)
    soft_masks, maps_head = None, None
    if policy.soft_labels and class_maps:
        soft_masks, maps_head = make_soft_masks(
            data, class_maps, classes, policy, mask_weights, teachers, seed, mask_sharpness
        )
    given, further = all_statistics(statistics, outcomes, data, excluded, validate)
    judged = sorted_statistics(judge(given, policy.all_gates()))
    gates = gate_result(given, policy.all_gates())
    return Release(
        data=data,
        soft=made.rows,
        excluded=excluded,
        findings=findings.cast(schema.FINDINGS).sort_by("finding_id").combine_chunks(),
        decisions=stands,
        evidence={
            **(evidence or {}),
            **further,
            "gates": {"outcome": gates.outcome, "rows": gates.rows.to_pylist()},
            "policy": policy.model_dump(mode="json"),
            "statistics": judged.to_pylist(),
            "teachers": teachers,
        },
        head={
            "classes": list(classes),
            "counts": counts,
            "gates": gates.outcome,
            "inputs": {
                **(digests or {}),
                "decisions": _digest(stands.to_pylist()),
                "policy": _digest(policy.model_dump(mode="json")),
                "seed": str(seed),
                **digest_answered(predictions, places, class_maps, teachers),
            },
            "soft": made.head,
            **({"soft_masks": maps_head} if maps_head else {}),
        },
        statistics=judged,
        gates=gates,
        soft_boxes=made.boxes,
        soft_masks=soft_masks,
        ignore=ignored(data, excluded, findings, stands, policy),
    )


def _parted(blocks: Iterable[pa.Table], policy: Policy, outcomes: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return what is released and what is not, from blocks of rows; with what ingest left out."""
    leave, stay = [DATA.empty_table()], []
    for rows in blocks:
        out = _is_out(rows, policy)
        leave.append(share_nulls(rows.filter(pc.invert(out)).select(DATA.names)).cast(DATA))
        stay.append(_excluded_by_verdict(rows.filter(out)))
    return pa.concat_tables(leave), pa.concat_tables([*stay, excluded_by_ingest(outcomes)]).combine_chunks()


def _soft_labels(
    data: pa.Table,
    predictions: pa.Table | None,
    places: pa.Table | None,
    classes: Sequence[str],
    policy: Policy,
    weights: Mapping[str, float] | None,
    teachers: Sequence[Mapping[str, Any]],
    seed: int,
) -> SoftLabels:
    """Return the soft labels of released rows, none where the policy or the teachers give none; see `make_soft`."""
    if not policy.soft_labels or not (schema.teacher_columns(predictions) or places is not None):
        return SoftLabels.none()
    if predictions is not None:
        refuse_stale_predictions(predictions, data, classes, teachers)
    return make_soft(data, predictions, places, classes, policy, weights, teachers, seed)


def _complete(
    samples: pa.Table,
    labels: pa.Table,
    findings: pa.Table,
    policy: Policy,
    decisions: pa.Table | None,
    verdicts: pa.Table,
) -> pa.Table:
    """Return one verdict a row: those given for readable images, and drops for all others."""
    bad = samples.filter(pc.is_valid(samples["error_code"]))
    bad_ids = bad["sample_id"].combine_chunks()
    bad_labels = labels.filter(pc.is_in(labels["sample_id"], value_set=bad_ids))
    dropped = decide(bad, bad_labels, findings, policy, decisions)
    good = kept(verdicts, pc.invert(pc.is_in(verdicts["sample_id"], value_set=bad_ids)))
    return pa.concat_tables([good.cast(schema.VERDICTS), dropped])


def _is_out(rows: pa.Table, policy: Policy) -> pa.ChunkedArray:
    out = pc.equal(rows["action"], "drop")
    if policy.release_review is True:
        return out
    waits = pc.and_(pc.equal(rows["action"], "review"), pc.equal(rows["weight"], 0.0))  # else it leaves softly
    return pc.or_(out, waits)


def _excluded_by_verdict(rows: pa.Table) -> pa.Table:
    n = rows.num_rows
    columns = {
        "stage": pa.array(["verdict"] * n, pa.string()),
        **{name: rows[name] for name in DATA.names},
        "error_code": rows["error_code"],
        "row": pa.nulls(n, pa.string()),
        "kind": pa.nulls(n, pa.string()),
        "reason_args": rows["error_args"],
    }
    return pa.table(columns).cast(EXCLUDED)


def _counts(
    labels: pa.Table, samples: pa.Table, outcomes: pa.Table, data: pa.Table, excluded: pa.Table
) -> dict[str, Any]:
    n_bare = pc.sum(
        pc.invert(pc.is_in(samples["sample_id"], value_set=labels["sample_id"].combine_chunks()))
    ).as_py()
    n_out = pc.sum(pc.equal(outcomes["outcome"], "out")).as_py() or 0
    n_in = labels.num_rows + (n_bare or 0) + n_out
    if n_in != data.num_rows + excluded.num_rows:
        msg = f"{n_in} rows came in, {data.num_rows} are released and {excluded.num_rows} excluded: rows were lost."
        raise StageError(msg)
    actions = pa.concat_arrays([t["action"].combine_chunks() for t in (data, excluded)])
    by_action = {item["values"]: item["counts"] for item in pc.value_counts(actions).to_pylist()}
    return {
        "n_in": n_in,
        "n_released": data.num_rows,
        "n_excluded": excluded.num_rows,
        "n_samples_released": pc.count_distinct(data["sample_id"]).as_py(),
        "by_action": {action: by_action.get(action, 0) for action in schema.ACTIONS},
    }


def _card(card: Any) -> Any:  # noqa: ANN401 - any JSON value
    if hasattr(card, "to_json"):
        return card.to_json()
    if is_dataclass(card) and not isinstance(card, type):
        return asdict(card)
    if isinstance(card, Mapping):
        return dict(card)
    msg = f"A teacher card must be a mapping, a dataclass or have to_json(); given: {card!r}."
    raise InputError(msg)


def _digest(value: Any) -> str:  # noqa: ANN401 - any JSON value
    return hashlib.sha256(schema.canonical_json(value).encode()).hexdigest()
