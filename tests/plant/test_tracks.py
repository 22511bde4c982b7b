"""Errors planted in tracks: where ids are really exchanged, and gaps that are seen at the label after them."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest

from curate import schema
from curate.plant.choose import PLANTED
from curate.plant.corrupt import corrupt
from curate.plant.measure import missing_places, rows_of
from curate.plant.tracks import tracks_of
from curate.policy import Policy

N_FRAMES = 30


def tracks(n_pairs: int = 6) -> pa.Table:
    """Pairs of ids that come towards each other, meet in a frame of their own, and part again."""
    rows: list[dict[str, Any]] = []
    for pair in range(n_pairs):
        meet = 8 + 2 * pair
        for frame in range(N_FRAMES):
            for side in (-1, 1):
                x = 0.45 + side * 0.004 * (1 + abs(frame - meet))
                name = f"{pair}{'ab'[side > 0]}"
                rows.append(
                    {
                        "label_id": f"{name}-{frame:02}",
                        "sample_id": f"s{frame:02}",
                        "task": "tracking",
                        "label": "cat",
                    }
                    | {"bbox": [x, 0.1 + 0.1 * pair, 0.04, 0.08], "track_id": name, "frame": frame}
                )
    return schema.table_from_rows(rows, schema.LABELS)


@pytest.mark.parametrize("seed", range(3))
def test_ids_are_exchanged_between_the_closest_where_they_are_closest(seed: int) -> None:
    found = corrupt(tracks(), ["switch"], share=0.25, classes=("cat", "dog"), seed=seed)
    begins = found.planted["label_id"].to_pylist()
    assert len(begins) == 4  # two pairs of twelve ids
    for one in begins:
        pair, frame = int(one[0]), int(one[3:])
        assert frame == 8 + 2 * pair
        assert {f"{pair}a-{frame:02}", f"{pair}b-{frame:02}"} <= set(begins)


def test_a_dropped_box_of_a_track_leaves_a_gap_whose_next_label_is_the_line_to_look_at() -> None:
    labels = tracks()
    found = corrupt(labels, ["drop"], share=0.05, classes=("cat", "dog"))
    planted = found.planted.to_pylist()
    assert planted
    left = set(found.labels["label_id"].to_pylist())
    for row in planted:
        name, frame = row["label_id"].split("-")
        assert row["label_id"] not in left
        assert 0 < int(frame) < N_FRAMES - 1, "a track that only becomes shorter has no gap"
        assert row["seen_at"] == f"{name}-{int(frame) + 1:02}"
        assert row["seen_at"] in left
    scores = {row["seen_at"]: 1.5 for row in planted}
    nothing = missing_places(schema.empty(schema.FINDINGS), Policy())
    lines = rows_of(found.labels, found.planted, scores, nothing, before=set())
    assert sum(line.score > 0 for line in lines) == len(planted), "the gap is one line, not two"
    assert {line.kind for line in lines if line.score > 0} == {"drop"}
    assert len({line.id for line in lines}) == labels.num_rows - len(planted)


def test_a_dropped_box_without_a_track_has_no_label_to_be_seen_at() -> None:
    rows = [{**row, "task": "detection", "track_id": None, "frame": None} for row in tracks().to_pylist()]
    found = corrupt(schema.table_from_rows(rows, schema.LABELS), ["drop"], share=0.05, classes=("cat",))
    assert found.planted.schema == PLANTED
    assert found.planted["seen_at"].null_count == found.planted.num_rows > 0


def test_the_same_id_in_two_videos_is_two_tracks() -> None:
    labels = tracks(1)
    videos = {row["sample_id"]: "early" if row["frame"] < 15 else "late" for row in labels.to_pylist()}
    known = tracks_of(labels.to_pylist(), videos)
    assert sorted(known) == [("early", "0a"), ("early", "0b"), ("late", "0a"), ("late", "0b")]
    assert math.isclose(sum(map(len, known.values())), labels.num_rows)
