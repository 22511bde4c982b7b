from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from curate import schema
from curate.check import Check, build_statistics, run_check
from curate.checks.label_noise import CHECK, LabelNoiseParams
from curate.errors import InputError
from curate.gates import gate_result
from curate.policy import Gate
from curate.reasons.label_noise import SENTENCES
from curate.teachers.noise import Bools, Ints

NAMES = ("bird", "cat", "dog")
N = 600


def view(order: Ints | None = None, *, spoil: bool = False) -> tuple[pa.Table, Bools]:
    """Return a labels view with 10 % wrong labels and two teachers; and which labels are wrong."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, N)
    given = np.where(random.random(N) < 0.1, (truth + 1) % 3, truth)
    columns = {
        "sample_id": [f"s{i:04d}" for i in range(N)],
        "label_id": [f"l{i:04d}" for i in range(N)],
        "label": [NAMES[i] for i in given],
        "reference_label": [NAMES[i] for i in truth],
    }
    for name in ("a", "b"):
        logits = random.normal(size=(N, 3)) + 5.0 * np.eye(3)[truth]
        p = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float16)
        if spoil:
            p[0] = np.nan if name == "a" else p[0]
            p[1, 0] = -1
        columns[f"prob_{name}"] = pa.FixedSizeListArray.from_arrays(pa.array(p.ravel()), 3)
    table = pa.table(columns)
    return (table if order is None else table.take(pa.array(order))), given != truth


def check(**params: object) -> Check:
    return replace(CHECK, params=replace(LabelNoiseParams(classes=NAMES), **params))


def test_wrong_labels_are_found_with_suggestion_and_reason() -> None:
    table, wrong = view()
    result = run_check(check(), table)
    assert result.findings.schema.equals(schema.FINDINGS)
    flagged = result.findings.filter(result.findings["flagged"])
    found = {int(i[1:]) for i in flagged["sample_id"].to_pylist()}
    truly = set(np.flatnonzero(wrong).tolist())
    assert len(found & truly) / len(found | truly) > 0.9
    row = flagged.to_pylist()[0]
    args = json.loads(row["reason_args"])
    text = SENTENCES[row["reason_code"]].format(**args)
    assert text.startswith(f"{args['n_agree']} of 2 teachers say {row['suggested_label']}")
    assert set(result.findings["issue"].to_pylist()) == {"mislabel"}


def test_statistics_say_rate_flags_by_class_and_teachers() -> None:
    result = run_check(check(), view()[0])
    rows = {(r["name"], r["group"]): r for r in result.statistics.to_pylist()}
    rate = rows["noise_rate", None]
    assert rate["low"] <= rate["value"] <= rate["high"]
    assert abs(rate["value"] - 0.1) < 0.03
    assert json.loads(rate["detail"])["regime"] == "independent"
    by_class = [rows["share_flagged", f"class={name}"] for name in NAMES]
    assert sum(r["n"] for r in by_class) == N
    total = sum(r["n"] * r["value"] for r in by_class)
    assert total == pytest.approx(rows["n_flagged", None]["value"])
    assert sum(rows["teacher_weight", f"teacher={t}"]["value"] for t in "ab") == pytest.approx(1.0, abs=1e-5)


def test_row_order_batch_size_and_the_reference_leave_no_trace() -> None:
    whole = run_check(check(), view()[0])
    order = np.random.default_rng(3).permutation(N)
    other = run_check(check(), view(order)[0].drop_columns(["reference_label"]), batch_rows=37)
    assert whole.findings.equals(other.findings)
    assert whole.statistics.equals(other.statistics)


def test_shared_features_from_the_cards_choose_the_regime() -> None:
    result = run_check(check(features=(("a", "pixels"), ("b", "pixels"))), view()[0])
    detail = json.loads(result.statistics.to_pylist()[0]["detail"])
    assert detail["regime"] == "shared"
    assert check().key_parts() != check(features=(("a", "pixels"),)).key_parts()


def test_rows_that_cannot_be_judged_are_findings_of_their_own() -> None:
    result = run_check(check(), view(spoil=True)[0])
    odd = result.findings.filter(pa.compute.equal(result.findings["issue"], "unjudged_label")).to_pylist()
    assert [row["label_id"] for row in odd] == ["l0001"]
    assert odd[0]["reason_code"] == "probabilities_invalid"
    unjudged = next(r for r in result.statistics.to_pylist() if r["name"] == "n_unjudged")
    assert unjudged["value"] == 1


def test_too_little_data_is_insufficient_and_never_a_pass() -> None:
    for table in (view()[0].slice(0, 0), view()[0].slice(0, 10)):
        result = run_check(check(), table)
        assert result.findings.num_rows == 0
        rate = result.statistics.to_pylist()[0]
        assert (rate["name"], rate["value"], rate["outcome"]) == ("noise_rate", None, "insufficient data")


def test_classes_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(InputError, match="2 distinct"):
        run_check(check(classes=()), view()[0].filter(pa.compute.not_equal(view()[0]["label"], "dog")))


@pytest.mark.parametrize("cut", [0.036, 0.97])
def test_an_audited_cut_decides_what_is_flagged_and_suggests_only_another_class(cut: float) -> None:
    table, _ = view()
    plain = run_check(check(), table).findings.to_pylist()
    result = run_check(check(flag_risk=cut), table)
    flagged = [row for row in result.findings.to_pylist() if row["flagged"]]
    n_plain = sum(row["flagged"] for row in plain)
    assert (len(flagged) > n_plain) == (cut < 0.5)
    assert (len(flagged) < n_plain) == (cut > 0.5)
    assert all(row["risk"] >= cut for row in flagged)
    given = dict(zip(table["label_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    assert all(row["suggested_label"] != given[row["label_id"]] for row in flagged)
    counted = {row["name"]: row["value"] for row in result.statistics.to_pylist() if row["group"] is None}
    assert counted["n_flagged"] == len(flagged)


def test_a_rate_on_which_the_estimates_disagree_passes_no_gate_and_says_why() -> None:
    random = np.random.default_rng(1)
    truth = random.integers(0, 3, N)
    logits = random.normal(size=(N, 3)) + 0.7 * np.eye(3)[truth]  # teachers that know next to nothing
    columns = {
        "sample_id": [f"s{i:04d}" for i in range(N)],
        "label_id": [f"l{i:04d}" for i in range(N)],
        "label": [NAMES[i] for i in truth],
    }
    for name in ("a", "b"):
        shifted = logits + random.normal(scale=0.3, size=(N, 3))
        p = (np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)).astype(np.float16)
        columns[f"prob_{name}"] = pa.FixedSizeListArray.from_arrays(pa.array(p.ravel()), 3)
    result = run_check(check(features=(("a", "x"), ("b", "x"))), pa.table(columns))
    (rate,) = [r for r in result.statistics.to_pylist() if (r["name"], r["group"]) == ("noise_rate", None)]
    assert rate["outcome"] == "insufficient data"
    gates = gate_result(result.statistics, [Gate(statistic="label_noise.noise_rate", max=1.0)])
    assert gates.outcome == "failed"  # a number that nobody knows is not below a bound
    why = json.loads(gates.rows["reason_args"][0].as_py())["why"]
    assert why.startswith("its estimates disagree (channel ")
    assert why.endswith("; an audit tells: curate audit")
    audit = build_statistics("audit", [{"name": "noise_rate", "value": 0.031, "low": 0.02, "high": 0.05, "n": 200}])
    both = gate_result(
        pa.concat_tables([result.statistics, audit]), [Gate(statistic="label_noise.noise_rate", max=1.0)]
    )
    assert both.outcome == "failed"  # an audit has a gate of its own
    why = json.loads(both.rows["reason_args"][0].as_py())["why"]
    assert why.endswith("; the audit says 3.1%: put the gate on audit.noise_rate")


def test_numbers_of_a_small_declared_group_are_hidden_with_those_that_would_tell_them() -> None:
    table, _ = view()
    ages = pa.array(["old"] * 9 + ["young"] * 40 + ["middle"] * (N - 49))
    told = {
        (r["name"], r["group"]): r
        for r in run_check(check(), table.append_column("attr_age", ages)).statistics.to_pylist()
    }
    for group, shown in (("old", "<10"), ("young", "hidden with it")):
        for name in ("share_flagged", "mean_risk"):
            row = told[name, f"attr_age={group}"]
            assert (row["value"], row["n"], row["outcome"]) == (None, None, "insufficient data")
            assert json.loads(row["detail"]) == {"shown": shown}
    assert told["share_flagged", "attr_age=middle"]["n"] == N - 49
