"""A diff as a page of its own, with pictures: opens offline, runs no script, loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import ConfigError, InputError
from curate.manifest.diff import Diff
from curate.manifest.diff_causes import cause_text
from curate.manifest.diff_rows import CHANGES
from curate.manifest.inputs import input_text
from curate.recorded import last_run
from curate.report.mask_pictures import mask_pictures
from curate.report.page import write_page
from curate.report.pictures import ReadImages, thumbnail
from curate.report.wording import short_name
from curate.runs import Workspace

N_SHOWN = 24


def write_diff_page(diff: Diff, name: str, file: Path, workspace: Path | None) -> Path:
    """Write the page of a diff and return where it is.

    Args:
        diff: what changed.
        name: of the release.
        file: to write.
        workspace: where the last run found the images; where it is None or holds no run, the page says so instead.
    """
    read, why = _images(workspace, name)
    return write_page(render_diff_page(diff, name, read, why), file)


def render_diff_page(diff: Diff, name: str, read: ReadImages | None, without_pictures: str = "") -> str:
    """Return the page: the counts, then the first changes of each kind with picture, before, after and cause.

    Args:
        diff: what changed.
        name: of the release.
        read: sample ids -> encoded images; None = no pictures.
        without_pictures: why there are none.
    """
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415 - only pages need it

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(resources.files("curate.report").joinpath("diff.html.j2").read_text("utf-8"))
    return template.render(
        name=name,
        summary=diff.summary,
        inputs_changed=[input_text(name) for name in diff.summary["inputs_changed"]],
        without_pictures=without_pictures,
        sections=[section for change in CHANGES if (section := _section(diff, change, read))["n"]],
    )


def _section(diff: Diff, change: str, read: ReadImages | None) -> dict[str, Any]:
    rows = diff.rows.filter(pc.equal(diff.rows["change"], change))
    shown = rows.slice(0, N_SHOWN).to_pylist()
    images = read(sorted({row["sample_id"] for row in shown})) if read and shown else {}
    shapes = _shapes(diff, shown) if change == "remasked" and images else {}
    causes = pc.value_counts(pc.list_flatten(rows["causes"])).to_pylist() if rows.num_rows else []
    causes.sort(key=lambda one: (-one["counts"], one["values"]))
    return {
        "change": change,
        "n": rows.num_rows,
        "causes": [(cause_text(one["values"]), one["counts"]) for one in causes[:6]],
        "items": [_item(row, images, shapes, with_pictures=read is not None) for row in shown],
    }


def _shapes(diff: Diff, shown: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return label id -> row of `SHAPES` of the rows that are shown."""
    wanted = pa.array([row["label_id"] for row in shown], pa.string())
    rows = diff.shapes.filter(pc.is_in(diff.shapes["label_id"], value_set=wanted)).to_pylist()
    return {row["label_id"]: row for row in rows}


def _item(
    row: Mapping[str, Any],
    images: Mapping[str, bytes | None],
    shapes: Mapping[str, Mapping[str, Any]],
    *,
    with_pictures: bool,
) -> dict[str, Any]:
    image = images.get(row["sample_id"])
    boxes = [_box(row[side]) for side in ("before", "after")] if row["change"] == "reboxed" else []
    masks: list[str | None] = []
    if row["label_id"] in shapes:
        masks += mask_pictures(image, shapes[row["label_id"]])
    drawn = masks or [thumbnail(image, box) for box in boxes if box] or [thumbnail(image)]
    return {
        "uri": row["uri"],
        "name": short_name(row["uri"]),
        "pictures": [picture for picture in drawn if picture] if with_pictures else [],
        "before": _cut(row["before"]),
        "after": _cut(row["after"]),
        "action": row["action_after"],
        "causes": sorted({cause_text(code) for code in row["causes"]}),
    }


def _box(text: str | None) -> list[float] | None:
    """Return the box that a diff writes as "x y w h"; None for another shape."""
    parts = (text or "").split()
    return [float(part) for part in parts] if len(parts) == 4 else None


def _cut(text: str | None) -> str | None:
    return f"{text[:12]}…" if text is not None and len(text) == 64 else text  # a sha256


def _images(workspace: Path | None, name: str) -> tuple[ReadImages | None, str]:
    if workspace is None:
        return None, "Nobody said where the images are."
    try:
        _, media = last_run(Workspace(workspace, name), needed_for="A page with pictures")
    except (ConfigError, InputError) as error:
        return None, str(error)
    known = pc.unique(media.samples["sample_id"]).to_pylist()

    def read(sample_ids: Any) -> Mapping[str, bytes | None]:  # noqa: ANN401 - as `ReadImages`
        here = sorted(set(sample_ids).intersection(known))  # the last run may have lost samples of an old version
        table = pa.table({"sample_id": pa.array(here, pa.string())})
        return dict(zip(here, media.read(table), strict=True))

    return read, ""
