# ruff: noqa: ANN401 - FiftyOne and the fixtures have no types
"""One mongod for the session, and small tables made of real parts."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate import schema
from curate.adapters.mongod import ensure_database, stop_database
from curate.check import build_findings


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace whose mongod runs for the whole session; tests use datasets of different names in it."""
    workspace = tmp_path_factory.mktemp("workspace")
    ensure_database(workspace)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # FiftyOne's own, at import
        import fiftyone  # noqa: F401, PLC0415
    yield workspace
    stop_database(workspace)


@dataclass(frozen=True)
class Toy:
    """The arguments of `load_dataset`, and the ids to talk about."""

    sample_ids: list[str]
    label_ids: list[str]
    arguments: dict[str, Any] = field(default_factory=dict)

    def having(self, **changes: Any) -> Toy:
        return replace(self, arguments=self.arguments | changes)


def write_images(folder: Path, n: int) -> list[Path]:
    import cv2  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i in range(n):
        paths.append(folder / f"bild ü {i}.png")
        pixels = np.random.default_rng(i).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        ok, data = cv2.imencode(".png", pixels)
        assert ok
        paths[-1].write_bytes(data.tobytes())
    return paths


def scan_of(sample_ids: list[str]) -> pa.Table:
    return schema.table_from_rows(
        [
            {
                "sample_id": s,
                "content_sha256": schema.stable_id(s) + "0" * 40,
                "n_bytes": 900,
                "format": "PNG",
                "width_px": 64,
                "height_px": 48,
            }
            for s in sample_ids
        ],
        schema.SCAN,
    )


def classification(workspace: Path, n: int = 12) -> Toy:
    """Cats and dogs in turn; samples 0, 2, 4 are suspects, 11 is unreadable, 8 and 9 are copies."""
    paths = write_images(workspace / "images", n)
    uris = [f"images/{p.name}" for p in paths]
    ids = [schema.sample_id_of("toy", uri) for uri in uris]
    label_ids = [schema.label_id_of(s, "classification", "0") for s in ids]
    samples = schema.table_from_rows(
        [
            {
                "sample_id": s,
                "source": "toy",
                "uri": u,
                "label_state": "labeled",
                "split": "val" if i == 9 else "train",
                "subject_id": "somebody",
            }
            for i, (s, u) in enumerate(zip(ids, uris, strict=True))
        ],
        schema.SAMPLES,
    )
    samples = samples.append_column("attr_age", pa.array(["20-29", None] * (n // 2)))
    samples = samples.append_column("group_camera", pa.array(["a", "b"] * (n // 2)))
    labels = schema.table_from_rows(
        [
            {
                "label_id": lab,
                "sample_id": s,
                "task": "classification",
                "label": ("cat", "dog")[i % 2],
                "reference_label": "SECRET",
            }
            for i, (s, lab) in enumerate(zip(ids, label_ids, strict=True))
            if i != n - 1
        ],
        schema.LABELS,
    )
    scan = scan_of(ids[:-1])
    broken = {"sample_id": ids[-1], "error_code": "truncated", "error_args": '{"n_bytes":7}'}
    scan = pa.concat_tables([scan, schema.table_from_rows([broken], schema.SCAN)])
    suspects = [
        {
            "issue": "mislabel",
            "sample_id": ids[i],
            "label_id": label_ids[i],
            "risk": 0.9 - i / 10,
            "flagged": True,
            "suggested_label": "dog",
            "suggested_prob": 0.75,
            "reason_code": "teachers_disagree",
            "reason_args": {"n_against": 4, "n_teachers": 5},
        }
        for i in (0, 2, 4)
    ]
    copy = {
        "issue": "leakage_duplicate",
        "sample_id": ids[8],
        "related_ids": [ids[9]],
        "risk": 1.0,
        "flagged": True,
        "reason_code": "copy",
    }
    dark = {"issue": "dark", "sample_id": ids[6], "risk": 0.8, "flagged": True, "reason_code": "dark"}
    verdicts = [
        {
            "sample_id": s,
            "label_id": lab,
            "action": "review" if i in {0, 2} else "keep",
            "released_label": ("cat", "dog")[i % 2],
            "weight": 1.0,
            "risk": 0.9 - i / 10 if i in {0, 2, 4} else 0.0,
            "reasons": [],
            "reason_codes": [],
        }
        for i, (s, lab) in enumerate(zip(ids, label_ids, strict=True))
        if i != n - 1
    ]
    findings = pa.concat_tables(
        [
            build_findings("label_noise", suspects),
            build_findings("leakage", [copy]),
            build_findings("image_quality", [dark]),
        ]
    )
    probs = np.tile(np.asarray([[0.25, 0.75]], np.float16), (n, 1))
    predictions = pa.table(
        {"sample_id": ids, "prob_knn": pa.FixedSizeListArray.from_arrays(pa.array(probs.ravel()), 2)}
    )
    arguments = {
        "workspace": workspace,
        "samples": samples,
        "labels": labels,
        "media_paths": paths,
        "scan": scan,
        "findings": findings,
        "verdicts": schema.table_from_rows(verdicts, schema.VERDICTS),
        "predictions": predictions,
        "classes": ("cat", "dog"),
    }
    return Toy(ids, label_ids, arguments)


def detection(workspace: Path, n: int = 3) -> Toy:
    """Three boxes an image: a car that is tracked, a person with a mask, a sign by its polygon."""
    from pycocotools import mask as coco  # noqa: PLC0415

    paths = write_images(workspace / "frames", n)
    ids = [schema.sample_id_of("street", p.name) for p in paths]
    whole = np.zeros((48, 64), np.uint8)
    whole[10:30, 20:40] = 1
    counts = coco.encode(np.asfortranarray(whole))["counts"]
    rows: list[dict[str, Any]] = []
    for i, s in enumerate(ids):
        common = {"sample_id": s, "task": "detection"}
        keys = [schema.label_id_of(s, "detection", str(k)) for k in range(3)]
        rows += [
            common
            | {"label_id": keys[0], "label": "car", "bbox": [0.1, 0.2, 0.3, 0.4], "track_id": "t1", "frame": i},
            common
            | {
                "label_id": keys[1],
                "label": "person",
                "mask": {"height_px": 48, "width_px": 64, "counts": counts},
            },
            common
            | {
                "label_id": keys[2],
                "label": "sign",
                "bbox": [0.5, 0.5, 0.25, 0.25],
                "polygons": [[0.5, 0.5, 0.75, 0.5, 0.75, 0.75]],
            },
        ]
    samples = [
        {"sample_id": s, "source": "street", "uri": p.name, "label_state": "labeled"}
        for s, p in zip(ids, paths, strict=True)
    ]
    findings = [
        {
            "issue": "swap",
            "sample_id": ids[0],
            "label_id": rows[0]["label_id"],
            "risk": 0.7,
            "flagged": True,
            "suggested_label": "truck",
            "reason_code": "swap",
        }
    ]
    arguments = {
        "workspace": workspace,
        "samples": schema.table_from_rows(samples, schema.SAMPLES),
        "labels": schema.table_from_rows(rows, schema.LABELS),
        "media_paths": paths,
        "scan": scan_of(ids),
        "findings": build_findings("boxes", findings),
        "classes": ("car", "person", "sign", "truck"),
    }
    return Toy(ids, [row["label_id"] for row in rows], arguments)


@pytest.fixture
def pets(database: Path) -> Toy:
    return classification(database)


@pytest.fixture
def street(database: Path) -> Toy:
    return detection(database)
