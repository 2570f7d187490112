"""A person with a browser who wants to know which is better: evaluations, cells, a judge on the screen, ratings."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from conftest import App
from playwright.sync_api import Page, expect
from support.browser import choose, page, picture
from support.session import until

__all__ = ["page"]  # the fixture

LONG = 120_000  # milliseconds for an evaluation of the toy on a slow machine


def judge_tab(page: Page) -> None:
    page.get_by_role("tab", name="Judge").click()
    expect(page.get_by_role("button", name="Start evaluation")).to_be_visible()


def unfold(page: Page, name: str) -> None:
    page.get_by_role("button", name=name).click()
    page.wait_for_timeout(500)  # the controls of an accordion are made when it opens


def fill(page: Page, label: str, value: str) -> None:
    page.get_by_label(label, exact=True).fill(value)
    page.get_by_label(label, exact=True).press("Tab")


def evaluated(page: Page, app: App, judge: str = "", rows: int = 12) -> None:
    """The toy's two, until it is done and the page shows it."""
    judge_tab(page)
    fill(page, "Maximum rows", str(rows))
    if judge:
        choose(page, "Judge", judge)
    page.get_by_role("button", name="Start evaluation").click()
    begun = page.get_by_text("has started; see below")
    expect(begun).to_be_visible()
    run = app.home / "runs" / (begun.inner_text().split()[1])
    until(lambda: (run / "exit.json").exists(), LONG / 1000)
    page.wait_for_timeout(2500)  # the page looks every two seconds
    expect(page.get_by_text("done.", exact=True)).to_be_visible()


def saved(page: Page, what: str) -> str:
    choose(page, "File to save", what)
    with page.expect_download() as found:
        page.get_by_role("button", name="Save file").click()
    return Path(found.value.path()).read_text(encoding="utf-8")


def test_an_evaluation_states_the_difference_and_every_answer_can_be_opened(page: Page, app: App) -> None:
    evaluated(page, app)
    expect(page.locator("#verdict")).to_contain_text(re.compile(r"tiny_lora is better than tiny_base by 0\.\d+ \("))
    expect(page.get_by_text("It measures similarity to the reference").first).to_be_visible()
    page.get_by_role("gridcell", name="1.00").first.click()
    expect(page.get_by_text("Row 10000 · tiny_lora")).to_be_visible()
    expect(page.locator("pre").get_by_text('{"answer": "Paris"}').first).to_be_visible()
    picture(page, "judge")

    unfold(page, "Export and methods")
    methods = page.locator("label", has_text="Methods paragraph for a paper").locator("textarea")
    expect(methods).to_have_value(re.compile("Student's t"))
    table = list(csv.DictReader(io.StringIO(saved(page, "table of variants"))))
    assert [(one["variant"], one["status"], one["n"]) for one in table] == [
        ("tiny_base", "baseline", "12"), ("tiny_lora", "better", "12"),
    ]  # fmt: skip
    pairs = [json.loads(line) for line in saved(page, "preference pairs").splitlines()]
    assert {"prompt", "chosen", "rejected"} == set(pairs[0])

    page.get_by_text("big disagreements", exact=True).click()
    expect(page.get_by_role("gridcell", name="10000")).to_be_visible()

    page.reload()  # everything is on disk
    judge_tab(page)
    expect(page.locator("#verdict")).to_contain_text("tiny_lora is better than tiny_base")


@pytest.mark.long
def test_a_person_rates_blind_and_the_judge_is_compared_with_it(page: Page, app: App) -> None:
    evaluated(page, app, rows=5)
    unfold(page, "Rate answers yourself, blind")
    page.get_by_role("button", name="Show an answer").click()
    expect(page.get_by_text("0 of 10 rated")).to_be_visible()
    page.get_by_role("button", name="Save and show the next").click()
    expect(page.get_by_text("Correctness is not chosen yet")).to_be_visible()
    for anchor in (
        "5: nothing in it is wrong",
        "5: covers everything that was asked",
        "5: does exactly what was asked",
    ):
        page.get_by_text(anchor).click()
    page.get_by_role("button", name="Save and show the next").click()
    expect(page.get_by_text("1 of 10 rated")).to_be_visible()
    expect(page.get_by_text("1 answers rated blind")).to_be_visible()


@pytest.mark.long
def test_a_toy_fails_the_judge_check_and_the_page_says_so(page: Page, app: App) -> None:
    judge_tab(page)
    choose(page, "Rubric", "brief")
    evaluated(page, app, "tiny_base, on this machine", rows=1)
    expect(page.get_by_text("Unreliable judge: do not trust its scores")).to_be_visible()
    expect(
        page.get_by_text(re.compile(r"unreliable judge: \d+ of 24 probes passed, \d of 6 injections"))
    ).to_be_visible()
    expect(page.get_by_text("judges answers of itself or of its own family")).to_be_visible()
    picture(page, "judge-unreliable")


@pytest.mark.long
def test_answers_made_elsewhere_bring_their_scores(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "elsewhere.csv"
    rows = [["model", "id", "instruction", "reference", "candidate", "score", "explanation"]]
    for n in range(12):
        rows.append(["=mine", str(n), f"What is {n} + 1?", str(n + 1), str(n + 1), str(5 - n % 2), "right"])
        rows.append(["theirs", str(n), f"What is {n} + 1?", str(n + 1), "no", str(1 + n % 2), "wrong"])
    with file.open("w", newline="") as target:
        csv.writer(target).writerows(rows)
    judge_tab(page)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Upload a file").last.click()
    chooser.value.set_files(file)
    expect(page.get_by_label("Rows", exact=True)).to_have_value("Imported answers (CSV or JSONL)")
    page.get_by_role("button", name="Start evaluation").click()
    expect(page.locator("#verdict")).to_contain_text("theirs is worse than =mine by 3.0", timeout=LONG)
    unfold(page, "Export and methods")
    assert "'=mine" in saved(page, "table of variants")  # a spreadsheet does not compute it


@pytest.mark.long
def test_a_judge_speaks_of_letters_while_names_are_hidden(page: Page, app: App) -> None:
    page.get_by_role("tab", name="Compare").click()
    page.get_by_label("Blind").check()
    page.get_by_label("Prompt for all").fill("What is the capital of Italy?")
    page.get_by_role("button", name="Send to all").click()
    expect(page.get_by_role("button", name="A is better")).to_be_visible()
    unfold(page, "Ask a judge about these answers")
    page.get_by_label("Reference answer (optional)").fill("Rome")
    page.get_by_role("button", name="Score each answer").click()
    opinion = page.locator("#opinion")
    expect(opinion).to_contain_text(re.compile(r"A: \d\.\d\d \(overlap"), timeout=LONG)
    expect(opinion).to_contain_text("exact 1")
    expect(opinion).not_to_contain_text("tiny_")
    page.get_by_role("button", name="Pick a winner, both orders").click()
    expect(page.get_by_text("A rule cannot pick a winner").first).to_be_visible(timeout=LONG)
    picture(page, "compare-judged")
    page.get_by_role("button", name="Start over").click()  # what was said of other answers does not stay
    expect(opinion).not_to_contain_text("overlap")
