"""The tutorial, followed as it is written: its commands in a shell, its clicks in a real browser, on three real hosts.

With STREAMSWARM_PICTURES set to a folder the pictures of the documents are taken on the way (`make pictures`).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from lab.fixtures import laboratory_possible
from lab.laboratory import Lab
from playwright.sync_api import Page, expect, sync_playwright
from support.album import SIZE, Album, Theme
from support.bundles import make_bundle
from support.chromium import CHROMIUM, FLAGS
from support.surroundings import clean_environment
from support.tutorial import Shell, Tutorial

__all__ = ["laboratory_possible"]

pytestmark = [pytest.mark.hosts, pytest.mark.browser, pytest.mark.timeout(900)]

#: Milliseconds within which a page must show what it is to show; on a quiet machine it takes a second or two.
PATIENCE = 60_000
#: Seconds of measuring, and of the fault, that the charts of pictures show.
HISTORY_S, FAULT_S = 220, 45
BOTH: tuple[Theme, Theme] = ("light", "dark")


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Somebody who follows the tutorial."""

    tutorial: Tutorial
    lab: Lab
    shell: Shell
    page: Page
    album: Album

    def type(self, section: str) -> str:
        """Type the next block of a section and return what was printed."""
        return self.shell.type(self.tutorial.typed(section))

    def type_on(self, host: str, section: str) -> None:
        """Type the next block of a section on a host."""
        (there,) = [found for found in self.lab.hosts if found.name == host]
        there.ssh(*self.shell.here(self.tutorial.typed(section)).split())

    def follow(self, name: str) -> None:
        """Click the link that is called so."""
        self.page.get_by_role("link", name=self.tutorial.called(name), exact=True).first.click()

    def press(self, name: str) -> None:
        """Click the button that is called so."""
        self.page.get_by_role("button", name=self.tutorial.called(name), exact=True).click()

    def fill(self, label: str, text: str) -> None:
        """Fill in the field that is called so."""
        field = self.page.get_by_label(self.tutorial.called(label), exact=True)
        field.fill(text)
        field.blur()

    def see_title(self, name: str) -> None:
        """Wait for the page of a name."""
        expect(self.page.get_by_role("heading", name=name, level=1)).to_be_visible(timeout=PATIENCE)

    def see_cells(self, state: str, count: int) -> None:
        """Wait until so many cells of the mesh have a state."""
        expect(self.page.locator(f".cell-link[data-state={state}]")).to_have_count(count, timeout=PATIENCE)

    def see_chart_grow(self) -> None:
        """Wait until the charts have other runs than now, without a reload."""
        self.page.evaluate("window.stayed = true")
        charts = self.page.locator("[data-charts]")
        expect(charts).to_have_attribute("data-points", re.compile("[1-9]"), timeout=PATIENCE)
        points = charts.get_attribute("data-points") or ""
        expect(charts).not_to_have_attribute("data-points", points, timeout=PATIENCE)
        assert self.page.evaluate("window.stayed"), "the page was loaded anew"


@pytest.fixture
def lab(laboratory_possible: None) -> Iterator[Lab]:
    """Three hosts on which nothing was ever installed."""
    with Lab.boot(3) as booted:
        yield booted


@pytest.fixture
def shell(lab: Lab, tmp_path: Path) -> Iterator[Shell]:
    """The shell of a machine that runs nothing yet; what is started in it is stopped and removed."""
    data_dir = Path("/var/lib") / f"streamswarm-{lab.run}"
    environment = clean_environment(
        STREAMSWARM_DATA_DIR=str(data_dir), STREAMSWARM_BUNDLE_DIR=str(tmp_path / "bundles")
    )
    make_bundle(Path(sys.prefix) / "bin" / "streamswarm", lab.hosts[0], environment)
    addresses = {host.name: host.address for host in lab.hosts}
    words = {written: addresses[name] for name, written in Tutorial().hosts.items()}
    words |= {"192.0.2.1": lab.address, "here.yaml": str(tmp_path / "here.yaml")}
    with lab.inside():
        made = Shell({**environment, "HOME": str(tmp_path)}, tmp_path, words)
        try:
            yield made
        finally:
            made.type("make down")
            subprocess.run(["rm", "-rf", data_dir], check=True)


@pytest.fixture
def page(shell: Shell) -> Iterator[Page]:
    """A window of a browser on the shell's machine."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        window = browser.new_page(viewport=SIZE, locale="en-GB", timezone_id="UTC", color_scheme="light")
        window.set_default_timeout(PATIENCE)
        yield window
        browser.close()


def test_the_tutorial_can_be_followed(lab: Lab, shell: Shell, page: Page) -> None:
    """Every block is typed, and all that is called by name is found: from nothing to a fault that is found."""
    pictures = os.environ.get("STREAMSWARM_PICTURES")
    album = Album(page, Path(pictures) if pictures else None)
    reader = Reader(tutorial=Tutorial(), lab=lab, shell=shell, page=page, album=album)
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda said: troubles.append(said.text) if said.type == "error" else None)
    start(reader)
    look(reader)
    make_a_test(reader)
    page.goto("about:blank")  # while the dashboard is away its pages would complain
    put_workers_on_hosts(reader)
    make_a_mesh(reader)
    find_a_fault(reader)
    go_on_without_a_browser(reader)
    assert troubles == []
    page.goto("about:blank")
    assert "stopped" in reader.type("Stop")
    assert reader.tutorial.left_out() == []


def start(reader: Reader) -> None:
    """Step 1: what `make up` prints leads into the dashboard, by the link and by the password."""
    page = reader.page
    assert reader.tutorial.typed("Start").startswith("git clone")
    said = reader.type("Start")
    link = re.search(r"Log in once +(\S+)", said)
    password = re.search(r"admin, password (\S+)", said)
    assert link, said
    assert password, said
    page.goto(link[1])
    reader.press("Go on")
    reader.see_title("Overview")
    page.get_by_role("button", name="Log out").click()
    reader.fill("Name", "admin")
    reader.fill("Password", password[1])
    reader.press("Log in")


def look(reader: Reader) -> None:
    """Step 2: the charts of the examples grow, and a result leads to its run."""
    page = reader.page
    reader.see_title(reader.tutorial.called("Overview"))
    reader.follow("Example tcp")
    reader.see_chart_grow()
    latest = page.get_by_role("region", name="Table of the latest results")
    expect(page.get_by_role("heading", name=reader.tutorial.called("Latest results"))).to_be_visible()
    latest.get_by_role("link").first.click()
    reader.see_title("Run of")


def make_a_test(reader: Reader) -> None:
    """Step 3: the form tells what the test comes to, and its results arrive."""
    page = reader.page
    reader.follow("Destinations")
    reader.follow("New destination")
    reader.fill("Name", "Dashboard")
    reader.fill("Address", "127.0.0.1:8080")
    reader.press("Add destination")
    reader.follow("Test it")
    expect(page.get_by_role("checkbox", name="Dashboard 127.0.0.1:8080")).to_be_checked()
    reader.fill("Name", "Dashboard answers")
    page.get_by_role("radio", name=reader.tutorial.called("TCP connect")).check()
    page.get_by_role("radio", name=reader.tutorial.called("Those chosen below")).check()
    page.get_by_role("checkbox", name="localhost").check()
    reader.fill("Interval", "2")
    preview = page.locator("#preview")
    expect(preview).to_contain_text("1 job", timeout=PATIENCE)
    expect(preview).to_contain_text(re.compile(r"43\s200\sruns a day"), timeout=PATIENCE)
    expect(preview).to_contain_text(reader.tutorial.called("Next due"))
    expect(page.get_by_role("checkbox", name="Dashboard 127.0.0.1:8080")).to_be_checked()
    page.get_by_role("button", name="Create test").scroll_into_view_if_needed()
    reader.album.take("new-test")
    reader.press("Create test")
    reader.see_title("Dashboard answers")
    reader.see_chart_grow()


def put_workers_on_hosts(reader: Reader) -> None:
    """Step 4: the commands bring a worker to each host; the session outlives the restart."""
    reader.type("Put workers on your hosts")
    reader.shell.environment["STREAMSWARM_INVENTORY"] = str(reader.lab.inventory)
    reader.type("Put workers on your hosts")
    reader.page.goto("http://127.0.0.1:8080")
    reader.follow("Workers")
    for name in ("localhost", *reader.tutorial.hosts):
        row = reader.page.get_by_role("row").filter(has=reader.page.get_by_role("link", name=name))
        # On a busy machine they are connected and say so, too: that they had to wait for a processor.
        state = row.locator(".state:is([data-state=online], [data-state=attention])")
        expect(state).to_be_visible(timeout=PATIENCE)


def make_a_mesh(reader: Reader) -> None:
    """Step 5: every pair has its cell, and any metric can be looked at."""
    reader.type("Measure everybody from everybody")
    reader.follow("Mesh")
    reader.see_cells("ok", 6)
    metric = reader.page.get_by_label(reader.tutorial.called("Metric"))
    metric.select_option(label=reader.tutorial.called("Loss"))
    cell = reader.page.get_by_role("link", name="host1 → host2")
    expect(cell).to_contain_text("0 %", timeout=PATIENCE)
    metric.select_option(label="RTT average")
    expect(cell).to_contain_text("s", timeout=PATIENCE)


def find_a_fault(reader: Reader) -> None:
    """Step 6: a way that is cut shows in its two cells alone, on the chart of the pair, and in the diagnosis."""
    page, section = reader.page, "Break something, and find it"
    reader.album.grow(HISTORY_S)
    reader.type_on("host2", section)
    reader.see_cells("failed", 1)
    reader.see_cells("error", 1)
    reader.see_cells("ok", 4)
    expect(page.get_by_role("link", name="host1 → host2: failed")).to_be_visible()
    reader.album.take("mesh", themes=BOTH)
    reader.follow("Overview")
    failures = page.get_by_role("region", name=reader.tutorial.called("Recent failures"))
    expect(failures).to_contain_text("host1 → host2", timeout=PATIENCE)
    reader.album.grow(FAULT_S)
    reader.album.take("overview", themes=BOTH)
    reader.follow("Mesh")
    page.get_by_role("link", name="host1 → host2").click()
    expect(page.get_by_text("Drawn is host1 → host2 alone.")).to_be_visible()
    expect(page.locator("[data-summary]").first).to_contain_text(
        re.compile(r"Runs: \d+ failed"), timeout=PATIENCE
    )
    reader.album.take("fault", themes=BOTH)
    reader.follow("Diagnose")
    diagnosis = page.locator("#diagnosis")
    sentence = diagnosis.locator(".verdict-sentence")
    expect(sentence).to_contain_text("The network between host1 and host2 is at fault", timeout=PATIENCE)
    expect(diagnosis.locator(".verdict-next code")).not_to_be_empty()
    reader.album.take("diagnosis")
    reader.follow("Only failures")
    bad = page.get_by_role("region", name="Table of the latest results").get_by_role("row").nth(1)
    expect(bad).to_contain_text("host1 → host2")
    expect(bad).to_contain_text("failed")
    reader.type_on("host2", section)
    reader.follow("Mesh")
    reader.see_cells("ok", 6)
    page.get_by_role("link", name="host1 → host2").click()
    reader.see_chart_grow()
    reader.follow("Where every run is")
    reader.see_title("Where every run is")


def go_on_without_a_browser(reader: Reader) -> None:
    """Steps 7 and 8: the API tells of the same tests, and a suite needs no server."""
    assert "Mesh workers: ping host2" in reader.type("Ask the REST API for the same")
    assert "Dashboard" in reader.type("Probe without a server")
