"""Conversations by a chat template: nothing of them depends on the day, and turns end somewhere."""

import os
import time

import pytest
from tiny import CHAT_TEMPLATE, END_OF_TEXT, STOP_ID, make_tokenizer

from c2c.chat import (
    chat_text,
    chat_token_ids,
    end_of_turn,
    printed_from_outside,
    template_text,
)
from c2c.errors import C2CError

HELLO = [{"role": "user", "content": "hello"}]
# As the templates of Llama 3.2, SmolLM3 and Granite ask for it.
DATED = (
    "{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    "{%- set date_string = strftime_now('%d %b %Y') %}"
    "{%- else %}{%- set date_string = '26 Jul 2024' %}{%- endif %}{%- endif %}"
    "{{- 'Today Date: ' + date_string + '\n' }}" + CHAT_TEMPLATE
)


def tokenizer(template: object = CHAT_TEMPLATE):  # type: ignore[no-untyped-def]
    made = make_tokenizer()
    made.chat_template = template
    return made


@pytest.mark.parametrize("zone", ["Etc/GMT+12", "Etc/GMT-14"])
@pytest.mark.parametrize(
    ("asked", "printed"),
    [
        ("%d %b %Y", "26 Jul 2024"),
        ("%A, %H:%M:%S", "Friday, 00:00:00"),
        ("%s", "1721952000"),  # which the C library counts by the time zone
        ("100 %%s", "100 %s"),
        ("", ""),
    ],
)
def test_every_day_and_zone_is_the_pinned_one(
    asked: str, printed: str, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = "{{ strftime_now('" + asked + "') }}|" + CHAT_TEMPLATE
    try:
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        text = chat_text(tokenizer(template), HELLO)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert text.startswith(f"{printed}|<|im_start|>user\nhello")
    assert "TZ" not in os.environ or os.environ["TZ"] != zone


def test_a_macro_is_told_the_pinned_day_too() -> None:
    template = "{% macro day() %}{{ strftime_now('%F') }}{% endmacro %}{{ day() }}" + CHAT_TEMPLATE
    assert chat_text(tokenizer(template), HELLO).startswith("2024-07-26<|im_start|>")
    assert chat_text(tokenizer("{{ strftime_now }}"), HELLO) == "strftime_now"  # no address


def test_what_a_template_prints_is_told_where_it_asks_for_the_date() -> None:
    assert printed_from_outside(tokenizer()) == ""
    assert "Today Date: 26 Jul 2024\n<|im_start|>user\n<|im_end|>" in printed_from_outside(
        tokenizer(DATED)
    )
    # Also where only a message that is not empty brings it about.
    late = "{% if messages[-1].content %}{{ strftime_now('%Y') }}{% endif %}" + CHAT_TEMPLATE
    assert "2024<|im_start|>user\nHello" in printed_from_outside(tokenizer(late))
    assert printed_from_outside(tokenizer("{# strftime_now('%Y') #}" + CHAT_TEMPLATE)) == ""


def test_tokens_are_those_of_the_text() -> None:
    made = tokenizer(DATED)
    text = chat_text(made, HELLO)
    assert text.endswith("<|im_start|>assistant\n")
    assert chat_token_ids(made, HELLO) == made.encode(text, add_special_tokens=False)


def test_the_default_of_several_templates_is_taken() -> None:
    several = {"tool_use": "tools", "default": CHAT_TEMPLATE}
    assert template_text(tokenizer(several)) == CHAT_TEMPLATE
    with pytest.raises(C2CError, match="has no default chat template"):
        template_text(tokenizer({"tool_use": "tools", "rag": "more"}))


@pytest.mark.parametrize("call", ["{{ ['a', 'b'] | random }}", "{{ lipsum(1) }}", "{{1|\nrandom}}"])
def test_a_template_that_draws_at_random_is_refused(call: str) -> None:
    with pytest.raises(C2CError, match="draws at random"):
        chat_text(tokenizer(call + CHAT_TEMPLATE), HELLO)
    assert chat_text(tokenizer("{# | random #}" + CHAT_TEMPLATE), HELLO)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (None, "has no chat template"),
        ("{{ raise_exception('roles must alternate\nand more') }}", "roles must alternate$"),
        ("{% if %}", "does not take this conversation"),
        ("{{ messages[7].content.strip() }}", "does not take this conversation"),
        ("{{ 1 + 'a' }}", "does not take this conversation"),
    ],
)
def test_a_template_that_does_not_serve_ends_in_one_sentence(template: object, words: str) -> None:
    with pytest.raises(C2CError, match=words):
        chat_text(tokenizer(template), HELLO)


@pytest.mark.parametrize(
    ("behind", "end"),
    [
        ("<|im_end|>\n", STOP_ID),
        (" <|im_end|>", STOP_ID),  # as Llama 2's has a space there
        ("<|endoftext|>", 0),
        ("\n\n### Next:\n", None),  # no token of its own
        ("", None),
    ],
)
def test_a_turn_ends_with_the_special_token_behind_the_answer(behind: str, end: int | None) -> None:
    template = "{% for m in messages %}<|im_start|>{{ m.content }}" + behind + "{% endfor %}"
    assert end_of_turn(tokenizer(template)) == end


def test_without_such_a_token_no_turn_ends() -> None:
    assert end_of_turn(tokenizer("{{ messages[0].content }}")) is None  # the answer is left out
    assert end_of_turn(tokenizer("{{ raise_exception('no') }}")) is None
    assert (
        end_of_turn(tokenizer()) == STOP_ID != make_tokenizer().convert_tokens_to_ids(END_OF_TEXT)
    )
