"""A teacher in ONNX, run by onnxruntime on the CPU."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from curate.errors import ConfigError, InputError
from curate.schema import canonical_json
from curate.spec import OnnxSpec
from curate.teachers.class_names import resolve_names
from curate.teachers.feature_cache import extracted
from curate.teachers.model_input import Output, Preparation, batches, file_sha256, finished, output_for
from curate.teachers.pixels import Pixels
from curate.teachers.protocol import Answer, Request
from curate.teachers.trained_elsewhere import judged, model_card

VERSION = 1
_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """An ONNX file and how it is fed; pickles, each process opens its own session."""

    path: Path
    preparation: Preparation
    output: Output
    batch_size: int | None  # null = any

    def __call__(self, images: Sequence[Pixels]) -> np.ndarray:
        """Return float32 (n, width)."""
        session = _session(self.path)
        name = session.get_inputs()[0].name
        size = self.batch_size
        made = []
        for group in (
            batches(images) if size is None else (images[i : i + size] for i in range(0, len(images), size))
        ):
            fed = self.preparation.batch(group)
            if size is not None and len(group) < size:
                fed = np.concatenate([fed, np.repeat(fed[-1:], size - len(group), axis=0)])
            made.append(finished(session.run(None, {name: fed})[0][: len(group)], self.output))
        return np.concatenate(made)

    @property
    def width(self) -> int:
        """How many values it gives for an image."""
        return int(self([np.zeros((8, 8, 3), dtype=np.uint8)]).shape[1])

    @property
    def digest(self) -> str:
        """sha256 of the weights and of all that decides its values."""
        about = [
            VERSION,
            file_sha256(self.path),
            repr(self.preparation),
            self.output,
            version("onnxruntime"),
        ]
        return hashlib.sha256(canonical_json(about).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class OnnxTeacher:
    """The ONNX classifier of a spec."""

    spec: OnnxSpec

    def answer(self, request: Request) -> Sequence[Answer]:
        """Judge every label row.

        Raises:
            ConfigError: a size that the model does not take, or none given where it takes any.
            InputError: no such file, no image classifier, a wrong number or names of classes.
        """
        spec = self.spec
        model = open_onnx(
            request.resolve(spec.path),
            size_px=spec.size_px,
            mean=spec.mean,
            std=spec.std,
            output=output_for(spec.output, independent=request.independent),
        )
        names, told = resolve_names(model.width, spec.classes, names_in(model.path), request, teacher=spec.name)
        digest = model.digest
        raw = extracted(f"onnx-{digest}", len(names), model, request)
        card = model_card(spec.name, "onnx", spec.trained_on, digest, names, told)
        card = replace(card, preprocessing=model.preparation.words, features=spec.features)
        return [judged(card, raw, names, request)]


def open_onnx(
    path: Path,
    *,
    size_px: tuple[int, int] | None,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    output: Output,
    default_px: tuple[int, int] | None = None,
) -> OnnxModel:
    """Return the model in a file, with layout and size read from its input.

    Args:
        path: of the .onnx file.
        size_px: (height, width); needed where the model takes any.
        mean: of red, green, blue in [0, 1].
        std: likewise.
        output: what its first output is.
        default_px: the size where neither the model nor `size_px` says one.

    Raises:
        InputError: no such file, or not an image model.
        ConfigError: `size_px` is missing, or not the size that the model takes.
    """
    if not path.is_file():
        raise InputError(f"There is no ONNX model at {path}. Correct the teacher's `path`.")
    inputs = _session(path).get_inputs()
    shape = inputs[0].shape
    if len(inputs) != 1 or len(shape) != 4 or inputs[0].type not in _DTYPES:
        shown = "; ".join(f"{one.name}: {one.type} {one.shape}" for one in inputs)
        raise InputError(
            f"{path.name} is not an image model: needed is one input of four dimensions (images, channels, height, "
            f"width; or channels last) of float, float16 or uint8; it has {shown}."
        )
    channels_last = shape[1] not in (1, 3) and shape[3] in (1, 3)
    channels, height, width = (shape[3], shape[1], shape[2]) if channels_last else shape[1:]
    if isinstance(channels, int) and channels not in (1, 3):
        raise InputError(f"{path.name} takes {channels} channels, shape {shape}; images have 3, or 1 as gray.")
    fixed = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    if fixed and size_px and fixed != tuple(size_px):
        raise ConfigError(
            f"{path.name} takes {fixed} px (height, width); size_px says {tuple(size_px)}. Leave it out."
        )
    size = fixed or size_px or default_px
    if size is None:
        raise ConfigError(f"{path.name} takes images of any size. Give size_px: [height, width] as it was trained.")
    preparation = Preparation(
        *size,
        mean=mean,
        std=std,
        channels=channels if isinstance(channels, int) else 3,
        channels_last=channels_last,
        dtype=_DTYPES[inputs[0].type],
    )
    return OnnxModel(path, preparation, output, shape[0] if isinstance(shape[0], int) else None)


def names_in(path: Path) -> list[str] | None:
    """Return the class names that the file's metadata holds under `classes` or `names`, if any."""
    held = _session(path).get_modelmeta().custom_metadata_map
    text = held.get("classes") or held.get("names")
    if not text:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        try:
            value = ast.literal_eval(text)  # as some exporters write it: {0: 'cat', 1: 'dog'}
        except (ValueError, SyntaxError):
            return None
    if isinstance(value, dict):
        try:
            value = [value[key] for key in sorted(value, key=int)]
        except (ValueError, TypeError):
            return None
    return [str(name) for name in value] if isinstance(value, list) and value else None


def _session(path: Path) -> Any:  # noqa: ANN401 - onnxruntime publishes no types
    return _opened(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _opened(path: Path, mtime_ns: int) -> Any:  # noqa: ANN401 - onnxruntime publishes no types
    del mtime_ns  # a file that was written anew is another model
    import onnxruntime as ort  # noqa: PLC0415 - only where a spec has such a teacher

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # shards run side by side; sums in one order
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise InputError(f"onnxruntime cannot load {path.name}: {error}") from error
