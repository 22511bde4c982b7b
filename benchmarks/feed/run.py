"""Images a second into a training loop: curate's feed, a PyTorch DataLoader over PIL files, and WebDataset.

    python benchmarks/feed/run.py IMAGES [--copies 4] [--rounds 5] [--size 224] [--out results.json]

IMAGES is a folder or tar of photos. Each is used `copies` times. Everybody decodes the same files, turns them
upright, makes them RGB, stretches them to size x size (bilinear, antialiased) and hands uint8 batches of 32 to the same
training step, which is small, as it is for the CPU where the network runs on an accelerator. Two decoding workers or
threads each. Rounds alternate between the contenders; the ratio to the DataLoader is the median of the ratios of the
rounds. On a machine that others use too, look at the CPU time: it says what the same cores would give.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import shutil
import statistics
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

import curate
import curate.feed
from curate.export.packed import export_packed
from curate.feed.release import Feed

BATCH, WORKERS, N_CLASSES = 32, 2, 10
LINE = (
    "| {contender} | {images_per_s:.0f} | {ratio:.2f} ({low:.2f} to {high:.2f}) | {cpu_ms:.2f} | {cpu_ratio:.2f} |"
)
SPEC = """
name: photos
source: {format: folder, path: data}
teachers: []
policy: {rules: [{issue: unreadable, action: drop}, {issue: "*", action: keep}], use_default_gates: false}
"""
Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]


def lay_out(images: Path, root: Path, copies: int) -> None:
    if images.is_file():
        with tarfile.open(images) as archive:
            archive.extractall(root / "given", filter="data")
        images = root / "given"
    found = sorted(path for path in images.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    for at, path in enumerate(found):
        for copy in range(copies):
            target = root / "data" / f"class-{at % N_CLASSES}" / f"{at:06}-{copy}{path.suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def upright(image: Image.Image, size: int) -> torch.Tensor:
    image = ImageOps.exif_transpose(image).convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())


class Files(Dataset[tuple[torch.Tensor, int]]):
    def __init__(self, root: Path, size: int) -> None:
        self.files, self.size = sorted(str(path) for path in root.rglob("*.*")), size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, at: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.files[at]) as image:
            return upright(image, self.size), int(Path(self.files[at]).parent.name.removeprefix("class-"))


def with_data_loader(root: Path, size: int) -> Callable[[], Batches]:
    return lambda: iter(DataLoader(Files(root / "data", size), BATCH, shuffle=True, num_workers=WORKERS))


def with_feed(feed: Feed, size: int, *, shrink: bool = False, workers: int = 0) -> Callable[[], Batches]:
    def batches() -> Batches:
        stream = feed.stream(
            batch_size=BATCH,
            size_px=(size, size),
            shrink_on_load=shrink,
            n_threads=1 if workers else WORKERS,
        )
        loader: Any = DataLoader(stream, batch_size=None, num_workers=workers) if workers else stream
        for batch in loader:
            yield batch["image"], batch["label"]

    return batches


def with_webdataset(feed: Feed, root: Path, size: int) -> Callable[[], Batches]:
    import webdataset  # noqa: PLC0415 - a benchmark extra

    n_bytes = sum(file.stat().st_size for file in (root / "data").rglob("*") if file.is_file())
    shard_bytes = min(10_000_000, n_bytes // (2 * WORKERS))  # each worker needs a shard
    export_packed(feed, root / "shards", format="webdataset", shard_bytes=shard_bytes)
    shards = sorted(str(path) for path in (root / "shards").glob("*.tar"))

    def pair(sample: dict[str, Any]) -> tuple[torch.Tensor, int]:
        image = next(value for value in sample.values() if isinstance(value, Image.Image))
        return upright(image, size), int(sample["cls"])

    def batches() -> Batches:
        data = webdataset.WebDataset(shards, shardshuffle=len(shards)).shuffle(500).decode("pil").map(pair)
        return iter(DataLoader(data, BATCH, num_workers=WORKERS))

    return batches


def cpu_s() -> float:
    """Seconds of all CPUs that this process and its ended workers have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def train(batches: Callable[[], Batches], n: int) -> tuple[float, float]:
    """Return images a second, and CPU milliseconds an image."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(8), torch.nn.Flatten(), torch.nn.Linear(192, N_CLASSES))
    step = torch.optim.SGD(model.parameters(), lr=0.01)
    seen = 0
    started, cpu = time.perf_counter(), cpu_s()
    for images, labels in batches():
        loss = torch.nn.functional.cross_entropy(model(images.float()), labels)
        step.zero_grad()
        loss.backward()
        step.step()
        seen += len(images)
    seconds = time.perf_counter() - started
    gc.collect()  # ends the workers of a loader, so that what they used is known
    if seen != n:
        raise SystemExit(f"{seen} images came, {n} are there")
    return seen / seconds, (cpu_s() - cpu) / seen * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        lay_out(options.images, root, options.copies)
        (root / "photos.yaml").write_text(SPEC)
        curate.run(root / "photos.yaml", workspace=root / "ws", review=False)
        feed = curate.feed.open("photos", workspace=root / "ws")
        size = options.size
        contenders = {
            "DataLoader over PIL files, 2 workers": with_data_loader(root, size),
            "curate stream, 2 threads": with_feed(feed, size),
            "curate stream, 2 threads, shrink_on_load": with_feed(feed, size, shrink=True),
            "curate stream in a DataLoader, 2 workers": with_feed(feed, size, workers=WORKERS),
            "WebDataset, 2 workers": with_webdataset(feed, root, size),
        }
        rates: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
        for batches in contenders.values():  # once unmeasured: files into memory, code into caches
            train(batches, len(feed))
        for _ in range(options.rounds):
            for name, batches in contenders.items():
                rates[name].append(train(batches, len(feed)))
    base = rates["DataLoader over PIL files, 2 workers"]
    rows = []
    for name, found in rates.items():
        ratios = [one / other for (one, _), (other, _) in zip(found, base, strict=True)]
        cheaper = [other / one for (_, one), (_, other) in zip(found, base, strict=True)]
        rows.append(
            {
                "contender": name,
                "images_per_s": statistics.median(rate for rate, _ in found),
                "cpu_ms": statistics.median(cpu for _, cpu in found),
                "cpu_ratio": statistics.median(cheaper),
                "ratio": statistics.median(ratios),
                "low": min(ratios),
                "high": max(ratios),
            }
        )
    print("| contender | images/s | ratio to the DataLoader (lowest to highest round) | CPU ms an image | ratio |")
    print("| --- | --- | --- | --- | --- |")
    for row in rows:
        print(LINE.format(**row))
    if options.out:
        options.out.write_text(json.dumps({"n_images": len(feed), "size_px": size, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
