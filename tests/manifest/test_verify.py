from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from curate.check import build_statistics
from curate.errors import InputError, VerificationError
from curate.manifest import Promise, load_release, publish, require, verify
from curate.manifest.store import canonical_manifest, sha256_of
from curate.policy import Policy, Rule

Worlds = Callable[..., Any]

DECISIONS = (
    {
        "decision_id": "d1",
        "at": "2026-01-01T00:00:00Z",
        "reviewer": "Kim",
        "decision": "relabel",
        "to_label": "dog",
    },
    {
        "decision_id": "d2",
        "at": "2026-01-02T00:00:00Z",
        "reviewer": "Kim",
        "decision": "drop",
        "content_sha256": "0",
    },
)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("releases")


@pytest.fixture
def version(world: Worlds, pristine: Path, tmp_path: Path) -> Path:
    """Return a copy of a published version that may be damaged: log, parent and all."""
    if not (pristine / "zoo").exists():
        made = world()
        about = {"sample_id": made.sample_id(8), "label_id": made.label_id(8)}
        publish(world(seed=9).release(), pristine, "zoo")
        publish(world(decisions=[{**about, **one} for one in DECISIONS]).release(), pristine, "zoo")
    shutil.copytree(pristine / "zoo", tmp_path / "zoo")
    entry = json.loads((tmp_path / "zoo" / "log" / "0000000002.json").read_text())
    return tmp_path / "zoo" / "versions" / entry["id"]


def by_name(promises: list[Promise]) -> dict[str, Promise]:
    return {promise.name: promise for promise in promises}


def broken(version: Path) -> dict[str, str]:
    found = {promise.name: promise.detail for promise in verify(version) if promise.ok is False}
    if found:
        with pytest.raises(VerificationError, match="is not what was published"):
            require(verify(version), version)
    return found


def test_a_version_keeps_its_promises_and_says_what_it_does_not_promise(version: Path) -> None:
    promises = by_name(verify(version))
    require(list(promises.values()), version)
    kept = ["manifest", "id", "files", "nothing unlisted", "rows", "counts", "soft labels", "verdicts", "gates"]
    kept.append("parents")
    assert [name for name, promise in promises.items() if promise.ok] == kept
    assert promises["signature"].ok is None
    assert promises["signature"].detail.startswith("UNSIGNED")
    assert "bias" in promises["not promised"].detail
    assert promises["parents"].detail == "1 parents are there"
    assert promises["verdicts"].detail.startswith("13 recomputed")


@pytest.mark.parametrize("flagged", [dict.fromkeys(range(6), "fox"), {}])
def test_a_version_without_a_row_and_one_without_a_finding_keep_their_promises(
    world: Worlds, tmp_path: Path, flagged: dict[int, str]
) -> None:
    policy = Policy(rules=(Rule(issue="mislabel", action="drop"),), max_share_out=1.0)
    release = world(n=6, left_out=(0, 2), flagged=flagged, policy=policy).release()
    assert release.data.num_rows == (0 if flagged else 4)
    promises = verify(publish(release, tmp_path, "zoo").path, deep=True)
    assert [promise for promise in promises if promise.ok is False] == []


def test_progress_counts_the_bytes(version: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    verify(version, progress=lambda n_done, n_all: seen.append((n_done, n_all)))
    assert (
        seen[-1][0]
        == seen[-1][1]
        == sum(p.stat().st_size for p in version.rglob("*.*") if p.name != "manifest.json")
    )


def edit_json(version: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((version / "manifest.json").read_bytes())
    change(manifest)
    (version / "manifest.json").write_bytes(canonical_manifest(manifest))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"format":"curate-manifest"}',
        b'{"format":"other"}',
        b"[" * 100_000,
    ],
)
def test_an_unparsable_manifest(version: Path, content: bytes) -> None:
    (version / "manifest.json").write_bytes(content)
    assert "is not a manifest that curate wrote" in broken(version)["manifest"]
    with pytest.raises(VerificationError, match="is not a manifest that curate wrote"):
        load_release(version)


def test_a_manifest_in_other_bytes_is_not_what_was_published(version: Path) -> None:
    manifest = json.loads((version / "manifest.json").read_bytes())
    (version / "manifest.json").write_text(json.dumps(manifest, indent=2))
    assert "not the canonical form" in broken(version)["manifest"]


def test_no_manifest_and_no_folder(version: Path) -> None:
    (version / "manifest.json").unlink()
    assert "is no published version" in broken(version)["manifest"]
    with pytest.raises(InputError, match="there is no folder"):
        verify(version / "nowhere")


def test_a_manifest_edited_by_hand(version: Path) -> None:
    edit_json(version, lambda manifest: manifest.update(gates="passed"))
    assert list(broken(version)) == ["id"]


@pytest.mark.parametrize("key", ["format_version", "schema_version"])
def test_a_version_from_a_newer_curate_says_so(version: Path, key: str) -> None:
    edit_json(version, lambda manifest: manifest.update({key: 99}))
    assert f"its {key} is 99, this curate reads up to" in broken(version)["manifest"]


@pytest.mark.parametrize(
    "path", ["../outside.json", "/etc/passwd", "data/../../x", "evidence/../x.json", "manifest.json"]
)
def test_a_manifest_that_lists_files_elsewhere_is_refused(version: Path, path: str) -> None:
    edit_json(version, lambda manifest: manifest["files"][0].update(path=path))
    assert "lists files that a version does not have" in broken(version)["manifest"]


def test_a_missing_shard(version: Path) -> None:
    (version / "soft" / "part-00000.parquet").unlink()
    assert "soft/part-00000.parquet is missing" in broken(version)["files"]
    with pytest.raises(VerificationError, match=r"soft/part-00000\.parquet is listed"):
        load_release(version)


@pytest.mark.parametrize("n_kept", [0, 3, -1])
def test_a_truncated_parquet_file(version: Path, n_kept: int) -> None:
    part = version / "data" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:n_kept])
    assert "data/part-00000.parquet has" in broken(version)["files"]
    promises = by_name(verify(version))
    assert promises["verdicts"].ok is None
    assert "not checked" in promises["verdicts"].detail
    with pytest.raises(VerificationError, match="cannot be read"):
        load_release(version)


def test_a_flipped_byte_of_the_same_length(version: Path) -> None:
    for path in sorted(version.rglob("*.*")):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))
        assert broken(version)
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))
    assert broken(version) == {}


@pytest.mark.parametrize(
    "extra", ["data/part-00001.parquet", "notes.txt", ".hidden", "data/.DS_Store", "new/x.json"]
)
def test_an_unlisted_file(version: Path, extra: str) -> None:
    (version / extra).parent.mkdir(exist_ok=True)
    (version / extra).write_text("x")
    assert broken(version) == {"nothing unlisted": extra}


def test_an_empty_folder(version: Path) -> None:
    (version / "data2").mkdir()
    assert broken(version) == {"nothing unlisted": "data2/ (an empty folder)"}


@pytest.mark.parametrize("name", ["data/part-00000.parquet", "manifest.json", "evidence", "evidence/policy.json"])
def test_links_in_the_place_of_files_are_damage_even_with_the_same_content(
    version: Path, tmp_path: Path, name: str
) -> None:
    path, away = version / name, tmp_path / "away"
    path.rename(away)
    path.symlink_to(away)
    assert broken(version)


def test_a_link_beside_the_files(version: Path) -> None:
    (version / "more").symlink_to(version / "data")
    assert broken(version) == {"nothing unlisted": "more (a link)"}


def forge(version: Path, name: str, change: Callable[[pa.Table], pa.Table]) -> Path:
    """Edit a table and make files, manifest, folder and log agree again: only meaning can tell."""
    part = version / name
    pq.write_table(change(pq.read_table(part)), part)
    manifest = json.loads((version / "manifest.json").read_bytes())
    entry = next(entry for entry in manifest["files"] if entry["path"] == name)
    n_rows = pq.read_metadata(part).num_rows
    entry |= {"bytes": part.stat().st_size, "sha256": sha256_of(part), "rows": n_rows}
    return rehash(version, manifest)


def rehash(version: Path, manifest: dict[str, Any]) -> Path:
    content = canonical_manifest(manifest)
    (version / "manifest.json").write_bytes(content)
    return version.rename(version.parent / hashlib.sha256(content).hexdigest())


def replaced(column: str, value: str) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index(column)
        values = table[column].to_pylist()
        values[next(i for i, old in enumerate(values) if old != value)] = value
        return table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))

    return change


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("data/part-00000.parquet", "released_label", "fox"),
        ("data/part-00000.parquet", "action", "soften"),
        ("excluded/part-00000.parquet", "action", "keep"),
        ("findings/part-00000.parquet", "issue", "exact_duplicate"),
        ("decisions/part-00000.parquet", "to_label", "fox"),
    ],
)
def test_an_edited_row_with_all_hashes_made_new_is_found_by_recomputing(
    version: Path, name: str, column: str, value: str
) -> None:
    assert "verdicts" in broken(forge(version, name, replaced(column, value)))


def test_a_looser_policy_with_all_hashes_made_new_is_found_by_recomputing(version: Path) -> None:
    path = version / "evidence" / "policy.json"
    path.write_text(Policy(use_default_rules=False).model_dump_json())
    manifest = json.loads((version / "manifest.json").read_bytes())
    entry = next(entry for entry in manifest["files"] if entry["path"] == "evidence/policy.json")
    entry |= {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    assert (
        "recomputed from findings, policy and decisions they differ"
        in broken(rehash(version, manifest))["verdicts"]
    )


def test_gates_edited_to_passed_with_all_hashes_made_new(version: Path) -> None:
    manifest = json.loads((version / "manifest.json").read_bytes())
    changed = rehash(version, {**manifest, "gates": "passed"})
    assert broken(changed) == {"gates": "the manifest says passed, statistics and policy say failed"}


def test_statistics_that_are_no_numbers_survive_as_errored(world: Worlds, tmp_path: Path) -> None:
    class Odd(world):  # type: ignore[misc]
        def statistics(self) -> pa.Table:
            rows = [{"name": "samples", "value": float("nan")}, {"name": "labels", "value": float("inf")}]
            return build_statistics("expectations", rows)

    published = publish(Odd().release(), tmp_path, "zoo")
    assert published.gates == "failed"
    assert broken(published.path) == {}


def test_rows_taken_out_doubled_or_misaligned(version: Path) -> None:
    changed = forge(version, "data/part-00000.parquet", lambda table: table.slice(1))
    assert set(broken(changed)) >= {"rows", "counts", "soft labels"}
    doubled = forge(changed, "data/part-00000.parquet", lambda table: pa.concat_tables([table.slice(0, 1), table]))
    assert "holds a row twice" in broken(doubled)["counts"]


def test_a_dropped_row_smuggled_into_data(version: Path) -> None:
    changed = forge(version, "data/part-00000.parquet", replaced("action", "drop"))
    assert "rows with the action drop" in broken(changed)["counts"]


def test_soft_labels_of_other_rows(version: Path) -> None:
    changed = forge(version, "soft/part-00000.parquet", lambda table: table.take(pa.array([1, 0, *range(2, 11)])))
    assert broken(changed)["soft labels"] == "the rows of soft/ are not those of data/"


def test_other_columns_than_described(version: Path) -> None:
    changed = forge(version, "decisions/part-00000.parquet", lambda table: table.drop_columns(["from_label"]))
    assert "has other columns than described" in broken(changed)["rows"]


def test_a_lost_parent_and_a_broken_log(version: Path) -> None:
    for other in version.parent.iterdir():
        if other != version:
            shutil.rmtree(other)
    assert "is not there" in broken(version)["parents"]
    (version.parent.parent / "log" / "0000000001.json").write_text("?")
    assert "is not what curate wrote" in broken(version)["parents"]


def test_a_copy_without_a_log_says_that_parents_were_not_checked(version: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(version, tmp_path / "elsewhere" / "versions" / version.name)
    assert broken(copy) == {}
    assert by_name(verify(copy))["parents"].ok is None


def test_a_folder_with_another_name_has_another_id(version: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(version, tmp_path / "elsewhere" / "versions" / ("0" * 64))
    assert list(broken(copy)) == ["id"]


def test_reading_back_gives_what_was_released(world: Worlds, tmp_path: Path) -> None:
    release = world().release()
    published = publish(release, tmp_path, "zoo")
    loaded = load_release(published.path)
    assert (loaded.id, loaded.path) == (published.id, published.path)
    for name in ("data", "excluded", "findings", "decisions", "soft"):
        assert getattr(loaded, name).equals(getattr(release, name))
    assert loaded.manifest["counts"] == release.head["counts"]
    assert loaded.evidence["teachers"] == release.evidence["teachers"]
    bare = load_release(publish(world(policy=Policy(soft_labels=False)).release(), tmp_path, "zoo").path)
    assert bare.soft is None


def test_who_decided_and_when_stays_in_the_ledger(version: Path) -> None:
    loaded = load_release(version)
    row = loaded.data.filter(pc.equal(loaded.data["given_label"], "fox")).to_pylist()
    assert [r["reason_codes"] for r in row if r["reasons"]] == [["decision_relabel", "decision_stale"]]
    for path in version.rglob("*.*"):
        assert b"Kim" not in path.read_bytes()
