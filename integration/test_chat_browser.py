"""examples/chat in a real browser, twice: what one types, the other sees, also behind a reload.

MEINHELD_SCREENSHOT names a file for a picture of it (`examples/chat/screenshot.png`).
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import OURS, Server, eventually
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from support import EXAMPLES, gunicorn, program

pytestmark = [
    pytest.mark.own_threads,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not OURS, reason="the example needs this worker"),
]
#: Seconds: a browser on a loaded machine.
PATIENCE = 60


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    shutil.copytree(EXAMPLES / "chat", tmp_path / "chat")
    with gunicorn("chat:app", "--chdir", str(tmp_path / "chat")) as server:
        yield server


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = program("chromium")
    for argument in (
        "--headless=new",
        # As root there is no sandbox, and in a container little shared memory.
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--no-first-run",
        "--window-size=560,620",
        f"--user-data-dir={tmp_path / 'profile'}",
    ):
        options.add_argument(argument)
    browser = webdriver.Chrome(options, Service(program("chromedriver")))
    try:
        yield browser
    finally:
        browser.quit()


class Person:
    """A tab of the browser, in which somebody chats."""

    def __init__(self, browser: webdriver.Chrome, name: str, url: str) -> None:
        self._browser = browser
        browser.switch_to.new_window("tab")
        self._tab = browser.current_window_handle
        browser.get(url)
        browser.find_element(By.ID, "name").send_keys(name)

    def say(self, text: str) -> None:
        self._browser.switch_to.window(self._tab)
        self._browser.find_element(By.ID, "text").send_keys(text + "\n")

    def see(self, what: str, where: str = "body") -> None:
        """Waits until the page shows it."""

        def text() -> str:
            self._browser.switch_to.window(self._tab)
            return str(
                self._browser.execute_script(
                    "return document.querySelector(arguments[0]).textContent", where
                )
            )

        _wait(lambda: what in text(), f"{where} shows {what!r}", text)


def _wait(condition: Callable[[], bool], what: str, seen: Callable[[], str]) -> None:
    try:
        eventually(condition, what, PATIENCE)
    except AssertionError as error:
        raise AssertionError(f"{error}; it shows {seen()!r}") from None


def test_what_one_types_the_other_sees(server: Server, browser: webdriver.Chrome) -> None:
    url = f"http://127.0.0.1:{server.port}/"
    ada, bob = (Person(browser, name, url) for name in ("Ada", "Bob"))
    for person in (ada, bob):
        person.see("2 here", "#state")
    ada.say("Hello, is anybody here?")
    bob.see("AdaHello, is anybody here?", "#said")
    bob.say("<b>Yes</b>, both of us \N{GRINNING FACE}")
    ada.see("Bob<b>Yes</b>, both of us \N{GRINNING FACE}", "#said")
    ada.say("Then reload the server.")
    bob.see("Then reload the server.", "#said")

    before = server.worker_pid()
    server.signal(signal.SIGHUP)
    eventually(lambda: before not in server.worker_pids(), "the old worker has left", PATIENCE)
    # Nobody has touched the pages.
    for person in (ada, bob):
        person.see("2 here", "#state")
    bob.say("I noticed nothing.")
    ada.see("BobI noticed nothing.", "#said")
    if picture := os.environ.get("MEINHELD_SCREENSHOT"):
        browser.save_screenshot(picture)
