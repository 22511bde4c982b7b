"""A released version → one HTML page that holds its own pictures and opens offline; no script, nothing to load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from curate.manifest.read import LoadedRelease
from curate.report import (
    balance,
    charts,
    content,
    flow,
    galleries,
    gates,
    image_quality,
    label_quality,
    people,
    tags,
    teachers,
)
from curate.report.pictures import ReadImages
from curate.report.wording import FileNames, interval, quantity

SECTIONS = (
    ("flow", "In and out"),
    ("labels", "Label quality"),
    ("boxes", "Boxes, masks, tracks"),
    ("duplicates", "Duplicates"),
    ("images", "Images"),
    ("balance", "Balance"),
    ("teachers", "Teachers"),
    ("gates", "Gates"),
    ("findings", "Findings"),
    ("versions", "Versions"),
)
BOX_CHECKS = ("box_noise", "box_sanity", "mask_sanity", "track_sanity", "track_noise", "mask_noise")


def render_page(
    release: LoadedRelease,
    read: ReadImages,
    *,
    name: str,
    number: int,
    description: str = "",
    provenance: Sequence[tuple[str, str]] = (),
) -> str:
    """Return the page of a version.

    Args:
        release: the version's tables and evidence; nothing else is said about the data.
        read: sample ids -> encoded images, for the pictures.
        name: of the dataset.
        number: of the version, as in v3.
        description: from the spec.
        provenance: further rows of the last table: run, paths, package versions.
    """
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415 - only the report needs it
    from markupsafe import Markup  # noqa: PLC0415 - as above

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(resources.files("curate.report").joinpath("page.html.j2").read_text("utf-8"))
    values = page_values(release, read)
    charted = {key: Markup(value) if key in CHARTED and value else value for key, value in values.items()}  # noqa: S704 - charts escape every text they are given
    return template.render(
        name=name,
        number=number,
        description=description,
        sections=SECTIONS,
        id=release.id,
        provenance=[*provenance, *_provenance(release)],
        **charted,
    )


CHARTED = {"funnel", "confusion", "noise_by_class", "given_classes", "classes", "splits"}


def page_values(release: LoadedRelease, read: ReadImages) -> dict[str, Any]:
    """Return everything that the template shows."""
    rows = content.statistics(release)
    names = FileNames(release)
    noise = content.one(rows, "label_noise", "noise_rate")
    ran, applies = (content.one(rows, "label_noise", name) for name in ("ran", "applies"))
    usable = noise is not None and noise["value"] is not None
    flagged = content.by_group(rows, "label_noise", "share_flagged", "class=")
    return {
        "gates": release.evidence["gates"],
        "facts": label_quality.facts(release, rows, noise if usable else None, labels_judged=applies is None),
        "funnel": charts.bars(flow.funnel(release), title="rows in and out"),
        "out": flow.reasons_out(release, names),
        "n_decisions": release.decisions.num_rows,
        "noise": label_quality.estimate(rows, noise) if usable and noise else None,
        "held_back": flow.held_back(rows),
        "noise_why": applies["detail"]["why"] if applies else label_quality.why_not(ran, noise),
        "audit": people.audit(release, rows),
        "annotators": people.annotators(rows, label_quality.n_outvoted(release)),
        "evaluation": label_quality.evaluation(rows) if usable else [],
        "truth": content.one(rows, "evaluation", "n_wrong"),
        "confusion": label_quality.confusion(release),
        "noise_by_class": charts.bars(flagged, title="flagged share by class", unit="%")
        if any(bar["value"] for bar in flagged)
        else "",
        "suspects": galleries.gallery(release, read, names, ["mislabel"], flagged_only=True),
        "tags": tags.values(release, rows, read, names),
        "risk_groups": label_quality.risk_by_group(rows),
        "came_in": flow.came_in(release),
        "flawed": image_quality.flawed_shares(rows),
        "boxes": galleries.by_issue(release, read, names, BOX_CHECKS),
        "leakage": content.one(rows, "leakage", "share_of_samples"),
        "copies": image_quality.copies(rows),
        "leaking_splits": image_quality.leaking_splits(rows),
        "duplicates": galleries.gallery(release, read, names, galleries.DUPLICATES, n=12),
        "image_shares": image_quality.image_shares(rows),
        "image_absent": image_quality.image_issues_absent(rows),
        "images": galleries.gallery(
            release, read, names, image_quality.image_issues(release), n=12, flagged_only=True
        ),
        "classes": charts.bars(content.class_counts(release), title="released rows by class"),
        "given_classes": balance.class_chart(rows),
        "class_facts": balance.class_facts(rows),
        "splits": charts.bars(content.split_counts(release), title="released rows by split"),
        "attributes": balance.attributes(rows),
        "gaps": balance.gaps(rows),
        "teachers": teachers.told_of(release.evidence.get("teachers") or [], rows),
        **gates.gates(release),
        "issues": content.issue_counts(release),
        "statistics": [_statistic(row) for row in rows],
    }


def write_page(page: str, path: Path) -> Path:
    """Write the page beside its place and rename it."""
    from curate.runs import write_text  # noqa: PLC0415 - beside its only use

    write_text(path, page)
    return path


def _statistic(row: Mapping[str, Any]) -> dict[str, Any]:
    shown = "" if row["value"] is None else quantity(row["name"], row["value"])
    is_share = shown.endswith("%")
    both = isinstance(row["low"], int | float) and isinstance(row["high"], int | float)
    return {**row, "shown": shown, "interval": interval(row["low"], row["high"], share=is_share) if both else ""}


def _provenance(release: LoadedRelease) -> list[tuple[str, str]]:
    inputs = release.manifest.get("inputs", {})
    rows = [("id", release.id), ("path", str(release.path))]
    rows += [(f"digest of the {name}", str(value)) for name, value in sorted(inputs.items())]
    return rows
