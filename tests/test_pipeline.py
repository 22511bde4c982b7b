"""The pipeline end to end, in processes of its own: what a run leaves, and that it leaves the same each time."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import end_to_end as e2e
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest


def versions(workspace: Path, name: str = "pets") -> list[str]:
    return sorted(path.name for path in (workspace / "manifests" / name / "versions").iterdir())


def released(run: dict[str, Any]) -> list[dict[str, Any]]:
    return ds.dataset(Path(run["manifest"]) / "data").to_table().to_pylist()


def excluded(run: dict[str, Any]) -> list[dict[str, Any]]:
    folder = Path(run["manifest"]) / "excluded"
    return [row for file in sorted(folder.rglob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def test_a_run_says_one_json_object_on_stdout_and_its_progress_on_stderr(finished: e2e.Finished) -> None:
    run = finished.done.json
    assert run["exit_code"] == finished.done.code == 0
    assert run["counts"]["n_images"] == 60
    assert run["counts"]["n_released"] + run["counts"]["n_excluded"] == 60
    for stage in ("ingest", "scan", "teachers", "manifest", "report"):
        assert f"✓ {stage}" in finished.done.err
    assert "Traceback" not in finished.done.err
    assert all(line.lstrip().startswith("✓") for line in finished.done.err.splitlines())


def test_a_run_leaves_what_it_says(finished: e2e.Finished) -> None:
    run = finished.done.json
    assert Path(run["report"]).read_text(encoding="utf-8").lower().startswith("<!doctype html>")
    assert Path(run["manifest"]).name == run["id"]
    record = json.loads(Path(run["run"]).read_text(encoding="utf-8"))
    assert record["state"] == "done"
    assert all(stage["seconds"] >= 0 for stage in record["stages"])
    rows = released(run)
    assert len(rows) == run["counts"]["n_released"]
    assert {row["split"] for row in rows} == {"train", "test"}
    assert {row["given_label"] for row in rows} == {"cat", "dog", "eel"}
    for row in rows:
        assert f"/{row['given_label']}/" in f"/{row['uri']}"
        assert (finished.folder / "data" / row["uri"]).is_file()


def test_a_second_run_publishes_nothing_and_computes_no_stage(finished: e2e.Finished, tmp_path: Path) -> None:
    workspace = tmp_path / "ws"
    shutil.copytree(finished.workspace, workspace)  # a copied workspace goes on as well as the first one
    again = e2e.call("run", finished.spec, "--workspace", workspace, "--no-review", "--json", "--quiet")
    assert again.code == 0, again.err
    assert again.err == ""
    assert again.json["id"] == finished.id
    assert again.json["is_new"] is False
    assert versions(workspace) == [finished.id]
    record = json.loads(Path(again.json["run"]).read_text(encoding="utf-8"))
    keyed = [stage for stage in record["stages"] if "key" in stage or stage["stage"] == "scan"]
    assert len(keyed) > 8
    assert [stage["stage"] for stage in keyed if not stage["cached"]] == []


def test_a_run_writes_a_damaged_version_again_and_says_so(finished: e2e.Finished, tmp_path: Path) -> None:
    workspace = tmp_path / "ws"
    shutil.copytree(finished.workspace, workspace)
    version = workspace / "manifests" / "pets" / "versions" / finished.id
    table = min((version / "data").rglob("*.parquet"))
    for path in (version, *version.rglob("*")):
        path.chmod(0o755)
    table.write_bytes(table.read_bytes()[:-9])
    verified = e2e.call("verify", "pets", "--workspace", workspace, "--quiet")
    assert verified.code == 5
    assert "Restore it from a copy; or curate run on the same input writes it again" in verified.out
    again = e2e.call("run", finished.spec, "--workspace", workspace, "--no-review", "--json", "--quiet")
    assert (again.code, again.json["id"], again.json["is_new"]) == (0, finished.id, False)
    assert again.json["repaired"] is True
    assert e2e.call("verify", "pets", "--workspace", workspace, "--quiet").code == 0


def test_another_folder_another_time_and_another_worker_count_give_the_same_id(
    finished: e2e.Finished, tmp_path: Path
) -> None:
    data = tmp_path / "moved to" / "bilder ü"
    shutil.copytree(finished.folder / "data", data)
    for file in data.rglob("*.png"):
        os.utime(file, (1_000_000_000, 1_000_000_000))
    spec = e2e.write_spec(tmp_path / "other.yaml", "{format: folder, path: moved to/bilder ü}")
    done = e2e.call("run", spec, "--workspace", tmp_path / "w", "--no-review", "--json", "--workers", "1")
    assert done.code == 0, done.err
    assert done.json["is_new"] is True
    assert done.json["id"] == finished.id


@pytest.fixture(scope="module")
def gate_failed(finished: e2e.Finished, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, e2e.Done]:
    """A second version over the same images: one label changed, one gate that cannot be reached."""
    folder = tmp_path_factory.mktemp("changed")
    shutil.copytree(finished.workspace, folder / "ws")
    shutil.copytree(finished.folder / "data", folder / "data")
    (folder / "data/train/cat/003.png").rename(folder / "data/train/dog/003.png")
    gates = "policy: {gates: [{statistic: release.share_excluded, min: 0.99, level: fail}]}\n"
    spec = e2e.write_spec(folder / "pets.yaml", "{format: folder, path: data}", rest=e2e.FAST_TEACHER + gates)
    done = e2e.call("run", spec, "--workspace", folder / "ws", "--no-review", "--json")
    return folder, done


def test_a_failed_gate_is_exit_code_1_and_the_version_is_published_marked_failed(
    finished: e2e.Finished, gate_failed: tuple[Path, e2e.Done]
) -> None:
    folder, done = gate_failed
    assert done.code == 1, done.err
    assert done.json["gates"] == "failed"
    assert any(gate["outcome"] == "fail" for gate in done.json["gates_not_passed"])
    assert versions(folder / "ws") == sorted([finished.id, done.json["id"]])
    log = e2e.call("log", "pets", "--workspace", folder / "ws", "--json")
    assert log.code == 0, log.err
    assert [(entry["id"], entry["number"], entry["gates"]) for entry in log.json["versions"]] == [
        (done.json["id"], 2, "failed"),
        (finished.id, 1, finished.done.json["gates"]),
    ]
    head = json.loads((Path(done.json["manifest"]) / "manifest.json").read_text(encoding="utf-8"))
    assert "failed" in json.dumps(head["gates"])


def test_images_without_any_label_are_released_and_say_what_was_not_judged(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    for seed in range(8):
        e2e.picture(seed, seed).save(tmp_path / "plain" / f"{seed}.png")
    spec = e2e.write_spec(tmp_path / "plain.yaml", "{format: folder, path: plain}", name="plain")
    done = e2e.call("run", spec, "--workspace", tmp_path / "ws", "--no-review", "--json")
    assert done.code == 0, done.err
    assert done.json["counts"] == {**done.json["counts"], "n_images": 8, "n_labels": 0, "n_released": 8}
    assert done.json["gates"] == "warned"
    why = {gate["statistic"]: gate["message"] for gate in done.json["gates_not_passed"]}
    assert "no teacher has given predictions" in why["label_noise.noise_rate"]
    rows = released(done.json)
    assert {(row["label_state"], row["released_label"], row["action"]) for row in rows} == {
        ("unlabeled", None, "keep")
    }
    assert e2e.call("verify", "plain", "--workspace", tmp_path / "ws").code == 0
    assert not (Path(done.json["manifest"]) / "soft").exists()


def test_another_dataset_under_the_same_name_is_told(finished: e2e.Finished, tmp_path: Path) -> None:
    workspace = Path(shutil.copytree(finished.workspace, tmp_path / "ws"))
    for image in sorted((finished.folder / "data").rglob("*.png")):
        other = tmp_path / "data" / image.parent.relative_to(finished.folder / "data") / f"other-{image.name}"
        other.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(image, other)
    spec = e2e.write_spec(tmp_path / "pets.yaml", "{format: folder, path: data}")
    done = e2e.call("run", spec, "--workspace", workspace, "--no-review", "--json", "--quiet")
    (note,) = done.json["notes"]
    assert finished.id[:7] in note
    assert "another name" in note
    assert finished.done.json["notes"] == []


def test_diff_says_which_label_changed(finished: e2e.Finished, gate_failed: tuple[Path, e2e.Done]) -> None:
    folder, done = gate_failed
    told = e2e.call("diff", "pets@v1", "v2", "--workspace", folder / "ws", "--json")
    assert told.code == 0, told.err
    assert (told.json["before"], told.json["after"]) == (finished.id, done.json["id"])
    assert {row["uri"] for row in told.json["rows"]} >= {"train/cat/003.png", "train/dog/003.png"}
    people = e2e.call(
        "diff", f"pets@{finished.id[:10]}", f"pets@{done.json['id'][:10]}", "--workspace", folder / "ws"
    )
    assert people.code == 0, people.err
    assert "train/dog/003.png" in people.out
    same = e2e.call("diff", "pets@v2", "pets@v2", "--workspace", folder / "ws")
    assert same.code == 0, same.err
    assert "No released row differs" in same.out
