"""What came in, what became of it and why: the section In and out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.manifest.read import LoadedRelease
from curate.policy import Policy
from curate.report.content import counted
from curate.report.wording import percent, sentence, short_name
from curate.verdict_rows import KEEP, STRENGTH
from curate.verdicts import rule_of_each

_RELEASED = {
    "keep": "as given",
    "relabel": "with another label",
    "soften": "with less weight",
    "review": "not reviewed yet",
}
_HELD = {"review": "waiting for review", "drop": "dropped"}


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


def reasons_out(release: LoadedRelease, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return why rows are not released: code, count, an example in words.

    A row is held by the strongest of what its findings ask for; what asks for less is no reason for its absence.
    """
    n_of: Counter[str] = Counter()
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
            n_of[code] += 1
            example.setdefault(code, (row, reason or ""))
    texts = finding_texts(release.findings, {reason for _, reason in example.values()}, names)
    return [
        {
            "code": code.replace("_", " "),
            "n": n,
            "name": short_name(example[code][0]["uri"] or example[code][0]["row"] or ""),
            "text": texts.get(example[code][1]) or sentence(code, example[code][0]["reason_args"], names),
        }
        for code, n in n_of.most_common()
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


def held_back(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what the policy's cap on removals kept in, a sentence for each class and group."""
    return [
        f"The cap of {percent(row['detail']['max_share_out'])} kept {row['value']:,.0f} of "
        f"{row['detail']['n_asked_out']:,} suspects of {row['group'].removeprefix('attr_')} in, with less weight."
        for row in rows
        if (row["check"], row["name"]) == ("removal_cap", "n_held_back") and row["group"]
    ]
