"""The last look at every file of a workspace, whatever lies there."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate.governance.erase import _sweep
from curate.governance.journal import Erasure
from curate.governance.sweep import holds
from curate.governance.traces import Traces

NAME = "faces/zq-anna.png"
TRACES = Traces(frozenset(), (NAME,))


def erasure(**told: list[str]) -> Erasure:
    nothing: dict[str, Any] = dict.fromkeys(
        ("label_ids", "finding_ids", "content_sha256", "thumbnail_sha256", "n_bytes", "roots", "sources"), ()
    )
    about = {"at": "", "why": "", "datasets": ["pets"], "sample_ids": [], "versions": {}}
    return Erasure(**{**nothing, **about, "uris": [NAME], "subject": None, "subject_is_a_word": False, **told})


def zipped(file: Path, text: str) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("note.txt", text)


def squeezed(file: Path, text: str) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("note.txt", text)


def gzipped(file: Path, text: str) -> None:
    file.write_bytes(gzip.compress(text.encode()))


@pytest.mark.parametrize("pack", [zipped, squeezed, gzipped])
def test_what_is_packed_is_looked_into(tmp_path: Path, pack: Callable[[Path, str], None]) -> None:
    pack(tmp_path / "packed", f"about {NAME} " * 9)
    assert holds(tmp_path / "packed", TRACES)
    pack(tmp_path / "packed", "about nobody " * 9)
    assert not holds(tmp_path / "packed", TRACES)


@pytest.mark.parametrize("pack", [zipped, squeezed, gzipped])
def test_what_is_packed_and_torn_is_read_as_it_lies_there(
    tmp_path: Path, pack: Callable[[Path, str], None]
) -> None:
    file = tmp_path / "packed"
    pack(file, "about nobody " * 999)
    whole = file.read_bytes()
    middle = len(whole) // 3
    for torn in (whole[:middle], whole[:50] + b"\xff" * 20 + whole[70:]):
        file.write_bytes(torn)
        assert not holds(file, TRACES)
        file.write_bytes(torn + f" {NAME} ".encode())
        assert holds(file, TRACES)


def test_hidden_parts_of_a_source_inside_the_workspace_are_not_ours_to_delete(tmp_path: Path) -> None:
    root = tmp_path.resolve()
    ours, theirs = root / "pets" / "cache" / ".a.parquet.1.part", root / "src" / ".film.part"
    for file in (ours, theirs):
        file.parent.mkdir(parents=True)
        file.write_text("half")
    assert _sweep(root, erasure(roots=[str(root / "src")])) == (0, [])
    assert not ours.exists()
    assert theirs.exists()


def test_a_derived_file_goes_also_where_the_source_is_a_folder_round_the_workspace(tmp_path: Path) -> None:
    root = tmp_path.resolve() / "workspace"
    file = root / "pets" / "notes.txt"
    file.parent.mkdir(parents=True)
    file.write_text(NAME)
    assert _sweep(root, erasure(roots=[str(tmp_path.resolve())])) == (1, [])
    assert not file.exists()
