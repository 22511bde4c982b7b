from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from curate.errors import InputError
from curate.manifest import publish, verify
from curate.manifest.build import Release
from curate.manifest.stale import refuse_other_teachers
from curate.policy import Policy

Worlds = Callable[..., Any]


def build(world: Any, **changes: Any) -> Release:  # noqa: ANN401 - a world and keywords of build_release
    """Return the release of a world whose predictions say what they were made for, with some of it changed."""
    from curate.manifest.build import build_release  # noqa: PLC0415 - only here

    predictions = world.predictions()
    of = dict(zip(world.labels()["label_id"].to_pylist(), world.labels()["sample_id"].to_pylist(), strict=True))
    sha = dict(zip(world.scan()["sample_id"].to_pylist(), world.scan()["content_sha256"].to_pylist(), strict=True))
    hashes = [sha[of[label]] for label in predictions["label_id"].to_pylist()]
    for at, value in changes.pop("bytes_then", {}).items():
        hashes[at] = value
    about = {"classes": json.dumps(changes.pop("classes_then", ["cat", "dog", "fox"]))}
    about["teachers"] = json.dumps(changes.pop("teachers_then", {"probe": "ab" * 32}))
    predictions = predictions.append_column("content_sha256", pa.array(hashes, pa.string()))
    return build_release(
        samples=world.samples(),
        labels=world.labels(),
        scan=world.scan(),
        verdicts=world.verdicts(),
        findings=world.findings(),
        outcomes=world.outcomes(),
        policy=world.policy,
        classes=("cat", "dog", "fox"),
        predictions=predictions.replace_schema_metadata(about),
        cards=[{"name": "probe", "digest": "ab" * 32, "preprocessing": "RGB 32 px"}],
        **changes,
    )


def test_fresh_soft_labels_say_what_they_were_made_for(world: Worlds, tmp_path: Any) -> None:  # noqa: ANN401 - a path
    release = build(world())
    assert release.soft is not None
    assert release.soft["made_for"].null_count == release.soft["probs"].null_count
    told = release.head["soft"]
    assert told["teachers"] == {"probe": {"digest": "ab" * 32, "preprocessing": "RGB 32 px"}}
    published = publish(release, tmp_path, "zoo")
    promise = next(promise for promise in verify(published.path) if promise.name == "soft labels")
    assert promise.ok
    assert "none is stale" in promise.detail


def test_other_image_bytes_are_refused_by_name(world: Worlds) -> None:
    with pytest.raises(
        InputError, match=r"1 of \d+ rows were made for other image bytes: pictures/é 2.PNG"
    ) as caught:
        build(world(), bytes_then={1: "99" * 32})
    assert "judge what changed (these images)" in str(caught.value)


@pytest.mark.parametrize(
    ("then", "said"),
    [
        (["cat", "dog"], "added: fox"),
        (["cat", "dog", "fox", "gnu"], "gone: gnu"),
        (["dog", "cat", "fox"], "the same in another order"),
    ],
)
def test_another_class_list_is_refused(world: Worlds, then: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        build(world(), classes_then=then)


def test_another_teacher_is_refused_by_name(world: Worlds) -> None:
    with pytest.raises(
        InputError, match=r"The model of the teacher probe changed .* eeeeeeeeeeee then, abababababab"
    ):
        build(world(), teachers_then={"probe": "ee" * 32})


def test_changed_preprocessing_is_told_from_a_changed_model() -> None:
    then = {"a": {"digest": "1", "preprocessing": "RGB 32 px"}}
    with pytest.raises(
        InputError, match=r"The preprocessing of the teacher a changed .*RGB 32 px then, RGB 64 px now"
    ):
        refuse_other_teachers(then, {"a": {"digest": "2", "preprocessing": "RGB 64 px"}})
    refuse_other_teachers(then, {"b": {"digest": "2"}})
    refuse_other_teachers(then, then)


def test_verify_finds_soft_labels_of_other_images(world: Worlds, tmp_path: Any) -> None:  # noqa: ANN401 - a path
    release = build(world())
    assert release.soft is not None
    at = release.soft.column_names.index("made_for")
    keys = [None if key is None else key + 1 for key in release.soft["made_for"].to_pylist()]
    other = release.soft.set_column(at, "made_for", pa.array(keys, pa.uint64()))
    from dataclasses import replace  # noqa: PLC0415 - only here

    published = publish(replace(release, soft=other), tmp_path, "zoo")
    promise = next(promise for promise in verify(published.path) if promise.name == "soft labels")
    assert promise.ok is False
    assert "were made for other image bytes" in promise.detail


def test_the_layout_that_the_policy_asks_for_is_stored(world: Worlds) -> None:
    policy = Policy(soft_layout="top_k", soft_top_k=1, soft_each_teacher=True, temperature=2.0)
    release = build(world(policy=policy))
    assert release.soft is not None
    assert release.soft.column_names[3:] == [
        "top_classes", "top_probs", "tail_mass", "top_classes_probe", "top_probs_probe", "tail_mass_probe",
    ]  # fmt: skip
    told = release.head["soft"]
    assert (told["layout"], told["top_k"], told["temperature"], told["each_teacher"]) == (
        "top_k", 1, "2.0", ["probe"],
    )  # fmt: skip
