"""Class maps of a release: pooled, at a temperature, in each layout and back; and what is refused as stale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curate.errors import InputError
from curate.manifest.soft import image_keys
from curate.manifest.soft_layout import AskedLayout, Layout
from curate.manifest.soft_masks import GROUP_ROWS, cell_layout, dense_maps, make_soft_masks
from curate.manifest.tables import DATA
from curate.policy import Policy
from curate.spec import MasksSpec
from curate.teachers.regions.class_maps import ClassMaps, Picture, write_maps
from curate.teachers.regions.segmenters import asked_of

N, SIZE = 11, (6, 8)


def hash_of(n: int) -> str:
    return f"{n:064x}"[::-1]


def maps_of(root: Path, name: str, answers: dict[int, np.ndarray], classes: Sequence[str]) -> ClassMaps:
    (root / name).mkdir()
    for n, answer in answers.items():
        if answer.ndim == 2:
            Image.fromarray(answer.astype(np.uint8)).save(root / name / f"{n}.png")
        else:
            np.save(root / name / f"{n}.npy", answer)
    pictures = [Picture(f"{n:024}", f"{n}.jpg", hash_of(n), SIZE[0] * 2, SIZE[1] * 2) for n in range(N)]
    spec = MasksSpec(kind="masks", name=name, path=name)
    asked = asked_of(spec, [one.uri for one in pictures], root / name, tuple(classes))
    return write_maps(root / f"{name}.parquet", asked, pictures, classes, SIZE[1])


def probs_of(n: int, k: int) -> np.ndarray:
    random = np.random.default_rng(n).dirichlet(np.full(k, 0.3), size=SIZE)
    return np.moveaxis(random, 2, 0).astype(np.float32)


def data_of(n_images: int = N) -> pa.Table:
    rows = [
        {"sample_id": f"{n:024}", "label_id": f"{n:024}", "uri": f"{n}.jpg", "content_sha256": hash_of(n)}
        | {"task": "segmentation"}
        for n in range(n_images)
    ]
    columns = {f.name: pa.array([row.get(f.name) for row in rows], f.type) for f in DATA}
    return pa.table(columns)


def card(maps: ClassMaps) -> dict[str, Any]:
    return {"name": maps.teacher, "digest": maps.digest, "preprocessing": None}


def made(
    maps: Sequence[ClassMaps],
    k: int,
    policy: Policy,
    *,
    weights: Mapping[str, float] | None = None,
    sharpness: float = 1.0,
    data: pa.Table | None = None,
) -> tuple[dict[str, dict[str, Any]], dict[str, Any], Layout]:
    classes = [f"c{at}" for at in range(k)]
    released = data_of() if data is None else data
    stream, head = make_soft_masks(
        released, maps, classes, policy, weights, [card(one) for one in maps], 0, sharpness
    )
    table = pa.concat_tables(list(stream.batches()))
    assert table.schema == stream.schema
    rows = {row["sample_id"]: row for row in table.to_pylist()}
    assert len(rows) == table.num_rows
    return rows, head, cell_layout(k, policy)


def test_the_ensemble_is_the_weighted_mean_at_the_temperature(tmp_path: Path) -> None:
    a, b = ({n: probs_of(seed + n, 3) for n in range(N)} for seed in (0, 50))
    classes = ("c0", "c1", "c2")
    maps = [maps_of(tmp_path, "a", a, classes), maps_of(tmp_path, "b", b, classes)]
    policy = Policy(temperature=2.0, soft_each_teacher=True)
    rows, head, layout = made(maps, 3, policy, weights={"a": 3.0, "b": 1.0}, sharpness=1.5)
    assert (head["temperature"], head["sharpness"], head["layout"]) == ("2.0", "1.5", "full")
    assert (head["n_missing"], head["each_teacher"]) == (0, ["a", "b"])
    for n in range(N):
        row = rows[f"{n:024}"]
        assert row["made_for"] == image_keys(pa.array([hash_of(n)]))[0].as_py()
        mean = ((3 * a[n] + b[n]) / 4) ** (1.5 / 2.0)
        found = dense_maps(row, layout)
        assert found is not None
        np.testing.assert_allclose(found[0], mean / mean.sum(axis=0), atol=2e-3)
        alone = dense_maps(row, layout, "b")
        assert alone is not None
        np.testing.assert_allclose(alone[0], b[n] ** 0.5 / (b[n] ** 0.5).sum(axis=0), atol=2e-3)


def test_who_says_nothing_of_a_part_has_no_say_there_and_an_image_without_answer_no_row(tmp_path: Path) -> None:
    left = np.zeros(SIZE, dtype=np.int32)
    left[:, 4:] = 255
    maps = [
        maps_of(tmp_path, "half", {0: left, 1: left}, ("c0", "c1")),
        maps_of(tmp_path, "all", {0: np.ones(SIZE, dtype=np.int32)}, ("c0", "c1")),
        maps_of(tmp_path, "unheard", {2: left}, ("c0", "c1")),
    ]
    rows, head, layout = made(maps, 2, Policy(), weights={"half": 1.0, "all": 1.0, "unheard": 0.0})
    assert sorted(rows) == [f"{n:024}" for n in (0, 1)]
    assert head["n_missing"] == N - 2
    both, one = (dense_maps(rows[f"{n:024}"], layout) for n in (0, 1))
    assert both is not None
    assert one is not None
    np.testing.assert_array_equal(both[0][1], np.where(np.arange(8) < 4, 0.5, 1.0)[None].repeat(6, axis=0))
    np.testing.assert_array_equal(one[0].sum(axis=0)[:, 4:], 0.0)  # nobody: all 0, not made up


@pytest.mark.parametrize("asked", ["auto", "top_k", "sampled", "full"])
def test_many_classes_are_cut_and_come_back(tmp_path: Path, asked: AskedLayout) -> None:
    k = 40
    answers = {n: probs_of(n, k) for n in range(N)}
    maps = [maps_of(tmp_path, "net", answers, [f"c{at}" for at in range(k)])]
    policy = Policy(soft_layout=asked)
    rows, head, layout = made(maps, k, policy)
    assert head["layout"] == {"auto": "top_k"}.get(asked, asked)
    for n in range(N):
        found = dense_maps(rows[f"{n:024}"], layout)
        assert found is not None
        probs, tail = found[0].astype(np.float64), found[1]
        total = probs.sum(axis=0) + (0.0 if tail is None else tail)
        np.testing.assert_allclose(total, 1.0, atol=5e-3)
        order = np.argsort(-answers[n], axis=0)[: layout.top_k or k]
        if asked in {"auto", "top_k"}:
            np.testing.assert_allclose(
                np.take_along_axis(probs, order, 0), np.take_along_axis(answers[n], order, 0), atol=2e-3
            )
            assert tail is not None
            assert ((probs > 0).sum(axis=0) <= layout.top_k).all()


def test_rows_come_in_small_groups_and_the_same_each_time(tmp_path: Path) -> None:
    maps = [maps_of(tmp_path, "net", {n: probs_of(n, 3) for n in range(N)}, ("c0", "c1", "c2"))]
    stream, _ = make_soft_masks(data_of(), maps, ("c0", "c1", "c2"), Policy(), None, [card(maps[0])], 0)
    sizes = [batch.num_rows for batch in stream.batches()]
    assert sizes == [GROUP_ROWS, N - GROUP_ROWS]
    assert [one.to_pylist() for one in stream.batches()] == [one.to_pylist() for one in stream.batches()]


@pytest.mark.parametrize("fault", ["image", "classes", "order", "teacher"])
def test_stale_maps_are_refused_and_it_is_said_what_changed(tmp_path: Path, fault: str) -> None:
    maps = maps_of(tmp_path, "net", {n: probs_of(n, 3) for n in range(N)}, ("c0", "c1", "c2"))
    data, classes, cards = data_of(), ["c0", "c1", "c2"], [card(maps)]
    if fault == "image":
        hashes = [hash_of(n) if n != 4 else "f" * 64 for n in range(N)]
        data = data.set_column(data.schema.get_field_index("content_sha256"), "content_sha256", pa.array(hashes))
        said = r"1 of 11 rows were made for other image bytes: 4\.jpg"
    elif fault == "classes":
        classes = ["c0", "c1", "c2", "c3"]
        said = "another class list.*added: c3"
    elif fault == "order":
        classes = ["c1", "c0", "c2"]
        said = "the same in another order"
    else:
        cards = [{**card(maps), "digest": "0" * 64}]
        said = "The model of the teacher net changed"
    with pytest.raises(InputError, match=said) as caught:
        make_soft_masks(data, [maps], classes, Policy(), None, cards, 0)
    assert "Run `curate run SPEC` again" in str(caught.value)


def test_only_released_images_have_a_row(tmp_path: Path) -> None:
    maps = [maps_of(tmp_path, "net", {n: probs_of(n, 2) for n in range(N)}, ("c0", "c1"))]
    rows, head, _ = made(maps, 2, Policy(), data=data_of(3))
    assert (len(rows), head["n_missing"]) == (3, 0)
