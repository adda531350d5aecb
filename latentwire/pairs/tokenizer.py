"""A model's tokenizer, and whether two models can read the same token ids."""

from pathlib import Path
from typing import Any

from c2c.alignment import Aligner
from c2c.errors import C2CError
from latentwire.errors import LatentWireError, first_line


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in a model's folder; its own code is never run.

    Raises `LatentWireError` where there is none, or none that the library can read.
    """
    import tokenizers
    from transformers import AutoTokenizer  # it takes seconds

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the Rust library raises plain exceptions
        reason = first_line(error)
        if "trust_remote_code" in str(error):
            reason = "it needs code of its own, which is never run here"
        raise LatentWireError(
            f"{folder} does not hold a tokenizer that tokenizers {tokenizers.__version__} can read:"
            f" {reason}"
        ) from error


def check_embedded(tokenizer: Any, rows: dict[str, int], whose: str = "receiver") -> None:
    """Raise `LatentWireError` where a tokenizer, which these models' prompts are made with, has a
    token that a model has no embedding of; `rows` are each model's embeddings."""
    token, highest = max(tokenizer.get_vocab().items(), key=lambda item: item[1])
    for model, count in rows.items():
        if highest >= count:
            raise LatentWireError(
                f"the {model}'s embedding has {count} rows, and the {whose}'s tokenizer has tokens"
                f" up to {highest} ({token!r}): take the tokenizer that belongs to the model, or"
                " enlarge the embedding"
            )


def check_can_be_aligned(receiver_tokenizer: Any, sharer_tokenizer: Any) -> None:
    """Raise `LatentWireError` for two tokenizers whose prompts cannot be aligned."""
    try:
        Aligner(receiver_tokenizer, sharer_tokenizer)
    except C2CError as error:
        raise LatentWireError(str(error)) from None


def check_same_tokenizer(receiver_tokenizer: Any, sharer_tokenizer: Any) -> None:
    """Raise `LatentWireError` unless receiver and sharer mean the same by every id both know.

    Tokens that only one of them has are allowed when their ids are free in the other: Qwen3 added
    four to Qwen2.5's, two of which stand in every prompt with thinking off. The sharer then reads
    embeddings that were never trained, as it did in the published measurements.
    """
    receiver: dict[str, int] = receiver_tokenizer.get_vocab()
    sharer: dict[str, int] = sharer_tokenizer.get_vocab()
    receiver_tokens = {token_id: token for token, token_id in receiver.items()}
    for token, token_id in sharer.items():
        if receiver.get(token, token_id) != token_id:
            conflict = f"{token!r} is {receiver[token]} for the receiver and {token_id} for the"
        elif receiver_tokens.get(token_id, token) != token:
            conflict = (
                f"{token_id} is {receiver_tokens[token_id]!r} for the receiver, {token!r} for the"
            )
        else:
            continue
        raise LatentWireError(
            f"the tokenizers differ, say 'shared_tokenizer: false' in the pair's file, or"
            f" alignment=longest in its line: {conflict} sharer"
        )
