"""datasets/*.yaml → frozen, validated objects. A wrong key or value names file, line, key and the nearest word."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from curate.errors import ConfigError, did_you_mean
from curate.policy import Policy
from curate.yaml_lines import LocatedYaml, load_yaml

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
MISSING = "???"  # what `curate init` leaves where only a person can say


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceSpec(BaseModel):
    """Where the images and labels are. Keys beyond these are checked against the format's own option names."""

    model_config = ConfigDict(frozen=True, extra="allow")

    format: str
    path: str | None = Field(default=None, description="file or folder, relative to the spec")
    name: Name | None = Field(default=None, description="goes into every id; default: the dataset's name")
    columns: dict[str, str] = Field(default_factory=dict, description="role -> column, for tables")

    @property
    def options(self) -> dict[str, Any]:
        """Return the keys that only the format knows."""
        return dict(self.model_extra or {})


class AttributeSpec(_Frozen):
    """A column that describes who or what is shown, and how it came to be known."""

    column: str
    obtained: Literal["self-reported", "perceived", "inferred", "measured", "synthetic"]
    reference: dict[str, float] | None = Field(default=None, description="value -> share in the population")
    reference_name: str | None = Field(default=None, description="where the reference is from, with its date")

    @model_validator(mode="after")
    def _reference_is_named(self) -> AttributeSpec:
        if self.reference is not None and not self.reference_name:
            msg = "a reference needs reference_name: where it is from and its date"
            raise ValueError(msg)
        return self


class SplitSpec(_Frozen):
    """How samples without a given split get one: by a hash of the group (or the sample), in these shares."""

    fractions: dict[str, Annotated[float, Field(ge=0.0, le=1.0)]] = Field(default_factory=lambda: {"train": 1.0})
    by: str | None = Field(default=None, description="group that must not be split; null = the sample")

    @field_validator("fractions")
    @classmethod
    def _sum_to_one(cls, value: dict[str, float]) -> dict[str, float]:
        if abs(sum(value.values()) - 1.0) > 1e-6:
            msg = f"the fractions must sum to 1; they sum to {sum(value.values()):g}"
            raise ValueError(msg)
        return value


class ProbesSpec(_Frozen):
    """Classifiers fitted k-fold on image features; needs nothing but the data."""

    kind: Literal["probes"]
    name: Name = "probes"
    features: str = Field(default="pixels", description="pixels | efficientnet-lite0 | onnx:FILE | torch:FILE")
    folds: Annotated[int, Field(ge=2, le=50)] = 5
    classifiers: tuple[str, ...] = ("linear", "neighbours", "network")


class OnnxSpec(_Frozen):
    """A classifier in ONNX."""

    kind: Literal["onnx"]
    name: Name
    path: str
    classes: list[str] | None = None
    size_px: tuple[int, int] | None = None
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    output: Literal["logits", "probabilities"] = "logits"
    trained_on: str | None = Field(default=None, description="what it was trained on; null = unknown")


class TorchSpec(_Frozen):
    """A classifier in PyTorch; a program or a factory runs code and needs trust_code."""

    kind: Literal["torch"]
    name: Name
    weights: str | None = None
    architecture: str | None = None
    program: str | None = None
    factory: str | None = None
    trust_code: bool = False
    classes: list[str] | None = None
    size_px: tuple[int, int] = (224, 224)
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    output: Literal["logits", "probabilities"] = "logits"
    trained_on: str | None = None


class TableTeacherSpec(_Frozen):
    """Probabilities that somebody computed before: a Parquet or CSV table with one row per image."""

    kind: Literal["table"]
    name: Name
    path: str
    key: str = Field(default="uri", description="column that names the image: uri, sample_id or label_id")
    columns: dict[str, str] | None = Field(default=None, description="class -> column; null = prob_<name> list")
    classes: list[str] | None = None
    trained_on: str | None = None
    out_of_fold: bool = False


TeacherSpec = Annotated[ProbesSpec | OnnxSpec | TorchSpec | TableTeacherSpec, Field(discriminator="kind")]


class Spec(_Frozen):
    """A dataset: where it is, what its columns mean, who judges it, and by which policy."""

    name: Name
    description: str = ""
    source: SourceSpec
    task: Literal["classification", "detection", "segmentation", "tracking"] | None = None
    classes: list[str] | Literal["infer"] = "infer"
    aliases: dict[str, str] = Field(default_factory=dict, description="given label -> class")
    split: Literal["given"] | SplitSpec = "given"
    attributes: dict[Name, AttributeSpec] = Field(default_factory=dict)
    groups: dict[Name, str] = Field(default_factory=dict, description="video, camera, subject, … -> column")
    license: str | None = Field(default=None, description="SPDX id of the images; null = unknown")
    teachers: list[TeacherSpec] = Field(default_factory=lambda: list[TeacherSpec]([ProbesSpec(kind="probes")]))
    checks: dict[str, Literal[False] | dict[str, Any]] = Field(
        default_factory=dict, description="check -> false (left out, and said so) or its parameters"
    )
    policy: Policy = Policy()
    workspace: str | None = Field(default=None, description="relative to the spec; the option --workspace wins")
    max_pixels: Annotated[int, Field(gt=0)] = 100_000_000
    seed: int = 0

    @field_validator("classes")
    @classmethod
    def _unique_classes(cls, value: list[str] | str) -> list[str] | str:
        if isinstance(value, list) and len(set(value)) != len(value):
            twice = sorted({name for name in value if value.count(name) > 1})
            msg = f"each class stands once; twice: {', '.join(twice)}"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _aliases_lead_to_classes(self) -> Spec:
        if isinstance(self.classes, list):
            for target in self.aliases.values():
                if target not in self.classes:
                    hint = did_you_mean(target, self.classes)
                    msg = f"the alias target {target!r} is not a declared class. {hint}"
                    raise ValueError(msg.strip())
        return self


class LoadedSpec(_Frozen):
    """A spec with the folder it was read from; relative paths are resolved against it."""

    spec: Spec
    file: Path

    def resolve(self, path: str) -> Path:
        """Return `path` as an absolute one, relative to the spec's folder."""
        return (self.file.parent / Path(path).expanduser()).resolve()


def load_spec(path: str | Path) -> LoadedSpec:
    """Read and validate a dataset spec.

    Raises:
        ConfigError: no such file, not YAML, an unknown key, a wrong value, a blank left by `curate init`.
    """
    file = Path(path)
    if not file.is_file():
        msg = f"There is no spec at {file}. Write one with: curate init PATH-TO-YOUR-IMAGES"
        raise ConfigError(msg)
    located = load_yaml(file)
    _refuse_blanks(located)
    if isinstance(located.data, dict):
        _refuse_unknown_options(located)
        _refuse_unknown_checks(located)
    try:
        spec = Spec.model_validate(located.data)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(located, item) for item in error.errors())) from error
    return LoadedSpec(spec=spec, file=file.resolve())


def _refuse_blanks(located: LocatedYaml) -> None:
    blanks = [loc for loc, value in located.leaves() if value == MISSING]
    if blanks:
        lines = [
            f"{located.where(loc)}: {'.'.join(map(str, loc))} is still blank ({MISSING}). "
            f"See the comment beside it, and fill it in."
            for loc in blanks
        ]
        raise ConfigError("\n".join(lines))


def _refuse_unknown_options(located: LocatedYaml) -> None:
    """Check the keys under `source` that are not common to all formats against the format's own."""
    from curate.ingest import source_named  # noqa: PLC0415 - sources are plug-ins; loaded when a spec names one

    source = located.data.get("source")
    if not isinstance(source, dict) or not isinstance(source.get("format"), str):
        return
    try:
        known = [*SourceSpec.model_fields, *source_named(source["format"]).option_names]
    except ConfigError as error:
        msg = f"{located.where(('source', 'format'))}: {error}"
        raise ConfigError(msg) from error
    for key in source:
        if key not in known:
            hint = did_you_mean(str(key), known) or f"Known keys: {', '.join(known)}."
            msg = (
                f"{located.where(('source', key))}: unknown key 'source.{key}' "
                f"for the format {source['format']}. {hint}"
            )
            raise ConfigError(msg)


def _refuse_unknown_checks(located: LocatedYaml) -> None:
    """Check the names under `checks` against the checks there are."""
    from curate.check import discover, select  # noqa: PLC0415 - checks are plug-ins; loaded when a spec names one

    named = located.data.get("checks")
    for name in named if isinstance(named, dict) else ():
        try:
            select([str(name)], discover())
        except ConfigError as error:
            msg = f"{located.where(('checks', name))}: {error}"
            raise ConfigError(msg) from error


def _explain(located: LocatedYaml, item: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    loc = tuple(item["loc"])
    dotted = ".".join(str(part) for part in loc) or "the spec"
    where = located.where(loc)
    if item["type"] == "extra_forbidden":
        known = _known_keys(loc[:-1])
        hint = did_you_mean(str(loc[-1]), known) or (f"Known keys: {', '.join(known)}." if known else "")
        return f"{where}: unknown key '{dotted}'. {hint}".rstrip()
    if item["type"] == "missing":
        return f"{where}: the key '{dotted}' is needed and is not there."
    given = f" Given: {item['input']!r}." if not isinstance(item.get("input"), dict | list) else ""
    hint = ""
    expected = item.get("ctx", {}).get("expected") or item.get("ctx", {}).get("expected_tags")
    given_word = item.get("ctx", {}).get("tag", item.get("input"))  # of a wrong kind the tag, not the whole mapping
    if expected and isinstance(given_word, str):
        words = [word.strip().strip("'") for word in str(expected).replace(" or ", ", ").split(",")]
        hint = did_you_mean(given_word, words)
    return f"{where}: '{dotted}': {item['msg']}.{given} {hint}".rstrip()


def _known_keys(loc: tuple[Any, ...]) -> list[str]:
    """Return the keys that the model at `loc` takes, by walking the models along the path."""
    models: list[type[BaseModel]] = [Spec]
    for part in loc:
        if isinstance(part, int):
            continue
        following = [found for model in models for found in _models_at(model, str(part))]
        models = following or models
    return sorted({name for model in models for name in model.model_fields})


def _models_at(model: type[BaseModel], part: str) -> list[type[BaseModel]]:
    if part in {"probes", "onnx", "torch", "table"}:  # pydantic puts the union's tag into the path
        kinds: dict[str, type[BaseModel]] = {
            "probes": ProbesSpec,
            "onnx": OnnxSpec,
            "torch": TorchSpec,
            "table": TableTeacherSpec,
        }
        return [kinds[part]]
    field = model.model_fields.get(part)
    if field is None:
        return []
    return list(_models_in(field.annotation))


def _models_in(annotation: Any) -> list[type[BaseModel]]:  # noqa: ANN401 - any type expression
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        model: type[BaseModel] = annotation
        return [model]
    return [found for inner in getattr(annotation, "__args__", ()) for found in _models_in(inner)]
