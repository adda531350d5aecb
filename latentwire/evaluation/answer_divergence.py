"""What bits cost the answer: how far the receiver's words go from those that 16 bits give.

Of each question the receiver writes its answer with the message in 16 bits. With that answer given,
token by token, the divergence KL(16 bits || schedule) of the next token is summed over the answer;
the mean over questions is what a schedule costs, in nats. One tensor in few bits and all else in 16
gives that tensor's cost, as ZeroQ measures a layer's sensitivity (Cai et al. 2020,
arXiv:2001.00281). The loss of the key would be the other choice. It needs a key, and the form in
which a model writes it, and it is so noisy that on the bundled pair two bits cost some tensors less
than 16; a divergence cannot be negative, and fell with every bit of every tensor there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from c2c.cache import KVCache, concatenate
from c2c.training_batches import TokenBatches, end_and_pad
from c2c.training_loss import answer_logits, readings_of
from c2c.training_readings import Reading
from latentwire.channel.layout import Site
from latentwire.channel.per_tensor import PerTensor
from latentwire.channel.registry import codec
from latentwire.controls.registry import MATCHED
from latentwire.errors import LatentWireError
from latentwire.evaluation import engine
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.reading import receivers_text, sharers_text
from latentwire.evaluation.schedule_search import Bits
from latentwire.evaluation.workspace import Workspace
from latentwire.spec.axes import C2C
from latentwire.spec.condition import Channel, Condition
from latentwire.tasks.question import Question

REFERENCE = Channel("bf16")
ROWS_AT_ONCE = 8  # questions whose messages and own caches are in memory
MOST_ROWS = 256  # of so many schedules' messages at once
MOST_LOGITS = 1 << 28  # of the answers under so many schedules: 1 GB in float32, and some copies


def answers_in_16_bits(
    pair: LoadedPair, questions: Sequence[Question]
) -> list[tuple[Question, list[int]]]:
    """Those of some questions that can be answered, each with the answer in the receiver's tokens,
    its end among them. LatentWireError where fewer than two can: a search checks on others than it
    measures on."""
    end, _ = end_and_pad(pair.tokenizer)
    condition, work = Condition(C2C, REFERENCE, MATCHED), Workspace(pair)
    records = engine.evaluate(pair, [condition], questions, questions, work=work)[condition]
    work.release()
    found = [
        (question, [*pair.tokenizer.encode(record.output, add_special_tokens=False), end])
        for question, record in zip(questions, records, strict=True)
        if record.unanswered is None
    ]
    if len(found) < 2:
        reasons = {record.unanswered for record in records} - {None}
        raise LatentWireError(
            f"schedules are searched on two training questions at least, and {len(found)} of"
            f" {len(questions)} can be answered: {'; '.join(sorted(map(str, reasons)))}"
        )
    return found


@torch.inference_mode()
def divergences(
    pair: LoadedPair,
    answered: Sequence[tuple[Question, Sequence[int]]],
    schedules: Sequence[Bits],
    on_done: Callable[[int], object] = lambda questions: None,
) -> list[float]:
    """What each schedule costs, in nats an answer; a tensor that a schedule does not name is sent
    in 16 bits. `on_done` is told of questions that are done under all of them."""
    total = torch.zeros(len(schedules), device=pair.device)
    used = {bits for schedule in schedules for bits in schedule.values()}
    for reading in _readings(pair, answered):
        whole = _arrived(REFERENCE.codec, reading.sent)
        coarse = {bits: _arrived(f"int{bits}", reading.sent) for bits in used}
        told = _log_probabilities(pair, reading, whole)
        step = max(1, min(MOST_ROWS // len(reading.rows), MOST_LOGITS // told.numel()))
        for start in range(0, len(schedules), step):
            some = schedules[start : start + step]
            arrived = concatenate([_mixed(whole, coarse, schedule) for schedule in some], dim=0)
            other = _log_probabilities(pair, reading.repeated(len(some)), arrived)
            other = other.view(len(some), *told.shape)
            lost = F.kl_div(other, told.expand_as(other), reduction="none", log_target=True)
            total[start : start + step] += lost.sum((1, 2))
        on_done(len(reading.rows))
    return [max(0.0, nats) / len(answered) for nats in total.tolist()]  # rounding may be below 0


def _readings(
    pair: LoadedPair, answered: Sequence[tuple[Question, Sequence[int]]]
) -> Iterator[Reading]:
    """Few questions at a time, those of like length together, with whole messages."""
    _, pad = end_and_pad(pair.tokenizer)
    by_length = sorted(answered, key=lambda each: len(receivers_text(each[0]).ids))
    for first in range(0, len(by_length), ROWS_AT_ONCE):
        rows = by_length[first : first + ROWS_AT_ONCE]
        aligned = [found for question, _ in rows if (found := question.prompts.alignment)]
        messages: list[Sequence[int]] = []
        if pair.interface.inserts:
            messages = [question.prompts.sharer_ids for question, _ in rows]
        elif aligned:
            messages = [sharers_text(pair.interface, question).ids for question, _ in rows]
        pairs = [(receivers_text(question).ids, answer) for question, answer in rows]
        device = str(pair.device)
        batches = TokenBatches(pairs, pad, len(rows), 0, device, messages, aligned)
        batch = batches(0)  # the one that holds all
        width = batch.prompt_ids.shape[1] - 1
        kept = width if batch.message_ids is None else batch.message_ids.shape[1]
        yield from readings_of(pair.receiver, pair.sharer, batch, kept, "front")


def _arrived(name: str, sent: KVCache) -> KVCache:
    tensors = codec(name)
    assert isinstance(tensors, PerTensor)

    def kind(name: str, each: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(tensors.at(name, layer).round_trip(x) for layer, x in enumerate(each))

    return KVCache(kind("key", sent.keys), kind("value", sent.values))


def _mixed(whole: KVCache, coarse: Mapping[int, KVCache], schedule: Bits) -> KVCache:
    """`whole`, with the tensors of a schedule in its bits."""
    keys, values = list(whole.keys), list(whole.values)
    for (kind, layer), bits in schedule.items():
        if kind == "key":
            keys[layer] = coarse[bits].keys[layer]
        else:
            values[layer] = coarse[bits].values[layer]
    return KVCache(tuple(keys), tuple(values))


def _log_probabilities(pair: LoadedPair, reading: Reading, received: KVCache) -> Tensor:
    return answer_logits(reading, pair.interface, received).log_softmax(-1)


def sites_of(pair: LoadedPair) -> list[Site]:
    """The tensors that a packet of the pair holds. LatentWireError where there is none."""
    sites = [("key", layer) for layer in pair.endpoint.key_layers]
    sites += [("value", layer) for layer in pair.endpoint.value_layers]
    if not sites:
        raise LatentWireError("the pair's interface reads no layer, so none needs bits")
    return sites
