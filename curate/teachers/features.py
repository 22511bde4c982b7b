"""Images as vectors for the probes, by the names that a spec has for them."""

from __future__ import annotations

import numpy as np

from curate.errors import ConfigError
from curate.feature_names import unknown_features
from curate.teachers.feature_cache import Extract, stored
from curate.teachers.pixel_features import n_pixel_features, pixel_features, pixel_features_version
from curate.teachers.protocol import Request


def image_features(name: str, request: Request) -> np.ndarray:
    """Return float16 (n_labels, n_features), a row of NaN where the image cannot be decoded.

    What was computed before for the same bytes, box and features is read from `request.scratch`.

    Args:
        name: pixels | efficientnet-lite0 | onnx:FILE | torch:FILE.
        request: the label rows.

    Raises:
        ConfigError: no such features.
    """
    return stored(*_extractor(name, request), request)


def _extractor(name: str, request: Request) -> tuple[str, int, Extract]:
    """Return (version for the cache key, width, function) of named features."""
    if name == "pixels":
        return pixel_features_version(), n_pixel_features(), pixel_features
    from curate.teachers.embedders import embedder  # noqa: PLC0415 - needs onnxruntime or torch

    made = embedder(name, request.resolve)
    if made is None:
        raise ConfigError(unknown_features(name))
    return made
