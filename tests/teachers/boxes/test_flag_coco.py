"""Wrong boxes are found, and nothing but what the files say decides."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from box_world import CLASSES, World, labels_of, make_world, plant, write

from curate.errors import CurateError, InputError
from curate.teachers.boxes import arrange
from curate.teachers.boxes.coco import read_detections, read_labels
from curate.teachers.boxes.flag_coco import flag_boxes
from curate.teachers.boxes.flag_summary import BoxFlagSummary
from curate.teachers.boxes.geometry import iou_of

OF_GIVEN = ("location", "swap", "spurious")
CHANCE = 0.05


def flags(folder: Path, labels: dict[str, Any], detections: dict[str, Any]) -> tuple[pa.Table, BoxFlagSummary]:
    file, teachers = write(folder, labels, detections)
    summary = flag_boxes(file, teachers, folder / "flags.parquet")
    return pq.read_table(folder / "flags.parquet"), summary


@pytest.fixture(scope="module")
def world() -> World:
    return plant(make_world())


@pytest.fixture(scope="module")
def found(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[pa.Table, BoxFlagSummary]:
    return flags(tmp_path_factory.mktemp("found"), labels_of(world), world.detections)


def risks(table: pa.Table, issue: str) -> dict[Any, float]:
    return {row["annotation_id"]: row["risk"] for row in table.to_pylist() if row["issue"] == issue}


def average_precision(risk: np.ndarray[Any, Any], hit: np.ndarray[Any, Any], n: int) -> float:
    order = np.argsort(-risk, kind="stable")
    hits = np.cumsum(hit[order])
    return float((hits / np.arange(1, len(hits) + 1))[hit[order]].sum() / n)


def by_issue(table: pa.Table, world: World) -> dict[str, float]:
    scores = {}
    for issue in OF_GIVEN:
        risk = risks(table, issue)
        of_box = np.array([risk[number] for number in range(len(world.image))])
        scores[issue] = average_precision(of_box, world.kind == issue, int((world.kind == issue).sum()))
    rows = sorted((r for r in table.to_pylist() if r["issue"] == "missing"), key=lambda r: -r["risk"])
    free, hit = set(range(len(world.lost_image))), []
    for row in rows:
        at = [k for k in free if world.lost_image[k] == row["image_id"]]
        at = [k for k in at if iou_of(world.lost_bbox[k], np.array(row["suggested_bbox"])) >= 0.5]
        hit.append(bool(at))
        free -= set(at[:1])
    risk = np.array([row["risk"] for row in rows])
    scores["missing"] = average_precision(risk, np.array(hit), len(world.lost_image))
    return scores


def test_planted_errors_rank_far_above_chance(world: World, found: tuple[pa.Table, BoxFlagSummary]) -> None:
    scores = by_issue(found[0], world)
    assert min(scores.values()) > 10 * CHANCE, scores


def test_one_detector_is_enough_to_say_something(world: World, tmp_path: Path) -> None:
    table, summary = flags(tmp_path, labels_of(world), {"only": world.detections["detector0"]})
    scores = by_issue(table, world)
    assert min(scores.values()) > 4 * CHANCE, scores
    assert summary.teachers[0]["repeats"] is None


def test_what_is_flagged_is_mostly_wrong_and_clean_labels_stay(
    world: World, found: tuple[pa.Table, BoxFlagSummary], tmp_path: Path
) -> None:
    flagged = [row for row in found[0].to_pylist() if row["flagged"] and row["issue"] in OF_GIVEN]
    right = [world.kind[row["annotation_id"]] == row["issue"] for row in flagged]
    assert len(right) > 0.5 * (world.kind != "right").sum()
    assert np.mean(right) > 0.6
    clean = make_world()
    _, summary = flags(tmp_path, labels_of(clean), clean.detections)
    assert sum(summary.n_flagged.values()) <= 0.02 * len(clean.image)


def test_rates_are_near_the_planted_ones(found: tuple[pa.Table, BoxFlagSummary]) -> None:
    rates = found[1].rates
    assert set(rates) == {"missing", *OF_GIVEN, "duplicate"}
    known = {issue: rate for issue, rate in rates.items() if rate is not None and issue != "duplicate"}
    assert "missing" in known
    assert all(0.01 < rate < 0.12 for rate in known.values()), rates


def test_what_is_not_known_of_a_rate_is_no_bound(found: tuple[pa.Table, BoxFlagSummary]) -> None:
    summary = found[1]
    known = {issue for issue, rate in summary.rates.items() if rate is not None}
    assert set(summary.rate_bounds) == known
    low, high = summary.rate_bounds["missing"]
    assert 0 < low < (summary.rates["missing"] or 0)
    assert high == 1.0
    assert {summary.rate_bounds[issue] for issue in known - {"missing"}} <= {(0.0, 1.0)}


def test_a_rate_at_the_limit_is_not_told_as_a_number(tmp_path: Path) -> None:
    world = plant(make_world(), share=0.2)
    _, summary = flags(tmp_path, labels_of(world), world.detections)
    assert [summary.rates[issue] for issue in OF_GIVEN] == [None] * len(OF_GIVEN)
    told = {line.split()[0]: line for line in summary.lines() if "flagged" in line}
    assert all("not known" in told[issue] for issue in OF_GIVEN)
    assert json.loads(json.dumps(summary.to_json()))["rates"]["swap"] is None


def test_every_box_has_a_risk_for_every_issue(world: World, found: tuple[pa.Table, BoxFlagSummary]) -> None:
    table, summary = found
    everyone = set(range(len(world.image)))
    for issue in (*OF_GIVEN, "duplicate"):
        assert set(risks(table, issue)) == everyone
    rows = table.to_pylist()
    assert all(0 <= row["risk"] <= 1 for row in rows)
    assert all((row["annotation_id"] is None) == (row["issue"] == "missing") for row in rows)
    worst: dict[int, float] = {}
    for row in rows:
        worst[row["image_id"]] = max(worst.get(row["image_id"], 0.0), row["risk"])
    assert all(row["image_risk"] == worst[row["image_id"]] for row in rows)
    assert summary.n_flagged == {
        issue: sum(row["flagged"] and row["issue"] == issue for row in rows) for issue in summary.n_flagged
    }
    flagged = [row["annotation_id"] for row in rows if row["flagged"] and row["annotation_id"] is not None]
    assert len(set(flagged)) == len(flagged), "one box, one flag"


def test_a_reason_says_what_can_be_counted_in_the_files(
    world: World, found: tuple[pa.Table, BoxFlagSummary]
) -> None:
    rows = [row for row in found[0].to_pylist() if row["issue"] == "missing" and row["flagged"]]
    for row in rows:
        told = re.match(r"(\d) of 3 detectors see (\w+) here \(mean score ([\d.]+)\)", row["reason"])
        assert told is not None, row["reason"]
        scores = []
        for boxes in world.detections.values():
            near = [b["score"] for b in boxes if b["image_id"] == row["image_id"]
                    and iou_of(np.array(b["bbox"]), np.array(row["suggested_bbox"])) > 0.5]  # fmt: skip
            scores += [max(near)] if near else []
        assert int(told[1]) <= len(scores)
        assert float(told[3]) == pytest.approx(np.mean(sorted(scores)[-int(told[1]) :]), abs=0.25)
        assert row["suggested_label"] == told[2]


def keyed(table: pa.Table, names: dict[Any, Any] | None = None) -> dict[Any, Any]:
    """Return what is said, by what it is about."""
    said = {}
    for row in table.to_pylist():
        number = row["annotation_id"]
        about = number if names is None or number is None else names[number]
        place = None if number is not None else tuple(row["suggested_bbox"])
        rest = {key: row[key] for key in ("risk", "flagged", "suggested_label", "reason", "image_risk")}
        said[row["image_id"], about, row["issue"], place] = rest
    return said


def test_the_order_of_anything_leaves_no_trace(
    world: World, found: tuple[pa.Table, BoxFlagSummary], tmp_path: Path
) -> None:
    random = np.random.default_rng(3)
    labels = labels_of(world)
    for name in ("images", "annotations", "categories"):
        labels[name] = [labels[name][k] for k in random.permutation(len(labels[name]))]
    for one in labels["annotations"]:
        one["bbox"] = [int(value) if float(value).is_integer() else value for value in one["bbox"]]
    names = list(world.detections)[::-1]
    detections = {
        name: [world.detections[name][k] for k in random.permutation(len(world.detections[name]))] for name in names
    }
    table, _ = flags(tmp_path, labels, detections)
    assert keyed(table) == keyed(found[0])


def test_other_numbers_for_the_same_boxes_leave_no_trace(
    world: World, found: tuple[pa.Table, BoxFlagSummary], tmp_path: Path
) -> None:
    labels = labels_of(world)
    names = {1_000_000 - one["id"]: one["id"] for one in labels["annotations"]}
    for one in labels["annotations"]:
        one["id"] = 1_000_000 - one["id"]
    for one in labels["categories"]:
        one["id"] += 70
    detections = {
        name: {"categories": [{"id": k, "name": c} for k, c in enumerate(CLASSES)], "annotations": boxes}
        for name, boxes in world.detections.items()
    }
    for one in labels["annotations"]:
        one["category_id"] += 70
    table, _ = flags(tmp_path, labels, detections)
    assert keyed(table, names) == keyed(found[0])


@pytest.mark.parametrize("factor", [4.0, 0.25])
def test_resolution_leaves_no_trace(
    world: World, found: tuple[pa.Table, BoxFlagSummary], tmp_path: Path, factor: float
) -> None:
    labels, detections = labels_of(world), copy.deepcopy(world.detections)
    for one in labels["images"]:
        one["width"], one["height"] = one["width"] * factor, one["height"] * factor
    for one in [*labels["annotations"], *(box for boxes in detections.values() for box in boxes)]:
        one["bbox"] = [value * factor for value in one["bbox"]]
    table, _ = flags(tmp_path, labels, detections)
    for issue in (*OF_GIVEN, "duplicate"):
        assert risks(table, issue) == pytest.approx(risks(found[0], issue), abs=1e-6)


def test_images_are_judged_alike_however_many_are_judged_together(
    world: World, found: tuple[pa.Table, BoxFlagSummary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrange, "CELLS_AT_ONCE", 500)
    table, _ = flags(tmp_path, labels_of(world), world.detections)
    assert keyed(table) == keyed(found[0])


def test_of_two_boxes_on_one_thing_the_worse_one_is_the_duplicate(tmp_path: Path) -> None:
    world = make_world()
    labels = labels_of(world)
    random = np.random.default_rng(0)
    twice = random.choice(len(world.image), 30, replace=False)
    for number in twice.tolist():
        shift = random.uniform(-0.12, 0.12, 4) * np.tile(world.bbox[number, 2:], 2)
        again = {
            **labels["annotations"][number],
            "id": 10_000 + number,
            "bbox": (world.bbox[number] + shift).tolist(),
        }
        labels["annotations"].append(again)
    table, _ = flags(tmp_path, labels, world.detections)
    risk = risks(table, "duplicate")
    pairs = [max(risk[number], risk[10_000 + number]) for number in twice.tolist()]
    others = [value for key, value in risk.items() if key % 10_000 not in set(twice.tolist())]
    assert np.median(pairs) > np.quantile(others, 0.99)
    assert np.mean([risk[10_000 + number] > risk[number] for number in twice.tolist()]) > 0.7


def test_a_detector_that_repeats_the_labels_is_left_out(world: World, tmp_path: Path) -> None:
    copied = [
        {"image_id": int(i), "category_id": int(k), "bbox": b, "score": 0.99}
        for i, k, b in zip(world.image, world.label, world.bbox.tolist(), strict=True)
    ]
    table, summary = flags(tmp_path, labels_of(world), {**world.detections, "copy": copied})
    assert [one["name"] for one in summary.teachers if not one["kept"]] == ["copy"]
    assert "repeats" in next(one["why"] for one in summary.teachers if one["name"] == "copy")
    assert by_issue(table, world)["swap"] > 10 * CHANCE


def test_with_few_boxes_agreement_ranks_and_nothing_is_flagged(tmp_path: Path) -> None:
    world = plant(make_world(n_images=6), share=0.1)
    table, summary = flags(tmp_path, labels_of(world), world.detections)
    assert summary.regime == "plain"
    assert "50" in summary.why
    assert sum(summary.n_flagged.values()) == 0
    swapped = np.flatnonzero(world.kind == "swap")
    risk = risks(table, "swap")
    assert min(risk[k] for k in swapped.tolist()) > np.median(list(risk.values()))


def small() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    labels: dict[str, Any] = {
        "images": [{"id": 1, "width": 100, "height": 100}, {"id": 2, "width": 100, "height": 100}],
        "categories": [{"id": 5, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": [{"id": 7, "image_id": 1, "category_id": 5, "bbox": [10, 10, 30, 30]}],
    }
    return labels, [{"image_id": 1, "category_id": 9, "bbox": [10, 10, 30, 30], "score": 0.9}]


BROKEN_LABELS = {
    "no images": (lambda c: c.update(images=[]), "name no image"),
    "no list": (lambda c: c.pop("annotations"), "'annotations' is needed"),
    "image twice": (lambda c: c["images"].append(c["images"][0]), "more than once: 1"),
    "annotation twice": (lambda c: c["annotations"].append(c["annotations"][0]), "more than once: 7"),
    "no id": (lambda c: c["annotations"][0].pop("id"), "has no id"),
    "no name": (lambda c: c["categories"][0].pop("name"), "needs a name"),
}
BROKEN_DETECTIONS = {
    "NaN score": (lambda d: d[0].update(score=float("nan")), "no score from 0 to 1: nan"),
    "percent": (lambda d: d[0].update(score=90), "no score from 0 to 1: 90"),
    "no score": (lambda d: d[0].pop("score"), "have no 'score'"),
    "other images": (lambda d: d[0].update(image_id=77), "image ids that the labels do not have: 77"),
    "other classes": (lambda d: d[0].update(category_id=4), "classes that the labels do not have: 4"),
    "no objects": (lambda d: d.insert(0, 3), "not an object"),
}


@pytest.mark.parametrize("name", BROKEN_LABELS)
def test_labels_that_cannot_be_used_are_refused(name: str, tmp_path: Path) -> None:
    labels, found = small()
    breaks, says = BROKEN_LABELS[name]
    breaks(labels)
    with pytest.raises(InputError, match=re.escape(says)):
        flags(tmp_path, labels, {"a": found})


@pytest.mark.parametrize("name", BROKEN_DETECTIONS)
def test_detections_that_cannot_be_used_are_refused(name: str, tmp_path: Path) -> None:
    labels, found = small()
    breaks, says = BROKEN_DETECTIONS[name]
    breaks(found)
    with pytest.raises(InputError, match=re.escape(says)):
        flags(tmp_path, labels, {"a": found})


def test_files_that_are_no_json_or_not_there_are_named(tmp_path: Path) -> None:
    file, teachers = write(tmp_path, *small()[:1], {"a": small()[1]})
    teachers["a"].write_text("[{")
    with pytest.raises(InputError, match=r"no JSON: .*a\.json"):
        flag_boxes(file, teachers, tmp_path / "out.parquet")
    with pytest.raises(InputError, match=r"cannot be read: .*nowhere"):
        flag_boxes(tmp_path / "nowhere.json", teachers, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_a_few_strangers_are_left_out_and_said(tmp_path: Path) -> None:
    labels, found = small()
    strange = [{**found[0], "image_id": 77}, {**found[0], "category_id": 4}, {**found[0], "bbox": [1, 1, 0, 5]}]
    _, summary = flags(tmp_path, labels, {"a": [*found * 5, *strange]})
    told = " ".join(summary.notes)
    assert "1 boxes are left out: image ids that the labels do not have: 77" in told
    assert "classes that the labels do not have: 4" in told
    assert "1 boxes without area" in told
    assert "no box for 1 of 2 images" in told


def test_given_boxes_that_are_none_stay_in_the_output_with_a_reason(tmp_path: Path) -> None:
    labels, found = small()
    rows = labels["annotations"]
    rows += [{**rows[0], "id": 8, "bbox": [1, 1, 0, 4]}, {**rows[0], "id": 9, "bbox": [1, "x", 3, 4]}]
    rows += [{**rows[0], "id": 10, "image_id": 3}, {**rows[0], "id": 11, "category_id": 1}]
    rows += [{**rows[0], "id": 12, "iscrowd": 1}]
    table, summary = flags(tmp_path, labels, {"a": found})
    unjudged = {row["annotation_id"]: row["reason"] for row in table.to_pylist() if row["risk"] is None}
    assert set(unjudged) == {8, 9, 10, 11, 12}
    assert summary.n_unjudged == 5
    assert [
        word in unjudged[k]
        for k, word in zip(range(8, 13), ("area", "numbers", "image", "category", "crowd"), strict=True)
    ] == [True] * 5


def test_nothing_is_missing_inside_a_crowd(tmp_path: Path) -> None:
    labels, found = small()
    table, _ = flags(tmp_path / "without", labels, {"a": [{**found[0], "bbox": [60, 60, 20, 20]}]})
    assert "missing" in table["issue"].to_pylist()
    labels["annotations"].append({"id": 8, "image_id": 1, "category_id": 5, "bbox": [50, 50, 50, 50], "iscrowd": 1})
    table, _ = flags(tmp_path / "with", labels, {"a": [{**found[0], "bbox": [60, 60, 20, 20]}]})
    assert "missing" not in table["issue"].to_pylist()


def test_a_detector_that_sees_nothing_at_all_is_left_out(tmp_path: Path) -> None:
    labels, found = small()
    _, summary = flags(tmp_path, labels, {"a": found, "blind": []})
    assert [one["kept"] for one in summary.teachers] == [True, False]


def test_images_are_found_by_file_name_where_a_file_names_its_own(tmp_path: Path) -> None:
    labels, found = small()
    for one in labels["images"]:
        one["file_name"] = f"{one['id']}.png"
    own = {"images": [{"id": 1, "file_name": "2.png"}], "annotations": found}
    file, teachers = write(tmp_path, labels, {"a": own})
    known = read_labels(file)
    assert known.image_ids.take(pa.array(read_detections(teachers["a"], "a", known).image)).to_pylist() == [2]


def test_images_without_a_size_can_be_judged(tmp_path: Path) -> None:
    labels, found = small()
    for one in labels["images"]:
        one.pop("width")
    table, _ = flags(tmp_path, labels, {"a": found})
    assert risks(table, "swap")[7] > 0.3


def test_no_teacher_is_an_error(tmp_path: Path) -> None:
    file, _ = write(tmp_path, small()[0], {})
    with pytest.raises(CurateError, match="--teacher"):
        flag_boxes(file, {}, tmp_path / "out.parquet")
    assert json.loads(file.read_text())["images"]


def test_of_a_pair_never_both_are_duplicates_and_none_without_an_overlapping_twin(tmp_path: Path) -> None:
    world = make_world()
    labels = labels_of(world)
    for number in range(0, len(world.image), 20):
        labels["annotations"].append({**labels["annotations"][number], "id": 10_000 + number})
    table, _ = flags(tmp_path, labels, world.detections)
    rows = [row for row in table.to_pylist() if row["issue"] == "duplicate" and row["flagged"]]
    numbers = [row["annotation_id"] % 10_000 for row in rows]
    assert len(set(numbers)) == len(numbers) > 10
    assert all("overlaps it by" in row["reason"] for row in rows)


def corners_of(box: list[float]) -> list[float]:
    x, y, w, h = box
    return [x, y, x + w, y + h]


def test_corners_in_the_labels_are_refused_and_of_few_boxes_let_through(tmp_path: Path) -> None:
    labels = labels_of(make_world())
    for one in labels["annotations"]:
        one["bbox"] = corners_of(one["bbox"])
    file, _ = write(tmp_path, labels, {})
    with pytest.raises(InputError, match="corners"):
        read_labels(file)
    file, _ = write(tmp_path, {**labels, "annotations": labels["annotations"][:10]}, {})
    assert len(read_labels(file).state) == 10


def test_relative_boxes_of_which_some_overhang_are_refused(tmp_path: Path) -> None:
    world = make_world()
    boxes = [
        {**one, "bbox": [v / s + (at % 17 == 0) for v, s in zip(one["bbox"], (640, 480, 640, 480), strict=True)]}
        for at, one in enumerate(world.detections["detector0"])
    ]
    file, teachers = write(tmp_path, labels_of(world), {"a": boxes})
    with pytest.raises(InputError, match="relative"):
        read_detections(teachers["a"], "a", read_labels(file))


@pytest.mark.parametrize(
    ("labels", "found", "told"),
    [
        ({}, {"bbox": None}, "'bbox'"),
        ({}, {"image_id": None}, "'image_id'"),
        ({}, {"bbox": [1.0, 1.0, 0.0, 5.0]}, "with an area"),
        ({"category_id": 99}, {}, "its category id is not in the file"),
        ({"bbox": None}, {}, "four finite numbers"),
    ],
)
def test_a_file_that_is_mostly_unusable_is_an_error(
    labels: dict[str, Any], found: dict[str, Any], told: str, tmp_path: Path
) -> None:
    small = make_world(n_images=6, n_detectors=1)
    content = labels_of(small)
    content["annotations"] = [one | labels for one in content["annotations"]]
    with pytest.raises(InputError, match=told):
        flags(tmp_path, content, {"one": [one | found for one in small.detections["detector0"]]})


def test_teachers_that_see_nothing_at_all_judge_nothing(tmp_path: Path) -> None:
    small = make_world(n_images=6, n_detectors=1)
    with pytest.raises(InputError, match="No teacher has a box"):
        flags(tmp_path, labels_of(small), {"a": [], "b": []})


def shifted(rows: list[dict[str, Any]], name: str, by: int, of: int) -> list[dict[str, Any]]:
    return [{**row, name: (row[name] + by) % of} for row in rows]


def test_a_detector_with_other_class_ids_or_of_other_images_is_named(world: World, tmp_path: Path) -> None:
    own = world.detections["detector0"]
    teachers = {
        "right": own,
        "classes": shifted(own, "category_id", 1, len(CLASSES)),
        "images": shifted(own, "image_id", 7, world.n_images),
    }
    _, summary = flags(tmp_path, labels_of(world), teachers)
    told = {one["teacher"]: one["message"] for one in summary.to_json()["warnings"]}
    assert sorted(told) == ["classes", "images"]
    assert "category_id" in told["classes"]
    assert "image ids" in told["images"]
    assert [line for line in summary.lines() if line.startswith("WARNING: ")] == [
        f"WARNING: {told[name]}" for name in ("classes", "images")
    ]


def test_a_weak_detector_or_one_of_a_few_images_is_not_called_another_ones(world: World, tmp_path: Path) -> None:
    own = world.detections["detector0"]
    random = np.random.default_rng(0)
    weak = [{**row, "score": float(score)} for row, score in zip(own, random.uniform(size=len(own)), strict=True)]
    few = [row for row in own if row["image_id"] < 8]
    one_class = [row for row in own if row["category_id"] == 1]
    _, summary = flags(tmp_path, labels_of(world), {"weak": weak, "few": few, "one": one_class})
    assert summary.warnings == ()
