"""What an audit makes of a risk reaches the table of flags that it was about, and nothing else of it changes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from audit_world import World, world

from curate.audit.answers import Answer
from curate.audit.store import Audit
from curate.audit.verbs import hand_out, open_table_audit, take, take_table_sheet
from curate.errors import ConfigError


def calibrated(n: int = 2_000) -> World:
    """Labels whose risk is the probability that they are wrong: near 0 or near 1."""
    random = np.random.default_rng(3)
    known = world(n)
    risk = np.where(random.random(n) < 0.2, 0.97, 0.01)
    wrong = random.random(n) < risk
    at = known.labels.schema.get_field_index("risk")
    labels = known.labels.set_column(at, known.labels.schema.field("risk"), pa.array(risk))
    return World(labels, wrong, risk >= 0.5)


def written(folder: Path, known: World, *, by_curate: bool = True) -> Path:
    chosen = {"sample_id": "label_id", "label": "given_label", "risk": "risk"}
    columns = {name: known.labels[column] for name, column in chosen.items()} | {"flagged": pa.array(known.flagged)}
    about = {b"curate": json.dumps({"risk_kind": "rank", "regime": "independent"}).encode()} if by_curate else None
    pq.write_table(pa.table(columns).replace_schema_metadata(about), folder / "flags.parquet")
    return folder / "flags.parquet"


def answered(known: World, table: Path, sheet: Path) -> Audit:
    """An audit of the table with an answer to every look, and its sheet."""
    audit, _ = open_table_audit(table, sheet, budget=220)
    hand_out(audit, sheet)
    items = {item.item: item for item in audit.design.items}
    said = [Answer(look.look, known.verdict(items[look.item].label_id), None, "ann") for look in audit.design.looks]
    take(audit, said, ledger_folder=None)
    return audit


def about(table: Path) -> dict[str, object]:
    told: dict[str, object] = json.loads(pq.read_schema(table).metadata[b"curate"])
    return told


@pytest.mark.parametrize(("known", "kind"), [(calibrated(), "probability"), (world(sharpness=1), "rank")])
def test_a_table_says_what_its_audit_supports(known: World, kind: str, tmp_path: Path) -> None:
    table, sheet = written(tmp_path, known), tmp_path / "sheet.csv"
    before = pq.read_table(table)
    audit = answered(known, table, sheet)
    taken = take_table_sheet(table, sheet, reviewer="ann", target_precision=None)
    assert taken.result.estimates is not None
    assert taken.result.estimates.risk_kind == kind
    told = about(table)
    assert (told["risk_kind"], told["regime"]) == (kind, "independent")
    assert told["audit"]["audit"] == audit.design.digest  # type: ignore[index]
    assert pq.read_table(table).equals(before)  # metadata aside
    assert kind in taken.lines()[-1]
    assert take_table_sheet(table, sheet, reviewer="ann", target_precision=None).written == ""
    again, is_new = open_table_audit(table, sheet, budget=220)
    assert (again.design.digest, is_new) == (audit.design.digest, False)


def test_nothing_is_written_before_the_last_answer(tmp_path: Path) -> None:
    table, sheet = written(tmp_path, calibrated()), tmp_path / "sheet.csv"
    audit, _ = open_table_audit(table, sheet, budget=220)
    hand_out(audit, sheet)
    bytes_before = table.read_bytes()
    assert take_table_sheet(table, sheet, reviewer="ann", target_precision=None).written == ""
    assert table.read_bytes() == bytes_before


def test_a_table_of_somebody_else_and_one_that_was_not_audited_stay_as_they_are(tmp_path: Path) -> None:
    known = calibrated()
    table, sheet = written(tmp_path, known, by_curate=False), tmp_path / "sheet.csv"
    answered(known, table, sheet)
    bytes_before = table.read_bytes()
    assert take_table_sheet(table, sheet, reviewer="ann", target_precision=None).written == ""
    assert table.read_bytes() == bytes_before
    (tmp_path / "other").mkdir()
    other = written(tmp_path / "other", world(500))
    bytes_before = other.read_bytes()
    said = take_table_sheet(other, sheet, reviewer="ann", target_precision=None).written
    assert "not the table that was audited" in said
    assert other.read_bytes() == bytes_before
    with pytest.raises(ConfigError, match="another table"):
        open_table_audit(other, sheet, budget=220)
