"""The life of versions as a shell sees it: exit codes, JSON, files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import end_to_end as e2e
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from curate.cli import app
from curate.errors import CurateError
from curate.manifest import log
from curate.manifest.log import LogEntry
from curate.manifest.store import canonical_manifest
from curate.manifest.verbs import log_entries, log_row, verify_version


@pytest.fixture(scope="module")
def two(finished: e2e.Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace with two versions of `pets`: in the second, a picture has another name."""
    folder = tmp_path_factory.mktemp("two")
    workspace = Path(shutil.copytree(finished.workspace, folder / "ws"))
    shutil.copytree(finished.folder / "data", folder / "data")
    (moved,) = (folder / "data").glob("*/*/001.png")
    moved.rename(moved.with_name("901.png"))
    spec = e2e.write_spec(folder / "pets.yaml", "{format: folder, path: data}")
    done = e2e.call("run", spec, "--workspace", workspace, "--no-review", "--json", "--quiet")
    assert done.code in {0, 1}, done.err
    return workspace


@pytest.fixture
def workspace(two: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(two, tmp_path / "ws"))


def call(workspace: Path, *arguments: str | Path) -> tuple[int, dict[str, object]]:
    """Run a verb in this process; return its exit code and its JSON."""
    ended = CliRunner().invoke(app, [*map(str, arguments), "--workspace", str(workspace), "--json"])
    if isinstance(ended.exception, CurateError):
        return int(ended.exception.exit_code), {"error": str(ended.exception)}
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    return ended.exit_code, json.loads(ended.stdout)


def test_the_life_of_a_version(workspace: Path, finished: e2e.Finished, tmp_path: Path) -> None:
    assert call(workspace, "show", "pets", "--lineage")[1]["version"] == 2
    assert call(workspace, "tag", "pets@v1", "gold") == (0, {"id": finished.id, "tag": "gold", "is_new": True})
    assert call(workspace, "rollback", "pets@gold", "--why", "v2 has a copy")[1]["is_new"] is True
    assert call(workspace, "show", "pets")[1]["id"] == finished.id
    assert call(workspace, "used", "pets", "--by", "run-17")[0] == 0
    (use,) = call(workspace, "used", "pets")[1]["uses"]  # type: ignore[misc]
    assert use["by"] == "run-17"  # type: ignore[index]
    rows = pq.read_table(workspace / "manifests" / "pets" / "versions" / finished.id / "data").to_pylist()
    row = next(row for row in rows if not row["uri"].endswith("001.png"))
    for word in (row["uri"], row["sample_id"], row["content_sha256"], finished.folder / "data" / row["uri"]):
        found = call(workspace, "where", word)[1]["versions"]
        assert [version["version"] for version in found] == [2, 1], word  # type: ignore[attr-defined]
    assert call(workspace, "where")[0] == 2
    retracted = call(workspace, "retract", "pets@gold", "--why", "wrong license")[1]
    assert retracted["used_by"] == ["run-17"]
    assert retracted["latest"] != finished.id
    code, told = call(workspace, "export", "pets@gold", "--format", "csv", "--out", tmp_path / "out")
    assert code == 2
    assert "wrong license" in str(told["error"])
    asked = ("export", "pets@gold", "--format", "csv", "--out", tmp_path / "out", "--retracted", "--images", "none")
    assert call(workspace, *asked)[0] == 0
    assert call(workspace, "gc") == (0, {"removed": {"pets": []}, "unlisted": {}})
    kinds = [entry["kind"] for entry in call(workspace, "log", "pets")[1]["versions"]]  # type: ignore[attr-defined]
    assert kinds == ["retract", "rollback", "tag", "publish", "publish"]
    entries = call(workspace, "log", "pets")[1]["versions"]
    marked = [(one["kind"], one.get("retracted", {}).get("why")) for one in entries]  # type: ignore[attr-defined]
    assert marked[0] == ("retract", None)  # its own reason stands in it
    assert ("publish", "wrong license") in marked
    assert marked.count(("publish", None)) == 1
    shown = CliRunner().invoke(app, ["log", "pets", "--workspace", str(workspace)], env={"COLUMNS": "80"}).stdout
    assert "v1 (RETRACTED)" in shown
    assert f"retract {finished.id[:7]}: wrong license" in shown


def test_the_successor_of_a_retracted_version_is_marked_in_the_log(workspace: Path, finished: e2e.Finished) -> None:
    root = workspace / "manifests"
    assert call(workspace, "retract", "pets@v1", "--why", "wrong license")[0] == 0
    heir = "ab" * 32
    erased = LogEntry(log.next_number(root, "pets"), "erase", heir, log.now(), "here", parents=(finished.id,))
    log.put_entry(root, "pets", erased)
    told = log_entries(root, "pets")[0]
    assert (told["id"], told["retracted"]["why"]) == (heir, "wrong license")
    assert log_row(told)[0].endswith("(RETRACTED)")


def test_verify_with_keys_deep_and_bytes(workspace: Path, finished: e2e.Finished, tmp_path: Path) -> None:
    ended = CliRunner().invoke(app, ["keys", "new", "--out", str(tmp_path / "k.pem"), "--json"])
    assert ended.exit_code == 0
    public = tmp_path / "k.pem.pub"
    assert call(workspace, "verify", "pets@v1", "--key", public)[0] == 5  # unsigned
    assert call(workspace, "sign", "pets@v1", "--key", tmp_path / "k.pem")[1]["is_new"] is True
    code, told = call(workspace, "verify", "pets@v1", "--key", public, "--deep")
    assert (code, told["ok"]) == (0, True)
    names = [promise["promise"] for promise in told["promises"]]  # type: ignore[attr-defined]
    assert {"values", "statistics", "suites", "signature"} <= set(names)
    assert call(workspace, "verify", "pets@v1", "--bytes")[0] == 0
    said = verify_version(workspace / "manifests", "pets@v1", only_bytes=True).lines()
    assert said[-1] == "The bytes are as published; nothing else was checked."
    assert verify_version(workspace / "manifests", "pets@v1").lines()[-1] == "Every promise is kept."
    assert call(workspace, "verify", "pets@v1", "--bytes", "--deep")[0] == 2
    assert call(workspace, "verify", "pets@v1", "--key", tmp_path / "no.pub")[0] == 2
    part = workspace / "manifests" / "pets" / "versions" / finished.id / "data" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-1])
    code, told = call(workspace, "verify", "pets@v1", "--bytes")
    assert code == 5
    assert "data/part-00000.parquet has" in json.dumps(told)


WRITERS = (*(("export", "--format", form) for form in ("csv", "coco", "yolo", "voc")), ("describe",))


def edit_rows(part: Path) -> None:
    """Change a released label by hand; the file stays good Parquet."""
    rows = pq.read_table(part)
    at = rows.schema.get_field_index("released_label")
    labels = ["dragon", *rows["released_label"].to_pylist()[1:]]
    pq.write_table(rows.set_column(at, rows.schema.field(at), pa.array(labels, pa.string())), part)


def edit_manifest(version: Path) -> None:
    """Change a count by hand; the manifest stays one that curate could have written."""
    manifest = json.loads((version / "manifest.json").read_bytes())
    manifest["counts"]["n_in"] += 1
    (version / "manifest.json").write_bytes(canonical_manifest(manifest))


@pytest.mark.parametrize("writer", WRITERS, ids="-".join)
@pytest.mark.parametrize("edited", ["data/part-00000.parquet", "manifest.json"])
def test_nothing_is_written_from_a_version_edited_by_hand(
    workspace: Path, finished: e2e.Finished, tmp_path: Path, writer: tuple[str, ...], edited: str
) -> None:
    version = workspace / "manifests" / "pets" / "versions" / finished.id
    if edited == "manifest.json":
        edit_manifest(version)
    else:
        edit_rows(version / edited)
    verb, *options = writer
    code, told = call(workspace, verb, "pets@v1", *options, "--out", tmp_path / "out")
    assert code == 5
    assert edited in str(told["error"])
    assert not (tmp_path / "out").exists()


def test_show_of_a_manifest_edited_by_hand_says_that_it_is_not_what_its_id_promises(
    workspace: Path, finished: e2e.Finished
) -> None:
    assert call(workspace, "show", "pets@v1")[0] == 0
    edit_manifest(workspace / "manifests" / "pets" / "versions" / finished.id)
    code, told = call(workspace, "show", "pets@v1")
    assert code == 5
    assert "manifest.json is not what its ID promises" in str(told["error"])
    assert finished.id in str(told["error"])


@pytest.mark.parametrize("damage", ["truncated", "edited"])
def test_where_it_could_not_look_is_no_not_there(workspace: Path, finished: e2e.Finished, damage: str) -> None:
    version = workspace / "manifests" / "pets" / "versions" / finished.id
    part = version / "data" / "part-00000.parquet"
    row = next(row for row in pq.read_table(part).to_pylist() if not row["uri"].endswith("001.png"))
    assert call(workspace, "where", row["sample_id"])[0] == 0
    code, told = call(workspace, "where", row["uri"].replace(".png", ".pgn"))
    assert (code, told["versions"]) == (2, [])  # no release knows such a name
    assert row["uri"] in str(told["hint"])
    for asked in (["0" * 64], ["0" * 24], ["--subject", "ann"], [Path(__file__)]):  # "nobody" is an answer to these
        assert call(workspace, "where", *asked)[0] == 0
    if damage == "truncated":
        part.write_bytes(part.read_bytes()[:-9])
    else:
        edit_manifest(version)
    code, found = call(workspace, "where", row["sample_id"])
    assert code == 5
    assert [one["version"] for one in found["versions"]] == [2]  # type: ignore[attr-defined]
    assert [one["id"] for one in found["unread"]] == [finished.id]  # type: ignore[attr-defined]
    assert call(workspace, "where", "nobody.png")[0] == 5


def test_diff_writes_a_page_with_the_pictures_of_the_run(workspace: Path, tmp_path: Path) -> None:
    code, told = call(workspace, "diff", "pets@v1", "pets@v2", "--html", tmp_path / "diff.html")
    assert code == 0
    changed = {row["change"]: (row["uri"][-7:], row["causes"]) for row in told["rows"]}  # type: ignore[attr-defined]
    assert changed["added"] == ("901.png", ["new_in_source"])
    assert changed["removed"] == ("001.png", ["gone_from_source"])
    page = (tmp_path / "diff.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") >= 1
    assert "a new row in the source" in page
    assert "no picture" in page  # the last run knows the file by its new name only


def test_a_run_publishes_where_the_spec_or_the_option_says(finished: e2e.Finished, tmp_path: Path) -> None:
    spec = finished.folder / "elsewhere.yaml"
    e2e.write_spec(spec, "{format: folder, path: data}", rest=e2e.FAST_TEACHER + "manifests: shelf\n")
    copy = Path(shutil.copytree(finished.workspace, tmp_path / "ws"))
    done = e2e.call("run", spec, "--workspace", copy, "--no-review", "--json", "--quiet")
    assert (done.code, done.json["id"]) == (0, finished.id)  # where it is published is not part of what it is
    shelf = finished.folder / "shelf"
    assert done.json["manifest"] == str(shelf / "pets" / "versions" / finished.id)
    assert call(copy, "verify", "pets", "--manifests", shelf)[0] == 0
    assert call(copy, "show", "pets", "--manifests", tmp_path / "nowhere")[0] == 2
    wrong = e2e.call("run", spec, "--workspace", copy, "--no-review", "--manifests", "ftp://x/y", "--json")
    assert wrong.code == 2
    assert "s3://BUCKET/PREFIX" in wrong.json["error"]


def test_diff_and_tag_refuse_a_manifest_that_was_edited(workspace: Path, finished: e2e.Finished) -> None:
    edit_manifest(workspace / "manifests" / "pets" / "versions" / finished.id)
    for asked in (("diff", "pets@v1", "pets@v2"), ("diff", "pets@v2", "pets@v1"), ("tag", "pets@v1", "gold")):
        code, told = call(workspace, *asked)
        assert code == 5
        assert "manifest.json is not what its ID promises" in str(told["error"])
    assert call(workspace, "tag", "pets@v2", "gold")[0] == 0
