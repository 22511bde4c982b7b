"""Two hundred hostile files cost one clear outcome each and nothing else."""

from __future__ import annotations

import json
import re
import struct
import zlib
from pathlib import Path

import awkward
import end_to_end as e2e
import pyarrow.parquet as pq
import pytest

SCRIPT = "<script>alert(1)<!-- & "
N_GOOD = 40


def huge_png(side_px: int) -> bytes:
    """Return a PNG of a few bytes that declares `side_px` x `side_px` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")


def hostile_files() -> dict[str, bytes]:
    """Return name -> bytes of 200 files that are called like images and are none."""
    files = {f"{at}_{name}": data for at in range(20) for name, data in awkward.broken().items()}
    whole = awkward.jpeg(3)
    files |= {f"cut_{size:03}.jpg": whole[:size] for size in range(2, 62, 2)}
    files |= {f"empty_{at}.png": b"" for at in range(20)}
    files |= {f"huge_{at}.png": huge_png(60_000 + at) for at in range(15)}
    files |= {f"renamed_{at}.jpg": b"PK\x03\x04" + bytes([at]) * 400 for at in range(14)}
    files["<img src=x onerror=alert(1)>.jpg"] = b"<svg onload=alert(1)>"
    assert len(files) == 200
    return files


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, e2e.Done]:
    """Run over 200 hostile files among 40 good ones, with HTML in a class name and in file names."""
    folder = tmp_path_factory.mktemp("hostile")
    e2e.write_classes(folder / "data", n=N_GOOD, names=(SCRIPT, "dog"))
    target = folder / "data" / "train" / SCRIPT
    for name, data in hostile_files().items():
        (target / name).write_bytes(data)
    (target / f"{SCRIPT}.png").write_bytes(awkward.png(7))
    spec = e2e.write_spec(folder / "bad.yaml", "{format: folder, path: data}", name="bad")
    return folder, e2e.call("run", spec, "--workspace", folder / "ws", "--no-review", "--json")


def test_the_run_ends_with_a_failed_gate_and_a_version(hostile: tuple[Path, e2e.Done]) -> None:
    folder, done = hostile
    assert done.code == 1, done.err  # the shares of what is out and unreadable are above what the gates allow
    assert done.json["gates"] == "failed"
    assert e2e.call("verify", "bad", "--workspace", folder / "ws").code == 0
    assert all(line.lstrip().startswith("✓") for line in done.err.splitlines()), done.err


def test_every_file_has_one_outcome_with_its_reason(hostile: tuple[Path, e2e.Done]) -> None:
    folder, done = hostile
    data = {str(path.relative_to(folder / "data")) for path in (folder / "data").rglob("*") if path.is_file()}
    counts = done.json["counts"]
    assert counts["n_rows_in"] == len(data) == N_GOOD + 200 + 1
    assert counts["n_images"] == len(data) - 20  # the empty ones are out before a pixel is read
    version = Path(done.json["manifest"])
    released = [row for file in (version / "data").rglob("*.parquet") for row in pq.read_table(file).to_pylist()]
    behind = [row for file in (version / "excluded").rglob("*.parquet") for row in pq.read_table(file).to_pylist()]
    assert len(released) + len(behind) == len(data)
    bad = set(hostile_files())
    assert {Path(row["uri"]).name for row in released}.isdisjoint(bad)
    assert bad <= {Path(row["uri"]).name for row in behind if row["uri"]} | {n for n in bad if "empty" in n}
    assert all(row["reason_codes"] for row in behind)


def test_the_report_shows_html_as_text(hostile: tuple[Path, e2e.Done]) -> None:
    page = Path(hostile[1].json["report"]).read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "<svg onload" not in page
    assert re.search(r"""(src|href)=["']?https?:""", page) is None  # opens offline


def test_ingest_tells_each_file_that_is_out_in_one_line(hostile: tuple[Path, e2e.Done]) -> None:
    folder, _ = hostile
    done = e2e.call("ingest", folder / "bad.yaml", "--workspace", folder / "ws", "--quiet")
    assert done.code == 0, done.err
    lines = [line for line in done.out.splitlines() if line.startswith("  out")]
    assert len(lines) == 20
    assert all("empty" in line for line in lines)


CLIMBING = (
    "../../outside.png",
    "/etc/hostname",
    "a/../../../outside.png",
    "~/x.png",
    "file:///etc/hostname",
    "\x00.png",
)


def coco_of(names: tuple[str, ...]) -> str:
    images = [{"id": at, "file_name": name, "width": 24, "height": 24} for at, name in enumerate(names)]
    boxes = [[2, 2, 9, 9], [1e308, 1, 1e308, 1], [5, 5, -3, 4], ["x", 1, 2, 3], [1, 1, 0, 0]]
    annotations = [
        {"id": at, "image_id": 0, "category_id": 1, "bbox": bbox, "area": 1} for at, bbox in enumerate(boxes)
    ]
    annotations += [{"id": 99, "image_id": 12345, "category_id": 1, "bbox": [1, 1, 2, 2]}]
    categories = [{"id": 1, "name": "<b>cat</b>"}]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


def test_paths_in_annotation_files_that_leave_the_root_are_out(tmp_path: Path) -> None:
    (tmp_path / "data/images").mkdir(parents=True)
    (tmp_path / "outside.png").write_bytes(awkward.png(1))
    (tmp_path / "data/images/good.png").write_bytes(awkward.png(2))
    (tmp_path / "data/all.json").write_text(coco_of(("good.png", *CLIMBING)), encoding="utf-8")
    source = "{format: coco, path: data, annotations: all.json, images: images}"
    spec = e2e.write_spec(tmp_path / "boxes.yaml", source, name="boxes")
    done = e2e.call("ingest", spec, "--workspace", tmp_path / "ws", "--json", "--quiet")
    assert done.code == 0, done.err
    assert done.json["counts"]["n_images"] == 1
    assert done.json["counts"]["n_labels"] >= 1
    out = done.json["out_by_reason"]
    assert sum(out.values()) >= len(CLIMBING) + 4  # every climbing name, and the boxes that are none
    assert out["path_leaves_root"] >= 1
    assert "root:" not in done.out


def test_an_xml_bomb_is_one_outcome(tmp_path: Path) -> None:
    folder = tmp_path / "voc"
    for sub in ("JPEGImages", "Annotations"):
        (folder / sub).mkdir(parents=True)
    entities = '<!DOCTYPE a [<!ENTITY x "lol"><!ENTITY e SYSTEM "file:///etc/hostname">]>'
    for at, head in enumerate(("", entities, "<unclosed>")):
        (folder / f"JPEGImages/{at}.png").write_bytes(awkward.png(at))
        box = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
        name = "&e;" if head == entities else "cat"
        body = f"<annotation><filename>{at}.png</filename><object><name>{name}</name>{box}</object></annotation>"
        (folder / f"Annotations/{at}.xml").write_text(head + body, encoding="utf-8")
    spec = e2e.write_spec(tmp_path / "voc.yaml", "{format: voc, path: voc}", name="voc")
    done = e2e.call("ingest", spec, "--workspace", tmp_path / "ws", "--json", "--quiet")
    assert done.code == 0, done.err
    assert done.json["counts"]["n_labels"] == 1
    assert sum(done.json["out_by_reason"].values()) == 2


@pytest.mark.parametrize(
    "text",
    [
        "name: x\nsource: !!python/object/apply:os.system ['touch pwned']\n",
        "name: !!python/name:os.system\nsource: {format: folder, path: data}\n",
        "name: x\nsource: {format: folder, path: data}\nname: y\n",
        "name: [unclosed\n",
        "- a\n- list\n",
        "",
        "name: ../../etc\nsource: {format: folder, path: data}\n",
        "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\nname: *b\n",
    ],
)
def test_a_hostile_spec_is_refused_with_its_place(text: str, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(text, encoding="utf-8")
    done = e2e.call("run", spec, "--workspace", tmp_path / "ws", cwd=tmp_path)
    assert done.code == 2, (done.out, done.err)
    assert re.search(r"spec\.yaml(:\d+)?", done.err), done.err
    assert "Traceback" not in done.err
    assert len(done.err) < 4_000
    assert not (tmp_path / "pwned").exists()
    assert not (tmp_path / "ws").exists()
