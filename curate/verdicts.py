"""Findings, a policy and the decisions of people → one verdict a row: what happens to it, and every reason.

A row is a given label, or a sample that has none (negative or unlabeled). Everything is vectorised: a finding or
a decision is first expanded to (entry, row) pairs, then reduced by row.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curate import schema
from curate.errors import InputError
from curate.policy import Policy, Rule

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

STRENGTH = ("keep", "soften", "relabel", "review", "drop")  # weakest first; the strongest wins
KEEP, SOFTEN, RELABEL, REVIEW, DROP = range(5)

STALE = "decision_stale"
WITHOUT_LABEL = "decision_without_label"
WITHOUT_SUGGESTION = "decision_without_suggestion"


def decide(
    samples: pa.Table,
    labels: pa.Table,
    findings: pa.Table,
    policy: Policy,
    decisions: pa.Table | None = None,
) -> pa.Table:
    """Return exactly one verdict for every label and for every sample without labels.

    Rules: each finding gets the action of the first rule of `policy.all_rules()` that matches (keep without one);
    a finding about a sample applies to all its labels; the strongest action wins. A relabel needs one suggested
    label that differs from the given one (and, for a finding about the whole sample, a single label to change),
    else the row goes to review. A row is softened or kept with the smallest weight that its winning rules name.

    People: the latest decision of the ledger (row order of `decisions`) wins over every rule. `keep` and `reject`
    (the suggestion is wrong) leave the given label; `accept` (the suggestion is right) takes `to_label`, else the
    suggestion of the finding it names, else the best one of the row; `relabel` takes `to_label`; `drop` drops;
    `note` decides nothing. A relabel or accept without any label goes to review and says so. A decision made for
    other bytes does not apply and is listed as `decision_stale`.

    Unreadable images (`samples.error_code` not null) are dropped whatever rules and people say.

    Args:
        samples: `schema.SAMPLES`, or the samples view; `content_sha256` and `error_code` are used where present.
        labels: `schema.LABELS`, or the labels view; each `sample_id` stands in `samples`.
        findings: `schema.FINDINGS`; those about rows that are not here are left alone.
        policy: rules and whether rows that wait for review are released.
        decisions: `schema.DECISIONS` in ledger order, or None.

    Returns:
        `schema.VERDICTS`, sorted by sample id and label id. `reasons` are finding and decision ids: decisions in
        ledger order, then findings by strength of their action, risk and id.

    Raises:
        InputError: a label names a sample that is not in `samples`, or an id stands twice.
    """
    rows = row_table(samples, labels)
    found = _Found.of(findings, rows, policy.all_rules())
    action, weight = found.strongest(rows.num_rows)
    suggestion = found.best_suggestion(rows)
    action[(action == RELABEL) & (suggestion < 0)] = REVIEW
    released = pc.if_else(
        pa.array(action == RELABEL), _take(findings["suggested_label"], suggestion), rows["label"].combine_chunks()
    )
    people = _People.of(decisions, rows) if decisions is not None and decisions.num_rows else None
    if people is not None:
        action, weight, released = people.overrule(rows, found, action, weight, released)
    unreadable = pc.is_valid(rows["error_code"]).to_numpy(zero_copy_only=False)
    action[unreadable] = DROP
    out = (action == DROP) | ((action == REVIEW) & (not policy.release_review))
    weight = np.where(out, 0.0, weight)
    reasons, codes = _reasons(rows, found, people, unreadable)
    columns = {
        "sample_id": rows["sample_id"],
        "label_id": rows["label_id"],
        "action": pa.array(STRENGTH, pa.string()).take(pa.array(action)),
        "released_label": pc.if_else(pa.array(out), pa.scalar(None, pa.string()), released),
        "weight": pa.array(weight),
        "risk": pa.array(np.where(unreadable, 1.0, found.risk_by_row(rows.num_rows))),
        "reasons": reasons,
        "reason_codes": codes,
    }
    return pa.table(columns, schema=schema.VERDICTS)


def row_table(samples: pa.Table, labels: pa.Table) -> pa.Table:
    """Return the rows that get a verdict: sample_id, label_id, label, content_sha256, error_code; sorted by id.

    Raises:
        InputError: a label names a sample that is not in `samples`, or an id stands twice.
    """
    _refuse_repeated(samples["sample_id"], "sample")
    _refuse_repeated(labels["label_id"], "label")
    at = pc.index_in(labels["sample_id"], value_set=samples["sample_id"].combine_chunks())
    if at.null_count:
        lost = labels["label_id"].filter(pc.is_null(at))
        msg = (
            f"{len(lost)} labels name a sample that is not in the samples table (first: label {lost[0].as_py()}). "
            "Pass the samples of every label that is passed."
        )
        raise InputError(msg)
    bare = pc.invert(pc.is_in(samples["sample_id"], value_set=labels["sample_id"].combine_chunks()))
    bare_at = np.flatnonzero(bare.to_numpy(zero_copy_only=False))
    sample_at = np.concatenate([at.to_numpy().astype(np.int64), bare_at])
    label_at = np.concatenate([np.arange(labels.num_rows), np.full(bare_at.size, -1)])
    columns = {
        "sample_id": _take(samples["sample_id"], sample_at),
        "label_id": _take(labels["label_id"], label_at),
        "label": _take(labels["label"], label_at),
        "content_sha256": _optional(samples, "content_sha256", sample_at),
        "error_code": _optional(samples, "error_code", sample_at),
    }
    return pa.table(columns).sort_by([("sample_id", "ascending"), ("label_id", "ascending")]).combine_chunks()


def rule_of_each(findings: pa.Table, rules: Sequence[Rule]) -> Ints:
    """Return for each finding the position of the first rule that matches, -1 without one."""
    issue, check = _codes(findings["issue"]), _codes(findings["check"])
    risk = _risk(findings)
    prob = pc.fill_null(findings["suggested_prob"], 0.0).to_numpy()
    flagged = pc.fill_null(pc.cast(findings["flagged"], pa.int8()), -1).to_numpy()
    chosen = np.full(findings.num_rows, -1, dtype=np.int64)
    for position, rule in enumerate(rules):
        match = (chosen < 0) & (risk >= rule.min_risk) & _matching(issue, rule.issue)
        if rule.check is not None:
            match &= _matching(check, rule.check)
        if rule.flagged is not None:
            match &= flagged == int(rule.flagged)
        if rule.min_suggested_prob > 0.0:
            match &= prob >= rule.min_suggested_prob
        chosen[match] = position
    return chosen


@dataclass(frozen=True, slots=True)
class _Found:
    """(finding, row) pairs sorted by row, then strength, then risk, then finding id."""

    findings: pa.Table
    finding: Ints
    row: Ints
    action: Ints
    weight: Floats
    risk: Floats

    @classmethod
    def of(cls, findings: pa.Table, rows: pa.Table, rules: Sequence[Rule]) -> _Found:
        chosen = rule_of_each(findings, rules)
        actions = np.array([STRENGTH.index(rule.action) for rule in rules] + [KEEP])[chosen]
        weights = np.array([rule.weight for rule in rules] + [1.0])[chosen]
        finding, row = _pairs(findings, rows)
        action, risk = actions[finding].astype(np.int64), _risk(findings)[finding]
        order = np.lexsort((_rank(findings["finding_id"])[finding], -risk, -action, row))
        finding, row, action, risk = finding[order], row[order], action[order], risk[order]
        return cls(findings, finding, row, action, weights[finding], risk)

    def strongest(self, n_rows: int) -> tuple[Ints, Floats]:
        action = np.zeros(n_rows, dtype=np.int64)
        np.maximum.at(action, self.row, self.action)
        weight = np.ones(n_rows)
        wins = self.action == action[self.row]
        np.minimum.at(weight, self.row[wins], self.weight[wins])
        return action, weight

    def risk_by_row(self, n_rows: int) -> Floats:
        risk = np.zeros(n_rows)
        np.maximum.at(risk, self.row, self.risk)
        return risk

    def best_suggestion(self, rows: pa.Table, *, relabel_only: bool = True) -> Ints:
        """Return for each row the finding whose suggested label differs from the given one and is most sure."""
        suggested = self.findings["suggested_label"].combine_chunks().take(pa.array(self.finding))
        given = rows["label"].combine_chunks().take(pa.array(self.row))
        # a rule never labels what nobody labeled; a person may accept a suggestion for it
        differs = pc.coalesce(pc.not_equal(suggested, given), pc.and_(pc.is_valid(suggested), not relabel_only))
        usable = differs.to_numpy(zero_copy_only=False).copy()
        usable &= self._one_label(rows)
        if relabel_only:
            usable &= self.action == RELABEL
        prob = pc.fill_null(self.findings["suggested_prob"], 0.0).to_numpy()[self.finding]
        rank = _rank(self.findings["finding_id"])[self.finding]
        order = np.flatnonzero(usable)
        order = order[np.lexsort((-rank[order], prob[order]))]  # ascending: the last write is the best
        best = np.full(rows.num_rows, -1, dtype=np.int64)
        best[self.row[order]] = self.finding[order]
        return best

    def _one_label(self, rows: pa.Table) -> NDArray[np.bool_]:
        """Whether the pair's finding is about this label, or about a sample that has only this one."""
        about_label = pc.is_valid(self.findings["label_id"]).to_numpy(zero_copy_only=False)
        code = _codes(rows["sample_id"])[0]
        alone = np.bincount(code, minlength=1)[code] == 1
        one: NDArray[np.bool_] = about_label[self.finding] | alone[self.row]
        return one


@dataclass(frozen=True, slots=True)
class _People:
    """(decision, row) pairs in ledger order."""

    decisions: pa.Table
    decision: Ints
    row: Ints
    stale: NDArray[np.bool_]
    unmet: NDArray[np.bool_]  # by row: the applied decision names no label

    @classmethod
    def of(cls, decisions: pa.Table, rows: pa.Table) -> _People:
        counts = np.flatnonzero(pc.not_equal(decisions["decision"], "note").to_numpy(zero_copy_only=False))
        decisions = decisions.take(pa.array(counts))
        decision, row = _pairs(decisions, rows)
        order = np.lexsort((decision, row))
        decision, row = decision[order], row[order]
        judged = decisions["content_sha256"].combine_chunks().take(pa.array(decision))
        current = rows["content_sha256"].combine_chunks().take(pa.array(row))
        stale = pc.fill_null(pc.not_equal(judged, current), False)  # noqa: FBT003 - pyarrow takes it by position
        n_rows = rows.num_rows
        return cls(
            decisions,
            decision,
            row,
            stale.to_numpy(zero_copy_only=False),
            np.zeros(n_rows, dtype=np.bool_),
        )

    def latest(self, n_rows: int) -> Ints:
        """Return for each row its latest decision that was made for these bytes, -1 without one."""
        last = np.full(n_rows, -1, dtype=np.int64)
        np.maximum.at(last, self.row[~self.stale], self.decision[~self.stale])
        return last

    def overrule(
        self, rows: pa.Table, found: _Found, action: Ints, weight: Floats, released: pa.Array
    ) -> tuple[Ints, Floats, pa.Array]:
        """Return action, weight and label after the decisions; marks in `unmet` those that name no label."""
        last = self.latest(rows.num_rows)
        decided = last >= 0
        kind = _take(self.decisions["decision"], last)
        given = rows["label"].combine_chunks()
        accepts, relabels, drops = (_equal(kind, word) for word in ("accept", "relabel", "drop"))
        wanted = _take(self.decisions["to_label"], last)
        wanted = pc.if_else(pa.array(accepts), pc.coalesce(wanted, self._suggested(found, rows, last)), wanted)
        takes = accepts | relabels
        self.unmet[:] = takes & ~pc.is_valid(wanted).to_numpy(zero_copy_only=False)
        same = pc.fill_null(pc.equal(wanted, given), False).to_numpy(zero_copy_only=False)  # noqa: FBT003
        verdict = np.full(rows.num_rows, KEEP, dtype=np.int64)
        verdict[takes & ~same] = RELABEL
        verdict[self.unmet] = REVIEW
        verdict[drops] = DROP
        person = pc.if_else(pa.array(verdict == RELABEL), wanted, given)
        return (
            np.where(decided, verdict, action),
            np.where(decided, 1.0, weight),
            pc.if_else(pa.array(decided), person, released),
        )

    def _suggested(self, found: _Found, rows: pa.Table, last: Ints) -> pa.Array:
        """Return for each row the label that an accept takes: of the finding it names, else the best one."""
        labels = found.findings["suggested_label"]
        ids = found.findings["finding_id"].combine_chunks()
        named = pc.index_in(_take(self.decisions["finding_id"], last), value_set=ids, skip_nulls=True)
        at = pc.fill_null(named, -1).to_numpy().astype(np.int64)
        best = found.best_suggestion(rows, relabel_only=False)
        return pc.coalesce(_take(labels, at), _take(labels, best))


def _reasons(
    rows: pa.Table, found: _Found, people: _People | None, unreadable: NDArray[np.bool_]
) -> tuple[pa.ListArray, pa.ListArray]:
    """Return the parallel lists of reason ids and reason codes: the scan's, then people's, then the findings'."""
    bad = np.flatnonzero(unreadable)
    bad_ids = [
        schema.stable_id("unreadable", sample) for sample in rows["sample_id"].take(pa.array(bad)).to_pylist()
    ]
    row, ids, codes = [bad], [pa.array(bad_ids, pa.string())], [_take(rows["error_code"], bad)]
    if people is not None:
        row.append(people.row)
        ids.append(_take(people.decisions["decision_id"], people.decision))
        codes.append(_decision_codes(people, rows.num_rows))
    row.append(found.row)
    ids.append(_take(found.findings["finding_id"], found.finding))
    codes.append(_take(found.findings["reason_code"], found.finding))
    all_rows = np.concatenate(row)
    order = pa.array(np.argsort(all_rows, kind="stable"))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(all_rows, minlength=rows.num_rows))])
    starts = pa.array(offsets.astype(np.int32))
    return (
        pa.ListArray.from_arrays(starts, pa.concat_arrays(ids).take(order)),
        pa.ListArray.from_arrays(starts, pa.concat_arrays(codes).take(order)),
    )


def _decision_codes(people: _People, n_rows: int) -> pa.Array:
    kind = _take(people.decisions["decision"], people.decision)
    code = pc.binary_join_element_wise("decision", kind, "_")
    unmet = people.unmet[people.row] & (people.latest(n_rows)[people.row] == people.decision)
    nothing = pc.if_else(pc.equal(kind, "accept"), WITHOUT_SUGGESTION, WITHOUT_LABEL)
    return pc.if_else(pa.array(people.stale), STALE, pc.if_else(pa.array(unmet), nothing, code))


def _pairs(entries: pa.Table, rows: pa.Table) -> tuple[Ints, Ints]:
    """Expand findings or decisions to (entry, row): one for a label, all rows of the sample without a label id."""
    by_label = pc.is_valid(entries["label_id"]).to_numpy(zero_copy_only=False)
    at = pc.index_in(entries["label_id"], value_set=rows["label_id"].combine_chunks(), skip_nulls=True)
    at = pc.fill_null(at, -1).to_numpy().astype(np.int64)
    hit = np.flatnonzero(by_label & (at >= 0))
    sample_code, distinct = _codes(rows["sample_id"])
    starts = np.searchsorted(sample_code, np.arange(len(distinct) + 1))  # rows are sorted: codes ascend
    sample = pc.index_in(entries["sample_id"], value_set=pa.array(distinct, pa.string()))
    sample = pc.fill_null(sample, -1).to_numpy().astype(np.int64)
    whole = np.flatnonzero(~by_label & (sample >= 0))
    first, n_rows = starts[sample[whole]], np.diff(starts)[sample[whole]]
    within = np.arange(n_rows.sum()) - np.repeat(np.cumsum(n_rows) - n_rows, n_rows)
    return (
        np.concatenate([hit, np.repeat(whole, n_rows)]),
        np.concatenate([at[hit], np.repeat(first, n_rows) + within]),
    )


def _codes(column: pa.ChunkedArray) -> tuple[Ints, list[str]]:
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary.to_pylist()


def _matching(codes: tuple[Ints, list[str]], pattern: str) -> NDArray[np.bool_]:
    index, words = codes
    hits = np.array([fnmatch.fnmatchcase(word, pattern) for word in words] or [False])
    return hits[index]


def _rank(ids: pa.ChunkedArray) -> Ints:
    rank = np.empty(len(ids), dtype=np.int64)
    rank[pc.sort_indices(ids).to_numpy()] = np.arange(len(ids))
    return rank


def _risk(findings: pa.Table) -> Floats:
    """Return the risks; one that is not a number counts as the worst, so that it is never passed over."""
    risk: Floats = np.nan_to_num(findings["risk"].to_numpy().astype(np.float64), nan=1.0)
    return risk


def _take(column: pa.ChunkedArray, at: Ints) -> pa.Array:
    """Return the values at `at`; null where `at` is negative."""
    return column.combine_chunks().take(pa.array(at, mask=at < 0))


def _optional(table: pa.Table, name: str, at: Ints) -> pa.Array:
    return _take(table[name], at) if name in table.column_names else pa.nulls(at.size, pa.string())


def _equal(column: pa.Array, word: str) -> NDArray[np.bool_]:
    same: NDArray[np.bool_] = pc.fill_null(pc.equal(column, word), False).to_numpy(zero_copy_only=False)  # noqa: FBT003
    return same


def _refuse_repeated(ids: pa.ChunkedArray, kind: str) -> None:
    n_repeated = len(ids) - pc.count_distinct(ids).as_py()
    if n_repeated:
        msg = f"Every {kind} needs an id of its own; {n_repeated} {kind} rows repeat an id that was already given."
        raise InputError(msg)
