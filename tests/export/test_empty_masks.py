"""A mask of which people gave every pixel away is no label and no background: it leaves with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate import schema
from curate.export import export
from curate.ingest.rle import encode_mask
from curate.manifest.tables import DATA

SIZE = (40, 60)


def label(uri: str, name: str, pixels: slice | None) -> dict[str, Any]:
    mask = np.zeros(SIZE, dtype=bool)
    if pixels is not None:
        mask[pixels, 5:50] = True
    sample_id = schema.sample_id_of("s", uri)
    return {
        "sample_id": sample_id, "uri": uri, "label_id": schema.label_id_of(sample_id, "segmentation", name),
        "task": "segmentation", "released_label": name, "given_label": name, "label_state": "labeled",
        "width_px": SIZE[1], "height_px": SIZE[0], "mask": encode_mask(mask), "source": "s", "action": "keep",
        "reasons": [], "reason_codes": [], "risk": 0.0, "weight": 1.0, "attributes": [], "groups": [],
    }  # fmt: skip


def rows() -> pa.Table:
    told = [
        label("both.png", "road", slice(0, 20)),
        label("both.png", "tree", None),
        label("none.png", "road", None),
    ]
    return schema.table_from_rows(told, DATA)


def test_coco_holds_the_masks_that_have_pixels_and_no_image_that_lost_them_all(tmp_path: Path) -> None:
    written = export(rows(), None, tmp_path / "out", format="coco", images="none", classes=["road", "tree"])
    (file,) = (path for path in written.paths if path.suffix == ".json" and path.name != "curate-export.json")
    told = json.loads(file.read_text())
    assert [one["file_name"] for one in told["images"]] == ["both.png"]
    assert [one["category_id"] for one in told["annotations"]] == [told["categories"][0]["id"]]
    assert all(one["area"] > 0 for one in told["annotations"])
    left = {(row["what"], row["reason_code"]) for row in written.left_out.to_pylist()}
    assert left == {("label", "export_mask_empty"), ("image", "export_no_label_held")}
    assert written.n_labels == 1


@pytest.mark.parametrize("form", ["yolo", "voc"])
def test_other_formats_say_so_too_and_csv_holds_every_row(tmp_path: Path, form: str) -> None:
    box = {"bbox": [0.1, 0.1, 0.2, 0.2], "mask": None, "released_label": "road"}
    more = schema.table_from_rows([{**label("boxed.png", "road", None), **box}], DATA)
    data = pa.concat_tables([rows(), more])
    written = export(data, None, tmp_path / form, format=form, images="none", classes=["road", "tree"])
    codes = written.left_out["reason_code"].to_pylist()
    assert codes.count("export_mask_empty") == 2
    every = export(data, None, tmp_path / "csv", format="csv", images="none", classes=["road", "tree"])
    assert every.n_labels == 4
