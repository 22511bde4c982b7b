# ruff: noqa: ANN401 - any JSON value stands in a file
"""Which image a name means, and what is said where it could be several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import schema
from curate.spec import CocoTeacherSpec
from curate.teachers.boxes.names import find_images
from curate.teachers.boxes.precomputed import FoundBoxes, find_boxes

URIS = ("train/a.jpg", "val/a.jpg", "train/b.jpg", "c.png")
IDS = tuple(schema.sample_id_of("made", uri) for uri in URIS)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("train/a.jpg", 0),
        ("./val/a.jpg", 1),
        ("val\\a.jpg", 1),
        ("/home/somebody/data/train/a.jpg", 0),
        ("b.jpg", 2),
        ("other/b.jpg", 2),
        ("b", 2),
        (IDS[3], 3),
    ],
)
def test_a_name_means_one_image(name: str, place: int) -> None:
    assert find_images([name], URIS, IDS).place == {name: place}


@pytest.mark.parametrize("name", ["a.jpg", "test/a.jpg", "a"])
def test_a_name_that_could_be_two_images_means_none_and_is_named(name: str) -> None:
    named = find_images([name, "c.png"], URIS, IDS)
    assert (named.place, named.ambiguous) == ({"c.png": 3}, (name,))
    assert name in (named.complaint() or "")


def test_two_names_for_one_image_are_ambiguous_unless_one_is_its_path() -> None:
    assert find_images(["x/b.jpg", "y/b.jpg"], URIS, IDS).place == {}
    named = find_images(["train/b.jpg", "y/b.jpg"], URIS, IDS)
    assert (named.place, named.ambiguous) == ({"train/b.jpg": 2}, ("y/b.jpg",))


def test_what_is_no_name_means_nothing() -> None:
    assert find_images([None, 3, "", "z.jpg", ["b.jpg"]], URIS, IDS).place == {}


@given(st.lists(st.text("ab/", min_size=1, max_size=5), unique=True, max_size=6), st.text("ab/", max_size=6))
@settings(deadline=None)
def test_an_image_is_always_found_by_its_own_path_and_never_two_by_one_name(uris: list[str], name: str) -> None:
    ids = [schema.sample_id_of("made", uri) for uri in uris]
    assert find_images(uris, uris, ids).place == {uri: at for at, uri in enumerate(uris)}
    named = find_images([name], uris, ids)
    assert not (named.place and named.ambiguous)


def boxes(
    folder: Path, content: Any, images: Any = None, labels: Any = None, uris: tuple[str, ...] = URIS
) -> FoundBoxes:
    for name, written in (("found", content), ("images", images), ("labels", labels)):
        (folder / f"{name}.json").write_text(json.dumps(written))
    samples = pa.table(
        {
            "sample_id": [schema.sample_id_of("made", uri) for uri in uris],
            "uri": list(uris),
            "width_px": [100] * len(uris),
            "height_px": [50] * len(uris),
        }
    )
    spec = CocoTeacherSpec(kind="coco", name="d", path="found.json", images="images.json" if images else None)
    file = folder / "labels.json" if labels else None
    return find_boxes([spec], samples, ("car", "dog"), lambda path: folder / path, file)


def row(image: Any, category: Any = 7, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": [10, 5, 20, 10], "score": 0.5, **more}


CATEGORIES = [{"id": 7, "name": "dog"}]
LISTED = {"images": [{"id": 40 + at, "file_name": uri} for at, uri in enumerate(URIS)], "categories": CATEGORIES}


@pytest.mark.parametrize(
    "how",
    [
        {"content": [row(42)], "images": LISTED},
        {"content": [row(42)], "labels": LISTED},
        {"content": {**LISTED, "annotations": [row(42)]}},
        {"content": [row("train/b.jpg", "dog")]},
        {"content": [row("b", "dog")]},
        {"content": [row(IDS[2], "dog")]},
        {"content": {"images": [{"id": 1, "file_name": "/x/train/b.jpg"}], "annotations": [row(1, "dog")]}},
        {"content": [row(9)], "images": {"images": [{"id": 9, "sample_id": IDS[2]}], "categories": CATEGORIES}},
    ],
    ids=[
        "images",
        "labels of the source",
        "itself",
        "path",
        "stem",
        "sample id",
        "path of elsewhere",
        "listed by id",
    ],
)
def test_images_are_matched_by_whatever_says_which_they_are(how: dict[str, Any], tmp_path: Path) -> None:
    found = boxes(tmp_path, **how)
    assert not found.errors
    (one,) = found.table.to_pylist()
    assert (one["sample_id"], one["label"]) == (IDS[2], "dog")
    assert one["bbox"] == pytest.approx([0.1, 0.1, 0.2, 0.2])


def test_what_images_says_wins_over_the_labels_of_the_source(tmp_path: Path) -> None:
    other = {**LISTED, "images": [{"id": 42, "file_name": "c.png"}]}
    (one,) = boxes(tmp_path, [row(42)], images=other, labels=LISTED).table.to_pylist()
    assert one["sample_id"] == IDS[3]


def test_strangers_are_counted_and_named_and_most_of_them_are_an_error(tmp_path: Path) -> None:
    found = boxes(tmp_path, [*[row(42)] * 5, row(999), row(998)], images=LISTED)
    assert found.table.num_rows == 5
    assert any("2 boxes are left out" in told and "998, 999" in told for told in found.cards[0].warnings)
    (error,) = boxes(tmp_path, [row(42), row(997), row(998), row(999)], images=LISTED).errors
    assert "3 of 4 boxes" in error.message
    assert "997, 998, 999" in error.message


def test_images_that_the_dataset_does_not_have_are_left_out_and_said(tmp_path: Path) -> None:
    more = {**LISTED, "images": [*LISTED["images"], {"id": 50, "file_name": "test/z.jpg"}]}
    found = boxes(tmp_path, [row(42), row(42), row(50)], images=more)
    assert found.table.num_rows == 2
    assert any("1 boxes are left out" in told and "50" in told for told in found.cards[0].warnings)


def test_ambiguous_names_are_named(tmp_path: Path) -> None:
    bare = {**LISTED, "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}]}
    found = boxes(tmp_path, [row(2), row(2), row(1)], images=bare)
    assert found.table.num_rows == 2
    assert any("could mean several images" in told and "a.jpg" in told for told in found.cards[0].warnings)
    (error,) = boxes(tmp_path, [row("a.jpg", "dog")]).errors
    assert "could mean several images" in error.message


def test_ids_that_nothing_explains_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (error,) = boxes(tmp_path, [row(1), row(2)]).errors
    assert "`images`" in error.message
    (error,) = boxes(tmp_path, [row(1)], images={"images": [{"id": 1, "file_name": "z.jpg"}]}).errors
    assert "'z.jpg'" in error.message
