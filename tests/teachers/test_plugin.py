"""A teacher of another package: found by its entry point, told its own keys, asked like any other."""

from __future__ import annotations

import sys
from pathlib import Path

import end_to_end as e2e
import pyarrow.parquet as pq
import pytest

from curate import config
from curate.errors import ConfigError

MODULE = '''
import errno, os
import numpy as np
from curate.teachers.protocol import Answer, TeacherCard


class Stubborn:
    """Says the same class of everything."""

    def __init__(self, spec):
        self.name, self.says, self.digest = spec.name, spec.says, spec.says

    def answer(self, request):
        if os.environ.get("MULE") == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        if os.environ.get("MULE") == "broken":
            raise ValueError("no such layer")
        probs = np.zeros((request.labels.num_rows, len(request.classes)), np.float32)
        probs[:, request.classes.index(self.says)] = 1
        card = TeacherCard(self.name, "stubborn", None, None, out_of_fold=False, calibration=None,
                           digest=self.digest, n_predicted=len(probs))
        return [Answer(card, probs)]
'''


@pytest.fixture
def plugged(tmp_path: Path) -> Path:
    """Install the module as pip would, and return the folder to put on the path."""
    (tmp_path / "stubborn_teacher.py").write_text(MODULE)
    info = tmp_path / "stubborn_teacher-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stubborn-teacher\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[curate.teachers]\nstubborn = stubborn_teacher:Stubborn\n")
    return tmp_path


TEACHER = "\nteachers:\n  - {kind: stubborn, name: mule, says: dog}\n"


def test_a_teacher_of_another_package_judges_a_run(plugged: Path) -> None:
    e2e.write_classes(plugged / "data")
    spec = e2e.write_spec(plugged / "pets.yaml", "{format: folder, path: data}", rest=TEACHER)
    path = {"PYTHONPATH": f"{plugged}:{Path(config.__file__).parents[1]}"}
    done = e2e.call("run", spec, "--workspace", plugged / "ws", "--no-review", "--json", env=path)
    assert done.code in {0, 1}, done.err
    [predictions] = (plugged / "ws" / "pets" / "cache" / "teachers").glob("*.predictions.parquet")
    assert pq.read_table(predictions)["prob_mule"].to_pylist() == [[0.0, 1.0, 0.0]] * 60  # cat, dog, eel


def test_a_teacher_that_failed_is_no_pass_and_is_asked_again(plugged: Path) -> None:
    e2e.write_classes(plugged / "data")
    spec = e2e.write_spec(plugged / "pets.yaml", "{format: folder, path: data}", rest=TEACHER)
    path = {"PYTHONPATH": f"{plugged}:{Path(config.__file__).parents[1]}"}
    arguments = ("run", spec, "--workspace", plugged / "ws", "--no-review", "--json")
    full = e2e.call(*arguments, env=path | {"MULE": "full"})
    assert full.code == 4
    assert "No space left" in full.err
    assert not (plugged / "ws" / "manifests").exists()
    broken = e2e.call(*arguments, env=path | {"MULE": "broken"})
    assert broken.code == 1
    told = {gate["statistic"]: gate["message"] for gate in broken.json["gates_not_passed"]}
    assert "mule: ValueError: no such layer" in told["label_noise.ran"]
    well = e2e.call(*arguments, env=path)
    assert well.code in {0, 1}, well.err
    assert "label_noise.ran" not in {gate["statistic"] for gate in well.json["gates_not_passed"]}


def test_a_kind_that_nobody_provides_names_those_there_are(plugged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = plugged / "x.yaml"
    spec.write_text("name: x\nsource: {format: folder, path: .}" + TEACHER.replace("stubborn", "stuborn"))
    monkeypatch.syspath_prepend(plugged)
    with pytest.raises(
        ConfigError, match=r":4: .*no kind of teacher 'stuborn'.*table, .*stubborn.*mean 'stubborn'"
    ):
        config.load_spec(spec)
    spec.write_text("name: x\nsource: {format: folder, path: .}" + TEACHER)
    assert config.load_spec(spec).spec.teachers[0].model_dump()["says"] == "dog"
    assert "stubborn_teacher" not in sys.modules  # reading a spec runs no code of others


@pytest.mark.parametrize("group", ["checks", "sources", "teachers"])
def test_a_plugin_that_cannot_be_imported_is_a_config_error_before_anything_runs(plugged: Path, group: str) -> None:
    e2e.write_classes(plugged / "data")
    broken = "stubborn = stubborn_teacher.nothere:THING\n"
    (plugged / "stubborn_teacher-1.dist-info" / "entry_points.txt").write_text(f"[curate.{group}]\n{broken}")
    form = "stubborn" if group == "sources" else "folder"
    rest = TEACHER if group == "teachers" else ""
    spec = e2e.write_spec(plugged / "pets.yaml", f"{{format: {form}, path: data}}", rest=rest)
    path = {"PYTHONPATH": f"{plugged}:{Path(config.__file__).parents[1]}"}
    done = e2e.call("run", spec, "--workspace", plugged / "ws", "--no-review", "--dry-run", env=path)
    assert done.code == 2, done.err
    words = " ".join(done.err.split())
    for word in ("'stubborn'", f"curate.{group}", "stubborn-teacher 1", "pip uninstall stubborn-teacher"):
        assert word in words
    assert not (plugged / "ws" / "manifests").exists()
