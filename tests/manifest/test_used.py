from __future__ import annotations

from pathlib import Path

import pytest

from curate.errors import VerificationError
from curate.manifest.used import Use, read_uses, record_use


def test_uses_are_recorded_once_and_kept(tmp_path: Path) -> None:
    record_use(tmp_path, "pets", "ab" * 32, "run-1", "2026-01-01T00:00:00Z")
    record_use(tmp_path, "pets", "ab" * 32, "run-2", "2026-01-02T00:00:00Z")
    again = record_use(tmp_path, "pets", "ab" * 32, "run-1", "2026-01-03T00:00:00Z")
    assert again == Use("ab" * 32, "run-1", "2026-01-01T00:00:00Z")
    assert [use.by for use in read_uses(tmp_path, "pets")] == ["run-1", "run-2"]
    assert read_uses(tmp_path, "none") == []
    (tmp_path / "pets" / "used" / "0000000003.json").write_bytes(b"")  # a torn one counts as never written
    assert len(read_uses(tmp_path, "pets")) == 2
    record_use(tmp_path, "pets", "cd" * 32, "run-3", "2026-01-03T00:00:00Z")
    assert max(path.name for path in (tmp_path / "pets" / "used").iterdir()) == "0000000004.json"
    (tmp_path / "pets" / "used" / "0000000001.json").write_text("{}")
    with pytest.raises(VerificationError, match=r"0000000001.json is not what curate wrote"):
        read_uses(tmp_path, "pets")


def test_a_hundred_trainers_at_once_are_each_recorded(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - only here

    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda at: record_use(tmp_path, "pets", "ab" * 32, f"run-{at}", "2026-01-01T00:00:00Z"), range(40)
            )
        )
    assert sorted(use.by for use in read_uses(tmp_path, "pets")) == sorted(f"run-{at}" for at in range(40))
