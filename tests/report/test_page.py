from __future__ import annotations

import re
from html.parser import HTMLParser

from curate.state import RunResult

HOSTILE = "<script>alert('x')</script>"


class Collector(HTMLParser):
    """The tags, ids and attributes of a page, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page_of(run: RunResult) -> tuple[str, Collector, str]:
    assert run.report is not None
    page = run.report.read_text(encoding="utf-8")
    parsed = Collector()
    parsed.feed(page)
    return page, parsed, " ".join(" ".join(parsed.text).split())


def test_page_loads_nothing_and_runs_nothing(shapes: RunResult, street: RunResult) -> None:
    for run in (shapes, street):
        page, parsed, _ = page_of(run)
        names = {tag for tag, _ in parsed.tags}
        assert not names & {"script", "iframe", "object", "embed", "link", "base", "form"}
        for tag, attributes in parsed.tags:
            for name, value in attributes.items():
                assert not name.startswith("on"), (tag, name)
                if name == "src":
                    assert (value or "").startswith("data:image/jpeg;base64,")
                if name == "href":
                    assert (value or "").startswith("#")
        assert not re.search(r"url\(|@import", page)
        assert len(page) < 3_000_000


def test_text_of_the_data_stays_text(shapes: RunResult) -> None:
    page, _, text = page_of(shapes)
    assert HOSTILE not in page
    assert HOSTILE in text
    assert "<img src=http" not in page
    assert "Bars and rings <img src=http://example.org/x.png>" in text


def test_a_teachers_row_has_calibration_and_digest_of_its_card(shapes: RunResult) -> None:
    page, _, text = page_of(shapes)
    assert shapes.release is not None
    for card in shapes.release.evidence["teachers"]:
        assert f'title="{card["digest"]}">{card["digest"][:12]}' in page
        assert (card["calibration"] or "as it came") in text


def test_every_link_of_the_page_leads_somewhere(shapes: RunResult, street: RunResult) -> None:
    for run in (shapes, street):
        _, parsed, _ = page_of(run)
        ids = {attributes.get("id") for _, attributes in parsed.tags}
        targets = [(attributes["href"] or "")[1:] for tag, attributes in parsed.tags if tag == "a"]
        assert targets
        assert set(targets) <= ids


def test_numbers_are_those_of_the_release(shapes: RunResult) -> None:
    _, _, text = page_of(shapes)
    assert shapes.release is not None
    n_in = shapes.release.data.num_rows + shapes.release.excluded.num_rows
    assert n_in == 82
    assert f"{n_in} images with {n_in} labels came in" in text
    assert f"{shapes.release.data.num_rows} rows released" in text
    assert "By it, 4 of " in text
    assert "truncated" in text
    assert "byte for byte, of" in text


def test_a_small_group_is_hidden_and_the_unknown_are_counted(shapes: RunResult) -> None:
    _, _, text = page_of(shapes)
    assert "How it came to be known: perceived" in text
    assert re.search(r"left <10 ", text)
    assert re.search(r"unknown 1[01]\b", text)
    assert not re.search(r"left 4 ", text)


def test_no_id_of_the_machine_stands_in_a_sentence(shapes: RunResult, street: RunResult) -> None:
    for run in (shapes, street):
        _, _, text = page_of(run)
        before_versions = text.partition("digest of the")[0]
        assert not re.search(r"\b[0-9a-f]{24}\b", before_versions)


def test_street_shows_boxes_by_issue_and_says_why_there_is_no_estimate(street: RunResult) -> None:
    _, parsed, text = page_of(street)
    headings = ("Duplicate box", "Track class flip", "Track gap", "Mask box mismatch")
    assert all(heading in text for heading in headings)
    assert "No estimate of wrong labels: no teacher has given predictions." in text
    assert "a member of its group in another split 14.2%" in text
    assert "(synthetic)" in text
    assert "(measured)" in text
    assert sum(tag == "img" for tag, _ in parsed.tags) > 15


def test_the_page_is_the_same_when_it_is_built_again(shapes: RunResult) -> None:
    from curate.report import rebuild_report  # noqa: PLC0415 - beside its only use

    before, _, _ = page_of(shapes)
    assert shapes.report is not None
    workspace = shapes.report.parents[2]
    again = rebuild_report(workspace, "shapes").read_text(encoding="utf-8")
    assert again == before
