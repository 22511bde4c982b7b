from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path

import pyarrow.compute as pc
import pytest
from PIL import Image

from curate.config import load_spec
from curate.errors import ConfigError
from curate.ingest.demo_digits import SOURCE
from curate.ingest.source import Ingested, ReadOptions

SPEC = Path(__file__).parents[2] / "datasets" / "digits.yaml"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


def options(scratch: Path | None, **extra: object) -> ReadOptions:
    return ReadOptions(source="digits", root=Path("/nowhere"), scratch=scratch, options=extra)


@pytest.fixture(scope="module")
def ingested(scratch: Path) -> Ingested:
    return SOURCE.read(options(scratch))


def planted(scratch: Path) -> list[dict[str, str]]:
    with (SOURCE.folder(options(scratch)) / "planted.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_every_row_has_one_outcome_and_only_the_empty_file_is_out(ingested: Ingested) -> None:
    assert ingested.outcomes.num_rows == 1797 + 7
    out = ingested.outcomes.filter(pc.field("outcome") == "out")
    assert out["reason_code"].to_pylist() == ["zero_bytes"]
    assert ingested.samples.num_rows == ingested.labels.num_rows == 1797 + 6
    assert ingested.classes == tuple("0123456789")


def test_eight_percent_of_the_training_labels_are_wrong_and_written_down(ingested: Ingested, scratch: Path) -> None:
    table = ingested.labels.select(["sample_id", "label", "reference_label"]).join(
        ingested.samples.select(["sample_id", "split", "uri"]), "sample_id"
    )
    wrong = table.filter(pc.field("label") != pc.field("reference_label"))
    assert set(wrong["split"].to_pylist()) == {"train"}
    n_train = table.filter(pc.field("split") == "train").num_rows
    assert wrong.num_rows / n_train == pytest.approx(0.08, abs=0.005)
    listed = {row["file"] for row in planted(scratch) if row["kind"] == "wrong_label"}
    assert {uri.split("/", 1)[1] for uri in wrong["uri"].to_pylist()} == listed
    per_class = pc.value_counts(wrong["reference_label"]).to_pylist()
    counts = {row["values"]: row["counts"] for row in per_class}
    assert counts["3"] > counts["0"]


def test_the_planted_files_are_what_they_are_said_to_be(scratch: Path) -> None:
    root = SOURCE.folder(options(scratch))
    kinds: dict[str, list[tuple[bytes, bytes]]] = {}
    for row in planted(scratch):
        if row["kind"] != "wrong_label":
            pair = ((root / row["file"]).read_bytes(), (root / row["detail"]).read_bytes())
            kinds.setdefault(row["kind"], []).append(pair)
    assert {kind: len(pairs) for kind, pairs in kinds.items()} == {
        "exact_duplicate": 4,
        "near_duplicate": 1,
        "truncated": 1,
        "zero_bytes": 1,
    }
    assert all(copy == original for copy, original in kinds["exact_duplicate"])
    assert all(copy != original for copy, original in kinds["near_duplicate"])
    with pytest.raises(OSError, match="truncated"):
        Image.open(io.BytesIO(kinds["truncated"][0][0])).load()
    assert kinds["zero_bytes"][0][0] == b""


def test_the_images_are_small_gray_pngs(ingested: Ingested, scratch: Path) -> None:
    uri = ingested.samples["uri"][0].as_py()
    with Image.open(scratch / uri) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (32, 32))


def test_another_run_writes_the_same_bytes(ingested: Ingested, scratch: Path, tmp_path: Path) -> None:
    again = SOURCE.read(options(tmp_path))
    assert digest(SOURCE.folder(options(tmp_path))) == digest(SOURCE.folder(options(scratch)))
    drop = ["mtime_ns"]
    assert again.samples.drop_columns(drop).equals(ingested.samples.drop_columns(drop))
    assert again.labels.equals(ingested.labels)


def test_files_that_are_there_are_not_written_again(ingested: Ingested, scratch: Path) -> None:
    again = SOURCE.read(options(scratch))
    assert again.samples.equals(ingested.samples)  # mtime_ns too
    assert [path.name for path in scratch.iterdir()] == [SOURCE.folder(options(scratch)).name]


def test_other_options_are_other_files(scratch: Path, tmp_path: Path) -> None:
    clean = SOURCE.read(options(tmp_path, wrong_share=0))
    assert pc.all(pc.equal(clean.labels["label"], clean.labels["reference_label"])).as_py()
    assert SOURCE.folder(options(tmp_path, wrong_share=0)).name != SOURCE.folder(options(scratch)).name


@pytest.mark.parametrize("bad", [{"wrong_share": 0.9}, {"wrong_share": "many"}, {"seed": 0.5}])
def test_a_wrong_option_is_named(tmp_path: Path, bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"source.{next(iter(bad))}"):
        SOURCE.read(options(tmp_path, **bad))


def test_without_scratch_it_says_what_is_missing() -> None:
    with pytest.raises(ConfigError, match="scratch"):
        SOURCE.read(options(None))


def test_the_spec_is_valid_and_names_the_classes_of_the_source(ingested: Ingested) -> None:
    spec = load_spec(SPEC).spec
    assert spec.source.format == "digits"
    assert tuple(spec.classes) == ingested.classes
    assert {gate.statistic for gate in spec.policy.all_gates()} >= {"label_noise.noise_rate", "ingest.share_out"}
