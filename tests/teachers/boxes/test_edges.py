from __future__ import annotations

import numpy as np

from curate.teachers.boxes.edges import edge_numbers
from curate.teachers.boxes.fuse import Clusters, Detections, Given


def test_a_place_that_lost_its_height_to_rounding_is_only_far_off() -> None:
    given = Given(
        image=np.array([0]),
        boxes=np.array([[0.1, 0.1, 0.3, 0.3]]),
        label=np.array([0]),
        key=np.array([7], np.uint64),
    )
    flat = np.array([[0.0, 0.5, 1.0, 0.0]])
    found = Detections(
        image=np.array([0]), boxes=flat, label=np.array([0]), score=np.array([0.5]), prob=np.array([0.4]),
        teacher=np.array([0]),
    )  # fmt: skip
    clusters = Clusters(
        image=np.array([0]), boxes=flat, probs=np.array([[0.4]]), label=np.array([0]), mass=np.array([[0.4]]),
        spread=np.array([1.0]), at=np.array([[0]]),
    )  # fmt: skip
    columns = np.stack(edge_numbers(given, found, clusters, np.array([0])))
    assert np.isfinite(columns).all()
    unmatched = np.stack(edge_numbers(given, found, clusters, np.array([-1])))
    assert np.isfinite(unmatched).all()
    assert (columns != unmatched).any()
