"""The receiver's next token after messages, of several questions together.

`batch`, up to the first token: what messages have in common, the receiver's reading, is done once.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from c2c.fast_ops import fast_steps
from c2c.slot_cache import slot_attention
from c2c.steps import finished
from latentwire.channel.endpoint import Arrived
from latentwire.evaluation.batch import Batch, Messages
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.reading import Text
from latentwire.evaluation.workspace import Workspace
from latentwire.spec.axes import C2C
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.question import Question

_ANY = Condition(C2C, Channel("bf16"), "matched")  # a batch has its messages under a name


class NextTokens:
    """Of B questions, whatever arrives of the sharer's caches of `texts`."""

    @torch.inference_mode()
    def __init__(
        self, pair: LoadedPair, questions: Sequence[Question], texts: Sequence[Text]
    ) -> None:
        self._shown: list[Tensor] = []
        self._texts = list(texts)
        work = Workspace(pair, use_graphs=False)
        self._batch = Batch(work, questions, {}, 1, self._show, None)
        with slot_attention(pair.receiver), fast_steps(pair.receiver):
            self._own = self._batch.read("receiver", self._batch.prompts)

    @torch.inference_mode()
    def after(self, arrived: Arrived) -> Tensor:
        """Log-probabilities of the first token of each answer, float32 [B, vocabulary]. A row of
        which nothing is kept is the receiver's own."""
        batch, pair = self._batch, self._batch.work.pair
        decoder = batch.decoder("receiver", 1)
        with slot_attention(pair.receiver), fast_steps(pair.receiver):
            batch.fill(decoder, self._own, 1)
            received = batch.aligned({_ANY: arrived})
            if pair.interface.inserts:
                messages = Messages(arrived.cache, self._texts, list(range(len(self._texts))))
                front = batch.insert(decoder, {_ANY.sends: messages}, received, [_ANY])
            else:
                batch.merge(decoder, self._own, received, [_ANY])
                front = []
            reasons = batch.no_reasons([_ANY])
            finished(batch.decoding(decoder, [_ANY], reasons, batch.prompts, front))
        return self._shown.pop().float().log_softmax(-1)

    def _show(self, conditions: Sequence[Condition], logits: Tensor) -> None:
        self._shown.append(logits[0].clone())
