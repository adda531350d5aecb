"""The receiver: a tiny Qwen3 that can read and answer, and knows no fact."""

import torch
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from tools.demo_pair.answer_training import OnMetrics, Reply, Task, letter_accuracy, train_to_answer
from tools.demo_pair.config import DemoSettings, ModelSize
from tools.demo_pair.questions import Questioner
from tools.demo_pair.token_templates import question_frame
from tools.demo_pair.world import Split, World

DEV_QUESTIONS = 1024


def new_receiver(size: ModelSize, tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """An untrained receiver; its head_dim is its own, not hidden size / heads."""
    return Qwen3ForCausalLM(Qwen3Config(head_dim=size.head_dim, **size.arguments(tokenizer)))


def train_receiver(
    world: World,
    tokenizer: PreTrainedTokenizerFast,
    settings: DemoSettings,
    device: torch.device,
    seed: int,
    on_metrics: OnMetrics,
) -> Qwen3ForCausalLM:
    """Teach a receiver to answer from an invented statement in the prompt, or to have no opinion.

    Statements give random values, anew each time, and questions without one teach every letter
    alike: nothing about the world can be learned.
    """
    receiver = new_receiver(settings.receiver, tokenizer).to(device)
    questioner = Questioner(world, tokenizer, device, seed)
    reply = Reply(tokenizer, device)
    facts = world.facts(list(Split))

    def task(*, short: bool, stated: bool) -> Task:
        frame = question_frame(tokenizer, world, short=short, stated=stated)
        return Task(frame, facts, "invented" if stated else None)

    stated = [task(short=False, stated=True), task(short=True, stated=True)]
    plain = task(short=False, stated=False)
    dev = Questioner(world, tokenizer, device, seed + 1)
    read = dev.draw(facts, DEV_QUESTIONS, answer="invented")
    known = dev.draw(world.facts([Split.DEV_FACTS]), DEV_QUESTIONS, answer="truth")

    def measure() -> dict[str, float]:
        return {
            "stated_accuracy": letter_accuracy(receiver, stated[0].frame, read, reply),
            "dev_facts_accuracy": letter_accuracy(receiver, plain.frame, known, reply),
        }

    train_to_answer(
        "receiver",
        receiver,
        [*stated, *stated, plain],
        questioner,
        reply,
        len(world.attributes) * len(world.values[0]),
        settings.receiver_training,
        on_metrics,
        measure,
    )
    return receiver
