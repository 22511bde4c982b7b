"""What a spec says to a check, as the types that the check declares for its parameters."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from curate.check import Check
from curate.errors import ConfigError, did_you_mean


def params_of(check: Check, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that a spec gives to parameters of a check.

    Args:
        check: with a dataclass of parameters; any other takes none from a spec.
        given: name -> value, as YAML has it.

    Raises:
        ConfigError: a parameter that the check does not have, or a value of another type.
    """
    if not dataclasses.is_dataclass(check.params) or isinstance(check.params, type):
        if given:
            raise ConfigError(f"checks.{check.name} takes no parameters; given: {', '.join(given)}.")
        return {}
    try:
        types = get_type_hints(type(check.params))
    except NameError:  # of another package, imported for type checkers only
        types = {}
    known = {field.name: types.get(field.name, Any) for field in dataclasses.fields(check.params)}
    return {name: _value(check, name, value, known) for name, value in given.items()}


def _value(check: Check, name: str, value: object, known: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any parameter
    if name not in known:
        raise ConfigError(
            f"checks.{check.name} has no parameter {name!r}. Parameters: {', '.join(sorted(known))}. "
            f"{did_you_mean(str(name), known)}".rstrip()
        )
    try:
        found = TypeAdapter(known[name]).validate_python(value)
    except ValidationError as error:
        told = error.errors()[0]["msg"]
        raise ConfigError(f"checks.{check.name}.{name}: {told}. Given: {value!r}.") from error
    if isinstance(value, bool) and not isinstance(found, bool):
        raise ConfigError(f"checks.{check.name}.{name}: Input should be a number. Given: {value!r}.")
    if isinstance(found, float) and not math.isfinite(found):
        raise ConfigError(f"checks.{check.name}.{name}: Input should be a finite number. Given: {value!r}.")
    return found
