"""Who labels how well, and who disagrees with whom: annotators against each other and against the teachers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from curate.check import Batches, Check, build_findings, build_statistics
from curate.checks.annotator_answers import COLUMNS, Answers, answers_of, columns_of, teachers_mean
from curate.checks.annotator_pairs import INSUFFICIENT, compared_pairs, known_or_why
from curate.checks.annotator_prone import StandsOut, stand_out
from curate.checks.emit import Fitted, score_by_label, summarize
from curate.statistics.agreement import fleiss_kappa, krippendorff_alpha
from curate.statistics.exact import share_interval
from curate.teachers.consensus import Consensus, error_rates, find_consensus
from curate.teachers.noise import Ints

NAME = "annotators"


@dataclass(frozen=True, slots=True)
class AnnotatorsParams:
    """What is reported.

    Attributes:
        classes: in the order of the probabilities; empty = the sorted distinct labels.
        min_labels: an annotator with fewer labels that can be held against others is not judged.
        min_shared: two annotators with fewer shared images are not compared.
        max_pairs: pairs that are reported, those that share most images.
        min_ratio: an annotator stands out on a class from this multiple of the average error on.
        min_ratio_low: and only where the lower end of the 95 % interval of that multiple is at least this.
    """

    classes: tuple[str, ...] = ()
    min_labels: int = 10
    min_shared: int = 10
    max_pairs: int = 200
    min_ratio: float = 2.0
    min_ratio_low: float = 1.5


def fit(batches: Batches, params: AnnotatorsParams) -> Fitted:
    """Hold every answer against all others of its image, and count."""
    views = [pa.table(batch.select(columns_of(batch.schema.names))) for batch in batches]
    table = pa.concat_tables(views) if views else None
    answers = answers_of(table, params.classes) if table is not None else None
    if table is None or answers is None:
        row = {"name": "n_annotators", "value": 0.0, "n": 0, "outcome": INSUFFICIENT}
        row["detail"] = {
            "why": "no label names its annotator, all are of one class, or an image has several classes"
        }
        return Fitted(build_findings(NAME, []), build_statistics(NAME, [row]))
    found = find_consensus(
        answers.image,
        answers.annotator,
        answers.label,
        n_images=len(answers.counts),
        n_classes=len(answers.classes),
        teachers=teachers_mean(table, answers),
    )
    rows, standing_out = _error_rates(answers, found, params)
    statistics = [*_whole(answers, found), *rows, *compared_pairs(answers, params.min_shared, params.max_pairs)]
    return Fitted(
        build_findings(NAME, [*_outvoted(answers, found), *_prone(answers, found, standing_out)]),
        build_statistics(NAME, statistics),
    )


def _whole(answers: Answers, found: Consensus) -> list[dict[str, Any]]:
    n_answers = answers.counts.sum(axis=1)
    alpha, kappa = krippendorff_alpha(answers.counts), fleiss_kappa(answers.counts)
    several = n_answers >= 2
    agreed = (answers.counts.max(axis=1) == n_answers)[several]
    low, high = share_interval(int(agreed.sum()), len(agreed))
    return [
        {"name": "n_annotators", "value": float(len(answers.names)), "n": len(answers.label)},
        {"name": "n_answers_per_image", "value": float(n_answers.mean()), "n": len(n_answers)},
        known_or_why("krippendorff_alpha", alpha, int(several.sum()), "no image has two answers"),
        known_or_why(
            "fleiss_kappa", kappa, len(n_answers), "images do not all have the same number of answers, two or more"
        ),
        known_or_why("share_unanimous", float(agreed.mean()) if len(agreed) else None, len(agreed), "as above")
        | ({"low": low, "high": high} if len(agreed) else {}),
        _rate_of_all(answers, found),
        known_or_why("consensus_quality", float(found.probs.max(axis=1).mean()), len(found.probs), ""),
    ]


def _rate_of_all(answers: Answers, found: Consensus) -> dict[str, Any]:
    """Return the rate that everybody's answers share; doubts of the others are no errors, so their mean is none."""
    judged = np.flatnonzero(found.has_reference)
    if not len(judged):
        return known_or_why("error_rate", None, 0, "nobody to hold answers against")
    rates = error_rates(
        found.own_prob[judged], np.zeros_like(judged), n_annotators=1, n_classes=len(answers.classes)
    )
    value, low, high = (float(ends[0]) for ends in rates)
    return known_or_why("error_rate", value, len(judged), "") | {"low": low, "high": high}


def _error_rates(
    answers: Answers, found: Consensus, params: AnnotatorsParams
) -> tuple[list[dict[str, Any]], dict[tuple[int, int], dict[str, Any]]]:
    """Return the error rate of each annotator and, by (annotator, class), those that stand out."""
    judged = found.has_reference
    n_by, wrong_by = _contradictions(answers, found)
    rate, low, high = error_rates(
        found.own_prob[judged],
        answers.annotator[judged],
        n_annotators=len(answers.names),
        n_classes=len(answers.classes),
    )
    rows: list[dict[str, Any]] = [
        {
            "name": "error_rate",
            "group": f"annotator={name}",
            "value": float(rate[who]),
            "low": float(low[who]),
            "high": float(high[who]),
            "n": int(n_by[who].sum()),
            "detail": {"n_contradicted": int(wrong_by[who].sum())},
        }
        for who, name in enumerate(answers.names)
        if n_by[who].sum() >= params.min_labels
    ]
    prone = stand_out(
        n_by, wrong_by, min_labels=params.min_labels, min_ratio=params.min_ratio, min_ratio_low=params.min_ratio_low
    )
    told = {(one.annotator, one.label): _told(one, answers) for one in prone}
    return [*rows, *(_prone_row(one, answers) for one in prone)], told


def _contradictions(answers: Answers, found: Consensus) -> tuple[Ints, Ints]:
    """Return (annotators, classes) of answers that can be judged, and of those that are contradicted.

    On a class that he gives, an answer counts as contradicted where all others of its image together find another
    class likeliest.
    """
    judged = found.has_reference
    wrong = judged & (found.others != answers.label)
    n_by, wrong_by = (np.zeros((len(answers.names), len(answers.classes)), dtype=np.int64) for _ in range(2))
    np.add.at(n_by, (answers.annotator[judged], answers.label[judged]), 1)
    np.add.at(wrong_by, (answers.annotator[wrong], answers.label[wrong]), 1)
    return n_by, wrong_by


def _prone_row(one: StandsOut, answers: Answers) -> dict[str, Any]:
    return {
        "name": "share_contradicted",
        "group": f"annotator={answers.names[one.annotator]},class={answers.classes[one.label]}",
        "value": one.n_wrong / one.n,
        "low": one.low,
        "high": one.high,
        "n": one.n,
        "detail": {"average": one.usual, "ratio": one.n_wrong / one.n / one.usual},
    }


def _told(one: StandsOut, answers: Answers) -> dict[str, Any]:
    """Return the words of the reason."""
    return {
        "annotator": answers.names[one.annotator],
        "label": answers.classes[one.label],
        "ratio": round(one.n_wrong / one.n / one.usual, 1),
        "ratio_low": round(one.low / one.usual, 1),
        "ratio_high": round(one.high / one.usual, 1),
        "n_wrong": one.n_wrong,
        "n": one.n,
        "average": round(one.usual, 3),
    }


def _outvoted(answers: Answers, found: Consensus) -> list[dict[str, Any]]:
    """Return a finding for each label that the consensus of its image contradicts, itself included."""
    n_answers = answers.counts.sum(axis=1)
    best = found.probs.argmax(axis=1)
    rows = []
    for row in np.flatnonzero((best[answers.image] != answers.label) & (n_answers[answers.image] > 1)).tolist():
        image = int(answers.image[row])
        prob = float(found.probs[image, best[image]])
        args = {
            "given": answers.classes[answers.label[row]],
            "suggested": answers.classes[best[image]],
            "n_agree": int(answers.counts[image, best[image]]),
            "n_answers": int(n_answers[image]),
            "quality": round(prob, 2),
        }
        rows.append(
            _finding(answers, row, "annotators_outvote", 1.0 - float(found.probs[image, answers.label[row]]), args)
            | {"suggested_label": args["suggested"], "suggested_prob": prob, "flagged": True}
        )
    return rows


def _prone(
    answers: Answers, found: Consensus, standing_out: dict[tuple[int, int], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return a finding for each doubted label of an annotator who stands out on its class."""
    rows = []
    doubted = found.has_reference & (found.others != answers.label)
    for row in np.flatnonzero(doubted).tolist():
        args = standing_out.get((int(answers.annotator[row]), int(answers.label[row])))
        if args is not None:
            rows.append(_finding(answers, row, "annotator_error_prone", 1.0 - float(found.own_prob[row]), args))
    return rows


def _finding(answers: Answers, row: int, issue: str, risk: float, args: dict[str, Any]) -> dict[str, Any]:
    return {
        "issue": issue,
        "sample_id": answers.sample_ids[row],
        "label_id": answers.label_ids[row],
        "risk": min(1.0, max(0.0, risk)),
        "reason_code": issue,
        "reason_args": args,
    }


CHECK = Check(
    name=NAME,
    version=3,
    view="annotations",
    needs=COLUMNS,
    scope="dataset",
    issues=("annotators_outvote", "annotator_error_prone"),
    statistics=(
        "n_annotators",
        "n_answers_per_image",
        "krippendorff_alpha",
        "fleiss_kappa",
        "share_unanimous",
        "consensus_quality",
        "error_rate",
        "share_contradicted",
        "share_disagreement",
        "cohen_kappa",
    ),
    params=AnnotatorsParams(),
    fit=fit,
    score=score_by_label,
    summarize=summarize,
)
