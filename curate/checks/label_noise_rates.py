"""What the teachers' contradictions amount to: noise rates, flags by class and declared group, teachers' weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate import schema
from curate.checks.attributes import shown_instead, suppressed
from curate.teachers.column_order import Moved, order_warning
from curate.teachers.flag_model import FlagModel
from curate.teachers.noise import INSUFFICIENT, Ints, NoiseRate, binomial_rate, transition_json

RISK_UNITS = 2**30
MOVED = "n_classes_in_other_columns"
ASK_A_PERSON = "an audit tells: curate audit"  # said until one has told


@dataclass(slots=True)
class Tally:
    """Judged rows of a class or declared group: how many, how many flagged, the sum of their risks.

    The sum counts units of 1 / RISK_UNITS, so that no order of adding shows in it.
    """

    n_judged: int = 0
    n_flagged: int = 0
    risk_units: int = 0


@dataclass(frozen=True, slots=True)
class LabelNoiseState:
    """The fitted model and what it says about all rows, by class."""

    model: FlagModel
    classes: tuple[str, ...]
    n_judged: Ints  # (K,) by given class
    n_flagged: Ints  # (K,)
    n_rows: int
    by_group: Mapping[str, Tally]  # class=… and attr_…=…


def statistics_of(state: LabelNoiseState) -> list[dict[str, Any]]:
    """Return the noise rate by every method, the flags over all and by class, and each teacher's weight."""
    model = state.model
    n_judged = int(state.n_judged.sum())
    about = {
        "regime": model.regime,
        "rule": model.rule,
        "why": model.why,
        "risk_kind": model.risk_kind,
        "estimates_agree": model.estimates_agree,
    }
    rate = _rate_row("noise_rate", None, model.noise_rate, n_judged, about)
    if model.estimates and not model.estimates_agree:  # what one method gives and another denies passes no gate
        why = {"insufficient": _disagreement(model), "next": ASK_A_PERSON}
        rate |= {"outcome": INSUFFICIENT, "detail": {**rate["detail"], **why}}
    rows: list[dict[str, Any]] = [rate]
    rows += [
        _rate_row("noise_rate_estimate", f"method={name}", rate, model.n_fitted, {})
        for name, rate in model.estimates.items()
    ]
    missing = None if n_judged else INSUFFICIENT
    share = state.n_flagged.sum() / n_judged if n_judged else None
    rows += [
        {"name": "n_flagged", "value": float(state.n_flagged.sum()), "n": n_judged, "outcome": missing},
        {"name": "share_flagged", "value": share, "n": n_judged, "outcome": missing},
        {"name": "n_unjudged", "value": float(state.n_rows - n_judged), "n": state.n_rows, "outcome": missing},
    ]
    rows += _group_rows(state.by_group)
    if model.transition.size:
        rows.append(_transition_row(model, state.classes))
    rows += [
        {
            "name": "teacher_weight",
            "group": f"teacher={teacher.name}",
            "value": teacher.weight,
            "n": model.n_fitted,
            "outcome": missing,
            "detail": teacher.to_json(),
        }
        for teacher in model.teachers
    ]
    rows += [moved_row(moved, state.classes) for moved in model.moved]
    return rows


def _group_rows(by_group: Mapping[str, Tally]) -> list[dict[str, Any]]:
    """Return the share of flags and the mean risk of each class and declared group."""
    rows: list[dict[str, Any]] = []
    hidden = _small_groups({group: tally.n_judged for group, tally in by_group.items()})
    for group, tally in sorted(by_group.items()):
        n = tally.n_judged
        if group in hidden:  # a share of so few says who they are
            told = {"outcome": INSUFFICIENT, "detail": {"shown": hidden[group]}}
            rows += [{"name": name, "group": group, **told} for name in ("share_flagged", "mean_risk")]
            continue
        share = binomial_rate(tally.n_flagged / n, n, "share of judged rows")
        rows.append(_rate_row("share_flagged", group, share, n, {}))
        rows.append({"name": "mean_risk", "group": group, "value": tally.risk_units / RISK_UNITS / n, "n": n})
    return rows


def moved_row(moved: Moved, classes: Sequence[str]) -> dict[str, Any]:
    """Return how many classes of a teacher seem to stand in another order than assumed, with a warning as detail."""
    remedy = (
        f"Check the order of the outputs of {moved.teacher}; what would fit, if the outputs are in the order of the "
        "dataset's classes, is `classes` of this teacher in the spec: {classes}"
    )
    warning = order_warning([moved.teacher], moved, classes, range(len(classes)), remedy)
    return {
        "name": MOVED,
        "group": f"teacher={moved.teacher}",
        "value": float(len(moved.classes)),
        "n": len(classes),
        "detail": warning,
    }


def _small_groups(counts: Mapping[str, int]) -> dict[str, str]:
    """Return the groups of declared attributes whose numbers must not be shown, with what is shown instead."""
    hidden: dict[str, str] = {}
    columns = sorted({group.partition("=")[0] for group in counts if group.startswith(schema.ATTRIBUTE_PREFIX)})
    for column in columns:
        own = {group: n for group, n in counts.items() if group.partition("=")[0] == column}
        hidden |= {group: shown_instead(own[group]) for group in suppressed(own)}
    return hidden


def _disagreement(model: FlagModel) -> str:
    known = sorted((e.estimate, name) for name, e in model.estimates.items() if e.estimate is not None)
    told = ", ".join(f"{name.replace('_', ' ')} {share:.1%}" for share, name in known)
    return f"its estimates disagree ({told})" if known else "it has no estimate"


def _transition_row(model: FlagModel, classes: Sequence[str]) -> dict[str, Any]:
    """Return the share of labels that the fitted noise channel changes, with the channel itself as detail."""
    return {
        "name": "noise_transition",
        "value": float(1.0 - np.diag(model.transition).mean()),
        "n": model.n_fitted,
        "detail": transition_json(model.transition, classes),
    }


def _rate_row(name: str, group: str | None, rate: NoiseRate, n_rows: int, detail: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "group": group,
        "value": rate.estimate,
        "low": rate.low,
        "high": rate.high,
        "n": n_rows,
        "outcome": INSUFFICIENT if rate.estimate is None else None,
        "detail": {"method": rate.method, **detail},
    }
