"""Pascal VOC: conventions, splits, flags, and XMLs from strangers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import awkward
import pytest

from curate.errors import InputError
from curate.ingest import Ingested, ReadOptions, source_named
from curate.ingest.location import Problem
from curate.ingest.xml_nodes import MAX_DEPTH, Node, parse_xml

VOC = source_named("voc")


def object_xml(name: str = "cat", box: tuple[object, ...] = (1, 1, 24, 16), extra: str = "") -> str:
    corners = "".join(f"<{tag}>{n}</{tag}>" for tag, n in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name>{extra}<bndbox>{corners}</bndbox></object>"


def xml(*objects: str, filename: str = "", size: str = "<width>24</width><height>16</height>") -> str:
    name = f"<filename>{filename}</filename>"
    return f"<annotation>{name}<size>{size}</size>{''.join(objects)}</annotation>"


def write(
    root: Path, annotations: dict[str, str], images: tuple[str, ...], splits: dict[str, str] | None = None
) -> Path:
    for folder, files in (("Annotations", annotations), ("ImageSets/Main", splits or {})):
        for name, text in files.items():
            path = root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for index, name in enumerate(images):
        path = root / "JPEGImages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(awkward.jpeg(index))
    return root


def read(root: Path, **options: object) -> Ingested:
    return VOC.read(ReadOptions(source="s", root=root, options=options))


def reasons(found: Ingested) -> list[str]:
    return [code for code in found.outcomes["reason_code"].to_pylist() if code]


def states(found: Ingested) -> dict[str, str]:
    return dict(zip(found.samples["uri"].to_pylist(), found.samples["label_state"].to_pylist(), strict=True))


def test_pixels_count_from_one_and_include_the_last(tmp_path: Path) -> None:
    write(tmp_path, {"a.xml": xml(object_xml(), object_xml("dog", (13, 9, 24, 16)))}, ("a.jpg",))
    boxes = {row["label"]: row["bbox"] for row in read(tmp_path).labels.to_pylist()}
    assert boxes == {"cat": [0, 0, 1, 1], "dog": [0.5, 0.5, 0.5, 0.5]}
    boxes = {row["label"]: row["bbox"] for row in read(tmp_path, one_based=False).labels.to_pylist()}
    assert boxes["dog"] == [13 / 24, 9 / 16, 11 / 24, 7 / 16]


def test_recognises_finds_corners_that_count_from_zero(tmp_path: Path) -> None:
    write(tmp_path, {"a.xml": xml(object_xml())}, ("a.jpg",))
    assert VOC.recognises(tmp_path) == {}
    write(tmp_path, {"b.xml": xml(object_xml(box=(0, 2, 24, 16)))}, ("b.jpg",))
    assert VOC.recognises(tmp_path) == {"one_based": False}
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.xml").write_text("<svg/>")
    assert VOC.recognises(tmp_path / "x") is None


def test_negative_unlabeled_flags_splits_and_sub_folders(tmp_path: Path) -> None:
    hard = object_xml(extra="<difficult>1</difficult><truncated>1</truncated><occluded>0</occluded>")
    annotations = {"a b.xml": xml(hard), "sub/ü.xml": xml()}
    splits = {"train.txt": "a b\n", "val.txt": "sub/ü\r\ngone\n", "trainval.txt": "a b\nsub/ü\n"}
    write(tmp_path, annotations, ("a b.jpg", "sub/ü.JPG", "free.png"), splits)
    found = read(tmp_path)
    assert states(found) == {
        "JPEGImages/a b.jpg": "labeled",
        "JPEGImages/sub/ü.JPG": "negative",
        "JPEGImages/free.png": "unlabeled",
    }
    given = dict(zip(found.samples["uri"].to_pylist(), found.samples["split"].to_pylist(), strict=True))
    assert list(given.values()).count(None) == 1
    assert (given["JPEGImages/a b.jpg"], given["JPEGImages/sub/ü.JPG"]) == ("train", "val")
    assert found.labels["flags"].to_pylist() == [["difficult", "truncated"]]
    outs = [row for row in found.outcomes.to_pylist() if row["outcome"] == "out"]
    assert [(row["row"], row["reason_code"]) for row in outs] == [("ImageSets/Main/val.txt line 2", "missing_file")]


def test_an_image_in_two_splits_is_out(tmp_path: Path) -> None:
    write(tmp_path, {"a.xml": xml(object_xml())}, ("a.jpg",), {"train.txt": "a\n", "val.txt": "a\n"})
    found = read(tmp_path)
    assert reasons(found) == ["in_two_splits", "image_not_there"]
    assert found.samples.num_rows == 0


def test_the_stem_counts_more_than_a_copied_file_name(tmp_path: Path) -> None:
    annotations = {
        "a.xml": xml(object_xml("cat"), filename="a.jpg"),
        "b.xml": xml(object_xml("dog"), filename="a.jpg"),
    }
    found = read(write(tmp_path, annotations, ("a.jpg", "b.jpg")))
    assert states(found) == {"JPEGImages/a.jpg": "labeled", "JPEGImages/b.jpg": "labeled"}
    found = read(
        write(tmp_path / "2", {"0001.xml": xml(object_xml(), filename="other name.jpg")}, ("other name.jpg",))
    )
    assert states(found) == {"JPEGImages/other name.jpg": "labeled"}


def test_the_same_in_a_tar(tmp_path: Path) -> None:
    root = write(tmp_path / "set", {"a.xml": xml(object_xml())}, ("a.jpg",), {"train.txt": "a\n"})
    members = {f"top/{p.relative_to(root).as_posix()}": p.read_bytes() for p in root.rglob("*") if p.is_file()}
    path = awkward.write_tar(tmp_path / "s.tar", members)
    assert VOC.recognises(path) == {}
    found = read(path)
    row = found.samples.to_pylist()[0]
    assert (row["uri"], row["container"], row["split"]) == ("top/JPEGImages/a.jpg", "s.tar", "train")
    data = path.read_bytes()[row["container_offset"] : row["container_offset"] + row["n_bytes"]]
    assert data == members["top/JPEGImages/a.jpg"]


@pytest.mark.parametrize(
    ("box", "code"),
    [
        (("nan", 1, 5, 5), "box_not_numbers"),
        (("1e999", 1, 5, 5), "box_not_numbers"),
        (("one", 1, 5, 5), "box_not_numbers"),
        (("", 1, 5, 5), "box_not_numbers"),
        ((9, 9, 2, 12), "box_inverted"),
        ((5, 5, 4, 9), "box_zero_area"),
        ((1, 1, 99, 9), "box_outside"),
        (("9" * 400, 1, 5, 5), "box_not_numbers"),
    ],
)
def test_an_unusable_box_is_out_and_its_image_is_not_negative(
    tmp_path: Path, box: tuple[object, ...], code: str
) -> None:
    found = read(write(tmp_path, {"a.xml": xml(object_xml(box=box))}, ("a.jpg",)))
    assert reasons(found) == [code]
    assert states(found) == {"JPEGImages/a.jpg": "unlabeled"}


def test_no_box_no_name_and_a_name_with_html(tmp_path: Path) -> None:
    objects = ("<object><name>x</name></object>", object_xml(""), object_xml("&lt;script&gt;"))
    found = read(write(tmp_path, {"a.xml": xml(*objects)}, ("a.jpg",)))
    assert reasons(found) == ["box_missing", "label_missing"]
    assert found.labels["label"].to_pylist() == ["<script>"]


def test_a_size_of_zero_is_taken_from_the_image(tmp_path: Path) -> None:
    size = "<width>0</width><height>many</height>"
    found = read(write(tmp_path, {"a.xml": xml(object_xml(), size=size)}, ("a.jpg",)))
    assert found.labels["bbox"].to_pylist() == [[0, 0, 1, 1]]


BOMB = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><annotation><filename>&b;</filename></annotation>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><filename>&x;</filename></annotation>'


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        OUTSIDE,
        '<!DOCTYPE a [<!ENTITY % x SYSTEM "file:///etc/passwd"> %x;]><annotation/>',
        "<annotation>" + "<a>" * 10_000,
        "<annotation><object>",
        "",
        "not xml",
        "<root/>",
        '<?xml version="1.0" encoding="no-such"?><annotation/>',
    ],
)
def test_a_refused_xml_is_one_outcome_and_its_image_unlabeled(tmp_path: Path, text: str) -> None:
    found = read(write(tmp_path, {"a.xml": text, "b.xml": xml(object_xml())}, ("a.jpg", "b.jpg")))
    assert reasons(found) == ["xml_refused"]
    assert states(found) == {"JPEGImages/a.jpg": "unlabeled", "JPEGImages/b.jpg": "labeled"}


@pytest.mark.parametrize("name", ["../../outside.jpg", "/etc/passwd"])
def test_a_file_name_that_leaves_the_root_is_out(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside.jpg").write_bytes(awkward.jpeg())
    found = read(write(tmp_path / "set", {"a.xml": xml(object_xml(), filename=name)}, ("b.jpg",)))
    assert reasons(found) == ["path_leaves_root", "image_not_there"]


def test_two_images_of_one_stem_are_told_apart_by_the_file_name_or_out(tmp_path: Path) -> None:
    found = read(write(tmp_path / "1", {"a.xml": xml(object_xml(), filename="a.png")}, ("a.jpg", "a.png")))
    assert states(found) == {"JPEGImages/a.jpg": "unlabeled", "JPEGImages/a.png": "labeled"}
    found = read(write(tmp_path / "2", {"a.xml": xml(object_xml(), filename="c.png")}, ("a.jpg", "a.png")))
    assert Counter(reasons(found)) == {"ambiguous_image": 1, "image_not_there": 1}


def test_nothing_to_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="XML"):
        read(tmp_path)


def test_nesting_is_bounded_and_text_is_kept() -> None:
    deep = b"<a>" * MAX_DEPTH + b"</a>" * MAX_DEPTH
    assert isinstance(parse_xml(deep), Node)
    assert isinstance(parse_xml(b"<a>" + deep + b"</a>"), Problem)
    node = parse_xml("<a><b> x &amp; <![CDATA[<y>]]></b></a>".encode("utf-16"))
    assert isinstance(node, Node)
    assert node.value("b") == "x & <y>"
