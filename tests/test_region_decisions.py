"""Decisions on single regions of masks: in the App, in the ledger, in verdicts, in the release, and after a rerun."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from region_scenes import (
    ALSO,
    CLASSES,
    FALSE_BOX,
    GONE,
    WRONG,
    broken,
    in_doubt,
    labeled,
    pixels,
    released,
    run,
    scene,
    write_scenes,
)

from curate import schema
from curate.governance.erase import erase
from curate.governance.plan import plan_erasure
from curate.ingest.rle import encode_mask
from curate.manifest import load_release, log
from curate.manifest.publish import publish
from curate.manifest.tables import DECISIONS
from curate.manifest.verify import verify
from curate.manifest.vouched import vouched
from curate.policy import Policy
from curate.review import ledger
from curate.state import RunResult
from curate.teachers.regions.doubt import pixels_to_json
from curate.verdict_people import standing
from curate.verdicts import decide


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("regions"), "regions")


def say(workspace: Path, finding: dict[str, Any], decision: str, **more: str) -> None:
    region = schema.canonical_json(json.loads(finding["reason_args"])["in_doubt"])
    row = {name: finding[name] for name in ("sample_id", "label_id", "finding_id")} | {"region": region}
    row |= {"decision": decision, "to_label": finding["suggested_label"]} | more
    ledger.append(ledger.ledger_folder(workspace, "regions"), [row], reviewer="ada")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("decided")


@pytest.fixture(scope="module")
def decided(spec: Path, workspace: Path) -> RunResult:
    """A run in which one region was given away and another one is held back."""
    before = run(spec, workspace)
    say(workspace, in_doubt(before, ALSO), "accept")
    say(workspace, in_doubt(before, GONE), "ignore")
    return run(spec, workspace)


def ignored(result: RunResult, sample: str) -> list[dict[str, Any]]:
    assert result.release is not None
    table = result.release.ignore
    return [row for row in table.to_pylist() if row["sample_id"] == sample] if table is not None else []


def test_each_decision_does_to_one_region_what_it_says_and_the_version_verifies(spec: Path, tmp_path: Path) -> None:
    before = run(spec, tmp_path)
    wrong, also, gone = (in_doubt(before, number) for number in (WRONG, ALSO, GONE))
    assert (wrong["issue"], gone["issue"]) == ("region_spurious", "region_missing")
    say(tmp_path, wrong, "reject")
    say(tmp_path, also, "accept")
    say(tmp_path, gone, "ignore")
    result = run(spec, tmp_path)
    assert broken(result) == []
    assert result.published is not None
    assert result.published.id != before.published.id  # type: ignore[union-attr]

    kept = released(result, WRONG)["box"]
    assert (kept["action"], kept["given_mask"], kept["reason_codes"]) == ("keep", None, ["decision_region_reject"])
    np.testing.assert_array_equal(pixels(kept), labeled(WRONG) == 1)
    assert ignored(result, wrong["sample_id"]) == []

    moved = released(result, ALSO)
    assert moved["box"]["reason_codes"] == ["decision_region_accept"]
    np.testing.assert_array_equal(pixels(moved["box"]), scene(ALSO) == 1)
    np.testing.assert_array_equal(pixels(moved["ground"]), scene(ALSO) == 0)
    assert ignored(result, also["sample_id"]) == []

    held = released(result, GONE)
    assert held["ground"]["reason_codes"] == ["decision_region_ignore"]
    assert not pixels(held["ground"])[scene(GONE) == 2].any()
    (place,) = ignored(result, gone["sample_id"])
    np.testing.assert_array_equal(pixels(place), scene(GONE) == 2)
    again = run(spec, tmp_path)
    assert again.published is not None
    assert again.published.id == result.published.id


def test_a_region_of_a_class_that_the_image_lacks_becomes_a_label_of_its_own(spec: Path, tmp_path: Path) -> None:
    gone = in_doubt(run(spec, tmp_path), GONE)
    say(tmp_path, gone, "accept")
    result = run(spec, tmp_path)
    assert broken(result) == []
    rows = released(result, GONE)
    np.testing.assert_array_equal(pixels(rows["disc"]), scene(GONE) == 2)
    np.testing.assert_array_equal(pixels(rows["ground"]), scene(GONE) == 0)
    assert rows["disc"]["annotator"] is None
    assert ignored(result, gone["sample_id"]) == []


def test_a_decision_outlives_its_finding_and_a_withdrawn_or_stale_one_does_nothing(
    spec: Path, tmp_path: Path
) -> None:
    wrong = in_doubt(run(spec, tmp_path), WRONG)
    say(tmp_path, wrong, "accept")
    bare = spec.with_name("bare.yaml")
    bare.write_text(spec.read_text().replace("path: net", "path: masks").replace("path: ids", "path: masks"))
    without = run(bare, tmp_path)  # this teacher repeats the labels: nothing is in doubt
    np.testing.assert_array_equal(pixels(released(without, WRONG)["box"]), scene(WRONG) == 1)
    assert broken(without) == []
    held = ledger.read(ledger.ledger_folder(tmp_path, "regions")).decisions
    why = ledger.WITHDRAWS + held["decision_id"][0].as_py()
    note = {"sample_id": wrong["sample_id"], "label_id": wrong["label_id"], "decision": "note", "why": why}
    ledger.append(ledger.ledger_folder(tmp_path, "regions"), [note], reviewer="ada")
    say(tmp_path, wrong, "accept", content_sha256="0" * 64)
    back = run(spec, tmp_path)
    row = released(back, WRONG)["box"]
    assert row["action"] == "review"
    assert "decision_stale" in row["reason_codes"]
    assert not pixels(row)[FALSE_BOX].any()
    assert broken(back) == []


@pytest.mark.parametrize("tamper", ["whole again", "not moved", "no place", "other place", "undecided", "no table"])
def test_a_release_that_does_not_hold_what_was_decided_breaks_a_promise(
    tmp_path: Path, decided: RunResult, tamper: str
) -> None:
    """Every hash is made anew: only what findings and decisions say tells such a version from a true one."""
    release = decided.release
    assert release is not None
    assert release.ignore is not None
    changed: dict[str, Any] = {}
    if tamper == "whole again":
        changed["data"] = put(release.data, "mask", given_masks(release.data))
        changed["data"] = put(changed["data"], "given_mask", pa.nulls(len(release.data), schema.MASK_RLE))
    if tamper == "not moved":
        ground = released(decided, ALSO)["ground"]
        there = pc.equal(release.data["label_id"], ground["label_id"]).to_pylist()
        masks = [
            ground["given_mask"] if is_it else mask
            for is_it, mask in zip(there, release.data["mask"].to_pylist(), strict=True)
        ]
        changed["data"] = put(release.data, "mask", pa.array(masks, schema.MASK_RLE))
    if tamper == "no place":
        changed["ignore"] = release.ignore.slice(1)
    if tamper == "other place":
        mask = encode_mask(np.ones(scene(0).shape, dtype=bool))
        changed["ignore"] = put(release.ignore, "mask", pa.array([mask] * len(release.ignore), schema.MASK_RLE))
    if tamper == "undecided":
        changed["decisions"] = release.decisions.slice(0, 0)
    if tamper == "no table":
        changed["ignore"] = None
    bad = publish(dataclasses.replace(release, **changed), tmp_path, "regions")
    assert {one.name for one in verify(bad.path) if one.ok is False} == {"verdicts"}


def test_an_erased_image_takes_the_decisions_on_its_regions_along_and_leaves_those_on_others(
    workspace: Path, decided: RunResult, tmp_path: Path
) -> None:
    copy = tmp_path / "ws"
    shutil.copytree(workspace, copy)
    (gone,) = {row["sample_id"] for row in released(decided, ALSO).values()}
    (kept,) = {row["sample_id"] for row in released(decided, GONE).values()}
    said = ledger.read(ledger.ledger_folder(copy, "regions")).decisions
    (region,) = (row["region"] for row in said.to_pylist() if row["sample_id"] == gone)
    erase(copy, plan_erasure(copy, "regions", samples=[gone]))
    note, left = ledger.read(ledger.ledger_folder(copy, "regions")).decisions.to_pylist()
    assert (note["decision"], note["region"], note["why"]) == ("note", None, "erased on request")
    assert (left["sample_id"], left["decision"], left["region"] is None) == (kept, "ignore", False)
    root = copy / "manifests"
    place = log.resolve(root, "regions")
    assert [one for one in verify(place, deep=True) if one.ok is False] == []
    version = load_release(place)
    assert gone not in version.data["sample_id"].to_pylist()
    assert [row["sample_id"] for row in version.decisions.to_pylist()] == [kept]
    assert version.ignore is not None
    assert decided.release is not None
    assert decided.release.ignore is not None
    assert len(ignored(decided, kept)) == 1
    assert version.ignore.to_pylist() == [r for r in decided.release.ignore.to_pylist() if r["sample_id"] != gone]
    mine = [row for row in decided.release.data.to_pylist() if row["sample_id"] == kept]
    assert [row for row in version.data.to_pylist() if row["sample_id"] == kept] == mine
    counts = json.loads(region)["counts"].encode()
    assert not [file for file in copy.rglob("*") if file.is_file() and counts in file.read_bytes()]


def put(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(at), values)


def given_masks(data: pa.Table) -> pa.Array:
    pairs = zip(data["given_mask"].to_pylist(), data["mask"].to_pylist(), strict=True)
    return pa.array([given or mask for given, mask in pairs], schema.MASK_RLE)


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 10_000), st.lists(st.sampled_from(["accept", "reject", "ignore"]), max_size=4))
def test_no_pixel_is_lost_or_claimed_twice(seed: int, kinds: list[str]) -> None:
    """Every labeled pixel is released once, or was said to be nobody's; a class gains what another one gives."""
    random = np.random.default_rng(seed)
    ids = random.integers(0, 3, (6, 8))
    rows, said = [], []
    for one, name in enumerate(CLASSES):
        rows.append({"sample_id": "s", "label_id": name, "task": "segmentation", "action": "keep"})
        rows[-1] |= {"released_label": name, "content_sha256": "c", "mask": encode_mask(ids == one)}
    nobodys = np.zeros(ids.shape, dtype=bool)
    for at, kind in enumerate(kinds):
        own = random.integers(0, 3)
        region = (ids == own) & (random.random(ids.shape) < 0.4) & ~nobodys
        ids_before = ids.copy()
        other = (own + 1) % 3
        if region.any():
            row = {"decision_id": f"d{at}", "sample_id": "s", "label_id": CLASSES[own], "decision": kind}
            said.append(row | {"to_label": CLASSES[other], "region": schema.canonical_json(pixels_to_json(region))})
            ids = np.where(region, other, ids) if kind == "accept" else ids_before
            nobodys |= region if kind == "ignore" else False
    columns = {name: [row.get(name) for row in rows] for name in rows[0]}
    table = pa.table(columns | {"given_mask": pa.nulls(3, schema.MASK_RLE)})
    at = table.schema.get_field_index("mask")
    table = table.set_column(at, "mask", pa.array([row["mask"] for row in rows], schema.MASK_RLE))
    left = vouched(table, schema.empty(schema.FINDINGS), schema.table_from_rows(said, DECISIONS))
    total = np.sum([pixels(row) for row in left.to_pylist()], axis=0)
    np.testing.assert_array_equal(total, np.where(nobodys, 0, 1))


def test_a_decision_on_a_region_decides_nothing_else_of_the_label() -> None:
    samples = pa.table({"sample_id": ["s"], "content_sha256": ["c"]})
    label = {"label_id": "l", "sample_id": "s", "task": "segmentation", "label": "box"}
    region = schema.canonical_json(pixels_to_json(np.ones((2, 2), dtype=bool)))
    common = {"at": "t", "reviewer": "ada", "sample_id": "s", "label_id": "l"}
    said = [common | {"decision_id": "a", "decision": "drop"}]
    said += [common | {"decision_id": "b", "decision": "reject", "region": region}]
    decisions = schema.table_from_rows(said, schema.DECISIONS)
    (row,) = decide(
        samples,
        schema.table_from_rows([label], schema.LABELS),
        schema.empty(schema.FINDINGS),
        Policy(),
        decisions,
    ).to_pylist()
    assert (row["action"], row["reason_codes"]) == ("drop", ["decision_drop", "decision_region_reject"])
    old = standing(decisions.drop_columns(["region", "to_bbox"]))  # of a curate that knew of neither
    assert old["region"].null_count == 2
