"""A teacher in PyTorch: weights in a named architecture, or a program or factory that the spec trusts."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from curate.errors import ConfigError, InputError, did_you_mean
from curate.schema import canonical_json
from curate.spec import TorchSpec
from curate.teachers.class_names import resolve_names
from curate.teachers.feature_cache import extracted
from curate.teachers.model_input import Output, Preparation, batches, file_sha256, finished, output_for
from curate.teachers.pixels import Pixels
from curate.teachers.protocol import Answer, Request
from curate.teachers.trained_elsewhere import judged, model_card

VERSION = 2
_WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys under which trainers keep the weights


@dataclass(frozen=True, slots=True)
class TorchModel:
    """Where a network comes from and how it is fed; pickles, each process loads its own.

    Attributes:
        weights: .pt, .pth or .safetensors; None for a program or a factory without weights.
        architecture: a name of `architectures.ARCHITECTURES`.
        program: an exported .pt2; runs code.
        factory: "package.module:function", called without arguments; runs code.
        preparation: of the images.
        output: what comes out; "features" takes the layer before the last.
    """

    weights: Path | None
    architecture: str | None
    program: Path | None
    factory: str | None
    preparation: Preparation
    output: Output

    def __call__(self, images: Sequence[Pixels]) -> np.ndarray:
        """Return float32 (n, width)."""
        import torch  # noqa: PLC0415 - only where a spec has such a teacher

        network = _network(self, *(path.stat().st_mtime_ns if path else 0 for path in (self.weights, self.program)))
        run = getattr(network, "embed", network) if self.output == "features" else network
        made = []
        n_threads = torch.get_num_threads()
        torch.set_num_threads(1)  # shards run side by side; sums in one order
        try:
            with torch.inference_mode():
                for group in batches(images):
                    given = torch.from_numpy(self.preparation.batch(group))
                    try:
                        raw = run(given)
                    except (
                        RuntimeError,
                        AssertionError,
                    ) as error:  # an exported program asserts what it was made for
                        raise InputError(
                            f"The network of {self.source} does not take a batch of the shape "
                            f"{tuple(given.shape)}: {error}. Is size_px, (height, width), that of its training? "
                            "A program has to be exported for any number of images (dynamic_shapes)."
                        ) from error
                    if not isinstance(raw, torch.Tensor):
                        raise InputError(f"The network of {self.source} returns {type(raw).__name__}, no tensor.")
                    made.append(finished(raw.float().numpy(), self.output))
        finally:
            torch.set_num_threads(n_threads)
        return np.concatenate(made)

    @property
    def source(self) -> str:
        """What to call it in messages."""
        path = self.weights or self.program
        return path.name if path else str(self.factory)

    @property
    def width(self) -> int:
        """How many values it gives for an image."""
        return int(self([np.zeros((8, 8, 3), dtype=np.uint8)]).shape[1])

    @property
    def digest(self) -> str:
        """sha256 of the weights and of all that decides its values; a factory counts by its name."""
        files = [file_sha256(path) if path else None for path in (self.weights, self.program)]
        about = [VERSION, files, self.architecture, self.factory, repr(self.preparation), self.output]
        return hashlib.sha256(canonical_json([*about, version("torch")]).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class TorchTeacher:
    """The PyTorch classifier of a spec."""

    spec: TorchSpec

    def answer(self, request: Request) -> Sequence[Answer]:
        """Judge every label row.

        Raises:
            ConfigError: code to be run without trust, nothing or too much to load, an unknown architecture.
            InputError: no such file, weights that do not fit, a wrong number or names of classes.
        """
        spec = self.spec
        _refuse_bad_spec(spec)
        model = TorchModel(
            weights=request.resolve(spec.weights) if spec.weights else None,
            architecture=spec.architecture,
            program=request.resolve(spec.program) if spec.program else None,
            factory=spec.factory,
            preparation=Preparation(*spec.size_px, mean=spec.mean, std=spec.std),
            output=output_for(spec.output, independent=request.independent),
        )
        for path in (model.weights, model.program):
            if path is not None and not path.is_file():
                raise InputError(f"The teacher {spec.name}: there is no file {path}.")
        names, told = resolve_names(model.width, spec.classes, None, request, teacher=spec.name)
        raw = extracted(f"torch-{model.digest}", len(names), model, request)
        if spec.factory:
            told = (*told, "its factory's code is not part of its digest; give it another name when it changes")
        card = model_card(spec.name, "torch", spec.trained_on, model.digest, names, told)
        card = replace(card, preprocessing=model.preparation.words, features=spec.features or _stands_on(spec))
        return [judged(card, raw, names, request)]


def _stands_on(spec: TorchSpec) -> str | None:
    """Return what a model stands on where the spec says both: one architecture that learned one set errs alike."""
    return f"{spec.architecture} trained on {spec.trained_on}" if spec.architecture and spec.trained_on else None


def _refuse_bad_spec(spec: TorchSpec) -> None:
    from curate.teachers.architectures import ARCHITECTURES  # noqa: PLC0415 - imports torch

    for key, what in (("program", "a .pt2 program"), ("factory", "a factory")):
        if getattr(spec, key) and not spec.trust_code:
            raise ConfigError(
                f"The teacher {spec.name} has {what}: loading it runs code that somebody else wrote, "
                f"with your rights. Give trust_code: true if you trust it, or weights with one of the "
                f"architectures {', '.join(ARCHITECTURES)}, which run none."
            )
    ways = [key for key in ("architecture", "program", "factory") if getattr(spec, key)]
    if len(ways) != 1:
        raise ConfigError(
            f"The teacher {spec.name} needs exactly one of architecture (with weights), program and factory; "
            f"given: {', '.join(ways) or 'none'}."
        )
    if spec.architecture and spec.architecture not in ARCHITECTURES:
        hint = did_you_mean(spec.architecture, ARCHITECTURES)
        raise ConfigError(
            f"The teacher {spec.name}: there is no architecture {spec.architecture!r}. "
            f"Architectures: {', '.join(ARCHITECTURES)}. {hint}".rstrip()
        )
    if spec.architecture and not spec.weights:
        raise ConfigError(f"The teacher {spec.name}: the architecture {spec.architecture} needs its `weights`.")
    if spec.program and spec.weights:
        raise ConfigError(f"The teacher {spec.name}: a program holds its own weights; leave `weights` out.")


def read_weights(path: Path) -> dict[str, Any]:
    """Return the tensors of a state dict by name; nothing in the file is run.

    Raises:
        InputError: not there, not readable, or it holds more than tensors.
    """
    import torch  # noqa: PLC0415 - only where a spec has such a teacher

    if not path.is_file():
        raise InputError(f"There are no weights at {path}.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file  # noqa: PLC0415 - as above

            held: Any = load_file(path)
        else:
            held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(
            f"{path.name} holds no plain weights: {error}\nNeeded is a state dict, as "
            f"torch.save(model.state_dict(), …) or safetensors writes it; pickled models are never loaded."
        ) from error
    for key in _WRAPPERS:
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
            break
    if not isinstance(held, Mapping) or not all(isinstance(value, torch.Tensor) for value in held.values()):
        raise InputError(f"{path.name} holds {type(held).__name__} that is no state dict (name -> tensor).")
    return {str(name).removeprefix("module."): value for name, value in held.items()}


@lru_cache(maxsize=4)
def _network(model: TorchModel, *mtimes_ns: int) -> Any:  # noqa: ANN401 - whatever the factory makes
    """Return the network in evaluation mode; `mtimes_ns`: a file that was written anew is another model."""
    import torch  # noqa: PLC0415 - only where a spec has such a teacher

    from curate.teachers.architectures import built  # noqa: PLC0415 - imports torch

    del mtimes_ns
    if model.program:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own modules
            return torch.export.load(model.program).module()
    if model.factory:
        network = _called(model.factory)
        if model.weights:
            network.load_state_dict(read_weights(model.weights))
        return network.eval()
    if not model.weights or not model.architecture:
        raise ConfigError("A network needs weights and an architecture, a program, or a factory.")
    try:
        return built(model.architecture, read_weights(model.weights))
    except (KeyError, RuntimeError, ValueError) as error:
        raise InputError(
            f"The weights in {model.weights.name} are not those of {model.architecture}: {error}"
        ) from error


def _called(factory: str) -> Any:  # noqa: ANN401 - whatever it makes
    module, _, function = factory.partition(":")
    if not module or not function:
        raise ConfigError(f'A factory is written "package.module:function"; given: {factory!r}.')
    try:
        made = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"The factory {factory} cannot be imported: {error}") from error
    return made()
