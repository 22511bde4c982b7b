from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from curate.config import ProbesSpec
from curate.teachers.features import image_features
from curate.teachers.folds import assign_folds
from curate.teachers.pixels import crop, decoded
from curate.teachers.probes import CLASSIFIERS, Probes, out_of_fold
from curate.teachers.protocol import Request, TeacherCard, prob_column, prob_matrix

Make = Callable[..., Request]
TRUTH = [("red", "green", "blue")[at % 3] for at in range(45)]
SPEC = ProbesSpec(kind="probes", folds=3, classifiers=("neighbours",))


def test_families_are_never_in_two_folds() -> None:
    families = np.repeat(np.arange(20), 3)
    folds = assign_folds(families % 4, families, 4, seed=1)
    assert all(len(set(folds[families == family])) == 1 for family in range(20))
    assert set(folds) == {0, 1, 2, 3}


def test_labels_of_a_family_do_not_reach_its_own_predictions(make_request: Make) -> None:
    given, folds = np.arange(45) % 3, np.arange(45) // 3 % 3
    features = np.random.default_rng(0).normal(size=(45, 8)).astype(np.float32) + 2 * np.eye(3, 8)[given]
    other = np.where(folds == 0, (given + 1) % 3, given)  # every label of the fold is wrong, all alike
    fit, request = CLASSIFIERS["neighbours"], make_request(TRUTH[:3])
    held = [out_of_fold(features, labels, folds, 3, fit, request)[folds == 0] for labels in (given, other)]
    np.testing.assert_array_equal(held[0].argmax(axis=1), held[1].argmax(axis=1))


def test_row_order_changes_nothing_and_damage_is_null(make_request: Make, tmp_path: Path) -> None:
    request = make_request(TRUTH)
    (tmp_path / "images" / "0004.png").write_bytes(b"no image")
    (answer,) = Probes(SPEC).answer(request)
    assert np.flatnonzero(np.isnan(answer.probs).any(axis=1)).tolist() == [4]
    order = np.random.default_rng(0).permutation(45)
    again = make_request(TRUTH, labels=request.labels.take(order), families=order)
    (shuffled,) = Probes(SPEC).answer(again)
    np.testing.assert_array_equal(shuffled.probs, answer.probs[order])


def test_a_class_with_one_member_is_not_judged(make_request: Make) -> None:
    (answer,) = Probes(SPEC).answer(make_request([*[c for c in TRUTH if c != "blue"], "blue"]))
    assert np.flatnonzero(np.isnan(answer.probs).any(axis=1)).tolist() == [30]


def test_kept_features_are_used_again(make_request: Make, tmp_path: Path) -> None:
    request = make_request(TRUTH[:6])
    first = image_features("pixels", request)
    for file in (tmp_path / "images").iterdir():
        file.unlink()
    np.testing.assert_array_equal(image_features("pixels", request), first)


def test_gray_rotated_and_boxed_pixels(tmp_path: Path) -> None:
    gray = cv2.imencode(".png", np.full((4, 6), 9, np.uint8))[1].tobytes()
    image = decoded(gray)
    assert image is not None
    assert image.shape == (4, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "r.jpg", exif=exif)
    upright = decoded((tmp_path / "r.jpg").read_bytes())
    assert upright is not None
    assert upright.shape == (8, 4, 3)
    assert crop(np.zeros((100, 100, 3), np.uint8), (0.2, 0.3, 0.2, 0.1)).shape == (15, 25, 3)


def test_probabilities_and_cards_come_back_the_same() -> None:
    probs = np.array([[0.25, 0.75], [np.nan, np.nan], [1, 0]], np.float32)
    np.testing.assert_array_equal(prob_matrix(prob_column(probs).slice(1)), probs[1:])
    card = TeacherCard("a", "onnx", None, None, out_of_fold=False, calibration=None, digest="d", n_predicted=1)
    assert TeacherCard.from_json(card.to_json()) == card
