"""A released version → one HTML page that holds its own pictures and opens offline; no script, nothing to load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from curate.manifest.read import LoadedRelease
from curate.reasons import render
from curate.report import charts, content
from curate.report.pictures import ReadImages

SECTIONS = (
    ("flow", "In and out"),
    ("labels", "Label quality"),
    ("duplicates", "Duplicates"),
    ("images", "Images"),
    ("balance", "Balance"),
    ("teachers", "Teachers"),
    ("gates", "Gates"),
    ("findings", "Findings"),
    ("versions", "Versions"),
)
BOX_CHECKS = ("box_sanity", "mask_sanity", "track_sanity")


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
    charted["attributes"] = [(title, Markup(chart)) for title, chart in values["attributes"]]  # noqa: S704 - as above
    return template.render(
        name=name,
        number=number,
        description=description,
        sections=SECTIONS,
        id=release.id,
        provenance=[*provenance, *_provenance(release)],
        **charted,
    )


CHARTED = {
    "funnel",
    "evaluation",
    "confusion",
    "noise_by_class",
    "image_shares",
    "classes",
    "splits",
}


def page_values(release: LoadedRelease, read: ReadImages) -> dict[str, Any]:
    """Return everything that the template shows."""
    rows = content.statistics(release)
    noise = content.one(rows, "label_noise", "noise_rate")
    ran = content.one(rows, "label_noise", "ran")
    usable = noise is not None and noise["value"] is not None
    box_issues = sorted(_issues_of(release, BOX_CHECKS))
    return {
        "gates": release.evidence["gates"],
        "facts": _facts(release, noise if usable else None),
        "funnel": charts.bars(content.funnel(release), title="rows in and out"),
        "out": content.reasons_out(release),
        "noise": noise if usable else None,
        "noise_why": _why_not(noise, ran),
        "regime": ((noise or {}).get("detail") or {}).get("why", ""),
        "evaluation": _evaluation(rows),
        "confusion": content.confusion(release),
        "noise_by_class": charts.bars(
            content.by_group(rows, "label_noise", "share_flagged", "class="),
            title="flagged share by class",
            unit="%",
        ),
        "suspects": content.gallery(release, read, ["mislabel"], flagged_only=True),
        "boxes": content.gallery(release, read, box_issues, n=12) if box_issues else [],
        "leakage": content.one(rows, "leakage", "share_of_samples"),
        "duplicates": content.gallery(release, read, content.DUPLICATES, n=12),
        "image_shares": _image_shares(rows),
        "images": content.gallery(release, read, content.image_issues(release), n=12, flagged_only=True),
        "classes": charts.bars(content.class_counts(release), title="released rows by class"),
        "splits": charts.bars(content.split_counts(release), title="released rows by split"),
        "attributes": _attributes(rows),
        "teachers": _teachers(release, rows),
        "gate_rows": [_gate(row) for row in release.evidence["gates"]["rows"]],
        "issues": content.issue_counts(release),
        "statistics": [_statistic(row) for row in rows],
    }


def write_page(page: str, path: Path) -> Path:
    """Write the page beside its place and rename it."""
    from curate.runs import write_text  # noqa: PLC0415 - beside its only use

    write_text(path, page)
    return path


def _facts(release: LoadedRelease, noise: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    n_images = len(set(release.data["sample_id"].to_pylist()))
    facts = [
        ("rows released", f"{release.data.num_rows:,}"),
        ("images in them", f"{n_images:,}"),
        ("rows held back", f"{release.excluded.num_rows:,}"),
        ("classes", f"{len(release.manifest['classes']):,}"),
        ("wrong labels (estimate)", f"{noise['value']:.1%}" if noise else "not known"),
        ("labels changed", f"{release.data['action'].to_pylist().count('relabel'):,}"),
    ]
    return facts


def _why_not(noise: Mapping[str, Any] | None, ran: Mapping[str, Any] | None) -> str:
    for row in (noise, ran):
        if row is not None and row.get("outcome"):
            detail = row.get("detail") or {}
            return str(detail.get("why") or detail.get("message") or row["outcome"])
    return "the check did not run"


def _evaluation(rows: Sequence[Mapping[str, Any]]) -> str:
    names = (
        ("precision", "precision"),
        ("recall", "recall"),
        ("f1", "F1"),
        ("average_precision", "average precision"),
    )
    bars = []
    for name, label in names:
        row = content.one(rows, "evaluation", name)
        if row is not None and row["value"] is not None:
            bars.append({"label": label, "value": row["value"], "low": row["low"], "high": row["high"]})
    return charts.bars(bars, title="flags against the known truth", top=1.0)


def _image_shares(rows: Sequence[Mapping[str, Any]]) -> str:
    shares = [
        {"label": row["name"].removeprefix("share_").replace("_", " "), "value": row["value"], "low": row["low"]}
        | {"high": row["high"]}
        for row in rows
        if row["check"] == "image_quality"
        and row["name"].startswith("share_")
        and row["group"] is None
        and row["value"]
    ]
    return charts.bars(shares, title="share of images by issue", unit="%")


def _attributes(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return a chart for each attribute: the share of each value with its interval."""
    names = {
        row["group"].partition("=")[0]
        for row in rows
        if row["check"] == "demographic_balance" and row["name"] == "share" and "=" in (row["group"] or "")
    }
    told = []
    for name in sorted(names):
        bars = content.by_group(rows, "demographic_balance", "share", f"{name}=")
        title = name.removeprefix("attr_").replace("_", " ")
        told.append((f"{title}: share of samples", charts.bars(bars, title=title, unit="%")))
    return told


def _teachers(release: LoadedRelease, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    weights = {
        row["group"]: row for row in rows if (row["check"], row["name"]) == ("label_noise", "teacher_weight")
    }
    told = []
    for card in release.evidence.get("teachers") or []:
        row = weights.get(f"teacher={card['name']}")
        why = (row or {}).get("detail", {}).get("why", "")
        told.append(
            {
                "name": card["name"],
                "kind": card.get("kind", ""),
                "trained_on": card.get("trained_on"),
                "features": card.get("features"),
                "n_predicted": card.get("n_predicted"),
                "weight": row["value"] if row else None,
                "note": "; ".join([*filter(None, [why]), *card.get("warnings", ())]),
            }
        )
    errored = [r for r in rows if r["check"] == "teachers" and r["outcome"] == "errored"]
    for row in errored:
        told.append(
            {"name": (row["group"] or "").removeprefix("teacher="), "kind": "errored", "trained_on": None}
            | {"features": None, "n_predicted": 0, "weight": None, "note": row["detail"].get("message", "")}
        )
    return told


def _gate(row: Mapping[str, Any]) -> dict[str, Any]:
    bounds = [f"≥ {row['min']:g}"] if row["min"] is not None else []
    bounds += [f"≤ {row['max']:g}"] if row["max"] is not None else []
    return {
        **row,
        "value": "–" if row["value"] is None else f"{_float(row['value']):.4g}",  # noqa: RUF001 - a dash for nothing
        "bound": " ".join(bounds),
        "message": render(row["reason_code"], row["reason_args"]) if row["reason_code"] else "",
    }


def _statistic(row: Mapping[str, Any]) -> dict[str, Any]:
    both = row["low"] is not None and row["high"] is not None
    interval = f"{_float(row['low']):.4g} – {_float(row['high']):.4g}" if both else ""  # noqa: RUF001 - a range
    return {**row, "shown": "" if row["value"] is None else f"{_float(row['value']):.4g}", "interval": interval}


def _float(value: Any) -> float:  # noqa: ANN401 - evidence writes what is no finite number as a word
    try:
        return float(value)
    except ValueError:
        return float("nan")


def _issues_of(release: LoadedRelease, checks: Sequence[str]) -> set[str]:
    pairs = zip(release.findings["check"].to_pylist(), release.findings["issue"].to_pylist(), strict=True)
    return {issue for check, issue in pairs if check in checks}


def _provenance(release: LoadedRelease) -> list[tuple[str, str]]:
    inputs = release.manifest.get("inputs", {})
    rows = [("id", release.id), ("path", str(release.path))]
    rows += [(f"input: {name}", str(value)) for name, value in sorted(inputs.items())]
    return rows
