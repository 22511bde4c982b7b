"""Any format of FiftyOne, through the real FiftyOne and a real mongod."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import awkward
import end_to_end as e2e
import numpy as np
import pytest

from curate.adapters.mongod import ensure_database, stop_database
from curate.errors import ConfigError, InputError
from curate.ingest import Ingested, ReadOptions, source_named
from curate.ingest.rle import decode_mask

FIFTYONE = source_named("fiftyone")
pytestmark = [
    pytest.mark.mongo,
    pytest.mark.filterwarnings("default"),  # FiftyOne's own dependencies warn on import
]


@pytest.fixture(scope="module")
def fo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """FiftyOne on a database of its own, whatever the process was connected to before."""
    workspace = tmp_path_factory.mktemp("workspace")
    ensure_database(workspace)
    import fiftyone  # noqa: PLC0415 - after the settings

    yield fiftyone
    stop_database(workspace)


def read(root: Path, **options: object) -> Ingested:
    return FIFTYONE.read(ReadOptions(source="s", root=root, options=options))


def reasons(found: Ingested) -> list[str]:
    return [code for code in found.outcomes["reason_code"].to_pylist() if code]


def test_every_kind_of_label_and_nothing_is_left_behind(fo: Any, tmp_path: Path) -> None:  # noqa: ANN401
    mine = fo.Dataset("somebody-elses")
    images = tmp_path / "made"
    images.mkdir()
    (images / "a b.jpg").write_bytes(awkward.jpeg(1))
    (images / "ü.jpg").write_bytes(awkward.jpeg(2))
    area = np.zeros((16, 24), np.uint8)
    area[2:5, 3:9] = 1
    full = fo.Sample(str(images / "a b.jpg"), tags=["train"])
    full["kind"] = fo.Classification(label="cat")
    full["boxes"] = fo.Detections(
        detections=[
            fo.Detection(label="dog", bounding_box=[0.1, 0.2, 0.3, 0.4], iscrowd=True),
            fo.Detection(label="cup", bounding_box=[3 / 24, 2 / 16, 6 / 24, 3 / 16], mask=np.ones((3, 6), bool)),
            fo.Detection(label="bad", bounding_box=[0.1, 0.2, -0.3, 0.4]),
        ]
    )
    points = [[(0.1, 0.1), (0.5, 0.1), (0.5, 0.5)]]
    full["lines"] = fo.Polylines(
        polylines=[
            fo.Polyline(label="roof", points=points, closed=True, filled=True),
            fo.Polyline(label="wire", points=points),
        ]
    )
    full["area"] = fo.Segmentation(mask=area)
    full["points"] = fo.Keypoints(keypoints=[fo.Keypoint(label="eye", points=[(0.1, 0.1)])])
    none = fo.Sample(str(images / "ü.jpg"), boxes=fo.Detections())
    mine.add_samples([full, none], progress=False)
    mine.mask_targets = {"area": {1: "lake"}}
    mine.save()
    export = tmp_path / "exported"
    mine.export(export_dir=str(export), dataset_type=fo.types.FiftyOneDataset, progress=False)

    options = FIFTYONE.recognises(export)
    assert options == {"type": "fiftyone.types.FiftyOneDataset"}
    found = read(export, **options)
    assert fo.list_datasets() == ["somebody-elses"]
    assert sorted(reasons(found)) == ["box_inverted", "label_kind_not_held", "polyline_open"]
    rows = {row["label"]: row for row in found.labels.to_pylist()}
    assert sorted(rows) == ["cat", "cup", "dog", "lake", "roof"]
    assert (rows["cat"]["task"], rows["lake"]["task"]) == ("classification", "segmentation")
    assert (rows["dog"]["bbox"], rows["dog"]["flags"]) == ([0.1, 0.2, 0.3, 0.4], ["crowd"])
    assert rows["roof"]["polygons"] == [[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]]
    for label in ("cup", "lake"):
        assert (decode_mask(rows[label]["mask"]) == area.astype(bool)).all()
    samples = {Path(row["uri"]).name: row for row in found.samples.to_pylist()}
    assert (samples["a b.jpg"]["split"], samples["a b.jpg"]["label_state"]) == ("train", "labeled")
    assert samples["ü.jpg"]["label_state"] == "negative"
    assert read(export, **options).labels.equals(found.labels)
    mine.delete()


def test_another_type_with_arguments_and_a_broken_source(fo: Any, tmp_path: Path) -> None:  # noqa: ANN401
    for label in ("cat", "dog"):
        (tmp_path / "tree" / label).mkdir(parents=True)
        (tmp_path / "tree" / label / "x.jpg").write_bytes(awkward.jpeg(len(label)))
    found = read(tmp_path / "tree", type="ImageClassificationDirectoryTree")
    assert sorted(found.labels["label"].to_pylist()) == ["cat", "dog"]
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "labels.json").write_text("{")
    with pytest.raises(InputError, match=r"source\.type"):
        read(tmp_path / "bad", type="COCODetectionDataset", arguments={"labels_path": "labels.json"})
    with pytest.raises(ConfigError, match="leads out"):
        read(tmp_path / "bad", type="COCODetectionDataset", arguments={"labels_path": "../x.json"})
    with pytest.raises(ConfigError, match="COCODetectionDataset"):
        read(tmp_path / "bad", type="CocoDetectionDataset")
    with pytest.raises(ConfigError, match=r"source\.fields"):
        read(tmp_path / "tree", type="ImageClassificationDirectoryTree", fields=["nothing"])
    assert fo.list_datasets() == []


def test_the_module_loads_without_fiftyone() -> None:
    code = "import sys, curate.ingest.fiftyone_format; sys.exit('fiftyone' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], check=False, env=os.environ | {"PYTHONPATH": "."}).returncode
        == 0
    )


def test_a_run_reads_through_the_database_of_its_workspace(tmp_path: Path) -> None:
    e2e.write_classes(tmp_path / "tree", n=24)
    source = "{format: fiftyone, path: tree/train, type: ImageClassificationDirectoryTree}"
    spec = e2e.write_spec(tmp_path / "pets.yaml", source)
    home = {"HOME": str(tmp_path / "home")}  # a mongod that FiftyOne starts by itself would keep its data there
    try:
        done = e2e.call("run", spec, "--workspace", tmp_path / "ws", "--no-review", "--json", env=home)
        assert done.code in {0, 1}, done.err
        assert done.json["counts"]["n_labels"] == 18
        assert (tmp_path / "ws" / "mongo" / "data").is_dir()
        assert not list((tmp_path / "home").rglob("mongo*"))
    finally:
        e2e.call("db", "stop", "--workspace", tmp_path / "ws")
