"""Images with several labels through the whole flow: table in, findings, verdicts, a reviewer, manifest, feed."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import curate
from curate import schema
from curate.errors import ConfigError
from curate.manifest.verify import verify

sys.path.insert(0, str(Path(__file__).parent))  # tests are no package
from tagged_world import CLASSES, World, listed, make_world

N = 600


def write_spec(folder: Path, **more: Any) -> Path:  # noqa: ANN401 - YAML values
    source = {"format": "table", "path": "tags.parquet", "columns": {"image": "image", "label": "labels"}}
    path = folder / "tags.yaml"
    path.write_text(yaml.safe_dump({"name": "tags", "source": source, "classes": list(CLASSES)} | more))
    return path


def write_table(folder: Path, world: World) -> None:
    names = pa.array([listed(row) for row in world.given], pa.list_(pa.string()))
    pq.write_table(
        pa.table({"image": [f"images/{name}" for name in world.names], "labels": names}), folder / "tags.parquet"
    )


def places(tables: Any, world: World) -> np.ndarray:  # noqa: ANN401 - tables of a run
    """Return bool (n, K): which answers are flagged."""
    uri = dict(zip(tables["samples"]["sample_id"].to_pylist(), tables["samples"]["uri"].to_pylist(), strict=True))
    label = dict(zip(tables["labels"]["label_id"].to_pylist(), tables["labels"]["label"].to_pylist(), strict=True))
    found = np.zeros_like(world.wrong)
    for row in tables["findings"].to_pylist():
        if row["check"] == "multi_label_noise":
            assert (row["issue"] == "extra_label") == (row["label_id"] is not None)
            name = label.get(row["label_id"]) or row["suggested_label"]
            found[world.names.index(Path(uri[row["sample_id"]]).name), CLASSES.index(name)] = True
    return found


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, World, curate.RunResult]:
    folder = tmp_path_factory.mktemp("tagged")
    world = make_world(folder / "images", N)
    write_table(folder, world)
    return folder, world, curate.run(write_spec(folder), workspace=folder / "workspace", review=False)


def test_probes_find_labels_that_are_wrongly_there_and_those_left_out(
    probed: tuple[Path, World, curate.RunResult],
) -> None:
    _, world, result = probed
    found = places(result.tables, world)
    for has in (False, True):  # left out, wrongly there
        kind = world.given == has
        hit = (found & kind & world.wrong).sum()
        assert hit / (found & kind).sum() > 0.75
        assert hit / (world.wrong & kind).sum() > 0.55


def test_the_release_says_of_each_label_what_becomes_of_it(probed: tuple[Path, World, curate.RunResult]) -> None:
    _, world, result = probed
    assert result.published is not None
    version = result.published.path
    assert all(promise.ok is not False for promise in verify(version, deep=True))
    data, soft = pq.read_table(version / "data"), pq.read_table(version / "soft")
    excluded, findings = pq.read_table(version / "excluded"), pq.read_table(version / "findings")
    assert set(data["task"].to_pylist()) == {schema.MULTI_LABEL, None}
    left_out = [row for row in findings.to_pylist() if row["issue"] == "missing_label"]
    released = set(data["sample_id"].to_pylist())
    waiting = [row for row in excluded.to_pylist() if row["action"] == "review"]
    ignored = {(row["sample_id"], row["label"]) for row in pq.read_table(version / "ignore").to_pylist()}
    asked = {(row["sample_id"], row["suggested_label"]) for row in left_out}
    asked |= {(row["sample_id"], row["given_label"]) for row in waiting}
    assert ignored == {(sample, label) for sample, label in asked if sample in released}
    assert any(row["sample_id"] in released for row in left_out), "what is missing holds back none of what is there"
    probs = np.array(soft["probs"].to_pylist())
    assert np.abs(probs.sum(axis=1) - 1).max() > 0.5  # each class alone
    states = dict(
        zip(
            result.tables["samples"]["uri"].to_pylist(),
            result.tables["samples"]["label_state"].to_pylist(),
            strict=True,
        )
    )
    none = [f"images/{name}" for name, row in zip(world.names, world.given, strict=True) if not row.any()]
    assert {states[uri] for uri in none} == {"negative"}
    statistics = {(row["check"], row["name"], row["group"]): row for row in result.tables["statistics"].to_pylist()}
    assert statistics["label_noise", "applies", None]["value"] == 0
    assert statistics["multi_label_noise", "share_left_out", "class=disc"]["n"] > 0
    assert statistics["teachers", "ran", "teacher=probes_linear"]["value"] == 1


def test_the_feed_hands_out_an_image_with_all_its_labels(probed: tuple[Path, World, curate.RunResult]) -> None:
    torch = pytest.importorskip("torch")
    import curate.feed  # noqa: PLC0415 - torch
    from curate.export.packed import export_packed  # noqa: PLC0415 - torch

    folder, world, _ = probed
    feed = curate.feed.open("tags", workspace=folder / "workspace", split=None)
    assert feed.task == schema.MULTI_LABEL
    uris = feed.rows.places()["uri"].to_pylist()
    assert len(set(uris)) == len(uris)
    unknown = {True: 0, False: 0}
    for uri, tags in zip(uris, feed.rows.tags, strict=True):
        given = world.given[world.names.index(Path(uri).name)]
        assert ((tags == given) | np.isnan(tags)).all()
        for there in unknown:  # a label that waits, or may be missing, is neither there nor not
            unknown[there] += int((given[np.isnan(tags)] == there).sum())
    assert min(unknown.values()) > 0
    batch = next(iter(feed.stream(batch_size=16, size_px=(16, 16), seed=0)))
    assert batch["label"].shape == (16, len(CLASSES))
    logits = torch.zeros(16, len(CLASSES), requires_grad=True)
    loss = curate.feed.multi_label_loss(logits, **curate.feed.targets(batch))
    assert loss.item() == pytest.approx(np.log(2), abs=1e-6)  # of a coin, whatever the target
    loss.backward()
    assert torch.isfinite(logits.grad).all()
    with pytest.raises(ConfigError, match="several labels"):
        export_packed(feed, folder / "hf", format="hf")


def test_what_is_not_known_counts_nothing_in_the_loss() -> None:
    torch = pytest.importorskip("torch")
    from curate.feed import multi_label_loss  # noqa: PLC0415 - torch

    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]])
    hard = torch.tensor([[1.0, torch.nan], [torch.nan, torch.nan]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[0, :1], hard[0, :1])
    assert multi_label_loss(logits, None, hard).item() == pytest.approx(expected.item())
    soft = {"probs": torch.tensor([[0.2, 0.7], [0.5, 0.5]]), "known": torch.tensor([True, False])}
    target = torch.tensor([0.25 * 0.2 + 0.75, 0.7])
    both = torch.nn.functional.binary_cross_entropy_with_logits(logits[0], target)
    assert multi_label_loss(logits, soft, hard, alpha=0.25).item() == pytest.approx(both.item())


def with_table_teacher(folder: Path, world: World) -> Path:
    """Write a teacher that knows the truth fairly well, and a spec that asks it alone."""
    rng = np.random.default_rng(5)
    odds = np.where(world.true, 2.5, -2.5) + rng.normal(0, 1.0, world.true.shape)
    probs = 1 / (1 + np.exp(-odds))
    columns = {name: probs[:, at] for at, name in enumerate(CLASSES)}
    pq.write_table(
        pa.table({"uri": [f"images/{name}" for name in world.names], **columns}), folder / "probs.parquet"
    )
    teacher = {"kind": "table", "name": "theirs", "path": "probs.parquet"}
    return write_spec(
        folder, teachers=[teacher], checks={"duplicates": False, "leakage": False, "image_quality": False}
    )


def test_a_reviewers_labels_are_released_and_what_they_answer_is_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CURATE_REVIEWER", "Ann")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # FiftyOne's own, at import
        import fiftyone as fo  # noqa: PLC0415 - seconds
    world = make_world(tmp_path / "images", 300, seed=3)
    write_table(tmp_path, world)
    spec, workspace = with_table_teacher(tmp_path, world), tmp_path / "workspace"
    first = curate.run(spec, workspace=workspace)
    found = places(first.tables, world)
    assert (found & world.wrong).sum() > 0.7 * world.wrong.sum()
    assert (found & world.wrong).sum() > 0.7 * found.sum()
    by_sample: dict[str, list[dict[str, Any]]] = {}
    for row in first.tables["findings"].to_pylist():
        by_sample.setdefault(row["sample_id"], []).append(row)
    missing = next(s for s, rows in by_sample.items() if [r["issue"] for r in rows] == ["missing_label"])
    extra = next(r for rows in by_sample.values() for r in rows if r["issue"] == "extra_label")

    dataset = fo.load_dataset("curate-tags")
    sample = dataset[missing]
    assert sample["missing_labels"] == [by_sample[missing][0]["suggested_label"]]
    sample.tags.append("curate:accept")
    sample.save()
    sample = dataset[extra["sample_id"]]
    label = next(one for one in sample.ground_truth.classifications if one.id == extra["label_id"])
    assert "extra_label" in label["issues"]
    label.tags.append("curate:accept")
    sample.save()

    second = curate.run(spec, workspace=workspace)
    assert second.published is not None
    assert all(promise.ok is not False for promise in verify(second.published.path, deep=True))
    rows = pq.read_table(second.published.path / "data").to_pylist()
    mine = [row for row in rows if row["sample_id"] == missing]
    assert by_sample[missing][0]["suggested_label"] in [row["released_label"] for row in mine]
    assert {row["action"] for row in mine} == {"keep"}
    assert {row["label_state"] for row in mine} == {"labeled"}
    assert all("decision_box_added" in row["reason_codes"] for row in mine)
    assert extra["label_id"] not in [row["label_id"] for row in rows]
    gone = pq.read_table(second.published.path / "excluded").to_pylist()
    assert next(row for row in gone if row["label_id"] == extra["label_id"])["action"] == "drop"
    third = curate.run(spec, workspace=workspace)  # the App still shows the marks, and says nothing new
    assert third.published is not None
    assert third.published.id == second.published.id
    assert not third.published.is_new


def test_a_bad_table_of_probabilities_is_named(tmp_path: Path) -> None:
    world = make_world(tmp_path / "images", 40)
    write_table(tmp_path, world)
    spec = with_table_teacher(tmp_path, world)
    table = pq.read_table(tmp_path / "probs.parquet")
    wrong = table.set_column(1, table.column_names[1], pa.array([1.5] + [0.2] * 39))
    pq.write_table(wrong, tmp_path / "probs.parquet")
    result = curate.run(spec, workspace=tmp_path / "workspace", review=False)
    failed = next(row for row in result.tables["statistics"].to_pylist() if row["group"] == "teacher=theirs")
    assert failed["outcome"] == "errored"
    assert "a number from 0 to 1 for each class" in json.loads(failed["detail"])["message"]
    assert int(result.exit_code) == 1  # a check that could not run is no pass


def test_the_spec_cannot_ask_for_several_labels_of_a_folder(tmp_path: Path) -> None:
    make_world(tmp_path / "images" / "disc", 3)
    source = {"format": "folder", "path": "images"}
    spec = write_spec(tmp_path, source=source, classes="infer", task="multi_label")
    with pytest.raises(ConfigError, match="list the images in a table"):
        curate.run(spec, workspace=tmp_path / "workspace", review=False)
