"""What the App says about samples and labels, before any database."""

from __future__ import annotations

import pyarrow as pa
import pytest

from curate.check import build_findings, discover
from curate.review import rows

OF_IMAGES = sorted(
    (check.name, issue) for check in discover().values() if check.view == "samples" for issue in check.issues
)


def copies(check: str, issue: str) -> pa.Table:
    one = {"issue": issue, "sample_id": "b", "related_ids": ["a"], "risk": 1.0, "flagged": True}
    return build_findings(check, [{**one, "reason_code": issue, "reason_args": {}}])


@pytest.mark.parametrize(("check", "issue"), OF_IMAGES)
def test_what_a_check_of_images_finds_casts_no_doubt_on_a_label(check: str, issue: str) -> None:
    spoken = rows.spoken(copies(check, issue), None, rows.plain_render)
    assert spoken.samples["b"].risk == 1.0
    assert spoken.samples["b"].label_risk is None


@pytest.mark.parametrize("issue", ["leakage_duplicate", "leakage_near_duplicate"])
def test_copies_and_near_copies_in_other_splits_are_a_family(issue: str) -> None:
    assert rows.families(copies("leakage", issue), rows.LEAK_ISSUES) == {"a": "a", "b": "a"}
