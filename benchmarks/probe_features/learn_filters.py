"""Finds the filters of curate/teachers/patches.py on the two photographs that come with scikit-learn.

    python benchmarks/probe_features/learn_filters.py curate/teachers/patch_filters.npz

Both are CC BY 2.0, from Flickr: china.jpg by danielbuechele (photo 6061409035) and flower.jpg by vultilion
(photo 6056698931), as sklearn/datasets/images/README.txt says. No labeled image of any data set is involved.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from sklearn.datasets import load_sample_images

from curate.teachers.patches import PATCH_PX, patches_of

N_PAIRS = 128
N_PATCHES = 60_000
N_ROUNDS = 15
SCALES = (1.0, 0.5, 0.25)
RIDGE = 0.1  # added to the variances before whitening


def mirror(flat: np.ndarray) -> np.ndarray:
    """Return patches or filters (n, 108) seen in a mirror."""
    return flat.reshape(-1, PATCH_PX, PATCH_PX, 3)[:, :, ::-1].reshape(len(flat), -1)


def photographs() -> list[np.ndarray]:
    return [
        cv2.resize(np.ascontiguousarray(rgb[:, :, ::-1]), None, fx=s, fy=s, interpolation=cv2.INTER_AREA)
        for rgb in load_sample_images().images
        for s in SCALES
    ]


def sampled(rng: np.random.Generator, n_patches: int) -> np.ndarray:
    """Return patches from every photograph at every scale, each with its mirror image."""
    pictures = photographs()
    found = []
    for picture in pictures:
        every = patches_of(picture[None]).reshape(-1, PATCH_PX * PATCH_PX * 3)
        found.append(every[rng.choice(len(every), n_patches // len(pictures), replace=False)])
    patches = np.concatenate(found)
    return np.concatenate([patches, mirror(patches)])


def whitening_of(patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = patches.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov((patches - mean).T))
    return mean, (vectors / np.sqrt(values + RIDGE)) @ vectors.T


def closed_k_means(white: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Spherical k-means whose centres are pairs: the second half are the mirror images of the first."""
    half = rng.normal(size=(N_PAIRS, white.shape[1]))
    for _ in range(N_ROUNDS):
        half /= np.linalg.norm(half, axis=1, keepdims=True)
        similar = white @ np.concatenate([half, mirror(half)]).T
        nearest = similar.argmax(axis=1)
        weighted = white * similar[np.arange(len(white)), nearest][:, None]
        moved = np.zeros((2 * N_PAIRS, white.shape[1]))
        np.add.at(moved, nearest, weighted)
        half = moved[:N_PAIRS] + mirror(moved[N_PAIRS:]) + 1e-3 * half
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    return np.concatenate([half, mirror(half)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--patches", type=int, default=N_PATCHES, help="before they are mirrored")
    options = parser.parse_args()
    out = options.out
    rng = np.random.default_rng(0)
    patches = sampled(rng, options.patches)
    mean, whitening = whitening_of(patches)
    filters = closed_k_means((patches - mean) @ whitening, rng)
    np.savez_compressed(
        out,
        mean=mean.astype(np.float16),
        whitening=whitening.astype(np.float32),
        filters=filters.astype(np.float16),
    )
    print(out, f"{out.stat().st_size / 1024:.0f} kB")


if __name__ == "__main__":
    main()
