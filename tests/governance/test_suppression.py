"""The list of what must not come back: keyed, complete, and closed where its key is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from curate import schema
from curate.errors import ConfigError
from curate.governance.secret import KEY_FILE, ensure_secret, keyed, secret_file
from curate.governance.suppression import (
    add_to_suppression,
    load_suppression,
    subject_value,
    suppress,
    suppress_bytes,
    suppression_file,
)
from curate.ingest.source import Ingested

URIS = ("a.png", "b.png", "c.png", "d.png")
IDS = [schema.sample_id_of("toy", uri) for uri in URIS]


def ingested() -> Ingested:
    samples = schema.table_from_rows(
        [
            {"sample_id": one, "source": "toy", "uri": uri, "label_state": "labeled", "subject_id": subject}
            for one, uri, subject in zip(IDS, URIS, ("ann", "bob", "ann", None), strict=True)
        ],
        schema.SAMPLES,
    )
    labels = schema.table_from_rows(
        [
            {"label_id": f"l{n}", "sample_id": one, "task": "classification", "label": "x"}
            for n, one in enumerate(IDS)
        ],
        schema.LABELS,
    )
    rows = [
        {"row": f"t.csv row {n}", "kind": "image", "outcome": "added", "sample_id": one, "label_id": f"l{n}"}
        for n, one in enumerate(IDS)
    ]
    gone = {"kind": "image", "outcome": "out", "reason_code": "missing_file"}
    rows += [
        {"row": "t.csv row 8", "reason_args": '{"path":"erased long ago.png"}', **gone},
        {"row": "t.csv row 9", "reason_args": '{"path":"never there.png"}', **gone},
    ]
    outcomes = schema.table_from_rows(rows, schema.INGEST_OUTCOMES)
    return Ingested(samples, labels, outcomes, ("x",), annotations=labels)


def left(read: Ingested) -> list[str]:
    assert read.annotations is not None
    kept = read.samples["sample_id"].to_pylist()
    assert read.labels["sample_id"].to_pylist() == read.annotations["sample_id"].to_pylist() == kept
    return [URIS[IDS.index(one)] for one in kept]


def test_without_a_list_nothing_changes_and_no_key_is_made(tmp_path: Path) -> None:
    listed = load_suppression(tmp_path)
    assert not listed
    read = ingested()
    assert suppress(read, listed, source="toy") is read
    assert list(tmp_path.iterdir()) == []


def test_samples_subjects_and_paths_are_recognised(tmp_path: Path) -> None:
    entries = [
        ("sample", IDS[1]),
        ("subject", subject_value("toy", "ann")),
        ("sample", schema.sample_id_of("toy", "erased long ago.png")),
    ]
    listed = add_to_suppression(tmp_path, entries)
    read = suppress(ingested(), listed, source="toy")
    assert left(read) == ["d.png"]
    rows = read.outcomes.to_pylist()
    assert len(rows) == 6
    assert [row["reason_code"] for row in rows] == ["erased", "erased", "erased", None, "erased", "missing_file"]
    assert {row["row"] for row in rows if row["reason_code"] == "erased"} == {"an erased row"}
    assert left(suppress(ingested(), listed, source="other")) == ["a.png", "c.png", "d.png"]  # another's "ann"
    text = suppression_file(tmp_path).read_text()
    assert not any(word in text for word in ("ann", "png", *IDS))
    assert set(json.loads(text)["hashes"]) == {keyed(ensure_secret(tmp_path), *entry) for entry in entries}


def test_bytes_are_recognised_under_another_name(tmp_path: Path) -> None:
    read = ingested()
    scan = schema.table_from_rows(
        [{"sample_id": one, "content_sha256": f"{n:064x}"} for n, one in enumerate(IDS)], schema.SCAN
    )
    listed = add_to_suppression(tmp_path, [("content", f"{2:064x}")])
    samples, labels, outcomes, scanned = suppress_bytes(read.samples, read.labels, read.outcomes, scan, listed)
    assert [table["sample_id"].to_pylist() for table in (samples, labels, scanned)] == [[*IDS[:2], IDS[3]]] * 3
    assert outcomes["reason_code"].to_pylist() == [None, None, "erased", None, "missing_file", "missing_file"]


def test_the_list_only_grows_and_two_writings_are_one(tmp_path: Path) -> None:
    first = add_to_suppression(tmp_path, [("sample", IDS[0])])
    again = add_to_suppression(tmp_path, [("sample", IDS[0])])
    assert first == again == load_suppression(tmp_path)
    more = add_to_suppression(tmp_path, [("sample", IDS[1])])
    assert first.hashes < more.hashes
    assert first.digest != more.digest


@pytest.mark.parametrize("damage", ["lost", "other", "short", "torn list"])
def test_without_the_right_key_it_is_closed(tmp_path: Path, damage: str) -> None:
    add_to_suppression(tmp_path, [("sample", IDS[0])])
    key = secret_file(tmp_path)
    if damage == "lost":
        key.unlink()
    elif damage == "other":
        key.write_text("ab" * 32)
    elif damage == "short":
        key.write_text("abcd")
    else:
        suppression_file(tmp_path).write_text("{")
    with pytest.raises(ConfigError, match=r"key|Restore"):
        load_suppression(tmp_path)


def test_the_key_may_lie_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_FILE, str(tmp_path / "vault" / "key"))
    listed = add_to_suppression(tmp_path / "ws", [("sample", IDS[0])])
    assert (tmp_path / "vault" / "key").is_file()
    assert not (tmp_path / "ws" / "secret").exists()
    assert listed.which("sample", pa.array([IDS[0], None, IDS[1]])) == [True, False, False]
