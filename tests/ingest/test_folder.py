from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import awkward
import pytest

from curate.errors import ConfigError, InputError
from curate.ingest import source_named
from curate.ingest.collect import Ingested
from curate.ingest.folder import SOURCE, archive_stem, layout_of
from curate.ingest.media import open_media
from curate.ingest.source import ReadOptions
from curate.reasons.ingest import SENTENCES

Write = Callable[[Path, dict[str, bytes]], Path]


def write_folder(path: Path, members: dict[str, bytes]) -> Path:
    root = path.with_suffix("")
    for name, data in members.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


WRITERS: dict[str, Write] = {
    "folder": write_folder,
    "tar": lambda path, members: awkward.write_tar(path.with_suffix(".tar"), members),
    "tgz": lambda path, members: awkward.write_tar(path.with_suffix(".tgz"), members, mode="w:gz"),
    "zip": lambda path, members: awkward.write_zip(path.with_suffix(".zip"), members),
}


def read(root: Path, **options: object) -> Ingested:
    return SOURCE.read(ReadOptions("s", root, options=options))


def labels_of(ingested: Ingested) -> dict[str, tuple[str | None, str | None]]:
    label = dict(zip(*(ingested.labels[n].to_pylist() for n in ("sample_id", "label")), strict=True))
    rows = ingested.samples.select(["uri", "sample_id", "split"]).to_pylist()
    return {row["uri"]: (row["split"], label.get(row["sample_id"])) for row in rows}


@pytest.mark.parametrize("kind", WRITERS)
def test_awkward_files_come_back_to_the_byte(tmp_path: Path, kind: str) -> None:
    contents = {f"größe {i % 2}/{name}": awkward.png(i) for i, name in enumerate(awkward.NAMES)}
    contents |= {f"größe {i % 2}/{name}": data for i, (name, data) in enumerate(awkward.variants().items())}
    root = WRITERS[kind](tmp_path / "my data.x", contents)
    assert source_named("folder").recognises(root) == {}
    ingested = read(root)
    assert ingested.outcomes["outcome"].to_pylist() == ["added"] * len(contents)
    assert labels_of(ingested) == {uri: (None, uri.split("/")[0]) for uri in contents}
    assert ingested.classes == ("größe 0", "größe 1")
    assert set(ingested.samples["label_state"].to_pylist()) == {"labeled"}
    data = open_media(root, tmp_path / "scratch").read(ingested.samples)
    assert dict(zip(ingested.samples["uri"].to_pylist(), data, strict=True)) == contents


def test_folder_tar_and_zip_give_the_same_ids_and_labels(tmp_path: Path) -> None:
    contents = {f"{s}/{c}/{n}": awkward.jpeg(1) for s in ("train", "val") for c in "ab" for n in awkward.NAMES}
    results = [read(write(tmp_path / "d.x", contents)) for write in WRITERS.values()]
    for other in results[1:]:
        for name in ("samples", "labels"):
            one, two = (getattr(r, name).sort_by("sample_id") for r in (results[0], other))
            keep = [n for n in one.column_names if n not in {"container", "container_offset", "mtime_ns"}]
            assert one.select(keep) == two.select(keep)


LAYOUTS = {
    "class folders": ({"cat/a.jpg": (None, "cat"), "dog/b.jpg": (None, "dog")}, {}),
    "split and class": (
        {"train/cat/a.jpg": ("train", "cat"), "Validation/dog/b.jpg": ("val", "dog"), "TEST/c.jpg": ("test", None)},
        {},
    ),
    "flat": ({"a.jpg": (None, None), "b.png": (None, None)}, {}),
    "unlabeled folder": ({"cat/a.jpg": (None, "cat"), "Unlabeled/b.jpg": (None, None)}, {}),
    "unlabeled in a split": ({"train/unlabelled/a.jpg": ("train", None), "test/cat/b.jpg": ("test", "cat")}, {}),
    "negative is a class": ({"negative/a.jpg": (None, "negative"), "positive/b.jpg": (None, "positive")}, {}),
    "a class called train": ({"train/a.jpg": (None, "train"), "car/b.jpg": (None, "car")}, {}),
    "splits told off": (
        {"train/a.jpg": (None, "train"), "test/b.jpg": (None, "test")},
        {"split_folders": False},
    ),
    "splits told on": (
        {"train/cat/a.jpg": ("train", "cat"), "extra/b.jpg": (None, "extra")},
        {"split_folders": True},
    ),
    "nested, first": ({"cat/x/a.jpg": (None, "cat"), "dog/x/b.jpg": (None, "dog")}, {}),
    "nested, last": (
        {"animal/cat/a.jpg": (None, "cat"), "thing/car/b.jpg": (None, "car")},
        {"class_level": "last"},
    ),
    "nested, path": (
        {"animal/cat/a.jpg": (None, "animal/cat"), "thing/b.jpg": (None, "thing")},
        {"class_level": "path"},
    ),
    "wrapped": ({"data/cat/a.jpg": (None, "cat"), "data/dog/b.jpg": (None, "dog")}, {}),
    "wrapped splits": ({"data/train/cat/a.jpg": ("train", "cat"), "data/val/dog/b.jpg": ("val", "dog")}, {}),
    "one class": ({"cat/a.jpg": (None, "cat"), "cat/b.jpg": (None, "cat")}, {}),
    "stray beside classes": ({"cat/a.jpg": (None, "cat"), "b.jpg": (None, None)}, {}),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path: Path, kind: str, layout: str) -> None:
    wanted, options = LAYOUTS[layout]
    root = WRITERS[kind](tmp_path / "pictures.x", dict.fromkeys(wanted, awkward.jpeg()))
    ingested = read(root, **options)
    assert labels_of(ingested) == wanted
    states = dict(zip(*(ingested.samples[n].to_pylist() for n in ("uri", "label_state")), strict=True))
    assert states == {uri: "labeled" if label else "unlabeled" for uri, (_, label) in wanted.items()}


def test_an_archives_own_name_is_no_class(tmp_path: Path) -> None:
    flat = awkward.write_tar(tmp_path / "photos.tar.gz", {"photos/a.jpg": awkward.jpeg()}, mode="w:gz")
    assert labels_of(read(flat)) == {"photos/a.jpg": (None, None)}
    deep = awkward.write_zip(tmp_path / "Set.zip", {"Set/cat/a.jpg": awkward.jpeg(), "Set/dog/b.jpg": b"x"})
    assert labels_of(read(deep)) == {"Set/cat/a.jpg": (None, "cat"), "Set/dog/b.jpg": (None, "dog")}
    assert archive_stem(Path("a.b.tar.bz2")) == "a.b"
    assert layout_of([], archive_stem=None).wrapper == ()


def test_each_file_is_one_outcome(tmp_path: Path) -> None:
    root = tmp_path / "data"
    wanted = awkward.write_hostile_folder(root)
    for name in ("cat/Thumbs.db", "cat/.DS_Store", ".git/x.jpg", "__MACOSX/cat/._a.jpg", "README.md", "labels.csv"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")  # of a system, or a document: no data
    for name in ("cat/notes.txt", "cat/movie.mp4", "weights.bin", "cat/no_ending", "cat/__init__.py"):
        (root / name).write_bytes(b"")
        wanted[name] = "not_an_image_name"
    (root / "cat" / "sub.jpg").mkdir()
    wanted["cat/sub.jpg"] = "not_a_file"
    (root / "away").symlink_to(tmp_path)
    wanted["away"] = "not_an_image_name"
    (root / "again").symlink_to(root / "cat")
    wanted["cat/\\xff.jpg"] = "name_not_utf8"
    (Path(str(root / "cat")) / "\udcff.jpg").write_bytes(awkward.jpeg())
    good = {f"cat/{name}" for name in awkward.broken()}  # what is no image inside is for the scan to say
    for name, data in awkward.broken().items():
        (root / "cat" / name).write_bytes(data)
    ingested = read(root)
    rows = ingested.outcomes.to_pylist()
    wanted["away"] = "path_leaves_root"
    assert {r["row"]: r["reason_code"] for r in rows if r["outcome"] == "out"} == wanted
    assert {r["row"] for r in rows if r["outcome"] == "added"} == good
    assert len(rows) == len(wanted) + len(good)
    for row in rows:
        if row["outcome"] == "out":
            assert SENTENCES[row["reason_code"]].format(**json.loads(row["reason_args"]))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_hostile_tars_harm_nothing(tmp_path: Path, mode: str) -> None:
    good = {"cat/a.jpg": awkward.jpeg(1), "dog/b.jpg": awkward.jpeg(2), "dog/empty.jpg": b""}
    root = awkward.write_hostile_tar(tmp_path / "bad.tar", good)
    if mode == "w:gz":
        packed = tmp_path / "in" / "bad.tar.gz"
        packed.parent.mkdir()
        packed.write_bytes(gzip.compress(root.read_bytes()))
        root = packed
    ingested = read(root)
    assert sorted(ingested.samples["uri"].to_pylist()) == ["cat/a.jpg", "dog/b.jpg"]
    out = {r["row"]: r["reason_code"] for r in ingested.outcomes.to_pylist() if r["outcome"] == "out"}
    assert out == {
        "../escape.jpg": "path_leaves_root",
        "/tmp/absolute.jpg": "path_leaves_root",  # noqa: S108 - a name in a tar
        "cat/hard.jpg": "path_leaves_root",
        **{f"cat/{kind}.jpg": "not_a_file" for kind in ("sym", "char", "block", "pipe")},
        "dog/empty.jpg": "zero_bytes",
    }
    before = {path for path in tmp_path.rglob("*") if "scratch" not in path.parts}
    paths = open_media(root, tmp_path / "scratch").paths(ingested.samples)
    assert [path.read_bytes() for path in paths] == [good["cat/a.jpg"], good["dog/b.jpg"]]
    assert {path for path in tmp_path.rglob("*") if "scratch" not in path.parts} == before


def test_hostile_zips_harm_nothing(tmp_path: Path) -> None:
    root = awkward.write_zip(
        tmp_path / "bad.zip",
        {"../../escape.jpg": b"x", "cat\\..\\..\\..\\win.jpg": b"x", "C:\\x.jpg": b"x", "cat/ok.jpg": b"ok"},
    )
    ingested = read(root)
    assert ingested.samples["uri"].to_pylist() == ["cat/ok.jpg"]
    assert Counter(ingested.outcomes["reason_code"].to_pylist()) == {"path_leaves_root": 3, None: 1}
    (path,) = open_media(root, tmp_path / "scratch").paths(ingested.samples)
    assert path.is_relative_to(tmp_path / "scratch")


def test_a_hard_link_in_a_tar_is_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(awkward.jpeg())
    (tmp_path / "b.jpg").hardlink_to(tmp_path / "a.jpg")
    with tarfile.open(tmp_path / "links.tar", "w") as archive:
        archive.add(tmp_path / "a.jpg", "cat/a.jpg")
        archive.add(tmp_path / "b.jpg", "cat/b.jpg")
    ingested = read(tmp_path / "links.tar")
    data = list(open_media(tmp_path / "links.tar", tmp_path / "scratch").read(ingested.samples))
    assert data == [awkward.jpeg()] * 2


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_two_members_of_one_name_are_never_mixed_up(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"twice.{kind}"
    members = [("cat/a.jpg", awkward.jpeg(1)), ("cat/a.jpg", awkward.jpeg(2)), ("dog/b.jpg", awkward.jpeg(3))]
    if kind == "tar":
        with tarfile.open(path, "w") as archive:
            for name, data in members:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    else:
        with zipfile.ZipFile(path, "w") as packed:
            packed.writestr(*members[0])
            with pytest.warns(UserWarning, match="Duplicate name"):
                packed.writestr(*members[1])
            packed.writestr(*members[2])
    ingested = read(path)
    assert ingested.outcomes["reason_code"].to_pylist() == [None, "duplicate_id", None]
    assert list(open_media(path, tmp_path / "s").read(ingested.samples)) == [awkward.jpeg(1), awkward.jpeg(3)]


@pytest.mark.parametrize("name", ["cut.tar", "cut.tar.gz", "cut.zip"])
def test_a_damaged_archive_is_one_line(tmp_path: Path, name: str) -> None:
    members = {f"cat/{i}.jpg": awkward.jpeg(i) * 50 for i in range(20)}
    if name.endswith("zip"):
        path = awkward.write_zip(tmp_path / name, members)
    else:
        path = awkward.write_tar(tmp_path / name, members, mode="w:gz" if name.endswith("gz") else "w")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    ingested = read(path)
    out = [row for row in ingested.outcomes.to_pylist() if row["outcome"] == "out"]
    assert [row["reason_code"] for row in out] == ["archive_damaged"]
    data = list(open_media(path, tmp_path / "scratch").read(ingested.samples))
    read_back = dict(zip(ingested.samples["uri"].to_pylist(), data, strict=True))
    assert all(bytes_ in {None, members[uri]} for uri, bytes_ in read_back.items())
    if not name.endswith("zip"):  # the directory of a zip stands at its end
        assert sum(bytes_ is not None for bytes_ in data) >= 5


def test_a_yaml_like_or_html_class_stays_text(tmp_path: Path) -> None:
    names = ["!!python_object", "<script>alert(1)<", "{a: 1}", "null", "- x", "'", "=1+1"]
    root = write_folder(tmp_path / "d.x", {f"{name}/a.jpg": b"x" for name in names})
    ingested = read(root)
    assert ingested.classes == tuple(sorted(names))


def test_a_class_of_10000_characters_in_a_tar_is_out(tmp_path: Path) -> None:
    root = awkward.write_tar(tmp_path / "d.tar", {"x" * 10_000 + "/a.jpg": b"x", "cat/b.jpg": b"x"})
    ingested = read(root)
    out = [row for row in ingested.outcomes.to_pylist() if row["outcome"] == "out"]
    assert [row["reason_code"] for row in out] == ["label_too_long"]
    assert len(out[0]["row"]) <= 4096


def test_declared_classes_and_wrong_options(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d.x", {"cat/a.jpg": b"x", "dgo/b.jpg": b"x"})
    ingested = SOURCE.read(ReadOptions("s", root, classes=("dog", "cat")))
    assert ingested.classes == ("dog", "cat")
    assert ingested.samples["uri"].to_pylist() == ["cat/a.jpg"]
    with pytest.raises(ConfigError, match=r"class_level must be one of .* Did you mean 'first'"):
        read(root, class_level="frist")
    with pytest.raises(ConfigError, match="must be true or false; it is 'maybe'"):
        read(root, split_folders="maybe")
    with pytest.raises(ConfigError, match=r"no columns.*age"):
        SOURCE.read(ReadOptions("s", root, attributes={"age": "age"}))


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing at"):
        read(tmp_path / "absent")
    with pytest.raises(InputError, match="no image and no label"):
        read(tmp_path)
    (tmp_path / "x.docx").write_bytes(b"x")
    with pytest.raises(InputError, match="neither a folder nor an archive"):
        read(tmp_path / "x.docx")
    assert SOURCE.recognises(tmp_path) is None
    assert SOURCE.recognises(tmp_path / "x.docx") is None


def test_what_init_says_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "only" / "data").mkdir(parents=True)
    (tmp_path / "only" / "data" / "a.jpg").write_bytes(awkward.jpeg(1))
    first, doubt = SOURCE.remarks(tmp_path / "only")
    assert first == "1 images, 1 labels, 1 class"
    assert "'data'" in doubt
    assert "fiftyone with a type" in doubt
    (tmp_path / "only" / "b.jpg").write_bytes(awkward.jpeg(2))
    (tmp_path / "only" / "data" / "a.jpg").rename(tmp_path / "only" / "a.jpg")
    assert SOURCE.remarks(tmp_path / "only")[1].startswith("No folder names a class")
