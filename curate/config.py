"""datasets/*.yaml → frozen, validated objects. A wrong key or value names file, line, key and the nearest word."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from curate.errors import ConfigError, did_you_mean
from curate.spec import MISSING, TEACHER_SPECS, SourceSpec, Spec, unknown_kind
from curate.yaml_lines import LocatedYaml, load_yaml


@dataclass(frozen=True)
class LoadedSpec:
    """A spec with the folder it was read from; relative paths are resolved against it."""

    spec: Spec
    file: Path

    def resolve(self, path: str) -> Path:
        """Return `path` as an absolute one, relative to the spec's folder."""
        return (self.file.parent / Path(path).expanduser()).resolve()


def load_spec(path: str | Path) -> LoadedSpec:
    """Read and validate a dataset spec.

    Raises:
        ConfigError: no such file, not YAML, an unknown key, a wrong value, a blank left by `curate init`.
    """
    file = Path(path)
    if not file.is_file():
        hint = did_you_mean(file.name, sorted(beside.name for beside in file.parent.glob("*.yaml")))
        told = f"There is no spec at {file}. {hint}".rstrip()
        raise ConfigError(f"{told} Write one with: curate init PATH-TO-YOUR-IMAGES")
    located = load_yaml(file)
    _refuse_blanks(located)
    if isinstance(located.data, dict):
        _refuse_unknown_options(located)
        _refuse_unknown_checks(located)
        _refuse_unknown_findings(located)
    try:
        spec = Spec.model_validate(located.data)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(located, item) for item in error.errors())) from error
    return LoadedSpec(spec=spec, file=file.resolve())


def _refuse_blanks(located: LocatedYaml) -> None:
    blanks = [loc for loc, value in located.leaves() if value == MISSING]
    if blanks:
        lines = [
            f"{located.where(loc)}: {'.'.join(map(str, loc))} is still blank ({MISSING}). "
            f"See the comment beside it, and fill it in."
            for loc in blanks
        ]
        raise ConfigError("\n".join(lines))


def _refuse_unknown_options(located: LocatedYaml) -> None:
    """Check the keys under `source` that are not common to all formats against the format's own."""
    from curate.ingest import source_named  # noqa: PLC0415 - sources are plug-ins; loaded when a spec names one

    source = located.data.get("source")
    if not isinstance(source, dict) or not isinstance(source.get("format"), str):
        return
    try:
        known = [*SourceSpec.model_fields, *source_named(source["format"]).option_names]
    except ConfigError as error:
        msg = f"{located.where(('source', 'format'))}: {error}"
        raise ConfigError(msg) from error
    for key in source:
        if key not in known:
            hint = did_you_mean(str(key), known) or f"Known keys: {', '.join(known)}."
            msg = (
                f"{located.where(('source', key))}: unknown key 'source.{key}' "
                f"for the format {source['format']}. {hint}"
            )
            raise ConfigError(msg)


def _refuse_unknown_checks(located: LocatedYaml) -> None:
    """Check the names under `checks` against the checks there are, and what is said to each against its parameters."""
    from curate.check import discover, select  # noqa: PLC0415 - checks are plug-ins; loaded when a spec names one
    from curate.check_params import params_of  # noqa: PLC0415 - as above

    named = located.data.get("checks")
    for name, given in named.items() if isinstance(named, dict) else ():
        loc: tuple[str, ...] = ("checks", name)
        try:
            [check] = select([str(name)], discover())
            for key, value in given.items() if isinstance(given, dict) else ():
                loc = ("checks", name, key)
                params_of(check, {key: value})
        except ConfigError as error:
            msg = f"{located.where(loc)}: {error}"
            raise ConfigError(msg) from error


def _refuse_unknown_findings(located: LocatedYaml) -> None:
    """Check that the rules of the policy name issues and checks that there are, and its gates statistics."""
    from curate.check import STATISTICIANS, discover, unknown_statistic  # noqa: PLC0415 - checks are plug-ins

    policy = located.data.get("policy")
    policy = policy if isinstance(policy, dict) else {}
    checks = discover()
    issues = sorted({issue for check in checks.values() for issue in check.issues})
    if any(check.score and not check.issues for check in checks.values()):
        issues = []  # another package's check does not say what it finds
    known = {"issue": issues, "check": list(checks), "statistic": [*checks, *STATISTICIANS]}
    for part, keys in (("rules", ("issue", "check")), ("gates", ("statistic",))):
        given = policy.get(part)
        for at, row in enumerate(given if isinstance(given, list) else ()):
            for key in keys:
                word = row.get(key) if isinstance(row, dict) else None
                if isinstance(word, str) and known[key]:
                    loc = ("policy", part, at, key)
                    _refuse_unknown_word(located, loc, word, known[key])
                    problem = unknown_statistic(word, checks) if key == "statistic" else ""
                    if problem:
                        raise ConfigError(f"{located.where(loc)}: '{'.'.join(map(str, loc))}': {problem}")


def _refuse_unknown_word(located: LocatedYaml, loc: tuple[str | int, ...], word: str, known: Sequence[str]) -> None:
    pattern = word.partition(".")[0] if loc[-1] == "statistic" else word
    if not fnmatch.filter(known, pattern):
        hint = did_you_mean(pattern, known) or f"There are: {', '.join(known)}."
        dotted = ".".join(map(str, loc))
        raise ConfigError(
            f"{located.where(loc)}: '{dotted}' is {word!r}, and nothing is called {pattern!r}. {hint}"
        )


def _explain(located: LocatedYaml, item: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    loc = tuple(item["loc"])
    dotted = ".".join(str(part) for part in loc) or "the spec"
    where = located.where(loc)
    if item["type"] == "extra_forbidden":
        known = _known_keys(loc[:-1])
        hint = did_you_mean(str(loc[-1]), known) or (f"Known keys: {', '.join(known)}." if known else "")
        return f"{where}: unknown key '{dotted}'. {hint}".rstrip()
    if item["type"] == "missing":
        return f"{where}: the key '{dotted}' is needed and is not there."
    if item["type"] == "union_tag_invalid":  # of a teacher; pydantic's sentence names our function
        kind = str(item["ctx"]["tag"])
        return f"{where}: '{dotted}': {unknown_kind(kind)}"
    given = f" Given: {item['input']!r}." if not isinstance(item.get("input"), dict | list) else ""
    hint = ""
    expected, given_word = item.get("ctx", {}).get("expected"), item.get("input")
    if expected and isinstance(given_word, str):
        words = [word.strip().strip("'") for word in str(expected).replace(" or ", ", ").split(",")]
        hint = did_you_mean(given_word, words)
    return f"{where}: '{dotted}': {item['msg'].removeprefix('Value error, ')}.{given} {hint}".rstrip()


def _known_keys(loc: tuple[Any, ...]) -> list[str]:
    """Return the keys that the model at `loc` takes, by walking the models along the path."""
    models: list[type[BaseModel]] = [Spec]
    for part in loc:
        if isinstance(part, int):
            continue
        following = [found for model in models for found in _models_at(model, str(part))]
        models = following or models
    return sorted({name for model in models for name in model.model_fields})


def _models_at(model: type[BaseModel], part: str) -> list[type[BaseModel]]:
    if part in TEACHER_SPECS:  # pydantic puts the union's tag into the path
        return [TEACHER_SPECS[part]]
    field = model.model_fields.get(part)
    if field is None:
        return []
    return list(_models_in(field.annotation))


def _models_in(annotation: Any) -> list[type[BaseModel]]:  # noqa: ANN401 - any type expression
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        model: type[BaseModel] = annotation
        return [model]
    return [found for inner in getattr(annotation, "__args__", ()) for found in _models_in(inner)]
