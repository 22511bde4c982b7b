"""The answer and the card of a model that was trained elsewhere, whatever library runs it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from curate.schema import canonical_json
from curate.teachers.class_names import onto_classes
from curate.teachers.each_class import n_silent, onto_each_class
from curate.teachers.protocol import Answer, Request, TeacherCard


def model_card(
    name: str, kind: str, trained_on: str | None, digest: str, names: Sequence[str], told: Sequence[str]
) -> TeacherCard:
    """Return the card of a model that was trained elsewhere."""
    warning = () if trained_on else ("nobody says what it was trained on; it may have seen these labels",)
    return TeacherCard(
        name=name,
        kind=kind,
        trained_on=trained_on,
        features=None,
        out_of_fold=None,
        calibration=None,
        digest=hashlib.sha256(canonical_json([digest, list(names)]).encode()).hexdigest(),
        n_predicted=0,
        warnings=(*told, *warning),
    )


def judged(card: TeacherCard, raw: np.ndarray, names: Sequence[str], request: Request) -> Answer:
    """Return the answer of a model from its cached probabilities, with the card's count and silences filled in."""
    if request.independent:
        full = onto_each_class(raw, names, request)
    else:
        with np.errstate(invalid="ignore"):
            probs = raw / raw.sum(axis=1, keepdims=True)  # rounded to float16 in the cache
        full = onto_classes(probs, names, request)
    silent = n_silent(full, independent=request.independent)
    told = (f"{silent} labels are not judged: no readable image, or no finite number from the model",)
    warnings = (*card.warnings, *(told if silent else ()))
    return Answer(replace(card, n_predicted=len(full) - silent, warnings=warnings), full)
