"""Real pictures on disk and the request that a run would make of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa

from curate.ingest.media import open_media
from curate.schema import BBOX, label_id_of, sample_id_of
from curate.teachers.protocol import Request


def picture(kind: int, rng: np.random.Generator, side: int = 32) -> np.ndarray:
    """Return a noisy drawing: stripes across, stripes down, a disc or a cross, in any colour."""
    canvas = rng.integers(0, 90, (side, side, 3)).astype(np.uint8)
    ink = tuple(int(v) for v in rng.integers(120, 256, 3))
    shift = int(rng.integers(-side // 8, side // 8 + 1))
    if kind == 0:
        for y in range(side // 8, side, side // 4):
            cv2.line(canvas, (0, y + shift), (side, y + shift), ink, side // 16)
    elif kind == 1:
        for x in range(side // 8, side, side // 4):
            cv2.line(canvas, (x + shift, 0), (x + shift, side), ink, side // 16)
    elif kind == 2:
        cv2.circle(canvas, (side // 2 + shift, side // 2), side // 4, ink, -1)
    else:
        cv2.line(canvas, (0, shift), (side, side + shift), ink, side // 10)
        cv2.line(canvas, (side, shift), (0, side + shift), ink, side // 10)
    return canvas


def ask(
    root: Path,
    images: Sequence[bytes],
    given: Sequence[str],
    classes: Sequence[str],
    *,
    families: Sequence[int] | None = None,
    boxes: Sequence[tuple[int, list[float]]] | None = None,
) -> Request:
    """Write encoded images to `root` and return the request: a label each, or `boxes` of (image, box)."""
    root.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(images):
        (root / f"{number:05}.img").write_bytes(data)
    uris = [f"{number:05}.img" for number in range(len(images))]
    ids = [sample_id_of("test", uri) for uri in uris]
    samples = pa.table(
        {
            "sample_id": ids,
            "uri": uris,
            "container": pa.nulls(len(ids), pa.string()),
            "container_offset": pa.nulls(len(ids), pa.int64()),
            "n_bytes": pa.array([len(data) for data in images], pa.int64()),
            "content_sha256": [hashlib.sha256(data).hexdigest() for data in images],
        }
    )
    places = [(at, None) for at in range(len(images))] if boxes is None else list(boxes)
    rows = samples.take(pa.array([at for at, _ in places], pa.int64()))
    labels = rows.append_column(
        "label_id", pa.array([label_id_of(ids[at], "classification", str(n)) for n, (at, _) in enumerate(places)])
    )
    labels = labels.append_column("label", pa.array(list(given), pa.string()))
    labels = labels.append_column("bbox", pa.array([box for _, box in places], BBOX))
    return Request(
        samples=samples,
        labels=labels,
        media=open_media(root, root.parent / "media"),
        classes=tuple(classes),
        families=np.arange(len(places)) if families is None else np.asarray(families),
        seed=0,
        resolve=lambda path: root / path,
        scratch=root.parent / "scratch",
        workers=1,
    )


def encoded(image: np.ndarray, kind: str = ".png") -> bytes:
    return bytes(cv2.imencode(kind, image)[1].tobytes())


def shuffled(request: Request, order: np.ndarray) -> Request:
    """Return the same request with its label rows in another order."""
    return replace(request, labels=request.labels.take(pa.array(order)), families=request.families[order])
