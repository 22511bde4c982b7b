"""What was erased stands in no audit either: one that was drawn from it goes as a whole."""

from __future__ import annotations

from pathlib import Path

from audit_world import world

from curate.audit import store
from curate.audit.draw import draw
from curate.governance.derived import clear_audits
from curate.governance.journal import Erasure
from curate.runs import Workspace, write_text


def erasing(sample_id: str, label_id: str) -> Erasure:
    return Erasure(
        at="2026-01-01T00:00:00Z",
        why="request",
        datasets=("pets",),
        sample_ids=(sample_id,),
        label_ids=(label_id,),
        finding_ids=(),
        content_sha256=(),
        thumbnail_sha256=(),
        n_bytes=(),
        uris=(),
        roots=(),
        subject=None,
        sources=(),
        subject_is_a_word=False,
        versions={},
    )


def test_an_audit_that_names_what_is_erased_goes_and_others_stay(tmp_path: Path) -> None:
    place = Workspace(tmp_path, "pets")
    label_ids = [f"{number:024x}" for number in range(300)]
    labels = world(300).labels.set_column(0, "label_id", [label_ids])
    for number, part in enumerate((labels.slice(0, 150), labels.slice(150)), start=1):
        design, membership = draw(part, subject={"name": "pets", "number": number}, budget=40)
        store.record(store.audits_folder(tmp_path, "pets") / f"{number:04d}", design, membership)
    write_text(place.folder / "planted.json", f'{{"planted": [{{"label_id": "{label_ids[7]}"}}]}}\n')
    erasure = erasing("f" * 24, label_ids[7])
    assert clear_audits(place, erasure, dry=True) == 2
    assert len(store.folders(store.audits_folder(tmp_path, "pets"))) == 2
    assert clear_audits(place, erasure) == 2
    assert [path.name for path in store.folders(store.audits_folder(tmp_path, "pets"))] == ["0002"]
    assert not (place.folder / "planted.json").exists()
    assert clear_audits(place, erasure) == 0
