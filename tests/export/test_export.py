"""Exports: what goes out comes back the same through our own readers, whole or not at all."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import re
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from curate import schema
from curate.errors import ConfigError, InputError
from curate.export import FORMATS, MARKER, ExportResult, export
from curate.export.release import LEFT_OUT, pixels
from curate.export.verbs import export_lines
from curate.ingest import ReadOptions, source_named
from curate.ingest.media import open_media
from curate.ingest.rle import encode_mask

NAMES = (
    "plain.jpg",
    "two words.JPG",
    "ü/hash#%20.png",
    "images/a.jpg",
    "images/a.png",
    "new\nline.png",
    "<b>&'\".png",
)
WIDTH_PX, HEIGHT_PX = 37, 23
DATA = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("sample_id", "label_id", "uri", "task", "split", "label_state")),
        *(pa.field(name, pa.string()) for name in ("given_label", "released_label", "track_id")),
        pa.field("frame", pa.int64()),
        pa.field("weight", pa.float64()),
        pa.field("bbox", schema.BBOX),
        pa.field("mask", schema.MASK_RLE),
        pa.field("polygons", schema.POLYGONS),
        pa.field("flags", pa.list_(pa.string())),
        pa.field("width_px", pa.int32()),
        pa.field("height_px", pa.int32()),
    ]
)


def picture(seed: int, kind: str) -> bytes:
    rng = np.random.default_rng(seed)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def row(uri: str, number: int | None, label: str | None = None, **columns: object) -> dict[str, Any]:
    sample_id = schema.sample_id_of("s", uri)
    known = {
        "sample_id": sample_id,
        "uri": uri,
        "label_id": None if number is None else schema.label_id_of(sample_id, "detection", str(number)),
        "task": None if number is None else "detection",
        "released_label": label,
        "given_label": label,
        "label_state": "negative" if number is None else "labeled",
        "weight": 1.0,
        "split": "train",
        "width_px": WIDTH_PX,
        "height_px": HEIGHT_PX,
    }
    return {**known, **columns}


def table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    return schema.table_from_rows(rows, DATA)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for index, name in enumerate(NAMES):
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(index, "PNG" if name.endswith("png") else "JPEG"))
    return tmp_path / "source"


def boxes() -> list[dict[str, Any]]:
    labels = ("cat", "no", "<script>x</script>", "naïve: {a}", "=SUM(A1)")
    rows = [
        row(name, number, labels[(index + number) % 5], bbox=[0.1 * number, 1 / 3, 0.25, 1 / 7])
        for index, name in enumerate(NAMES[:-1])
        for number in range(index % 3 + 1)
    ]
    rows += [row(NAMES[-1], None)]
    for item in rows:
        item["split"] = "val" if item["uri"] == NAMES[1] else "train"
    return rows


def run(data: pa.Table, out: Path, form: str, root: Path, images: str = "link") -> ExportResult:
    media = open_media(root, out.parent / "scratch")
    return export(data, None, out, format=form, images=images, media=media)  # type: ignore[arg-type]


def files_of(out: Path, name: str = "curate.csv") -> dict[str, str]:
    with (out / name).open(encoding="utf-8", newline="") as file:
        return {line["image"]: line["sample_id"] for line in csv.DictReader(file)}


def come_back(out: Path, form: str) -> list[tuple[str, str, str, tuple[float, ...]]]:
    source = source_named(form)
    options = source.recognises(out)
    assert options is not None
    found = source.read(ReadOptions(source="again", root=out, options=options))
    assert [code for code in found.outcomes["reason_code"].to_pylist() if code] == []
    ids = files_of(out)
    samples = {item["sample_id"]: item for item in found.samples.to_pylist()}
    states = {ids[item["uri"]]: item["label_state"] for item in samples.values()}
    assert sorted(state for state in states.values() if state != "labeled") == ["negative"]
    return sorted(
        (ids[sample["uri"]], sample["split"], label["label"], tuple(round(n, 9) for n in label["bbox"]))
        for label in found.labels.to_pylist()
        for sample in [samples[label["sample_id"]]]
    )


@pytest.mark.parametrize("form", ["coco", "yolo", "voc"])
@pytest.mark.parametrize("images", ["link", "copy"])
def test_boxes_come_back_as_they_went_out(tmp_path: Path, root: Path, form: str, images: str) -> None:
    rows = boxes()
    result = run(table(rows), tmp_path / "out", form, root, images)
    assert result.left_out.num_rows == 0
    assert (result.n_images, result.n_labels) == (len(NAMES), len(rows) - 1)
    sent = sorted(
        (item["sample_id"], item["split"], item["released_label"], tuple(round(n, 9) for n in item["bbox"]))
        for item in rows
        if item["label_id"]
    )
    assert come_back(tmp_path / "out", form) == sent
    for file, sample_id in files_of(tmp_path / "out").items():
        uri = next(item["uri"] for item in rows if item["sample_id"] == sample_id)
        assert (tmp_path / "out" / file).read_bytes() == (root / uri).read_bytes()


def test_coco_gives_digits_masks_polygons_crowds_and_weights_back(tmp_path: Path, root: Path) -> None:
    area = np.zeros((HEIGHT_PX, WIDTH_PX), bool)
    area[3:9, 4:30] = True
    given_box, given_ring = [1.1, 2.35, 20.07, 13.999], [0.5, 1.25, 30.333, 2, 8.1, 20.7]
    sides = (WIDTH_PX, HEIGHT_PX)
    polygon = [[n / sides[i % 2] for i, n in enumerate(given_ring)]]
    rows = [
        row("plain.jpg", 1, "cat", bbox=[n / sides[i % 2] for i, n in enumerate(given_box)], polygons=polygon),
        row("plain.jpg", 2, "dog", mask=encode_mask(area), flags=["crowd"], weight=0.25, track_id="t1"),
    ]
    out = tmp_path / "out"
    run(table(rows), out, "coco", root)
    document = json.loads((out / "annotations" / "instances_train.json").read_text())
    first, second = sorted(document["annotations"], key=lambda item: item["weight"], reverse=True)
    assert (first["bbox"], first["segmentation"]) == (given_box, [given_ring])
    assert second["bbox"] == [4, 3, 26, 6]
    assert (second["area"], second["iscrowd"], second["weight"], second["track_id"]) == (156, 1, 0.0, "t1")
    from pycocotools.coco import COCO  # noqa: PLC0415 - the reference reader

    reader = COCO(str(out / "annotations" / "instances_train.json"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools and NumPy 2
        assert (reader.annToMask(second) == area).all()
    found = source_named("coco").read(ReadOptions(source="b", root=out))
    again = {item["label"]: item for item in found.labels.to_pylist()}
    assert again["dog"]["mask"] == encode_mask(area)
    assert again["dog"]["flags"] == ["crowd"]
    assert np.allclose(again["cat"]["polygons"], polygon, atol=1e-12)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 100_000), st.integers(0, 10**12))
def test_pixels_survive_the_way_through_fractions(side_px: int, micro_px: int) -> None:
    given_px = min(micro_px / 1e6, side_px)
    assert pixels(given_px / side_px * side_px) == pixels(given_px)


def test_yolo_polygons_and_what_it_cannot_hold(tmp_path: Path, root: Path) -> None:
    ring = [0.1, 0.1, 0.5, 0.1, 0.5, 0.5]
    area = encode_mask(np.ones((HEIGHT_PX, WIDTH_PX), bool))
    rows = [
        row("plain.jpg", 1, "cat", polygons=[ring]),
        row("plain.jpg", 2, "cat", polygons=[ring, ring], bbox=[0.1, 0.1, 0.4, 0.4], weight=0.5),
        row("two words.JPG", 3, "dog", mask=area, task="segmentation"),
        row("ü/hash#%20.png", 4, "dog", task="classification"),
        row("images/a.jpg", None, label_state="unlabeled"),
    ]
    result = run(table(rows), tmp_path / "out", "yolo", root)
    reasons = sorted(zip(*(result.left_out[name].to_pylist() for name in ("what", "reason_code")), strict=True))
    assert reasons == [
        ("image", "export_no_label_held"),
        ("image", "export_no_label_held"),
        ("label", "export_no_masks"),
        ("label", "export_no_whole_image_class"),
        ("polygons", "export_part_not_held"),
        ("weight", "export_part_not_held"),
    ]
    assert (result.n_images, result.n_labels) == (2, 2)
    found = source_named("yolo").read(ReadOptions(source="b", root=tmp_path / "out"))
    assert sorted(found.samples["label_state"].to_pylist()) == ["labeled", "unlabeled"]
    assert [item for item in found.labels["polygons"].to_pylist() if item] == [[ring]]
    with (tmp_path / "out" / "curate.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 5
    assert sum(bool(line["mask"]) for line in lines) == 1
    with (tmp_path / "out" / "left_out.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == 1 + len(reasons)


def test_voc_flags_come_back_and_names_that_xml_cannot_hold_are_said(tmp_path: Path, root: Path) -> None:
    box = [0.25, 0.25, 0.5, 0.5]
    rows = [
        row("plain.jpg", 1, "cat", bbox=box, flags=["difficult", "truncated"]),
        row("plain.jpg", 2, " cat", bbox=box),
        row("plain.jpg", 3, "c\x08at", bbox=box, flags=["blurred"]),
        row("two words.JPG", 4, "dog", bbox=box, flags=["blurred"]),
    ]
    result = run(table(rows), tmp_path / "out", "voc", root)
    codes = sorted(zip(*(result.left_out[name].to_pylist() for name in ("what", "reason_code")), strict=True))
    assert codes == [
        ("flags", "export_part_not_held"),
        ("label", "export_name_not_held"),
        ("label", "export_name_not_held"),
    ]
    found = source_named("voc").read(ReadOptions(source="b", root=tmp_path / "out"))
    assert sorted(map(str, found.labels["flags"].to_pylist())) == ["None", "['difficult', 'truncated']"]


@pytest.mark.parametrize("flag", schema.TO_IGNORE)
def test_what_the_source_wants_ignored_is_no_target_in_any_format(flag: str, tmp_path: Path, root: Path) -> None:
    box = [0.25, 0.25, 0.5, 0.5]
    track = {"track_id": "1", "frame": 0}
    rows = [
        row("plain.jpg", 1, "cat", bbox=box, **track),
        row("plain.jpg", 2, "cat", bbox=box, flags=[flag], track_id="2", frame=0),
        row("images/a.jpg", 3, "cat", bbox=box, flags=[flag], **track),
    ]
    told = {form: run(table(rows), tmp_path / form, form, root) for form in ("coco", "yolo", "voc", "mot")}
    for form in ("yolo", "voc"):
        assert (told[form].n_images, told[form].n_labels) == (1, 1)
        out = told[form].left_out.to_pylist()
        assert {row["label_id"] for row in out if row["reason_code"] == "export_ignored_by_source"} == {
            rows[1]["label_id"],
            rows[2]["label_id"],
        }
        assert {row["sample_id"] for row in out if row["reason_code"] == "export_no_label_held"} == {
            rows[2]["sample_id"]
        }, "written without its label it would say that nothing is there"
        found = source_named(form).read(ReadOptions(source="b", root=tmp_path / form))
        assert found.labels.num_rows == 1
    document = json.loads((tmp_path / "coco" / "annotations" / "instances_train.json").read_text())
    assert {
        (one["label_id"], one["iscrowd"], one["weight"], *one.get("flags", ())) for one in document["annotations"]
    } == {
        (rows[0]["label_id"], 0, 1.0),
        (rows[1]["label_id"], 1, 0.0, flag),
        (rows[2]["label_id"], 1, 0.0, flag),
    }
    lines = [line.split(",") for file in (tmp_path / "mot").rglob("gt.txt") for line in file.read_text().split()]
    assert sorted(line[6] for line in lines) == ["0", "0", "1"]


def test_coco_leaves_out_what_it_would_tell_wrongly(tmp_path: Path, root: Path) -> None:
    rows = [
        row("plain.jpg", None, label_state="unlabeled"),
        row("two words.JPG", 1, "cat", task="classification"),
        row("images/a.jpg", 2, "cat", bbox=[0, 0, 1, 1], width_px=None),
        row("images/a.png", 3, "cat", mask=encode_mask(np.ones((2, 2), bool))),
        row("../escape.png", 4, "cat", bbox=[0, 0, 1, 1]),
        row("gone.png", 5, "cat", bbox=[0, 0, 1, 1]),
    ]
    rows.append(row("new\nline.png", 6, "cat", bbox=[0, 0, 1, 1]))  # the one that it can hold
    result = run(table(rows), tmp_path / "out", "coco", root)
    assert (result.n_images, result.n_labels) == (1, 1)
    assert set(result.left_out["reason_code"].to_pylist()) == {
        "export_holds_no_unlabeled",
        "export_no_label_held",
        "export_no_whole_image_class",
        "image_size_unknown",
        "mask_size_mismatch",
        "missing_file",
    }
    assert not (tmp_path / "escape.png").exists()


def test_a_format_that_can_hold_nothing_of_a_release_is_an_error_and_writes_nothing(
    tmp_path: Path, root: Path
) -> None:
    rows = [row(name, number, "cat", task="classification") for number, name in enumerate(NAMES)]
    rows[-1] = row(NAMES[-1], None, label_state="unlabeled")
    told = r"none of the 7 released rows: 1 image \(export holds no unlabeled\), 6 labels \(export no whole image class\)"
    with pytest.raises(InputError, match=rf"{told}\. .*--format csv"):
        run(table(rows), tmp_path / "out", "coco", root)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["coco", "yolo", "voc", "csv"])
def test_where_every_row_is_said_to_be_it_is(tmp_path: Path, root: Path, form: str) -> None:
    rows = [row("images/a.jpg", 2, "cat", bbox=[0, 0, 1, 1]), row("gone.png", 5, "cat", bbox=[0, 0, 1, 1])]
    result = run(table(rows), tmp_path / "out", form, root)
    assert result.left_out.num_rows == 1
    shown = {"format": form, "n_images": 1, "n_labels": 1, "out": "out", "n_left_out": 1}
    last = export_lines({**shown, "left_out_by_reason": {"missing_file": 1}})[-1]
    named = re.findall(r"\w+\.csv", last)
    assert named == (["left_out.csv"] if form == "csv" else ["left_out.csv", "curate.csv"])
    assert all((tmp_path / "out" / name).is_file() for name in named)
    if form != "csv":
        with (tmp_path / "out" / "curate.csv").open(encoding="utf-8", newline="") as file:
            assert [line["uri"] for line in csv.DictReader(file)] == ["gone.png", "images/a.jpg"]


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_names_that_climb_are_left_out(tmp_path: Path, form: str) -> None:
    rows = [
        row(uri, 1, "cat", bbox=[0, 0, 1, 1], split="../x")
        | ({"track_id": "1", "frame": 0} if form == "mot" else {})
        for uri in ("../a.jpg", "/a.jpg", "a/../../b.jpg", "ok.jpg")
    ]
    result = export(table(rows), None, tmp_path / "deep" / "out", format=form, images="none")
    assert result.left_out["reason_code"].to_pylist() == ["path_leaves_root"] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_csv_holds_everything(tmp_path: Path, root: Path) -> None:
    area = encode_mask(np.ones((2, 2), bool))
    rows = [
        *boxes(),
        row("plain.jpg", 9, 'a,b\n"c"', task="classification", weight=0.5, mask=area, given_label="z"),
    ]
    result = run(table(rows), tmp_path / "out", "csv", root)
    assert result.left_out.num_rows == 0
    assert (result.n_images, result.n_labels) == (len(NAMES), len(rows) - 1)
    with (tmp_path / "out" / "labels.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    sent = {item["label_id"]: item for item in rows}
    for line in lines:
        item = sent[line["label_id"] or None]
        assert (tmp_path / "out" / line["image"]).is_file()
        assert line["label"] == (item["released_label"] or "")
        assert float(line["weight"]) == item["weight"]
        if item.get("bbox"):
            assert [float(line[name]) for name in "xywh"] == item["bbox"]
    mask = next(json.loads(line["mask"]) for line in lines if line["mask"])
    assert mask == {"size": [2, 2], "counts": area["counts"].decode()}


def test_csv_is_read_back_by_the_table_format(tmp_path: Path, root: Path) -> None:
    rows = [
        row(name, 1, label, task="classification") for name, label in zip(NAMES, ["cat", "=x", "no"], strict=False)
    ]
    run(table(rows), tmp_path / "out", "csv", root)
    found = source_named("table").read(
        ReadOptions(source="b", root=tmp_path / "out" / "labels.csv", columns={"image": "image", "label": "label"})
    )
    assert sorted(found.labels["label"].to_pylist()) == ["=x", "cat", "no"]


def test_geometry_is_taken_from_labels_where_data_lacks_it(tmp_path: Path) -> None:
    rows = [row("a.jpg", 1, "cat", bbox=[0, 0, 0.5, 0.5]), row("b.jpg", None)]
    full = table(rows)
    labels = schema.table_from_rows(
        [{k: rows[0][k] for k in ("label_id", "sample_id", "task", "bbox")} | {"label": "x"}], schema.LABELS
    )
    data = full.select([name for name in full.column_names if name not in {"bbox", "mask", "polygons", "flags"}])
    export(data, labels, tmp_path / "one", format="coco", images="none")
    export(full, None, tmp_path / "two", format="coco", images="none")
    name = "annotations/instances_train.json"
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_the_same_bytes_whatever_the_order_of_rows(tmp_path: Path, form: str) -> None:
    rows = boxes()
    rows = [item | ({"track_id": item["label_id"], "frame": 0} if item["label_id"] else {}) for item in rows]
    for name, order in (("one", rows), ("two", rows[::-1])):
        export(table(order), None, tmp_path / name, format=form, images="none")
    one, two = (
        {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        for name in ("one", "two")
    )
    assert one == two


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_an_empty_release_is_an_export_too(tmp_path: Path, form: str) -> None:
    result = export(table([]), None, tmp_path / "out", format=form, images="none")
    assert (result.n_images, result.n_labels, result.left_out.num_rows) == (0, 0, 0)
    assert result.left_out.schema.equals(LEFT_OUT)
    assert all(path.is_file() for path in result.paths)


def test_an_export_is_replaced_and_anything_else_is_not(tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(table(boxes()), None, out, format="coco", images="none")
    export(table(boxes()), None, out, format="yolo", images="none")
    assert (out / "data.yaml").is_file()
    assert not (out / "annotations").exists()
    (out / MARKER).unlink()
    before = sorted(out.rglob("*"))
    with pytest.raises(ConfigError, match="left alone"):
        export(table(boxes()), None, out, format="coco", images="none")
    assert sorted(out.rglob("*")) == before


class _FullError(Exception):
    pass


def test_a_failure_leaves_the_earlier_export_and_no_litter(tmp_path: Path, root: Path) -> None:
    out = tmp_path / "out"
    run(table(boxes()), out, "coco", root)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    class Failing:
        def read(self, _samples: pa.Table) -> Any:  # noqa: ANN401
            raise _FullError

        def paths(self, _samples: pa.Table) -> Any:  # noqa: ANN401
            raise _FullError

    with pytest.raises(_FullError):
        export(table(boxes()), None, out, format="coco", media=Failing())
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    bad = table([row("plain.jpg", 1, "cat", bbox=[float("nan"), 0, 1, 1])])
    with pytest.raises(ValueError, match="NaN"):
        run(bad, out, "coco", root)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def test_wrong_calls_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'coco'"):
        export(table([]), None, tmp_path / "out", format="cocoo", images="none")
    with pytest.raises(ConfigError, match="media"):
        export(table([]), None, tmp_path / "out", format="coco")
    with pytest.raises(InputError, match="released_label"):
        export(table([]).drop_columns("released_label"), None, tmp_path / "out", format="coco", images="none")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="is a folder"):
        export(table([]), None, tmp_path / "file", format="coco", images="none")


def test_every_reason_of_this_part_has_a_sentence() -> None:
    # by name: `from curate.reasons import annotations` may give the `__future__` feature of its `__init__`
    modules = [import_module(f"curate.reasons.{name}") for name in ("annotations", "ingest")]
    known = {**modules[0].SENTENCES, **modules[1].SENTENCES}
    sources = ["ingest/coco", "ingest/voc", "ingest/yolo", "ingest/masks", "ingest/fiftyone_format", "ingest/rle"]
    sources += ["ingest/polygons", "ingest/tree", "ingest/xml_nodes", "export/release", "export/coco"]
    sources += ["export/voc", "export/yolo", "export/__init__"]
    package = importlib.util.find_spec("curate")
    assert package is not None
    assert package.submodule_search_locations
    import re  # noqa: PLC0415 - only here

    pattern = r'(?:Problem\(\s*|return |"(?:image|label)", )"([a-z]+_[a-z_]+)"'
    for name in sources:
        text = (Path(package.submodule_search_locations[0]) / f"{name}.py").read_text()
        for code in re.findall(pattern, text):
            assert code in known, (name, code)
