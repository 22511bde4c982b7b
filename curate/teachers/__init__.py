"""Who judges the labels: the protocol, probes, models, tables, and what their disagreement says."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

import pyarrow as pa

from curate.errors import ConfigError, TooFewRowsError
from curate.plugins import load_plugin
from curate.schema import NEAREST_PREFIX, PRESENT_PREFIX, PROB_PREFIX, canonical_json
from curate.teachers.protocol import (
    Answer,
    ColumnAnswer,
    Predictions,
    Request,
    Teacher,
    TeacherCard,
    TeacherError,
    prob_column,
)

if TYPE_CHECKING:  # `curate flag` needs this package and none of pydantic
    from curate.spec import TeacherSpec

__all__ = ["KINDS", "predict_all", "teacher_of"]

# kind of a spec's teacher -> (module under curate.teachers, class that takes the spec)
KINDS: dict[str, tuple[str, str]] = {
    "probes": ("probes", "Probes"),
    "onnx": ("onnx_model", "OnnxTeacher"),
    "torch": ("torch_model", "TorchTeacher"),
    "table": ("table", "TableTeacher"),
    "mot": ("tracks.teacher", "MotTeacher"),
}

_OF_THE_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE}


def teacher_of(spec: TeacherSpec) -> Teacher:
    """Return the teacher that a spec describes; kinds of other packages come by entry point.

    Raises:
        ConfigError: nobody provides that kind, or its package cannot be loaded.
    """
    if spec.kind in KINDS:
        module, name = KINDS[spec.kind]
        made: Teacher = getattr(import_module(f"curate.teachers.{module}"), name)(spec)
        return made
    from curate.spec import TEACHER_PLUGINS, unknown_kind  # noqa: PLC0415 - as above

    for entry in entry_points(group=TEACHER_PLUGINS):
        if entry.name == spec.kind:
            loaded: Teacher = load_plugin(entry)(spec)
            return loaded
    raise ConfigError(unknown_kind(spec.kind))


def require_plugins(specs: Sequence[TeacherSpec]) -> None:
    """Load what other packages provide of these teachers, so that one that cannot be is known before anything runs.

    Raises:
        PluginError: an entry point cannot be loaded.
    """
    from curate.spec import TEACHER_PLUGINS, TEACHER_SPECS  # noqa: PLC0415 - as above

    asked = {spec.kind for spec in specs} - set(TEACHER_SPECS)
    for entry in entry_points(group=TEACHER_PLUGINS) if asked else ():
        if entry.name in asked:
            load_plugin(entry)


def predict_all(specs: Sequence[TeacherSpec], request: Request) -> Predictions:
    """Ask every teacher and calibrate what came uncalibrated; one that fails is an error entry, and the others go on.

    Args:
        specs: the spec's teachers.
        request: the label rows and what is needed to judge them.
    """
    from curate.teachers.each_class import present_column  # noqa: PLC0415 - as above

    answers: list[Answer | ColumnAnswer] = []
    errors: list[TeacherError] = []
    for spec in specs:
        try:
            answers += [_calibrated(answer, request) for answer in teacher_of(spec).answer(request)]
        except Exception as error:
            if isinstance(error, MemoryError) or getattr(error, "errno", None) in _OF_THE_MACHINE:
                raise  # no teacher's fault: the run stops, and goes on from here when there is room
            too_few = isinstance(error, TooFewRowsError)
            errors.append(TeacherError(spec.name, f"{type(error).__name__}: {error}", too_few))
    usual, made = (PRESENT_PREFIX, present_column) if request.independent else (PROB_PREFIX, prob_column)
    columns: dict[str, pa.Array] = {"label_id": request.labels["label_id"]}
    cards: list[TeacherCard] = []
    for answer in answers:
        prefix = answer.prefix if isinstance(answer, ColumnAnswer) else usual
        if answer.card.name in {card.name for card in cards}:
            errors.append(TeacherError(answer.card.name, "another teacher has the same name; rename one of them"))
            continue
        cards.append(answer.card)
        if answer.card.left_out:  # it is known, and nothing is made of what it says
            continue
        columns[prefix + answer.card.name] = (
            answer.column if isinstance(answer, ColumnAnswer) else made(answer.probs)
        )
        if isinstance(answer, Answer) and answer.nearest is not None:
            columns[NEAREST_PREFIX + answer.card.name] = answer.nearest
    table = pa.table(columns)
    if "content_sha256" in request.labels.column_names:  # which bytes were judged: soft labels of others are stale
        table = table.append_column("content_sha256", request.labels["content_sha256"])
    about = {
        "classes": canonical_json(list(request.classes)),
        "teachers": canonical_json({card.name: card.digest for card in cards}),
    }
    return Predictions(table.replace_schema_metadata(about), tuple(cards), tuple(errors))


def _calibrated(answer: Answer | ColumnAnswer, request: Request) -> Answer | ColumnAnswer:
    if isinstance(answer, ColumnAnswer) or request.independent:  # of each class alone: no distribution to calibrate
        return answer
    import pyarrow.compute as pc  # noqa: PLC0415 - as above

    from curate.teachers.calibration import calibrate  # noqa: PLC0415 - as above

    known = pa.array(request.classes, pa.string())
    given = pc.fill_null(pc.index_in(request.labels["label"], value_set=known), -1).to_numpy()
    return calibrate(answer, given.astype("int64"), request.labels["label_id"].to_pylist())
