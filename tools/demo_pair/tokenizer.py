"""The pair's one tokenizer: byte-level BPE in which every word of the world is one token."""

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from latentwire.tasks.answer_letter import LETTERS
from latentwire.tasks.multiple_choice import prompt_text
from tools.demo_pair.world import World, question_text, statement_text

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"

CHAT_TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}
{{- '<think>\\n\\n</think>\\n\\n' }}
{%- endif %}
{%- endif %}"""
"""Qwen3's, cut down to plain messages: thinking off is an empty block of thoughts."""

_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Qwen's cut of a text into pieces that no merge crosses."""


def build_tokenizer(world: World) -> PreTrainedTokenizerFast:
    """Train the tokenizer on the world's words and the prompt's text.

    Training goes on until every piece of that text is one token, so no vocabulary size has to be
    chosen; the bytes are tokens too, so any other text can be encoded.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1 << 16,
        min_frequency=1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[END_OF_TEXT, TURN_START, TURN_END],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(world), trainer)
    tokenizer.add_tokens([AddedToken("<think>"), AddedToken("</think>")])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def _corpus(world: World) -> list[str]:
    first_name, last_name, attribute = "Ada", "Abbott", "color"
    words = [f" {word}" for word in world.words()]
    frame = prompt_text(question_text(attribute, first_name, last_name), ["a", "b", "c", "d"])
    stated = statement_text(attribute, first_name, last_name, "amber")
    return [*words, frame, f"{stated}\n\n", "user\n", "assistant\n", "system\n", *LETTERS]
