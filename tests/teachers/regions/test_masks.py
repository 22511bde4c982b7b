"""Errors on masks: each kind is found where it is, whatever the resolution, and clean masks are quiet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from curate.errors import InputError
from curate.teachers.regions.answers import Answer
from curate.teachers.regions.flag_masks import flag_masks
from curate.teachers.regions.judge import Source, measured, regions_column, usual_noise, weigh
from curate.teachers.regions.judge import judged as judged_regions
from curate.teachers.regions.measure import MaskAnswers
from curate.teachers.regions.pool import fit_pool
from curate.teachers.regions.region import Region

NAMES = ["road", "car", "tree", "sign"]
K = len(NAMES)
Mask = np.ndarray
Edit = Callable[[Mask], Mask]


def scene(seed: int, scale: int = 1) -> Mask:
    """Return 120 x 160 px (times `scale`): trees above, road below, two cars and a sign on it."""
    random = np.random.default_rng(seed)
    mask = np.zeros((120, 160), dtype=np.uint8)
    mask[: 40 + int(random.integers(0, 6))] = 2
    x = int(random.integers(5, 15))
    mask[60:80, x : x + 36] = 1
    mask[85:110, x + 70 : x + 100] = 1
    mask[50:70, 135:150] = 3
    return np.kron(mask, np.ones((scale, scale), dtype=np.uint8))


def maps(mask: Mask, seed: int, sharpness: float = 0.8) -> np.ndarray:
    """Return (K, H, W) probabilities of a teacher that sees the scene through a blur and some noise."""
    random = np.random.default_rng(seed)
    hot = np.stack([(mask == one).astype(float) for one in range(K)])
    blurred = ndimage.gaussian_filter(hot, (0, mask.shape[0] / 120, mask.shape[0] / 120))
    probs = sharpness * blurred + (1 - sharpness) * random.dirichlet(np.ones(K), mask.shape).transpose(2, 0, 1)
    return (probs / probs.sum(0)).astype(np.float16)


def save(folder: Path, name: str, ids: Mask) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids).save(folder / f"{name}.png")


def flags(
    tmp_path: Path, edit: Edit | None = None, *, scale: int = 1, kind: str = "npy", n_teachers: int = 3
) -> list[dict[str, Any]]:
    """Plant an error into one of six scenes and return what is said of all."""
    for number in range(6):
        true = scene(number, scale)
        save(tmp_path / "labels", f"s{number}", edit(true) if edit and number == 3 else true)
        for teacher in range(n_teachers):
            folder = tmp_path / f"t{teacher}"
            folder.mkdir(exist_ok=True)
            probs = maps(true, 100 * teacher + number)
            if kind == "png":
                save(folder, f"s{number}", probs.argmax(0).astype(np.uint8))
            elif kind == "npz":
                np.savez(folder / f"s{number}.npz", probs=np.moveaxis(probs, 0, 2))
            else:
                np.save(folder / f"s{number}.npy", probs)
    teachers = {f"t{one}": tmp_path / f"t{one}" for one in range(n_teachers)}
    flag_masks(tmp_path / "labels", teachers, tmp_path / "out.parquet", classes=NAMES)
    return pq.read_table(tmp_path / "out.parquet").to_pylist()


def told(rows: list[dict[str, Any]]) -> list[tuple[str, str, str, str | None]]:
    found = [r for r in rows if r["flagged"] and r["issue"] != "image"]
    return [(r["image"], r["issue"], r["label"], r["suggested_label"]) for r in found]


def side(mask: Mask) -> int:
    return mask.shape[0] // 120


def recoloured(mask: Mask) -> Mask:
    edited, s = mask.copy(), side(mask)
    edited[50 * s : 70 * s, 135 * s : 150 * s] = 1
    return edited


def dropped(mask: Mask) -> Mask:
    edited, s = mask.copy(), side(mask)
    edited[50 * s : 70 * s, 135 * s : 150 * s] = 0
    return edited


def invented(mask: Mask) -> Mask:
    edited, s = mask.copy(), side(mask)
    edited[10 * s : 25 * s, 60 * s : 80 * s] = 1
    return edited


def eroded(mask: Mask) -> Mask:
    edited, s = mask.copy(), side(mask)
    part = np.zeros(mask.shape, dtype=bool)
    part[85 * s : 110 * s] = mask[85 * s : 110 * s] == 1
    edited[part & (ndimage.distance_transform_edt(part) <= 2 * s)] = 0
    return edited


def dilated(mask: Mask) -> Mask:
    edited, s = mask.copy(), side(mask)
    part = np.zeros(mask.shape, dtype=bool)
    part[85 * s : 110 * s] = mask[85 * s : 110 * s] == 1
    edited[(ndimage.distance_transform_edt(~part) <= 2 * s) & (mask == 0)] = 1
    return edited


KINDS: list[tuple[Edit, tuple[str, str, str, str | None]]] = [
    (recoloured, ("s3", "wrong_class", "car", "sign")),
    (dropped, ("s3", "missing", "road", "sign")),
    (invented, ("s3", "spurious", "car", "tree")),
    (eroded, ("s3", "boundary", "car", None)),
    (dilated, ("s3", "boundary", "car", None)),
]


def test_clean_masks_are_quiet_and_every_region_and_image_has_a_row(tmp_path: Path) -> None:
    rows = flags(tmp_path)
    assert told(rows) == []
    for number in range(6):
        own = [r for r in rows if r["image"] == f"s{number}"]
        assert sum(r["issue"] == "image" for r in own) == 1
        assert {r["component"] for r in own if r["component"] is not None} == set(range(5))


@pytest.mark.parametrize("scale", [1, 3])
@pytest.mark.parametrize(("edit", "expected"), KINDS)
def test_each_kind_is_found_at_any_resolution(
    edit: Edit, expected: tuple[str, str, str, str | None], scale: int, tmp_path: Path
) -> None:
    rows = flags(tmp_path, edit, scale=scale)
    assert told(rows) == [expected]
    images = {r["image"]: r["risk"] for r in rows if r["issue"] == "image"}
    assert max(images, key=lambda name: images[name]) == "s3"


@pytest.mark.parametrize("kind", ["png", "npz"])
@pytest.mark.parametrize(("edit", "expected"), KINDS[:3])
def test_masks_of_teachers_and_channels_last_do_as_well(
    edit: Edit, expected: tuple[str, str, str, str | None], kind: str, tmp_path: Path
) -> None:
    assert told(flags(tmp_path, edit, kind=kind)) == [expected]


def test_reasons_hold_the_numbers_and_the_boundary_its_direction(tmp_path: Path) -> None:
    small = next(r for r in flags(tmp_path / "a", eroded) if r["flagged"] and r["issue"] == "boundary")
    large = next(r for r in flags(tmp_path / "b", dilated) if r["flagged"] and r["issue"] == "boundary")
    assert small["boundary_px"] > 0.5
    assert large["boundary_px"] < -0.5
    assert "further out, " in small["reason"]
    wrong = next(r for r in flags(tmp_path / "c", recoloured) if r["flagged"] and r["issue"] == "wrong_class")
    assert "is sign to 3 of 3 teachers" in wrong["reason"]
    assert wrong["bbox"] == [135, 50, 15, 20]
    assert wrong["area_px"] == 300


def test_ignored_pixels_say_nothing(tmp_path: Path) -> None:
    def hidden(mask: Mask) -> Mask:
        edited = invented(mask)
        edited[8:27, 58:82] = 255
        return edited

    assert told(flags(tmp_path, hidden)) == []


def test_class_ids_are_names_and_nothing_is_averaged_over_them(tmp_path: Path) -> None:
    """Two teachers that say 0 and 2 must never sum up to a 1."""
    save(tmp_path / "labels", "a", np.ones((40, 40), dtype=np.uint8))
    save(tmp_path / "zero", "a", np.zeros((40, 40), dtype=np.uint8))
    save(tmp_path / "two", "a", np.full((40, 40), 2, dtype=np.uint8))
    teachers = {"zero": tmp_path / "zero", "two": tmp_path / "two"}
    flag_masks(tmp_path / "labels", teachers, tmp_path / "out.parquet", classes=NAMES)
    worst = max(pq.read_table(tmp_path / "out.parquet").to_pylist(), key=lambda row: row["risk"])
    assert worst["risk"] > 0.75
    assert worst["suggested_label"] != "car"


def test_a_teacher_of_half_the_size_is_stretched(tmp_path: Path) -> None:
    for number in range(4):
        true = scene(number, 2)
        save(tmp_path / "labels", f"s{number}", recoloured(true) if number == 3 else true)
        (tmp_path / "t").mkdir(exist_ok=True)
        np.save(tmp_path / "t" / f"s{number}.npy", maps(scene(number), number))
    flag_masks(tmp_path / "labels", {"t": tmp_path / "t"}, tmp_path / "out.parquet", classes=NAMES)
    assert ("s3", "wrong_class", "car", "sign") in told(pq.read_table(tmp_path / "out.parquet").to_pylist())


def judged(labels: list[np.ndarray], probs: list[list[np.ndarray]], workers: int = 1) -> list[list[Region]]:
    """Judge masks (an array each) by teachers' probabilities (for each mask, an array a teacher)."""
    names = [f"{number:02}" for number in range(len(labels))]
    answers = {name: [Answer(K, probs=one) for one in probs[at]] for at, name in enumerate(names)}
    source = Source(
        names,
        [f"t{number}" for number in range(len(probs[0]))],
        NAMES,
        lambda name: MaskAnswers(labels[int(name)].astype(np.int32), answers[name]),
    )
    found = regions_column(list(measured(source, weigh(source, workers=workers), source.names, workers=workers)))
    noise = usual_noise(pa.chunked_array([found]))
    return [judged_regions([Region.of_row(row) for row in one.as_py()], noise) for one in found]


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 12), st.integers(1, 12))
def test_whatever_stands_there_risks_are_risks_and_regions_cover_the_mask(
    seed: int, n_teachers: int, height: int, width: int
) -> None:
    random = np.random.default_rng(seed)
    label = random.integers(-1, K, (height, width))
    probs = [
        random.dirichlet(np.full(K, 0.3), (height, width)).transpose(2, 0, 1).astype(np.float32)
        for _ in range(n_teachers)
    ]
    found = judged([label], [probs])[0]
    assert sum(one.area_px for one in found if one.component >= 0) == int((label >= 0).sum())
    for one in found:
        assert all(0.0 <= risk <= 1.0 for risk in one.risk.values())
        assert np.isfinite([one.offset_px, one.moved_px, one.noises]).all()
        assert 0.0 <= one.iou <= 1.0


def keyed(regions: list[Region]) -> list[Any]:
    return sorted(
        (r.bbox_px, r.area_px, tuple(sorted((k, round(v, 4)) for k, v in r.risk.items()))) for r in regions
    )


@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(st.permutations(range(K)), st.sampled_from(KINDS))
def test_renumbered_classes_leave_no_trace(
    order: list[int], kind: tuple[Edit, tuple[str, str, str, str | None]]
) -> None:
    numbers = np.asarray(order)
    labels = [kind[0](scene(3)).astype(np.int64), *(scene(n).astype(np.int64) for n in range(6))]
    probs = [maps(scene(n), n).astype(np.float32) for n in (3, *range(6))]
    one = judged(labels, [[p] for p in probs])
    other = judged([numbers[label] for label in labels], [[p[np.argsort(numbers)]] for p in probs])
    assert [keyed(found) for found in one] == [keyed(found) for found in other]


def regions_seen(seed: int, clear: float, n: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Return true classes of regions and a teacher's log probabilities of them."""
    random = np.random.default_rng(seed)
    true = np.random.default_rng(0).integers(0, K, n)
    logits = random.normal(size=(n, K)) + clear * np.eye(K)[true]
    return true, np.log(np.maximum(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), 1e-4))


@pytest.mark.parametrize("beside", ["noise", "parrot"])
def test_a_teacher_that_repeats_labels_or_knows_nothing_does_not_drown_the_others(beside: str) -> None:
    true, one = regions_seen(1, 4.0)
    _, other = regions_seen(2, 4.0)
    label = true.copy()
    label[:60] = (label[:60] + 1) % K
    bad = regions_seen(3, 0.0)[1] if beside == "noise" else np.log(np.where(np.eye(K)[label] > 0, 0.97, 0.01))
    logs = np.stack([one, other, bad], axis=1)
    area = np.full(len(true), 0.01)
    pool = fit_pool(["one", "other", beside], logs, logs.argmax(2), label, area, K)
    assert pool.large[2] < 0.2 * pool.large[0]
    assert pool.guards[beside].kept == (beside == "noise")
    right = pool.right(pool.log_probs(logs, area), label)
    assert (right[:60] < 0.5).mean() > 0.9
    assert (right[60:] > 0.5).mean() > 0.98


def test_other_masks_and_their_order_change_nothing_but_what_is_fitted() -> None:
    """Below the number of regions that are fitted, a mask's risks are its own."""
    labels = [recoloured(scene(3)), scene(1)]
    probs = [[maps(scene(3), 3)], [maps(scene(1), 1)]]
    both, back, alone = judged(labels, probs), judged(labels[::-1], probs[::-1]), judged(labels[:1], probs[:1])
    assert keyed(both[0]) == keyed(back[1])
    worst = [
        max((r.risk["wrong_class"], r.bbox_px) for r in found if r.component >= 0) for found in (both[0], alone[0])
    ]
    assert worst[0][1] == worst[1][1]
    assert worst[0][0] == pytest.approx(worst[1][0], abs=0.1)


def test_how_many_threads_there_are_leaves_no_trace() -> None:
    labels = [edit(scene(number)) for number, (edit, _) in enumerate(KINDS)]
    probs = [[maps(scene(number), 10 * number + one) for one in range(2)] for number in range(len(KINDS))]
    alone, together = judged(labels, probs), judged(labels, probs, workers=3)
    assert [[one.to_row() for one in found] for found in alone] == [
        [one.to_row() for one in found] for found in together
    ]


def lost_teacher(folder: Path) -> None:
    (folder / "t" / "b.npy").unlink()


def logits(folder: Path) -> None:
    np.save(folder / "t" / "a.npy", np.full((K, 40, 40), 3.0))


def other_classes(folder: Path) -> None:
    np.save(folder / "t" / "a.npy", np.full((7, 40, 40), 1 / 7))


def colours(folder: Path) -> None:
    pixels = np.zeros((40, 40, 3), dtype=np.uint8)
    pixels[..., 0] = 9
    save(folder / "labels", "a", pixels)


def beyond(folder: Path) -> None:
    save(folder / "labels", "a", np.full((40, 40), 9, dtype=np.uint8))


def other_format(folder: Path) -> None:
    np.save(folder / "t" / "a.npy", np.full((K, 40, 60), 1 / K))


def not_a_number(folder: Path) -> None:
    probs = np.full((K, 40, 40), 1 / K, dtype=np.float16)
    probs[0, 20, 20] = np.nan
    np.save(folder / "t" / "a.npy", probs)


def unknown_to_a_teacher(folder: Path) -> None:
    (folder / "t" / "a.npy").unlink()
    save(folder / "t", "a", np.full((40, 40), 7, dtype=np.uint8))


def ids_in_a_map(folder: Path) -> None:
    np.save(folder / "t" / "a.npy", np.ones((K, 40, 40), dtype=np.uint8))


def cut_off(folder: Path) -> None:
    (folder / "t" / "a.npy").write_bytes((folder / "t" / "a.npy").read_bytes()[:-50])


def broken_png(folder: Path) -> None:
    (folder / "labels" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n no")


def void(folder: Path) -> None:
    for name in "ab":
        save(folder / "labels", name, np.full((40, 40), 255, dtype=np.uint8))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lost_teacher, "none for 1 of 2, for example b"),
        (logits, "sum to 1"),
        (other_classes, "one of them the 4 classes"),
        (colours, "holds colours"),
        (beyond, "class id 9"),
        (void, "nothing but ignored"),
        (other_format, "60 x 40 pixels and the mask 40 x 40"),
        (not_a_number, "sum to 1"),
        (unknown_to_a_teacher, "holds the class id 7"),
        (ids_in_a_map, "floating-point"),
        (cut_off, "cannot be read"),
        (broken_png, "cannot be read"),
    ],
)
def test_input_that_cannot_be_used_is_named(spoil: Callable[[Path], None], says: str, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    for name in "ab":
        save(tmp_path / "labels", name, np.ones((40, 40), dtype=np.uint8))
        np.save(tmp_path / "t" / f"{name}.npy", np.full((K, 40, 40), 1 / K))
    spoil(tmp_path)
    with pytest.raises(InputError, match=says):
        flag_masks(tmp_path / "labels", {"t": tmp_path / "t"}, tmp_path / "out.parquet", classes=NAMES)
    assert not (tmp_path / "out.parquet").exists()


def test_float16_maps_and_palettes_are_read_as_they_are_meant(tmp_path: Path) -> None:
    rows = []
    for kind in ("gray", "palette"):
        for number in range(6):
            true = scene(number)
            image = Image.fromarray(recoloured(true) if number == 3 else true, mode="L" if kind == "gray" else "P")
            if kind == "palette":
                image.putpalette([0, 0, 0, 200, 0, 0, 200, 0, 0, 0, 0, 200])  # two classes in one colour
            (tmp_path / kind).mkdir(exist_ok=True)
            image.save(tmp_path / kind / f"s{number}.png")
            (tmp_path / "t").mkdir(exist_ok=True)
            np.save(tmp_path / "t" / f"s{number}.npy", maps(true, number).astype(np.float16))
        flag_masks(tmp_path / kind, {"t": tmp_path / "t"}, tmp_path / "out.parquet", classes=NAMES)
        rows.append(pq.read_table(tmp_path / "out.parquet").to_pylist())
    assert rows[0] == rows[1]
    assert told(rows[0]) == [("s3", "wrong_class", "car", "sign")]


def shifted(mask: Mask) -> Mask:
    edited = mask.copy()
    car = np.argwhere(mask[80:, 60:] == 1) + np.array([80, 60])
    edited[car[:, 0], car[:, 1]] = 0
    edited[car[:, 0], car[:, 1] - 4] = 1
    return edited


def test_a_region_that_was_merely_moved_is_said_to_stand_elsewhere(tmp_path: Path) -> None:
    rows = [r for r in flags(tmp_path, shifted) if r["flagged"] and r["issue"] == "boundary"]
    assert [(r["image"], r["label"]) for r in rows] == [("s3", "car")]
    assert "elsewhere" in rows[0]["reason"]
    assert abs(rows[0]["boundary_px"]) < 1


def test_without_a_teacher_or_a_folder_it_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one"):
        flag_masks(tmp_path, {}, tmp_path / "out.parquet")
    with pytest.raises(InputError, match="there is no folder"):
        flag_masks(tmp_path / "x", {"t": tmp_path}, tmp_path / "out.parquet")


def test_a_teacher_whose_class_ids_are_off_is_named_and_a_weak_one_is_not(tmp_path: Path) -> None:
    for number in range(8):
        true = scene(number)
        save(tmp_path / "labels", f"s{number}", true)
        save(tmp_path / "off", f"s{number}", (true + 1) % K)
        save(tmp_path / "weak", f"s{number}", np.roll(true, 25, axis=1))
    teachers = {name: tmp_path / name for name in ("off", "weak")}
    summary = flag_masks(tmp_path / "labels", teachers, tmp_path / "out.parquet", classes=NAMES)
    (warning,) = summary.to_json()["warnings"]
    assert (warning["teacher"], warning["about"], warning["share"]) == ("off", "classes", 0.0)
    assert "class ids" in warning["message"]
    assert f"WARNING: {warning['message']}" in summary.lines()
