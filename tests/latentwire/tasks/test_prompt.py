"""The prompt's text and token ids."""

import csv
import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from latentwire.errors import LatentWireError
from latentwire.spec.setting import PROMPT_VERSION
from latentwire.tasks.arc_c import TASK
from latentwire.tasks.multiple_choice import MultipleChoice, prompt_text
from latentwire.tasks.registry import TASKS, load_dataset
from latentwire.tasks.task import Example, Prompts, user_turn_token_ids

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
)


def test_text_is_the_published_one(shared_dir: Path) -> None:
    published = (shared_dir / "reference" / "prompt.txt").read_text(encoding="utf-8")
    # The file ends its last line, the prompt does not.
    template = published.removesuffix("\n")
    question, choices = "What {holds} braces?", ["one", "two", "three"]
    expected = template.replace("{choices}", "A. one\nB. two\nC. three\n").replace(
        "{question}", question
    )
    assert prompt_text(question, choices) == expected


def test_text_changes_only_with_its_version() -> None:
    text = prompt_text("Q?", ["one", "two", "three", "four", "five"])
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert {task.version for task in TASKS.values() if isinstance(task, MultipleChoice)} == {1}
    assert (PROMPT_VERSION, digest) == (
        1,
        "735354b0a9a9e7141adc9b1584677a76c43b4c6b8df3f1e631eba8a4b2d2e444",
    )


@given(st.text(), st.lists(st.text(), min_size=1, max_size=26))
def test_question_and_choices_stand_unchanged(question: str, choices: list[str]) -> None:
    text = prompt_text(question, choices)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    lines = "".join(f"{letter}. {choice}\n" for letter, choice in zip(letters, choices))  # noqa: B905
    assert f"\n\n{question}\n\nChoices:\n{lines}\n\nInstructions:\n" in text
    assert text.endswith("\nThe correct answer is")


@pytest.mark.parametrize("count", [0, 27])
def test_unletterable_choices_are_refused(count: int) -> None:
    with pytest.raises(LatentWireError, match=f"got {count}: 'Q\\?'"):
        prompt_text("Q?", ["x"] * count)


def character_tokenizer(template: str | None) -> PreTrainedTokenizerFast:
    vocab = {chr(code): code for code in range(128)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="\0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template)


def test_ids_are_one_user_message_with_thinking_off() -> None:
    example = Example("q", 0, "Q?", ("one", "two"), "A")
    prompts = TASK.prompts(example, character_tokenizer(TEMPLATE))
    ids = prompts.receiver_ids
    assert prompts == Prompts(ids, ids, None)
    assert all(type(token_id) is int for token_id in ids)
    assert "".join(map(chr, ids)) == (
        f"<user>{prompt_text('Q?', ['one', 'two'])}</user><assistant><think></think>"
    )


def test_tokenizer_without_a_chat_template_is_refused() -> None:
    with pytest.raises(LatentWireError, match="no chat template"):
        user_turn_token_ids(character_tokenizer(None), "Q?")


def test_token_counts_equal_the_published_ones(shared_dir: Path) -> None:
    folder = os.environ.get("LATENTWIRE_QWEN3_TOKENIZER")
    if not folder:
        pytest.skip("LATENTWIRE_QWEN3_TOKENIZER, a folder with Qwen3's tokenizer, is not set")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with (shared_dir / "reference" / "published_per_question.csv").open(encoding="utf-8") as file:
        published = {
            (row["dataset"], int(row["question_index"]), int(row["prompt_tokens"]))
            for row in csv.DictReader(file)
        }
    counted = {
        (name, x.index, len(TASKS[name].prompts(x, tokenizer).receiver_ids))
        for name in ("openbookqa", "arc_c")
        for x in load_dataset(name, shared_dir / "data").examples
    }
    assert len(counted) == 1650
    assert counted == published
