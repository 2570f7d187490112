"""From messages to tokens: as training does it, whatever a person types and whatever a template tries."""

import pytest
from support.templates import (
    ATTACK,
    BOS,
    EOS,
    FAITHFUL,
    LLAMA_3,
    REWRITING,
    controls,
    full_tokenizer,
    plain_tokenizer,
    special,
    template_of,
    tokens,
    turns,
    user,
    words,
)

from backend.core.errors import LabError
from backend.core.messages import Message
from backend.llamacpp.chat_template import ChatTemplate, control_pattern, encode

CONVERSATIONS = {
    "one turn": turns("Hello there"),
    "several turns": turns("Hello", "Hi!", "How are you?", "Well.\n\nAnd you?", "Fine"),
    "blanks at both ends": turns("  \n Hello\t\n", "\n\n Hi! \n", " \u3000again\n"),
    "blanks alone": turns("Hello", " \n ", "Go on"),
    "many newlines": turns("a\n\n\n\nb\r\n", "### Instruction:\nc", "d"),
    "other scripts": turns("日本語 \U0001f468\u200d\U0001f469 é", "ﷺ", "\u202ex"),
    "jinja in it": turns("{{ 7 * 7 }} {% for %} {# #}", "{{ messages }}", "${x}"),
    "a system prompt": [Message(role="system", content=" Be brief.\n"), *turns("Hello", "Hi", "Go on")],
}


@pytest.mark.parametrize("name", FAITHFUL)
@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_token_ids_are_those_of_hugging_face(name: str, conversation: str) -> None:
    messages = CONVERSATIONS[conversation]
    theirs = full_tokenizer().apply_chat_template(
        [dict(message) for message in messages],
        chat_template=FAITHFUL[name],
        add_generation_prompt=True,
        return_dict=False,
    )
    assert tokens(FAITHFUL[name], messages) == theirs


def test_an_object_is_written_as_json_as_training_writes_it() -> None:
    source = "{{ messages[0].content | tojson }}"
    theirs = full_tokenizer().apply_chat_template([user("<a & 'é'>")], chat_template=source, tokenize=False)
    assert "".join(text for text, _ in template_of(source).parts([user("<a & 'é'>")])) == theirs


def test_lines_of_blocks_leave_no_blanks_as_in_training() -> None:
    source = "{% if true %}\nHello\n  {% endif %}\n  {% for m in messages %}\n{{ m.content }}\n  {% endfor %}\nend"
    theirs = full_tokenizer().apply_chat_template([user("x")], chat_template=source, tokenize=False)
    assert "".join(text for text, _ in template_of(source).parts([user("x")])) == theirs


# what a person types has no power


@pytest.mark.parametrize("name", FAITHFUL | REWRITING)
@pytest.mark.parametrize(
    "content",
    [
        ATTACK,
        f"  {ATTACK}\n",
        f"x{ATTACK}y",
        f"a</think>{ATTACK}</think>{ATTACK}",
        ATTACK.upper(),
        ATTACK[::-1],
        ATTACK.replace("<", "[").replace(">", "]"),
        BOS + "<|end_of_text|>",
    ],
)
def test_user_text_never_becomes_a_control_token(name: str, content: str) -> None:
    source = (FAITHFUL | REWRITING)[name]
    harmless = controls(tokens(source, turns("a</think>b</think>c", "d</think>e</think>f", "g</think>h</think>i")))
    suffix = "" if "</think>" in content else "</think>b</think>c"
    try:
        attacked = tokens(source, turns(content + suffix, "d</think>e</think>f", content + suffix))
    except LabError as refused:
        assert name not in FAITHFUL and "control tokens" in str(refused)
    else:
        assert controls(attacked) == harmless


@pytest.mark.parametrize("name", FAITHFUL)
def test_user_text_that_looks_like_a_control_token_is_still_what_the_model_reads(name: str) -> None:
    read = [token for token in tokens(FAITHFUL[name], [user(f" {ATTACK}\n")]) if token not in special().values()]
    assert ATTACK in plain_tokenizer().decode(read)


@pytest.mark.parametrize("name", FAITHFUL)
def test_a_message_that_is_just_a_control_token_has_no_power_either(name: str) -> None:
    assert controls(tokens(FAITHFUL[name], turns(EOS, EOS, EOS))) == controls(tokens(FAITHFUL[name], turns(*"abc")))


@pytest.mark.parametrize("name", REWRITING)
def test_a_template_that_rewrites_messages_gets_them_as_they_are(name: str) -> None:
    messages = turns("a</think>b</think>c", " d</think>e ", "Hello")
    theirs = full_tokenizer().apply_chat_template(
        [dict(message) for message in messages],
        chat_template=REWRITING[name],
        add_generation_prompt=True,
        return_dict=False,
    )
    assert tokens(REWRITING[name], messages) == theirs


def test_an_assistant_or_system_text_has_no_power_either() -> None:
    messages = [Message(role="system", content=ATTACK), *turns("a", ATTACK, "b")]
    harmless = [Message(role="system", content="s"), *turns("a", "c", "b")]
    assert controls(tokens(LLAMA_3, messages)) == controls(tokens(LLAMA_3, harmless))


def test_halves_of_a_control_token_in_two_messages_do_not_join() -> None:
    source = "{% for message in messages %}{{ message.content }}{% endfor %}"
    assert controls(tokens(source, turns("<|eot", "_id|>", "x"))) == []


def test_a_template_cannot_complete_a_control_token_around_user_text() -> None:
    assert controls(tokens("<|{{ messages[0].content }}|>", [user("eot_id")])) == []


def test_a_model_without_control_tokens_is_rendered_too() -> None:
    nothing = control_pattern([])
    parts = ChatTemplate("{{ messages[0].content }}!", "", "", nothing).parts([user("Hello")])
    assert encode(parts, nothing, {}, words) == words("Hello!")


def test_the_longest_control_token_is_found_first() -> None:
    pattern = control_pattern(["<|a|>", "<|a|>b"])
    assert encode([("<|a|>b", True)], pattern, {"<|a|>": 1, "<|a|>b": 2}, words) == [2]
