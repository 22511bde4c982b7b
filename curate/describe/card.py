"""The dataset card: README.md with Hugging Face front matter, made of the facts of a version."""

from __future__ import annotations

import re
from typing import Any

import yaml

from curate.describe import rai
from curate.describe.facts import UNKNOWN, Facts

_TASKS = {
    "classification": "image-classification",
    "detection": "object-detection",
    "segmentation": "image-segmentation",
    "tracking": "object-detection",
}
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
)
# SPDX ids that the Hub knows under their lower-case name; any other is "other", with its name
_HUB_LICENSES = re.compile(
    r"cc0-1\.0|cc-by(-nc)?(-sa|-nd)?-[234]\.[05]|mit|apache-2\.0|bsd-[23]-clause|odbl(-1\.0)?|pddl"
)
_SHOWN = 50
_CONFIGS = ("data", "soft", "soft_boxes", "soft_masks", "ignore", "excluded")  # each is loaded by its name alone


def front_matter(facts: Facts) -> dict[str, Any]:
    """Return what the Hub reads from the head of a card."""
    licenses = facts.license
    one = licenses[0].lower() if len(licenses) == 1 else "other"
    known = one == UNKNOWN or _HUB_LICENSES.fullmatch(one) is not None
    named = {} if known else {"license_name": ", ".join(licenses)}
    return {
        "pretty_name": facts.title,
        "license": one if known else "other",
        **named,
        "task_categories": sorted({_TASKS[task] for task in facts.tasks if task in _TASKS}),
        "size_categories": [size_category(facts.counts["n_released"])],
        "tags": ["curate", *facts.about.get("keywords", [])],
        "configs": [
            {
                "config_name": kind,
                "data_files": f"{kind}/*.parquet",
                **({"default": True} if kind == "data" else {}),
            }
            for kind in _CONFIGS
            if kind in facts.schemas
        ],
    }


def size_category(n_rows: int) -> str:
    """Return the Hub's word for a number of rows."""
    return next((name for bound, name in _SIZES if n_rows < bound), "n>100M")


def card(facts: Facts) -> str:
    """Return README.md."""
    head = yaml.safe_dump(front_matter(facts), sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{head}---\n",
        f"# {facts.title}\n",
        _summary(facts),
        _content(facts),
        _curation(facts),
        _use(facts),
    ]
    return "\n".join(parts)


def _summary(facts: Facts) -> str:
    about, counts = facts.about, facts.counts
    when = f", published {facts.at[:10]}" if facts.at else ""
    version = f"v{facts.number}" if facts.number else "not in a log"
    return "\n".join(
        [
            about.get("purpose") or about.get("description") or "Purpose: unknown.",
            "",
            f"Version {version} (`{facts.id[:12]}`){when}. {facts.n_images:,} images, {counts['n_released']:,} released "
            f"rows, {counts['n_excluded']:,} rows stay behind with reasons. Gates: {facts.manifest['gates']}.",
            "",
            f"- License: {', '.join(facts.license)}",
            f"- Creators: {', '.join(one['name'] for one in about.get('creators', [])) or UNKNOWN}",
            f"- Page: {about.get('url') or UNKNOWN}",
            f"- Citation: {about.get('citation') or UNKNOWN}",
            "",
            "This page is made by `curate describe` from the release; nothing on it was written by hand, and what "
            'nobody recorded says "unknown".',
            "",
        ]
    )


def _content(facts: Facts) -> str:
    told = ["## What is in it", "", "| split | rows |", "| --- | --- |"]
    told += [f"| {_cell(split, 'no split')} | {n:,} |" for split, n in facts.splits.items()]
    told += ["", "| class | rows |", "| --- | --- |"]
    shown = list(facts.labels.items())[:_SHOWN]
    told += [f"| {_cell(label, 'no label')} | {n:,} |" for label, n in shown]
    more = len(facts.labels) - len(shown)
    told += [f"| … {more:,} more classes | |"] if more > 0 else []
    return "\n".join([*told, "", f"{rai.annotations_per_item(facts)}", ""])


def _curation(facts: Facts) -> str:
    told = ["## How it was curated", "", f"- {rai.manipulation(facts)}", f"- {rai.missing_data(facts)}"]
    told += [f"- {line}" for line in rai.annotation_analysis(facts)]
    tools = rai.machine_tools(facts)
    told.append(f"- Teachers: {', '.join(tools) if tools else 'none'}")
    soft = facts.manifest["soft"]
    maps = facts.manifest.get("soft_masks")
    if maps is not None:
        size = f"{maps['longest_cells']} cells on the longer side"
        told.append(f"- Class maps of masks: {maps['layout']}, {size}, at temperature {maps['temperature']}")
    if soft is not None:
        told.append(f"- Soft labels: {soft['kind']}, {soft['layout']}, at temperature {soft['temperature']}")
    if "soft_boxes" in facts.schemas:
        n_boxes = facts.manifest["tables"]["soft_boxes"]["rows"]
        told.append(f"- Boxes that only detectors see: {n_boxes:,}, in `soft_boxes/`")
    if "ignore" in facts.schemas:
        n_places = facts.manifest["tables"]["ignore"]["rows"]
        told.append(
            f"- Nobody vouches for {n_places:,} places or labels in released images, no background: `ignore/`"
        )
    return "\n".join([*told, ""])


def _use(facts: Facts) -> str:
    uses = rai.use_cases(facts.about) or [UNKNOWN]
    told = ["## Use", "", *(f"- {line}" for line in uses), "", "## Limits", ""]
    told += [f"- {line}" for line in [*rai.biases(facts), *rai.limitations(facts)]]
    personal = rai.personal_data(facts) or [UNKNOWN]
    told += ["", "## Personal data", "", *(f"- {line}" for line in personal), "", "## Read it", ""]
    code = ["```python", "import pyarrow.parquet as pq", "", 'data = pq.read_table("data")', "```"]
    return "\n".join([*told, *code, "", "More: `croissant.json`, `DATASHEET.md`, `evidence/`.", ""])


def _cell(value: str | None, nothing: str) -> str:
    return nothing if value is None else value.replace("|", "\\|").replace("\n", " ")
