"""A page of the app in a real browser, and what a person does there. The browser is a fixture of conftest.py."""

from collections.abc import Iterator

import pytest
from conftest import PICTURES, App
from playwright.sync_api import BrowserContext, Page, expect

SLOW = 30_000  # milliseconds; the machine may be busy


@pytest.fixture
def page(context: BrowserContext, app: App) -> Iterator[Page]:
    page = context.new_page()
    page.set_default_timeout(SLOW)
    expect.set_options(timeout=SLOW)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    elsewhere: list[str] = []
    page.on("request", lambda request: elsewhere.append(request.url) if outside(request.url, app.url) else None)
    page.goto(app.url)
    expect(page.get_by_label("Your message")).to_be_visible()
    yield page
    page.close()
    assert problems == []
    assert elsewhere == []  # nothing is asked of any other machine


def outside(url: str, home: str) -> bool:
    return url.startswith("http") and not url.startswith(home)


def ask(page: Page, text: str) -> None:
    page.get_by_label("Your message").fill(text)
    page.get_by_role("button", name="Send", exact=True).click()


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=option).first.click()


def picture(page: Page, name: str) -> None:
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True)
