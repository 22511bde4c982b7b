"""What the documents say is held against the code."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from typer.main import get_command

from curate import spec
from curate.check import BUILTIN as CHECKS
from curate.check import discover
from curate.cli import app
from curate.ingest import source_named, source_names
from curate.policy import DEFAULT_GATES, DEFAULT_RULES, Gate, Policy, Rule

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
POLICY = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
LINK = re.compile(r"\[[^\]]*\]\((?!https?:|#)([^)#\s]+)")


def rule_rows() -> Iterator[str]:
    yield "| issue | asks for | action |"
    yield "| --- | --- | --- |"
    for rule in DEFAULT_RULES:
        asks = ["flagged" if rule.flagged else "not flagged"] if rule.flagged is not None else []
        asks += [f"check {rule.check}"] if rule.check else []
        asks += [f"risk ≥ {rule.min_risk:g}"] if rule.min_risk else []
        asks += [f"suggestion ≥ {rule.min_suggested_prob:g}"] if rule.min_suggested_prob else []
        weight = f", weight {rule.weight:g}" if rule.weight < 1 else ""
        yield f"| `{rule.issue}` | {', '.join(asks) or '-'} | {rule.action}{weight} |"


def gate_rows() -> Iterator[str]:
    yield "| statistic | bound | level |"
    yield "| --- | --- | --- |"
    for gate in DEFAULT_GATES:
        bounds = [f"at most {gate.max:g}"] if gate.max is not None else []
        bounds += [f"at least {gate.min:g}"] if gate.min is not None else []
        yield f"| `{gate.statistic}` | {', '.join(bounds)} | {gate.level} |"


def between(text: str, name: str) -> str:
    found = re.search(rf"<!-- {name}[^>]*-->\n(.*?)\n<!-- end -->", text, re.DOTALL)
    assert found is not None, f"no <!-- {name} --> … <!-- end -->"
    return found.group(1)


def test_default_rules_and_gates_are_those_of_the_code() -> None:
    assert between(POLICY, "default rules") == "\n".join(rule_rows())
    assert between(POLICY, "default gates") == "\n".join(gate_rows())


MODELS = (spec.Spec, spec.SourceSpec, spec.AttributeSpec, spec.SplitSpec)
TEACHERS = (
    spec.ProbesSpec,
    spec.OnnxSpec,
    spec.TorchSpec,
    spec.TableTeacherSpec,
    spec.MotSpec,
    spec.MasksSpec,
    spec.CocoTeacherSpec,
)


@pytest.mark.parametrize("model", [*MODELS, *TEACHERS], ids=lambda model: model.__name__)
def test_every_key_of_a_spec_stands_in_the_readme(model: type[BaseModel]) -> None:
    reference = README.partition("## Spec reference")[2].partition("\n## ")[0]
    assert [key for key in model.model_fields if f"`{key}`" not in reference] == []


@pytest.mark.parametrize("model", [Policy, Rule, Gate], ids=lambda model: model.__name__)
def test_every_key_of_a_policy_stands_in_its_page(model: type[BaseModel]) -> None:
    assert [key for key in model.model_fields if f"`{key}`" not in POLICY] == []


def test_every_format_with_its_options_and_every_check_stands_in_the_readme() -> None:
    formats = README.partition("## Formats")[2].partition("\n## ")[0]
    for name in source_names():
        row = next((line for line in formats.splitlines() if line.startswith(f"| `{name}`")), "")
        assert row, name
        assert [option for option in source_named(name).option_names if f"`{option}`" not in row] == [], name
    assert [name for name in CHECKS if f"`{name}`" not in README] == []


def test_the_commands_of_the_readme_exist() -> None:
    group = get_command(app)
    options = {name: {o for p in verb.params for o in p.opts} for name, verb in group.commands.items()}  # type: ignore[attr-defined]
    used = re.findall(r"^(?:\$ )?curate ([a-z]+)(.*)$", README, re.MULTILINE)
    assert {verb for verb, _ in used} >= {"init", "run", "review", "log", "diff", "verify", "export"}
    for verb, rest in used:
        assert verb in options, verb
        given = set(re.findall(r"(?<=\s)--[a-z-]+", rest.partition("#")[0]))
        assert verb == "db" or given <= {part for option in options[verb] for part in option.split("/")}, (
            verb,
            given,
        )


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_targets_of_the_readme_exist(target: str) -> None:
    assert f"make {target}" in README
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_dependency_has_its_reason() -> None:
    reasons = (ROOT / "docs" / "decisions" / "003-dependencies.md").read_text(encoding="utf-8")
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[project.scripts]")[0]
    listed = text.partition("dependencies = [")[2]
    names = re.findall(r'^\s*"([A-Za-z0-9-]+)|\["([A-Za-z0-9-]+)', listed, re.MULTILINE)
    flat = [one or other for one, other in names]
    assert "torch" in flat
    assert [name for name in flat if f"`{name}`" not in reasons] == []


def rows_of_checks() -> dict[tuple[str, str], str]:
    """Return (check, parameter) -> default, as the page of checks has them."""
    found: dict[tuple[str, str], str] = {}
    checks: list[str] = []
    for line in (ROOT / "docs" / "checks.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and "`" in line:
            checks = re.findall(r"`(\w+)`", cells[0]) or checks
            found |= {(check, cells[1].strip("`")): cells[2] for check in checks}
    return found


FROM_A_RUN = {"classes", "attributes", "features", "independent", "segmenters", "region_noise_rate"}


def shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    return "none" if value is None else str(round(value, 3) if isinstance(value, float) else value)


def test_every_parameter_of_a_check_stands_in_its_page_with_its_default() -> None:
    fields = {
        (check.name, field.name): shown(getattr(check.params, field.name))
        for check in discover().values()
        for field in dataclasses.fields(check.params)
        if field.name not in FROM_A_RUN
    }
    assert rows_of_checks() == fields
