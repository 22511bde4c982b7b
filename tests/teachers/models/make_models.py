# ruff: noqa: ANN001, ANN201 - run by hand, in an environment without this project
"""Makes the tiny ONNX models that the tests read; run with `pip install onnx numpy`. Not part of the test run."""

from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

HERE = Path(__file__).parent


def model(name, shape, *, pool_axes, weights, softmax=False, metadata=None, kind=TensorProto.FLOAT):
    """The mean colour of the image, times a matrix: a classifier of red, green and blue pictures."""
    nodes = []
    source = "image"
    if kind != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT))
        source = "float"
    nodes.append(helper.make_node("ReduceMean", [source], ["mean"], axes=pool_axes, keepdims=0))
    last = "logits" if softmax else "out"
    nodes.append(helper.make_node("MatMul", ["mean", "weights"], [last]))
    if softmax:
        nodes.append(helper.make_node("Softmax", ["logits"], ["out"], axis=1))
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("image", kind, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [shape[0], weights.shape[1]])],
        [numpy_helper.from_array(weights.astype(np.float32), "weights")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    for key, value in (metadata or {}).items():
        made.metadata_props.add(key=key, value=value)
    checker.check_model(made)
    (HERE / f"{name}.onnx").write_bytes(made.SerializeToString())


STRONG = np.eye(3) * 4
model("nchw", ["batch", 3, 16, 16], pool_axes=[2, 3], weights=STRONG)
model("nhwc", ["batch", 16, 16, 3], pool_axes=[1, 2], weights=STRONG)
model("one_at_a_time", [1, 3, 16, 16], pool_axes=[2, 3], weights=STRONG)
model("any_size", ["batch", 3, "height", "width"], pool_axes=[2, 3], weights=STRONG)
model("probabilities", ["batch", 3, 16, 16], pool_axes=[2, 3], weights=STRONG, softmax=True)
model("bytes", ["batch", 16, 16, 3], pool_axes=[1, 2], weights=STRONG / 64, kind=TensorProto.UINT8)
# outputs blue, green, red, and says so
model(
    "says_names",
    ["batch", 3, 16, 16],
    pool_axes=[2, 3],
    weights=STRONG[:, ::-1],
    metadata={"classes": '["blue", "green", "red"]'},
)
