from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import end_to_end as e2e
import numpy as np
import pyarrow as pa
import pytest
import torch

import curate.feed
from curate.errors import ConfigError, InputError, VerificationError
from curate.feed.release import Feed
from curate.feed.rows import rows_of
from curate.manifest import log
from curate.manifest.read import load_manifest, load_table
from curate.policy import Policy

Publish = Callable[..., Any]
QUIET = {"use_default_gates": False}


def test_importing_the_feed_loads_no_torch() -> None:
    code = "import curate.feed, sys; print('torch' in sys.modules, 'cv2' in sys.modules, curate.feed.__all__)"
    told = subprocess.run(
        [sys.executable, "-c", code], env=e2e.environment(), capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout.startswith("False False")
    with pytest.raises(AttributeError, match="Public names"):
        _ = curate.feed.nothing


def test_a_run_of_the_command_line_says_where_the_images_are(finished: e2e.Finished) -> None:
    feed = curate.feed.open("pets@v1", workspace=finished.workspace, split="test")
    assert 0 < len(feed) < 60
    assert feed.dataset()[0]["image"].shape == (3, 24, 24)
    assert set(feed.rows.table["split"].to_pylist()) == {"test"}


def test_what_should_not_be_trained_on_is_refused_unless_told(
    publish_version: Publish, pictures: Path, tmp_path: Path
) -> None:
    def opened(**keys: Any) -> Feed:  # noqa: ANN401 - of open
        return curate.feed.open(keys.pop("version", "pets"), workspace=tmp_path, images=pictures, **keys)

    published = publish_version(pictures, tmp_path, policy=Policy())  # suites that never ran: gates failed
    with pytest.raises(InputError, match="gates: failed"):
        opened()
    assert len(opened(allow_failed_gates=True)) == 45
    published = publish_version(pictures, tmp_path)
    root = tmp_path / "manifests"
    entry = log.LogEntry(log.next_number(root, "pets"), "retract", published.id, log.now(), "here")
    log.put_entry(root, "pets", entry)
    with pytest.raises(InputError, match="gates: failed"):  # a retracted version is not the latest any more
        opened()
    gone = f"pets@{published.id}"
    with pytest.raises(ConfigError, match=r"was retracted .* allow_retracted=True"):
        opened(version=gone)
    assert len(opened(version=gone, allow_retracted=True)) == 45
    part = published.path / "data" / "part-00000.parquet"
    whole = part.read_bytes()
    part.write_bytes(whole[:-9] + b"x" + whole[-8:])
    with pytest.raises(VerificationError, match=r"data/part-00000.parquet was changed"):
        opened(version=gone, allow_retracted=True)


def test_wrong_words_say_which_are_right(workspace: Path, pictures: Path) -> None:
    def opened(name: str = "pets", **keys: Any) -> Feed:  # noqa: ANN401 - of open
        return curate.feed.open(name, workspace=workspace, images=pictures, **keys)

    with pytest.raises(ConfigError, match="Did you mean 'pets'"):
        opened("pet")
    with pytest.raises(ConfigError, match=r"Splits: test, train\. Did you mean 'train'"):
        opened(split="trian")
    with pytest.raises(ConfigError, match="Stored: ensemble"):
        opened(soft="one")
    with pytest.raises(ConfigError, match="no finished run"):
        curate.feed.open("pets", workspace=workspace)


def test_what_a_person_decided_is_settled(workspace: Path, feed: Feed) -> None:
    root = workspace / "manifests"
    path = log.resolve(root, "pets")
    manifest, _ = load_manifest(path)
    data = load_table(path, manifest, "data")
    codes: list[list[str]] = [[] for _ in range(data.num_rows)]
    codes[1], codes[2], codes[3] = ["decision_stale", "blurry"], ["blurry", "decision_keep"], ["decision_relabel"]
    column = pa.array(codes, data.schema.field("reason_codes").type)
    told = data.set_column(data.schema.get_field_index("reason_codes"), "reason_codes", column)
    rows = rows_of(told, None, feed.classes, split=None, by_image=False)
    assert np.flatnonzero(rows.settled).tolist() == [2, 3]
    (batch,) = feed.stream(batch_size=45, shuffle=False)
    assert batch["settled"].tolist() == [False] * 45
    assert curate.feed.targets(batch)["settled"] is batch["settled"]


def test_stale_soft_labels_are_refused(workspace: Path, pictures: Path, feed: Feed) -> None:
    with pytest.raises(InputError, match=r"another class list .*added: gnu"):
        curate.feed.open("pets", workspace=workspace, images=pictures, classes=[*feed.classes, "gnu"])
    with pytest.raises(InputError, match="The model of the teacher one changed"):
        curate.feed.open("pets", workspace=workspace, images=pictures, teachers=[{"name": "one", "digest": "00"}])
    with pytest.raises(InputError, match=r"nothing of the teacher lost; they are of one"):
        curate.feed.open("pets", workspace=workspace, images=pictures, teachers=[{"name": "lost", "digest": "00"}])
    same = curate.feed.open("pets", workspace=workspace, images=pictures, classes=feed.classes)
    assert same.classes == feed.classes


def test_soft_labels_of_one_teacher_at_another_layout(
    publish_version: Publish, pictures: Path, tmp_path: Path
) -> None:
    policy = Policy(soft_layout="sampled", soft_top_k=1, soft_each_teacher=True, temperature=2.0, **QUIET)
    publish_version(pictures, tmp_path, policy=policy, silent=(3,))
    ensemble, one = (
        curate.feed.open("pets", workspace=tmp_path, images=pictures, soft=soft) for soft in ("ensemble", "one")
    )
    assert (ensemble.temperature, one.temperature) == (2.0, 2.0)
    (batch,) = one.stream(batch_size=45)
    soft = batch["soft"]
    assert {name: tuple(value.shape) for name, value in soft.items()} == {
        "top_classes": (45, 1), "top_probs": (45, 1), "tail_mass": (45,), "tail_classes": (45, 1),
        "known": (45,), "temperature": (45,),
    }  # fmt: skip
    assert soft["known"].sum() == 44
    assert soft["top_classes"].dtype == torch.int64
    (other,) = ensemble.stream(batch_size=45)
    assert not torch.equal(other["soft"]["top_probs"], soft["top_probs"])
    logits = torch.zeros(45, 3, requires_grad=True)
    curate.feed.distillation_loss(logits, **curate.feed.targets(batch)).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_no_soft_labels(publish_version: Publish, pictures: Path, tmp_path: Path, workspace: Path) -> None:
    assert curate.feed.open("pets", workspace=workspace, images=pictures, soft=None).temperature is None
    publish_version(pictures, tmp_path, policy=Policy(soft_labels=False, **QUIET))
    (batch,) = curate.feed.open("pets", workspace=tmp_path, images=pictures).stream(batch_size=45)
    assert "soft" not in batch
    assert curate.feed.distillation_loss(torch.zeros(45, 3), **curate.feed.targets(batch)) > 0
    with pytest.raises(ConfigError, match="holds no soft labels"):
        curate.feed.open("pets", workspace=tmp_path, images=pictures, soft="one")


def boxes_source(root: Path) -> Path:
    """Write three pictures with COCO boxes: two, none (negative) and one."""
    root.mkdir()
    for at in range(3):
        e2e.picture(at, at, 40).save(root / f"{at}.png")
    annotations = [
        {"id": 1, "image_id": 0, "category_id": 1, "bbox": [4, 8, 10, 20]},
        {"id": 2, "image_id": 0, "category_id": 2, "bbox": [0, 0, 40, 40]},
        {"id": 3, "image_id": 2, "category_id": 2, "bbox": [20, 10, 20, 30]},
    ]
    images = [{"id": at, "file_name": f"{at}.png", "width": 40, "height": 40} for at in range(3)]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "boxes.json").write_text(json.dumps(content), encoding="utf-8")
    return root


def test_boxes_are_targets_of_their_image(publish_version: Publish, tmp_path: Path) -> None:
    root = boxes_source(tmp_path / "data")
    how = {"format": "coco", "options": {"annotations": "boxes.json"}}
    publish_version(root, tmp_path / "ws", how=how)
    feed = curate.feed.open("pets", workspace=tmp_path / "ws", images=root)
    assert (feed.task, len(feed)) == ("detection", 3)
    items = {
        Path(feed.rows.table["uri"][int(feed.rows.starts[at])].as_py()).name: feed.dataset()[at] for at in range(3)
    }
    two = items["0.png"]
    by_class = sorted(zip(two["labels"].tolist(), two["boxes"].tolist(), strict=True))
    assert [label for label, _ in by_class] == [0, 1]
    np.testing.assert_allclose([box for _, box in by_class], [[0.1, 0.2, 0.35, 0.7], [0, 0, 1, 1]], atol=1e-6)
    assert two["soft"]["probs"].shape == (2, 2)
    assert items["1.png"]["boxes"].shape == (0, 4)
    assert items["1.png"]["labels"].shape == (0,)
    (batch,) = feed.stream(batch_size=3, size_px=(20, 20))
    assert batch["image"].shape == (3, 3, 20, 20)
    assert sorted(len(boxes) for boxes in batch["boxes"]) == [0, 1, 2]


def test_a_manifest_is_read_with_pyarrow_alone(workspace: Path) -> None:
    version = next((workspace / "manifests" / "pets" / "versions").iterdir())
    code = (
        "import sys, pyarrow.parquet as pq; sys.modules['curate'] = None\n"
        f"data, soft = (pq.read_table(r'{version}/' + kind) for kind in ('data', 'soft'))\n"
        "assert data['label_id'].equals(soft['label_id'])\n"
        "print(data.num_rows, soft['probs'].type, soft.schema.metadata[b'temperature'].decode())"
    )
    told = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout.split() == ["45", "fixed_size_list<element:", "halffloat>[3]", "1.0"]


def test_masks_beside_other_labels_are_refused() -> None:
    from curate.feed.rows import rows_of  # noqa: PLC0415 - only here
    from curate.manifest.tables import DATA  # noqa: PLC0415 - as above

    rows = {f.name: pa.nulls(2, f.type) for f in DATA} | {"task": pa.array(["segmentation", "detection"])}
    with pytest.raises(InputError, match=r"masks beside labels of other tasks \(detection, segmentation\)"):
        rows_of(pa.table(rows), None, ["x"], split=None, by_image=True)
