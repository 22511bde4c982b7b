"""The page as a browser shows it: readable, whole, nothing asked from the network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from curate.state import RunResult

pytestmark = pytest.mark.browser
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        if os.environ.get("CURATE_REQUIRE_BROWSER") == "1":
            pytest.fail("CURATE_REQUIRE_BROWSER=1, and there is no chromium on the PATH")
        pytest.skip("no chromium on the PATH (Debian: apt install chromium)")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 400])
@pytest.mark.parametrize("name", ["shapes", "street"])
def test_the_page_is_whole(
    browser: Any,  # noqa: ANN401 - playwright's
    request: pytest.FixtureRequest,
    name: str,
    width: int,
    scheme: str,
) -> None:
    run: RunResult = request.getfixturevalue(name)
    assert run.report is not None
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    told: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda one: asked.append(one.url))
    page.goto(run.report.as_uri())
    assert told == []
    assert [url for url in asked if not url.startswith("data:")] == [run.report.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    texts = "[...document.querySelectorAll('figcaption, .fact, p, td.wide')]"
    cut = f"{texts}.filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent)"
    assert page.evaluate(cut) == []
    assert page.evaluate("[...document.images].filter(i => !(i.complete && i.naturalWidth > 0)).length") == 0
    assert page.evaluate("document.images.length") > 3
    for section in page.query_selector_all("section"):
        assert section.is_visible()
        assert section.bounding_box()["height"] > 60
    page.close()


WORDS_OVER_LINES = """() => [...document.querySelectorAll('td:not(.mono), th')].flatMap(cell => {
    const found = [], texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    for (let text; (text = texts.nextNode()); )
        for (const word of text.data.matchAll(/[\\p{L}\\p{N}_.,%]+/gu)) {
            const range = document.createRange();
            range.setStart(text, word.index);
            range.setEnd(text, word.index + word[0].length);
            const lines = new Set([...range.getClientRects()].map(box => Math.round(box.top)));
            if (lines.size > 1) found.push(word[0]);
        }
    return found; })"""


@pytest.mark.parametrize("width", [1200, 400])
@pytest.mark.parametrize("name", ["shapes", "street"])
def test_no_word_of_a_table_is_broken(
    browser: Any,  # noqa: ANN401 - playwright's
    request: pytest.FixtureRequest,
    name: str,
    width: int,
) -> None:
    run: RunResult = request.getfixturevalue(name)
    assert run.report is not None
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(run.report.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert page.evaluate("document.querySelectorAll('td:not(.mono)').length") > 30
    assert page.evaluate(WORDS_OVER_LINES) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width  # what is too wide scrolls within itself
    page.close()


def test_text_stands_out_from_its_ground(browser: Any, shapes: RunResult) -> None:  # noqa: ANN401 - playwright's
    assert shapes.report is not None
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(shapes.report.as_uri())
        colours = page.evaluate("""() => { const s = getComputedStyle(document.body);
            const soft = getComputedStyle(document.querySelector('.soft'));
            return [s.color, s.backgroundColor, soft.color] }""")
        ink, paper, soft = (_luminance(colour) for colour in colours)
        assert _contrast(ink, paper) > 7
        assert _contrast(soft, paper) > 4.5
        page.close()


def _luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(a: float, b: float) -> float:
    """Return the contrast ratio of WCAG 2."""
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)
