"""The snippets of docs/feed.md, as they stand, on a version that the command line published."""

from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path

import end_to_end as e2e
import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "feed.md"
EVERY = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
BLOCKS = [block for block in EVERY if '"drive"' not in block]  # masks: tests/test_mask_pipeline.py


def test_there_are_five_lines_for_each_of_five() -> None:
    assert len(BLOCKS) == 7  # the loop, where a version is, five readers
    readers = ("ray", "duckdb", "pandas", "datasets")
    assert {name: sum(f"import {name}" in block for block in BLOCKS) for name in readers} == {
        "ray": 1, "duckdb": 1, "pandas": 1, "datasets": 1,
    }  # fmt: skip


@pytest.fixture
def workspace(request: pytest.FixtureRequest, finished: e2e.Finished, tmp_path: Path) -> Path:
    """A workspace of `pets` with splits, or of the same pictures in a folder per class, as in the README's tour."""
    if request.param == "with splits":
        return finished.workspace
    for file in (finished.folder / "data").glob("*/*/*.png"):
        (tmp_path / "data" / file.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, tmp_path / "data" / file.parent.name)
    spec = e2e.write_spec(tmp_path / "pets.yaml", "{format: folder, path: data}")
    done = e2e.call("run", spec, "--workspace", tmp_path / "flat", "--no-review", "--json", "--quiet")
    assert done.code == 0, done.err
    return tmp_path / "flat"


@pytest.mark.parametrize("workspace", ["with splits", "without splits"], indirect=True)
def test_the_snippets_run(
    request: pytest.FixtureRequest,
    workspace: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "workspace").symlink_to(workspace)
    done = e2e.call("export", "pets", "--format", "hf", "--out", "for-hf", "--workspace", workspace, cwd=tmp_path)
    assert done.code == 0, done.err
    names: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages that are not ours
        for block in BLOCKS:
            if "import ray" not in block:
                exec(block.replace("pictures", "pets"), names)  # noqa: S102 - what the page tells people to run
    told = capsys.readouterr().out
    assert "torch.Size([16, 3, 32, 32])" in told
    assert "(24, 24)" in told
    without = request.node.callspec.params["workspace"] == "without splits"
    assert re.search(rf"{'unsplit' if without else 'train'} +cat +\d", told)
    uses = sorted((workspace / "manifests" / "pets" / "used").rglob("*.json"))
    assert ["run-17" in use.read_text(encoding="utf-8") for use in uses] == [True]
