"""The laws of design.md that every check obeys. A new check is put through them by being discovered."""

from __future__ import annotations

import json
import pkgutil
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from checks_views import (
    CLASSES,
    TEACHERS,
    VIEWS,
    boxes_view,
    label,
    labels_view,
    regions_view,
    sample,
    samples_view,
    tags_view,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import curate.reasons
from curate import check, schema
from curate.errors import ConfigError, CurateError, InputError
from curate.ingest.rle import encode_mask
from curate.reasons import checks
from curate.teachers.regions.region import Region
from curate.teachers.regions.shapes import Shape

CHECKS = check.discover()
SENTENCES = {
    code
    for module in pkgutil.iter_modules(curate.reasons.__path__)
    for code in getattr(import_module(f"curate.reasons.{module.name}"), "SENTENCES", {})
}
EVERY = pytest.mark.parametrize("name", list(CHECKS))
QUICK = settings(
    max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)


def _few(*values: object) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


_boxes = st.one_of(
    st.none(),
    _few([0.1, 0.1, 0.3, 0.3], [0.1, 0.1, 0.3, 0.301], [0.9, 0.9, 0.3, 0.3], [float("nan"), 0, 1, 1], [0, 0, 0, 0]),
    st.lists(st.floats(-0.5, 1.5), min_size=4, max_size=4),
)
_tracks = st.one_of(
    st.none(),
    st.lists(
        st.fixed_dictionaries(
            {
                "track_id": _few("x", "y"),
                "label": _few(None, "cat"),
                "bbox": _few([0.1, 0.1, 0.3, 0.3], [0.5, 0.5, 0.3, 0.3], [0.0, 0.0, 0.0, 0.0], [float("nan")] * 4),
            }
        ),
        max_size=3,
    ),
)
_counts = st.one_of(st.none(), st.binary(max_size=6), _few(b"", b"04", b"11N2", b"`"))
_masks = st.one_of(
    st.none(), st.fixed_dictionaries({"height_px": _few(2, 48), "width_px": _few(2, 64), "counts": _counts})
)
_probs = st.lists(st.floats(0.01, 1.0), min_size=len(CLASSES), max_size=len(CLASSES))


@st.composite
def samples(draw: st.DrawFn) -> list[dict[str, Any]]:
    rows = []
    for number in range(draw(st.integers(0, 12))):
        values = {
            "split": draw(_few("train", "val", "test", None)),
            "content_sha256": draw(_few("a", "b", None, f"own {number}")),
            "thumbnail_sha256": draw(_few("p", None, f"own {number}")),
            "phash": draw(_few(0, 1, 3, 2**64 - 1, 2**63, None)),
            "entropy_bits": draw(_few(0.0, 6.0, None)),
            "brightness_p50": draw(_few(0.1, 0.12, 0.9, None)),
            "width_px": draw(_few(64, 65, 3, 2000)),
            "attr_age": draw(_few("young", "old", None)),
            "attr_light": draw(_few("day", "night")),
            "group_video": draw(_few("v1", "v2", None)),
            "group_subject": draw(_few("s1", None)),
            "error_code": draw(_few(None, None, None, "truncated")),
        }
        rows.append(sample(number, **values))
    return rows


@st.composite
def _scenes(draw: st.DrawFn, number: int) -> dict[str, Any]:
    """Given boxes of a picture, and what three detectors see: mostly the same, enough of it to fit a model."""
    random = Random(draw(st.integers(0, 10**6)))  # noqa: S311 - a simulation
    given, seen = [], {name: [] for name in ("one", "two", "three")}
    for place in range(draw(_few(0, 1, 9))):
        true = [
            random.random() * 0.7,
            random.random() * 0.7,
            0.05 + random.random() * 0.2,
            0.05 + random.random() * 0.2,
        ]
        name = random.choice(CLASSES)
        one = {"label_id": f"{number}-{place}", "label": name, "bbox": true, "is_crowd": random.random() < 0.05}
        given += [one] if random.random() < 0.9 else []
        for found in seen.values():
            box = [value + 0.01 * random.gauss(0, 1) for value in true]
            found.append({"label": name, "bbox": box, "score": random.random()})
    odd = {"label_id": f"{number}-odd", "label": draw(_few("cat", None)), "bbox": draw(_boxes), "is_crowd": None}
    seen["one"].append({"label": "cat", "bbox": draw(_boxes), "score": draw(_few(0.5, None, float("nan"), 2.0))})
    columns: dict[str, Any] = {f"boxes_{name}": found for name, found in seen.items()}
    return columns | {"given_boxes": [*given, odd] if draw(st.booleans()) else given}


@st.composite
def _regions(draw: st.DrawFn, number: int) -> dict[str, Any]:
    """Given masks of a picture, some broken, and regions of any of the classes, mostly quiet and drawn well."""
    random = np.random.default_rng(draw(st.integers(0, 10**6)))
    masks = [{"label_id": f"{number}-{at}", "label": one, "mask": draw(_masks)} for at, one in enumerate(CLASSES)]
    masks += [
        {"label_id": f"{number}-{at}", "label": one, "mask": encode_mask(random.random((4, 6)) < 0.5)}
        for at, one in enumerate(("cat", "cat", "dog"), start=len(CLASSES))
    ]
    regions = []
    for at in range(draw(st.integers(0, 4))):
        risk = random.random(2) * draw(_few(0.05, 0.5))
        missing = draw(st.booleans())
        sides = (random.random(4).astype(np.float32), *(random.normal(0, 0.01, (2, 4)).astype(np.float32)))
        region = Region(
            component=-1 if missing else at,
            label=draw(_few(*CLASSES)),
            other=draw(_few(None, *CLASSES)),
            area_px=6,
            area_share=0.25,
            bbox_px=(at, 1, 2, 3),
            risk={"missing": risk[0]} if missing else {"wrong_class": risk[0], "spurious": risk[1]},
            right_prob=draw(_few(0.0, 0.7, 1.0)),
            n_agree=draw(_few(0, 1)),
            n_teachers=1,
            seen=Shape((0.1, 0.2, 0.5, 0.5), np.ones((2, 3), dtype=np.bool_)),
            **({} if missing else dict(zip(("length", "shift", "spread"), sides, strict=True))),
        )
        regions.append(region.to_row())
    return {"given_masks": masks, "regions": draw(_few(None, regions))}


@st.composite
def _tagged(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Images with several labels, some of them wrong, and three teachers; enough of them to fit a model, or few."""
    random = Random(draw(st.integers(0, 10**6)))  # noqa: S311 - a simulation
    unsure = draw(_few(0.1, 1.0))
    rows = []
    for number in range(draw(_few(0, 1, 2, 40))):
        true = [random.random() < 0.5 for _ in CLASSES]
        given = [there ^ (random.random() < 0.08) for there in true]
        names = [name for name, there in zip(CLASSES, given, strict=True) if there]
        tags = [{"label_id": schema.stable_id(f"{number} {name}"), "label": name} for name in names]
        teachers = {}
        for teacher in ("present_a", "present_b", "present_c"):
            odds = [(3.0 if there else -3.0) + random.gauss(0, 2 * unsure) for there in true]
            probs = [np.float16(1 / (1 + np.exp(-odd))) for odd in odds]
            probs[0] = np.float16("nan") if random.random() < 0.1 else probs[0]
            teachers[teacher] = None if random.random() < 0.1 else probs
        rows.append(sample(number, given_tags=tags, **teachers))
    return rows


@st.composite
def views(draw: st.DrawFn, name: str) -> pa.Table:
    pictures = draw(samples())
    if CHECKS[name].view == "samples":
        return samples_view(pictures)
    if CHECKS[name].view == "tags":
        return tags_view(draw(_tagged()))
    if CHECKS[name].view == "boxes":
        return boxes_view([picture | draw(_scenes(number)) for number, picture in enumerate(pictures)])
    if CHECKS[name].view == "regions":
        return regions_view([picture | draw(_regions(number)) for number, picture in enumerate(pictures)])
    rows = []
    for number in range(draw(st.integers(0, 16)) if pictures else 0):
        probs = {}
        for field in TEACHERS:
            raw = np.asarray(draw(_probs))
            probs[field.name] = (raw / raw.sum()).astype(np.float16)
        values = {
            "task": draw(_few(*schema.TASKS)),
            "label": draw(_few(*CLASSES)),
            "bbox": draw(_boxes),
            "mask": draw(_masks),
            "polygons": draw(_few(None, [], [[0.1, 0.1, 0.2, 0.2]], [[0.1, 0.1, 0.4, 0.1, 0.4, 0.4]])),
            "track_id": draw(_few(None, "t1", "t2")),
            "frame": draw(_few(None, 0, 1, 2, 7)),
            "annotator": draw(_few(None, "ann")),
            "tracks_a": draw(_tracks),
            "tracks_b": draw(_tracks),
        }
        rows.append(label(number, draw(_few(*pictures)) | {"error_code": None}, **probs, **values))
    return labels_view(rows)


def outcome(name: str, view: pa.Table, **options: int) -> tuple[list[Any], list[Any]] | str:
    """Return everything a check says, or the name of the error with which it refuses."""
    try:
        result = check.run_check(CHECKS[name], view, **options)
    except CurateError as error:
        return type(error).__name__
    return result.findings.to_pylist(), _rounded(result.statistics.to_pylist())


def _rounded(rows: list[dict[str, Any]]) -> list[Any]:
    return [json.loads(json.dumps(row)) for row in rows]


@EVERY
def test_risk_and_outcomes_are_in_their_ranges(name: str) -> None:
    @QUICK
    @given(views(name))
    def law(view: pa.Table) -> None:
        said = outcome(name, view)
        if isinstance(said, str):
            return
        findings, statistics = said
        for row in findings:
            assert 0.0 <= row["risk"] <= 1.0
            assert row["check"] == name
            assert row["issue"] in CHECKS[name].issues  # a rule of a policy can name it
            args = json.loads(row["reason_args"])
            assert row["reason_code"] in SENTENCES
            if row["reason_code"] in checks.SENTENCES:
                assert checks.SENTENCES[row["reason_code"]].format(**args)
            assert row["suggested_prob"] is None or 0.0 <= row["suggested_prob"] <= 1.0
            assert row["related_ids"] == (sorted(row["related_ids"]) if row["related_ids"] else None)
        assert len({row["finding_id"] for row in findings}) == len(findings)
        keys = [(row["name"], row["group"]) for row in statistics]
        assert len(set(keys)) == len(keys)
        for row in statistics:
            assert row["name"] in CHECKS[name].statistics  # a gate of a policy can name it
            assert row["outcome"] in {None, "insufficient data", "errored"}
            assert row["value"] is not None or row["outcome"] is not None
            if row["low"] is not None and row["value"] is not None:
                assert row["low"] - 1e-9 <= row["value"] <= row["high"] + 1e-9

    law()


@EVERY
def test_row_order_and_batch_size_leave_no_trace(name: str) -> None:
    @QUICK
    @given(views(name), st.randoms(use_true_random=False), st.integers(1, 7))
    def law(view: pa.Table, random: Random, batch_rows: int) -> None:
        order = list(range(view.num_rows))
        random.shuffle(order)
        shuffled = view.take(pa.array(order, pa.int64()))
        whole = outcome(name, view)
        assert outcome(name, shuffled) == whole
        assert outcome(name, shuffled, batch_rows=batch_rows) == whole

    law()


@EVERY
def test_worker_count_leaves_no_trace(name: str) -> None:
    one = CHECKS[name]
    if one.score is None:
        pytest.skip("a check without findings")
    score = one.score

    @QUICK
    @given(views(name))
    def law(view: pa.Table) -> None:
        whole = outcome(name, view)
        if isinstance(whole, str):
            return
        state = one.fit(iter(view.to_batches()), one.params) if one.fit else None
        with ThreadPoolExecutor(3) as pool:
            parts = list(pool.map(lambda b: score(b, state, one.params), view.to_batches(max_chunksize=2)))
        together = pa.concat_tables([schema.empty(schema.FINDINGS), *reversed(parts)]).sort_by("finding_id")
        assert together.to_pylist() == whole[0]

    law()


@EVERY
def test_rows_can_be_scored_in_shards(name: str) -> None:
    one = CHECKS[name]
    if one.scope != "row" or one.score is None:
        pytest.skip("its scope is wider than a row")
    score = one.score

    @QUICK
    @given(views(name), st.integers(0, 16))
    def law(view: pa.Table, cut: int) -> None:
        state = one.fit(iter(view.to_batches()), one.params) if one.fit else None
        whole = outcome(name, view)
        shards = [view.slice(0, cut), view.slice(cut)] if cut < view.num_rows else [view]
        parts = [score(b, state, one.params) for shard in shards for b in shard.to_batches()]
        together = pa.concat_tables([schema.empty(schema.FINDINGS), *parts]).sort_by("finding_id")
        assert together.to_pylist() == whole[0]

    law()


@EVERY
def test_an_empty_table_works_and_passes_nothing(name: str) -> None:
    view = VIEWS[CHECKS[name].view].empty_table()
    result = check.run_check(CHECKS[name], view)
    assert result.findings.schema == schema.FINDINGS
    assert result.statistics.schema == schema.STATISTICS
    assert result.findings.num_rows == 0
    assert all(row["outcome"] in {"insufficient data", "errored"} for row in result.statistics.to_pylist())


@EVERY
def test_a_missing_column_is_named(name: str) -> None:
    one = CHECKS[name]
    view = VIEWS[one.view].empty_table()
    for need in one.needs:
        gone = [c for c in view.column_names if c == need or (need.endswith("*") and c.startswith(need[:-1]))]
        assert gone, f"{need} is no column of the {one.view} view"
        with pytest.raises(InputError, match=need.replace("*", r"\*")):
            check.run_check(one, view.drop_columns(gone))


@EVERY
def test_the_input_is_not_modified(name: str) -> None:
    @QUICK
    @given(views(name))
    def law(view: pa.Table) -> None:
        before = _bytes_of(view)
        outcome(name, view)
        assert _bytes_of(view) == before

    law()


def _bytes_of(view: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, view.schema) as writer:
        writer.write_table(view)
    return sink.getvalue().to_pybytes()


@EVERY
def test_params_and_name_go_into_the_cache_key(name: str) -> None:
    key = json.loads(CHECKS[name].key_parts())
    assert key["check"] == name
    assert key["version"] == CHECKS[name].version


TOY = """
import pyarrow as pa
from dataclasses import dataclass
from curate.check import Check, build_findings

@dataclass(frozen=True)
class ToyParams:
    word: str = "cat"

def score(batch, state, params):
    rows = [
        {"issue": "toy", "sample_id": s, "label_id": i, "risk": 0.5, "reason_code": "toy", "reason_args": {}}
        for s, i, l in zip(*(batch[c].to_pylist() for c in ("sample_id", "label_id", "label")))
        if l == params.word
    ]
    return build_findings("toy", rows)

CHECK = Check("toy", 1, "labels", ("sample_id", "label_id", "label"), "row", ToyParams(), score=score)
NO_CHECK = 3
TWIN = Check("duplicates", 1, "labels", ("label",), "row", ToyParams(), score=score)
"""


def _installed(folder: Path, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "toy_check.py").write_text(TOY)
    info = folder / "toy_check-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-check\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[curate.checks]\ntoy = toy_check:{target}\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "toy_check", raising=False)


def test_a_check_of_another_package_is_found_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _installed(tmp_path, "CHECK", monkeypatch)
    checks = check.discover()
    assert list(checks)[-1] == "toy"
    view = labels_view([label(0, sample(0)), label(1, sample(1), label="dog")])
    result = check.run_check(checks["toy"], view)
    assert result.findings["label_id"].to_pylist() == [schema.stable_id("label", "0")]


@pytest.mark.parametrize(("target", "says"), [("NO_CHECK", "must name a curate"), ("TWIN", "Two checks")])
def test_a_broken_entry_point_is_named(
    target: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _installed(tmp_path, target, monkeypatch)
    with pytest.raises(ConfigError, match=says):
        check.discover()


def test_a_check_that_cannot_be_imported_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _installed(tmp_path, "NOT_THERE", monkeypatch)
    with pytest.raises(
        ConfigError,
        match=r"'toy' in curate\.checks names 'toy_check:NOT_THERE' of the package toy-check 1.*AttributeError",
    ):
        check.discover()


def _replaced(table: pa.Table, name: str, values: list[object], kind: pa.DataType) -> pa.Table:
    at = table.column_names.index(name)
    return table.set_column(at, pa.field(name, kind), pa.array(values, kind))


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (lambda t: _replaced(t, "risk", [1.5], pa.float64()), r"'risk' of the check mine .*1\.5 for the sample"),
        (lambda t: _replaced(t, "risk", [-0.1], pa.float64()), "'risk' of the check mine"),
        (lambda t: _replaced(t, "risk", [float("nan")], pa.float64()), "'risk' of the check mine"),
        (lambda t: _replaced(t, "risk", [None], pa.float64()), "'risk' in the findings of the check mine is null"),
        (lambda t: _replaced(t, "risk", [1], pa.int64()), "'risk' .* must be double; it is int64"),
        (lambda t: t.drop_columns(["issue"]), "findings of the check mine lack the column 'issue'"),
        (lambda t: t.append_column("mood", pa.array(["x"])), "a column too many: 'mood'"),
        (lambda _: [{"risk": 0.5}], "must give its findings as a pyarrow.Table"),
    ],
)
def test_findings_that_break_the_contract_name_check_and_column(broken: Any, says: str) -> None:  # noqa: ANN401 - a function
    row = {"issue": "toy", "sample_id": "s", "risk": 0.5, "reason_code": "toy"}
    good = check.build_findings("mine", [row])
    view = samples_view([sample(0)])

    def running(made: object) -> check.CheckResult:
        return check.run_check(
            check.Check("mine", 1, "samples", ("sample_id",), "row", None, score=lambda *_: made), view
        )

    assert running(good.select(good.column_names[::-1])).findings.equals(good)  # order of columns is no matter
    with pytest.raises(InputError, match=says):
        running(broken(good))


def test_statistics_that_break_the_contract_name_check_and_column() -> None:
    bad = check.build_statistics("mine", [{"name": "x", "value": 1.0}]).drop_columns(["outcome"])
    one = check.Check("mine", 1, "samples", ("sample_id",), "row", None, summarize=lambda *_: bad)
    with pytest.raises(InputError, match="statistics of the check mine lack the column 'outcome'"):
        check.run_check(one, samples_view([sample(0)]))


def test_the_example_of_the_architecture_page_is_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text(encoding="utf-8")
    (code,) = (one.partition("```")[0] for one in page.split("```python\n")[1:])
    module = ModuleType("soft_pictures")
    monkeypatch.setitem(sys.modules, "soft_pictures", module)  # dataclasses look their module up
    exec(code, module.__dict__)  # noqa: S102 - our own page
    view = samples_view(
        [sample(0, blur_laplacian_std=0.01), sample(1, blur_laplacian_std=0.5), sample(2, blur_laplacian_std=None)]
    )
    result = check.run_check(module.CHECK, view)
    (found,) = result.findings.to_pylist()
    assert (found["sample_id"], found["issue"], found["flagged"]) == (sample(0)["sample_id"], "soft_picture", True)
    (share,) = result.statistics.to_pylist()
    assert (share["name"], share["value"], share["n"]) == ("share_soft", 0.5, 2)
    assert share["name"] in module.CHECK.statistics
    assert check.run_check(module.CHECK, view.slice(0, 0)).statistics["outcome"].to_pylist() == [
        "insufficient data"
    ]


def test_a_crash_becomes_errored_and_never_an_empty_pass() -> None:
    def crash(*_: object) -> pa.Table:
        msg = "boom"
        raise ZeroDivisionError(msg)

    broken = check.Check("broken", 1, "samples", ("sample_id",), "row", None, score=crash)
    with pytest.raises(ZeroDivisionError) as caught:
        check.run_check(broken, samples_view([sample(0)]))
    result = check.errored(broken, caught.value)
    row = result.statistics.to_pylist()[0]
    assert (row["check"], row["name"], row["outcome"]) == ("broken", "ran", "errored")
    assert json.loads(row["detail"]) == {"error": "ZeroDivisionError", "message": "boom"}
