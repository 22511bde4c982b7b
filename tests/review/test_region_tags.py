"""Tags on regions in the App: decisions, once, that stand in the release and on the region after a rerun."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from region_scenes import (
    ALSO,
    GONE,
    WRONG,
    broken,
    in_doubt,
    labeled,
    pixels,
    released,
    run,
    scene,
    write_scenes,
)

from curate.review import ledger, regions
from curate.review.dataset import open_dataset

pytestmark = pytest.mark.mongo


def test_regions_are_decided_in_the_app_and_the_mark_survives_a_rerun(database: Path, tmp_path: Path) -> None:
    spec = write_scenes(tmp_path, "deciding")
    first = run(spec, database, review=True)
    wrong, also, gone = (in_doubt(first, number) for number in (WRONG, ALSO, GONE))
    dataset = open_dataset("deciding")
    tags = {wrong["sample_id"]: ["curate:keep"], also["sample_id"]: ["curate:accept"]}
    tags[gone["sample_id"]] = ["curate:ignore", "curate:drop"]
    for sample_id, some in tags.items():
        sample = dataset[sample_id]
        flagged = {one.id: one for one in sample[regions.FIELD].detections if one.risk >= 0.5}
        (one,) = flagged.values()
        one.tags = some
        sample.save()
    result = run(spec, database, review=True)
    said = ledger.read(ledger.ledger_folder(database, "deciding")).decisions.to_pylist()
    assert {row["sample_id"]: row["decision"] for row in said} == {
        wrong["sample_id"]: "reject",
        also["sample_id"]: "accept",
        gone["sample_id"]: "ignore",
    }
    assert all(row["label_id"] and row["finding_id"] and row["content_sha256"] for row in said)
    np.testing.assert_array_equal(pixels(released(result, ALSO)["ground"]), scene(ALSO) == 0)
    np.testing.assert_array_equal(pixels(released(result, WRONG)["box"]), labeled(WRONG) == 1)
    assert not pixels(released(result, GONE)["ground"])[scene(GONE) == 2].any()
    assert broken(result) == []
    shown = open_dataset("deciding")
    shown.reload()
    assert [t for one in shown[also["sample_id"]][regions.FIELD].detections for t in one.tags] == ["curate:accept"]
    again = run(spec, database, review=True)
    assert again.published.id == result.published.id  # type: ignore[union-attr]
    assert ledger.read(ledger.ledger_folder(database, "deciding")).decisions.num_rows == len(said)

    sample = shown[also["sample_id"]]  # a change of mind
    for one in sample[regions.FIELD].detections:
        one.tags = []
    sample.save()
    back = run(spec, database, review=True)
    assert released(back, ALSO)["box"]["action"] == "review"
    assert pq.read_table(back.published.path / "ignore").num_rows > 1  # type: ignore[union-attr]
