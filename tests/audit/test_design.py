"""The sample is fixed before anyone looks, and depends on nothing but ids, seed and subject."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from audit_world import world

from curate import schema
from curate.audit import store
from curate.audit.answers import Answer, agreement, read_verdict
from curate.audit.design import Design
from curate.audit.draw import draw
from curate.audit.population import of_labels
from curate.audit.sheet import COLUMNS, read_sheet, write_sheet
from curate.errors import ConfigError, InputError

SUBJECT = {"name": "pets", "number": 1}


def test_row_order_leaves_no_trace_and_seed_and_number_draw_others() -> None:
    labels = world(700).labels
    turned = labels.take(pa.array(range(699, -1, -1)))
    design, membership = draw(labels, subject=SUBJECT, budget=100)
    again, same = draw(turned, subject=SUBJECT, budget=100)
    assert design == again
    assert design.digest == again.digest
    assert membership == same
    drawn = {item.label_id for item in design.items}
    for other in ({"subject": SUBJECT, "seed": 1}, {"subject": SUBJECT | {"number": 2}}):
        assert {item.label_id for item in draw(labels, budget=100, **other)[0].items} != drawn


def test_the_budget_is_kept_second_looks_come_later_and_the_sheet_order_says_nothing_of_risk() -> None:
    design, _ = draw(world(2_000).labels, subject=SUBJECT, budget=200)
    assert len(design.looks) == 200
    assert len({look.look for look in design.looks}) == 200
    assert len(design.items) == 182
    assert sum(look.repeat for look in design.looks) == 18
    place = {look.item: at for at, look in enumerate(design.looks) if not look.repeat}
    assert all(at > place[look.item] for at, look in enumerate(design.looks) if look.repeat)
    bands = [design.items[look.item].band for look in design.looks]
    assert len(set(bands[:25])) == len(design.bands)
    for number, band in enumerate(design.bands):
        chances = {item.inclusion_probability for item in design.items if item.band == number}
        assert chances == {band.n_drawn / band.n_all}
    assert design.n_population == 2_000


def test_a_budget_above_the_labels_looks_at_all_of_them() -> None:
    design, _ = draw(world(50).labels, subject=SUBJECT, budget=200)
    assert {item.inclusion_probability for item in design.items} == {1.0}
    assert len(design.items) == 50


def test_a_design_survives_the_disk_and_a_change_of_it_is_noticed(tmp_path: Path) -> None:
    design, membership = draw(world(300).labels, subject=SUBJECT, budget=40)
    assert Design.from_json(json.loads(json.dumps(design.to_json()))) == design
    audit = store.record(tmp_path / "0001", design, membership)
    assert store.read(audit.folder).design == design
    with pytest.raises(ConfigError, match="its sample is fixed"):
        store.record(tmp_path / "0001", design, membership)
    file = audit.folder / store.DESIGN
    file.write_text(file.read_text().replace('"budget":40', '"budget":41'))
    with pytest.raises(InputError, match="was changed after it was recorded"):
        store.read(audit.folder)
    with pytest.raises(InputError, match="not the design of an audit"):
        Design.from_json({"format": 99})


def test_answers_are_appended_the_latest_counts_and_foreign_ones_are_refused(tmp_path: Path) -> None:
    design, membership = draw(world(300).labels, subject=SUBJECT, budget=40)
    audit = store.record(tmp_path / "0001", design, membership)
    look = design.looks[0].look
    audit, fresh = store.append(audit, [Answer(look, "correct")])
    assert len(fresh) == 1
    audit, fresh = store.append(audit, [Answer(look, "correct")])
    assert fresh == []
    audit, _ = store.append(audit, [Answer(look, "wrong", "dog")])
    assert audit.answers[look] == Answer(look, "wrong", "dog")
    assert len(list(audit.folder.glob("answers-*.json"))) == 2
    assert len(audit.open_looks) == len(design.looks) - 1
    with pytest.raises(InputError, match="never asked for"):
        store.append(audit, [Answer("nobody", "correct")])


def test_the_sheet_hides_what_is_suspected_and_is_read_as_spreadsheets_write_it(tmp_path: Path) -> None:
    design, _ = draw(world(300).labels, subject=SUBJECT, budget=40)
    sheet = tmp_path / "sheet.csv"
    write_sheet(design, sheet)
    head, *rows = sheet.read_text().splitlines()
    assert tuple(head.split(",")) == COLUMNS
    assert len(rows) == 40
    for word in ("risk", "flag", "suggest", "band", "repeat"):
        assert word not in head
    assert read_sheet(design, sheet, reviewer="ann") == []
    said = ["Wrong", "can’t tell", "OK", ""]  # noqa: RUF001 - the apostrophe that word processors write
    filled = [";".join(head.split(","))]
    for row, answer in zip(rows, said * 10, strict=True):
        cells = row.split(",")
        cells[4] = answer
        filled.append(";".join(cells))
    sheet.write_bytes("\r\n".join(filled).encode("utf-8-sig"))
    answers = read_sheet(design, sheet, reviewer="ann")
    assert [answer.verdict for answer in answers[:3]] == ["wrong", "can't tell", "correct"]
    assert len(answers) == 30
    with pytest.raises(ConfigError, match="holds answers already"):
        write_sheet(design, sheet)
    first = design.looks[0].look
    sheet.write_text(f"look,answer,true_label\n{first},wrong,zebra\n")
    with pytest.raises(InputError, match=r"row 2: the true label 'zebra' is no class of the dataset"):
        read_sheet(design, sheet, reviewer="ann", classes=("cat", "dog"))
    assert read_sheet(design, sheet, reviewer="ann")[0].true_label == "zebra"  # nobody knows the classes of a table
    sheet.write_text("look,answer\nnobody,wrong\n")
    with pytest.raises(InputError, match=r"row 2: the look 'nobody' was never asked for"):
        read_sheet(design, sheet, reviewer="ann")
    sheet.write_text("picture,answer\n")
    with pytest.raises(InputError, match="lacks the column 'look'"):
        read_sheet(design, sheet, reviewer="ann")


def test_words_that_contradict_or_mean_nothing_are_named() -> None:
    assert read_verdict("", "dog", "cat", where="x") == "wrong"
    assert read_verdict("", None, "cat", where="x") is None
    for text, label in (("correct", "dog"), ("wrong", "cat"), ("wrnog", None)):
        with pytest.raises(InputError, match="row 9"):
            read_verdict(text, label, "cat", where="row 9")


def test_agreement_counts_second_looks_only() -> None:
    design, _ = draw(world(2_000).labels, subject=SUBJECT, budget=110)
    answers = {look.look: Answer(look.look, "correct") for look in design.looks}
    first = next(look for look in design.looks if look.repeat)
    answers[first.look] = Answer(first.look, "can't tell")
    found = agreement(design, answers)
    assert (found.n_pairs, found.n_same) == (10, 9)
    assert found.low < 0.9 < found.high


@pytest.mark.parametrize(("budget", "target"), [(10, None), (200, 1.0), (200, 0.0)])
def test_a_budget_or_target_that_makes_no_sense_is_refused(budget: int, target: float | None) -> None:
    with pytest.raises(ConfigError):
        draw(world(300).labels, subject=SUBJECT, budget=budget, target_precision=target)


def test_of_several_findings_about_a_label_the_flagged_one_counts_and_sanity_checks_do_not() -> None:
    common = {"sample_id": "s", "reason_code": "x", "reason_args": "{}"}
    rows = [
        common | {"check": "box_noise", "label_id": "a", "issue": "swap", "risk": 0.4, "flagged": True},
        common | {"check": "box_noise", "label_id": "a", "issue": "location", "risk": 0.9, "flagged": False},
        common | {"check": "label_noise", "label_id": "b", "issue": "mislabel", "risk": 0.6, "flagged": False},
        common | {"check": "label_noise", "label_id": "c", "issue": "unjudged_label", "risk": 0.0},
        common | {"check": "box_noise", "label_id": None, "issue": "missing", "risk": 0.9, "flagged": True},
        common | {"check": "box_sanity", "label_id": "c", "issue": "tiny_box", "risk": 0.9, "flagged": True},
    ]
    findings = schema.table_from_rows([row | {"finding_id": str(i)} for i, row in enumerate(rows)], schema.FINDINGS)
    names = ("label_id", "sample_id", "uri", "given_label", "content_sha256")
    labels = pa.table({name: ["a", "b", "c"] for name in names}).append_column("bbox", pa.nulls(3, schema.BBOX))
    further = pa.table({"label_id": ["b", "c"], "risk": [0.1, 0.2]})
    found = of_labels(labels, findings, further).to_pylist()
    assert [(row["label_id"], row["risk"], row["flagged"]) for row in found] == [
        ("a", 0.4, True),
        ("b", 0.6, False),
        ("c", 0.2, False),
    ]
    assert [row["finding_id"] for row in found] == ["0", "2", None]
