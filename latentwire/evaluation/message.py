"""What the baselines read and write: messages, content-free questions, the tokens of options.

All of it is a constant of the experiment, as a task's prompts are (`MESSAGE_VERSION` in
`latentwire.spec.setting`).
"""

from typing import Any

from latentwire.errors import Unanswerable
from latentwire.evaluation.option_logprobs import option_tokens
from latentwire.tasks.question import Question
from latentwire.tasks.task import Options, user_turn_token_ids

CONTENT_FREE = ("N/A", "[MASK]", "")
"""Stand in for the question and each choice, one at a time: the inputs of Zhao et al. (2021)."""

_TASK = """Another model will answer the following question. It sees question and choices too.

"""
_WRITE = """
Write a brief message to it with the facts and the reasoning that help to answer. Begin with what \
matters most."""
_SUM_UP = """Sum up the text above in at most {tokens} tokens, about {words} words, for a reader \
who has not seen it and will be asked a question about it. Keep names, numbers and places. Begin \
with what is most likely to be asked, and write the summary alone."""
_HINT = "A message from another model that has read this question:\n"


def message_prompt_token_ids(tokenizer: Any, question: Question) -> list[int]:
    """The token ids from which the sharer writes its message: question and choices, no answer."""
    described = question.task.described(question.example)
    return user_turn_token_ids(tokenizer, _TASK + described + _WRITE)


def prompt_with_message_token_ids(tokenizer: Any, question: Question, message: str) -> list[int]:
    """The token ids that the receiver reads: the message, then the prompt it would read anyway.

    Without a message they are the plain prompt's. Evidence that the sharer alone reads stands as it
    is where a cache of it would: sent whole, it makes what a model reads that reads everything.
    Raises as `user_turn_token_ids` does.
    """
    if not message:
        return list(question.prompts.receiver_ids)
    if question.prompts.private:
        evidence = tokenizer.encode(message, add_special_tokens=False)
        return [*evidence, *question.prompts.receiver_ids]
    hint = _HINT + message + "\n\n"
    return user_turn_token_ids(tokenizer, hint + question.task.prompt_text(question.example))


def summary_prompt_token_ids(tokenizer: Any, question: Question, tokens: int) -> list[int]:
    """The token ids from which the sharer writes a summary of its evidence, told its budget: what
    it reads anyway, and a turn that asks. Raises Unanswerable where it reads no evidence alone."""
    if not question.prompts.private:
        raise Unanswerable("both models read the same: there is no evidence to sum up")
    asked = _SUM_UP.format(tokens=tokens, words=max(1, tokens * 3 // 4))
    return [*question.prompts.sharer_ids, *user_turn_token_ids(tokenizer, asked)]


def prompt_with_summary_token_ids(tokenizer: Any, question: Question, summary: str) -> list[int]:
    """The token ids that the receiver reads: the summary, a turn of its own where the evidence's
    would stand, then its prompt. Without a summary they are the plain prompt's."""
    turn = user_turn_token_ids(tokenizer, summary, False) if summary else []
    return [*turn, *question.prompts.receiver_ids]


def content_free_token_ids(tokenizer: Any, question: Question) -> list[list[int]]:
    """The prompts of a question of this form that says nothing, one for each of `CONTENT_FREE`."""
    task = question.task
    blanks = [task.blank(question.example, text) for text in CONTENT_FREE]
    return [user_turn_token_ids(tokenizer, task.prompt_text(blank)) for blank in blanks]


def stem_and_options(tokenizer: Any, options: Options) -> tuple[list[int], list[int], list[int]]:
    """Token ids of the answer's stem, of each option's label behind it, and of each label alone.

    Raises Unanswerable where there are no options, or labels are not one token each.
    """
    if not options.labels:
        raise Unanswerable("there are no options of which log-probabilities could be read")
    spelled = [
        tokenizer.encode(f"{options.stem} {label}", add_special_tokens=False)
        for label in options.labels
    ]
    stem = tokenizer.encode(options.stem, add_special_tokens=False)
    labels = [ids[-1] for ids in spelled]
    alone = list(option_tokens(tokenizer, options).values())
    if any(ids[:-1] != stem for ids in spelled) or not alone or len(set(labels)) != len(labels):
        raise Unanswerable(
            f"the tokenizer does not make one token of each {options.name},"
            f" alone and behind {options.stem!r}, so log-probabilities of {len(labels)} options"
            " cannot be read"
        )
    return stem, labels, alone
