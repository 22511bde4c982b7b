from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from asked import ask, encoded, picture, shuffled
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curate.errors import InputError
from curate.spec import ProbesSpec
from curate.teachers import predict_all
from curate.teachers.classifiers import CLASSIFIERS
from curate.teachers.folds import assign_folds
from curate.teachers.probes import Probes, judge_fold, out_of_fold
from curate.teachers.protocol import OUT_OF_FOLD_HERE, Request, prob_matrix
from curate.teachers.refit import class_shares

CLASSES = ("across", "cross", "disc", "down")
KINDS = {"across": 0, "down": 1, "disc": 2, "cross": 3}
PROBES = ProbesSpec(kind="probes", folds=4)


def clouds(n: int, n_classes: int, seed: int = 0, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, n_classes, n)
    centres = rng.normal(0, 3, (n_classes, 12))
    return (centres[truth] + rng.normal(0, spread, (n, 12))).astype(np.float32), truth


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> tuple[Request, np.ndarray]:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 4, 160)
    given = truth.copy()
    wrong = rng.choice(160, 12, replace=False)
    given[wrong] = (truth[wrong] + rng.integers(1, 4, 12)) % 4
    images = [encoded(picture(KINDS[CLASSES[kind]], rng)) for kind in truth]
    request = ask(tmp_path_factory.mktemp("d") / "in", images, [CLASSES[k] for k in given], CLASSES)
    return request, truth


def test_probes_see_through_wrong_labels_of_real_pictures(drawings: tuple[Request, np.ndarray]) -> None:
    request, truth = drawings
    told = predict_all([PROBES], request)
    assert not told.errors
    assert told.table.column_names == [
        "label_id",
        "prob_probes_linear",
        "nearest_probes_linear",
        "prob_probes_neighbours",
        "prob_probes_network",
        "content_sha256",
    ]
    for card in told.cards:
        probs = prob_matrix(told.table[f"prob_{card.name}"])
        np.testing.assert_allclose(probs.sum(axis=1), 1, atol=2e-3)
        assert (probs.argmax(axis=1) == truth).mean() > 0.9
        assert (card.trained_on, card.features, card.out_of_fold) == (OUT_OF_FOLD_HERE, "pixels", True)
        assert card.n_predicted == 160


@pytest.mark.parametrize("workers", [1, 3])
def test_row_order_and_workers_change_no_bit(drawings: tuple[Request, np.ndarray], workers: int) -> None:
    request, _ = drawings
    order = np.random.default_rng(5).permutation(160)
    plain = Probes(PROBES).answer(request)
    other = Probes(PROBES).answer(replace(shuffled(request, order), workers=workers))
    for one, two in zip(plain, other, strict=True):
        np.testing.assert_array_equal(one.probs[order], two.probs)
        assert one.card == two.card


@pytest.mark.parametrize("refits", [0, 2])
@pytest.mark.parametrize("name", list(CLASSIFIERS))
def test_no_row_is_judged_by_a_model_that_saw_its_label(name: str, refits: int) -> None:
    features, truth = clouds(200, 3)
    random = np.random.default_rng(4)
    given = np.where(random.random(200) < 0.2, (truth + 1) % 3, truth)
    folds = assign_folds(given, np.arange(200), 5, seed=0)
    fits = {name: CLASSIFIERS[name]}
    fold = int(folds[7])
    held, _, before = judge_fold(
        fold, features=features, given=given, folds=folds, fits=fits, seed=0, refits=refits
    )
    changed = given.copy()
    changed[7] = (given[7] + 1) % 3
    _, _, after = judge_fold(fold, features=features, given=changed, folds=folds, fits=fits, seed=0, refits=refits)
    assert 7 in held
    np.testing.assert_array_equal(before[name], after[name])


@pytest.mark.parametrize("name", list(CLASSIFIERS))
def test_labels_at_random_are_not_memorised(name: str) -> None:
    rng = np.random.default_rng(1)
    given = rng.integers(0, 4, 400)
    features = rng.normal(size=(400, 30)).astype(np.float32)
    folds = assign_folds(given, np.arange(400), 5, seed=0)
    probs = out_of_fold(features, given, folds, 4, {name: CLASSIFIERS[name]}, seed=0)[name]
    assert (probs.argmax(axis=1) == given).mean() < 0.35
    assert np.log(probs[np.arange(400), given]).mean() > np.log(0.25) - 0.05  # calibrated: hardly worse than 1/4


def test_a_wrong_label_that_was_copied_does_not_confirm_itself() -> None:
    features, truth = clouds(120, 3)
    features = np.concatenate([features, np.repeat(features[:1], 5, axis=0)])
    given = np.concatenate([truth, np.repeat((truth[0] + 1) % 3, 5)])
    given[0] = given[-1]
    families = np.concatenate([np.arange(120), np.zeros(5, int)])
    folds = assign_folds(given, families, 5, seed=0)
    for probs in out_of_fold(features, given, folds, 3, CLASSIFIERS, seed=0).values():
        assert probs[0, truth[0]] > 0.8


def test_refits_learn_from_noisy_labels_what_is_true_and_leave_clean_ones_alone() -> None:
    features, truth = clouds(500, 3, seed=2, spread=2.0)
    random = np.random.default_rng(6)
    noisy = np.where(random.random(500) < 0.3, (truth + random.integers(1, 3, 500)) % 3, truth)
    folds = assign_folds(noisy, np.arange(500), 5, seed=0)
    shares = class_shares(features, noisy, folds, 2, seed=0)
    wrong = noisy != truth
    at_given = shares[np.arange(500), noisy]
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert at_given[wrong].mean() < 0.4
    assert at_given[~wrong].mean() > 0.8
    np.testing.assert_array_equal(class_shares(features, truth, folds, 2, seed=0), np.eye(3)[truth])


def test_two_classes_and_many_classes() -> None:
    for n, n_classes in ((60, 2), (480, 60)):
        features, truth = clouds(n, n_classes, spread=0.3)
        folds = assign_folds(truth, np.arange(n), 5, seed=0)
        for name, probs in out_of_fold(features, truth, folds, n_classes, CLASSIFIERS, seed=0).items():
            known = np.isfinite(probs).all(axis=1)
            assert known.mean() > 0.95
            assert (probs[known].argmax(axis=1) == truth[known]).mean() > (0.9 if n_classes == 2 else 0.5), name


def test_a_class_with_one_image_is_not_judged_and_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [encoded(picture(at % 2, rng)) for at in range(40)] + [encoded(picture(2, rng)), b"no image"]
    given = ["across", "down"] * 20 + ["disc", "down"]
    for answer in Probes(PROBES).answer(ask(tmp_path / "in", images, given, CLASSES)):
        assert np.isnan(answer.probs[40:]).all()
        assert np.isfinite(answer.probs[:40]).all()
        assert answer.card.n_predicted == 40
        assert any("'disc'" in told for told in answer.card.warnings)
        assert any(told.startswith("2 rows are not judged") for told in answer.card.warnings)


def test_too_few_rows_and_unknown_classifiers_are_errors_that_say_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [encoded(picture(at % 2, rng)) for at in range(10)]
    request = ask(tmp_path / "in", images, ["across", "down"] * 5, CLASSES)
    with pytest.raises(InputError, match="at least 20 readable labeled rows"):
        Probes(PROBES).answer(request)
    with pytest.raises(ValidationError, match="linear"):
        ProbesSpec.model_validate(PROBES.model_dump() | {"classifiers": ("linaer",)})
    told = predict_all([PROBES], request)
    assert [error.name for error in told.errors] == ["probes"]
    assert told.table.column_names == ["label_id", "content_sha256"]


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(2, 6))
@settings(max_examples=40, deadline=None)
def test_folds_keep_families_together_and_spread_classes(seed: int, n_classes: int, n_folds: int) -> None:
    rng = np.random.default_rng(seed)
    families = rng.integers(0, 60, 150)
    label_of_family = rng.integers(0, n_classes, 60)
    given = label_of_family[families]
    folds = assign_folds(given, families, n_folds, seed=seed)
    assert all(len(set(folds[families == family])) == 1 for family in np.unique(families))
    renamed = rng.permutation(1000)[families]
    np.testing.assert_array_equal(folds, assign_folds(given, renamed, n_folds, seed=seed))
    for label in np.unique(given):
        n_families = [len(set(families[(given == label) & (folds == fold)])) for fold in range(n_folds)]
        assert max(n_families) - min(n_families) <= 1
