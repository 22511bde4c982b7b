"""How many labels are wrong, and which: the section Label quality, and the facts on top of the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.manifest.read import LoadedRelease
from curate.report import charts, people
from curate.report.content import counted, one
from curate.report.flow import came_in
from curate.report.wording import interval, percent

N_MATRIX_CLASSES = 20


def n_outvoted(release: LoadedRelease) -> int:
    """Return how many given labels the annotators and teachers of their image outvote."""
    return counted(release.findings["issue"])["annotators_outvote"]


def risk_by_group(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what is said of each declared group's labels: flagged share, mean risk, and what the cap held back."""
    known = {(row["name"], row["group"]): row for row in rows if row["check"] == "label_noise" and row["group"]}
    held = {row["group"]: row for row in rows if (row["check"], row["name"]) == ("removal_cap", "n_held_back")}
    told = []
    for (name, group), row in known.items():
        if name != "share_flagged" or not group.startswith("attr_"):
            continue
        risk = known.get(("mean_risk", group))
        if row["value"] is None:
            hidden = str((row["detail"] or {}).get("shown", "hidden"))
            few = {"share": "", "interval": "", "risk": "", "n": hidden, "held": ""}
            told.append({"group": group.removeprefix("attr_").replace("_", " ").replace("=", ": "), **few})
            continue
        told.append(
            {
                "group": group.removeprefix("attr_").replace("_", " ").replace("=", ": "),
                "share": percent(row["value"]),
                "interval": interval(row["low"], row["high"]),
                "risk": f"{risk['value']:.3f}" if risk else "",
                "n": f"{row['n']:,}",
                "held": f"{held[group]['value']:,.0f}" if group in held else "0",
            }
        )
    return sorted(told, key=lambda row: row["group"])


def confusion(release: LoadedRelease) -> str:
    """Return which class is taken for which, from flagged labels, as a heat map of the classes concerned."""
    found = release.findings.filter(pc.equal(release.findings["issue"], "mislabel"))
    found = found.filter(pc.fill_null(found["flagged"], False))  # noqa: FBT003 - pyarrow's fill value
    given, suggested = _given_labels(release, found["label_id"]).to_pylist(), found["suggested_label"].to_pylist()
    pairs = Counter(zip(given, suggested, strict=True))
    totals: Counter[str] = Counter()
    for (was, becomes), count in pairs.items():
        if was and becomes:
            totals[was] += count
            totals[becomes] += count
    if not totals:
        return ""
    kept = {name for name, _ in totals.most_common(N_MATRIX_CLASSES)}
    names = [name for name in release.manifest["classes"] if name in kept]
    cells = [[pairs.get((row, column), 0) for column in names] for row in names]
    return charts.matrix(names, cells, title="flagged labels: given class (rows) against suggested class (columns)")


def _given_labels(release: LoadedRelease, wanted: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the given label of each of the wanted label ids; null where there is none."""
    both = pa.concat_tables(
        [table.select(["label_id", "given_label"]) for table in (release.data, release.excluded)]
    )
    both = both.filter(pc.is_in(both["label_id"], value_set=pc.unique(wanted), skip_nulls=True))
    return both["given_label"].take(
        pc.index_in(wanted, value_set=both["label_id"].combine_chunks(), skip_nulls=True)
    )


# what is judged where whole labels are not: check, what is counted, what that is
WRONG_OF = (
    ("multi_label_noise", "answers", "a class of an image, there or not"),
    ("mask_noise", "regions", "connected parts of masks"),
)


def facts(
    release: LoadedRelease,
    rows: Sequence[Mapping[str, Any]],
    noise: Mapping[str, Any] | None,
    *,
    labels_judged: bool,
) -> list[tuple[str, str, str]]:
    """Return number, what it counts and, where there is more to say, a smaller line."""
    n_in = release.data.num_rows + release.excluded.num_rows
    n_images = pc.count_distinct(release.data["sample_id"]).as_py()
    n_images_in, n_labels_in = came_in(release)
    agreed = noise if noise and not noise["detail"].get("insufficient") else None
    spread = interval(agreed["low"], agreed["high"]) if agreed else "estimates disagree" if noise else ""
    audited = people.audited_rate(rows)
    share = percent(release.data.num_rows / n_in) if n_in else "none"
    return [
        (f"{n_images_in:,}", "images in", f"{n_labels_in:,} labels"),
        (f"{release.data.num_rows:,}", "rows released", f"{share} of them, {n_images:,} images"),
        (f"{release.excluded.num_rows:,}", "rows held back", ""),
        (f"{counted(release.data['action'])['relabel']:,}", "labels changed", ""),
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
            if (rate := one(rows, check, "noise_rate")) and rate["value"] is not None
        ),
        (f"{len(release.manifest['classes']):,}", "classes", ""),
    ]


def _wrong_fact(rate: Mapping[str, Any] | None, what: str, about: str) -> tuple[str, str, str]:
    return (percent(rate["value"]) if rate else "not known", f"of {what} wrong (estimate)", about)


def estimate(rows: Sequence[Mapping[str, Any]], noise: Mapping[str, Any]) -> dict[str, Any]:
    """Return the estimate of wrong labels, the rule behind it, and what the other methods say."""
    flagged = one(rows, "label_noise", "n_flagged")
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


def why_not(*rows: Mapping[str, Any] | None) -> str:
    """Return why there is no estimate, as the first of the statistics that says it."""
    for row in rows:
        if row is not None and row.get("outcome") not in {None, "pass"}:
            detail = row.get("detail") or {}
            return str(detail.get("why") or detail.get("message") or row["outcome"])
    return "the check did not run"


def evaluation(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return how the flags did against the known truth."""
    names = (
        ("precision", "precision", "of the flagged labels, how many are wrong"),
        ("recall", "recall", "of the wrong labels, how many are flagged"),
        ("f1", "F1", "the harmonic mean of both"),
        ("average_precision", "average precision", "of the ranking by risk, whatever the cut"),
    )
    told = []
    for name, label, meaning in names:
        row = one(rows, "evaluation", name)
        if row is not None and row["value"] is not None:
            spread = interval(row["low"], row["high"])
            told.append({"name": label, "value": percent(row["value"]), "interval": spread, "meaning": meaning})
    return told
