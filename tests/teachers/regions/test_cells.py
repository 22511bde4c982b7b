"""Laws of class maps at reduced resolution: mass is kept, resolution leaves no trace, ids are names."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from curate.errors import InputError
from curate.spec import MasksSpec
from curate.teachers.regions.answers import Answer
from curate.teachers.regions.cells import cell_mass, grid_size
from curate.teachers.regions.class_maps import Picture, given_mass, pooled_mass, read_maps, write_maps
from curate.teachers.regions.segmenters import asked_of
from curate.teachers.regions.sharpness import fit_sharpness

SIZES = st.tuples(st.integers(1, 17), st.integers(1, 17))


def probabilities(seed: int, n_classes: int, size: tuple[int, int]) -> np.ndarray:
    random = np.random.default_rng(seed).random((n_classes, *size)) + 1e-3
    return (random / random.sum(axis=0)).astype(np.float32)


@settings(deadline=None)
@given(st.integers(0, 99), st.integers(1, 5), SIZES, SIZES)
def test_the_mass_of_every_class_is_kept_on_any_grid(
    seed: int, n_classes: int, size: tuple[int, int], grid: tuple[int, int]
) -> None:
    probs = probabilities(seed, n_classes, size)
    mass = cell_mass(Answer(n_classes, probs=probs), grid)
    np.testing.assert_allclose(mass.mean(axis=(1, 2)), probs.mean(axis=(1, 2)), atol=1e-5)
    np.testing.assert_allclose(mass.sum(axis=0), 1.0, atol=1e-5)


@settings(deadline=None)
@given(st.integers(0, 99), SIZES, SIZES, st.integers(2, 4))
def test_a_mask_of_a_larger_copy_gives_the_same_mass(
    seed: int, size: tuple[int, int], grid: tuple[int, int], factor: int
) -> None:
    ids = np.random.default_rng(seed).integers(-1, 4, size).astype(np.int32)
    larger = ids.repeat(factor, axis=0).repeat(factor, axis=1)
    mass, again = (cell_mass(Answer(4, codes=one), grid) for one in (ids, larger))
    np.testing.assert_allclose(mass, again, atol=1e-6)


@settings(deadline=None)
@given(st.integers(0, 99), SIZES, SIZES)
def test_ids_are_names(seed: int, size: tuple[int, int], grid: tuple[int, int]) -> None:
    ids = np.random.default_rng(seed).integers(0, 4, size).astype(np.int32)
    order = np.array([2, 0, 3, 1])
    np.testing.assert_array_equal(
        cell_mass(Answer(4, codes=ids), grid), cell_mass(Answer(4, codes=order[ids].astype(np.int32)), grid)[order]
    )


def test_a_cell_holds_the_share_of_each_id_and_nothing_of_what_is_ignored() -> None:
    ids = np.array([[0, 0, 1, 1], [0, 2, 1, -1]], dtype=np.int32)
    mass = cell_mass(Answer(3, codes=ids), (1, 2))
    np.testing.assert_allclose(mass[:, 0], [[0.75, 0.0], [0.0, 0.75], [0.25, 0.0]])


@pytest.mark.parametrize(
    ("image", "longest", "grid"),
    [((360, 480), 64, (48, 64)), ((480, 360), 64, (64, 48)), ((10, 30), 64, (10, 30)), ((1, 900), 64, (1, 64))],
)
def test_the_grid_follows_the_image(image: tuple[int, int], longest: int, grid: tuple[int, int]) -> None:
    assert grid_size(*image, longest) == grid


def folder_of(root: Path, name: str, masks: dict[str, np.ndarray]) -> MasksSpec:
    (root / name).mkdir()
    for stem, mask in masks.items():
        if mask.ndim == 2:
            Image.fromarray(mask.astype(np.uint8)).save(root / name / f"{stem}.png")
        else:
            np.save(root / name / f"{stem}.npy", mask)
    return MasksSpec(kind="masks", name=name, path=name)


def test_maps_go_through_a_file_and_say_what_they_were_made_from(tmp_path: Path) -> None:
    masks = {f"{n:02}": probabilities(n, 3, (12, 16)).astype(np.float16) for n in range(20)}
    spec = folder_of(tmp_path, "soft", masks)
    pictures = [Picture(f"s{19 - n:02}", f"{n:02}.jpg", f"{n:064x}", 24, 32) for n in range(20)]
    asked = asked_of(spec, [one.uri for one in pictures], tmp_path / "soft", ("a", "b", "c"))
    made = write_maps(tmp_path / "maps.parquet", asked, pictures, ("c", "a", "x"), 8, workers=2)
    assert read_maps(made.path, "soft") == made
    hashes = {
        one.uri: hashlib.sha256((tmp_path / "soft" / f"{one.uri[:2]}.npy").read_bytes()).digest()
        for one in pictures
    }
    assert made.digest == asked.digest(hashes)
    rows = pq.read_table(made.path)
    assert rows["sample_id"].to_pylist() == sorted(rows["sample_id"].to_pylist())
    assert rows.num_rows == 20
    by_id = dict(pooled_mass([made], {"soft": 2.0}))
    expected = cell_mass(Answer(3, probs=masks["04"]), (6, 8))
    np.testing.assert_allclose(by_id["s15"][0], 2 * expected[2], rtol=2e-3)  # by name, not by position
    np.testing.assert_allclose(by_id["s15"][1], 2 * expected[0], rtol=2e-3)
    assert not by_id["s15"][2].any()  # no class of this teacher


def test_logits_are_refused_and_leave_no_file(tmp_path: Path) -> None:
    spec = folder_of(tmp_path, "net", {"0": np.full((3, 4, 4), 5.0, dtype=np.float32)})
    asked = asked_of(spec, ["0.png"], tmp_path / "net", ("a", "b", "c"))
    with pytest.raises(InputError, match="sum to 1"):
        write_maps(tmp_path / "out" / "maps.parquet", asked, [Picture("s", "0.png", None, 4, 4)], "abc", 4)
    assert not list((tmp_path / "out").iterdir())


def test_a_broken_file_of_maps_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "maps.parquet").write_bytes(b"PAR1 torn")
    assert read_maps(tmp_path / "maps.parquet", "net") is None
    assert not (tmp_path / "maps.parquet").exists()


@settings(deadline=None)
@given(st.floats(0.5, 3.0), st.integers(0, 9))
def test_the_sharpness_that_labels_have_is_found(exponent: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    pooled = random.dirichlet(np.full(4, 0.7), size=4000)
    truth = pooled**exponent / (pooled**exponent).sum(axis=1, keepdims=True)
    given_share = np.eye(4)[(truth.cumsum(axis=1) > random.random((4000, 1))).argmax(axis=1)]
    assert fit_sharpness(pooled, given_share) == pytest.approx(exponent, rel=0.12)


def test_few_cells_leave_the_mean_as_it_is() -> None:
    assert fit_sharpness(np.full((20, 2), 0.5), np.full((20, 2), 0.5)) == 1.0


def test_labels_become_shares_of_the_same_cells() -> None:
    from curate.ingest.rle import encode_mask  # noqa: PLC0415 - where it is used

    ids = np.random.default_rng(0).integers(0, 3, (12, 16))
    rows = [{"label": name, "mask": encode_mask(ids == at)} for at, name in enumerate("abc")]
    expected = cell_mass(Answer(3, codes=ids.astype(np.int32)), (3, 4))
    np.testing.assert_allclose(given_mass(rows, tuple("abc"), (3, 4)), expected)
