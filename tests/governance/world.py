"""A workspace in which one subject is everywhere: two datasets, two versions, a database, a ledger, a torn run."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import end_to_end as e2e
import pyarrow as pa
import pyarrow.parquet as pq

from curate import schema

SOURCE = "{format: table, path: src/faces.parquet, columns: {image: image, name: file, label: label, split: part}}"
SUBJECT = "zq-anna"
URIS = ("faces/zq-0007.png", "faces/zq-0011.png", "faces/zq-0019.png")
COPY = "other/zq-copy.png"  # the bytes of the first, in the other dataset, under another name
NEAR = "faces/zq-near.png"  # looks like the first, other bytes, another subject


@dataclass(frozen=True)
class World:
    """A folder with sources and specs, and its workspace."""

    folder: Path

    @property
    def workspace(self) -> Path:
        return self.folder / "ws"

    @property
    def sample_ids(self) -> list[str]:
        ids = [schema.sample_id_of("faces", uri) for uri in URIS]
        return [*ids, schema.sample_id_of("zoo", COPY)]

    def run(self, name: str = "faces", *options: str) -> e2e.Done:
        return e2e.call("run", self.folder / f"{name}.yaml", "--workspace", self.workspace, *options)

    def bytes_of(self, uri: str) -> bytes:
        return (self.folder / "loose" / uri).read_bytes()


def write_sources(folder: Path) -> None:
    loose, rows = folder / "loose", []
    for index in range(42):
        uri = f"faces/zq-{index:04}.png"
        e2e.picture(index % 3, index).convert("RGB").save(_made(loose / uri))
        subject = SUBJECT if uri in URIS else f"p{index // 2}"
        # one of the subject in another split: leakage findings name the group, duplicates name each other
        split = "test" if index % 5 == 0 or index == 11 else "train"
        rows.append((uri, ("cat", "dog", "eel")[index % 3], subject, split))
    near = e2e.picture(1, 7).convert("RGB")
    near.putpixel((0, 0), (1, 2, 3))
    near.save(_made(loose / NEAR))
    rows.append((NEAR, "dog", "p-near", "test"))
    (folder / "src").mkdir()
    columns = {name: [row[at] for row in rows] for at, name in enumerate(("file", "label", "person", "part"))}
    images = [(loose / uri).read_bytes() for uri in columns["file"]]
    pq.write_table(pa.table({**columns, "image": pa.array(images, pa.binary())}), folder / "src" / "faces.parquet")
    for index in range(30):
        e2e.picture(index % 3, 1000 + index).save(
            _made(folder / "zoo" / ("ape", "bat", "cow")[index % 3] / f"{index}.png")
        )
    shutil.copy(loose / URIS[0], _made(folder / "zoo" / COPY))


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
