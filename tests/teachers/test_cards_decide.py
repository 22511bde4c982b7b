"""What a spec says of its teachers decides: who shares errors, who judges nothing, and what a limit leaves out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer.testing
import yaml
from PIL import Image

import curate
from curate import schema
from curate.cli import app
from curate.ingest.source import Beyond
from curate.spec import CocoTeacherSpec, MasksSpec, MotSpec, OnnxSpec, TableTeacherSpec, TorchSpec
from curate.stages.answers import shared_features
from curate.summary import summarize, summary_lines
from curate.teachers import teacher_of
from curate.teachers.boxes.precomputed import find_boxes
from curate.teachers.independence import independence
from curate.teachers.protocol import Request
from curate.teachers.regions.segmenters import asked_of

N = 300
NAMES = ("bird", "cat", "dog")
Floats = np.ndarray[Any, Any]


def softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write images in the right folders; three teachers on one view of them that err alike, and one that memorised."""
    root = tmp_path_factory.mktemp("cards")
    random = np.random.default_rng(3)
    truth = np.arange(N) % 3
    uris = [f"{NAMES[k]}/{at:03}.png" for at, k in enumerate(truth)]
    for uri in uris:
        (root / "images" / uri).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(root / "images" / uri)
    seen = 2.2 * np.eye(3)[truth] + random.normal(size=(N, 3))  # what all three see: it misleads them alike
    for name in ("one", "two", "three"):
        probs = softmax(1.5 * seen + 0.3 * random.normal(size=(N, 3)))
        pq.write_table(pa.table({"uri": uris, f"prob_{name}": probs.tolist()}), root / f"{name}.parquet")
    memory = softmax(8.0 * np.eye(3)[truth] + random.normal(size=(N, 3)))
    pq.write_table(pa.table({"uri": uris, "prob_memory": memory.tolist()}), root / "memory.parquet")
    return root


def told(folder: Path, tmp_path: Path, *teachers: dict[str, Any], limit: int | None = None) -> dict[str, Any]:
    """Run a spec with these table teachers and return its summary, with the lines under `lines`."""
    spec = {
        "name": "cards",
        "source": {"format": "folder", "path": str(folder / "images")},
        "classes": list(NAMES),
        "teachers": [
            {"kind": "table", "path": str(folder / f"{one['name']}.parquet"), "classes": list(NAMES), **one}
            for one in teachers
        ],
    }
    (tmp_path / "cards.yaml").write_text(yaml.safe_dump(spec))
    result = curate.run(tmp_path / "cards.yaml", workspace=tmp_path / "ws", review=False, limit=limit)
    summary = summarize(result)
    assert result.release is not None
    return {**summary, "lines": summary_lines(summary), "cards": result.release.evidence["teachers"]}


def line(summary: dict[str, Any], start: str) -> str:
    return next((one for one in summary["lines"] if one.strip().startswith(start)), "")


SAME = [{"name": name, "trained_on": "these pixels", "out_of_fold": True} for name in ("one", "two", "three")]


def test_teachers_that_share_features_by_the_spec_are_not_independent(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    apart = told(folder, tmp_path / "a", *SAME)
    assert apart["label_noise"]["regime"] == "independent"
    assert "no card says that they share features" in line(apart, "regime")
    assert "one, two, three: all are trained on these pixels, and taken for independent" in line(
        apart, "teacher note"
    )
    (tmp_path / "b").mkdir()
    shared = told(folder, tmp_path / "b", *({**one, "features": "pixels"} for one in SAME))
    assert shared["label_noise"]["regime"] == "shared"
    assert "teachers that share features by their cards" in line(shared, "regime")
    assert not line(shared, "teacher note")
    assert {card["features"] for card in shared["cards"]} == {"pixels"}
    assert shared["label_noise"]["n_flagged"] < apart["label_noise"]["n_flagged"]


def test_each_estimate_is_printed_with_its_interval(folder: Path, tmp_path: Path) -> None:
    summary = told(folder, tmp_path, *SAME)
    estimates = summary["label_noise"]["estimates"]
    assert len(estimates) >= 2
    for name, one in estimates.items():
        assert f"{name.replace('_', ' ')} {one['value']:.1%} (" in line(summary, "estimates")


def test_a_teacher_that_learned_these_labels_by_its_spec_judges_none(folder: Path, tmp_path: Path) -> None:
    memory = {"name": "memory", "trained_on": "these labels", "out_of_fold": False}
    summary = told(folder, tmp_path, memory)
    assert "not known: no teacher is left: 1 was left out" in line(summary, "wrong labels")
    assert "memory: its spec says that it learned from the labels that it judges" in line(summary, "LEFT OUT")
    assert "learned from the labels" in summary["cards"][0]["left_out"]
    written = json.loads((Path(summary["manifest"]) / "evidence" / "teachers.json").read_text())
    assert "learned from the labels" in json.dumps(written)
    (tmp_path / "beside").mkdir()
    beside = told(folder, tmp_path / "beside", memory, SAME[0])
    assert beside["label_noise"]["regime"] == "shared", "one alone judges"
    assert "one teacher" in line(beside, "regime")


def test_memory_that_nobody_denies_and_nothing_can_check_is_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    unsaid = told(folder, tmp_path / "a", {"name": "memory", "trained_on": "elsewhere"})
    assert "memory: whether it memorised the labels is not checkable: the guard needs three" in line(
        unsaid, "teacher note"
    )
    (tmp_path / "b").mkdir()
    denied = told(folder, tmp_path / "b", {"name": "memory", "trained_on": "elsewhere", "out_of_fold": True})
    assert not line(denied, "teacher note")


def test_with_a_limit_a_table_of_the_whole_source_serves(folder: Path, tmp_path: Path) -> None:
    summary = told(folder, tmp_path, *SAME, limit=60)
    assert not summary["teachers_failed"]
    assert not line(summary, "teacher FAILED")
    assert {card["n_predicted"] for card in summary["cards"]} == {60}
    assert not any("no readable image" in text for card in summary["cards"] for text in card["warnings"])


def test_with_a_limit_a_table_of_another_source_is_refused_all_the_same(folder: Path, tmp_path: Path) -> None:
    table = pq.read_table(folder / "one.parquet")
    foreign = pa.array([f"elsewhere/{at}.png" for at in range(N)])
    pq.write_table(table.set_column(0, "uri", foreign), tmp_path / "one.parquet")
    summary = told(folder, tmp_path, {**SAME[0], "path": str(tmp_path / "one.parquet")}, limit=60)
    assert "300 of 300 rows" in summary["teachers_failed"][0]


def test_with_a_limit_boxes_of_other_images_are_passed_over_and_a_bare_name_never_means_one_that_is_left(
    tmp_path: Path,
) -> None:
    uris = ["a/1.png", "b/1.png", *(f"a/{at}.png" for at in range(2, 30))]
    samples = pa.table(
        {
            "sample_id": [schema.sample_id_of("s", uri) for uri in uris],
            "uri": uris,
            "width_px": [100] * 30,
            "height_px": [100] * 30,
        }
    )
    boxes = [{"image_id": uri, "category_id": "dog", "bbox": [1, 1, 9, 9], "score": 0.9} for uri in uris]
    bare = {"image_id": "1.png", "category_id": "dog", "bbox": [1, 1, 9, 9], "score": 0.8}
    (tmp_path / "found.json").write_text(json.dumps([*boxes, bare]))
    spec = CocoTeacherSpec(kind="coco", name="d", path="found.json")
    labels = pa.table({"label_id": pa.array([], pa.string())})
    found = find_boxes(
        [spec], samples.slice(0, 1), ("dog",), lambda p: tmp_path / p, beyond=Beyond.of(samples.slice(1), labels)
    )
    assert not found.errors
    assert found.table["score"].to_pylist() == pytest.approx([0.9])
    (tmp_path / "found.json").write_text(json.dumps(boxes[1:]))
    (error,) = find_boxes(
        [spec], samples.slice(0, 1), ("dog",), lambda p: tmp_path / p, beyond=Beyond.of(samples.slice(1), labels)
    ).errors
    assert error.too_few
    assert "--limit leaves out" in error.message


def test_with_a_limit_masks_and_tracks_of_other_images_are_no_failure(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(tmp_path / "masks" / "far.png")
    masks = MasksSpec(kind="masks", name="seg", path="masks")
    with pytest.raises(curate.errors.TooFewRowsError, match="--limit leaves out"):
        asked_of(masks, ["near.jpg"], tmp_path / "masks", NAMES, beyond=["far.jpg"])
    with pytest.raises(curate.errors.InputError, match="needs a PNG"):
        asked_of(masks, ["near.jpg"], tmp_path / "masks", NAMES, beyond=["other.jpg"])
    (tmp_path / "tracks").mkdir()
    (tmp_path / "tracks" / "far.txt").write_text("1,7,20,10,40,50\n")
    rows = {"label_id": ["a"], "track_id": ["x"], "frame": [0], "width_px": [9], "height_px": [9]}
    far = pa.table({"sample_id": ["s"], "uri": ["u"], "group_video": ["far"]})
    request = Request(
        samples=pa.table({}), labels=pa.table({**rows, "group_video": ["near"]}),
        media=None,  # type: ignore[arg-type] # tracks need no pixel
        classes=("car",), families=np.zeros(1, dtype=np.int64), seed=0, resolve=Path, scratch=tmp_path,
        beyond=Beyond.of(far, pa.table({"label_id": ["b"]})),
    )  # fmt: skip
    one_file = MotSpec(kind="mot", name="m", path=str(tmp_path / "tracks" / "far.txt"))
    for spec in (MotSpec(kind="mot", name="m", path=str(tmp_path / "tracks")), one_file):
        with pytest.raises(curate.errors.TooFewRowsError, match="--limit leaves out"):
            teacher_of(spec).answer(request)


def test_every_kind_that_judges_labels_takes_features_and_cards_of_one_model_share_them() -> None:
    assert OnnxSpec(kind="onnx", name="a", path="a", features="x").features == "x"
    assert TorchSpec(kind="torch", name="a", features="x").features == "x"
    assert TableTeacherSpec(kind="table", name="a", path="a", features="x").features == "x"
    cards = [
        {"name": "a", "features": None, "digest": "1"},
        {"name": "b", "features": None, "digest": "1"},
        {"name": "c", "features": None, "digest": "2"},
        {"name": "c", "features": None, "digest": "2"},  # once for labels, once for tags
        {"name": "d", "features": "x", "digest": "3"},
        {"name": "e", "features": "x", "digest": "4", "left_out": "it learned these labels"},
    ]
    assert shared_features(cards) == {"a": "model 1", "b": "model 1", "d": "x"}


def test_of_whom_no_card_says_it_that_is_said() -> None:
    among, why = independence((0, 0, 2), 3, told=True, unknown=["c"])
    assert (among, why.count("no card says what c stands on, taken for independent of all others")) == (True, 1)
    assert "3 teachers on 2 sorts of features" in why
    apart = independence((0, 1, 2), 3, told=True, unknown=["b", "c"])
    assert apart == (True, "3 teachers, taken for independent: no card says what b, c stand on")
    assert independence((0, 1), 2, told=True) == (True, "2 teachers that are independent by their cards")


@pytest.fixture
def table(folder: Path, tmp_path: Path) -> Path:
    columns = {name: pq.read_table(folder / f"{name}.parquet")[f"prob_{name}"] for name in ("one", "two", "three")}
    uris = pq.read_table(folder / "one.parquet")["uri"].to_pylist()
    made = {"label": [uri.partition("/")[0] for uri in uris], **{f"prob_{n}": c for n, c in columns.items()}}
    pq.write_table(pa.table(made), tmp_path / "table.parquet")
    return tmp_path / "table.parquet"


def flagged(table: Path, *options: str) -> dict[str, Any]:
    words = ["flag", str(table), "--out", str(table.with_name("flags.parquet")), "--json", *options]
    done = typer.testing.CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_flag_is_told_who_shares_features(table: Path) -> None:
    apart = flagged(table)
    assert (apart["regime"], "no card says that they share features" in apart["why"]) == ("independent", True)
    shared = flagged(table, "--same-features", "one,two,three")
    assert (shared["regime"], shared["n_flagged"] < apart["n_flagged"]) == ("shared", True)
    chained = flagged(table, "--same-features", "one,two", "--same-features", "two,three")
    assert chained["why"] == shared["why"]


def test_a_tables_own_metadata_says_who_shares_features(table: Path) -> None:
    read = pq.read_table(table)
    for name in ("prob_one", "prob_two", "prob_three"):
        at = read.schema.get_field_index(name)
        read = read.set_column(at, read.schema.field(at).with_metadata({"features": "pixels"}), read[name])
    pq.write_table(read, table)
    assert flagged(table)["regime"] == "shared"


@pytest.mark.parametrize(
    ("option", "message"),
    [("one,tow", "There is no teacher 'tow'"), ("one", "two or more"), ("one,one", "two or more")],
)
def test_who_shares_features_has_to_be_a_teacher_of_the_table(table: Path, option: str, message: str) -> None:
    words = ["flag", str(table), "--out", str(table.with_name("out.parquet")), "--same-features", option]
    done = typer.testing.CliRunner().invoke(app, words)
    assert isinstance(done.exception, curate.errors.ConfigError)
    assert message in str(done.exception)
