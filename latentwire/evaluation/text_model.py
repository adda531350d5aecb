"""Text coded by the receiver's own model (`lm`): what a text costs a sender who knows that model.

Range coding of the receiver's tokens (I. H. Witten, R. M. Neal and J. G. Cleary, Communications of
the ACM 30, 1987). At each token it is said first whether the text goes on (63 of 64), then in which
group of about sqrt(vocabulary) ids the token is, then which one it is; the model's probabilities
are quantized to 24 bits at each step. What both ends know stands before the text: the question's
own prompt where both models read the question, and nothing where the sharer alone reads.

A packet can be read where the receiver's end gets the sender's probabilities, bit for bit: the same
model files, dtype, kind of device and software. Both run the model over tokens in pieces of PIECE,
the first, of FIRST_PIECE, with what stands before it, and the last one filled up, so that all calls
have the same shapes, whatever is known of the text yet.
A text that the tokenizer does not give back as it was, or that is cheaper so, goes as UTF-8 behind
one byte, which no other packet begins with.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel

from c2c.errors import shortened
from latentwire.channel.codec import CodecError
from latentwire.channel.range_stream import Categorical, RangeEncoder, ending, opened
from latentwire.channel.text_codec import decode_text, encode_text, fitting
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.unanswerable import require_finite, require_room
from latentwire.tasks.question import Question

PIECE = 64  # tokens in one call of the model
FIRST_PIECE = 8  # fewer: many a text is a few words, and what fills a piece up costs as much
GOES_ON = Categorical(np.array([63.0, 1.0]), perfect=False)
SPELLED = b"\xff"  # a text of no token would begin so, and is sent as nothing
SLACK_BITS = 16  # that quantized probabilities may be off
MOST_KNOWN = 4096  # texts that are remembered: each with the packets of all its beginnings
LEAST = 1e-30  # a probability, so that a group whose tokens all have none can be coded


@dataclass(frozen=True)
class TextModel:
    """The receiver as a model of text; each text is coded once, and not at all where a longer one
    that begins with its tokens is known. Of more than MOST_KNOWN the oldest are forgotten."""

    pair: LoadedPair
    _known: dict[tuple[int, ...], dict[str, tuple[list[int], list[bytes]]]] = field(
        default_factory=dict
    )

    def context(self, source: Question) -> tuple[int, ...]:
        """What both ends know before the text: token ids, one at least."""
        if not source.prompts.private:
            return source.prompts.receiver_ids
        tokenizer = self.pair.tokenizer
        begin = tokenizer.bos_token_id
        return (tokenizer.eos_token_id or 0 if begin is None else begin,)

    def encode(
        self, context: tuple[int, ...], text: str, budget_bytes: int = 0
    ) -> tuple[bytes, str]:
        """A packet and the text that arrives: all of it, or as much as fits a budget (0: none).

        Raises Unanswerable for a text longer than the receiver's context, and for logits that are
        no numbers; CodecError as `encode_text` does.
        """
        if not text:
            return b"", ""
        plain = fitting(text, "utf8", budget_bytes - len(SPELLED)) if budget_bytes else text
        spelled = SPELLED + encode_text(plain, "utf8") if plain else b""
        tokens, packets = self._coded(context, text)
        for count in range(len(packets), 0, -1):
            packet = packets[count - 1]
            if budget_bytes and len(packet) > budget_bytes:
                continue
            arrived = self._text(tokens[:count])
            # Tokens may end within a letter; and a text's beginning may have other tokens.
            if text.startswith(arrived) and self._tokens(arrived) == tokens[:count]:
                if (len(arrived), -len(packet)) >= (len(plain), -len(spelled)):
                    return packet, arrived
                break
        return spelled, plain

    @torch.inference_mode()
    def decode(self, context: tuple[int, ...], packet: bytes) -> str:
        """The text of a packet, whatever its length; CodecError for one that `encode` does not
        make. It asks the model anew for each token, in the piece that the token is in."""
        if packet[:1] == SPELLED or not packet:
            return decode_text(packet[1:], "utf8")
        coder, tokens, bits = opened(packet), list[int](), 0.0
        pieces, start = _Pieces(self.pair.receiver, context), 0
        try:
            while coder.decode(GOES_ON) == 0:
                size, last = pieces.size, pieces.ask(tokens[start:])
                if len(tokens) - start == size:
                    start = len(tokens)
                else:
                    pieces.drop()
                groups, within = _shares(last[-1:])
                group = int(coder.decode(_model(groups[0].cpu().numpy())))
                place = int(coder.decode(_model(within[0, group].cpu().numpy())))
                tokens.append(group * within.shape[2] + place)
                bits -= math.log2(max(LEAST, float(within[0, group, place])) * 63 / 64)
                # Behind the packet's end there are only zeros, which stand for tokens without end.
                if tokens[-1] >= last.shape[-1] or bits > 8 * len(packet) + SLACK_BITS:
                    raise ValueError("no text is so")
        except (AssertionError, ValueError):  # or a number in no token's interval
            raise CodecError("the coded text has a number that stands for no token") from None
        text = self._text(tokens)
        if self.encode(context, text)[0] != packet:
            raise CodecError(f"the coded text is not one of {shortened(repr(text), 80)}")
        return text

    def _coded(self, context: tuple[int, ...], text: str) -> tuple[list[int], list[bytes]]:
        """A text's tokens, and the packets of its first one, two, ..., all."""
        if context not in self._known:
            _make_room(self._known)
        known = self._known.setdefault(context, {})
        if text not in known:
            _make_room(known)
            tokens = self._tokens(text)
            require_room(self.pair.receiver, "receiver", len(context) + len(tokens))
            longer = (each for told, each in known.values() if told[: len(tokens)] == tokens)
            packets = next(longer, None) or list(self._packets(context, tokens))
            known[text] = tokens, packets[: len(tokens)]
        return known[text]

    @torch.inference_mode()
    def _packets(self, context: tuple[int, ...], tokens: Sequence[int]) -> Iterator[bytes]:
        coder, done = RangeEncoder(), 0
        for logits in self._logits(context, tokens):
            groups, within = _shares(logits)
            told = torch.tensor(tokens[done : done + len(logits)], dtype=torch.long).to(
                within.device
            )
            done += len(told)
            group, place = told // within.shape[2], told % within.shape[2]
            rows = torch.arange(len(told), device=within.device)
            symbols = zip(group.tolist(), place.tolist(), strict=True)
            shares = zip(groups.cpu().numpy(), within[rows, group].cpu().numpy(), strict=False)
            for both, models in zip(symbols, shares, strict=False):
                coder.encode(0, GOES_ON)
                for symbol, each in zip(both, models, strict=True):
                    coder.encode(symbol, _model(each))
                ended = coder.clone()
                ended.encode(1, GOES_ON)
                yield ending(ended)

    def _logits(self, context: tuple[int, ...], tokens: Sequence[int]) -> Iterator[Tensor]:
        """What the model says of each token [n, vocabulary], in pieces: of the first by what stands
        before the text, and of the one that would follow last."""
        pieces, start = _Pieces(self.pair.receiver, context), 0
        while start < max(1, len(tokens)):
            piece = tokens[start : start + pieces.size]
            yield pieces.ask(piece)
            start += len(piece) or 1

    def _tokens(self, text: str) -> list[int]:
        return list(self.pair.tokenizer.encode(text, add_special_tokens=False))

    def _text(self, tokens: Sequence[int]) -> str:
        return str(self.pair.tokenizer.decode(tokens, clean_up_tokenization_spaces=False))


class _Pieces:
    """A text's pieces, asked of a model one behind the other, each call of the same shapes."""

    def __init__(self, model: PreTrainedModel, context: tuple[int, ...]) -> None:
        self._model, self._context = model, context
        self._cache, self._asked = DynamicCache(), list[int]()  # how long it was before each piece

    @property
    def size(self) -> int:
        """Tokens in the next piece, at most."""
        return PIECE if self._asked else FIRST_PIECE

    def ask(self, piece: Sequence[int]) -> Tensor:
        """What follows each token of the next piece, and first what follows the context,
        [n, vocabulary]."""
        before, size = self._cache.get_seq_length(), self.size
        known = () if self._asked else self._context
        filled = [*known, *piece, *[0] * (size - len(piece))]
        ids = torch.tensor([filled], device=self._model.device)
        places = torch.arange(before, before + len(filled), device=self._model.device)[None]
        asked = size + (not self._asked)
        self._asked.append(before)
        found = self._model(
            ids,
            position_ids=places,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=asked,
        ).logits[0]
        kept: Tensor = found[: len(piece) + asked - size]
        require_finite(kept)
        return kept

    def drop(self) -> None:
        """The last piece was not whole: it is asked again, with more tokens."""
        if before := self._asked.pop():
            self._cache.crop(before)
        else:
            self._cache = DynamicCache()


def _make_room(known: dict[Any, Any]) -> None:
    """Forget the oldest where no more may be remembered."""
    if len(known) >= MOST_KNOWN:
        del known[next(iter(known))]


def _shares(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Of logits [n, V] what is likely in float64: groups [n, G], and ids by group [n, G, S]."""
    count, vocabulary = logits.shape
    size = math.isqrt(vocabulary - 1) + 1
    groups = -(-vocabulary // size)
    shares = pad(logits.double().softmax(-1), (0, groups * size - vocabulary))
    within = shares.view(count, groups, size)
    return within.sum(-1), within


def _model(shares: NDArray[np.float64]) -> Any:
    return Categorical(shares + LEAST, perfect=False)
