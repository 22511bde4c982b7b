import pyarrow as pa
import pytest

from curate.errors import ConfigError
from curate.spec import SplitSpec
from curate.splits import assign_splits

RULE = SplitSpec(fractions={"train": 0.8, "val": 0.1, "test": 0.1})


def samples(n: int, **columns: list[str | None]) -> pa.Table:
    split = columns.pop("split", [None] * n)
    table = {"sample_id": [f"{i:024x}" for i in range(n)], "split": pa.array(split, pa.string()), **columns}
    return pa.table(table)


def test_given_splits_are_kept_and_the_rest_is_named() -> None:
    table = assign_splits(samples(3, split=["test", None, "train"]), "given", seed=0)
    assert table["split"].to_pylist() == ["test", "unsplit", "train"]


def test_shares_are_about_right_and_given_ones_stay() -> None:
    table = assign_splits(samples(5000, split=["test"] + [None] * 4999), RULE, seed=0)
    split = table["split"].to_pylist()
    assert split[0] == "test"
    assert 0.77 < split.count("train") / 5000 < 0.83


def test_adding_samples_moves_none() -> None:
    before = assign_splits(samples(500), RULE, seed=3)["split"].to_pylist()
    after = assign_splits(samples(900), RULE, seed=3)["split"].to_pylist()
    assert after[:500] == before
    assert assign_splits(samples(500), RULE, seed=4)["split"].to_pylist() != before


def test_a_group_is_never_split() -> None:
    video = [f"v{i // 20}" for i in range(1000)]
    table = assign_splits(samples(1000, group_video=video), RULE.model_copy(update={"by": "video"}), seed=0)
    pairs = set(zip(video, table["split"].to_pylist(), strict=True))
    assert len(pairs) == 50
    assert len({split for _, split in pairs}) > 1


def test_an_unknown_group_is_an_error_with_a_hint() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean 'video'\?"):
        assign_splits(samples(2, group_video=["a", "b"]), RULE.model_copy(update={"by": "vido"}), seed=0)
