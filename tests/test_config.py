from dataclasses import replace
from pathlib import Path

import pytest

from curate import config
from curate.check import discover
from curate.check_params import params_of
from curate.config import load_spec
from curate.errors import ConfigError

GOOD = """\
name: pets
source:
  format: folder
  path: images
classes: [cat, dog]
aliases: {kitty: cat}
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "pets.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_good_spec_loads_and_paths_are_relative_to_it(tmp_path: Path) -> None:
    loaded = config.load_spec(write(tmp_path, GOOD))
    assert loaded.spec.name == "pets"
    assert loaded.resolve("images") == (tmp_path / "images").resolve()


@pytest.mark.parametrize(
    ("line", "number", "words"),
    [
        ("clases: [cat]", 7, ["'clases'", "Did you mean 'classes'?"]),
        ("policy:\n  rulez: []", 8, ["policy.rulez", "Did you mean 'rules'?"]),
        (
            "policy:\n  gates:\n  - {statistic: label_noise.noise_rate, max: 1, lvel: fail}",
            9,
            ["lvel", "Did you mean 'level'?"],
        ),
        ("policy:\n  gates:\n  - {statistic: label_noise.noise_rate}", 9, ["max or min"]),
        ("policy:\n  rules:\n  - {issue: mislabl, action: keep}", 9, ["'mislabl'", "Did you mean 'mislabel'?"]),
        ("policy:\n  rules:\n  - {issue: '*', check: box_nois, action: keep}", 9, ["Did you mean 'box_noise'?"]),
        ("policy:\n  gates:\n  - {statistic: label_nose.x, max: 1}", 9, ["Did you mean 'label_noise'?"]),
        (
            "policy:\n  gates:\n  - {statistic: demographic_balance.shar, max: 1}",
            9,
            ["mean 'demographic_balance.share'?"],
        ),
        ("policy:\n  gates:\n  - {statistic: label_noise.nonsense_*, max: 1}", 9, ["'label_noise.nonsense_*'"]),
        ("teachers:\n  - {kind: probes, features: efficientnet-lite9}", 8, ["Did you mean 'efficientnet-lite0'?"]),
        ("policy:\n  gates:\n  - {statistic: ingest.shareout, max: 1}", 9, ["Did you mean 'ingest.share_out'?"]),
        ("policy:\n  gates:\n  - {statistic: release.excluded, max: 1}", 9, ["mean 'release.share_excluded'?"]),
        ("policy:\n  gates:\n  - {statistic: teachers.map5, min: 1}", 9, ["Did you mean 'teachers.map50'?"]),
        ("policy:\n  gates:\n  - {statistic: audit.presision, min: 1}", 9, ["Did you mean 'audit.precision'?"]),
        ("policy:\n  gates:\n  - {statistic: expectations.lables, min: 1}", 9, ["mean 'expectations.labels'?"]),
        ("policy:\n  gates:\n  - {statistic: removal_cap.n_held, max: 1}", 9, ["mean 'removal_cap.n_held_back'?"]),
        ("policy:\n  gates:\n  - {statistic: evaluation.f2, min: 1}", 9, ["Did you mean 'evaluation.f1'?"]),
        ("teachers:\n  - {kind: probes, classifiers: [linear, netwrk]}", 8, ["Did you mean 'network'?"]),
        ("teachers:\n  - {kind: probes, classifiers: []}", 8, ["classifiers", "at least 1"]),
        ("teachers:\n  - kind: probe", 8, ["Did you mean 'probes'?"]),
        ("teachers:\n  - kind: probes\n    fold: 3", 9, ["fold", "Did you mean 'folds'?"]),
        ("seed: many", 7, ["seed", "'many'"]),
        ("attributes:\n  age: {column: age, obtained: percieved}", 8, ["Did you mean 'perceived'?"]),
        ("split: {fractions: {train: 0.5, val: 0.1}}", 7, ["sum to 1", "0.6"]),
        ("name: again", 7, ["'name' stands twice", "line 1"]),
        ("classes2: !!python/object/apply:os.system [ls]", 7, ["python/object"]),
        ("license: ???", 7, ["still blank"]),
        ("checks:\n  image_qualty: {}", 8, ["Did you mean 'image_quality'?"]),
        ("checks:\n  image_quality:\n    dark_mx: 0.3", 9, ["'dark_mx'", "Did you mean 'dark_max'?"]),
        ("checks:\n  image_quality: {dark_max: dark}", 8, ["image_quality.dark_max", "'dark'"]),
        ("checks:\n  image_quality: {dark_max: true}", 8, ["image_quality.dark_max", "True"]),
        ("checks:\n  image_quality: {dark_max: .nan}", 8, ["image_quality.dark_max", "finite"]),
        ("checks:\n  leakage: {split_order: test}", 8, ["leakage.split_order", "'test'"]),
        ("checks:\n  class_balance: {min_per_class: 2.5}", 8, ["class_balance.min_per_class", "2.5"]),
        ("aliases: {kitty: cow}", 7, ["aliases"]),
    ],
)
def test_what_is_wrong_names_file_line_key_and_the_nearest_word(
    tmp_path: Path, line: str, number: int, words: list[str]
) -> None:
    file = write(tmp_path, GOOD + line + "\n")
    with pytest.raises(ConfigError) as caught:
        config.load_spec(file)
    message = str(caught.value)
    assert f"{file}:{number}:" in message
    for word in words:
        assert word in message


def test_an_unknown_format_names_the_nearest(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD.replace("folder", "foldr"))
    with pytest.raises(ConfigError, match=rf"{file}:3: .*Did you mean 'folder'\?"):
        config.load_spec(file)


def test_an_option_of_another_format_is_an_error(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD.replace("  path: images", "  path: images\n  type: fiftyone.types.COCO"))
    with pytest.raises(ConfigError, match=r":5: unknown key 'source\.type' for the format folder"):
        config.load_spec(file)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe", "UTF-8"),
        (b"", "empty"),
        (b"a: [1", "not valid YAML"),
        (b"- a\n", "spec"),
        (b"&a [*a]", "alias"),
    ],
)
def test_what_is_no_spec_is_said_to_be_none(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        config.load_spec(file)


def test_a_bomb_of_aliases_is_refused_at_once(tmp_path: Path) -> None:
    rows = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60)]
    with pytest.raises(ConfigError, match="alias"):
        config.load_spec(write(tmp_path, "\n".join(rows)))


def test_a_missing_spec_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="curate init"):
        config.load_spec(tmp_path / "none.yaml")


def test_a_spec_is_frozen(tmp_path: Path) -> None:
    spec = config.load_spec(write(tmp_path, GOOD)).spec
    with pytest.raises(ValueError, match="frozen"):
        spec.name = "other"  # type: ignore[misc]


def test_a_spec_that_is_not_there_names_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "digits.yaml").write_text("name: digits\n")
    with pytest.raises(
        ConfigError, match=r"no spec at .*digitz\.yaml\. Did you mean 'digits\.yaml'\? Write one with"
    ):
        load_spec(tmp_path / "digitz.yaml")
    with pytest.raises(ConfigError, match=r"no spec at .*pets\.yaml\. Write one with: curate init"):
        load_spec(tmp_path / "nowhere" / "pets.yaml")


def test_what_a_spec_says_to_a_check_has_the_types_that_the_check_declares() -> None:
    leakage = discover()["leakage"]
    assert params_of(leakage, {"split_order": ["val", "test"], "max_tone_difference": 1}) == {
        "split_order": ("val", "test"),
        "max_tone_difference": 1.0,
    }
    with pytest.raises(ConfigError, match="leakage takes no parameters; given: max_related"):
        params_of(replace(leakage, params=None), {"max_related": 3})
