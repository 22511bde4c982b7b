"""What an audit found a risk to be, written into the table of flags that it was about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate import runs
from curate.audit.design import Design
from curate.audit.result import AuditResult
from curate.schema import canonical_json
from curate.teachers.flag_summary import METADATA_KEY

_KEY = METADATA_KEY.encode()


def is_audited(table: Path, design: Design) -> bool:
    """Return whether a table is the one that an audit was drawn from, as it was or with what the audit wrote into it."""
    if not table.is_file():
        return False
    if runs.digest_file(table) == design.subject.get("table_sha256"):
        return True
    return bool((_about(table) or {}).get("audit", {}).get("audit") == design.digest)


def write_back(table: Path, result: AuditResult) -> str:
    """Write into a table's metadata what its audit found its risks to be; the columns stay as they are.

    Only tables that `curate flag` wrote say what a risk is. `risk_kind` becomes what the audit supports, and `audit`
    names it, with the distance of the risks from the shares of wrong labels.

    Args:
        table: of flags.
        result: of its audit.

    Returns:
        What was done, as a sentence; empty where there was nothing to do.
    """
    found = result.estimates
    if found is None:
        return ""
    if not is_audited(table, result.audit.design):
        return f"{table} is not the table that was audited, so it still says what it said of its risks"
    about = _about(table)
    if about is None:
        return ""
    audit = {
        "audit": result.audit.design.digest,
        "answers": result.audit.answers_digest,
        "calibration_error": found.calibration_error.to_json(),
    }
    if (about.get("risk_kind"), about.get("audit")) == (found.risk_kind, audit):
        return ""
    held = pq.read_table(table)
    told = {**about, "risk_kind": found.risk_kind, "audit": audit}
    runs.write_table(
        table, held.replace_schema_metadata({**(held.schema.metadata or {}), _KEY: canonical_json(told)})
    )
    return f"{table} says so in its metadata: risk_kind is {found.risk_kind}, by the audit {result.audit.short_id}"


def _about(table: Path) -> dict[str, Any] | None:
    """Return what a table says it stands on; None where `curate flag` did not write it."""
    try:
        text = (pq.read_metadata(table).metadata or {}).get(_KEY)
    except (OSError, pa.ArrowException):
        return None
    told = json.loads(text) if text else None
    return told if isinstance(told, dict) else None
