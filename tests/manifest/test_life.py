from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.errors import ConfigError, VerificationError
from curate.manifest import life, log, publish, read_log, resolve, verify
from curate.manifest.show import show, show_lines
from curate.manifest.used import read_uses, record_use
from curate.manifest.verbs import log_entries, log_row
from curate.manifest.where import Wanted, holding, holding_lines, wanted_image, wanted_subject
from curate.policy import Policy

Worlds = Callable[..., Any]


@pytest.fixture(scope="module")
def releases(world: Worlds) -> list[Any]:
    return [world(seed=seed).release() for seed in range(3)]


@pytest.fixture
def ids(releases: list[Any], tmp_path: Path) -> list[str]:
    """Publish v1, v2 and v3 of `zoo` under tmp_path; return their ids."""
    return [publish(release, tmp_path, "zoo").id for release in releases]


def kinds(root: Path) -> list[str]:
    return [entry.kind for entry in read_log(root, "zoo")]


def test_rollback_and_its_rollback_are_new_entries(ids: list[str], tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in (tmp_path / "zoo" / "log").iterdir()}
    entry, version_id = life.rollback(tmp_path, "zoo@v1", why="v3 was too loose")
    assert entry is not None
    assert (version_id, entry.parents, entry.why) == (ids[0], (ids[2],), "v3 was too loose")
    assert resolve(tmp_path, "zoo").name == ids[0]
    assert life.rollback(tmp_path, "zoo@v3")[1] == resolve(tmp_path, "zoo").name == ids[2]
    assert life.rollback(tmp_path, "zoo@v3") == (None, ids[2])  # it is the latest
    assert kinds(tmp_path) == ["publish"] * 3 + ["rollback"] * 2
    assert {name: (tmp_path / "zoo" / "log" / name).read_bytes() for name in before} == before


def test_a_rollback_makes_no_parent(ids: list[str], tmp_path: Path) -> None:
    life.rollback(tmp_path, "zoo@v1")
    told = {promise.name: promise for promise in verify(resolve(tmp_path, "zoo@v1"))}["parents"]
    assert (told.ok, told.detail) == (True, "0 parents are there")
    assert show(tmp_path, "zoo@v1")["parents"] == []
    assert ids[0] == resolve(tmp_path, "zoo").name


def test_rollback_needs_a_version_that_is_what_it_was(ids: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs the version to go back to"):
        life.rollback(tmp_path, "zoo")
    with pytest.raises(ConfigError, match="There is no version 'v9' of zoo"):
        life.rollback(tmp_path, "zoo@v9")
    head = tmp_path / "zoo" / "versions" / ids[0] / "manifest.json"
    head.write_bytes(head.read_bytes().replace(b'"name":"zoo"', b'"name":"zoa"'))
    with pytest.raises(VerificationError, match="is not what its ID promises"):
        life.rollback(tmp_path, "zoo@v1")
    assert kinds(tmp_path) == ["publish"] * 3


def test_a_retracted_version_is_never_the_latest(ids: list[str], releases: list[Any], tmp_path: Path) -> None:
    assert life.retract(tmp_path, "zoo@v3", why="wrong license")[1] == ids[2]
    assert resolve(tmp_path, "zoo").name == ids[1]
    assert resolve(tmp_path, "zoo@v3").name == ids[2]  # by name it is still found
    assert life.retract(tmp_path, "zoo@v3", why="again") == (None, ids[2])
    again = publish(releases[2], tmp_path, "zoo")
    assert (again.is_new, again.retracted) == (False, "wrong license")
    assert resolve(tmp_path, "zoo").name == ids[1]
    with pytest.raises(ConfigError, match=r"was retracted \(wrong license\)"):
        life.rollback(tmp_path, "zoo@v3")
    told = {promise.name: promise for promise in verify(resolve(tmp_path, "zoo@v3"))}["retracted"]
    assert told.ok is None
    assert told.detail.endswith("wrong license")
    assert "retracted" not in {promise.name for promise in verify(resolve(tmp_path, "zoo"))}
    with pytest.raises(ConfigError, match=r"was retracted .*wrong license.*--retracted"):
        life.refuse_retracted(tmp_path, "zoo@v3", ids[2], allowed=False, way_round="--retracted")
    life.refuse_retracted(tmp_path, "zoo@v3", ids[2], allowed=True)
    for number in (1, 2):
        life.retract(tmp_path, f"zoo@v{number}", why="all of it")
    with pytest.raises(ConfigError, match="Every version of zoo is retracted"):
        resolve(tmp_path, "zoo")


@pytest.mark.parametrize(("reference", "why"), [("zoo", "x"), ("zoo@v1", "  ")])
def test_retracting_needs_a_version_and_a_reason(ids: list[str], tmp_path: Path, reference: str, why: str) -> None:
    with pytest.raises(ConfigError, match="retract"):
        life.retract(tmp_path, reference, why=why)
    assert kinds(tmp_path) == ["publish"] * len(ids)


def test_tags_resolve_and_do_not_move_by_accident(ids: list[str], tmp_path: Path) -> None:
    life.tag(tmp_path, "zoo@v1", "paper-2026")
    assert resolve(tmp_path, "zoo@paper-2026").name == ids[0]
    assert life.tag(tmp_path, "zoo@v1", "paper-2026") == (None, ids[0])
    with pytest.raises(ConfigError, match=rf"zoo@paper-2026 is {ids[0][:12]} already"):
        life.tag(tmp_path, "zoo", "paper-2026")
    life.tag(tmp_path, "zoo", "paper-2026", move=True, why="erratum")
    assert resolve(tmp_path, "zoo@paper-2026").name == ids[2]
    assert kinds(tmp_path) == ["publish"] * 3 + ["tag"] * 2  # the log keeps both
    with pytest.raises(ConfigError, match=r"Did you mean 'paper-2026'\?"):
        resolve(tmp_path, "zoo@paper-2025")
    for word in ("v7", "latest", "deadbeef", "-x", "", "a/b", "1st", "x" * 65):
        with pytest.raises(ConfigError, match="A tag begins with a letter"):
            life.tag(tmp_path, "zoo", word)


def test_of_many_who_give_one_tag_to_different_versions_one_wins(ids: list[str], tmp_path: Path) -> None:
    def give(number: int) -> str | None:
        try:
            return life.tag(tmp_path, f"zoo@v{number % 3 + 1}", "gold")[1]
        except ConfigError:
            return None

    with ThreadPoolExecutor(max_workers=12) as pool:
        won = {version_id for version_id in pool.map(give, range(12)) if version_id}
    assert won == {resolve(tmp_path, "zoo@gold").name}
    assert won <= set(ids)
    assert kinds(tmp_path).count("tag") == 1


def test_entries_of_kinds_to_come_are_shown_and_change_nothing(ids: list[str], tmp_path: Path) -> None:
    entry = {"kind": "audit", "id": ids[0], "at": "2030-01-01T00:00:00Z", "tombstone": {"hashes": ["ab"]}}
    (tmp_path / "zoo" / "log" / "0000000004.json").write_text(json.dumps(entry))
    assert resolve(tmp_path, "zoo").name == ids[2]
    shown = log_entries(tmp_path, "zoo")[0]
    assert (shown["kind"], shown["more"]) == ("audit", {"tombstone": {"hashes": ["ab"]}})
    assert log_row(shown)[0] == "audit"
    written, _ = log.add(tmp_path, "zoo", lambda _: {"kind": "seal", "id": ids[1], "more": {"n": 1}})
    assert read_log(tmp_path, "zoo")[-1] == written
    assert "audit" in " ".join(show_lines(show(tmp_path, "zoo@v1")))


def test_any_flipped_bit_of_a_tag_or_a_use_is_found(ids: list[str], tmp_path: Path) -> None:
    entry, _ = life.tag(tmp_path, "zoo@v1", "gold", why="for the paper")
    record_use(tmp_path, "zoo", ids[0], by="run-17")
    assert entry is not None
    (used,) = (tmp_path / "zoo" / "used" / ids[0]).iterdir()
    said = tmp_path / "zoo" / "log" / f"{entry.number:010d}.json"
    for file, promise, read in ((said, "parents", read_log), (used, "uses", read_uses)):
        whole = file.read_bytes()
        for at in range(len(whole)):
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(VerificationError, match=rf"{file.name} is not what curate wrote"):
                read(tmp_path, "zoo")
        found = {one.name: one for one in verify(tmp_path / "zoo" / "versions" / ids[0])}
        assert found[promise].ok is False
        assert str(file) in found[promise].detail
        file.write_bytes(whole)
    assert all(one.ok is not False for one in verify(resolve(tmp_path, "zoo@gold")))


@pytest.mark.parametrize("lost", ["format", "kind", "id", "at", "host", "parents", "gates", "counts", "tag"])
def test_entries_of_before_need_their_fields(ids: list[str], tmp_path: Path, lost: str) -> None:
    entry, _ = life.tag(tmp_path, "zoo@v1", "gold")
    assert entry is not None
    file = tmp_path / "zoo" / "log" / f"{entry.number:010d}.json"
    before = {**json.loads(file.read_bytes()), "format_version": 1}  # as it was written before entries had a sha256
    del before["sha256"]
    file.write_text(json.dumps(before))
    assert read_log(tmp_path, "zoo")[-1] == entry
    file.write_text(json.dumps({key: value for key, value in before.items() if key != lost}))
    with pytest.raises(VerificationError, match=rf"{file.name} is not what curate wrote: .*it lacks {lost}"):
        resolve(tmp_path, f"zoo@{ids[0]}")


def test_uses_are_recorded_once(ids: list[str], tmp_path: Path) -> None:
    with ThreadPoolExecutor(max_workers=8) as pool:  # eight ranks of one training run
        said = list(pool.map(lambda _: record_use(tmp_path, "zoo", ids[0], by="run-17"), range(8)))
    assert len(set(said)) == 1
    record_use(tmp_path, "zoo", ids[0], by="https://runs/é 18")
    assert record_use(tmp_path, "zoo", ids[0], "run-17", "2030-01-01T00:00:00Z") == said[0]
    assert read_uses(tmp_path, "zoo") == read_uses(tmp_path, "zoo", ids[0])
    assert {use.by for use in read_uses(tmp_path, "zoo", ids[0])} == {"run-17", "https://runs/é 18"}
    assert read_uses(tmp_path, "zoo", ids[1]) == []
    with pytest.raises(ConfigError, match="--by RUN"):
        record_use(tmp_path, "zoo", ids[0], by=" ")
    (tmp_path / "zoo" / "used" / ids[1]).mkdir()
    (tmp_path / "zoo" / "used" / ids[1] / "x.json").write_text("{}")
    with pytest.raises(VerificationError, match=r"x\.json is not what curate wrote"):
        read_uses(tmp_path, "zoo", ids[1])


def test_show_says_what_a_version_is_and_where_it_comes_from(ids: list[str], tmp_path: Path) -> None:
    life.tag(tmp_path, "zoo@v2", "gold")
    record_use(tmp_path, "zoo", ids[1], by="run-17")
    shown = show(tmp_path, "zoo@v2", lineage=True)
    assert (shown["version"], shown["id"], shown["is_latest"], shown["tags"]) == (2, ids[1], False, ["gold"])
    assert (shown["parents"], shown["n_signatures"], shown["retracted"]) == ([ids[0]], 0, None)
    assert [version["id"] for version in shown["lineage"]["ancestors"]] == [ids[0]]
    assert [version["id"] for version in shown["lineage"]["children"]] == [ids[2]]
    assert [v["version"] for v in show(tmp_path, "zoo", lineage=True)["lineage"]["ancestors"]] == [2, 1]
    told = "\n".join(show_lines(shown))
    for part in ("zoo v2", "not the latest", "UNSIGNED", "gold", "run-17", "came from", "led to", "released of"):
        assert part in told
    life.rollback(tmp_path, "zoo@v1")  # v1 has v3 as a parent in the log now: lineage must not go in circles
    assert show(tmp_path, "zoo@v1", lineage=True)["lineage"]["ancestors"] == []
    life.retract(tmp_path, "zoo@v2", why="wrong")
    assert "RETRACTED" in show_lines(show(tmp_path, "zoo@gold"))[0]


def test_where_an_image_is(world: Worlds, tmp_path: Path) -> None:
    made = world()
    first = publish(made.release(), tmp_path, "zoo")
    second = publish(world(left_out=(5,)).release(), tmp_path, "zoo")
    third = publish(world(n=6).release(), tmp_path, "farm")

    def holders(wanted: Wanted, **only: Any) -> set[str]:  # noqa: ANN401 - as `holding`
        return {version["id"] for version in holding(tmp_path, wanted, **only)["versions"]}

    five = {first.id, third.id}
    assert holders(wanted_image(made.sample_id(5))) == five
    assert holders(wanted_image(f"{5:064x}")) == five
    assert holders(wanted_image("pictures/é 5.PNG")) == holders(wanted_image("é 5.PNG")) == five
    assert holders(wanted_image("5.PNG")) == set()  # a whole name, not a part of one
    assert holders(wanted_image(made.sample_id(5)), names=["zoo"]) == {first.id}
    waiting = holding(tmp_path, wanted_image(made.sample_id(4)), ["zoo"])["versions"]
    assert [(v["id"], v["n_released"], v["n_excluded"]) for v in waiting] == [(second.id, 0, 1), (first.id, 0, 1)]
    with pytest.raises(ConfigError, match="Did you mean 'zoo'"):
        holding(tmp_path, wanted_image("x"), ["zo"])
    (tmp_path / "farm" / "versions" / third.id / "manifest.json").unlink()
    found = holding(tmp_path, wanted_image(made.sample_id(5)))
    assert [one["id"] for one in found["unread"]] == [third.id]
    assert "COULD NOT LOOK into farm" in "\n".join(holding_lines(found))


def test_where_an_image_file_is_whatever_it_is_called(world: Worlds, tmp_path: Path) -> None:
    publish(world().release(), tmp_path / "manifests", "zoo")
    file = tmp_path / "copy.png"
    file.write_bytes(b"other bytes")
    assert holding(tmp_path / "manifests", wanted_image(str(file)))["versions"] == []
    assert wanted_image(str(file)).content_sha256 != ()


def test_where_a_subject_is(world: Worlds, tmp_path: Path) -> None:
    made = world(salt=b"s" * 32, policy=Policy(attributes_released=("subject",)))
    published = publish(made.release(), tmp_path / "manifests", "zoo")
    cache = tmp_path / "zoo" / "cache" / "ingest"
    wanted, n_tables = wanted_subject("person-1", tmp_path)
    assert (wanted.sample_ids, n_tables) == ((), 0)
    by_name = holding(tmp_path / "manifests", wanted)
    assert "0 sample tables" in holding_lines(by_name | {"n_tables": 0})[-1]
    assert [one["id"] for one in by_name["unread"]] == [published.id]  # keys of subjects are no names
    cache.mkdir(parents=True)
    pq.write_table(made.samples(), cache / "k.samples.parquet")
    wanted, n_tables = wanted_subject("person-1", tmp_path)
    (found,) = holding(tmp_path / "manifests", wanted)["versions"]
    assert (n_tables, found["id"]) == (1, published.id)
    assert found["sample_ids"] == sorted(made.sample_id(at) for at in (1, 5, 9))
    key = pq.read_table(published.path / "data", columns=["subject_key"])["subject_key"][0].as_py()
    (by_key,) = holding(tmp_path / "manifests", Wanted(subject=key))["versions"]
    assert by_key["n_released"] + by_key["n_excluded"] >= 3


def test_where_a_subject_is_without_the_cache_is_not_known(world: Worlds, tmp_path: Path) -> None:
    made = world()
    published = publish(made.release(), tmp_path / "manifests", "zoo")
    (unread,) = holding(tmp_path / "manifests", wanted_subject("person-1", tmp_path)[0])["unread"]
    assert (unread["id"], "curate ingest SPEC" in unread["why"]) == (published.id, True)
    cache = tmp_path / "zoo" / "cache" / "ingest"
    cache.mkdir(parents=True)
    pq.write_table(made.samples().slice(3), cache / "k.samples.parquet")  # three images left the source since
    (unread,) = holding(tmp_path / "manifests", wanted_subject("person-1", tmp_path)[0])["unread"]
    assert unread["why"].startswith("whose image 4 of its rows are about")
    pq.write_table(made.samples().slice(0, 3), cache / "j.samples.parquet")
    found = holding(tmp_path / "manifests", wanted_subject("person-1", tmp_path)[0])
    assert (found["unread"], found["versions"][0]["id"]) == ([], published.id)
    assert holding(tmp_path / "manifests", wanted_subject("nobody", tmp_path)[0])["versions"] == []


EVENTS = st.lists(
    st.tuples(st.sampled_from(["publish", "rollback", "retract", "tag"]), st.integers(0, 2)), min_size=1, max_size=8
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS)
def test_whatever_happens_the_latest_is_the_last_head_that_nobody_retracted(
    releases: list[Any], tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, int]]
) -> None:
    root = tmp_path_factory.mktemp("life")
    ids: dict[int, str] = {}
    heads: list[tuple[int, bool]] = []  # which, and whether a person went back to it
    aside: set[int] = set()  # published before the last rollback
    gone: set[int] = set()
    for what, which in events:
        if what == "publish":
            standing = [head for head in heads if head[0] not in gone]
            put_aside = bool(standing) and standing[-1][1] and which in aside
            ids[which] = publish(releases[which], root, "zoo").id
            heads += [(which, False)] if which not in gone and not put_aside else []
        elif which not in ids:
            continue
        elif what == "retract":
            life.retract(root, f"zoo@{ids[which]}", why="why")
            gone.add(which)
        elif what == "tag":
            life.tag(root, f"zoo@{ids[which]}", f"t{which}x")
        elif which not in gone and life.rollback(root, f"zoo@{ids[which]}")[0] is not None:
            heads.append((which, True))
            aside = set(ids)
        expected = [head for head, _ in heads if head not in gone]
        head = log.latest(read_log(root, "zoo"))
        assert (head.id if head else None) == (ids[expected[-1]] if expected else None)
    assert [entry.number for entry in read_log(root, "zoo")] == list(range(1, len(read_log(root, "zoo")) + 1))
