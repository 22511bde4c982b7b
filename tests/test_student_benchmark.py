"""The student's benchmark from end to end, as its page says, on a few digits."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import end_to_end as e2e
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_digits

HERE = Path(__file__).resolve().parents[1] / "benchmarks" / "student"
SIZES = ("--seeds", "2", "--train", "150", "--pool", "200", "--test", "100", "--epochs", "2", "--width", "8")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 300 digits of three classes, every tenth labeled wrong, and who labeled them."""
    bunch = load_digits(n_class=3)
    rows = []
    for at, (pixels, digit) in enumerate(zip(bunch.images[:300], bunch.target, strict=False)):
        file = io.BytesIO()
        Image.fromarray((pixels * 15.9).astype("uint8")).resize((16, 16)).convert("RGB").save(file, "PNG")
        rows.append(
            {
                "image": file.getvalue(),
                "label": "abc"[(digit + (at % 10 == 0)) % 3],
                "clean_label": "abc"[digit],
                "shift": "late" if at % 4 else "early",
            }
        )
    path = tmp_path_factory.mktemp("digits") / "digits.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def ran(script: str, *words: str | Path) -> str:
    told = subprocess.run(
        [sys.executable, str(HERE / script), *map(str, words)],
        env=e2e.environment(), capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    return told.stdout


@pytest.mark.slow
def test_one_command_trains_all_arms_goes_on_where_it_was_and_exports(digits: Path, tmp_path: Path) -> None:
    pytest.importorskip("cleanlab")
    pytest.importorskip("onnxscript")
    settings = tmp_path / "settings.yaml"
    settings.write_text("teachers: [{kind: probes, features: pixels, classifiers: [linear, neighbours]}]")
    out = tmp_path / "results"
    words = (digits, "--out", out, "--noise", "uniform:0.3", "--group", "shift", "--settings", settings, *SIZES)
    table = ran("run.py", *words)
    told: dict[str, Any] = json.loads((out / "table.json").read_text())
    rows = {row["arm"]: row for row in told["rows"]["uniform:0.3"]}
    assert len(rows) == 7
    assert rows["raw labels"]["n_rows"] == 150 > rows["pruned by cleanlab"]["n_rows"]
    assert 0.15 < rows["raw labels"]["noise"] < 0.45
    gap, low, high = rows["soft labels only"]["ours_minus_this"]
    assert low <= gap <= high
    paired = np.subtract(*(rows[arm]["accuracy_by_seed"] for arm in ("curate release", "soft labels only")))
    assert gap == pytest.approx(paired.mean(), abs=1e-4)
    assert {row["worst_group"][0] for row in rows.values()} <= {"early", "late"}
    assert {model["model"] for model in told["models"]} == {"float32", "INT8"}
    assert "| curate release | " in table
    cell = out / "cells" / "uniform-0.3" / "raw-labels-1.json"
    before = cell.read_bytes()
    (out / "cells" / "uniform-0.3" / "soft-labels-only-1.json").unlink()
    assert ran("run.py", *words).split("| release's student")[0] == table.split("| release's student")[0]
    assert cell.read_bytes() == before


@pytest.mark.slow
def test_candidates_are_compared_on_other_images(digits: Path, tmp_path: Path) -> None:
    pytest.importorskip("cleanlab")
    words = ("--seeds", "2", "--train", "100", "--pool", "120", "--test", "60", "--epochs", "1", "--width", "8")
    table = ran("choose.py", digits, "--out", tmp_path, "--features", "pixels", "--noise", "human", *words)
    assert "| soft labels only | " in table
    assert table.count("±") == (tmp_path / "choice.md").read_text().count("±") > 5
