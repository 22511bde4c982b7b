"""What the report shows, computed from a released version alone: what it holds is what the page says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.manifest.read import LoadedRelease
from curate.policy import Policy
from curate.report import charts
from curate.report.wording import interval, percent, sentence, short_name
from curate.verdict_rows import KEEP, STRENGTH
from curate.verdicts import rule_of_each

N_MATRIX_CLASSES = 20
N_BARS = 40


def funnel(release: LoadedRelease) -> list[dict[str, Any]]:
    """Return what came in and what became of it, as bars."""
    actions = counted(release.data["action"])
    verdicts = release.excluded.filter(pc.equal(release.excluded["stage"], "verdict"))
    waiting = counted(verdicts["action"])
    n_ingest = release.excluded.num_rows - verdicts.num_rows
    rows = [
        {"label": "rows in", "value": release.data.num_rows + release.excluded.num_rows},
        {"label": "released", "value": release.data.num_rows},
    ]
    if set(actions) - {"keep"}:
        rows += [{"label": f"· {_RELEASED.get(name, name)}", "value": n} for name, n in actions.most_common()]
    rows += [{"label": _HELD.get(name, f"held back: {name}"), "value": n} for name, n in waiting.most_common()]
    if n_ingest:
        rows.append({"label": "could not be taken in", "value": n_ingest})
    return rows


def counted(column: pa.ChunkedArray) -> Counter[str]:
    """Return how often each value stands in a column, in the order in which they come."""
    return Counter({item["values"]: item["counts"] for item in pc.value_counts(column).to_pylist()})


def came_in(release: LoadedRelease) -> tuple[int, int]:
    """Return how many images and how many labels came in, those that could not be used included."""
    tables = (release.data, release.excluded)
    images = pa.chunked_array([chunk for table in tables for chunk in table["sample_id"].chunks], pa.string())
    n_labels = sum(len(table) - table["label_id"].null_count for table in tables)
    lost = release.excluded.filter(pc.equal(release.excluded["stage"], "ingest"))
    lost = lost.filter(pc.is_null(lost["label_id"]))
    kinds = Counter(lost["kind"].to_pylist())
    n_images = pc.count_distinct(images, mode="only_valid").as_py() + sum(
        kind == "image" and sample is None
        for kind, sample in zip(lost["kind"].to_pylist(), lost["sample_id"].to_pylist(), strict=True)
    )
    return n_images, n_labels + kinds.get("label", 0)


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
            hidden = (
                str(json.loads(row["detail"] or "{}").get("shown", "hidden"))
                if not isinstance(row["detail"], Mapping)
                else str(row["detail"].get("shown", "hidden"))
            )
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
    return sorted(told, key=lambda one: one["group"])


_RELEASED = {
    "keep": "as given",
    "relabel": "with another label",
    "soften": "with less weight",
    "review": "not reviewed yet",
}
_HELD = {"review": "waiting for review", "drop": "dropped"}


def reasons_out(release: LoadedRelease, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return why rows are not released: code, count, an example in words.

    A row is held by the strongest of what its findings ask for; what asks for less is no reason for its absence.
    """
    counted: Counter[str] = Counter()
    example: dict[str, tuple[Mapping[str, Any], str]] = {}  # code -> the first row that has it, and its finding
    asks = asked_actions(release)
    columns = ("reason_codes", "reasons", "uri", "row", "error_code", "reason_args")
    for row in release.excluded.select(columns).to_pylist():
        codes = row["reason_codes"] or ([row["error_code"]] if row["error_code"] else ["without_reason"])
        ids = row["reasons"] or [None] * len(codes)
        strongest = max((asks[one] for one in ids if one in asks), default=0)
        held = {
            c: one
            for one, c in reversed(list(zip(ids, codes, strict=False)))
            if asks.get(one, strongest) == strongest
        }
        for code, reason in held.items():
            counted[code] += 1
            example.setdefault(code, (row, reason or ""))
    texts = finding_texts(release.findings, {reason for _, reason in example.values()}, names)
    return [
        {
            "code": code.replace("_", " "),
            "n": n,
            "name": short_name(example[code][0]["uri"] or example[code][0]["row"] or ""),
            "text": texts.get(example[code][1]) or sentence(code, example[code][0]["reason_args"], names),
        }
        for code, n in counted.most_common()
    ]


def asked_actions(release: LoadedRelease) -> dict[str | None, int]:
    """Return how strong the action is that the policy asks for, by finding id: an index into `STRENGTH`."""
    rules = Policy.of_version(release.evidence["policy"]).all_rules()
    actions = [STRENGTH.index(rule.action) for rule in rules] + [KEEP]
    chosen = rule_of_each(release.findings, rules)
    return {one: actions[at] for one, at in zip(release.findings["finding_id"].to_pylist(), chosen, strict=True)}


def finding_texts(findings: pa.Table, wanted: AbstractSet[str], names: Mapping[str, str]) -> dict[str, str]:
    """Return the sentence of each of the wanted findings, by id."""
    columns = ("finding_id", "reason_code", "reason_args")
    shown = findings.filter(pc.is_in(findings["finding_id"], value_set=pa.array(sorted(wanted), pa.string())))
    rows = zip(*(shown[name].to_pylist() for name in columns), strict=True)
    return {identity: sentence(code, args, names) for identity, code, args in rows}


def confusion(release: LoadedRelease) -> str:
    """Return which class is taken for which, from flagged labels, as a heat map of the classes concerned."""
    found = release.findings.filter(pc.equal(release.findings["issue"], "mislabel"))
    found = found.filter(pc.fill_null(found["flagged"], False))  # noqa: FBT003 - pyarrow's fill value
    given, suggested = _given_labels(release, found["label_id"]).to_pylist(), found["suggested_label"].to_pylist()
    pairs = Counter(zip(given, suggested, strict=True))
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


def _given_labels(release: LoadedRelease, wanted: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the given label of each of the wanted label ids; null where there is none."""
    both = pa.concat_tables(
        [table.select(["label_id", "given_label"]) for table in (release.data, release.excluded)]
    )
    both = both.filter(pc.is_in(both["label_id"], value_set=pc.unique(wanted), skip_nulls=True))
    return both["given_label"].take(
        pc.index_in(wanted, value_set=both["label_id"].combine_chunks(), skip_nulls=True)
    )


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
            "note": interval(row["low"], row["high"]) or (f"of {row['n']:,}" if row["n"] is not None else ""),
        }
        for row in rows
        if (row["check"], row["name"]) == (check, name) and (row["group"] or "").startswith(prefix)
    ]
    ordered = sorted(chosen, key=lambda bar: (-(bar["value"] or 0.0), bar["label"]))
    return ordered[:N_BARS]


def held_back(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what the policy's cap on removals kept in, a sentence for each class and group."""
    return [
        f"The cap of {percent(row['detail']['max_share_out'])} kept {row['value']:,.0f} of "
        f"{row['detail']['n_asked_out']:,} suspects of {row['group'].removeprefix('attr_')} in, with less weight."
        for row in rows
        if (row["check"], row["name"]) == ("removal_cap", "n_held_back") and row["group"]
    ]


def class_counts(release: LoadedRelease) -> list[dict[str, Any]]:
    """Return how many rows of each class are released, in the order of the classes; an empty one is a bar of 0."""
    found = counted(release.data["released_label"])
    return [{"label": name, "value": found.get(name, 0)} for name in release.manifest["classes"]]


def split_counts(release: LoadedRelease) -> list[dict[str, Any]]:
    """Return how many rows of each split are released."""
    found = counted(release.data["split"])
    return [{"label": name or "none", "value": count} for name, count in sorted(found.items(), key=str)]


def issue_counts(release: LoadedRelease) -> list[dict[str, Any]]:
    """Return how many findings there are of each issue, flagged ones apart."""
    told = counted(release.findings["issue"])
    flagged = release.findings.filter(pc.fill_null(release.findings["flagged"], False))  # noqa: FBT003 - fill value
    cut = counted(flagged["issue"])
    return [{"issue": issue, "n": n, "n_flagged": cut.get(issue, 0)} for issue, n in told.most_common()]


def image_shares(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the issues of images that occur, most frequent first."""
    shares = [
        {
            "issue": row["name"].removeprefix("share_").replace("_", " "),
            "share": percent(row["value"]),
            "interval": interval(row["low"], row["high"]),
            "n": row["n"],
            "n_found": row["detail"].get("n_flagged"),
            "value": row["value"],
        }
        for row in rows
        if row["check"] == "image_quality" and row["name"].startswith("share_") and row["group"] is None
        if row["value"]
    ]
    return sorted(shares, key=lambda row: (-row["value"], row["issue"]))


def image_issues_absent(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the issues of images that were looked for and not found."""
    return [
        row["name"].removeprefix("share_").replace("_", " ")
        for row in rows
        if row["check"] == "image_quality" and row["name"].startswith("share_") and row["value"] == 0
    ]


def image_issues(release: LoadedRelease) -> list[str]:
    """Return the issues of the image_quality check that flagged something."""
    found = release.findings.filter(pc.equal(release.findings["check"], "image_quality"))
    found = found.filter(pc.fill_null(found["flagged"], False))  # noqa: FBT003 - pyarrow's fill value
    return sorted(set(found["issue"].to_pylist()))


def copies(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the shares of copies and of leaks by their route, each with its interval."""
    wanted = (
        ("duplicates", "share_exact", None, "a copy of another, byte for byte or pixel for pixel"),
        ("duplicates", "share_near", None, "close to another picture"),
        ("leakage", "share_of_samples", "route=exact", "a copy in another split"),
        ("leakage", "share_of_samples", "route=near", "a near copy in another split"),
        ("leakage", "share_of_samples", "route=group", "a member of its group in another split"),
        ("leakage", "share_of_samples", None, "any of these leaks"),
    )
    told = []
    for check, name, group, meaning in wanted:
        key = (check, name, group)
        row = next((r for r in rows if (r["check"], r["name"], r["group"]) == key), None)
        if row is not None and row["value"] is not None:
            spread = interval(row["low"], row["high"])
            told.append({"meaning": meaning, "share": percent(row["value"]), "interval": spread, "n": row["n"]})
    return told


def leaking_splits(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return which splits share how many pairs of pictures."""
    told = []
    for name, what in (("n_exact_pairs", "copied"), ("n_near_pairs", "nearly copied")):
        for row in rows:
            if (row["check"], row["name"]) == ("leakage", name) and row["value"]:
                pair = (row["group"] or "").removeprefix("splits=").replace("|", " and ")
                told.append(f"{row['value']:,.0f} {what} between {pair}")
    return told


def flawed_shares(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the share of boxes, masks and tracked boxes with each issue that occurs."""
    told = []
    for check, what in (
        ("box_sanity", "boxes"),
        ("mask_sanity", "masks"),
        ("track_sanity", "tracked boxes"),
        ("track_noise", "tracked boxes, by teachers"),
        ("mask_noise", "masks, by teachers"),
    ):
        for row in rows:
            if (row["check"], row["name"]) == (check, "share_with_finding") and row["group"] and row["value"]:
                issue = row["group"].removeprefix("issue=").replace("_", " ")
                spread = interval(row["low"], row["high"])
                told.append(
                    {"what": f"{what}: {issue}", "share": percent(row["value"]), "interval": spread, "n": row["n"]}
                )
    return told
