"""Several labels a row: what is left out and what is invented, on tables that a user may hand in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.errors import InputError
from curate.teachers.column_order import find_moved_of_several
from curate.teachers.flag_table import flag_table
from curate.teachers.flag_words import flag_lines
from curate.teachers.multi_label import fit_multi_label, score_multi_label

CLASSES = ("bird", "cat", "dog", "tree")
SHARES = np.array([0.3, 0.2, 0.1, 0.4])
N = 1500


def scenes(left_out: float, invented: float, seed: int = 0) -> tuple[Any, Any, dict[str, Any]]:
    """Return truth, given (N, K) booleans, and three teachers' independent probabilities."""
    random = np.random.default_rng(seed)
    truth = random.random((N, 4)) < SHARES
    given = truth ^ (random.random((N, 4)) < np.where(truth, left_out, invented))
    probs = {}
    for name in ("a", "b", "c"):
        logits = random.normal(size=truth.shape) * 1.3 + np.where(truth, 2.5, -2.5)
        probs[name] = (1 / (1 + np.exp(-logits))).astype(np.float32)
    return truth, given, probs


def write(path: Path, labels: list[Any], probs: dict[str, Any], *, group: int = 400) -> Path:
    kind = pa.list_(pa.field("item", pa.float32()), 4)
    columns = {
        "sample_id": [f"s{i:04d}" for i in range(len(labels))],
        "label": pa.array(labels, pa.list_(pa.string())),
    }
    columns |= {
        f"prob_{n}": pa.FixedSizeListArray.from_arrays(pa.array(p.ravel()), type=kind) for n, p in probs.items()
    }
    pq.write_table(
        pa.table(columns).replace_schema_metadata({"classes": ",".join(CLASSES)}), path, row_group_size=group
    )
    return path


def named(given: Any) -> list[list[str]]:  # noqa: ANN401 - a matrix
    return [[CLASSES[k] for k in np.flatnonzero(row)] for row in given]


def test_left_out_and_invented_classes_are_found_and_turned_over(tmp_path: Path) -> None:
    truth, given, probs = scenes(0.15, 0.03)
    summary = flag_table(write(tmp_path / "in.parquet", named(given), probs), tmp_path / "out.parquet")
    out = pq.read_table(tmp_path / "out.parquet").to_pylist()
    wrong = (given != truth).any(axis=1)
    flagged = np.array([row["flagged"] for row in out])
    assert (flagged == wrong).mean() > 0.95
    restored = [set(row["suggested_label"]) == set(names) for row, names in zip(out, named(truth), strict=True)]
    assert np.mean(np.array(restored)[flagged]) > 0.9
    assert summary.n_flagged == flagged.sum()
    assert (summary.regime, summary.estimates_agree) == ("shared", False)
    assert 0.02 < summary.estimates["bird"].estimate < 0.12
    row = next(row for row in out if row["flagged"] and row["suspect_class"] not in row["label"])
    assert f"teachers see {row['suspect_class']} (mean probability" in row["reason"]
    assert row["reason"].endswith("the labels leave it out")
    assert any(row["reason"].endswith("the labels name it") for row in out if row["flagged"])


def test_rows_and_answers_are_told_apart_and_the_share_of_wrong_answers_has_an_interval(tmp_path: Path) -> None:
    truth, given, probs = scenes(0.15, 0.03)
    summary = flag_table(write(tmp_path / "in.parquet", named(given), probs), tmp_path / "out.parquet")
    out = pq.read_table(tmp_path / "out.parquet").to_pylist()
    turned = [set(row["suggested_label"]) ^ set(row["label"]) for row in out]
    assert summary.answers == (N * 4, sum(map(len, turned)))
    rate = summary.noise_rate
    assert rate.low < (given != truth).mean() < rate.high
    first = flag_lines(summary)[0]
    assert f"{summary.n_flagged:,} of 1,500 rows are flagged, for {summary.answers[1]:,} of 6,000 answers" in first
    assert f"wrong answers: about {rate.estimate:.1%} (interval {rate.low:.1%} to {rate.high:.1%}" in first


def test_clean_labels_get_next_to_no_flags() -> None:
    truth, _, probs = scenes(0.0, 0.0)
    names = list(probs)
    model = fit_multi_label(truth, names, np.stack(list(probs.values()), axis=1))
    assert (
        score_multi_label(model, truth, np.ones(N, dtype=bool), names, list(probs.values())).flagged.mean() <= 0.005
    )


def test_what_cannot_be_judged_is_named_and_an_empty_list_is_a_label(tmp_path: Path) -> None:
    _, given, probs = scenes(0.1, 0.02)
    labels: list[Any] = named(given)
    labels[0], labels[1], labels[2] = None, ["catt"], []
    probs["a"][3, 0] = 1.7
    probs["b"][5, 2] = np.nan
    flag_table(write(tmp_path / "in.parquet", labels, probs), tmp_path / "out.parquet")
    out = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["risk"] is None for row in out[:6]] == [True, True, False, True, False, True]
    assert "the row has no label" in out[0]["reason"]
    assert "catt" in out[1]["reason"]
    assert "some of the probabilities of teacher a are not from 0 to 1" in out[3]["reason"]
    assert "some of the probabilities of teacher b are NaN" in out[5]["reason"]
    assert not any(row["flagged"] for row in (out[0], out[1], out[3]))


def test_batches_and_order_change_nothing(tmp_path: Path) -> None:
    _, given, probs = scenes(0.1, 0.02)
    flag_table(write(tmp_path / "a.parquet", named(given), probs), tmp_path / "a.out.parquet")
    order = np.random.default_rng(1).permutation(N)
    path = tmp_path / "b.parquet"
    table = pq.read_table(tmp_path / "a.parquet").take(pa.array(order))
    pq.write_table(table, path, row_group_size=77)
    flag_table(path, tmp_path / "b.out.parquet")
    one, other = (pq.read_table(tmp_path / f"{name}.out.parquet").sort_by("sample_id") for name in "ab")
    assert one.equals(other)


def test_a_class_with_hardly_any_rows_is_not_judged_and_is_named(tmp_path: Path) -> None:
    _, given, probs = scenes(0.1, 0.02)
    given[:, 1] = np.arange(N) < 3
    summary = flag_table(write(tmp_path / "in.parquet", named(given), probs), tmp_path / "out.parquet")
    assert summary.why.endswith("not judged for lack of rows: cat")
    assert "cat" not in pq.read_table(tmp_path / "out.parquet")["suspect_class"].to_pylist()


def test_logits_are_an_error(tmp_path: Path) -> None:
    _, given, probs = scenes(0.1, 0.02)
    logits = {name: np.log(p / (1 - p)) * 9 for name, p in probs.items()}
    with pytest.raises(InputError, match="None of the 1500 rows can be judged"):
        flag_table(write(tmp_path / "in.parquet", named(given), logits), tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def many_scenes(seed: int, n_classes: int, *, wrong: float = 0.1) -> tuple[Any, Any]:
    """Return given (N, K), each with one to four classes of which some often come together, and one teacher's answers."""
    random = np.random.default_rng(seed)
    truth = random.random((N, n_classes)) < np.linspace(0.3, 0.05, n_classes)
    truth[:, 1] |= truth[:, 0] & (random.random(N) < 0.7)
    logits = random.normal(size=truth.shape) * 1.3 + np.where(truth, 2.0, -2.5)
    given = truth ^ (random.random(truth.shape) < np.where(truth, wrong, wrong / 10))
    return given, (1 / (1 + np.exp(-logits))).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n_classes", [4, 12])
def test_columns_in_another_order_are_found_where_rows_have_several_labels(seed: int, n_classes: int) -> None:
    given, probs = many_scenes(seed, n_classes)
    assert find_moved_of_several(["t"], probs[:, None], given) == ()
    rows = np.roll(np.random.default_rng(seed).permutation(n_classes), 1)
    assert (rows != np.arange(n_classes)).any()
    (moved,) = find_moved_of_several(["t"], probs[:, None][:, :, np.argsort(rows)], given)
    found = dict(zip(moved.classes, moved.fits, strict=True))
    assert found == {k: int(rows[k]) for k in range(n_classes) if rows[k] != k}


def test_wrong_labels_and_weak_teachers_are_no_wrong_order() -> None:
    given, probs = many_scenes(0, 12, wrong=0.4)
    assert find_moved_of_several(["t"], probs[:, None], given) == ()
    noise = np.random.default_rng(1).random(probs.shape).astype(np.float32)
    popular = np.linspace(0.9, 0.1, 12)[None] * np.ones((N, 1))
    assert find_moved_of_several(["a", "b"], np.stack([noise, popular], axis=1), given) == ()


def test_a_wrong_order_of_several_labels_is_told_in_summary_and_table(tmp_path: Path) -> None:
    _, given, probs = scenes(0.05, 0.01)
    turned = {name: p[:, [1, 2, 0, 3]] for name, p in probs.items()}
    summary = flag_table(write(tmp_path / "in.parquet", named(given), turned), tmp_path / "out.parquet")
    (warning,) = summary.warnings
    assert warning["classes_that_fit"] == ["cat", "dog", "bird", "tree"]
    assert "WARNING: the columns of prob_a, prob_b, prob_c seem to stand in another order" in flag_lines(summary)[0]
    assert b"seem to stand in another order" in pq.read_table(tmp_path / "out.parquet").schema.metadata[b"curate"]
    assert "these estimates disagree" not in "\n".join(flag_lines(summary))
