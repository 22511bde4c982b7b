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

from curate import schema
from curate.check import CheckResult
from curate.policy import Policy, Rule
from curate.teachers.regions.doubt import share_in_doubt
from curate.verdict_boxes import answered, open_places
from curate.verdict_limits import hold_back, is_mislabel, limited
from curate.verdict_pairs import one_stays
from curate.verdict_people import People
from curate.verdict_regions import CHECK as REGIONS_CHECK
from curate.verdict_regions import answered_regions
from curate.verdict_rows import (
    DROP,
    KEEP,
    RELABEL,
    REVIEW,
    STRENGTH,
    Floats,
    Ints,
    Mask,
    dictionary_codes,
    equals_word,
    pairs_of,
    rank_of,
    row_table,
    take_or_null,
)


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
    What teachers say alone is bounded, see `verdict_limits`: by the cap, and no drop while noise rates disagree. Of boxes
    that repeat each other one stays, see `verdict_pairs`.
    A row that waits for review is not released; with `release_review: soft` a classification label for which only
    mislabel findings ask for review is, without a label: nobody vouches for one, the soft label says what is known. A
    mask of which only regions are in doubt is released without these regions, see `manifest.vouched`.

    People: the latest decision of the ledger (row order of `decisions`) wins over every rule. `keep` and `reject`
    (the suggestion is wrong) leave the given label; `accept` (the suggestion is right) takes `to_label`, else the
    suggestion of the finding it names, else the best one of the row; `relabel` takes `to_label`; `drop` drops;
    `note` decides nothing. A relabel or accept without any label, or of an image with several labels that does not
    say which, goes to review and says so. A decision made for other bytes does not apply and is listed as
    `decision_stale`; one that was withdrawn is as if it had never been made.

    A finding that a box (or one class of several) is missing says nothing against the labels that are there: where its
    rule asks for review, the image is released and the place is one to ignore, see `manifest.ignore`; with
    `missing_labels: hold_back` the whole image waits. A box that a person put there, accepted or refused, answers it: it
    counts no more, see `verdict_boxes`. What a person decided about one region of a mask answers the findings about it
    and decides nothing else of the label, see `verdict_regions`.

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
    people = People.of(decisions if decisions is not None else schema.empty(schema.DECISIONS), rows)
    settled = answered(findings, people.decisions, rows) | answered_regions(findings, people.decisions, rows)
    findings = findings.filter(pa.array(~settled))
    found = _Found.of(findings, rows, policy, people.drops)
    action, weight = found.strongest(rows.num_rows)
    suggestion = found.best_suggestion(rows)
    action[(action == RELABEL) & (suggestion < 0)] = REVIEW
    released = pc.if_else(
        pa.array(action == RELABEL),
        take_or_null(findings["suggested_label"], suggestion),
        rows["label"].combine_chunks(),
    )
    suggested = found.accepted_label(rows, take_or_null(people.decisions["finding_id"], people.last))
    action, weight, released = people.overrule(rows, suggested, action, weight, released)
    unreadable = pc.is_valid(rows["error_code"]).to_numpy(zero_copy_only=False)
    action[unreadable] = DROP
    soft_only = (action == REVIEW) & found.doubted_only(rows) & (people.last < 0) & policy.releases_softly
    in_part = (action == REVIEW) & (people.last < 0) & (policy.release_review == "soft")
    if in_part.any():
        in_part &= found.doubted_in_part(rows)
    leaves = soft_only | in_part
    out = (action == DROP) | ((action == REVIEW) & ~leaves & (policy.release_review is not True))
    weight = np.where(out, 0.0, np.where(leaves, 1.0, weight))
    reasons, codes = _reasons(rows, found, people, suggested, unreadable)
    columns = {
        "sample_id": rows["sample_id"],
        "label_id": rows["label_id"],
        "action": pa.array(STRENGTH, pa.string()).take(pa.array(action)),
        "released_label": pc.if_else(pa.array(out | soft_only), pa.scalar(None, pa.string()), released),
        "weight": pa.array(weight),
        "risk": pa.array(np.where(unreadable, 1.0, found.risk_by_row(rows.num_rows))),
        "reasons": reasons,
        "reason_codes": codes,
    }
    return pa.table(columns, schema=schema.VERDICTS)


def held_back(samples: pa.Table, labels: pa.Table, findings: pa.Table, policy: Policy) -> CheckResult:
    """Return the findings of what the policy's cap keeps in; give them to `decide` with the others.

    Args:
        samples: the samples view, `attr_*` where groups are declared.
        labels: `schema.LABELS`.
        findings: `schema.FINDINGS`.
        policy: its rules say what would leave, its cap how much of it may.
    """
    rules = policy.all_rules()
    action = np.array([STRENGTH.index(rule.action) for rule in rules] + [KEEP])[rule_of_each(findings, rules)]
    return hold_back(labels, samples, findings, action, policy)


def rule_of_each(findings: pa.Table, rules: Sequence[Rule]) -> Ints:
    """Return for each finding the position of the first rule that matches, -1 without one."""
    issue, check = dictionary_codes(findings["issue"]), dictionary_codes(findings["check"])
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
    def of(cls, findings: pa.Table, rows: pa.Table, policy: Policy, dropped: Mask) -> _Found:
        rules = policy.all_rules()
        chosen = rule_of_each(findings, rules)
        actions = np.array([STRENGTH.index(rule.action) for rule in rules] + [KEEP])[chosen]
        if (
            policy.missing_labels == "ignore"
        ):  # the place waits (`manifest.ignore`), the labels that are there do not
            actions[open_places(findings) & (actions == REVIEW)] = KEEP
        weights = np.array([rule.weight for rule in rules] + [1.0])[chosen]
        finding, row = pairs_of(findings, rows)
        risk = _risk(findings)[finding]
        action, weight = limited(findings, finding, row, actions[finding].astype(np.int64), weights[finding])
        action = one_stays(findings, finding, row, action, rows["label_id"], dropped)
        order = np.lexsort((rank_of(findings["finding_id"])[finding], -risk, -action, row))
        return cls(findings, finding[order], row[order], action[order], weight[order], risk[order])

    def strongest(self, n_rows: int) -> tuple[Ints, Floats]:
        action = np.zeros(n_rows, dtype=np.int64)
        np.maximum.at(action, self.row, self.action)
        weight = np.ones(n_rows)
        wins = self.action == action[self.row]
        np.minimum.at(weight, self.row[wins], self.weight[wins])
        return action, weight

    def doubted_only(self, rows: pa.Table) -> Mask:
        """Whether nothing but mislabel findings asks for the strongest action on a classification label."""
        strongest, _ = self.strongest(rows.num_rows)
        mislabel = is_mislabel(self.findings)[self.finding]
        other = np.zeros(rows.num_rows, dtype=bool)
        other[self.row[(self.action == strongest[self.row]) & ~mislabel]] = True
        one_class: Mask = equals_word(rows["task"].combine_chunks(), "classification")
        return one_class & ~other

    def doubted_in_part(self, rows: pa.Table) -> Mask:
        """Whether nothing but regions asks for the strongest action on a mask, and they leave a part of it."""
        strongest, _ = self.strongest(rows.num_rows)
        asks = self.action == strongest[self.row]
        share = np.ones(self.findings.num_rows)
        region = equals_word(self.findings["check"].combine_chunks(), REGIONS_CHECK)
        for at in np.unique(self.finding[asks & region[self.finding]]).tolist():
            share[at] = share_in_doubt(self.findings["reason_args"][at].as_py())
        total = np.bincount(self.row[asks], weights=share[self.finding[asks]], minlength=rows.num_rows)
        masks: Mask = equals_word(rows["task"].combine_chunks(), "segmentation")
        return masks & (total < 1.0)

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
        rank = rank_of(self.findings["finding_id"])[self.finding]
        order = np.flatnonzero(usable)
        order = order[np.lexsort((-rank[order], prob[order]))]  # ascending: the last write is the best
        best = np.full(rows.num_rows, -1, dtype=np.int64)
        best[self.row[order]] = self.finding[order]
        return best

    def accepted_label(self, rows: pa.Table, named: pa.Array) -> pa.Array:
        """Return for each row the label that an accept takes: of the finding it names, else the best one."""
        ids = self.findings["finding_id"].combine_chunks()
        at = pc.fill_null(pc.index_in(named, value_set=ids, skip_nulls=True), -1).to_numpy().astype(np.int64)
        labels = self.findings["suggested_label"]
        best = self.best_suggestion(rows, relabel_only=False)
        return pc.coalesce(take_or_null(labels, at), take_or_null(labels, best))

    def _one_label(self, rows: pa.Table) -> Mask:
        """Whether the pair's finding is about this label, or about a sample that has only this one."""
        about_label = pc.is_valid(self.findings["label_id"]).to_numpy(zero_copy_only=False)
        code = dictionary_codes(rows["sample_id"])[0]
        alone = np.bincount(code, minlength=1)[code] == 1
        one: Mask = about_label[self.finding] | alone[self.row]
        return one


def _reasons(
    rows: pa.Table, found: _Found, people: People, suggested: pa.Array, unreadable: Mask
) -> tuple[pa.ListArray, pa.ListArray]:
    """Return the parallel lists of reason ids and reason codes: the scan's, then people's, then the findings'."""
    bad = np.flatnonzero(unreadable)
    bad_ids = [
        schema.stable_id("unreadable", sample) for sample in rows["sample_id"].take(pa.array(bad)).to_pylist()
    ]
    row, ids, codes = [bad], [pa.array(bad_ids, pa.string())], [take_or_null(rows["error_code"], bad)]
    row += [people.row, found.row]
    ids.append(take_or_null(people.decisions["decision_id"], people.decision))
    codes.append(people.reason_codes(rows, suggested))
    ids.append(take_or_null(found.findings["finding_id"], found.finding))
    codes.append(take_or_null(found.findings["reason_code"], found.finding))
    all_rows = np.concatenate(row)
    order = pa.array(np.argsort(all_rows, kind="stable"))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(all_rows, minlength=rows.num_rows))])
    starts = pa.array(offsets.astype(np.int32))
    return (
        pa.ListArray.from_arrays(starts, pa.concat_arrays(ids).take(order)),
        pa.ListArray.from_arrays(starts, pa.concat_arrays(codes).take(order)),
    )


def _matching(codes: tuple[Ints, list[str]], pattern: str) -> Mask:
    index, words = codes
    hits = np.array([fnmatch.fnmatchcase(word, pattern) for word in words] or [False])
    return hits[index]


def _risk(findings: pa.Table) -> Floats:
    """Return the risks; one that is not a number counts as the worst, so that it is never passed over."""
    risk: Floats = np.nan_to_num(findings["risk"].to_numpy().astype(np.float64), nan=1.0)
    return risk
