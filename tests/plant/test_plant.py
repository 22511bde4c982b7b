"""`curate plant` as a user calls it: the pipeline runs on a copy, and nothing real is touched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import end_to_end as e2e
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image


def state_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_errors_are_planted_in_a_copy_found_and_counted(finished: e2e.Finished, tmp_path: Path) -> None:
    workspace = tmp_path / "ws"
    shutil.copytree(finished.workspace, workspace)
    published = state_of(workspace / "manifests")
    told = e2e.call(
        "plant", finished.spec, "--workspace", workspace, "--share", "0.1", "--budget", "12", "--json", "--quiet"
    )
    assert told.code == 0, told.err
    found = told.json
    assert found["name"] == "pets-planted"
    assert found["budget"] == 12
    assert [kind["kind"] for kind in found["kinds"]] == ["hard", "class", "uniform"]
    assert sum(kind["n"] for kind in found["kinds"]) == found["n_planted"] >= 15
    n_found = sum(kind["n_in_budget"] for kind in found["kinds"])
    assert n_found == found["n_planted_in_budget"] == round(found["precision"]["value"] * 12)
    assert found["precision"]["low"] < found["precision"]["value"] <= found["precision"]["high"]
    assert state_of(workspace / "manifests") == published
    assert not (workspace / "pets-planted" / "ledger").exists()
    kept = json.loads((workspace / "pets-planted" / "planted.json").read_text())
    assert len(kept["planted"]) == found["n_planted"]
    again = e2e.call(
        "plant", finished.spec, "--workspace", workspace, "--share", "0.1", "--budget", "12", "--json", "-q"
    )
    assert again.json == found


def test_a_wrong_kind_is_a_usage_error(finished: e2e.Finished, tmp_path: Path) -> None:
    shutil.copytree(finished.workspace, tmp_path / "ws")
    ended = e2e.call("plant", finished.spec, "--workspace", tmp_path / "ws", "--kinds", "uniform,drop", "--quiet")
    assert ended.code == 2
    assert "'drop' is for detection or tracking" in ended.err


@pytest.mark.parametrize("declared", [True, False])
def test_several_labels_an_image_are_refused_with_what_is_supported(tmp_path: Path, *, declared: bool) -> None:
    for at in range(4):
        picture = np.full((16, 16, 3), 40 * at, np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{at}.png")
    tags = pa.array([["a"], ["a", "b"], [], ["b"]], pa.list_(pa.string()))
    pq.write_table(pa.table({"image": [f"{at}.png" for at in range(4)], "tags": tags}), tmp_path / "tags.parquet")
    source = {"format": "table", "path": "tags.parquet", "columns": {"image": "image", "label": "tags"}}
    spec = {"name": "tags", "source": source, "classes": ["a", "b"]} | ({"task": "multi_label"} if declared else {})
    (tmp_path / "tags.yaml").write_text(yaml.safe_dump(spec))
    ended = e2e.call("plant", tmp_path / "tags.yaml", "--workspace", tmp_path / "ws", "--quiet")
    assert ended.code == 2
    told = " ".join(ended.err.split())
    assert "cannot plant errors in several labels an image (task: multi_label)" in told
    assert "classification (one label an image), detection, segmentation and tracking" in told
    assert (tmp_path / "ws").exists() is not declared  # nothing runs where the spec says it
