"""Whether two models can read the same token ids."""

from typing import Any

from latentwire.errors import LatentWireError


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
        raise LatentWireError(f"different tokenizers are not supported yet: {conflict} sharer")
