"""Whether prompts fit the models, before work starts."""

from types import SimpleNamespace
from typing import Any

import pytest
from tiny import make_questions, make_tokenizer
from transformers import Gemma3TextConfig, LlamaConfig, Qwen2Config

from latentwire.checks.prompts import Lengths, judge, lengths_of, most_tokens
from latentwire.checks.report import CheckWarning
from latentwire.errors import LatentWireError
from latentwire.tasks.openbookqa import TASK

TOKENIZER = make_tokenizer()
QUESTIONS = make_questions(TOKENIZER, [1, 3, 30])


def look(configs: dict[str, Any]) -> Lengths:
    examples = [question.example for question in QUESTIONS]
    return lengths_of(TASK, examples, TOKENIZER, lambda: QUESTIONS, most_tokens(configs))


def test_the_least_of_both_models_limits_counts() -> None:
    llama = LlamaConfig(max_position_embeddings=900)
    gemma = Gemma3TextConfig(sliding_window=512, max_position_embeddings=32_000)
    windowless = Qwen2Config(sliding_window=4, use_sliding_window=False)
    limit, reason = most_tokens({"receiver": llama, "sharer": gemma}) or (0, "")
    assert limit == 512 and reason.startswith("the sharer has layers that look back 512 tokens")
    assert most_tokens({"receiver": llama, "sharer": windowless}) == (
        900,
        "the receiver was made for texts of 900 tokens",
    )
    plain = SimpleNamespace(get_text_config=lambda: SimpleNamespace())
    assert most_tokens({"receiver": plain}) is None
    assert look({"receiver": plain}).text == "openbookqa fits"


def test_prompts_that_are_too_long_are_counted_and_all_of_them_refused() -> None:
    lengths = [len(question.token_ids) for question in QUESTIONS]
    assert lengths == sorted(lengths)

    def for_texts_of(tokens: int) -> Lengths:
        return look({"sharer": LlamaConfig(max_position_embeddings=tokens)})

    assert judge([for_texts_of(lengths[-1] + 64)]) == "openbookqa fits"
    one = for_texts_of(lengths[-1] + 63)
    assert (one.long, one.prompts) == (1, 3)
    told = rf"1 of 3 prompts of openbookqa are too long \(the longest has {lengths[-1]} tokens"
    with pytest.raises(CheckWarning, match=told):
        judge([one])
    none = for_texts_of(lengths[0] + 63)
    with pytest.raises(LatentWireError, match="3 of 3 prompts of openbookqa are too long"):
        judge([none])
    with pytest.raises(CheckWarning, match="3 of 3 prompts"):  # another set can be asked
        judge([none, Lengths(0, 5, "arc_c fits")])


def test_nothing_is_tokenized_where_the_longest_text_fits() -> None:
    examples = [question.example for question in QUESTIONS]
    limit = most_tokens({"sharer": LlamaConfig(max_position_embeddings=100_000)})
    lengths_of(TASK, examples, TOKENIZER, lambda: pytest.fail("tokenized"), limit)
