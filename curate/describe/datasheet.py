"""A datasheet after Gebru et al., "Datasheets for Datasets", CACM 64(12), 2021.

Their questions in short, answered from the release and from what people said in the spec; the rest is "Not recorded.".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from curate.describe import rai
from curate.describe.facts import Facts

NOT_RECORDED = "Not recorded."

Answer = Callable[[Facts], str | Sequence[str] | None]


def _said(*keys: str) -> Answer:
    """Return an answer that people gave in the spec."""

    def answer(facts: Facts) -> list[str]:
        found = [facts.about[key] for key in keys if facts.about.get(key)]
        return [line for one in found for line in (one if isinstance(one, list) else [str(one)])]

    return answer


def _nothing(_: Facts) -> None:
    return None


def _creators(facts: Facts) -> list[str]:
    return [one["name"] for one in facts.about.get("creators", [])]


def _instances(facts: Facts) -> str:
    tasks = ", ".join(f"{task or 'no label'}: {n:,}" for task, n in facts.tasks.items())
    return f"Images, and labels of them. Rows by task: {tasks}."


def _how_many(facts: Facts) -> str:
    return f"{facts.n_images:,} images; {facts.counts['n_released']:,} released rows."


def _labels(facts: Facts) -> str:
    n_seen, n_declared = len([label for label in facts.labels if label is not None]), len(facts.manifest["classes"])
    return f"{n_seen:,} classes occur among {n_declared:,} declared. {rai.annotations_per_item(facts)}"


def _splits(facts: Facts) -> str:
    told = ", ".join(f"{split or 'none'}: {n:,} rows" for split, n in facts.splits.items())
    return f"{told}. The column `split` of data/ says which."


def _errors(facts: Facts) -> list[str]:
    findings = facts.manifest["tables"]["findings"]["rows"]
    return [
        *rai.annotation_analysis(facts),
        f"{findings:,} findings stand in findings/, each with risk and reason.",
    ]


def _columns(facts: Facts) -> str:
    return f"A row of data/ has the columns {', '.join(facts.schemas['data'].names)}; no pixels."


def _self_contained(facts: Facts) -> str:
    return (
        "No: rows name images by path and sha256 of their source "
        + ", ".join(str(source) for source in facts.sources)
        + "; pixels are not part of the release."
    )


def _timeframe(facts: Facts) -> str | None:
    days = rai.timeframe(facts.about)
    return " to ".join(days) if days else None


def _raw(_: Facts) -> str:
    return (
        "Given labels stand beside released ones (given_label, given_bbox, given_track_id); what was taken out stands in "
        "excluded/."
    )


def _software(facts: Facts) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(facts.manifest["versions"].items()))
    return f"Yes: {versions}."


def _license(facts: Facts) -> str:
    return ", ".join(facts.license)


def _published(facts: Facts) -> str | None:
    return facts.at and f"{facts.at[:10]}, as v{facts.number} ({facts.id[:12]})."


def _older(facts: Facts) -> str:
    parents = ", ".join(parent[:12] for parent in facts.parents) or "none"
    return f"Versions are immutable and stay, unless rows are erased on request. Version before: {parents}."


SECTIONS: Mapping[str, Sequence[tuple[str, Answer]]] = {
    "Motivation": (
        ("For what purpose was it made?", _said("purpose")),
        ("Who made it?", _creators),
        ("Who paid for it?", _said("funding")),
    ),
    "Composition": (
        ("What do the instances stand for?", _instances),
        ("How many are there?", _how_many),
        ("Is it all there is, or a sample of a larger set?", _nothing),
        ("What does an instance hold?", _columns),
        ("Does each have a label or a target?", _labels),
        ("Is anything missing?", rai.missing_data),
        ("Are relations between instances made explicit?", _nothing),
        ("Are there recommended splits?", _splits),
        ("Are there errors, noise or redundancies?", _errors),
        ("Does it stand alone, or rely on what is elsewhere?", _self_contained),
        ("Does it hold anything confidential?", _nothing),
        ("Does it hold anything that may offend or frighten?", _nothing),
        ("Does it name groups of people?", lambda facts: list(facts.attributes) or None),
        ("Can individuals be identified?", rai.personal_data),
        ("Does it hold sensitive data?", _said("personal_data")),
    ),
    "Collection": (
        ("How was it acquired?", _said("collection")),
        ("By what means?", _said("collection_types")),
        ("If it is a sample, how was it drawn?", _nothing),
        ("Who collected it, and how were they paid?", _nothing),
        ("Over what time?", _timeframe),
        ("Was there an ethical review?", _nothing),
        ("Was it collected from the people themselves?", _nothing),
        ("Were they told, did they consent, can they withdraw?", _said("consent")),
        ("Was the effect on them looked into?", _said("social_impact")),
    ),
    "Preprocessing, cleaning, labeling": (
        (
            "What was done?",
            lambda facts: [*rai.preprocessing(facts), rai.manipulation(facts), rai.imputation(facts)],
        ),
        ("How were labels given?", _said("annotation", "annotators")),
        ("Where were labels given or reviewed?", rai.platforms),
        ("Which machines had a say?", rai.machine_tools),
        ("Was the raw data kept?", _raw),
        ("Is the software available?", _software),
    ),
    "Uses": (
        ("What has it been used for?", _nothing),
        ("What is it fit for, and what not?", lambda facts: rai.use_cases(facts.about)),
        (
            "What may make later uses unfair or harmful?",
            lambda facts: [*rai.biases(facts), *rai.limitations(facts)],
        ),
    ),
    "Distribution": (
        ("Under which license?", _license),
        ("When was it released?", _published),
        ("Where is it?", _said("url")),
        ("How is it cited?", _said("citation")),
        ("Are there restrictions by third parties or by law?", _nothing),
    ),
    "Maintenance": (
        ("Who looks after it, and how are they reached?", _said("maintenance")),
        ("Is there an erratum?", lambda facts: f"The log and `curate diff` say what changed. {_older(facts)}"),
        ("Will it be updated?", _nothing),
        ("How long may data of persons be kept?", _nothing),
        ("Do older versions stay?", _older),
        ("Can others extend it?", _nothing),
    ),
}


def datasheet(facts: Facts) -> str:
    """Return DATASHEET.md: every question, with an answer or "Not recorded."."""
    lines = [f"# Datasheet of {facts.title}", "", f"v{facts.number} (`{facts.id}`), made by `curate describe`.", ""]
    for section, questions in SECTIONS.items():
        lines += [f"## {section}", ""]
        for question, answer in questions:
            lines += [f"**{question}**", "", *_shown(answer(facts)), ""]
    return "\n".join(lines)


def _shown(answer: str | Sequence[str] | None) -> list[str]:
    if not answer:
        return [NOT_RECORDED]
    return [answer] if isinstance(answer, str) else [f"- {line}" for line in answer]
