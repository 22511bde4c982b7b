"""Several reasons as one sentence; what of several reasons holds a row back; annotators who never erred in no list."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.check import build_findings
from curate.reasons.join import join_reasons
from curate.report import people
from curate.review.rows import spoken
from curate.schema import VERDICTS, table_from_rows

TEACHERS = "4 of 5 teachers say cat (mean probability 0.93); the given label dog gets 0.02"
ANNOTATOR = "Annotator 118 makes 3 x the errors of others on dog."


def test_reasons_are_joined_in_an_order_that_does_not_depend_on_theirs() -> None:
    parts = [
        ("annotator_error_prone", ANNOTATOR),
        ("teachers_disagree", TEACHERS),
        ("neighbours_vote", "28 of 30 images."),
    ]
    expected = f"{TEACHERS}; 28 of 30 images; annotator 118 makes 3 x the errors of others on dog."
    assert join_reasons(parts) == expected
    assert join_reasons(reversed(parts)) == expected
    assert join_reasons([parts[0], parts[0]]) == ANNOTATOR
    assert join_reasons([]) == ""


@settings(deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(["teachers_doubt", "x"]), st.text("abc .", min_size=1, max_size=9))))
def test_no_reason_is_lost_or_said_twice(parts: list[tuple[str, str]]) -> None:
    said = join_reasons(parts)
    texts = {text.strip().removesuffix(".") for _, text in parts} - {""}
    assert said.endswith(".") == bool(texts)
    assert sorted(said.removesuffix(".").split("; ")) == sorted(texts) if texts else said == ""


def _finding(issue: str, code: str, **more: object) -> dict[str, object]:
    return {
        "issue": issue,
        "sample_id": "s",
        "label_id": "l",
        "risk": 0.9,
        "reason_code": code,
        "reason_args": {},
    } | more


def test_the_app_shows_what_is_said_of_a_label_as_one_sentence() -> None:
    rows = [
        _finding("mislabel", "teachers_disagree"),
        _finding("annotator_error_prone", "annotator_error_prone", risk=0.5),
    ]
    about_image = _finding("blurry", "image_blurry", label_id=None, risk=0.1)
    findings = pa.concat_tables([build_findings("c", rows), build_findings("image_quality", [about_image])])
    told = spoken(findings, table_from_rows([], VERDICTS), lambda code, _: f"The {code}.")
    assert told.labels["l"].reasons == ["The teachers_disagree; the annotator_error_prone."]
    assert told.samples["s"].reasons == ["The teachers_disagree; the annotator_error_prone.", "The image_blurry."]


def _person(name: str, n_contradicted: int, value: float) -> dict[str, object]:
    detail = {"n_contradicted": n_contradicted}
    return {
        "check": "annotators",
        "name": "error_rate",
        "group": f"annotator={name}",
        "value": value,
        "low": value / 2,
    } | {"high": value * 2, "n": 20, "detail": detail}


def test_who_errs_most_lists_nobody_who_never_erred() -> None:
    def whole(name: str, value: float) -> dict[str, object]:
        return {
            "check": "annotators",
            "name": name,
            "group": None,
            "value": value,
            "low": None,
            "high": None,
            "n": 60,
        }

    rows = [whole("n_annotators", 3.0), whole("n_answers_per_image", 3.0)]
    rows += [_person("ann", 0, 0.0), _person("bob", 2, 0.1), _person("cleo", 4, 0.2)]
    told = people.annotators([{"detail": {}, **row} for row in rows])
    assert told is not None
    assert [row["who"] for row in told["worst"]] == ["cleo", "bob"]
    assert (told["n_judged"], told["n_without"]) == (3, 1)
