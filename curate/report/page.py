"""A released version → one HTML page that holds its own pictures and opens offline; no script, nothing to load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from curate.manifest.read import LoadedRelease
from curate.report import balance, charts, content, galleries, people, tags
from curate.report.pictures import ReadImages
from curate.report.wording import FileNames, interval, percent, quantity, sentence

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


# what is judged where whole labels are not: check, what is counted, what that is
WRONG_OF = (
    ("multi_label_noise", "answers", "a class of an image, there or not"),
    ("mask_noise", "regions", "connected parts of masks"),
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
        "facts": _facts(release, rows, noise if usable else None, labels_judged=applies is None),
        "funnel": charts.bars(content.funnel(release), title="rows in and out"),
        "out": content.reasons_out(release, names),
        "n_decisions": release.decisions.num_rows,
        "noise": _noise(rows, noise) if usable and noise else None,
        "held_back": content.held_back(rows),
        "noise_why": applies["detail"]["why"] if applies else _why_not(ran, noise),
        "audit": people.audit(release, rows),
        "annotators": people.annotators(rows, content.n_outvoted(release)),
        "evaluation": _evaluation(rows) if usable else [],
        "truth": content.one(rows, "evaluation", "n_wrong"),
        "confusion": content.confusion(release),
        "noise_by_class": charts.bars(flagged, title="flagged share by class", unit="%")
        if any(bar["value"] for bar in flagged)
        else "",
        "suspects": galleries.gallery(release, read, names, ["mislabel"], flagged_only=True),
        "tags": tags.values(release, rows, read, names),
        "risk_groups": content.risk_by_group(rows),
        "came_in": content.came_in(release),
        "flawed": content.flawed_shares(rows),
        "boxes": galleries.by_issue(release, read, names, BOX_CHECKS),
        "leakage": content.one(rows, "leakage", "share_of_samples"),
        "copies": content.copies(rows),
        "leaking_splits": content.leaking_splits(rows),
        "duplicates": galleries.gallery(release, read, names, galleries.DUPLICATES, n=12),
        "image_shares": content.image_shares(rows),
        "image_absent": content.image_issues_absent(rows),
        "images": galleries.gallery(release, read, names, content.image_issues(release), n=12, flagged_only=True),
        "classes": charts.bars(content.class_counts(release), title="released rows by class"),
        "given_classes": balance.class_chart(rows),
        "class_facts": balance.class_facts(rows),
        "splits": charts.bars(content.split_counts(release), title="released rows by split"),
        "attributes": balance.attributes(rows),
        "gaps": balance.gaps(rows),
        "teachers": _teachers(release, rows),
        **_gates(release, rows),
        "issues": content.issue_counts(release),
        "statistics": [_statistic(row) for row in rows],
    }


def write_page(page: str, path: Path) -> Path:
    """Write the page beside its place and rename it."""
    from curate.runs import write_text  # noqa: PLC0415 - beside its only use

    write_text(path, page)
    return path


def _facts(
    release: LoadedRelease,
    rows: Sequence[Mapping[str, Any]],
    noise: Mapping[str, Any] | None,
    *,
    labels_judged: bool,
) -> list[tuple[str, str, str]]:
    """Return number, what it counts and, where there is more to say, a smaller line."""
    n_in = release.data.num_rows + release.excluded.num_rows
    n_images = pc.count_distinct(release.data["sample_id"]).as_py()
    n_images_in, n_labels_in = content.came_in(release)
    agreed = noise if noise and not noise["detail"].get("insufficient") else None
    spread = interval(agreed["low"], agreed["high"]) if agreed else "estimates disagree" if noise else ""
    audited = people.audited_rate(rows)
    share = percent(release.data.num_rows / n_in) if n_in else "none"
    return [
        (f"{n_images_in:,}", "images in", f"{n_labels_in:,} labels"),
        (f"{release.data.num_rows:,}", "rows released", f"{share} of them, {n_images:,} images"),
        (f"{release.excluded.num_rows:,}", "rows held back", ""),
        (f"{content.counted(release.data['action'])['relabel']:,}", "labels changed", ""),
        *(
            [(audited["value"], "of labels wrong (audit)", audited["interval"])]
            if audited
            else [_wrong_fact(agreed, "labels", spread)]
            if labels_judged
            else []
        ),
        *(
            _wrong_fact(rate, what, about)
            for check, what, about in WRONG_OF
            if (rate := content.one(rows, check, "noise_rate")) and rate["value"] is not None
        ),
        (f"{len(release.manifest['classes']):,}", "classes", ""),
    ]


def _wrong_fact(rate: Mapping[str, Any] | None, what: str, about: str) -> tuple[str, str, str]:
    return (percent(rate["value"]) if rate else "not known", f"of {what} wrong (estimate)", about)


def _noise(rows: Sequence[Mapping[str, Any]], noise: Mapping[str, Any]) -> dict[str, Any]:
    """Return the estimate of wrong labels, the rule behind it, and what the other methods say."""
    flagged = content.one(rows, "label_noise", "n_flagged")
    others = [row for row in rows if (row["check"], row["name"]) == ("label_noise", "noise_rate_estimate")]
    return {
        "value": percent(noise["value"]),
        "interval": interval(noise["low"], noise["high"]),
        "method": noise["detail"].get("method", ""),
        "why": noise["detail"].get("why", ""),
        "agree": noise["detail"].get("estimates_agree"),
        "n": noise["n"],
        "n_flagged": flagged["value"] if flagged else None,
        "audited": people.audited_rate(rows),
        "others": [
            {
                "method": row["detail"].get("method", row["group"]),
                "value": percent(row["value"]) if row["value"] is not None else "insufficient data",
                "interval": interval(row["low"], row["high"]),
            }
            for row in others
        ],
    }


def _why_not(*rows: Mapping[str, Any] | None) -> str:
    for row in rows:
        if row is not None and row.get("outcome") not in {None, "pass"}:
            detail = row.get("detail") or {}
            return str(detail.get("why") or detail.get("message") or row["outcome"])
    return "the check did not run"


def _evaluation(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return how the flags did against the known truth."""
    names = (
        ("precision", "precision", "of the flagged labels, how many are wrong"),
        ("recall", "recall", "of the wrong labels, how many are flagged"),
        ("f1", "F1", "the harmonic mean of both"),
        ("average_precision", "average precision", "of the ranking by risk, whatever the cut"),
    )
    told = []
    for name, label, meaning in names:
        row = content.one(rows, "evaluation", name)
        if row is not None and row["value"] is not None:
            spread = interval(row["low"], row["high"])
            told.append({"name": label, "value": percent(row["value"]), "interval": spread, "meaning": meaning})
    return told


def _teachers(release: LoadedRelease, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    weights = {
        row["group"]: row for row in rows if (row["check"], row["name"]) == ("label_noise", "teacher_weight")
    }
    told = []
    doubts = {row["group"]: doubt for row in rows if (doubt := (row["detail"] or {}).get("warning"))}
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
                "note": "; ".join(
                    filter(None, [why, *card.get("warnings", ()), doubts.get(f"teacher={card['name']}")])
                ),
            }
        )
    errored = [r for r in rows if r["check"] == "teachers" and r["outcome"] == "errored"]
    told += [
        {"name": (row["group"] or "").removeprefix("teacher="), "kind": "errored", "trained_on": None}
        | {"features": None, "n_predicted": 0, "weight": None, "note": row["detail"].get("message", "")}
        for row in errored
    ]
    return told


def _gates(release: LoadedRelease, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the gates that say something, and how many checks and suites merely ran and passed."""
    why = {(row["check"], row["name"]): (row["detail"] or {}).get("why", "") for row in rows}
    shown, quiet = [], []
    for row in release.evidence["gates"]["rows"]:
        check, _, name = row["statistic"].partition(".")
        is_routine = name == "ran" or check == "expectations"
        if is_routine and row["outcome"] == "pass":
            quiet.append(
                row["statistic"].removesuffix(".ran").replace("_", " ").replace("expectations.", "suite: ")
            )
        else:
            shown.append(_gate(row, why.get((check, name), "") if row["outcome"] == "insufficient data" else ""))
    return {"gate_rows": shown, "gates_quiet": quiet}


def _gate(row: Mapping[str, Any], why: str) -> dict[str, Any]:
    name = row["statistic"]
    bounds = [f"at least {quantity(name, row['min'])}"] if row["min"] is not None else []
    bounds += [f"at most {quantity(name, row['max'])}"] if row["max"] is not None else []
    told = sentence(row["reason_code"], row["reason_args"], {}) if row["reason_code"] else ""
    return {
        **row,
        "value": quantity(name, row["value"]),
        "bound": " and ".join(bounds),
        "message": f"{told} ({why})" if why else told,
    }


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
