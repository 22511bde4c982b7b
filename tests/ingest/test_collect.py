from __future__ import annotations

import contextlib
import gc
import json
import math
from collections import Counter
from pathlib import Path

import awkward
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate import schema
from curate.errors import InputError
from curate.ingest import read_rows
from curate.ingest.boxes import box_problem
from curate.ingest.collect import Collector
from curate.ingest.location import Located, Locator, Problem, member_uri
from curate.ingest.source import Ingested, ReadOptions
from curate.reasons.ingest import SENTENCES


def assert_lawful(ingested: Ingested, n_in: int) -> None:
    outcomes = ingested.outcomes
    counts = Counter(outcomes["outcome"].to_pylist())
    assert n_in == counts["added"] + counts["already present"] + counts["out"] == outcomes.num_rows
    assert set(counts) <= set(schema.OUTCOMES)
    assert ingested.samples.schema.names[: len(schema.SAMPLES)] == schema.SAMPLES.names
    assert ingested.labels.schema == schema.LABELS
    assert outcomes.schema == schema.INGEST_OUTCOMES
    for row in outcomes.to_pylist():
        assert (row["reason_code"] is not None) == (row["outcome"] == "out")
        if row["outcome"] == "out":
            assert SENTENCES[row["reason_code"]].format(**json.loads(row["reason_args"]))
    sample_ids = ingested.samples["sample_id"].to_pylist()
    labels = ingested.labels["label_id"].to_pylist()
    labels += ingested.annotations["label_id"].to_pylist() if ingested.annotations else []
    assert len(set(sample_ids)) == len(sample_ids)
    assert len(set(labels)) == len(labels)
    assert set(ingested.labels["sample_id"].to_pylist()) <= set(sample_ids)
    added = outcomes.filter(pc.equal(outcomes["outcome"], "added"))
    assert set(added["label_id"].drop_null().to_pylist()) == set(labels)
    there = outcomes.filter(pc.not_equal(outcomes["outcome"], "out"))  # a repeated row vouches for its image too
    assert set(added["sample_id"].drop_null().to_pylist()) <= set(sample_ids)
    assert set(sample_ids) <= set(there["sample_id"].drop_null().to_pylist())
    states = dict(zip(sample_ids, ingested.samples["label_state"].to_pylist(), strict=True))
    assert {s for s, state in states.items() if state == "labeled"} == set(ingested.labels["sample_id"].to_pylist())
    assert set(ingested.labels["label"].to_pylist()) <= set(ingested.classes)


def reasons(ingested: Ingested) -> dict[str, str]:
    rows = ingested.outcomes.to_pylist()
    return {row["row"]: row["reason_code"] for row in rows if row["outcome"] == "out"}


PLACE = {"n_bytes": 9, "mtime_ns": 1}


def test_the_same_row_twice_is_already_present(tmp_path: Path) -> None:
    collector = Collector(ReadOptions("s", tmp_path))
    for row in range(3):
        collector.add_labeled_image(f"row {row}", "a.jpg", "cat", **PLACE)
    ingested = collector.finish()
    assert_lawful(ingested, 3)
    assert ingested.outcomes["outcome"].to_pylist() == ["added", "already present", "already present"]
    assert ingested.samples.num_rows == ingested.labels.num_rows == 1


def test_contradicting_rows_are_all_out_in_any_order(tmp_path: Path) -> None:
    rows = [("a.jpg", "cat"), ("a.jpg", "dog"), ("a.jpg", "cat"), ("b.jpg", "cat")]
    tables = []
    for order in (rows, rows[::-1]):
        collector = Collector(ReadOptions("s", tmp_path))
        for number, (uri, label) in enumerate(order):
            collector.add_labeled_image(f"{number}", uri, label, **PLACE)
        ingested = collector.finish()
        assert_lawful(ingested, 4)
        assert list(reasons(ingested).values()) == ["conflicting_labels"] * 3
        tables.append((ingested.samples, ingested.labels))
    assert tables[0] == tables[1]
    assert tables[0][0]["uri"].to_pylist() == ["b.jpg"]


def test_an_image_of_its_own_outlives_its_contradicting_labels(tmp_path: Path) -> None:
    collector = Collector(ReadOptions("s", tmp_path), task="detection")
    sample = collector.add_image("a.jpg", "a.jpg", label_state="negative", **PLACE)
    collector.add_label("1", sample, "cat", key="7", bbox=[0.1, 0.1, 0.2, 0.2], source_key="7")
    collector.add_label("2", sample, "cat", key="7", bbox=[0.1, 0.1, 0.3, 0.2], source_key="7")
    collector.add_label("3", sample, "cat", key="8", bbox=[0.1, 0.1, 0.3, 0.2])
    collector.add_label("4", sample, "cat", key="8", bbox=(0.1, 0.1, 0.3, 0.2))
    other = collector.add_image("b.jpg", "b.jpg", label_state="negative", **PLACE)
    collector.add_label("5", other, "cat", bbox=[0.1, 0.1, -0.3, 0.2])
    collector.add_image("c.jpg", "c.jpg", label_state="negative", **PLACE)
    collector.add_label("6", None, "cat")
    collector.put_out("7", "label", "label_missing", sample_id=other)
    ingested = collector.finish()
    assert_lawful(ingested, 10)
    assert reasons(ingested) == {
        "1": "duplicate_id",
        "2": "duplicate_id",
        "5": "box_inverted",
        "6": "image_not_there",
        "7": "label_missing",
    }
    assert dict(zip(*(ingested.samples[n].to_pylist() for n in ("uri", "label_state")), strict=True)) == {
        "a.jpg": "labeled",
        "b.jpg": "unlabeled",  # its box was out: nobody may call it negative
        "c.jpg": "negative",
    }


def test_one_name_for_two_contents_or_splits_is_out(tmp_path: Path) -> None:
    collector = Collector(ReadOptions("s", tmp_path))
    collector.add_image("1", "a.jpg", token=1, split="train", **PLACE)
    collector.add_image("2", "a.jpg", token=2, split="train", **PLACE)
    collector.add_image("3", "a.jpg", token=1, split="val", **PLACE)
    collector.add_image("4", "./x/../a.jpg", token=1, split="train", **PLACE)
    ingested = collector.finish()
    assert_lawful(ingested, 4)
    assert reasons(ingested) == {"2": "duplicate_id", "3": "in_two_splits"}


def test_classes_aliases_and_hints(tmp_path: Path) -> None:
    options = ReadOptions("s", tmp_path, classes=("dog", "cat", "owl"), aliases={"kitty": "cat"})
    collector = Collector(options)
    for label in ("kitty", "catt", "dog", "x" * 10_000, "a\nb", "<img src=x onerror=alert(1)>"):
        collector.add_labeled_image(label[:5], f"{len(label)}.jpg", label, reference_label="kitty", **PLACE)
    ingested = collector.finish()
    assert_lawful(ingested, 6)
    assert ingested.classes == ("dog", "cat", "owl")
    assert sorted(ingested.labels["label"].to_pylist()) == ["cat", "dog"]
    assert set(ingested.labels["reference_label"].to_pylist()) == {"cat"}
    out = {row["row"]: row for row in ingested.outcomes.to_pylist() if row["outcome"] == "out"}
    assert {row: found["reason_code"] for row, found in out.items()} == {
        "catt": "unknown_class",
        "xxxxx": "label_too_long",
        "a\nb": "label_unprintable",
        "<img ": "unknown_class",
    }
    assert json.loads(out["catt"]["reason_args"])["hint"] == "Did you mean 'cat'?"


def test_inferred_classes_are_sorted_and_only_of_labels_that_stay(tmp_path: Path) -> None:
    collector = Collector(ReadOptions("s", tmp_path))
    for index, label in enumerate(("b", "a", "<b>", "10", "9")):
        collector.add_labeled_image(label, f"{index}.jpg", label, **PLACE)
    collector.add_labeled_image("gone", "4.jpg", "z", **PLACE)
    ingested = collector.finish()
    assert ingested.classes == ("10", "<b>", "a", "b")


def test_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no image and no label"):
        Collector(ReadOptions("s", tmp_path)).finish()


def test_paths_are_judged_once_for_all_formats(tmp_path: Path) -> None:
    root = tmp_path / "data"
    wanted = awkward.write_hostile_folder(root)
    (root / "cat" / "folder.jpg").mkdir()
    (root / "cat" / "good one.jpg").write_bytes(awkward.jpeg())
    (root / "linked").symlink_to(tmp_path)
    (root / "inside").symlink_to(root / "cat")
    (root / "link_in.jpg").symlink_to(root / "cat" / "good one.jpg")
    wanted |= {
        "cat/folder.jpg": "not_a_file",
        "cat/nowhere.jpg": "missing_file",
        "../outside.jpg": "path_leaves_root",
        "cat/../../outside.jpg": "path_leaves_root",
        "linked/outside.jpg": "path_leaves_root",
        str(tmp_path / "outside.jpg"): "path_leaves_root",
        "/etc/passwd": "path_leaves_root",
        "C:\\Windows\\x.jpg": "path_leaves_root",
        "https://example.org/a.jpg": "path_is_url",
        "": "path_missing",
        "a\0.jpg": "path_unusable",
        "\udcff.jpg": "name_not_utf8",
        "x" * 5000 + ".jpg": "missing_file",
    }
    collector = Collector(ReadOptions("s", root))
    for path in wanted:
        assert collector.add_image(path.encode("unicode_escape").decode(), path) is None
    fine = ["cat/good one.jpg", "./cat//good one.jpg", str(root / "cat" / "good one.jpg"), "cat\\good one.jpg"]
    fine += ["inside/good one.jpg", "link_in.jpg"]
    for path in fine:
        assert collector.add_image(path, path), path
    ingested = collector.finish()
    assert_lawful(ingested, len(wanted) + len(fine))
    assert reasons(ingested) == {p.encode("unicode_escape").decode(): code for p, code in wanted.items()}
    assert ingested.samples["uri"].to_pylist() == ["cat/good one.jpg", "inside/good one.jpg", "link_in.jpg"]


@given(st.text(alphabet="ab./\\:~ \u00e9\n\0-", max_size=12))
def test_a_member_never_climbs_out(name: str) -> None:
    uri = member_uri(name)
    if isinstance(uri, str):
        parts = uri.replace("\\", "/").split("/")
        depth = 0
        for part in parts:
            depth += -1 if part == ".." else 0 if part in {"", "."} else 1
            assert depth >= 0
        assert not uri.startswith("/")
        assert member_uri(uri) == uri
    else:
        assert uri.code in SENTENCES


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    path=st.lists(st.sampled_from(["..", ".", "in", "out", "a.jpg", "up", "", "b.jpg"]), max_size=6).map("/".join)
)
def test_what_is_located_lies_inside(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    if not root.exists():
        (root / "in").mkdir(parents=True)
        for folder in (tmp_path, root, root / "in"):
            (folder / "a.jpg").write_bytes(b"x")
        (root / "up").symlink_to(tmp_path)
        (root / "in" / "b.jpg").symlink_to("../a.jpg")
        (root / "b.jpg").symlink_to("../a.jpg")
    located = Locator(root).locate(path)
    if isinstance(located, Located):
        assert (root / located.uri).resolve().is_relative_to(root.resolve())
    else:
        assert located.code in SENTENCES


BOXES = [
    ([0.0, 0.0, 1.0, 1.0], None),
    ([0.5, 0.5, 0.5, 0.5], None),
    ([-0.004, 0.0, 0.5, 0.5], None),
    ([0.0, 0.0, 1.02, 1.0], "box_outside"),
    ([2.0, 2.0, 0.1, 0.1], "box_outside"),
    ([0.1, 0.1, -0.1, 0.1], "box_inverted"),
    ([0.1, 0.1, 0.0, 0.1], "box_zero_area"),
    ([math.nan, 0.1, 0.1, 0.1], "box_not_numbers"),
    ([0.1, math.inf, 0.1, 0.1], "box_not_numbers"),
    ([0.1, 0.1, 0.1], "box_not_numbers"),
    (["a", 0.1, 0.1, 0.1], "box_not_numbers"),
    ([None, 0.1, 0.1, 0.1], "box_not_numbers"),
    ([10**400, 0, 1, 1], "box_not_numbers"),
    (7, "box_not_numbers"),
]


@pytest.mark.parametrize(("box", "code"), BOXES)
def test_boxes(box: object, code: str | None) -> None:
    problem = box_problem(box)  # type: ignore[arg-type]
    assert (problem.code if problem else None) == code
    if problem:
        assert SENTENCES[problem.code].format(**json.loads(schema.canonical_json(problem.args)))


def test_a_pixel_of_rounding_is_kept_as_given() -> None:
    assert box_problem([0.0, 0.0, 21 / 20, 1.0], width_px=20, height_px=10) is None
    assert isinstance(box_problem([0.0, 0.0, 22 / 20, 1.0], width_px=20, height_px=10), Problem)
    assert isinstance(box_problem([0.0, 0.0, 201 / 200, 1.2], width_px=200, height_px=100), Problem)


ROWS = st.tuples(
    st.sampled_from(["a.jpg", "b.jpg", "c/d.jpg", "../e.jpg", "", "f.jpg"]),
    st.sampled_from(["cat", "dog", "", None, "unknown", "x" * 300]),
    st.sampled_from([None, "anna", "ben"]),
    st.sampled_from([None, "train", "val"]),
    st.sampled_from([0, 9]),
)


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(ROWS, min_size=1, max_size=25))
def test_every_row_ends_in_exactly_one_outcome(
    rows: list[tuple[str, str | None, str | None, str | None, int]],
) -> None:
    collector = Collector(ReadOptions("s", Path("/nowhere"), classes=("cat", "dog")))
    for number, (uri, label, annotator, split, n_bytes) in enumerate(rows):
        collector.add_labeled_image(
            f"row {number}", uri, label, annotator=annotator, split=split, n_bytes=n_bytes, mtime_ns=1
        )
    assert_lawful(collector.finish(), len(rows))


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROWS.map(lambda row: (*row[:3], "train", 9)), min_size=1, max_size=15), seed=st.randoms())
def test_tables_do_not_depend_on_the_order_of_rows(rows: list[tuple[object, ...]], seed: object) -> None:
    shuffled = list(rows)
    seed.shuffle(shuffled)  # type: ignore[attr-defined]
    results = []
    for order in (rows, shuffled):
        collector = Collector(ReadOptions("s", Path("/nowhere")))
        for uri, label, annotator, split, n_bytes in order:
            collector.add_labeled_image(
                "row", str(uri), label, annotator=annotator, split=split, n_bytes=n_bytes, mtime_ns=1
            )
        ingested = collector.finish()
        codes = Counter(ingested.outcomes["reason_code"].to_pylist())
        results.append((ingested.samples, ingested.labels, ingested.classes, codes))
    assert results[0] == results[1]


class Careless:
    """A source that fails, or not, and sees whether cycles are searched for."""

    name, option_names = "careless", ()

    def __init__(self, *, fails: bool) -> None:
        self.fails, self.searched = fails, True

    def recognises(self, path: Path) -> None:
        del path

    def read(self, options: ReadOptions) -> Ingested:
        self.searched = gc.isenabled()
        if self.fails:
            raise InputError("no")
        collector = Collector(options)
        collector.add_image("a", "a.jpg", **PLACE)
        return collector.finish()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("searches", [False, True])
def test_cycles_are_searched_for_after_a_read_as_before_it(*, searches: bool, fails: bool, tmp_path: Path) -> None:
    source = Careless(fails=fails)
    (gc.enable if searches else gc.disable)()
    try:
        with pytest.raises(InputError) if fails else contextlib.nullcontext():
            read_rows(source, ReadOptions("s", tmp_path))
        assert (source.searched, gc.isenabled()) == (False, searches)
    finally:
        gc.enable()
