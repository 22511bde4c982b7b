"""Format `digits`: scikit-learn's 1,797 handwritten digits as PNG files, with errors planted and written down.

The digits are real (E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, CC BY 4.0) and come
with scikit-learn: nothing is downloaded. `reference_label` is the truth, so that a report can say how many of the
planted errors were found. In the folder lie `images/SPLIT/NNNN.png`, `labels.csv` (file, split, label, truth) and
`planted.csv` (file, kind, detail).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.errors import ConfigError
from curate.ingest.collect import Collector
from curate.ingest.generated import generated_folder, uniform
from curate.ingest.source import Ingested, ReadOptions

VERSION = 1
SIZE_PX = 32
SPLITS = (("train", 0.7), ("val", 0.15), ("test", 0.15))
# What people take a digit for, and how error-prone its class is relative to the mean.
TAKEN_FOR = {0: 6, 1: 7, 2: 3, 3: 8, 4: 9, 5: 6, 6: 0, 7: 1, 8: 3, 9: 4}
ERROR_WEIGHT = {0: 0.4, 1: 1.3, 2: 0.8, 3: 1.4, 4: 1.3, 5: 0.9, 6: 0.6, 7: 1.2, 8: 1.1, 9: 1.0}
SHARE_TAKEN_FOR = 0.75  # of the wrong labels; the rest goes to any other class
N_EXACT_COPIES = 4

Images = npt.NDArray[np.float64]
Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class DigitsSource:
    """The source format `digits`; it needs no path, it writes into the workspace."""

    name: str = "digits"
    option_names: tuple[str, ...] = ("wrong_share", "seed")

    def recognises(self, path: Path) -> Mapping[str, Any] | None:  # noqa: ARG002 - part of the protocol
        """Return None: nobody has these files before curate writes them."""
        return None

    def folder(self, options: ReadOptions) -> Path:
        """Return the folder of the digits, generated if it is not there: one under `options.scratch`."""
        wrong_share = options.options.get("wrong_share", 0.08)
        seed = options.options.get("seed", 0)
        if not isinstance(wrong_share, int | float) or not 0 <= wrong_share <= 0.5:
            msg = f"source.wrong_share must be a number from 0 to 0.5. Given: {wrong_share!r}."
            raise ConfigError(msg)
        if not isinstance(seed, int):
            msg = f"source.seed must be a whole number. Given: {seed!r}."
            raise ConfigError(msg)
        return generated_folder(options, "digits", VERSION, lambda folder: _write(folder, float(wrong_share), seed))

    def read(self, options: ReadOptions) -> Ingested:
        """Generate the files if they are not there, and read `labels.csv`."""
        folder = self.folder(options)
        collector = Collector(
            replace(options, root=folder.parent)
        )  # generated media are read from the scratch folder
        with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.DictReader(file), start=2):
                collector.add_labeled_image(
                    f"labels.csv row {number}",
                    f"{folder.name}/{row['file']}",
                    row["label"],
                    reference_label=row["truth"],
                    split=row["split"],
                )
        return collector.finish()


SOURCE = DigitsSource()


def _write(folder: Path, wrong_share: float, seed: int) -> None:
    from sklearn.datasets import load_digits  # noqa: PLC0415 - loads SciPy, and only this format needs it

    digits = load_digits()
    truth = [int(target) for target in digits.target]
    splits = _splits(len(truth), seed)
    given = _given_labels(truth, splits, wrong_share, seed)
    rows: list[Row] = []
    planted: list[Row] = []
    for index, split in enumerate(splits):
        file = f"images/{split}/{index:04d}.png"
        _save(folder / file, _png(_enlarged(digits.images[index])))
        rows.append({"file": file, "split": split, "label": str(given[index]), "truth": str(truth[index])})
        if given[index] != truth[index]:
            planted.append({"file": file, "kind": "wrong_label", "detail": f"{truth[index]} as {given[index]}"})
    _plant_files(folder, rows, planted, digits.images, seed)
    _save_table(folder / "labels.csv", rows)
    _save_table(folder / "planted.csv", planted)


def _splits(n: int, seed: int) -> list[str]:
    """Deal the digits out in exact shares, in the order of a hash."""
    order = sorted(range(n), key=lambda index: uniform(seed, "split", index))
    names = [""] * n
    ends = np.cumsum([round(share * n) for _, share in SPLITS])
    for position, index in enumerate(order):
        names[index] = SPLITS[min(int(np.searchsorted(ends, position, side="right")), len(SPLITS) - 1)][0]
    return names


def _given_labels(truth: list[int], splits: list[str], wrong_share: float, seed: int) -> list[int]:
    """Change the labels of `wrong_share` of the training digits, some classes more than others."""
    given = list(truth)
    mean = sum(ERROR_WEIGHT.values()) / len(ERROR_WEIGHT)
    for digit, weight in ERROR_WEIGHT.items():
        members = [i for i, label in enumerate(truth) if label == digit and splits[i] == "train"]
        members.sort(key=lambda index: uniform(seed, "wrong", index))
        for index in members[: round(wrong_share * weight / mean * len(members))]:
            given[index] = _wrong(digit, index, seed)
    return given


def _wrong(digit: int, index: int, seed: int) -> int:
    if uniform(seed, "taken_for", index) < SHARE_TAKEN_FOR:
        return TAKEN_FOR[digit]
    others = [other for other in range(10) if other not in (digit, TAKEN_FOR[digit])]
    return others[int(uniform(seed, "other", index) * len(others))]


def _plant_files(folder: Path, rows: list[Row], planted: list[Row], images: Images, seed: int) -> None:
    """Add copies across splits, an almost-copy, and files that cannot be read."""
    sources = [row for row in rows if row["split"] == "train" and row["label"] == row["truth"]]
    sources.sort(key=lambda row: uniform(seed, "copy", row["file"]))
    for number, row in enumerate(sources[:N_EXACT_COPIES]):
        split = "test" if number % 2 == 0 else "val"
        data = (folder / row["file"]).read_bytes()
        _add(folder, rows, planted, row, f"images/{split}/copy-{number}.png", data, "exact_duplicate")
    near = sources[N_EXACT_COPIES]
    fainter = _enlarged(images[int(Path(near["file"]).stem)] * 0.94)
    _add(folder, rows, planted, near, "images/test/fainter.png", _png(fainter), "near_duplicate")
    cut = sources[N_EXACT_COPIES + 1]
    half = (folder / cut["file"]).read_bytes()
    _add(folder, rows, planted, cut, "images/train/cut-off.png", half[: len(half) // 2], "truncated")
    _add(folder, rows, planted, cut, "images/train/empty.png", b"", "zero_bytes")


def _add(folder: Path, rows: list[Row], planted: list[Row], like: Row, file: str, data: bytes, kind: str) -> None:
    _save(folder / file, data)
    rows.append({**like, "file": file, "split": file.split("/")[1]})
    planted.append({"file": file, "kind": kind, "detail": like["file"]})


def _enlarged(digit: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Return a digit of 8 x 8 values in [0, 16] as `SIZE_PX` x `SIZE_PX` gray, white ink on black."""
    from PIL import Image  # noqa: PLC0415 - `import curate` must not load it

    small = Image.fromarray((digit * (255.0 / 16.0)).round().astype(np.uint8))
    return np.asarray(small.resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC))


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    from PIL import Image  # noqa: PLC0415 - as above

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _save(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _save_table(path: Path, rows: list[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
