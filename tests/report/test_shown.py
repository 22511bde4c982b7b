"""What a page reads of a version is enough for it, and names are those of the version."""

from __future__ import annotations

import pytest

from curate.manifest.read import load_release
from curate.report.build import SHOWN
from curate.report.page import render_page
from curate.report.wording import FileNames
from curate.state import RunResult


@pytest.mark.parametrize("name", ["shapes", "street"])
def test_the_columns_that_are_read_make_the_same_page(name: str, request: pytest.FixtureRequest) -> None:
    result: RunResult = request.getfixturevalue(name)
    assert result.published is not None
    whole, shown = load_release(result.published.path), load_release(result.published.path, SHOWN)
    assert shown.soft is None
    assert shown.data.num_columns < whole.data.num_columns
    pages = [
        render_page(release, dict.fromkeys, name=name, number=1, description="", provenance=[])
        for release in (whole, shown)
    ]
    assert pages[0] == pages[1]


def test_names_are_found_by_id_and_by_long_path(street: RunResult) -> None:
    assert street.published is not None
    release = load_release(street.published.path)
    names = FileNames(release)
    row = release.data.slice(0, 1).to_pylist()[0]
    short = "/".join(row["uri"].split("/")[-2:])
    assert names[row["sample_id"]] == names[row["uri"]] == short
    assert names.get(row["label_id"], "none") == "none"
    assert names.get("far/away/from.here", "none") == "none"
    assert set(names) == set(release.data["sample_id"].to_pylist()) | set(
        release.excluded["sample_id"].drop_null().to_pylist()
    )
