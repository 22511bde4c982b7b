from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from curate.errors import InputError
from curate.manifest import Diff, diff, publish, verify
from curate.manifest.diff_compare import list_differs
from curate.manifest.diff_rows import CHANGES, DIFF
from curate.manifest.verbs import ShownDiff
from curate.policy import Policy, Rule
from curate.report.diff_page import render_diff_page, write_diff_page

Worlds = Callable[..., Any]


def changes(found: Diff) -> dict[str, int]:
    return {change: n for change, n in found.summary["changes"].items() if n}


def between(tmp_path: Path, before: Any, after: Any) -> Diff:  # noqa: ANN401 - worlds
    old, new = (publish(made.release(), tmp_path, "zoo").path for made in (before, after))
    return diff(old, new)


def test_a_version_does_not_differ_from_itself(world: Worlds, tmp_path: Path) -> None:
    path = publish(world(boxes={5: [0.1, 0.1, 0.2, 0.2]}).release(), tmp_path, "zoo").path
    found = diff(path, path)
    assert found.is_empty
    assert found.rows.schema.equals(DIFF)
    assert changes(found) == {}


def test_added_and_removed_rows_say_why_they_were_or_are_out(world: Worlds, tmp_path: Path) -> None:
    found = between(tmp_path, world(flagged={4: "fox"}), world(flagged={5: "cat"}, left_out=(8,)))
    assert changes(found) == {"added": 1, "removed": 2}
    assert "excluded/ differs: 3 → 3 rows" in ShownDiff(found, 5).lines()
    added, *removed = found.rows.to_pylist()
    assert (added["uri"], added["before"], added["after"]) == ("pictures/é 4.PNG", None, "dog")
    assert (added["action_before"], added["action_after"]) == ("review", "keep")
    assert added["reason_codes_before"] == ["teachers_disagree"]
    by_uri = {row["uri"]: row for row in removed}
    assert by_uri["pictures/é 5.PNG"]["action_after"] == "review"
    assert by_uri["pictures/é 5.PNG"]["reason_codes_after"] == ["teachers_disagree"]
    assert by_uri["pictures/é 8.PNG"]["action_after"] is None  # the later version never saw it


def test_tables_beside_the_rows_that_differ_are_named_even_where_no_row_does(world: Worlds, tmp_path: Path) -> None:
    path = publish(world().release(), tmp_path, "zoo").path
    found = diff(path, path)
    other = {**found.summary, "inputs_changed": ["policy"]}
    other["beside"] = {"ignore": {"n_rows_before": 1041, "n_rows_after": 877}}
    told = ShownDiff(Diff(found.before, found.after, found.rows, other), 5).lines()
    assert told[1:] == [
        "what went in differs in: policy", "ignore/ differs: 1,041 → 877 rows", "No released row differs."
    ]  # fmt: skip
    assert found.summary["beside"] == {}


def test_a_relabel_by_a_person_names_the_decision(world: Worlds, tmp_path: Path) -> None:
    made = world()
    decision = {
        "decision_id": "d1",
        "at": "2026-01-01T00:00:00Z",
        "reviewer": "r",
        "decision": "relabel",
        "to_label": "cat",
        "sample_id": made.sample_id(8),
        "label_id": made.label_id(8),
    }
    found = between(tmp_path, made, world(decisions=[decision]))
    assert changes(found) == {"relabeled": 1, "action changed": 1}
    row = found.rows.to_pylist()[0]
    assert (row["before"], row["after"], row["reasons_after"]) == ("fox", "cat", ["d1"])
    assert found.summary["relabeled"] == [{"from": "fox", "to": "cat", "n": 1}]


def test_boxes_splits_weights_and_images(world: Worlds, tmp_path: Path) -> None:
    soft = Policy(rules=(Rule(issue="mislabel", action="soften", weight=0.5),))
    softer = Policy(rules=(Rule(issue="mislabel", action="soften", weight=0.25),))
    before = world(policy=soft, boxes={1: [0.1, 0.1, 0.2, 0.2], 2: [0.0, 0.0, 1.0, 1.0]})
    after = world(policy=softer, boxes={1: [0.1, 0.1, 0.2, 0.3], 5: [0.5, 0.5, 0.1, 0.1]}, moved={8: "val"})
    found = between(tmp_path, before, after)
    assert changes(found) == {"reboxed": 3, "split moved": 1, "weight changed": 2}
    rows = {(row["change"], row["uri"]): (row["before"], row["after"]) for row in found.rows.to_pylist()}
    assert rows["reboxed", "pictures/é 1.PNG"] == ("0.1 0.1 0.2 0.2", "0.1 0.1 0.2 0.3")
    assert rows["reboxed", "pictures/é 2.PNG"] == ("0 0 1 1", None)
    assert rows["split moved", "pictures/é 8.PNG"] == ("train", "val")
    assert rows["weight changed", "pictures/é 3.PNG"] == ("0.5", "0.25")


def test_the_same_picture_in_other_bytes(world: Worlds, tmp_path: Path) -> None:
    class Changed(world):  # type: ignore[misc]
        def scan(self) -> pa.Table:
            table = super().scan()
            at = table.schema.get_field_index("content_sha256")
            values = [f"{99:064x}" if value == f"{5:064x}" else value for value in table[at].to_pylist()]
            return table.set_column(at, table.schema.field(at), pa.array(values))

    found = between(tmp_path, world(), Changed())
    assert changes(found) == {"image changed": 1}


def test_attributes_flags_and_the_license(world: Worlds, tmp_path: Path) -> None:
    class Changed(world):  # type: ignore[misc]
        def samples(self) -> pa.Table:
            table = super().samples()
            at = table.schema.get_field_index("license")
            return table.set_column(at, "license", pa.array(["CC-BY-4.0", *table["license"].to_pylist()[1:]]))

    light = Policy(attributes_released=("light",))
    found = between(tmp_path, world(policy=light), Changed(policy=light))
    assert changes(found) == {"license changed": changes(found)["license changed"]}
    (first, *_) = found.rows.to_pylist()
    assert (first["before"], first["after"], first["causes"]) == ("CC0-1.0", "CC-BY-4.0", ["license_changed"])
    assert {row["sample_id"] for row in found.rows.to_pylist()} == {world().sample_id(0)}

    found = between(tmp_path / "released", world(policy=Policy()), world(policy=light))
    assert set(changes(found)) == {"attributes changed"}
    assert {row["before"] for row in found.rows.to_pylist()} == {""}
    assert any(str(row["after"]).startswith("light: ") for row in found.rows.to_pylist())
    told = "\n".join(ShownDiff(found, 2).lines())
    assert "because of other attributes in the source, or others that the policy releases" in told


def test_where_there_is_no_version(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        diff(tmp_path / "a", tmp_path / "b")


def test_every_change_says_what_it_came_from(world: Worlds, tmp_path: Path) -> None:
    made = world()
    decision = {"decision_id": "d1", "at": "2026-01-01T00:00:00Z", "reviewer": "r", "decision": "relabel"}
    decision |= {"to_label": "cat", "sample_id": made.sample_id(8), "label_id": made.label_id(8)}
    before = world(boxes={1: [0.1, 0.1, 0.2, 0.2]}, flagged={4: "fox"})
    after = world(
        boxes={1: [0.1, 0.1, 0.2, 0.3]},
        flagged={9: "dog"},
        moved={6: "val"},
        labels_changed={5: "cat"},
        left_out=(7,),
        decisions=[decision],
    )
    found = between(tmp_path, before, after)
    causes = {(row["change"], row["uri"][-6:-4].strip()): row["causes"] for row in found.rows.to_pylist()}
    assert causes == {
        ("added", "4"): ["no_longer_teachers_disagree"],
        ("removed", "7"): ["gone_from_source"],
        ("removed", "9"): ["teachers_disagree"],
        ("relabeled", "5"): ["given_label_changed"],
        ("relabeled", "8"): ["decision_relabel"],
        ("action changed", "8"): ["decision_relabel"],
        ("reboxed", "1"): ["given_shape_changed"],
        ("split moved", "6"): ["split_changed"],
    }
    assert found.summary["inputs_changed"] == ["decisions", "predictions"]
    told = "\n".join(ShownDiff(found, 10).lines())
    assert "4.PNG: – → dog (keep) because of teachers disagree no longer being so" in told  # noqa: RUF001 - a dash
    assert "pictures/é 6.PNG: test → val (keep) because of another split in the source or the spec" in told


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [("relabel", "review", "removed"), ("review", "relabel", "added"), ("relabel", "keep", "relabeled")],
)
def test_where_findings_stand_alike_the_policy_is_the_cause(
    world: Worlds, tmp_path: Path, before: str, after: str, change: str
) -> None:
    was, now = (
        Policy(rules=(Rule(issue="mislabel", action=action),), release_review=False) for action in (before, after)
    )
    found = between(tmp_path, world(policy=was, flagged={4: "fox"}), world(policy=now, flagged={4: "fox"}))
    assert change in changes(found)
    assert {row["change"]: row["causes"] for row in found.rows.to_pylist()}[change] == ["policy_changed"]
    # another suggestion is another finding: the policy is not the only thing that changed
    other = between(tmp_path, world(policy=was, flagged={4: "fox"}), world(policy=now, flagged={4: "cat"}))
    assert all(row["causes"] != ["policy_changed"] for row in other.rows.to_pylist())


def test_a_page_shows_each_change_with_its_picture_and_runs_nothing(world: Worlds, tmp_path: Path) -> None:
    before = world(boxes={1: [0.1, 0.1, 0.2, 0.2]})
    after = world(boxes={1: [0.1, 0.1, 0.2, 0.3]}, labels_changed={5: "cat"})
    found = between(tmp_path, before, after)
    picture = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(picture, "PNG")
    page = render_diff_page(found, "<zoo>", lambda ids: dict.fromkeys(ids, picture.getvalue()))
    assert "&lt;zoo&gt;" in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("data:image/jpeg;base64,") == found.rows.num_rows + page.count('class="shots pair"')
    assert 'class="shots pair"' in page  # the box before and after
    assert "another label in the source" in page
    bare = render_diff_page(found, "zoo", None, "No run is left.")
    assert "Without pictures. No run is left." in bare
    assert "data:image" not in bare
    assert write_diff_page(found, "zoo", tmp_path / "page.html", tmp_path).read_text().count("no finished run") == 1


POLYGON = st.none() | st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0]), max_size=3), max_size=3)


@settings(max_examples=100, deadline=None)
@given(pairs=st.lists(st.tuples(POLYGON, POLYGON), max_size=8))
def test_nested_lists_differ_where_python_says_so(pairs: list[tuple[Any, Any]]) -> None:
    kind = pa.list_(pa.list_(pa.float64()))
    was, now = (pa.array([pair[side] for pair in pairs], kind) for side in (0, 1))
    assert list_differs(was, now).tolist() == [a != b for a, b in pairs]


BOX = st.none() | st.lists(st.sampled_from([0.0, 0.5]), min_size=4, max_size=4)


@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(st.tuples(BOX, BOX), max_size=8))
def test_boxes_differ_where_python_says_so(pairs: list[tuple[Any, Any]]) -> None:
    was, now = (pa.array([pair[side] for pair in pairs], pa.list_(pa.float64(), 4)) for side in (0, 1))
    assert list_differs(was, now).tolist() == [a != b for a, b in pairs]


SCENES = st.fixed_dictionaries(
    {
        "labels_changed": st.dictionaries(st.integers(1, 11), st.sampled_from(["cat", "dog", "fox"]), max_size=3),
        "flagged": st.dictionaries(st.integers(1, 11), st.sampled_from(["cat", "dog", "fox"]), max_size=4),
        "moved": st.dictionaries(st.integers(0, 11), st.sampled_from(["train", "val"]), max_size=3),
        "boxes": st.dictionaries(st.integers(1, 11), st.just([0.1, 0.1, 0.2, 0.2]), max_size=2),
        "left_out": st.sets(st.integers(3, 11), max_size=3).map(tuple),
    }
)
MIRROR = {"added": "removed", "removed": "added", "ignored": "no longer ignored", "no longer ignored": "ignored"}


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=SCENES, other=SCENES, shuffle=st.integers(0, 99))
def test_laws(world: Worlds, tmp_path: Path, one: dict[str, Any], other: dict[str, Any], shuffle: int) -> None:
    release = world(**one).release()
    assert release.head["counts"]["n_in"] == release.data.num_rows + release.excluded.num_rows
    old = publish(release, tmp_path, "zoo")
    assert publish(world(**one, shuffle=shuffle).release(), tmp_path, "zoo").id == old.id
    new = publish(world(**other).release(), tmp_path, "zoo")
    assert [promise for promise in verify(new.path) if promise.ok is False] == []
    there, back = diff(old.path, new.path), diff(new.path, old.path)
    swapped = [
        {
            **row,
            "change": MIRROR.get(row["change"], row["change"]),
            **{f"{name}_before": row[f"{name}_after"] for name in ("action", "reasons", "reason_codes")},
            **{f"{name}_after": row[f"{name}_before"] for name in ("action", "reasons", "reason_codes")},
            "before": row["after"],
            "after": row["before"],
        }
        for row in back.rows.to_pylist()
    ]
    swapped.sort(key=lambda row: (CHANGES.index(row["change"]), row["sample_id"], row["label_id"] or "~"))
    told = there.rows.to_pylist()
    assert all(row.pop("causes") for row in told)  # never without a cause
    for row in swapped:
        row.pop("causes")
    assert swapped == told
    n_added, n_removed = (there.summary["changes"][change] for change in ("added", "removed"))
    assert there.summary["n_rows_after"] - there.summary["n_rows_before"] == n_added - n_removed
