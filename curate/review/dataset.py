"""The FiftyOne dataset `curate-NAME`: making it, its fields, and telling it from those of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from curate.errors import ConfigError, did_you_mean
from curate.review import regions, suggested
from curate.review.fields import FIELDS, GROUND_TRUTH, LABEL_FIELDS, TEACHER_PREFIX

PREFIX = "curate-"
MARK = "curate"  # key of dataset.info that says who made it
LAYOUT = 1  # raised when the documents change shape
ON_TILES = ("issues", "suggested_label")  # words on each picture of the grid: why it is looked at
TESTED_FIFTYONE = "1.22."


def dataset_name(name: str) -> str:
    """Return the FiftyOne name of dataset `name`."""
    return name if name.startswith(PREFIX) else PREFIX + name


def open_dataset(name: str) -> Any:  # noqa: ANN401 - fiftyone is loaded late
    """Return the FiftyOne dataset that curate made for `name`.

    Raises:
        ConfigError: there is none, or one of that name that curate did not make.
    """
    import fiftyone as fo  # noqa: PLC0415 - costs seconds to import

    full = dataset_name(name)
    if not fo.dataset_exists(full):
        ours = [n.removeprefix(PREFIX) for n in fo.list_datasets() if n.startswith(PREFIX)]
        hint = did_you_mean(name, ours) or (f"There are: {', '.join(ours)}." if ours else "")
        msg = f"There is no FiftyOne dataset {full!r} in this workspace. Run the pipeline first. {hint}".rstrip()
        raise ConfigError(msg)
    dataset = fo.load_dataset(full)
    dataset.reload()
    if MARK not in (dataset.info or {}):
        msg = (
            f"The FiftyOne dataset {full!r} was not made by curate and is left as it is. "
            f"Rename it in FiftyOne (dataset.name = …), or give your dataset another name in its spec."
        )
        raise ConfigError(msg)
    return dataset


def make_dataset(name: str) -> Any:  # noqa: ANN401 - see above
    """Make the empty, persistent dataset for `name`; it gets its name only when it carries curate's mark."""
    import fiftyone as fo  # noqa: PLC0415 - costs seconds to import

    full = dataset_name(name)
    unfinished = f"{full}.unfinished"
    if fo.dataset_exists(unfinished):
        fo.delete_dataset(unfinished)
    dataset = fo.Dataset(unfinished, persistent=True)
    dataset.media_type = "image"
    dataset.info = {MARK: {"layout": LAYOUT}}
    dataset.save()
    dataset.name = full
    return dataset


def exists(name: str) -> bool:
    """Whether FiftyOne has a dataset of that name, whoever made it."""
    import fiftyone as fo  # noqa: PLC0415 - costs seconds to import

    return bool(fo.dataset_exists(dataset_name(name)))


def is_tested_version() -> bool:
    """Whether this FiftyOne's documents are those that direct inserts were compared with."""
    import fiftyone as fo  # noqa: PLC0415 - costs seconds to import

    return str(fo.__version__).startswith(TESTED_FIFTYONE)


def ground_truth_kind(dataset: Any) -> str | None:  # noqa: ANN401 - see above
    """Return the class name of the ground truth field, or None if it is not there."""
    field = dataset.get_field_schema().get(GROUND_TRUTH)
    return None if field is None else str(field.document_type.__name__)


def declare_fields(dataset: Any, kind: str, extra: Sequence[str], teachers: Sequence[str]) -> None:  # noqa: ANN401
    """Declare every field that a document may hold: views and the sidebar know it even where it is empty."""
    import fiftyone as fo  # noqa: PLC0415 - costs seconds to import

    present = dataset.get_field_schema(flat=True)
    wanted: dict[str, Mapping[str, Any]] = {name: _field(kind_of) for name, kind_of in FIELDS.items()}
    wanted |= {name: _field("string") for name in extra}
    label = {"ftype": fo.EmbeddedDocumentField}
    wanted[GROUND_TRUTH] = label | {"embedded_doc_type": getattr(fo, kind)}
    path = label_path(kind)
    wanted |= {f"{path}.{name}": _field(kind_of) for name, kind_of in LABEL_FIELDS.items()}
    if kind == "Detections":
        for beside in (suggested, regions):
            wanted[beside.FIELD] = label | {"embedded_doc_type": fo.Detections}
            inside = f"{beside.FIELD}.detections"
            wanted |= {f"{inside}.{name}": _field(kind_of) for name, kind_of in beside.FIELDS.items()}
    for teacher in teachers:
        wanted[TEACHER_PREFIX + teacher] = label | {"embedded_doc_type": fo.Classification}
    missing = {name: arguments for name, arguments in wanted.items() if name not in present}
    if not missing:
        return
    if not is_tested_version():
        for name, arguments in missing.items():
            dataset.add_sample_field(name, **arguments)
        return
    import fiftyone.core.odm as foo  # noqa: PLC0415 - as above

    # `add_sample_field` writes and reloads the whole dataset document for each field: 15 times as slow
    fields = {name: foo.create_field(name.rsplit(".", 1)[-1], **arguments) for name, arguments in missing.items()}
    for nested in (False, True):  # the ground truth has to be there before what is inside it
        dataset._merge_sample_field_schema({n: f for n, f in fields.items() if ("." in n) == nested})  # noqa: SLF001


def declare_looks(dataset: Any, kind: str) -> None:  # noqa: ANN401 - see above
    """Say how the App draws the dataset at first, where the user has said nothing: a color a class, what to show."""
    import fiftyone as fo  # noqa: PLC0415 - costs seconds to import

    if dataset.app_config.color_scheme is None:
        dataset.app_config.color_scheme = fo.ColorScheme(color_by="value")
    if dataset.app_config.active_fields is None:
        paths = [GROUND_TRUTH, *((suggested.FIELD, regions.FIELD) if kind == "Detections" else ()), *ON_TILES]
        dataset.app_config.active_fields = fo.ActiveFields(paths=paths)


def label_path(kind: str) -> str:
    """Return the path of one label inside the ground truth."""
    return GROUND_TRUTH if kind == "Classification" else f"{GROUND_TRUTH}.{kind.lower()}"


def owned_fields(extra: Sequence[str], teachers: Sequence[str]) -> set[str]:
    """Return the top-level fields that curate writes; all others are the user's."""
    return {
        *FIELDS,
        *extra,
        GROUND_TRUTH,
        regions.FIELD,
        suggested.FIELD,
        "metadata",
        "filepath",
        *(TEACHER_PREFIX + t for t in teachers),
    }


def _field(kind: str) -> dict[str, Any]:
    import fiftyone as fo  # noqa: PLC0415 - costs seconds to import

    if kind == "strings":
        return {"ftype": fo.ListField, "subfield": fo.StringField}
    return {"ftype": {"string": fo.StringField, "float": fo.FloatField}[kind]}
