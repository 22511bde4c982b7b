from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from checks_views import found, sample, samples_view, statistic
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.check import run_check
from curate.checks.duplicates import CHECK, families, links, near_duplicate_links
from curate.checks.hamming import near_pairs

FLAT = {"entropy_bits": 0.1, "phash": 0}


def _ids(*numbers: int) -> list[str]:
    return sorted(sample(n)["sample_id"] for n in numbers)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 3, 7, 2**63]), max_size=40),
    st.integers(0, 9),
)
def test_every_near_pair_is_found_and_no_other(values: list[int], max_bits: int) -> None:
    codes = np.asarray(values, dtype=np.uint64)
    pairs = near_pairs(codes, max_bits)
    expected = [
        (i, j)
        for i, j in itertools.combinations(range(len(values)), 2)
        if (values[i] ^ values[j]).bit_count() <= max_bits
    ]
    assert list(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)) == expected
    assert pairs.is_complete
    assert pairs.distance_bits.tolist() == [(values[i] ^ values[j]).bit_count() for i, j in expected]


@pytest.mark.parametrize("bits", range(5))
def test_planted_pairs_are_found_among_many(bits: int) -> None:
    rng = np.random.default_rng(bits)
    codes = rng.integers(0, 2**64 - 1, 20_000, dtype=np.uint64)
    for target in range(10_000, 10_200):
        flips = rng.choice(64, bits, replace=False)
        codes[target] = (
            codes[target - 10_000] ^ np.bitwise_or.reduce(np.uint64(1) << flips.astype(np.uint64))
            if bits
            else codes[target - 10_000]
        )
    pairs = near_pairs(codes, 4)
    assert {(i, i + 10_000) for i in range(200)} <= set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))


def test_a_crowded_bucket_is_cut_and_says_so() -> None:
    pairs = near_pairs(np.zeros(5_000, dtype=np.uint64), 4, window=8)
    assert not pairs.is_complete
    assert len(pairs.left) <= 8 * 5_000
    few = near_pairs(np.zeros(1_000, dtype=np.uint64), 0, max_pairs=100)
    assert not few.is_complete
    assert len(few.left) == 100


def test_of_three_copies_the_evaluation_copy_stays() -> None:
    copies = [sample(i, content_sha256="c", split=s) for i, s in enumerate(("train", "val", "test2017"))]
    rows = found(run_check(CHECK, samples_view([*copies, sample(9)])).findings, "exact_duplicate")
    assert sorted(row["sample_id"] for row in rows) == _ids(0, 1)
    assert all(row["related_ids"] == _ids(2) and row["risk"] == 1.0 for row in rows)
    assert {row["reason_code"] for row in rows} == {"exact_duplicate_bytes"}


def test_the_same_pixels_in_other_bytes_are_a_copy() -> None:
    rows = found(
        run_check(CHECK, samples_view([sample(i, thumbnail_sha256="p") for i in range(2)])).findings,
        "exact_duplicate",
    )
    assert [row["reason_code"] for row in rows] == ["exact_duplicate_pixels"]
    assert rows[0]["related_ids"] == [min(_ids(0, 1))]


@pytest.mark.parametrize(
    ("other", "is_near"),
    [
        ({"phash": 0b1111}, True),
        ({"phash": 0b11111}, False),
        ({"phash": 0b1, "brightness_p50": 0.59}, True),
        ({"phash": 0b1, "brightness_p50": 0.7}, False),
        ({"phash": 0b1, "width_px": 100}, False),
        ({"phash": 0, "width_px": 128, "height_px": 96}, True),
        ({"phash": None}, False),
        ({"phash": 0, "error_code": "truncated"}, False),
    ],
)
def test_near_needs_the_hash_and_the_tone_and_the_shape(other: dict[str, object], is_near: bool) -> None:
    rows = found(
        run_check(CHECK, samples_view([sample(0, phash=0), sample(1, **other)])).findings, "near_duplicate"
    )
    assert sorted(row["sample_id"] for row in rows) == (_ids(0, 1) if is_near else [])


def test_flat_pictures_are_left_out_with_a_reason() -> None:
    result = run_check(CHECK, samples_view([sample(i, **FLAT) for i in range(3)]))
    assert not found(result.findings, "near_duplicate")
    assert {row["reason_code"] for row in found(result.findings, "not_compared")} == {"too_flat_to_compare"}
    assert statistic(result.statistics, "share_too_flat")["value"] == 1.0


def test_a_crowd_of_alike_pictures_is_not_compared_pairwise() -> None:
    result = run_check(CHECK, samples_view([sample(i, phash=7) for i in range(3_000)]))
    rows = found(result.findings, "near_duplicate")
    assert len(rows) == 3_000
    assert all(len(row["related_ids"]) == 10 for row in rows)
    assert all('"n_near":2999' in row["reason_args"] for row in rows)
    assert statistic(result.statistics, "search_complete")["value"] == 1.0


@settings(deadline=None)
@given(st.integers(1, 12), st.data())
def test_families_do_not_depend_on_the_order(n: int, data: st.DataObject) -> None:
    pairs = data.draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=12))
    ids = [f"{i:02d}" for i in range(n)]
    plain = families(ids, pairs)
    order = data.draw(st.permutations(range(n)))
    where = {old: new for new, old in enumerate(order)}
    moved = families([ids[i] for i in order], [(where[a], where[b]) for a, b in pairs])
    assert [plain[i] for i in order] == moved.tolist()
    assert all(plain[a] == plain[b] for a, b in pairs)
    assert plain[0] == 0
    assert set(plain.tolist()) == set(range(max(plain) + 1))


def test_families_join_copies_near_copies_and_groups() -> None:
    rows = [
        sample(0, phash=0),
        sample(1, phash=1),
        sample(2, content_sha256="c", group_video="v"),
        sample(3, content_sha256="c"),
        sample(4, group_video="v"),
        sample(5, error_code="truncated"),
    ]
    view = samples_view(rows)
    pairs = np.concatenate([near_duplicate_links(view), links(view["group_video"])])
    family = families(view["sample_id"], pairs)
    assert family[0] == family[1]
    assert family[2] == family[3] == family[4]
    assert len(set(family.tolist())) == 3


def test_pairs_outside_the_rows_are_an_error() -> None:
    with pytest.raises(ValueError, match="positions of the 2 rows"):
        families(pa.array(["a", "b"]), [(0, 2)])
