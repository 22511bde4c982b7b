"""What the spec's segmenters together say of the regions of given masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from curate import runs, schema, views
from curate.errors import CurateError, TooFewRowsError
from curate.spec import MasksSpec
from curate.stages.answers import (
    VERSION,
    Taught,
    about_table,
    beyond_key,
    nobody_failed,
    ran_statistics,
    teacher_key,
    told_by,
)
from curate.stages.context import Context

if TYPE_CHECKING:
    from curate.teachers.regions.pool import Pool

REGIONS_VERSION = 1
_JUDGED = ["label_id", "sample_id", "uri", "label", "mask", "content_sha256"]


def with_regions(
    context: Context, taught: Taught, samples: pa.Table, labels: pa.Table, classes: tuple[str, ...]
) -> Taught:
    """Return what was answered with the regions of every mask, measured against the segmenters of the spec.

    Args:
        context: of the run.
        taught: so far.
        samples: the samples view.
        labels: `schema.LABELS`.
        classes: of the release, in order.
    """
    specs = [one for one in context.spec.teachers if isinstance(one, MasksSpec)]
    view = views.labels_view(labels.filter(pc.equal(labels["task"], "segmentation")), samples)
    if not specs or not view.num_rows:
        return taught
    key = {
        "version": VERSION,
        "regions": REGIONS_VERSION,
        "teachers": [teacher_key(context, spec) for spec in specs],
        "labels": runs.digest_table(view.select(_JUDGED)),
        "classes": list(classes),
        "versions": runs.versions(),
        **beyond_key(context),
    }

    def compute() -> Mapping[str, pa.Table]:
        return _compute(context, specs, view, classes)

    names = ("regions", "about", "weighed")
    tables = context.run.stage("segmenters", key, names, compute, keep=nobody_failed)
    cards, errors = told_by(tables["about"])
    return replace(
        taught,
        cards=[*taught.cards, *cards],
        statistics=pa.concat_tables([taught.statistics, ran_statistics(cards, errors)]),
        regions=tables["regions"] if cards else None,
        segmenters=tuple((row["teacher"], row["weight"], row["why"]) for row in tables["weighed"].to_pylist()),
        region_noise_rate=next(iter(tables["weighed"]["noise_rate"].to_pylist()), None),
    )


def _compute(
    context: Context, specs: Sequence[MasksSpec], view: pa.Table, classes: tuple[str, ...]
) -> Mapping[str, pa.Table]:
    from curate.teachers.protocol import TeacherError  # noqa: PLC0415 - only where masks are judged
    from curate.teachers.regions.segmenters import asked_of, find_regions  # noqa: PLC0415 - as above

    asked: dict[str, Any] = {}
    errors = []
    uris, beyond = pc.unique(view["uri"]).to_pylist(), context.beyond.samples["uri"].to_pylist()
    for spec in specs:
        if spec.name in asked:
            errors.append(TeacherError(spec.name, "another teacher has the same name; rename one of them"))
            continue
        try:
            folder = context.loaded.resolve(spec.path)
            asked[spec.name] = asked_of(spec, uris, folder, classes, beyond=beyond)
        except CurateError as error:
            errors.append(TeacherError(spec.name, str(error), isinstance(error, TooFewRowsError)))
    found = find_regions(
        list(asked.values()),
        view,
        classes,
        folder=context.run.workspace.cache / "regions",
        workers=context.workers,
        progress=context.run.listener.progress,
    )
    return {
        "regions": found.table,
        "about": about_table(found.cards, [*errors, *found.errors]),
        "weighed": _weighed([card.name for card in found.cards], found.pool),
    }


def _weighed(teachers: Sequence[str], pool: Pool | None) -> pa.Table:
    """Return a row for each teacher: its weight, why it was left out, and the noise rate that they were weighed with."""
    rows = [] if pool is None else zip(teachers, pool.large.tolist(), strict=True)
    kind = pa.schema(
        [("teacher", pa.string()), ("weight", pa.float64()), ("why", pa.string()), ("noise_rate", pa.float64())]
    )
    told = [
        {"teacher": name, "weight": weight, "why": pool.guards[name].why, "noise_rate": pool.noise_rate}
        for name, weight in rows
        if pool is not None
    ]
    return schema.table_from_rows(told, kind)
