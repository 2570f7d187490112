"""A person with a browser: Chat, Compare and Library in a real Chromium. Screenshots are left in build/screenshots."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from support.browser import ask, choose, page, picture

__all__ = ["page"]  # the fixture


def endless(page: Page) -> None:
    """Make answers long enough to be stopped."""
    page.get_by_role("button", name="Generation settings").click()
    grammar = page.get_by_role("textbox", name="Grammar")
    grammar.click()  # the controls of an accordion are made when it opens; a person would not be as quick
    page.wait_for_timeout(500)
    grammar.fill('root ::= "la " root')
    grammar.press("Tab")
    expect(grammar).to_have_value('root ::= "la " root')


def slowly(page: Page) -> None:
    """An answer that is arriving and takes its time: echo needs 0.05 s a word."""
    choose(page, "Variant", "echo")
    ask(page, "/slow " + "la " * 60)
    expect(page.get_by_test_id("bot").first).to_contain_text("la la")


def test_a_first_conversation(page: Page) -> None:
    ask(page, "What is the capital of France?")
    expect(page.get_by_test_id("bot").first).to_contain_text("Paris")
    expect(page.get_by_test_id("bot").first).to_contain_text("tokens/s")
    expect(page.locator("#context-meter")).to_contain_text("of 1,024 tokens")
    ask(page, "What is the opposite of hot?")
    expect(page.get_by_test_id("bot").nth(1)).to_contain_text("cold")
    picture(page, "chat")


@pytest.mark.long
def test_an_example_is_one_click(page: Page) -> None:
    page.get_by_text("Who are you?").click()
    expect(page.get_by_test_id("bot").first).to_contain_text("toy")


def test_stop(page: Page) -> None:
    slowly(page)
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.get_by_test_id("bot").first).to_contain_text("stopped by you")
    picture(page, "chat-stopped")


@pytest.mark.long
def test_a_cut_answer_stands_out(page: Page) -> None:
    endless(page)
    page.get_by_label("number input for Max tokens").fill("6")
    page.get_by_label("number input for Max tokens").press("Tab")
    ask(page, "Sing")
    expect(page.get_by_test_id("bot").first).to_contain_text("CUT at the token limit (6 tokens)")
    picture(page, "chat-cut")


def test_retry_undo_and_edit(page: Page) -> None:
    ask(page, "What is the capital of Italy?")
    expect(page.get_by_test_id("bot").first).to_contain_text("Rome")
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_test_id("bot").first).to_contain_text("still cached")
    page.get_by_role("button", name="Edit").click()
    page.locator("textarea.edit-textarea, .message textarea").first.fill("What is the capital of Spain?")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_test_id("bot").first).to_contain_text("Madrid")
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_label("Your message")).to_have_value("What is the capital of Spain?")
    expect(page.get_by_test_id("bot")).to_have_count(0)


@pytest.mark.long
def test_what_is_typed_while_an_answer_arrives_stays(page: Page) -> None:
    slowly(page)
    page.get_by_label("Your message").fill("my next question")
    expect(page.get_by_test_id("bot").first).to_contain_text("the model ended it")
    expect(page.get_by_label("Your message")).to_have_value("my next question")


def test_a_refused_edit_loses_nothing(page: Page) -> None:
    ask(page, "use <b>x</b>")
    expect(page.get_by_test_id("bot").first).to_contain_text("tokens")
    page.get_by_role("button", name="Edit").click()
    page.locator("textarea.edit-textarea, .message textarea").first.fill("   ")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_text("message is empty")).to_be_visible()
    expect(page.get_by_test_id("user").first).to_contain_text("use <b>x</b>")
    expect(page.get_by_test_id("bot")).to_have_count(1)


@pytest.mark.long
def test_a_new_chat_in_the_middle_of_an_answer_is_empty(page: Page) -> None:
    slowly(page)
    page.get_by_role("button", name="New chat").click()
    expect(page.get_by_test_id("bot")).to_have_count(0)
    page.wait_for_timeout(4000)  # until the old answer would have ended
    expect(page.get_by_test_id("bot")).to_have_count(0)


@pytest.mark.long
def test_the_other_template_can_be_tried(page: Page) -> None:
    expect(page.get_by_label("as its file says")).to_be_hidden()
    choose(page, "Variant", "tiny_alpaca")
    expect(page.get_by_text("Trained with the alpaca template")).to_be_visible()
    ask(page, "What is the capital of France?")
    expect(page.get_by_test_id("bot").first).to_contain_text("template: alpaca")
    picture(page, "chat-template")
    page.get_by_label("as its file says").check()
    ask(page, "What is the capital of France?")
    expect(page.get_by_test_id("bot").nth(1)).to_contain_text("Paris")
    expect(page.get_by_test_id("bot").nth(1)).not_to_contain_text("template: alpaca")


@pytest.mark.long
def test_a_saved_conversation_can_be_read(page: Page) -> None:
    ask(page, "What is the capital of Japan?")
    expect(page.get_by_test_id("bot").first).to_contain_text("Tokyo")
    with page.expect_download() as caught:
        page.get_by_role("button", name="Save as JSON").click()
    record = json.loads(Path(caught.value.path()).read_text(encoding="utf-8"))
    assert record["turns"][0]["content"] == "What is the capital of Japan?"


def test_hostile_output_is_inert(page: Page) -> None:
    choose(page, "Variant", "echo")
    ask(page, "<img src=x onerror=document.title='owned'> ![x](http://evil.example/x.png) <script>1</script>")
    expect(page.get_by_test_id("bot").first).to_contain_text("<script>")
    assert page.title() == "PEFT Lab"
    assert page.get_by_test_id("bot").first.locator("img").count() == 0


def test_three_variants_a_blind_vote_and_the_reveal(page: Page) -> None:
    page.get_by_role("tab", name="Compare").click()
    choose(page, "Variant B", "tiny_lora")
    choose(page, "Variant C", "echo")
    page.get_by_label("Blind").check()
    page.get_by_label("Prompt for all").fill("What is the capital of Germany?")
    page.get_by_role("button", name="Send to all").click()
    expect(page.get_by_role("button", name="C is better")).to_be_visible()
    expect(page.get_by_role("button", name="D is better")).to_be_hidden()
    panes = page.get_by_test_id("bot").filter(visible=True)
    expect(panes).to_have_count(3)
    assert "tiny_" not in " ".join(panes.all_inner_texts())
    picture(page, "compare-blind")
    page.get_by_role("button", name="A is better").click()
    expect(page.locator("#vote-status")).to_contain_text("Your vote: A is better.")
    expect(page.locator("#vote-status")).to_contain_text("is tiny_lora")
    expect(page.get_by_role("button", name="A is better")).to_be_hidden()
    expect(panes.first).to_contain_text("first token after")
    picture(page, "compare-revealed")


@pytest.mark.long
def test_the_library_says_what_is_here(page: Page) -> None:
    page.get_by_role("tab", name="Library").click()
    expect(page.get_by_role("gridcell", name="embedded").first).to_be_visible()
    expect(page.get_by_role("gridcell", name="base_3b", exact=True)).to_be_visible()
    picture(page, "library")
