from __future__ import annotations

import multiprocessing
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curate import schema
from curate.errors import ConfigError
from curate.review import ledger


def row(sample_id: str, decision: str = "keep", why: str | None = None) -> dict[str, str | None]:
    return {"sample_id": sample_id, "decision": decision, "why": why}


def append_many(folder: Path, who: str) -> None:
    for i in range(5):
        ledger.append(folder, [row(f"{who}{i}"), row(f"{who}{i}b")], reviewer=who)


def test_what_is_appended_is_read_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "a ü" / "ledger"
    assert ledger.read(folder).decisions.num_rows == 0
    first = ledger.append(folder, [row("s1"), row("s2", "drop")], reviewer="Ann")
    files = {f: f.read_bytes() for f in folder.glob("*.parquet")}
    ledger.append(folder, [row("s1", "drop")], reviewer="Bob")
    held = ledger.read(folder)
    assert held.problems == ()
    assert held.decisions.schema.equals(schema.DECISIONS)
    assert held.decisions["sample_id"].to_pylist() == ["s1", "s2", "s1"]
    assert held.decisions["reviewer"].to_pylist() == ["Ann", "Ann", "Bob"]
    assert held.decisions.slice(0, 2).equals(first)
    assert len(set(held.decisions["decision_id"].to_pylist())) == 3
    assert all(f.read_bytes() == data for f, data in files.items())  # never rewritten
    assert list(folder.glob("*.tmp")) == []


def test_nothing_to_say_writes_nothing(tmp_path: Path) -> None:
    assert ledger.append(tmp_path / "ledger", [], reviewer="Ann").num_rows == 0
    assert not (tmp_path / "ledger").exists()


def test_an_unknown_decision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="given: maybe"):
        ledger.append(tmp_path, [row("s", "maybe")], reviewer="Ann")


def test_processes_that_append_at_once_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=append_many, args=(tmp_path, who)) for who in "abcd"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    held = ledger.read(tmp_path)
    assert held.problems == ()
    assert sorted(held.decisions["sample_id"].to_pylist()) == sorted(
        f"{who}{i}{b}" for who in "abcd" for i in range(5) for b in ("", "b")
    )
    for who in "abcd":  # each one's own order is kept
        own = [s for s in held.decisions["sample_id"].to_pylist() if s[0] == who]
        assert own == sorted(own, key=lambda s: int(s[1]))


def test_a_torn_or_foreign_file_is_reported_and_the_rest_stands(tmp_path: Path) -> None:
    for sample in ("s1", "s2", "s3"):
        ledger.append(tmp_path, [row(sample)], reviewer="Ann")
    torn = tmp_path / "0000000002.parquet"
    torn.write_bytes(torn.read_bytes()[:-20])
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "mine.parquet").write_bytes(b"")
    (tmp_path / "half.tmp").write_bytes(b"left by a kill")
    pq.write_table(schema.empty(schema.LABELS), tmp_path / "0000000009.parquet")
    held = ledger.read(tmp_path)
    assert held.decisions["sample_id"].to_pylist() == ["s1", "s3"]
    assert len(held.problems) == 4
    ledger.append(tmp_path, [row("s4")], reviewer="Ann")
    assert ledger.read(tmp_path).decisions["sample_id"].to_pylist()[-1] == "s4"


def test_a_file_of_before_a_column_was_added_is_read(tmp_path: Path) -> None:
    ledger.append(tmp_path, [row("s1")], reviewer="Ann")
    file = tmp_path / "0000000001.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["to_bbox"]), file)
    held = ledger.read(tmp_path)
    assert held.problems == ()
    assert held.decisions["to_bbox"].to_pylist() == [None]


def test_only_standing_decisions_count(tmp_path: Path) -> None:
    first = ledger.append(tmp_path, [row("s1", "drop"), row("s2", "keep")], reviewer="Ann")
    gone = first["decision_id"][0].as_py()
    ledger.append(tmp_path, [row("s1", "note", ledger.WITHDRAWS + gone), row("s2", "note", "hm")], reviewer="Ann")
    standing = ledger.standing(ledger.read(tmp_path).decisions)
    assert standing["sample_id"].to_pylist() == ["s2"]


def test_who_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_REVIEWER", "Cleo")
    assert ledger.reviewer_name() == "Cleo"
    assert ledger.reviewer_name("Dan") == "Dan"
    monkeypatch.delenv("CURATE_REVIEWER")
    assert ledger.reviewer_name()
