"""Any format of FiftyOne, through the real FiftyOne and a real mongod."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import awkward
import numpy as np
import pytest

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
    package = importlib.util.find_spec("fiftyone")
    assert package is not None
    assert package.origin is not None
    binary = Path(package.origin).parent / "db" / "bin" / "mongod"
    folder = tmp_path_factory.mktemp("mongo")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(binary), "--dbpath", str(folder), "--port", str(port), "--bind_ip", "127.0.0.1"]
    given = {
        "FIFTYONE_DATABASE_URI": f"mongodb://127.0.0.1:{port}",
        "FIFTYONE_DATABASE_VALIDATION": "false",
        "FIFTYONE_DO_NOT_TRACK": "1",
    }
    with (folder / "log.txt").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as mongod:
        try:
            for _ in range(100):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            with pytest.MonkeyPatch.context() as patch:
                for name, value in given.items():
                    patch.setenv(name, value)
                patch.setenv("HOME", str(folder))
                import fiftyone  # noqa: PLC0415 - after the settings

                fiftyone.config.database_uri = given["FIFTYONE_DATABASE_URI"]
                yield fiftyone
        finally:
            mongod.terminate()


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
