"""Responsible-AI properties (Croissant RAI 1.0): what the release knows, what people said, and "unknown" for the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from curate.describe.facts import UNKNOWN, Facts
from curate.manifest.verify import NOT_PROMISED
from curate.reasons import render

KEYS = (
    "dataCollection",
    "dataCollectionType",
    "dataCollectionMissingData",
    "dataCollectionRawData",
    "dataCollectionTimeframe",
    "dataImputationProtocol",
    "dataPreprocessingProtocol",
    "dataManipulationProtocol",
    "dataAnnotationProtocol",
    "dataAnnotationPlatform",
    "dataAnnotationAnalysis",
    "annotationsPerItem",
    "annotatorDemographics",
    "machineAnnotationTools",
    "dataBiases",
    "dataUseCases",
    "dataLimitations",
    "dataSocialImpact",
    "personalSensitiveInformation",
    "dataReleaseMaintenancePlan",
)


def rai(facts: Facts) -> dict[str, Any]:
    """Return `rai:KEY` -> text or texts for every key; a key that nobody knows says "unknown"."""
    known = {**_measured(facts), **_said(facts.about)}
    return {f"rai:{key}": known.get(key) or UNKNOWN for key in KEYS}


def _said(about: Mapping[str, Any]) -> dict[str, Any]:
    plain = {
        "dataCollection": about.get("collection"),
        "dataCollectionType": about.get("collection_types"),
        "dataCollectionTimeframe": timeframe(about),
        "dataAnnotationProtocol": about.get("annotation"),
        "annotatorDemographics": about.get("annotators"),
        "dataUseCases": use_cases(about),
        "dataSocialImpact": about.get("social_impact"),
        "dataReleaseMaintenancePlan": about.get("maintenance"),
    }
    return {key: value for key, value in plain.items() if value}


def timeframe(about: Mapping[str, Any]) -> list[str]:
    """Return the first and the last day of collection, as far as they were said."""
    return [about[name] for name in ("collected_from", "collected_to") if about.get(name)]


def use_cases(about: Mapping[str, Any]) -> list[str]:
    """Return what the dataset is for and what it must not be used for, as people said."""
    return [*about.get("uses", []), *(f"Not for: {one}" for one in about.get("not_for", []))]


def _measured(facts: Facts) -> dict[str, Any]:
    return {
        "dataCollectionMissingData": missing_data(facts),
        "dataCollectionRawData": (
            "Pixels are not part of the release: each row names its image by a path relative to its source and by the "
            "sha256 of its bytes."
        ),
        "dataImputationProtocol": imputation(facts),
        "dataPreprocessingProtocol": preprocessing(facts),
        "dataManipulationProtocol": manipulation(facts),
        "dataAnnotationPlatform": platforms(facts),
        "dataAnnotationAnalysis": annotation_analysis(facts),
        "annotationsPerItem": annotations_per_item(facts),
        "machineAnnotationTools": machine_tools(facts),
        "dataBiases": biases(facts),
        "dataLimitations": limitations(facts),
        "personalSensitiveInformation": personal_data(facts),
    }


def missing_data(facts: Facts) -> str:
    """Return how much of the input is not in the release, and why."""
    counts = facts.counts
    why = ", ".join(f"{n:,} {code.replace('_', ' ')}" for code, n in facts.reasons.items())
    told = f"{counts['n_excluded']:,} of {counts['n_in']:,} input rows are not released"
    return f"{told} ({why}); they stand in excluded/ with every reason." if why else f"{told}."


def imputation(facts: Facts) -> str:
    """Return what happened to labels that were missing or doubted."""
    bare = facts.labels.get(None, 0)
    return (
        f"No missing label was filled in: {bare:,} released rows have none. {facts.actions.get('relabel', 0):,} given "
        f"labels were replaced (released_label beside given_label)."
    )


def preprocessing(facts: Facts) -> list[str]:
    """Return the steps before the release."""
    checks = sorted({one["check"] for one in facts.statistics if one["name"] == "ran"})
    told = [f"Checked by curate {facts.manifest['versions']['curate']}: {', '.join(checks)}."]
    return [*([facts.about["preprocessing"]] if facts.about.get("preprocessing") else []), *told]


def manipulation(facts: Facts) -> str:
    """Return what the policy did to rows."""
    by_action = facts.counts["by_action"]
    told = ", ".join(f"{by_action.get(action, 0):,} {action}" for action in by_action)
    return f"Verdicts by the policy in evidence/policy.json: {told}. Every row names its reasons."


def platforms(facts: Facts) -> list[str]:
    """Return where labels were given or reviewed."""
    n_decisions = facts.manifest["tables"]["decisions"]["rows"]
    reviewed = [f"FiftyOne App, with curate: {n_decisions:,} decisions of reviewers stand"] if n_decisions else []
    return [*facts.about.get("annotation_platforms", []), *reviewed]


def annotation_analysis(facts: Facts) -> list[str]:
    """Return how many given labels are wrong: what an audit says, else what teachers do, as far as they agree."""
    audited = facts.statistic("audit", "noise_rate")
    if audited is not None and audited["value"] is not None:
        return [f"Share of wrong given labels, by people who looked at a sample (audit): {_rate(audited)}."]
    noise = facts.statistic("label_noise", "noise_rate")
    if noise is None or noise["value"] is None:
        return []
    told = _not_known(facts, noise) or _rate(noise)
    return [f"Share of wrong given labels, estimated from teachers' disagreement: {told}."]


def _not_known(facts: Facts, noise: Mapping[str, Any]) -> str:
    """Return why the rate that stands in the release is none to go by; "" where it is one."""
    detail = json.loads(noise.get("detail") or "{}")
    estimates = facts.values("label_noise", "noise_rate_estimate")
    if estimates and detail.get("estimates_agree") is False:
        return f"not known: the estimates disagree (from {estimates[0]:.1%} to {estimates[-1]:.1%})"
    return f"not known: {detail['insufficient']}" if detail.get("insufficient") else ""


def _rate(row: Mapping[str, Any]) -> str:
    interval = ""
    if row["low"] is not None and row["high"] is not None:
        interval = f" (95 % interval {float(row['low']):.1%} to {float(row['high']):.1%})"
    return f"{float(row['value']):.1%}{interval}"


def annotations_per_item(facts: Facts) -> str:
    """Return how many labels an image has."""
    least, mean, most = facts.labels_per_image
    who = f"{facts.n_annotators:,} named annotators" if facts.n_annotators else "annotators are not named"
    told = f"{least}" if least == most else f"{least} to {most}, {mean:.2f} on average"
    return f"Released labels an image: {told}; {who}."


def machine_tools(facts: Facts) -> list[str]:
    """Return the teachers whose probabilities stand beside the labels."""
    return [f"{one['name']} ({one.get('kind') or 'teacher'})" for one in facts.teachers]


def biases(facts: Facts) -> list[str]:
    """Return known biases, and what balance checks found; nothing measured is said to be so."""
    looked_at = [
        one for one in facts.gates if str(one["statistic"]).startswith(("demographic", "attribute", "class_"))
    ]
    found = [_gate_text(one) for one in looked_at if one["outcome"] in {"fail", "warn"}]
    applies = facts.statistic("demographic_balance", "applies")
    if applies is not None and not applies["value"]:
        found.append("Balance between groups of people was not measured: no attribute is declared.")
    return [*facts.about.get("biases", []), *found]


def limitations(facts: Facts) -> list[str]:
    """Return known limitations, gates that did not pass, and what a release never promises."""
    open_gates = [_gate_text(one) for one in facts.gates if one["outcome"] != "pass"]
    shown = [*open_gates[:20], *([f"and {len(open_gates) - 20:,} more"] if len(open_gates) > 20 else [])]
    return [*facts.about.get("limitations", []), *shown, f"Not promised: {NOT_PROMISED}."]


def personal_data(facts: Facts) -> list[str]:
    """Return what people said of personal data, and what of it stands in the release."""
    said = [facts.about["personal_data"]] if facts.about.get("personal_data") else []
    keyed = (
        [f"{facts.n_subjects_keyed:,} rows carry a keyed hash of who is shown."] if facts.n_subjects_keyed else []
    )
    named = [f"Attributes in the release: {', '.join(facts.attributes)}."] if facts.attributes else []
    return [*said, *keyed, *named]


def _gate_text(row: Mapping[str, Any]) -> str:
    if row.get("reason_code"):
        return render(row["reason_code"], row.get("reason_args"))
    group = f" ({row['group']})" if row.get("group") else ""
    return f"{row['statistic']}{group}: {row['outcome']}"
