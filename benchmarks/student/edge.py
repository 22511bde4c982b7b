"""What runs at the edge: the student in ONNX and in INT8, with size, latency and the accuracy lost."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from student import prepared
from world import Task


class Calibration(CalibrationDataReader):
    """Images to train on, by which INT8 ranges are chosen."""

    def __init__(self, pixels: np.ndarray) -> None:
        self._batches = iter(
            [{"image": prepared(pixels[at : at + 64]).numpy()} for at in range(0, len(pixels), 64)]
        )

    def get_next(self) -> Any:  # noqa: ANN401 - onnxruntime's
        return next(self._batches, None)


def export(net: torch.nn.Module, task: Task, folder: Path) -> list[dict[str, Any]]:
    """Write both models to `folder` and return a row for each."""
    whole, clean, small = (folder / name for name in ("student.onnx", "student.pre.onnx", "student.int8.onnx"))
    example = torch.zeros(1, *task.pixels.shape[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net, (example,), str(whole), input_names=["image"], output_names=["logits"], dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("n", min=1, max=4096)},), external_data=False, verbose=False,
        )  # fmt: skip
        quant_pre_process(str(whole), str(clean))
        quantize_static(
            str(clean), str(small), Calibration(task.pixels[task.pool[:512]]), quant_format=QuantFormat.QDQ,
            per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
    clean.unlink()
    return [{"model": name, **told(path, task)} for name, path in (("float32", whole), ("INT8", small))]


def told(path: Path, task: Task) -> dict[str, Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    images = prepared(task.pixels[task.test]).numpy()
    logits = np.concatenate(
        [session.run(None, {"image": images[at : at + 256]})[0] for at in range(0, len(images), 256)]
    )
    seconds = []
    for at in range(min(200, len(images))):
        started = time.perf_counter()
        session.run(None, {"image": images[at : at + 1]})
        seconds.append(time.perf_counter() - started)
    return {
        "bytes": path.stat().st_size,
        "latency_ms": float(np.median(seconds) * 1e3),
        "accuracy": float((logits.argmax(1) == task.truth[task.test]).mean()),
    }
