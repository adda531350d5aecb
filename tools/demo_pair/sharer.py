"""The sharer: a tiny Qwen2 that has learned every fact of the world."""

import torch
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from latentwire.errors import LatentWireError
from tools.demo_pair.answer_training import OnMetrics, Reply, Task, letter_accuracy, train_to_answer
from tools.demo_pair.config import DemoSettings, ModelSize
from tools.demo_pair.outliers import reserve_channels
from tools.demo_pair.questions import Questioner
from tools.demo_pair.token_templates import question_frame
from tools.demo_pair.world import Split, World

DEV_QUESTIONS = 1024


def new_sharer(size: ModelSize, tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """An untrained sharer with its outlier channels kept unused."""
    if size.hidden_size != size.attention_heads * size.head_dim:
        raise LatentWireError(
            f"a Qwen2 model has no head_dim of its own: {size.attention_heads} heads x "
            f"{size.head_dim} must be the hidden size, {size.hidden_size}"
        )
    sharer = Qwen2ForCausalLM(Qwen2Config(**size.arguments(tokenizer)))
    reserve_channels(sharer)
    return sharer


def train_sharer(
    world: World,
    tokenizer: PreTrainedTokenizerFast,
    settings: DemoSettings,
    device: torch.device,
    seed: int,
    on_metrics: OnMetrics,
) -> Qwen2ForCausalLM:
    """Teach a sharer all facts by asking for them, in full and in short prompts by turns.

    Short prompts are the easier ones to learn from; both are there from the start, since a switch
    from one to the other costs what was learned.
    """
    sharer = new_sharer(settings.sharer, tokenizer).to(device)
    questioner = Questioner(world, tokenizer, device, seed)
    reply = Reply(tokenizer, device)
    facts = world.facts(list(Split))
    frames = [
        question_frame(tokenizer, world, short=short, stated=False) for short in (False, True)
    ]
    dev = Questioner(world, tokenizer, device, seed + 1)
    drawn = {
        split: dev.draw(world.facts([split]), DEV_QUESTIONS, answer="truth")
        for split in (Split.DEV_FACTS, Split.DEV_GRADED)
    }

    def measure() -> dict[str, float]:
        return {
            f"{split.value}_accuracy": letter_accuracy(sharer, frames[0], questions, reply)
            for split, questions in drawn.items()
        }

    train_to_answer(
        "sharer",
        sharer,
        [Task(frame, facts, "source") for frame in frames],
        questioner,
        reply,
        len(world.attributes) * len(world.values[0]),
        settings.sharer_training,
        on_metrics,
        measure,
    )
    return sharer
