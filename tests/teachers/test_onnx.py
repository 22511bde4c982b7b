from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from curate.errors import ConfigError, InputError
from curate.spec import OnnxSpec, TableTeacherSpec
from curate.teachers import predict_all
from curate.teachers.embedders import embedder
from curate.teachers.onnx_model import OnnxTeacher
from curate.teachers.protocol import Answer, Request, prob_matrix

Make = Callable[..., Request]
MODELS = Path(__file__).parent / "models"
TRUTH = ["red", "green", "blue", "red", "blue"]
POSITIONS = [0, 1, 2, 0, 2]


def ask(request: Request, file: str, **keys: object) -> Answer:
    spec = {"kind": "onnx", "name": "m", "path": str(MODELS / f"{file}.onnx"), **keys}
    (answer,) = OnnxTeacher(OnnxSpec.model_validate(spec)).answer(request)
    return answer


@pytest.mark.parametrize("file", ["nchw", "nhwc", "one_at_a_time", "says_names", "bytes"])
def test_layouts_batches_and_names(make_request: Make, file: str) -> None:
    answer = ask(make_request(TRUTH), file)
    assert answer.probs.argmax(axis=1).tolist() == POSITIONS
    np.testing.assert_allclose(answer.probs.sum(axis=1), 1, atol=1e-5)
    assert answer.card.n_predicted == 5


def test_layouts_agree(make_request: Make) -> None:
    request = make_request(TRUTH)
    first = ask(request, "nchw").probs
    for file in ("nhwc", "one_at_a_time", "says_names"):
        np.testing.assert_allclose(ask(request, file).probs, first, atol=2e-3)
    np.testing.assert_allclose(ask(request, "any_size", size_px=(16, 16)).probs, first, atol=2e-3)
    np.testing.assert_allclose(ask(request, "probabilities", output="probabilities").probs, first, atol=2e-3)


def test_what_cannot_be_used_says_what_to_do(make_request: Make) -> None:
    request = make_request(TRUTH)
    with pytest.raises(ConfigError, match="size_px"):
        ask(request, "any_size")
    with pytest.raises(ConfigError, match="Leave it out"):
        ask(request, "nchw", size_px=(32, 32))
    with pytest.raises(InputError, match="Give output: logits"):
        ask(request, "nchw", output="probabilities")
    with pytest.raises(InputError, match="3 outputs, but its `classes` names 2"):
        ask(request, "nchw", classes=["red", "green"])
    with pytest.raises(InputError, match=r"does not have: 'gren'.*Did you mean 'green'"):
        ask(request, "nchw", classes=["red", "gren", "blue"])
    with pytest.raises(InputError, match="no ONNX model"):
        ask(request, "none")


def test_a_teacher_that_fails_is_an_error_entry_and_the_others_go_on(make_request: Make) -> None:
    good = OnnxSpec(kind="onnx", name="good", path=str(MODELS / "nchw.onnx"))
    bad = TableTeacherSpec(kind="table", name="bad", path="none.parquet")
    told = predict_all([bad, good], make_request(TRUTH))
    assert [error.name for error in told.errors] == ["bad"]
    assert told.table.column_names == ["label_id", "prob_good", "content_sha256"]
    assert prob_matrix(told.table["prob_good"]).argmax(axis=1).tolist() == POSITIONS


def test_an_onnx_file_gives_features(make_request: Make) -> None:
    made = embedder(f"onnx:{MODELS / 'nchw.onnx'}", make_request(TRUTH).resolve)
    assert made is not None
    version, width, extract = made
    assert version.startswith("onnx-features-")
    assert extract([np.zeros((9, 7, 3), np.uint8)]).shape == (1, width) == (1, 3)
