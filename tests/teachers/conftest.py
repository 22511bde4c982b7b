"""A request over real files: small pictures that are red, green or blue, with noise."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest

from curate import schema
from curate.ingest.media import open_media
from curate.teachers.protocol import Request

sys.path.insert(0, str(Path(__file__).parent))  # tests are no package; `asked` is theirs alone

CLASSES = ("red", "green", "blue")


def picture(label: str, seed: int, side_px: int = 16) -> np.ndarray:
    """Return BGR pixels of mostly one colour."""
    noise = np.random.default_rng(seed).integers(0, 60, (side_px, side_px, 3))
    noise[..., 2 - CLASSES.index(label)] += 180
    return noise.astype(np.uint8)


@pytest.fixture
def make_request(tmp_path: Path) -> Callable[..., Request]:
    root = tmp_path / "images"
    root.mkdir()

    def make(truth: Sequence[str], given: Sequence[str] | None = None, **changes: Any) -> Request:  # noqa: ANN401
        rows = []
        for at, label in enumerate(truth):
            uri = f"{at:04d}.png"
            data = cv2.imencode(".png", picture(label, at))[1].tobytes()
            if not (root / uri).exists():
                (root / uri).write_bytes(data)
            sample_id = schema.sample_id_of("test", uri)
            rows.append(
                {
                    "label_id": schema.label_id_of(sample_id, "classification", "0"),
                    "sample_id": sample_id,
                    "uri": uri,
                    "label": given[at] if given else label,
                    "bbox": None,
                    "container": None,
                    "container_offset": None,
                    "n_bytes": len(data),
                    "content_sha256": schema.stable_id(uri, label),
                }
            )
        texts = ("label_id", "sample_id", "uri", "label", "container", "content_sha256")
        kinds = [(name, pa.string()) for name in texts]
        kinds += [("bbox", schema.BBOX), ("container_offset", pa.int64()), ("n_bytes", pa.int64())]
        labels = pa.Table.from_pylist(rows, schema=pa.schema(kinds))
        values: dict[str, Any] = {
            "samples": labels.drop_columns(["label_id", "label", "bbox"]),
            "labels": labels,
            "media": open_media(root, tmp_path / "scratch"),
            "classes": CLASSES,
            "families": np.arange(len(rows)),
            "seed": 0,
            "resolve": lambda path: (tmp_path / path).resolve(),
            "scratch": tmp_path / "features",
        }
        return Request(**{**values, **changes})

    return make
