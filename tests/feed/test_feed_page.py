"""The snippets of docs/feed.md, as they stand, on a version that the command line published."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import end_to_end as e2e
import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "feed.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_there_are_five_lines_for_each_of_five() -> None:
    assert len(BLOCKS) == 7  # the loop, where a version is, five readers
    readers = ("ray", "duckdb", "pandas", "datasets")
    assert {name: sum(f"import {name}" in block for block in BLOCKS) for name in readers} == {
        "ray": 1, "duckdb": 1, "pandas": 1, "datasets": 1,
    }  # fmt: skip


def test_the_snippets_run(
    finished: e2e.Finished,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "workspace").symlink_to(finished.workspace)
    done = e2e.call(
        "export", "pets", "--format", "hf", "--out", "for-hf", "--workspace", finished.workspace, cwd=tmp_path
    )
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
    assert "released_label" in told
    uses = sorted((finished.workspace / "manifests" / "pets" / "used").rglob("*.json"))
    assert ["run-17" in use.read_text(encoding="utf-8") for use in uses] == [True]
