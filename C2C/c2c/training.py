"""Training a fuser: both models frozen, next-token loss on the answer.

The recipe is the published one (arXiv 2510.03215 and its training configuration): AdamW at 1e-4
with weight decay 0.01, linear warm-up over 10 % of the steps and linear decay, gradient norm
clipped at 1, Gumbel-sigmoid gates whose temperature falls geometrically from 1.0 to 0.001.

Two things go beyond it and are off by default: fusing only a random part of some prompts, so that
the fuser also serves shortened caches, and a penalty on open gates, so that what carries nothing
need not be sent.
"""

import json
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_
from transformers import DynamicCache, PreTrainedModel, get_linear_schedule_with_warmup

from c2c.cache import KVCache, concatenate, from_transformers, to_transformers
from c2c.checkpoint import load_fuser, save_fuser
from c2c.errors import C2CError
from c2c.fuser import Fuser
from c2c.projector import Projector

KEPT_CHECKPOINTS = 2


@dataclass(frozen=True)
class TrainingSettings:
    """The recipe; defaults are the published values."""

    steps: int
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    warmup_share: float = 0.1
    max_grad_norm: float = 1.0
    accumulation: int = 1  # batches per optimizer step
    initial_temperature: float = 1.0
    final_temperature: float = 0.001
    anneal_steps: int | None = None  # None: all of them
    gate_penalty: float = 0.0  # times the mean of sigmoid(gate logit)
    partial_share: float = 0.0  # share of batches of which only a random part is fused
    checkpoint_every: int = 500
    seed: int = 42


@dataclass(frozen=True)
class Batch:
    """Prompts and answers of B conversations.

    `prompt_ids` is [B, n], padded on the left; `answer_ids` is [B, m], padded on the right and
    ending with the stop token. The masks are 1 where a token is real; None: all are.
    """

    prompt_ids: Tensor
    answer_ids: Tensor
    prompt_mask: Tensor | None = None
    answer_mask: Tensor | None = None


# Batch number -> batch. Random access, so that a resumed run sees the batches it would have seen.
Batches = Callable[[int], Batch]


class ChatBatches:
    """Batches from JSON lines of chats: {"messages": [{"role": ..., "content": ...}, ...]}.

    The last message must be the assistant's: it is the answer, what stands before it the prompt.
    Conversations longer than `max_tokens` are left out. Shuffled anew each epoch.
    """

    def __init__(
        self,
        path: Path,
        tokenizer: Any,
        batch_size: int,
        max_tokens: int = 2048,
        seed: int = 42,
        device: str = "cpu",
    ) -> None:
        pairs = [
            _chat_tokens(tokenizer, row, f"{path}, line {number}")
            for number, row in enumerate(_json_lines(path), start=1)
        ]
        self.pairs = [(p, a) for p, a in pairs if len(p) + len(a) <= max_tokens]
        if not self.pairs:
            raise C2CError(f"{path}: no conversation of at most {max_tokens} tokens")
        self.batch_size, self.seed, self.device = batch_size, seed, device
        pad = tokenizer.pad_token_id
        self.pad = pad if pad is not None else tokenizer.eos_token_id

    def __call__(self, number: int) -> Batch:
        rows = [self.pairs[self._row(number * self.batch_size + i)] for i in range(self.batch_size)]
        prompts, prompt_mask = self._pad([p for p, _ in rows], left=True)
        answers, answer_mask = self._pad([a for _, a in rows], left=False)
        return Batch(prompts, answers, prompt_mask, answer_mask)

    def _row(self, position: int) -> int:
        epoch, place = divmod(position, len(self.pairs))
        order = list(range(len(self.pairs)))
        random.Random(f"{self.seed}:{epoch}").shuffle(order)
        return order[place]

    def _pad(self, rows: Sequence[Sequence[int]], left: bool) -> tuple[Tensor, Tensor]:
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self.pad)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for index, row in enumerate(rows):
            place = slice(width - len(row), width) if left else slice(0, len(row))
            ids[index, place] = torch.tensor(row)
            mask[index, place] = 1
        return ids.to(self.device), mask.to(self.device)


def train_fuser(
    receiver: PreTrainedModel,
    sharer: PreTrainedModel,
    fuser: Fuser,
    batches: Batches,
    settings: TrainingSettings,
    checkpoint_dir: Path | None = None,
    on_step: Callable[[int, Mapping[str, float]], None] | None = None,
) -> Fuser:
    """Train `fuser` in place and return it, frozen and in eval mode.

    With `checkpoint_dir` the run survives being killed: a later call with the same arguments goes
    on from the newest whole checkpoint and ends with the same weights. `on_step(step, metrics)` is
    told loss, learning rate, temperature and open gates after every optimizer step.
    """
    receiver.requires_grad_(False).eval()
    sharer.requires_grad_(False).eval()
    fuser.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(
        fuser.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    scheduler = get_linear_schedule_with_warmup(
        optimizer, int(settings.warmup_share * settings.steps), settings.steps
    )
    first = _resume(checkpoint_dir, settings, fuser, optimizer, scheduler) if checkpoint_dir else 0
    for step in range(first, settings.steps):
        _set_temperature(fuser, temperature(settings, step))
        # Seeded by step, so that a resumed run draws what an undisturbed one would.
        torch.manual_seed(settings.seed * 1_000_003 + step)
        choice = random.Random(f"{settings.seed}:{step}")
        total = torch.zeros((), device=receiver.device)
        for part in range(settings.accumulation):
            batch = batches(step * settings.accumulation + part)
            loss = answer_loss(receiver, sharer, fuser, batch, *_kept_part(settings, batch, choice))
            total += loss.detach() / settings.accumulation
            loss = loss + settings.gate_penalty * _open_share(fuser)
            (loss / settings.accumulation).backward()
        clip_grad_norm_(fuser.parameters(), settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        scheduler.step()
        done = step + 1
        if on_step:
            rate = scheduler.get_last_lr()[0]
            on_step(done, _metrics(fuser, float(total), rate, temperature(settings, step)))
        if checkpoint_dir and (done % settings.checkpoint_every == 0 or done == settings.steps):
            _save(checkpoint_dir, done, settings, fuser, optimizer, scheduler)
    return fuser.requires_grad_(False).eval()


def answer_loss(
    receiver: PreTrainedModel,
    sharer: PreTrainedModel,
    fuser: Fuser,
    batch: Batch,
    kept: int,
    order: str,
) -> Tensor:
    """Mean next-token loss on the answers, with `kept` instruction tokens of the prompt fused.

    The instruction is the prompt without its last token; the first (`front`) or last (`back`)
    `kept` of it are fused, in coordinates of the padded batch.
    """
    instruction = batch.prompt_ids.shape[1] - 1
    start = 0 if order == "front" else instruction - kept
    stop = start + kept
    with torch.no_grad():
        sent = _prefill(sharer, batch, stop).section(start, stop)
        own = _prefill(receiver, batch, stop)
    prefix = fuser(sent, own.section(start, stop))
    if start:
        prefix = concatenate([own.section(0, start), prefix], dim=2)
    rest = torch.cat([batch.prompt_ids[:, stop:], batch.answer_ids], dim=1)
    mask, positions = _mask_and_positions(batch)
    output = receiver(
        rest,
        past_key_values=to_transformers(prefix),
        attention_mask=mask,
        position_ids=None if positions is None else positions[:, stop:],
        use_cache=True,
        logits_to_keep=batch.answer_ids.shape[1] + 1,
    )
    logits = output.logits[:, :-1].float().flatten(0, 1)
    losses = F.cross_entropy(logits, batch.answer_ids.flatten(), reduction="none")
    if batch.answer_mask is None:
        return losses.mean()
    weights = batch.answer_mask.flatten().float()
    return (losses * weights).sum() / weights.sum()


def temperature(settings: TrainingSettings, step: int) -> float:
    """initial * (final / initial) ^ min(step / anneal_steps, 1)."""
    anneal_steps = settings.anneal_steps or settings.steps
    ratio = settings.final_temperature / settings.initial_temperature
    return settings.initial_temperature * ratio ** min(step / anneal_steps, 1.0)


def _prefill(model: PreTrainedModel, batch: Batch, tokens: int) -> KVCache:
    """The model's own cache of the first `tokens` prompt tokens."""
    cache = DynamicCache()
    mask, positions = _mask_and_positions(batch)
    model(
        batch.prompt_ids[:, :tokens],
        past_key_values=cache,
        attention_mask=None if mask is None else mask[:, :tokens],
        position_ids=None if positions is None else positions[:, :tokens],
        use_cache=True,
        logits_to_keep=1,
    )
    return from_transformers(cache)


def _mask_and_positions(batch: Batch) -> tuple[Tensor | None, Tensor | None]:
    """Mask and positions over prompt and answer; None where nothing is padded on the left."""
    if batch.prompt_mask is None:
        return None, None
    answer_mask = batch.answer_mask
    if answer_mask is None:
        answer_mask = torch.ones_like(batch.answer_ids)
    mask = torch.cat([batch.prompt_mask, answer_mask], dim=1)
    return mask, (mask.cumsum(1) - 1).clamp_min(0)


def _kept_part(settings: TrainingSettings, batch: Batch, choice: random.Random) -> tuple[int, str]:
    instruction = batch.prompt_ids.shape[1] - 1
    if choice.random() >= settings.partial_share:
        return instruction, "front"
    return choice.randint(1, instruction), choice.choice(("front", "back"))


def _projectors(fuser: Fuser) -> list[Projector]:
    return [module for module in fuser.projectors if isinstance(module, Projector)]


def _gate_logits(fuser: Fuser) -> Tensor:
    names = ("key_gate_logit", "value_gate_logit")
    return torch.stack([p.get_parameter(name) for p in _projectors(fuser) for name in names])


def _open_share(fuser: Fuser) -> Tensor:
    return _gate_logits(fuser).float().sigmoid().mean()


def _set_temperature(fuser: Fuser, value: float) -> None:
    for projector in _projectors(fuser):
        projector.gate_temperature.fill_(value)


def _metrics(fuser: Fuser, loss: float, rate: float, heat: float) -> dict[str, float]:
    logits = _gate_logits(fuser).detach()
    return {
        "loss": loss,
        "learning_rate": rate,
        "gate_temperature": heat,
        "open_gates": float((logits > 0).sum()),
    }


def _save(
    folder: Path,
    step: int,
    settings: TrainingSettings,
    fuser: Fuser,
    optimizer: torch.optim.Optimizer,
    scheduler: Any,
) -> None:
    """Write checkpoint `step`: whole under its name, or not at all."""
    partial = folder / "partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_fuser(fuser, partial / "fuser")
    state = {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
    torch.save(state, partial / "training.pt")
    (partial / "settings.json").write_text(json.dumps(vars(settings)))
    final = folder / f"step_{step:08d}"
    shutil.rmtree(final, ignore_errors=True)
    partial.replace(final)
    for old in sorted(folder.glob("step_*"))[:-KEPT_CHECKPOINTS]:
        shutil.rmtree(old)


def _resume(
    folder: Path,
    settings: TrainingSettings,
    fuser: Fuser,
    optimizer: torch.optim.Optimizer,
    scheduler: Any,
) -> int:
    """Load the newest checkpoint into the objects given; the number of steps it has done."""
    found = sorted(folder.glob("step_*"))
    if not found:
        return 0
    newest = found[-1]
    if json.loads((newest / "settings.json").read_text()) != vars(settings):
        raise C2CError(
            f"{folder} holds checkpoints of a run with other settings: give another folder"
        )
    device = str(next(fuser.parameters()).device)
    saved = load_fuser(newest / "fuser", fuser.sharer, fuser.receiver, device=device)
    fuser.load_state_dict(saved.state_dict())
    state = torch.load(newest / "training.pt", map_location=device, weights_only=True)
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    return int(newest.name.removeprefix("step_"))


def _json_lines(path: Path) -> list[Any]:
    rows = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    rows.append(json.loads(line.decode()))
                except (ValueError, RecursionError) as error:
                    raise C2CError(f"{path}, line {number}: not JSON: {error}") from None
    except OSError as error:
        raise C2CError(f"{path} cannot be read: {error}") from None
    return rows


def _chat_tokens(tokenizer: Any, row: Any, where: str) -> tuple[list[int], list[int]]:
    try:
        *before, last = row["messages"]
        for message in (*before, last):
            if not isinstance(message["role"], str) or not isinstance(message["content"], str):
                raise ValueError("role and content of a message must be text")
        if last["role"] != "assistant" or not before:
            raise ValueError("the last message must be the assistant's, after at least one other")
        prompt = tokenizer.apply_chat_template(
            before,
            add_generation_prompt=True,
            enable_thinking=False,
            tokenize=True,
            return_dict=False,
        )
        answer = tokenizer.encode(last["content"], add_special_tokens=False)
    except (KeyError, TypeError, ValueError) as error:
        raise C2CError(f"{where}: not a conversation: {error}") from None
    if len(prompt) < 2:
        raise C2CError(f"{where}: the prompt has fewer than two tokens")
    return list(prompt), [*answer, tokenizer.eos_token_id]
