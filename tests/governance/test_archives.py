"""An image that was erased lies in a compressed archive: the archive is not touched, what is unpacked is blank there."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from pathlib import Path

import end_to_end as e2e
from look import found, texts_of_files

from curate.governance.erase import erase
from curate.governance.plan import plan_erasure


def test_what_is_unpacked_again_is_blank_where_it_lay(tmp_path: Path) -> None:
    e2e.write_classes(tmp_path / "loose", n=24)
    gone = tmp_path / "loose" / "train" / "dog" / "001.png"
    with tarfile.open(tmp_path / "pets.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "loose", arcname=".")
    archived = (tmp_path / "pets.tar.gz").read_bytes()
    spec = e2e.write_spec(tmp_path / "pets.yaml", "{format: folder, path: pets.tar.gz}")
    workspace = tmp_path / "ws"
    run = ("run", spec, "--workspace", workspace, "--no-review", "--json", "--quiet")
    assert e2e.call(*run).code == 0
    needles = {"bytes": gone.read_bytes()[60:160], "sha256": hashlib.sha256(gone.read_bytes()).hexdigest().encode()}
    assert set(found(texts_of_files(workspace), needles)) == set(needles)

    erase(workspace, plan_erasure(workspace, "pets", samples=["train/dog/001.png"]))
    assert found(texts_of_files(workspace), needles) == {}
    assert e2e.call(*run, "--rehash").code == 0
    assert any(workspace.glob("pets/media/archives/*.tar")), "it was unpacked again"
    assert found(texts_of_files(workspace), needles) == {}
    shutil.rmtree(workspace / "pets" / "media")
    assert e2e.call(*run, "--rehash").code == 0
    assert any(workspace.glob("pets/media/archives/*.tar"))
    assert found(texts_of_files(workspace), needles) == {}
    assert (tmp_path / "pets.tar.gz").read_bytes() == archived
