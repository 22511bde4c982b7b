"""What a dataset spec may say: frozen models, one a mapping. Reading the file and explaining errors: `config`."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from curate.about import AboutSpec
from curate.errors import did_you_mean
from curate.feature_names import unknown_features
from curate.policy import Policy

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
MISSING = "???"  # what `curate init` leaves where only a person can say
SharedFeatures = Annotated[str | None, Field(min_length=1, description="teachers with the same one share errors")]
Classifier = Literal["linear", "kernel", "neighbours", "network"]  # keys of `teachers.classifiers.CLASSIFIERS`
ROUNDING = 0.01  # published shares are rounded, and their sum is not quite 1


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

    @field_validator("reference")
    @classmethod
    def _reference_sums_to_one(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        if value is None:
            return None
        total = sum(value.values())
        if any(not share >= 0.0 for share in value.values()) or not abs(total - 1.0) <= ROUNDING + 1e-9:
            msg = (
                f"the shares of a reference are not negative and sum to 1 (up to {ROUNDING:g} of rounding aside); they "
                f"sum to {total:g}. Name what is missing, or divide each by their sum"
            )
            raise ValueError(msg)
        return value


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
    classifiers: Annotated[tuple[Classifier, ...], Field(min_length=1)] = ("linear", "neighbours", "network")
    refits: Annotated[int, Field(ge=0, le=10)] = Field(
        default=2, description="rounds in which training labels are weighed against what the other rows say"
    )

    @field_validator("features")
    @classmethod
    def _known_features(cls, value: str) -> str:
        problem = unknown_features(value)
        if problem:
            raise ValueError(problem)
        return value


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
    features: SharedFeatures = None


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
    features: SharedFeatures = None


class TableTeacherSpec(_Frozen):
    """Probabilities that somebody computed before: a Parquet or CSV table with one row per image."""

    kind: Literal["table"]
    name: Name
    path: str
    key: str = Field(default="uri", description="column that names the image: uri, sample_id or label_id")
    columns: dict[str, str] | None = Field(default=None, description="class -> column; null = prob_<name> list")
    classes: list[str] | None = None
    trained_on: str | None = None
    features: SharedFeatures = None
    out_of_fold: bool | None = Field(
        default=None,
        description="false = it learned from the labels that it judges, and so judges none; null = unknown",
    )


class CocoTeacherSpec(_Frozen):
    """Boxes that a detector found before: a COCO results list, or a COCO file with scores."""

    kind: Literal["coco"]
    name: Name
    path: str
    images: str | None = Field(default=None, description="COCO file that says which file and class an id means")
    trained_on: str | None = None


class MotSpec(_Frozen):
    """Tracks of a tracker: a MOT csv file, or a folder with one named after each video (group `video`)."""

    kind: Literal["mot"]
    name: Name
    path: str
    first_frame: int = Field(default=1, description="what the files call frame 0 of the labels")
    classes: list[str] | None = Field(
        default=None, description="class 1, 2, … of the eighth column; null = numbers"
    )
    trained_on: str | None = None


class MasksSpec(_Frozen):
    """Masks of a segmenter: a PNG of class ids, or a probability map (npy, npz), for each image, by its stem."""

    kind: Literal["masks"]
    name: Name
    path: str
    classes: list[str] | None = Field(default=None, description="class 0, 1, … of its files; null = the spec's")
    trained_on: str | None = None


class PluginTeacherSpec(BaseModel):
    """A teacher of another package (entry points `curate.teachers`); it checks its further keys itself."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str
    name: Name


TEACHER_SPECS: dict[str, type[BaseModel]] = {
    "probes": ProbesSpec,
    "onnx": OnnxSpec,
    "torch": TorchSpec,
    "table": TableTeacherSpec,
    "coco": CocoTeacherSpec,
    "mot": MotSpec,
    "masks": MasksSpec,
}
BOX_TEACHERS = ("coco",)  # kinds that give boxes instead of probabilities for given labels
MASK_TEACHERS = ("masks",)  # kinds that say what every pixel of an image is
TEACHER_PLUGINS = "curate.teachers"  # the entry-point group
_PLUGIN = "plugin"


def unknown_kind(kind: str) -> str:
    """Return the sentence for a kind of teacher that nobody provides."""
    kinds = [*TEACHER_SPECS, *sorted(entry.name for entry in entry_points(group=TEACHER_PLUGINS))]
    return f"There is no kind of teacher {kind!r}. Kinds: {', '.join(kinds)}. {did_you_mean(kind, kinds)}".rstrip()


def _kind_of_teacher(value: object) -> str:
    """Return the tag of the model that a teacher is read by: its kind, or that of plug-ins where one is called so."""
    kind = str(value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None))
    if kind in TEACHER_SPECS:
        return kind
    return _PLUGIN if any(entry.name == kind for entry in entry_points(group=TEACHER_PLUGINS)) else kind


TeacherSpec = Annotated[
    Annotated[ProbesSpec, Tag("probes")]
    | Annotated[OnnxSpec, Tag("onnx")]
    | Annotated[TorchSpec, Tag("torch")]
    | Annotated[TableTeacherSpec, Tag("table")]
    | Annotated[CocoTeacherSpec, Tag("coco")]
    | Annotated[MotSpec, Tag("mot")]
    | Annotated[MasksSpec, Tag("masks")]
    | Annotated[PluginTeacherSpec, Tag(_PLUGIN)],
    Discriminator(_kind_of_teacher),
]


class Spec(_Frozen):
    """A dataset: where it is, what its columns mean, who judges it, and by which policy."""

    name: Name
    description: str = ""
    source: SourceSpec
    task: Literal["classification", "multi_label", "detection", "segmentation", "tracking"] | None = None
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
    manifests: str | None = Field(
        default=None,
        description="where versions are published: folder relative to the spec, or s3://, gs://, az://",
    )
    max_pixels: Annotated[int, Field(gt=0)] = 100_000_000
    about: AboutSpec = Field(default=AboutSpec(), description="what only people know; docs/describe.md")
    seed: int = 0

    @field_validator("classes")
    @classmethod
    def _unique_classes(cls, value: list[str] | str) -> list[str] | str:
        if isinstance(value, list) and len(set(value)) != len(value):
            twice = sorted({name for name in value if value.count(name) > 1})
            msg = f"each class stands once; twice: {', '.join(twice)}"
            raise ValueError(msg)
        return value

    @field_validator("teachers")
    @classmethod
    def _unique_teachers(cls, value: list[TeacherSpec]) -> list[TeacherSpec]:
        names = [one.name for one in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            msg = f"each teacher has a name of its own; twice: {', '.join(twice)}"
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
