from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate import schema
from curate.check import build_findings, build_statistics
from curate.manifest.build import Release, build_release
from curate.policy import Gate, Policy
from curate.verdicts import decide

CLASSES = ("cat", "dog", "fox")


@dataclass
class World:
    """A small run: 12 images, one unlabeled, one with two boxes, one unreadable, one input row out."""

    labels_changed: dict[int, str] = field(default_factory=dict)
    flagged: dict[int, str] = field(default_factory=lambda: {3: "dog", 4: "fox"})
    policy: Policy = field(
        default_factory=lambda: Policy(
            attributes_released=("light",),
            release_review=False,
            gates=(Gate(statistic="noise.rate", group="class=*", max=0.5),),
        )
    )
    decisions: list[dict[str, Any]] = field(default_factory=list)
    n: int = 12
    seed: int = 0
    moved: dict[int, str] = field(default_factory=dict)
    boxes: dict[int, list[float]] = field(default_factory=dict)
    left_out: tuple[int, ...] = ()
    weights: dict[int, float] = field(default_factory=dict)
    salt: bytes | None = None
    shuffle: int | None = None

    def sample_id(self, at: int) -> str:
        return schema.sample_id_of("zoo", f"pictures/é {at}.PNG")

    def label_id(self, at: int) -> str:
        return schema.label_id_of(self.sample_id(at), "classification", str(at))

    def _kept(self) -> list[int]:
        return [at for at in range(self.n) if at not in self.left_out]

    def samples(self) -> pa.Table:
        rows = [
            {
                "sample_id": self.sample_id(at),
                "source": "zoo",
                "uri": f"pictures/é {at}.PNG",
                "split": self.moved.get(at, "train" if at % 3 else "test"),
                "license": "CC0-1.0",
                "subject_id": f"person-{at % 4}",
                "mtime_ns": 123456789,
                "label_state": "unlabeled" if at == 0 else "labeled",
            }
            for at in self._kept()
        ]
        table = schema.table_from_rows(rows, schema.SAMPLES)
        light = pa.array([None if at == 5 else f"lux-{at % 2}" for at in self._kept()], pa.string())
        secret = pa.array([f"age-{at}" for at in self._kept()], pa.string())
        video = pa.array([f"video-{at // 4}" for at in self._kept()], pa.string())
        table = table.append_column("attr_light", light).append_column("attr_age", secret)
        return self._shuffled(table.append_column("group_video", video))

    def labels(self) -> pa.Table:
        rows: list[dict[str, Any]] = [
            {
                "label_id": self.label_id(at),
                "sample_id": self.sample_id(at),
                "task": "classification",
                "label": self.labels_changed.get(at, CLASSES[at % 3]),
                "bbox": self.boxes.get(at),
                "polygons": [[0.1, 0.1, 0.2, 0.1, 0.2, 0.2]] if at == 7 else None,
                "source_key": str(at),
            }
            for at in self._kept()
            if at != 0
        ]
        if 2 not in self.left_out:
            second = schema.label_id_of(self.sample_id(2), "classification", "second")
            rows.append(
                {**rows[0], "label_id": second, "sample_id": self.sample_id(2), "label": "cat", "bbox": None}
            )
        return self._shuffled(schema.table_from_rows(rows, schema.LABELS))

    def scan(self) -> pa.Table:
        rows = [
            {
                "sample_id": self.sample_id(at),
                "content_sha256": f"{at:064x}",
                "width_px": 32,
                "height_px": 24,
                "error_code": "truncated" if at == 11 else None,
                "error_args": '{"n_bytes":7}' if at == 11 else None,
            }
            for at in self._kept()
        ]
        return self._shuffled(schema.table_from_rows(rows, schema.SCAN))

    def findings(self) -> pa.Table:
        rows = [
            {
                "issue": "mislabel",
                "sample_id": self.sample_id(at),
                "label_id": self.label_id(at),
                "risk": 0.9,
                "flagged": True,
                "suggested_label": label,
                "suggested_prob": 0.97 if at == 3 else 0.6,
                "reason_code": "teachers_disagree",
                "reason_args": {"at": at},
            }
            for at, label in self.flagged.items()
            if at not in self.left_out
        ]
        return self._shuffled(build_findings("label_noise", rows))

    def outcomes(self) -> pa.Table:
        rows = [
            {"row": f"zoo.csv row {at}", "kind": "image", "outcome": "added", "sample_id": self.sample_id(at)}
            for at in self._kept()
        ]
        gone = {"row": "zoo.csv row 99", "kind": "image", "outcome": "out", "reason_code": "missing_file"}
        rows.append({**gone, "reason_args": '{"uri":"gone.png"}'})
        return self._shuffled(schema.table_from_rows(rows, schema.INGEST_OUTCOMES))

    def predictions(self) -> pa.Table:
        at = [at for at in self._kept() if at not in {0, 6}]
        generator = np.random.default_rng(self.seed)
        probs = generator.dirichlet(np.ones(3), size=self.n)[at].astype(np.float16)
        columns = {
            "label_id": pa.array([self.label_id(i) for i in at]),
            "prob_probe": pa.FixedSizeListArray.from_arrays(pa.array(probs.ravel()), 3),
        }
        return self._shuffled(pa.table(columns))

    def statistics(self) -> pa.Table:
        groups = [{"name": "rate", "group": f"class={name}", "value": 0.1} for name in CLASSES]
        tables = [build_statistics("expectations", [{"name": "samples", "value": 1.0, "n": self.n}])]
        return self._shuffled(pa.concat_tables([*tables, build_statistics("noise", groups)]))

    def verdicts(self) -> pa.Table:
        view = self.samples().join(self.scan().select(["sample_id", "content_sha256", "error_code"]), "sample_id")
        return decide(view, self.labels(), self.findings(), self.policy, self.decision_table())

    def decision_table(self) -> pa.Table:
        return schema.table_from_rows(self.decisions, schema.DECISIONS)

    def release(self) -> Release:
        return build_release(
            samples=self.samples(),
            labels=self.labels(),
            scan=self.scan(),
            verdicts=self._shuffled(self.verdicts()),
            findings=self.findings(),
            outcomes=self.outcomes(),
            policy=self.policy,
            classes=CLASSES,
            statistics=self.statistics(),
            decisions=self.decision_table(),
            predictions=self.predictions(),
            cards=[{"name": "probe", "digest": "ab" * 32, "out_of_fold": True}],
            digests={"spec": "cd" * 32},
            seed=self.seed,
            salt=self.salt,
        )

    def _shuffled(self, table: pa.Table) -> pa.Table:
        if self.shuffle is None:
            return table
        order = np.random.default_rng(self.shuffle).permutation(table.num_rows)
        return table.take(pa.array(order))


@pytest.fixture(scope="session")
def world() -> Callable[..., World]:
    return World
