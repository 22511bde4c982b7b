"""Runs curate's image_quality and CleanVision on the same folder and prints, for each issue, who flags what.

    python benchmarks/image_quality/compare.py FOLDER [--limit N] [--plant]

`--plant` works on a copy in which every eighth image is darkened, and others are overexposed, blurred, made gray,
flattened or cut to a strip, so that each issue occurs. Needs `pip install 'curate[benchmark]'`.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import pyarrow as pa
from PIL import Image, ImageFilter, ImageOps

from curate.check import run_check
from curate.checks.image_quality import CHECK
from curate.scan import scan_folder

THEIRS = {
    "dark": "dark",
    "bright": "light",
    "blurry": "blurry",
    "low_information": "low_information",
    "gray": "grayscale",
    "odd_size": "odd_size",
    "odd_aspect": "odd_aspect_ratio",
}
ENDINGS = {".jpg", ".jpeg", ".png"}


def planted(image: Image.Image, kind: int) -> Image.Image:  # noqa: PLR0911 - a return for each kind
    width, height = image.size
    if kind == 0:
        return image.point(lambda value: value * 0.25)
    if kind == 1:
        return image.point(lambda value: 250 + value // 60)
    if kind == 2:
        return image.filter(ImageFilter.GaussianBlur(max(width, height) / 12))
    if kind == 3:
        return ImageOps.grayscale(image)
    if kind == 4:
        return Image.new("RGB", image.size, image.resize((1, 1)).getpixel((0, 0)))
    if kind == 5:
        return image.crop((0, 0, width, max(1, height // 6)))
    return image


def prepare(source: Path, target: Path, *, limit: int, plant: bool) -> int:
    files = sorted(path for path in source.rglob("*") if path.suffix.lower() in ENDINGS)[:limit]
    for number, file in enumerate(files):
        if plant and number % 8 < 6:
            with Image.open(file) as image:
                planted(image.convert("RGB"), number % 8).save(target / f"{number:05d}.png")
        else:
            shutil.copy(file, target / f"{number:05d}{file.suffix.lower()}")
    return len(files)


def flags_of_curate(folder: Path) -> tuple[dict[str, set[str]], float]:
    start = time.perf_counter()
    scanned = scan_folder(folder)
    findings = run_check(CHECK, scanned).findings
    seconds = time.perf_counter() - start
    names = dict(zip(scanned["sample_id"].to_pylist(), scanned["uri"].to_pylist(), strict=True))
    found: dict[str, set[str]] = {issue: set() for issue in THEIRS}
    for row in findings.filter(pa.compute.field("flagged")).select(["issue", "sample_id"]).to_pylist():
        found.setdefault(row["issue"], set()).add(names[row["sample_id"]])
    return found, seconds


def flags_of_cleanvision(folder: Path) -> tuple[dict[str, set[str]], float]:
    from cleanvision import Imagelab  # noqa: PLC0415 - an extra

    start = time.perf_counter()
    lab = Imagelab(data_path=str(folder))
    lab.find_issues({name: {} for name in THEIRS.values()}, verbose=False)
    seconds = time.perf_counter() - start
    issues = lab.issues
    return {
        ours: {Path(path).name for path in issues.index[issues[f"is_{theirs}_issue"]]}
        for ours, theirs in THEIRS.items()
    }, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--plant", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        n = prepare(arguments.folder, folder, limit=arguments.limit, plant=arguments.plant)
        ours, our_s = flags_of_curate(folder)
        theirs, their_s = flags_of_cleanvision(folder)
    print(f"{n} images; curate {n / our_s:.0f} img/s, CleanVision {n / their_s:.0f} img/s")
    print(f"{'issue':<16} {'both':>6} {'curate':>7} {'theirs':>7} {'neither':>8} {'agree':>7}")
    for issue in THEIRS:
        both, mine, yours = ours[issue] & theirs[issue], ours[issue] - theirs[issue], theirs[issue] - ours[issue]
        agree = 1 - len(mine | yours) / max(1, n)
        neither = n - len(ours[issue] | theirs[issue])
        print(f"{issue:<16} {len(both):>6} {len(mine):>7} {len(yours):>7} {neither:>8} {agree:>7.1%}")


if __name__ == "__main__":
    main()
