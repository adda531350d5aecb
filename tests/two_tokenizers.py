"""Small tokenizers that differ in pieces of words, special tokens and template; texts for them."""

from functools import cache
from typing import Any

from hypothesis import strategies as st
from tiny import CHAT_TEMPLATE, TURN_END, TURN_START, VOCABULARY, loaded_pair, make_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import dtype as Dtype
from transformers import PreTrainedTokenizerFast

from latentwire.evaluation.loaded_pair import LoadedPair

WORDS = (
    "Whatever the theory, a greenhouse of blueberries is blackened; answering Question B: reddish"
)
# A system turn that the other template has not, and a shorter beginning of the answer.
TEMPLATE = (
    "{{ '<s>sys: help where you can.</s>' }}"
    "{% for message in messages %}{{ '<s>' + message.role + ':' + message.content + '</s>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<s>' }}{% endif %}"
)


# What a model's own template adds: a system turn, longer than the other model has it.
SYSTEM_TURN = "{{- '" + TURN_START + "system\nYou are here to help.' }}{{- '" + TURN_END + "\n' }}"
ODD = "<odd>"
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=40) | st.text(
    st.sampled_from("a b<\n\té🙂👩‍🚀東\u0301"), max_size=20
)
CONVERSATIONS = st.lists(TEXTS, min_size=1, max_size=3).map(
    lambda texts: [
        {"role": ("user", "assistant")[turn % 2], "content": text}
        for turn, text in enumerate(texts)
    ]
)


@cache
def first_tokenizer() -> Any:
    return make_tokenizer()


@cache
def second_tokenizer() -> Any:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=["<s>", "</s>"],
        show_progress=False,
    )
    core.train_from_iterator([WORDS], trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="</s>", clean_up_tokenization_spaces=False
    )
    made.chat_template = TEMPLATE
    assert len(made) <= VOCABULARY
    return made


def pair_of_two(dtype: Dtype, first_receives: bool) -> LoadedPair:
    """The tiny pair with a tokenizer at each end: the first one at the receiver's, or at the
    sharer's."""
    pair, both = loaded_pair(dtype), (first_tokenizer(), second_tokenizer())
    receiver, sharer = both if first_receives else both[::-1]
    return LoadedPair(pair.receiver, pair.sharer, pair.interface, receiver, pair.endpoint, sharer)


@cache
def other() -> PreTrainedTokenizerFast:
    """A token a character, those of ASCII alone, with a token for what is unknown."""
    special = [ODD, "<unk>", TURN_END, TURN_START]
    vocabulary = {text: number for number, text in enumerate(special)}
    for code in range(32, 127):
        vocabulary[chr(code)] = len(vocabulary)
    vocabulary["\n"] = len(vocabulary)
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made = PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        eos_token=TURN_END,
        additional_special_tokens=[TURN_START, ODD],
    )
    made.chat_template = SYSTEM_TURN + CHAT_TEMPLATE
    return made


def say(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]
