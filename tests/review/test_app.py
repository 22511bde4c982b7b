# ruff: noqa: ANN401 - FiftyOne and the fixtures have no types
"""The real App in a real browser: it opens on the suspects, a sample is tagged by hand, a decision comes back."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from curate.adapters.mongod import ensure_database
from curate.doctor import find_browser
from curate.errors import ConfigError
from curate.review import dataset
from curate.review.app import open_app
from curate.review.load import load_dataset
from curate.review.pull import pull

pytestmark = pytest.mark.mongo

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip

SERVE = textwrap.dedent("""
    import pathlib, sys
    from curate.review.app import open_app
    opened = open_app(sys.argv[1], workspace=pathlib.Path(sys.argv[2]))
    print(opened.url, flush=True)
    sys.stdin.read()
""")


def browser_or_skip() -> Path:
    browser = find_browser()
    if browser is None or "firefox" in browser.name:
        if os.environ.get("CURATE_REQUIRE_BROWSER") == "1":
            pytest.fail("CURATE_REQUIRE_BROWSER=1 and no Chromium on PATH")
        pytest.skip("no Chromium on PATH (Debian: apt install chromium)")
    return browser


@pytest.mark.browser
@pytest.mark.slow
def test_a_reviewer_tags_a_suspect_in_the_app(pets: Any, database: Path, tmp_path: Path) -> None:
    browser = browser_or_skip()
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install 'curate[test]'")
    load_dataset("app", **pets.arguments)
    root = Path(dataset.__file__).parents[2]
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE, "app", database],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
    )
    try:
        assert server.stdout
        assert server.stdin
        url = server.stdout.readline().strip()
        assert url.endswith("/datasets/curate-app?view=suspect-labels")
        with sync_api.sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=browser, args=ARGUMENTS)
            page = chromium.new_page(viewport={"width": 1400, "height": 900})
            page.set_default_timeout(120_000)  # a busy machine is slow, not wrong
            page.add_init_script("localStorage.setItem('fiftyone-enterprise-tooltip-seen', 'true')")
            page.goto(url, wait_until="domcontentloaded")
            page.wait_for_selector('[data-cy="looker"]')
            page.get_by_text("3 samples").first.wait_for()  # the suspects, not all twelve
            page.screenshot(path=tmp_path / "app.png")
            tile = page.locator('[data-cy="looker"]').first
            tile.hover()
            tile.click(position={"x": 14, "y": 14})
            page.locator('[data-cy="action-tag-sample-labels"]').click()
            field = page.get_by_placeholder("+ tag selected sample")
            field.wait_for()
            field.fill("curate:accept")
            field.press("Enter")
            page.get_by_text("Apply").click()
            deadline = time.monotonic() + 120
            report = pull("app", workspace=database, reviewer="Ann")
            while not report.decisions.num_rows and time.monotonic() < deadline:
                page.wait_for_timeout(500)
                report = pull("app", workspace=database, reviewer="Ann")
            chromium.close()
        rows = [(r["decision"], r["label_id"], r["to_label"]) for r in report.decisions.to_pylist()]
        assert rows == [("accept", pets.label_ids[0], "dog")]
    finally:
        if server.stdin:
            server.stdin.close()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        if server.stdout:
            server.stdout.close()


def test_an_edit_of_another_process_is_pulled(pets: Any, database: Path) -> None:
    load_dataset("elsewhere", **pets.arguments)
    code = (
        "import sys, pathlib; from curate.adapters.mongod import ensure_database; "
        "ensure_database(pathlib.Path(sys.argv[1])); import fiftyone as fo; "
        "s = fo.load_dataset('curate-elsewhere')[sys.argv[2]]; s.ground_truth.label = 'dog'; s.save()"
    )
    root = Path(dataset.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, database, pets.sample_ids[0]], check=True, cwd=root, timeout=120)
    rows = pull("elsewhere", workspace=database).decisions.to_pylist()
    assert [(r["decision"], r["to_label"]) for r in rows] == [("relabel", "dog")]


def test_a_view_or_port_that_cannot_be_opened_is_named(pets: Any, database: Path) -> None:
    load_dataset("views-of-app", **pets.arguments)
    with pytest.raises(ConfigError, match="Did you mean 'suspect labels'"):
        open_app("views-of-app", workspace=database, view="suspect label")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match=r"is taken.*--port"):
            open_app("views-of-app", workspace=database, port=taken.getsockname()[1])


def test_two_workspaces_in_one_process_do_not_mix(pets: Any, database: Path, tmp_path: Path) -> None:
    from curate.adapters.mongod import stop_database  # noqa: PLC0415

    load_dataset("twin", **pets.arguments)
    try:
        few = pets.having(
            workspace=tmp_path,
            samples=pets.arguments["samples"].slice(0, 2),
            media_paths=pets.arguments["media_paths"][:2],
        )
        assert load_dataset("twin", **few.arguments).n_added == 2
        assert len(dataset.open_dataset("twin")) == 2
        ensure_database(database)
        assert len(dataset.open_dataset("twin")) == 12
    finally:
        stop_database(tmp_path)
        ensure_database(database)
    assert len(dataset.open_dataset("twin")) == 12
