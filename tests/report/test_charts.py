from __future__ import annotations

from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from curate.report import charts
from curate.report.wording import interval, percent, quantity, sentence

GOLDEN = (
    '<svg class="chart" role="img" aria-label="two &amp; one" viewBox="0 0 520 44" width="520">'
    '<text class="label" x="144" y="16" text-anchor="end">a<title>a</title></text>'
    '<rect class="bar" x="150" y="5" width="105.0" height="13"/>'
    '<path class="whisker" d="M202.5 12.0H360.0M202.5 7v9M360.0 7v9"/>'
    '<text class="value" x="368" y="16">50%</text>'
    '<text class="label" x="144" y="36" text-anchor="end">&lt;b&gt;<title>&lt;b&gt;</title></text>'
    '<text class="none" x="154" y="36">insufficient data</text></svg>'
)
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn")), max_size=40)
NUMBER = st.none() | st.floats(0, 1e9, allow_nan=False)


def test_a_small_chart_is_drawn_so() -> None:
    rows = [{"label": "a", "value": 0.5, "low": 0.25, "high": 1.0}, {"label": "<b>", "value": None}]
    assert charts.bars(rows, title="two & one", unit="%") == GOLDEN


def test_nothing_to_show_is_no_chart() -> None:
    assert charts.bars([], title="empty") == ""


@given(st.lists(st.tuples(TEXT, NUMBER, NUMBER), min_size=1, max_size=6), TEXT)
def test_bars_hold_any_text_as_text(rows: list[tuple[str, float | None, float | None]], title: str) -> None:
    chart = charts.bars([{"label": a, "value": b, "low": c, "high": c} for a, b, c in rows], title=title)
    root = ET.fromstring(chart)  # noqa: S314 - our own output
    assert root.get("aria-label") == title
    assert [node.text or "" for node in root.iter("title")] == [a for a, _, _ in rows]
    assert {node.tag for node in root.iter()} <= {"svg", "text", "title", "rect", "path"}
    assert all(0 <= float(node.get("width") or 0) <= charts.BAR_PX for node in root.iter("rect"))


@given(st.lists(TEXT, min_size=1, max_size=5))
def test_a_matrix_holds_any_text_as_text_and_stays_inside(names: list[str]) -> None:
    cells = [[row * len(names) + column for column in range(len(names))] for row in range(len(names))]
    root = ET.fromstring(charts.matrix(names, cells, title="m"))  # noqa: S314 - our own output
    width, height = (float(value) for value in (root.get("viewBox") or "").split()[2:])
    for node in root.iter("rect"):
        assert float(node.get("x") or 0) + float(node.get("width") or 0) <= width
        assert float(node.get("y") or 0) + float(node.get("height") or 0) <= height
    titles = [node.text or "" for node in root.iter("title")]
    assert titles == [name for name in names for _ in range(2)]


def test_numbers_are_written_for_people() -> None:
    assert [percent(value) for value in (0.0, 0.0005, 0.1, 0.123456, 1.0)] == [
        "0%",
        "0.05%",
        "10%",
        "12.3%",
        "100%",
    ]
    assert interval(0.01, 0.2) == "1% to 20%"
    assert interval(None, 0.2) == ""
    assert quantity("leakage.share_of_samples", 0.0183129) == "1.8%"
    assert quantity("duplicates.ran", 1.0) == "1"
    assert quantity("x.y", None) == "–"  # noqa: RUF001 - the dash that stands for nothing
    assert quantity("x.y", "NaN") == "nan" or quantity("x.y", "NaN") == "NaN"


def test_a_sentence_names_files_and_rounds() -> None:
    args = {"kept": "0" * 24}
    assert "of a/b.png, which stays" in sentence("exact_duplicate_bytes", args, {"0" * 24: "a/b.png"})
    assert "of 000000, which stays" in sentence("exact_duplicate_bytes", args, {})
    assert "0.123 of the image" in sentence("huge_box", {"share_of_image": 0.123456}, {})
