"""MOT sequences: what goes out comes back the same through our own reader; what does not fit is said."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import schema
from curate.export import export
from curate.export.release import LEFT_OUT
from curate.ingest import Ingested, ReadOptions, source_named
from curate.manifest.tables import DATA, IGNORE
from curate.reasons.annotations import SENTENCES

WIDTH_PX, HEIGHT_PX = 1920, 1080


def label(uri: str, number: int, frame: int, track: str | None, **columns: Any) -> dict[str, Any]:  # noqa: ANN401
    sample_id = schema.sample_id_of("s", uri)
    known = {
        "sample_id": sample_id, "uri": uri, "label_id": schema.label_id_of(sample_id, "tracking", str(number)),
        "task": "tracking", "released_label": "person", "given_label": "person", "label_state": "labeled",
        "split": "train", "width_px": WIDTH_PX, "height_px": HEIGHT_PX, "track_id": track, "frame": frame,
        "bbox": [100 / WIDTH_PX, 50 / HEIGHT_PX, 40.5 / WIDTH_PX, 81 / HEIGHT_PX],
    }  # fmt: skip
    return {**known, **columns}


def negative(uri: str) -> dict[str, Any]:
    nothing = dict.fromkeys(("label_id", "task", "released_label", "given_label", "track_id", "frame", "bbox"))
    return label(uri, 0, 0, None) | nothing | {"label_state": "negative"}


def table(rows: list[dict[str, Any]]) -> pa.Table:
    always = {"source": "s", "action": "keep", "reasons": [], "reason_codes": [], "risk": 0.0, "weight": 1.0}
    return schema.table_from_rows([{"attributes": [], "groups": [], **always, **row} for row in rows], DATA)


def put(rows: list[dict[str, Any]], out: Path, ignored: pa.Table | None = None) -> list[dict[str, Any]]:
    """Export, with a file for each image so that the source finds frames; return what was left out."""
    data = table(rows)
    result = export(data, None, out, format="mot", images="none", classes=["person", "van"], ignored=ignored)
    assert result.left_out.schema.equals(LEFT_OUT)
    for row in lines(out):
        if row["image"]:
            (out / row["image"]).parent.mkdir(parents=True, exist_ok=True)
            (out / row["image"]).write_bytes(b"frame")
    left: list[dict[str, Any]] = result.left_out.to_pylist()
    return left


def lines(out: Path) -> list[dict[str, str]]:
    with (out / "curate.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def back(out: Path) -> Ingested:
    source = source_named("mot")
    options = source.recognises(out)
    assert options is not None
    return source.read(ReadOptions(source="again", root=out, options=options, groups={"video": "video"}))


def seen(found: Ingested) -> list[tuple[Any, ...]]:
    samples = {row["sample_id"]: row for row in found.samples.to_pylist()}
    rows = []
    for one in found.labels.to_pylist():
        sample = samples[one["sample_id"]]
        box = tuple(round(v, 9) for v in one["bbox"])
        where = (sample["split"], sample["group_video"], one["frame"], one["track_id"])
        rows.append((*where, one["label"], box, one["flags"]))
    return sorted(rows)


sides = [st.floats(low, high).map(lambda share: round(share, 4)) for low, high in ((0, 0.4), (0.01, 0.5))]
boxes = st.tuples(sides[0], sides[0], sides[1], sides[1])
placed = st.tuples(
    st.sampled_from(["north", "south"]),
    st.integers(0, 30).map(lambda frame: 5 * frame),  # every fifth frame is annotated
    st.integers(1, 40),
    st.sampled_from(["person", "van"]),
    boxes,
    st.booleans(),
)


@given(st.lists(placed, min_size=1, max_size=12, unique_by=lambda one: one[:3]))
@settings(max_examples=25, deadline=None)
def test_tracks_come_back_as_they_went_out(
    tmp_path_factory: pytest.TempPathFactory, things: list[tuple[Any, ...]]
) -> None:
    rows, sent = [], []
    for number, (video, frame, track, kind, box, ignored) in enumerate(things):
        flags = ["ignored"] if ignored else None
        uri = f"{video}/img1/{frame + 1:06}.jpg"
        rows.append(
            label(uri, number, frame, str(track), released_label=kind, bbox=list(box), flags=flags, split="val")
        )
        sent.append(("val", video, frame, str(track), kind, tuple(round(v, 9) for v in box), flags))
    out = tmp_path_factory.mktemp("mot") / "out"
    left = put(rows, out)
    found = back(out)
    assert [one for one in found.outcomes["reason_code"].to_pylist() if one] == []
    assert seen(found) == sorted(sent)
    assert left == []


def test_boxes_that_are_all_to_be_ignored_come_back_so_and_other_tools_read_the_same_file(tmp_path: Path) -> None:
    rows = [label(f"a/img1/{n:06}.jpg", 1, n - 1, "7", flags=["ignored"]) for n in (1, 2)] + [negative("b/1.jpg")]
    place = {"sample_id": rows[2]["sample_id"], "task": "tracking", "label": "van", "bbox": [0.5, 0.5, 0.1, 0.1]}
    ignored = schema.table_from_rows([place | {"reasons": ["f"], "reason_codes": ["track_gap"]}], IGNORE)
    assert put(rows, tmp_path / "out", ignored) == []
    assert [(one[1], one[6]) for one in seen(back(tmp_path / "out"))] == [("a", ["ignored"])] * 2 + [
        ("b", ["ignored"])
    ]
    home = tmp_path / "out" / "train" / "a"
    assert {line.split(",")[6] for line in (home / "gt" / "gt.txt").read_text().splitlines()} == {"0"}
    assert "zeroIsIgnored=1" in (home / "seqinfo.ini").read_text().splitlines()


def test_negative_frames_holes_and_places_that_nobody_vouches_for(tmp_path: Path) -> None:
    rows = [label(f"a/{n}.jpg", 1, n - 10, "7") for n in (11, 12, 15)]  # frame 1 is called 11.jpg
    rows += [negative("a/14.jpg"), negative("a/cover.jpg")]
    place = {"sample_id": rows[0]["sample_id"], "task": "tracking", "label": "van", "bbox": [0.5, 0.5, 0.1, 0.1]}
    ignored = schema.table_from_rows([place | {"reasons": ["f"], "reason_codes": ["track_gap"]}], IGNORE)
    left = put(rows, tmp_path / "out", ignored)
    assert [(row["what"], row["reason_code"]) for row in left] == [("image", "export_frame_unknown")]
    home = tmp_path / "out" / "train" / "a"
    assert sorted(path.name for path in (home / "img1").iterdir()) == [f"{n:06}.jpg" for n in (2, 3, 5, 6)]
    assert (home / "gt" / "gt.txt").read_text().splitlines()[:2] == [
        "2,7,100,50,40.5,81,1,1,1", "2,8,960,540,192,108,0,2,1",
    ]  # fmt: skip
    ini = (home / "seqinfo.ini").read_text().splitlines()
    assert ini == [
        "[Sequence]", "name=a", "imDir=img1", "seqLength=6", "imWidth=1920", "imHeight=1080", "imExt=.jpg",
    ]  # fmt: skip
    found = back(tmp_path / "out")
    assert sorted(found.samples["label_state"].to_pylist()) == ["labeled", "labeled", "labeled", "negative"]
    assert [(one[2], one[3], one[6]) for one in seen(found)] == [
        (1, "7", None), (1, "8", ["ignored"]), (2, "7", None), (5, "7", None),
    ]  # fmt: skip


def test_ids_that_are_no_numbers_get_some_and_that_is_said(tmp_path: Path) -> None:
    tracks = ["007", "7", "walker b", "walker a"]
    rows = [label("a/1.jpg", n, 0, track) for n, track in enumerate(tracks)]
    left = put(rows, tmp_path / "out")
    assert {row["reason_code"] for row in left} == {"export_track_numbered"}
    names = {row["label_id"]: row["track_id"] for row in rows}
    assert sorted(names[row["label_id"]] for row in left) == ["007", "walker a", "walker b"]
    text = (tmp_path / "out" / "train" / "a" / "gt" / "gt.txt").read_text()
    assert [line.split(",")[1] for line in text.splitlines()] == ["7", "8", "9", "10"]
    assert sorted(row["track_id"] for row in lines(tmp_path / "out")) == sorted(tracks)


def test_videos_in_one_folder_are_told_apart_by_their_group_or_left_out(tmp_path: Path) -> None:
    rows = [label(f"{video}-0.jpg", 1, 0, "1") for video in ("x", "y")]
    (left,) = put(rows, tmp_path / "one")
    assert left["reason_code"] == "export_frame_twice"
    for row, video in zip(rows, ("x/y", "y"), strict=True):
        row["groups"] = [("video", video)]
    assert put(rows, tmp_path / "two") == []
    assert [one[:4] for one in seen(back(tmp_path / "two"))] == [("train", "x-y", 0, "1"), ("train", "y", 0, "1")]


def test_what_is_no_track_is_left_out(tmp_path: Path) -> None:
    rows = [label("a/1.jpg", 0, 0, "1"), label("a/1.jpg", 1, 0, None), label("a/2.jpg", 2, 1, "1", bbox=None)]
    rows += [label("a/3.jpg", 3, 2, "1", width_px=None)]
    codes = sorted(row["reason_code"] for row in put(rows, tmp_path / "out"))
    assert codes == [
        "export_no_label_held", "export_no_label_held", "export_no_masks", "export_no_track", "image_size_unknown",
    ]  # fmt: skip
    assert all(code in SENTENCES for code in codes if code != "image_size_unknown")
