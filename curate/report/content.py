"""What the report shows, computed from a released version alone: what it holds is what the page says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.manifest.read import LoadedRelease
from curate.reasons import render
from curate.report import charts
from curate.report.pictures import ReadImages, thumbnail

N_PICTURES = 24
N_MATRIX_CLASSES = 20
N_BARS = 40
DUPLICATES = ("exact_duplicate", "leakage_duplicate", "near_duplicate", "duplicate_conflict")


def funnel(release: LoadedRelease) -> list[dict[str, Any]]:
    """Return what came in and what became of it, as bars."""
    actions = Counter(release.data["action"].to_pylist())
    verdicts = release.excluded.filter(pc.equal(release.excluded["stage"], "verdict"))
    waiting = Counter(verdicts["action"].to_pylist())
    n_ingest = release.excluded.num_rows - verdicts.num_rows
    rows = [
        {"label": "rows in", "value": release.data.num_rows + release.excluded.num_rows},
        {"label": "released", "value": release.data.num_rows},
    ]
    rows += [{"label": f"· {action}", "value": count} for action, count in actions.most_common()]
    rows += [{"label": f"held back: {action}", "value": count} for action, count in waiting.most_common()]
    if n_ingest:
        rows.append({"label": "out at ingest", "value": n_ingest})
    return rows


def reasons_out(release: LoadedRelease) -> list[dict[str, Any]]:
    """Return why rows are not released: code, count, an example in words."""
    counted: Counter[str] = Counter()
    example: dict[str, str] = {}
    texts = finding_texts(release.findings)
    columns = ("reason_codes", "reasons", "uri", "row", "error_code", "reason_args")
    for row in release.excluded.select(columns).to_pylist():
        codes = row["reason_codes"] or ([row["error_code"]] if row["error_code"] else ["without_reason"])
        for position, code in enumerate(dict.fromkeys(codes)):
            counted[code] += 1
            if code not in example:
                reason = row["reasons"][position] if position < len(row["reasons"] or []) else None
                told = texts.get(reason) or render(code, row["reason_args"])
                example[code] = f"{row['uri'] or row['row']}: {told}"
    return [{"code": code, "n": n, "example": example[code]} for code, n in counted.most_common()]


def finding_texts(findings: pa.Table) -> dict[str, str]:
    """Return the sentence of each finding, by id."""
    columns = ("finding_id", "reason_code", "reason_args")
    rows = zip(*(findings[name].to_pylist() for name in columns), strict=True)
    return {identity: render(code, args) for identity, code, args in rows}


def gallery(
    release: LoadedRelease,
    read: ReadImages,
    issues: Sequence[str],
    *,
    n: int = N_PICTURES,
    flagged_only: bool = False,
) -> list[dict[str, Any]]:
    """Return the worst findings of some issues, each with its picture, labels and reason."""
    wanted = pa.array(issues, pa.string())  # the type is said: there may be none
    chosen = release.findings.filter(pc.is_in(release.findings["issue"], value_set=wanted))
    if flagged_only:
        chosen = chosen.filter(pc.fill_null(chosen["flagged"], False))  # noqa: FBT003 - pyarrow's fill value
    chosen = chosen.sort_by([("risk", "descending"), ("finding_id", "ascending")]).slice(0, n)
    rows = chosen.to_pylist()
    about = _about(release, {row["sample_id"] for row in rows} | {i for r in rows for i in r["related_ids"] or ()})
    images = read(sorted(about))
    pictures = []
    for row in rows:
        label = about.get(row["sample_id"], {}).get(row["label_id"]) or _first(about.get(row["sample_id"], {}))
        other = next(iter(row["related_ids"] or ()), None)
        pictures.append(
            {
                "picture": thumbnail(images.get(row["sample_id"]), label.get("bbox")),
                "other": thumbnail(images.get(other)) if other and row["issue"] in DUPLICATES else None,
                "other_uri": _first(about.get(other, {})).get("uri") if other else None,
                "uri": label.get("uri", row["sample_id"]),
                "given": label.get("given_label"),
                "suggested": row["suggested_label"],
                "prob": row["suggested_prob"],
                "risk": row["risk"],
                "issue": row["issue"].replace("_", " "),
                "action": label.get("action"),
                "split": label.get("split"),
                "text": render(row["reason_code"], row["reason_args"]),
            }
        )
    return pictures


def _about(release: LoadedRelease, samples: set[str]) -> dict[str, dict[str | None, dict[str, Any]]]:
    """Return what is known of the labels of some samples: sample_id -> label_id -> row."""
    known: dict[str, dict[str | None, dict[str, Any]]] = {}
    names = ["sample_id", "label_id", "uri", "given_label", "action", "split", "bbox"]
    wanted = pa.array(sorted(samples), pa.string())
    for table in (release.data, release.excluded):
        for row in table.select(names).filter(pc.is_in(table["sample_id"], value_set=wanted)).to_pylist():
            known.setdefault(row["sample_id"], {})[row["label_id"]] = row
    return known


def _first(labels: Mapping[str | None, dict[str, Any]]) -> dict[str, Any]:
    return next(iter(labels.values()), {})


def confusion(release: LoadedRelease) -> str:
    """Return which class is taken for which, from flagged labels, as a heat map of the classes concerned."""
    found = release.findings.filter(pc.equal(release.findings["issue"], "mislabel"))
    found = found.filter(pc.fill_null(found["flagged"], False))  # noqa: FBT003 - pyarrow's fill value
    given = _given_labels(release)
    ids, suggested = found["label_id"].to_pylist(), found["suggested_label"].to_pylist()
    pairs = Counter((given.get(one), label) for one, label in zip(ids, suggested, strict=True))
    totals: Counter[str] = Counter()
    for (one, other), count in pairs.items():
        if one and other:
            totals[one] += count
            totals[other] += count
    if not totals:
        return ""
    kept = {name for name, _ in totals.most_common(N_MATRIX_CLASSES)}
    names = [name for name in release.manifest["classes"] if name in kept]
    cells = [[pairs.get((row, column), 0) for column in names] for row in names]
    return charts.matrix(names, cells, title="flagged labels: given class (rows) against suggested class (columns)")


def _given_labels(release: LoadedRelease) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for table in (release.data, release.excluded):
        pairs |= dict(zip(table["label_id"].to_pylist(), table["given_label"].to_pylist(), strict=True))
    return pairs


def statistics(release: LoadedRelease) -> list[dict[str, Any]]:
    """Return every statistic of the release, with its detail parsed."""
    rows = release.evidence.get("statistics") or []
    return [{**row, "detail": json.loads(row["detail"]) if row.get("detail") else {}} for row in rows]


def one(rows: Sequence[Mapping[str, Any]], check: str, name: str) -> Mapping[str, Any] | None:
    """Return the statistic of the whole called check.name, or None."""
    found = (row for row in rows if (row["check"], row["name"]) == (check, name) and row["group"] is None)
    return next(found, None)


def by_group(rows: Sequence[Mapping[str, Any]], check: str, name: str, prefix: str) -> list[dict[str, Any]]:
    """Return bars of a statistic by group, largest first: groups that start with `prefix` and hold no other key."""
    chosen = [
        {
            "label": row["group"].removeprefix(prefix),
            "value": row["value"],
            "low": row["low"],
            "high": row["high"],
            "note": f"n = {row['n']:,}" if row["n"] is not None else "",
        }
        for row in rows
        if (row["check"], row["name"]) == (check, name) and (row["group"] or "").startswith(prefix)
    ]
    ordered = sorted(chosen, key=lambda bar: (-(bar["value"] or 0.0), bar["label"]))
    return ordered[:N_BARS]


def class_counts(release: LoadedRelease) -> list[dict[str, Any]]:
    """Return how many rows of each class are released, in the order of the classes; an empty class is a bar of 0."""
    counted = Counter(release.data["released_label"].to_pylist())
    return [{"label": name, "value": counted.get(name, 0)} for name in release.manifest["classes"]]


def split_counts(release: LoadedRelease) -> list[dict[str, Any]]:
    """Return how many rows of each split are released."""
    counted = Counter(release.data["split"].to_pylist())
    return [{"label": name or "none", "value": count} for name, count in sorted(counted.items(), key=str)]


def issue_counts(release: LoadedRelease) -> list[dict[str, Any]]:
    """Return how many findings there are of each issue, flagged ones apart."""
    told: Counter[str] = Counter(release.findings["issue"].to_pylist())
    flagged = release.findings.filter(pc.fill_null(release.findings["flagged"], False))  # noqa: FBT003 - fill value
    cut = Counter(flagged["issue"].to_pylist())
    return [{"issue": issue, "n": n, "n_flagged": cut.get(issue, 0)} for issue, n in told.most_common()]


def image_issues(release: LoadedRelease) -> list[str]:
    """Return the issues of the image_quality check that flagged something."""
    found = release.findings.filter(pc.equal(release.findings["check"], "image_quality"))
    found = found.filter(pc.fill_null(found["flagged"], False))  # noqa: FBT003 - pyarrow's fill value
    return sorted(set(found["issue"].to_pylist()))
