"""What teachers answered, as a run remembers it: their tables and cards, who failed, and what an answer depends on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curate import check as plug
from curate import runs, schema
from curate.spec import TeacherSpec
from curate.stages.context import Context

if TYPE_CHECKING:
    from curate.teachers.regions.class_maps import ClassMaps

VERSION = 7
_MODEL_FILES = ("path", "weights", "program")


@dataclass(frozen=True)
class Taught:
    """Predictions of all teachers.

    Attributes:
        table: `label_id` and a column a teacher (`schema.TEACHER_PREFIXES`).
        cards: a JSON mapping per teacher.
        statistics: a `teachers.ran` statistic per teacher, errored where it failed.
        boxes: `schema.DETECTIONS` of the teachers that give boxes.
        detectors: their names.
        present: `sample_id`, `content_sha256` and `present_<teacher>` of images with several labels.
        places: what they see together (`teachers.boxes.pooled`); None without them.
        class_maps: of segmenters, on disk (`teachers.regions.class_maps`).
        regions: `sample_id` and `regions` of masks (`teachers.regions.segmenters`); None without a segmenter.
        segmenters: (teacher, weight, why it was left out or "") of those that judged regions.
        region_noise_rate: share of the regions whose label is wrong, as fitted with those weights.
    """

    table: pa.Table
    cards: Sequence[Mapping[str, Any]]
    statistics: pa.Table
    boxes: pa.Table = field(default_factory=lambda: schema.empty(schema.DETECTIONS))
    detectors: tuple[str, ...] = ()
    present: pa.Table | None = None
    places: pa.Table | None = None
    class_maps: tuple[ClassMaps, ...] = ()
    regions: pa.Table | None = None
    segmenters: tuple[tuple[str, float, str], ...] = ()
    region_noise_rate: float | None = None

    @property
    def shared_features(self) -> tuple[tuple[str, str], ...]:
        """(teacher, features) for each teacher whose card says what it stands on, see `shared_features`."""
        return tuple(shared_features(self.cards).items())


def shared_features(cards: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return teacher -> what it stands on, by its card; teachers with the same are not independent.

    Cards with the same digest are of one model, whatever they say.
    """
    used = [card for card in cards if not card.get("left_out")]
    digest_of = {card["name"]: card.get("digest") for card in used}
    shared = Counter(digest for digest in digest_of.values() if digest)
    told = {}
    for card in used:
        digest = digest_of[card["name"]]
        features = card.get("features") or (f"model {digest}" if digest and shared[digest] > 1 else None)
        if features:
            told[card["name"]] = features
    return told


def teacher_key(context: Context, spec: TeacherSpec) -> Mapping[str, Any]:
    """Return what a teacher's answer depends on: its settings and the bytes of its files."""
    key: dict[str, Any] = spec.model_dump(mode="json")
    for name in _MODEL_FILES:
        given = getattr(spec, name, None)
        path = context.loaded.resolve(given) if given else None
        if path is not None and path.is_file():
            key[name] = runs.digest_file(path)
        elif path is not None and path.is_dir():
            inside = sorted(one for one in path.rglob("*") if one.is_file())
            key[name] = {str(one.relative_to(path)): runs.digest_file(one) for one in inside}
    features = getattr(spec, "features", "")
    _, _, file = str(features).partition(":")
    if file and context.loaded.resolve(file).is_file():
        key["features"] = runs.digest_file(context.loaded.resolve(file))
    return key


def beyond_key(context: Context) -> Mapping[str, Any]:
    """Return what an answer depends on beyond the rows that are judged; nothing where there is no limit."""
    beyond = context.beyond
    if not beyond.samples.num_rows:
        return {}
    labels = pa.table({"label_id": beyond.label_ids})
    return {"beyond": [runs.digest_table(beyond.samples), runs.digest_table(labels)]}


def nobody_failed(tables: Mapping[str, pa.Table]) -> bool:
    """Return whether a result may be remembered: what failed is tried again by the next run; too few stay too few."""
    told = zip(tables["about"]["kind"].to_pylist(), tables["about"]["json"].to_pylist(), strict=True)
    return all(kind != "error" or json.loads(text)["too_few"] for kind, text in told)


def about_table(cards: Sequence[Any], errors: Sequence[Any]) -> pa.Table:
    """Return cards and errors as a table, for the cache."""
    told = [schema.canonical_json(card.to_json()) for card in cards]
    failed = [schema.canonical_json({"name": e.name, "message": e.message, "too_few": e.too_few}) for e in errors]
    return pa.table({"kind": ["card"] * len(told) + ["error"] * len(failed), "json": told + failed})


def told_by(about: pa.Table) -> tuple[list[Any], list[Any]]:
    """Return cards and errors of `about_table`."""
    rows = about.to_pylist()
    cards = [json.loads(row["json"]) for row in rows if row["kind"] == "card"]
    return cards, [json.loads(row["json"]) for row in rows if row["kind"] == "error"]


def ran_statistics(cards: Sequence[Mapping[str, Any]], errors: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return `teachers.ran` of each teacher."""
    rows: list[dict[str, Any]] = [
        {"name": "ran", "group": f"teacher={card['name']}", "value": 1.0, "n": card.get("n_predicted")}
        for card in cards
        if not card.get("left_out")
    ]
    rows += [
        {
            "name": "ran",
            "group": f"teacher={card['name']}",
            "value": 0.0,
            "outcome": "insufficient data",
            "detail": {"message": card["left_out"], "left_out": True},
        }
        for card in cards
        if card.get("left_out")
    ]
    rows += [
        {
            "name": "ran",
            "group": f"teacher={error['name']}",
            "value": 0.0,
            "outcome": "insufficient data" if error.get("too_few") else "errored",
            "detail": {"message": error["message"]},
        }
        for error in errors
    ]
    return plug.build_statistics("teachers", rows)
