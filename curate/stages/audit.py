"""What audits say of this run's flags: statistics for the gates, evidence for the version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from curate import schema
from curate.audit.store import Audit, audits_folder, folders, read
from curate.check_params import params_of
from curate.errors import CurateError
from curate.stages.context import Context

if TYPE_CHECKING:
    from curate.state import Gathered


def carry(context: Context, found: Gathered, labels: pa.Table) -> tuple[pa.Table, Mapping[str, Any]]:
    """Return the statistics and the evidence of the latest audit; nothing where there is none.

    The sample was drawn from labels, not from flags, so it speaks for other flags over the same labels too. Where
    the labels changed since, or looks have no answer, the statistics are "insufficient data".

    Args:
        context: of the run.
        found: what the run has found.
        labels: `schema.LABELS` of readable images.
    """
    workspace = context.run.workspace
    held = folders(audits_folder(workspace.root, workspace.name))
    if not held:
        return schema.empty(schema.STATISTICS), {}
    from curate.audit.result import CHECK, statistics  # noqa: PLC0415 - only where there is an audit
    from curate.check import build_statistics  # noqa: PLC0415 - as above

    with context.run.timed("audit") as timing:
        try:
            audit = read(held[-1])
            told, proof = _carry(audit, found, labels, _flag_risk(context))
        except CurateError as error:
            timing.note = "cannot be used"
            rows = [{"name": "ran", "value": 0.0, "outcome": "errored", "detail": {"message": str(error)}}]
            broken = [build_statistics(CHECK, rows), statistics(None, None, why={"*": "the audit cannot be read"})]
            return pa.concat_tables(broken), {}
        timing.note = f"{audit.short_id}: {proof['audit']['says']}"
    return told, proof


def _flag_risk(context: Context) -> float | None:
    """Return the threshold that the spec sets for flags, as the check takes it; None = the fitted cut."""
    from curate.checks.label_noise import CHECK as label_noise  # noqa: N811, PLC0415 - a value; only where there is an audit

    risk: float | None = params_of(label_noise, context.spec.checks.get("label_noise") or {}).get("flag_risk")
    return risk


def _carry(
    audit: Audit, found: Gathered, labels: pa.Table, flag_risk: float | None
) -> tuple[pa.Table, Mapping[str, Any]]:
    from curate.audit.design import population_digest  # noqa: PLC0415 - as above
    from curate.audit.population import label_error_findings  # noqa: PLC0415 - as above
    from curate.audit.result import result_of, statistics  # noqa: PLC0415 - as above

    result = result_of(audit)
    told = labels.select(["label_id", "label"]).rename_columns(["label_id", "given_label"])
    if audit.open_looks:
        why = f"{len(audit.open_looks)} looks of the audit {audit.short_id} have no answer yet"
    elif population_digest(told) != audit.design.population_sha256:
        why = f"labels came, went or changed since the audit {audit.short_id} was drawn; draw another one"
    else:
        why = ""
    if why:
        proof = {**result.to_json(), "says": why, "of_these_flags": None}
        return statistics(None, result.agreement, why={"*": why}), {"audit": proof}
    flags = label_error_findings(found.findings)
    estimates = _of_flags(audit, set(flags["label_id"].filter(flags["flagged"]).to_pylist()))
    proof = {**result.to_json(), "says": "complete", "of_these_flags": estimates.to_json()}
    if flag_risk is not None:
        proof["flag_risk"] = flag_risk
    return statistics(estimates, result.agreement, why={}), {"audit": proof}


def _of_flags(audit: Audit, flagged: set[str]) -> Any:  # noqa: ANN401 - Estimates, loaded late
    from curate.audit.estimate import estimates  # noqa: PLC0415 - as above

    ids, bands = audit.membership["label_id"], audit.membership["band"]
    hit = pc.is_in(ids, value_set=pa.array(sorted(flagged), pa.string()))
    sizes = Counter(zip(bands.to_pylist(), hit.to_pylist(), strict=True))
    drawn = {item.label_id: item.label_id in flagged for item in audit.design.items}
    return estimates(audit.design, audit.said, drawn, sizes)
