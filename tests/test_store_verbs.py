"""Every verb against releases in an object store: it works, or needs no releases and says so by having no --manifests."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable
from pathlib import Path

import end_to_end as e2e
import pytest

from curate.adapters.object_store import StorePath
from curate.cli import VERBS
from curate.manifest import read_log

Here = Callable[..., e2e.Done]
# verb -> what is asked, and what stdout then says; NEW is a folder or file that is not there yet
WORKS = {
    "run": ("run SPEC --no-review", "s3://"),
    "report": ("report pets", "index.html"),
    "export": ("export pets --format csv --out NEW", "csv: "),
    "describe": ("describe pets --out NEW", "croissant"),
    "audit": ("audit pets --csv NEW --budget 33", "33 looks"),
    "log": ("log pets", "v1"),
    "show": ("show pets --lineage", "UNSIGNED"),
    "diff": ("diff pets@v1 pets --html NEW", "what went in differs in: policy, spec"),
    "verify": ("verify pets --deep", "Every promise is kept."),
    "rollback": ("rollback pets@v1 --why older", "is the latest now"),
    "retract": ("retract pets@v1 --why wrong", "is retracted"),
    "tag": ("tag pets gold", "pets@gold is"),
    "used": ("used pets --by run-1", "run-1"),
    "where": ("where train/cat/003.png", "pets"),
    "sign": ("sign pets --key KEY", "signed"),
    "gc": ("gc", "0 leftovers removed"),
    "erase": ("erase pets --sample train/cat/003.png --yes", "Erased"),
}
NEEDS_NO_RELEASES = {"init", "ingest", "scan", "check", "teach", "flag", "review", "plant", "doctor"}
MORE = [
    ("export pets --format hf --out NEW", "hf: 60 images"),
    ("export pets --format webdataset --out NEW", "webdataset: 60 images"),
    ("show pets --row train/cat/003.png", "train/cat/003.png"),
    ("verify pets --bytes", "The bytes are as published"),
    ("used pets", "Nobody said"),
    ("erase pets --sample train/cat/003.png --dry-run", "Nothing was erased"),
]


@pytest.fixture(scope="module")
def twice(finished: e2e.Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a second version, under another policy."""
    world = shutil.copytree(finished.folder, tmp_path_factory.mktemp("twice") / "world")
    spec = world / "pets.yaml"
    spec.write_text(spec.read_text() + "policy: {release_review: true}\n")
    done = e2e.call("run", spec, "--workspace", world / "ws", "--no-review", "--json", "--quiet")
    assert done.code == 0, done.err
    return world


@pytest.fixture
def stored(twice: Path, bucket: StorePath, tmp_path: Path) -> Path:
    """Return a workspace whose two versions are in the store, and nowhere else."""
    world = shutil.copytree(twice, tmp_path / "world")
    top = world / "ws" / "manifests"
    for file in sorted(path for path in top.rglob("*") if path.is_file() and path.suffix != ".lock"):
        (bucket / file.relative_to(top).as_posix()).put(file)
    shutil.rmtree(top)
    return world


def test_every_verb_is_in_the_table() -> None:
    verbs = {verb.__name__: verb for group in VERBS.values() for verb in group}
    assert set(verbs) == set(WORKS) | NEEDS_NO_RELEASES
    for name, verb in verbs.items():
        assert ("manifests" in inspect.signature(verb).parameters) == (name in WORKS), name


@pytest.mark.parametrize(("asked", "told"), [*WORKS.values(), *MORE], ids=lambda one: one.replace(" ", "_")[:40])
def test_every_verb_works_on_a_store(
    stored: Path, bucket: StorePath, here: Here, tmp_path: Path, asked: str, told: str
) -> None:
    if "KEY" in asked:
        assert here("keys", "new", "--out", tmp_path / "k.pem").code == 0
    words = {"NEW": tmp_path / "new", "KEY": tmp_path / "k.pem", "SPEC": stored / "pets.yaml"}
    n_before = len(read_log(bucket, "pets"))
    given = [str(words.get(word, word)) for word in asked.split()]
    done = here(*given, "--workspace", stored / "ws", "--manifests", bucket)
    assert done.code == 0, done.err
    assert told in done.out
    verb = asked.partition(" ")[0]
    wrote = verb in {"rollback", "retract", "tag"} or (verb == "erase" and "--yes" in asked)
    assert (len(read_log(bucket, "pets")) > n_before) == wrote
    assert not (stored / "ws" / "manifests" / "pets").exists()  # nothing went to the folder instead
