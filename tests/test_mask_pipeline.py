"""Masks through the whole life of a release: class maps of segmenters, regions in doubt, feed, exports, erasure."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import end_to_end as e2e
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import curate
import curate.feed
from curate import schema
from curate.errors import ConfigError, InputError
from curate.export.packed import export_packed
from curate.feed import IGNORE
from curate.gates import gate_result
from curate.ingest.rle import decode_mask
from curate.manifest.build import Release
from curate.manifest.publish import publish
from curate.manifest.read import load_release
from curate.manifest.show import show, show_lines
from curate.manifest.verify import verify
from curate.review import ledger
from curate.summary import summarize
from curate.teachers.regions.answers import Answer
from curate.teachers.regions.cells import cell_mass

sys.path.insert(
    0, str(Path(__file__).parent / "governance")
)  # tests are no package; the helpers there have plain names
import look

N, SIZE = 16, (48, 64)
CLASSES = ("ground", "box", "disc")
WRONG, DOUBTED = 3, (slice(30, 42), slice(40, 56))  # a disc that is no disc, in the fourth image


def scene(number: int) -> np.ndarray[Any, Any]:
    ids = np.zeros(SIZE, dtype=np.int32)
    ids[4:22, 2 + number : 20 + number] = 1
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    ids[(y - 34) ** 2 + (x - 16 - number) ** 2 < 64] = 2
    return ids


def labeled(number: int) -> np.ndarray[Any, Any]:
    ids = scene(number)
    if number == WRONG:
        ids[DOUBTED] = 1
    ids[:, -2:] = 255
    return ids


def probs_of(ids: np.ndarray[Any, Any], sure: float) -> np.ndarray[Any, Any]:
    one_hot = np.eye(len(CLASSES), dtype=np.float32)[ids].transpose(2, 0, 1)
    return (sure * one_hot + (1 - sure) / len(CLASSES)).astype(np.float16)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    for folder in ("images", "masks", "ids", "net"):
        (root / folder).mkdir()
    random = np.random.default_rng(0)
    colours = np.array([[40, 90, 40], [200, 60, 60], [70, 70, 220]])
    for number in range(N):
        pixels = colours[scene(number)] + random.integers(-20, 20, (*SIZE, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / "images" / f"zq{number:02}.png")
        Image.fromarray(labeled(number).astype(np.uint8)).save(root / "masks" / f"zq{number:02}.png")
        Image.fromarray(scene(number).astype(np.uint8)).save(root / "ids" / f"zq{number:02}.png")
        if number != N - 1:
            np.save(root / "net" / f"zq{number:02}.npy", probs_of(scene(number), 0.7))
    file = root / "scenes.yaml"
    file.write_text(
        "name: scenes\n"
        "source: {format: masks, path: ., images: images, masks: masks}\n"
        f"classes: [{', '.join(CLASSES)}]\n"
        "teachers:\n"
        "  - {kind: masks, name: ids, path: ids}\n"
        "  - {kind: masks, name: net, path: net}\n"
        "policy: {soft_masks_cells: 16, soft_each_teacher: true, rules: [{issue: near_duplicate, action: keep}]}\n"
    )
    return file


@pytest.fixture(scope="module")
def released(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = tmp_path_factory.mktemp("ws")
    result = curate.run(spec, workspace=workspace, review=False)
    assert result.published is not None
    return workspace


def test_a_segmenter_whose_class_ids_are_off_is_named_at_the_end_and_in_the_report(
    spec: Path, tmp_path: Path
) -> None:
    off = spec.parent / "shifted"
    off.mkdir()
    for number in range(N):
        Image.fromarray(((scene(number) + 1) % 3).astype(np.uint8)).save(off / f"zq{number:02}.png")
    file = spec.with_name("off.yaml")
    file.write_text(spec.read_text().replace("name: net, path: net", "name: late, path: shifted"))
    result = curate.run(file, workspace=tmp_path, review=False)
    (told,) = summarize(result)["teachers_warn"]
    assert told.startswith("late: ")
    assert "class ids" in told
    assert result.report is not None
    assert "most of ground is box to it" in result.report.read_text()


def version_of(workspace: Path) -> Path:
    return max((workspace / "manifests" / "scenes" / "versions").iterdir(), key=lambda one: one.stat().st_mtime)


def head_of(version: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((version / "manifest.json").read_bytes())
    return manifest


def maps_by_uri(version: Path) -> dict[str, dict[str, Any]]:
    data = pq.read_table(version / "data", columns=["sample_id", "uri"])
    uris = dict(zip(data["sample_id"].to_pylist(), data["uri"].to_pylist(), strict=True))
    return {uris[row["sample_id"]]: row for row in pq.read_table(version / "soft_masks").to_pylist()}


def test_a_release_holds_a_map_of_each_image_as_its_teachers_see_it(released: Path) -> None:
    version = version_of(released)
    told = head_of(version)["soft_masks"]
    assert (told["layout"], told["temperature"], told["n_missing"]) == ("full", "1.0", 0)
    assert told["each_teacher"] == ["ids", "net"]
    maps = maps_by_uri(version)
    assert len(maps) == N
    row = maps["images/zq05.png"]
    assert (row["n_rows"], row["n_columns"]) == (12, 16)
    shares = cell_mass(Answer(3, codes=scene(5)), (12, 16))
    np.testing.assert_allclose(np.reshape(row["probs_ids"], (3, 12, 16)), shares, atol=1e-3)
    np.testing.assert_allclose(np.reshape(row["probs_net"], (3, 12, 16)), 0.7 * shares + 0.1, atol=2e-3)
    weights = {name: float(weight) for name, weight in told["weights"].items()}
    mean = (weights["ids"] * shares + weights["net"] * (0.7 * shares + 0.1)) / sum(weights.values())
    expected = mean ** float(told["sharpness"])
    np.testing.assert_allclose(np.reshape(row["probs"], (3, 12, 16)), expected / expected.sum(axis=0), atol=5e-3)
    last = maps[f"images/zq{N - 1:02}.png"]  # no file of this teacher
    assert last["probs_net"] is None
    assert last["probs"] is not None


def test_the_same_input_gives_the_same_version_elsewhere(spec: Path, released: Path, tmp_path: Path) -> None:
    again = curate.run(spec, workspace=tmp_path, review=False, workers=1)
    assert again.published is not None
    assert again.published.id == version_of(released).name


def test_it_verifies_and_says_what_it_holds(released: Path) -> None:
    assert all(one.ok is not False for one in verify(version_of(released), deep=True))
    promises = {one.name: one for one in verify(version_of(released))}
    assert "class maps of 16 images, full, temperature 1.0; none is stale" in promises["soft labels"].detail
    lines = show_lines(show(released / "manifests", "scenes"))
    assert any("class maps" in line and "16 images, 16 cells" in line for line in lines)


def broken_by(released: Path, root: Path, **changed: Any) -> dict[str, str]:  # noqa: ANN401 - fields of a release
    """Publish the release with other tables, and return what is broken of it."""
    loaded = load_release(version_of(released))
    fields = {
        name: getattr(loaded, name) for name in ("data", "soft", "excluded", "findings", "decisions", "evidence")
    }
    head = {name: loaded.manifest[name] for name in ("classes", "counts", "gates", "inputs", "soft", "soft_masks")}
    statistics = schema.table_from_rows([], schema.STATISTICS)
    gates = gate_result(statistics, [])
    fields |= {"soft_masks": loaded.soft_masks, "head": head, "statistics": statistics, "gates": gates, **changed}
    published = publish(Release(**fields), root, "scenes")
    return {one.name: one.detail for one in verify(published.path, deep=True) if one.ok is False}


def replaced(table: pa.Table, name: str, value: Any) -> pa.Table:  # noqa: ANN401 - a value of the column
    values = [value, *table[name].to_pylist()[1:]]
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(name), pa.array(values, table.schema.field(name).type))


@pytest.mark.parametrize(
    ("change", "promise", "said"),
    [
        (lambda t: replaced(t, "sample_id", "f" * 24), "soft labels", "not released"),
        (lambda t: replaced(t, "sample_id", t["sample_id"][1].as_py()), "soft labels", "an image twice"),
        (lambda t: replaced(t, "made_for", 7), "soft labels", "1 of 16 rows were made for other image bytes"),
        (lambda t: replaced(t, "n_rows", 11), "soft labels", "not on the grid"),
        (lambda t: t.slice(1), "soft labels", "16 images have masks, 15 have class maps"),
        (lambda t: replaced(t, "probs", [0.4] * 576), "values", "do not sum to 1"),
        (lambda t: replaced(t, "probs", [1.0] * 3), "values", "another size than its grid"),
    ],
)
def test_maps_that_are_not_those_of_the_release_break_a_promise(
    released: Path, tmp_path: Path, change: Callable[[pa.Table], pa.Table], promise: str, said: str
) -> None:
    loaded = load_release(version_of(released))
    assert loaded.soft_masks is not None
    maps = pa.concat_tables([pa.table(batch) for batch in loaded.soft_masks.batches()])
    broken = broken_by(released, tmp_path, soft_masks=change(maps.replace_schema_metadata(None).combine_chunks()))
    assert said in broken[promise]


def test_a_region_in_doubt_is_taken_out_and_the_rest_of_its_mask_leaves(released: Path) -> None:
    version = version_of(released)
    rows = pq.read_table(version / "data").to_pylist()
    own = [row for row in rows if row["uri"] == f"images/zq{WRONG:02}.png"]
    (box,) = (row for row in own if row["released_label"] == "box")
    assert (box["action"], box["weight"]) == ("review", 1.0)
    left, given = (decode_mask(box[name]).astype(bool) for name in ("mask", "given_mask"))
    np.testing.assert_array_equal(given, labeled(WRONG) == 1)
    assert not left[DOUBTED].any()
    np.testing.assert_array_equal(left, scene(WRONG) == 1)
    assert all(row["given_mask"] is None for row in rows if row["uri"] != own[0]["uri"])
    assert all(row["action"] == "keep" for row in rows if row["uri"] != own[0]["uri"])


def test_a_mask_that_holds_a_doubted_region_all_the_same_breaks_a_promise(released: Path, tmp_path: Path) -> None:
    loaded = load_release(version_of(released))
    whole = pa.array(
        [g or m for g, m in zip(*(loaded.data[c].to_pylist() for c in ("given_mask", "mask")), strict=True)]
    )
    at = loaded.data.schema.get_field_index("mask")
    data = loaded.data.set_column(
        at, loaded.data.schema.field("mask"), whole.cast(loaded.data.schema.field("mask").type)
    )
    broken = broken_by(released, tmp_path, data=data)
    assert "without the regions in doubt masks differ" in broken["verdicts"]


def test_a_person_who_keeps_the_label_vouches_for_all_of_it(spec: Path, released: Path, tmp_path: Path) -> None:
    shutil.copytree(released, tmp_path / "ws")
    (row,) = (r for r in pq.read_table(version_of(released) / "data").to_pylist() if r["action"] == "review")
    said = {"sample_id": row["sample_id"], "label_id": row["label_id"], "decision": "keep"}
    said |= {"content_sha256": row["content_sha256"]}
    ledger.append(ledger.ledger_folder(tmp_path / "ws", "scenes"), [said], reviewer="ada")
    result = curate.run(spec, workspace=tmp_path / "ws", review=False)
    assert result.release is not None
    (kept,) = (r for r in result.release.data.to_pylist() if r["label_id"] == row["label_id"])
    assert (kept["action"], kept["given_mask"]) == ("keep", None)
    np.testing.assert_array_equal(decode_mask(kept["mask"]).astype(bool), labeled(WRONG) == 1)
    feed = curate.feed.open("scenes", workspace=tmp_path / "ws")
    item = feed.dataset()[feed.rows.ids().index(row["sample_id"])]
    assert item["settled"].numpy().sum() == (labeled(WRONG) == 1).sum()


def test_a_diff_tells_masks_and_maps_and_shows_them(spec: Path, released: Path, tmp_path: Path) -> None:
    root, workspace = tmp_path / "scenes", tmp_path / "ws"
    shutil.copytree(spec.parent, root)
    shutil.copytree(released, workspace)
    ids = labeled(5)
    ids[30:36, 45:55] = 1
    Image.fromarray(ids.astype(np.uint8)).save(root / "masks" / "zq05.png")
    other = np.where(np.arange(SIZE[1]) < 32, 2 - scene(7), scene(7))  # of one half another answer
    Image.fromarray(other.astype(np.uint8)).save(root / "ids" / "zq07.png")
    assert e2e.call("run", root / spec.name, "--workspace", workspace, "--no-review").code in {0, 1}
    told = e2e.call(
        "diff",
        "scenes@v1",
        "scenes@v2",
        "--workspace",
        workspace,
        "--html",
        tmp_path / "d.html",
        "--json",
        "--soft-from",
        "0",
    )
    assert told.code == 0, told.err
    rows = {(row["change"], row["uri"]): row for row in told.json["rows"]}
    masks = {uri: row for (change, uri), row in rows.items() if change == "remasked"}
    box = masks["images/zq05.png"]
    assert box["before"].startswith("mask of ")
    assert box["before"] != box["after"]
    assert box["causes"] == ["given_shape_changed"]
    maps = {uri: row for (change, uri), row in rows.items() if change == "class map changed"}
    assert "images/zq07.png" in maps
    assert maps["images/zq07.png"]["causes"] == ["teachers_changed", "teacher_weights_changed"]
    assert re.fullmatch(r"ground \d+\.\d%, .* on 12 x 16 cells", maps["images/zq07.png"]["before"])
    assert told.json["summary"]["soft"]["class map changed"]["n_compared"] == N
    page = (tmp_path / "d.html").read_text()
    section = page[page.index('id="remasked"') :]
    assert 'class="shots pair"' in section.partition("<h2")[0]
    assert "Red: what it lost" in section
    plain = e2e.call("diff", "scenes@v1", "scenes@v2", "--workspace", workspace)
    assert "remasked: " in plain.out
    assert "because of another box, mask or polygon in the source" in plain.out


def test_a_mask_that_a_doubt_shortened_says_the_doubt(spec: Path, released: Path, tmp_path: Path) -> None:
    shutil.copytree(spec.parent, tmp_path / "scenes")
    shutil.copytree(released, tmp_path / "ws")
    file = tmp_path / "scenes" / spec.name
    file.write_text(file.read_text().replace("rules: [", "rules: [{issue: 'region_*', action: keep}, "))
    assert e2e.call("run", file, "--workspace", tmp_path / "ws", "--no-review").code in {0, 1}
    told = e2e.call("diff", "scenes@v1", "scenes@v2", "--workspace", tmp_path / "ws", "--json").json["rows"]
    masks = [row for row in told if row["change"] == "remasked"]
    assert masks
    assert {code for row in masks for code in row["causes"]} <= {"policy_changed", *row_codes(masks)}
    assert not any("given_shape_changed" in row["causes"] for row in masks)


def row_codes(rows: list[dict[str, Any]]) -> set[str]:
    return {f"no_longer_{code}" for row in rows for code in row["reason_codes_before"]}


def test_the_feed_gives_image_mask_and_map_of_one_picture(released: Path) -> None:
    feed = curate.feed.open("scenes", workspace=released)
    assert (feed.task, feed.temperature, len(feed)) == ("segmentation", 1.0, N)
    uris = feed.rows.places()["uri"].to_pylist()
    for at, item in enumerate(feed.dataset()):
        number = int(uris[at][-6:-4])
        expected = np.where(labeled(number) == 255, IGNORE, labeled(number))
        if number == WRONG:
            expected[DOUBTED] = IGNORE
        np.testing.assert_array_equal(item["mask"].numpy(), expected)
        assert item["image"].shape == (3, *SIZE)
        top = item["soft"]["probs"].float().argmax(dim=0).numpy()
        coarse = scene(number)[2::4, 2::4]
        assert (top == coarse).mean() > 0.9
    small = feed.dataset(size_px=(24, 32))[0]
    np.testing.assert_array_equal(small["mask"].numpy(), feed.dataset()[0]["mask"].numpy()[1::2, 1::2])
    alone = curate.feed.open("scenes", workspace=released, soft="ids").dataset()[0]
    assert float(alone["soft"]["probs"].max()) == 1.0
    assert "soft" not in curate.feed.open("scenes", workspace=released, soft=None).dataset()[0]


def test_image_mask_and_map_move_together(released: Path) -> None:
    feed = curate.feed.open("scenes", workspace=released)
    plain = {item["id"]: item for item in feed.stream(shuffle=False)}
    for item in feed.stream(warp=curate.feed.random_affine(flip=1.0), seed=3):
        before = plain[item["id"]]
        np.testing.assert_array_equal(item["mask"], before["mask"].flip(-1))
        assert (item["image"].int() - before["image"].flip(-1).int()).abs().max() <= 1
        torch.testing.assert_close(item["soft"]["probs"], before["soft"]["probs"].flip(-1), atol=2e-3, rtol=0)


def test_workers_and_a_second_pass_see_the_same_warps(released: Path) -> None:
    feed = curate.feed.open("scenes", workspace=released)
    warp = curate.feed.random_affine(zoom=(0.8, 1.4), degrees=10)
    stream = feed.stream(batch_size=4, size_px=(24, 32), warp=warp, seed=1)
    alone = {one: mask for batch in stream for one, mask in zip(batch["id"], batch["mask"], strict=True)}
    augmented = feed.stream(size_px=(24, 32), seed=1, augment=lambda pixels, _: pixels[:, ::-1].copy())
    assert len(list(augmented)) == N  # colours or not: the size is that of the mask
    dataset = feed.dataset(size_px=(24, 32))
    loaded = list(DataLoader(dataset, batch_size=4, num_workers=1, collate_fn=curate.feed.collate))
    assert sum(len(batch["id"]) for batch in loaded) == len(alone) == N
    again = {one: mask for batch in stream for one, mask in zip(batch["id"], batch["mask"], strict=True)}
    assert all(torch.equal(alone[one], again[one]) for one in alone)


def test_a_small_net_learns_from_what_the_feed_gives(released: Path) -> None:
    torch.manual_seed(0)
    feed = curate.feed.open("scenes", workspace=released, used_by="tiny")
    net = torch.nn.Conv2d(3, len(feed.classes), 1)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.3)
    losses = []
    for epoch in range(10):
        stream = feed.stream(batch_size=8, seed=epoch)
        for batch in stream:
            logits = net(batch["image"].float() / 255 - 0.5)
            loss = curate.feed.mask_distillation_loss(logits, **curate.feed.targets(batch))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    item = feed.dataset()[0]
    guess = net(item["image"][None].float() / 255 - 0.5).argmax(dim=1)[0]
    known = item["mask"] != IGNORE
    assert (guess == item["mask"])[known].float().mean() > 0.9


def test_the_snippets_of_the_pages_run(released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "workspace").symlink_to(released)
    monkeypatch.chdir(tmp_path)
    docs = Path(__file__).resolve().parents[1] / "docs"
    for page in ("feed.md", "soft_labels.md"):
        blocks = re.findall(r"```python\n(.*?)```", (docs / page).read_text(encoding="utf-8"), re.DOTALL)
        (block,) = (one for one in blocks if "drive" in one)
        block = block.replace("drive", "scenes").replace("/ID/", f"/{version_of(released).name}/")
        exec(block.replace("(11,", "(3,").replace("[24]", "[6]"), {})  # noqa: S102 - what the page tells people to run


def test_geometry_hidden_in_a_transform_is_refused(released: Path) -> None:
    feed = curate.feed.open("scenes", workspace=released)
    with pytest.raises(ConfigError, match="geometry in warp"):
        feed.dataset(transform=lambda _: torch.zeros(3, 10, 10))[0]


def test_maps_of_another_teacher_or_other_classes_are_refused(released: Path) -> None:
    cards = json.loads((version_of(released) / "evidence" / "teachers.json").read_bytes())
    other = [{**card, "digest": "0" * 64} for card in cards]
    with pytest.raises(InputError, match="The model of the teacher ids changed"):
        curate.feed.open("scenes", workspace=released, teachers=other)
    with pytest.raises(InputError, match="another class list"):
        curate.feed.open("scenes", workspace=released, classes=["ground", "box"])
    with pytest.raises(ConfigError, match="Stored: ensemble, ids, net"):
        curate.feed.open("scenes", workspace=released, soft="nett")


def test_packed_exports_hold_mask_and_map(released: Path, tmp_path: Path) -> None:
    feed = curate.feed.open("scenes", workspace=released)
    item = feed.dataset()[2]
    expected = np.where(item["mask"] == IGNORE, 255, item["mask"])
    export_packed(feed, tmp_path / "wds", format="webdataset")
    (shard,) = (tmp_path / "wds").glob("*.tar")
    with tarfile.open(shard) as tar:
        png = tar.extractfile(f"{item['id']}.mask.png")
        npy = tar.extractfile(f"{item['id']}.probs.npy")
        assert png is not None
        assert npy is not None
        np.testing.assert_array_equal(np.asarray(Image.open(png)), expected)
        np.testing.assert_array_equal(np.load(BytesIO(npy.read())), item["soft"]["probs"])
    export_packed(feed, tmp_path / "hf", format="hf")
    (row,) = (r for r in pq.read_table(tmp_path / "hf" / "data").to_pylist() if r["id"] == item["id"])
    np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(row["mask"]["bytes"]))), expected)
    np.testing.assert_array_equal(
        np.reshape(row["probs"], (3, row["n_rows"], row["n_columns"])), item["soft"]["probs"]
    )
    assert sorted(row["labels"]["category"]) == [0, 1, 2]


def test_an_erased_image_leaves_no_map_and_no_trace(released: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "ws"
    shutil.copytree(released, workspace)
    before = version_of(workspace)
    data = pq.read_table(before / "data").to_pylist()
    gone = next(row for row in data if row["uri"] == "images/zq07.png")
    needles = {"id": gone["sample_id"].encode(), "uri": b"zq07", "hash": gone["content_sha256"].encode()}
    needles["map"] = str(maps_by_uri(before)["images/zq07.png"]["made_for"]).encode()
    assert set(look.found(look.texts_of_files(workspace), needles)) == set(needles)
    done = e2e.call("erase", "scenes", "--sample", gone["sample_id"], "--yes", "--workspace", workspace, "--quiet")
    assert done.code == 0, done.err
    assert look.found(look.texts_of_files(workspace), needles) == {}
    after = version_of(workspace)
    assert pq.read_table(after / "soft_masks").num_rows == N - 1
    assert head_of(after)["soft_masks"]["n_missing"] == 0
    assert all(promise.ok is not False for promise in verify(after, deep=True))


def test_without_soft_labels_or_with_no_cells_there_are_no_maps(spec: Path, tmp_path: Path) -> None:
    file = spec.with_name("bare.yaml")
    file.write_text(spec.read_text().replace("soft_masks_cells: 16", "soft_masks_cells: 0"))
    result = curate.run(file, workspace=tmp_path, review=False)
    assert result.release is not None
    assert result.release.soft_masks is None
    assert "soft_masks" not in result.release.head
    feed = curate.feed.open("scenes", workspace=tmp_path)
    assert feed.temperature is None
    batch = next(iter(feed.stream(batch_size=4)))
    loss = curate.feed.mask_distillation_loss(torch.zeros(4, 3, *SIZE), **curate.feed.targets(batch))
    assert loss.item() == pytest.approx(np.log(3), rel=1e-4)
