"""The notebooks run from top to bottom, are committed without outputs, and use public names only."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import nbformat
import pytest

from curate.manifest import life, log

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def read(path: Path) -> Any:  # noqa: ANN401 - nbformat's node
    return nbformat.read(path, as_version=4)


def texts(notebook: Any) -> str:  # noqa: ANN401 - as above
    """Return what the cells have printed and shown."""
    told = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            told.append(output.get("text", ""))
            told += [str(value) for kind, value in output.get("data", {}).items() if kind.startswith("text/")]
    return "\n".join(told)


def test_there_is_an_audit() -> None:
    assert [path.name for path in NOTEBOOKS if path.name == "audit.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_committed_without_outputs(path: Path) -> None:
    code = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_only_public_names(path: Path) -> None:
    import curate  # noqa: PLC0415 - what is public is read from it

    for cell in read(path).cells:
        if cell.cell_type != "code":
            continue
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("curate")
            if isinstance(node, ast.Import):
                assert all(not one.name.startswith("curate.") for one in node.names)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "curate":
                assert node.attr in curate.__all__


def test_the_log_of_the_audit_calls_entries_what_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import curate  # noqa: PLC0415 - as above

    for one in ("ab", "cd"):
        log.append(tmp_path, "zoo", one * 32, gates="passed", counts={})
    named = log.LogEntry(log.next_number(tmp_path, "zoo"), "tag", "ab" * 32, log.now(), "here", tag="gold")
    log.put_entry(tmp_path, "zoo", named)
    life.retract(tmp_path, "zoo@v2", why="wrong license")
    (cell,) = (c for c in read(ROOT / "notebooks" / "audit.ipynb").cells if "in curate.read_log(" in c.source)
    exec(cell.source, {"curate": curate, "manifests": tmp_path, "NAME": "zoo"})  # noqa: S102 - a cell of ours
    told = [re.sub(r" [0-9a-f]{12} \S+Z ", " … ", line) for line in capsys.readouterr().out.splitlines()]
    assert told == [
        "v1 publish … gates: passed",
        "v2 publish … gates: passed",
        "tag gold … ",
        "retract … wrong license",
    ]


@pytest.mark.slow
def test_the_audit_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient  # noqa: PLC0415 - starts a kernel, needed here only

    shutil.copytree(ROOT / "datasets", tmp_path / "datasets")
    (tmp_path / "notebooks").mkdir()
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = read(ROOT / "notebooks" / "audit.ipynb")
    notebook.metadata.kernelspec.name = "python3"
    client = NotebookClient(
        notebook, timeout=1200, resources={"metadata": {"path": str(tmp_path / "notebooks")}}, kernel_name="python3"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the kernel's client; what the notebook itself says is asserted below
        asyncio.run(client.async_execute())
    told = texts(notebook)
    assert "every promise kept" in told
    assert "BROKEN" not in told
    assert "ends early" in told
    assert "is empty (0 bytes)" in told
    assert "'n_in': 1804" in told
    assert "estimated share of wrong labels: " in told
    assert "labels known to be wrong: 101 of 1803" in told
    assert "effective classes: 9." in told or "effective classes: 10" in told
    assert "changes: {" in told
    assert "(relabel → soften)" in told
    assert "0 decisions" in told
    assert "v1 publish" in told
    assert told.count("data:image/png;base64,iVBOR") == 18
    errors = [o for cell in notebook.cells for o in cell.get("outputs", ()) if o.output_type == "error"]
    assert not errors
    assert (tmp_path / "notebooks" / "workspace" / "digits" / "report" / "index.html").is_file()
