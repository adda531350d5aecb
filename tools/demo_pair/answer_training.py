"""Teaching a model to answer four-choice questions with a letter.

Taught from the letter alone, a small model stays at chance for long: it must recall a value, find
it among the choices and name its letter, and no one step helps without the others. Two auxiliary
linear heads, thrown away after training, teach the first two: which value, read at the end of the
question; which choice, read at the choices.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from latentwire.tasks.answer_letter import LETTERS
from tools.demo_pair.config import ModelTraining
from tools.demo_pair.questions import Drawn, Questioner
from tools.demo_pair.token_templates import Frame

OnMetrics = Callable[[str, dict[str, float], int], None]
"""Told (stage, metrics, step) now and then."""

LOG_EVERY_STEPS = 50


@dataclass(frozen=True)
class Task:
    """One kind of training question."""

    frame: Frame
    facts: Tensor
    """[N, 2] the facts asked about."""
    answer: str | None
    """What is taught (see `Questioner.draw`); None: every letter alike, there is no telling."""


class AuxiliaryHeads(nn.Module):
    """Linear read-outs that exist during training only."""

    def __init__(self, hidden_size: int, values: int) -> None:
        super().__init__()
        self.recall = nn.Linear(hidden_size, values)
        self.choice = nn.Linear(hidden_size, 1)


class Reply:
    """Token ids of the reply: a letter, then the end of the turn."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, device: torch.device) -> None:
        ids = [tokenizer.encode(letter, add_special_tokens=False)[0] for letter in LETTERS]
        self.letters = torch.tensor(ids, device=device)
        self.end = int(tokenizer.eos_token_id)

    def ids(self, key: Tensor) -> Tensor:
        """[B, 2]"""
        return torch.stack([self.letters[key], torch.full_like(key, self.end)], dim=1)


def train_to_answer(
    stage: str,
    model: PreTrainedModel,
    tasks: Sequence[Task],
    questioner: Questioner,
    reply: Reply,
    values: int,
    settings: ModelTraining,
    on_metrics: OnMetrics,
    measure: Callable[[], dict[str, float]],
) -> None:
    """Train `model` in place; the tasks take turns, one a step.

    `values` is the number of values over all attributes. `measure` is asked for dev figures at
    every tenth log line and at the end.
    """
    heads = AuxiliaryHeads(model.config.hidden_size, values).to(model.device)
    parameters = [*model.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        betas=(0.9, 0.98),
        fused=True,
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, _warm_cosine(settings))
    model.train()
    for step in range(1, settings.steps + 1):
        task = tasks[(step - 1) % len(tasks)]
        drawn = questioner.draw(task.facts, settings.batch, answer=task.answer or "invented")
        losses = answer_losses(model, heads, task, drawn, reply, settings)
        loss = losses["answer"] + settings.auxiliary_weight * (
            losses.get("recall", 0.0) + losses.get("choice", 0.0)
        )
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        scheduler.step()
        last = step == settings.steps
        if last or step % LOG_EVERY_STEPS == 0:
            figures = {f"{name}_loss": float(value.detach()) for name, value in losses.items()}
            if last or step % (10 * LOG_EVERY_STEPS) == 0:
                figures |= measure()
            on_metrics(stage, figures, step)
    model.requires_grad_(False).eval()


def answer_losses(
    model: PreTrainedModel,
    heads: AuxiliaryHeads,
    task: Task,
    drawn: Drawn,
    reply: Reply,
    settings: ModelTraining,
) -> dict[str, Tensor]:
    """Losses of a batch: `answer`, and `recall` and `choice` where there is something to know."""
    prompt = task.frame.fill(drawn.slots)
    answer = reply.ids(drawn.key)
    ids = torch.cat([prompt, answer[:, :1]], dim=1)
    states = model.base_model(ids, use_cache=False, output_hidden_states=True).hidden_states
    logits = model.lm_head(states[-1][:, -2:])
    end_loss = F.cross_entropy(logits[:, 1], answer[:, 1])
    if task.answer is None:
        letter_loss = -logits[:, 0].log_softmax(-1)[:, reply.letters].mean()
        return {"answer": letter_loss + end_loss}
    recalled = heads.recall(states[settings.recall_layer][:, task.frame.question_end])
    at_choices = states[settings.choice_layer][:, task.frame.positions["choices"]]
    return {
        "answer": F.cross_entropy(logits[:, 0], answer[:, 0]) + end_loss,
        "recall": F.cross_entropy(recalled, drawn.value),
        "choice": F.cross_entropy(heads.choice(at_choices).squeeze(-1), drawn.key),
    }


@torch.no_grad()
def letter_accuracy(model: PreTrainedModel, frame: Frame, drawn: Drawn, reply: Reply) -> float:
    """Per cent of the questions of which the likeliest first token is the key's letter."""
    was_training = model.training
    model.eval()
    logits = model(frame.fill(drawn.slots), logits_to_keep=1).logits[:, -1]
    model.train(was_training)
    return 100 * float((logits.argmax(-1) == reply.letters[drawn.key]).float().mean())


def _warm_cosine(settings: ModelTraining) -> Callable[[int], float]:
    warmup = max(1, round(settings.warmup_share * settings.steps))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, settings.steps - warmup)))

    return factor
