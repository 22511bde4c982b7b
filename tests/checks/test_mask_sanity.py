from __future__ import annotations

import numpy as np
import pytest
from checks_views import label, labels_view, sample, statistic
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco
from scipy import ndimage

from curate.check import run_check
from curate.checks.mask_sanity import CHECK
from curate.checks.masks import decode_counts, mask_shape

IMAGE = sample(0, width_px=40, height_px=30)


def _rle(mask: np.ndarray) -> dict[str, object]:
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"height_px": mask.shape[0], "width_px": mask.shape[1], "counts": encoded["counts"]}


@settings(deadline=None, max_examples=150)
@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=14)))
def test_runs_say_what_the_pixels_say(mask: np.ndarray) -> None:
    shape = mask_shape(_rle(mask)["counts"], *mask.shape)  # type: ignore[arg-type]
    assert shape.area_px == mask.sum()
    parts, n_parts = ndimage.label(mask, structure=np.ones((3, 3)))
    assert shape.part_areas_px.tolist() == sorted(np.bincount(parts.ravel())[1:].tolist(), reverse=True)
    assert len(shape.part_areas_px) == n_parts
    if shape.bounds_px is None:
        assert not mask.any()
    else:
        assert list(shape.bounds_px) == coco.toBbox(coco.encode(np.asfortranarray(mask.astype(np.uint8)))).tolist()


@given(st.binary(max_size=30))
def test_any_bytes_are_runs_or_a_value_error(counts: bytes) -> None:
    try:
        runs = decode_counts(counts)
    except ValueError:
        return
    assert (runs >= 0).all()


def _findings(**values: object) -> list[tuple[str, str]]:
    view = labels_view([label(0, IMAGE, **{"task": "segmentation", **values})])
    return [(row["issue"], row["reason_code"]) for row in run_check(CHECK, view).findings.to_pylist()]


def _mask(height: int = 30, width: int = 40) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    mask[5:15, 10:30] = True
    return mask


def test_a_mask_and_its_box() -> None:
    box = [10 / 40, 5 / 30, 20 / 40, 10 / 30]
    assert _findings(mask=_rle(_mask()), bbox=box) == []
    assert _findings(mask=_rle(_mask()), bbox=[0.0, 0.0, 0.5, 0.5]) == [("mask_box_mismatch", "mask_box_mismatch")]


def test_masks_that_cannot_be_meant() -> None:
    specks = _mask()
    specks[20:30:2, ::3] = True
    assert _findings(mask=_rle(specks)) == [("mask_specks", "mask_specks")]
    assert _findings(mask=_rle(np.zeros((30, 40)))) == [("invalid_mask", "mask_empty")]
    assert _findings(mask=_rle(_mask(32, 40))) == [("invalid_mask", "mask_of_another_size")]
    assert _findings(mask=_rle(np.ones((30, 40)))) == [("huge_mask", "huge_mask")]
    for counts in (None, b"", b"\xff", b"04"):
        assert _findings(mask={"height_px": 30, "width_px": 40, "counts": counts}) == [
            ("invalid_mask", "mask_unreadable")
        ]


@pytest.mark.parametrize(
    ("polygons", "expected"),
    [
        ([[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]], []),
        ([], [("invalid_mask", "mask_empty")]),
        ([[0.1, 0.1, 0.5, 0.1]], [("invalid_mask", "polygon_too_short")]),
        ([[0.1, 0.1, float("nan"), 0.1, 0.5, 0.5]], [("invalid_mask", "polygon_not_finite")]),
        ([[0.1, 0.1, 0.3, 0.3, 0.5, 0.5]], [("invalid_mask", "mask_empty")]),
    ],
)
def test_polygons(polygons: list[list[float]], expected: list[tuple[str, str]]) -> None:
    assert _findings(polygons=polygons) == expected


def test_the_share_is_of_masks_not_of_labels() -> None:
    rows = [label(0, IMAGE, mask=_rle(np.zeros((30, 40)))), label(1, IMAGE, mask=_rle(_mask())), label(2, IMAGE)]
    share = statistic(run_check(CHECK, labels_view(rows)).statistics, "share_with_finding")
    assert (share["value"], share["n"]) == (0.5, 2)
