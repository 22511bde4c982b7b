"""All soft labels of a release: beside its rows, of boxes that only detectors see, and what the manifest says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curate import schema
from curate.manifest.soft import key_of, soft_labels
from curate.manifest.soft_boxes import OBJECTNESS, TOGETHER, objectness, places_beside, teacher_only, with_detectors
from curate.manifest.soft_layout import Layout, layout_for
from curate.manifest.stale import teachers_of
from curate.policy import Policy
from curate.runs import digest_json


@dataclass(frozen=True, slots=True)
class SoftLabels:
    """Soft labels of a release.

    Attributes:
        rows: `soft.soft_schema`, beside `data` row by row; with detectors `OBJECTNESS` too. None without teachers.
        boxes: `soft_boxes.teacher_only_schema`; None without detectors.
        head: what manifest.json says of them.
    """

    rows: pa.Table | None
    boxes: pa.Table | None
    head: Mapping[str, Any] | None

    @classmethod
    def none(cls) -> SoftLabels:
        """Return that there are none."""
        return cls(None, None, None)


def make_soft(
    data: pa.Table,
    predictions: pa.Table | None,
    places: pa.Table | None,
    classes: Sequence[str],
    policy: Policy,
    weights: Mapping[str, float] | None,
    cards: Sequence[Mapping[str, Any]],
    seed: int,
) -> SoftLabels:
    """Return the soft labels of released rows.

    Args:
        data: `tables.DATA`.
        predictions: of teachers that judge given labels, or by sample_id of each class alone; None without any.
        places: of detectors (`teachers.boxes.pooled`); None without any.
        classes: of the release, in order.
        policy: temperature, layout, and from which objectness a box that only detectors see is stored.
        weights: teacher -> weight; None = all alike. The detectors together weigh as much as all others.
        cards: of the teachers.
        seed: of the draws of `sampled`.
    """
    # a probability of each class by itself
    is_alone = predictions is not None and key_of(predictions) == "sample_id"
    places = None if is_alone else places
    # whole where each class stands alone, for then there is no tail to sum up
    layout = layout_for(len(classes), "full" if is_alone else policy.soft_layout, policy.soft_top_k)
    names = [name.removeprefix(schema.PROB_PREFIX) for name in sorted(schema.teacher_columns(predictions))]
    shares = {name: 1.0 if weights is None else weights.get(name, 0.0) for name in names}
    beside = None if places is None else places_beside(data, places, classes)
    told = predictions if names else None
    if places is not None and beside is not None:
        told = with_detectors(told, data, places, beside)
        shares[TOGETHER] = sum(shares.values()) or 1.0
    rows = soft_labels(
        data.select(["sample_id", "label_id"]),
        told,
        classes,
        weights=shares,
        temperature=policy.temperature,
        layout=layout,
        each_teacher=policy.soft_each_teacher,
        seed=seed,
    )
    detectors = [str(card["name"]) for card in cards if card.get("kind") == "coco"] if places is not None else []
    head = {
        "kind": "ensemble, each class alone" if is_alone else "ensemble",
        **layout_head(layout),
        "n_missing": rows[layout.fields()[0].name].null_count,
        "temperature": repr(float(policy.temperature)),
        "weights": {name: repr(float(share)) for name, share in shares.items()},
        "each_teacher": [name for name in sorted(shares) if shares[name] > 0] if policy.soft_each_teacher else [],
        "classes_sha256": digest_json(list(classes)),
        "teachers": teachers_of(cards, [*names, *detectors]),
    }
    if places is None or beside is None:
        return SoftLabels(rows, None, head)
    rows = rows.append_column(OBJECTNESS, objectness(places, beside))
    least, temperature = policy.soft_boxes_from, policy.temperature
    boxes = teacher_only(data, places, beside, layout=layout, temperature=temperature, least=least, seed=seed)
    return SoftLabels(
        rows, boxes, {**head, "detectors": detectors, "n_teacher_only": boxes.num_rows, "boxes_from": repr(least)}
    )


def layout_head(layout: Layout) -> dict[str, Any]:
    """Return what the manifest says of a layout."""
    return {"layout": layout.name, "top_k": layout.top_k or None, "n_draws": layout.n_draws or None}
