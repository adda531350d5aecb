"""Training a fuser, or a prefix: both models frozen, next-token loss on the answer.

The recipe is the published one (arXiv 2510.03215 and its training configuration): AdamW at 1e-4
with weight decay 0.01, linear warm-up over 10 % of the steps and linear decay, gradient norm
clipped at 1, Gumbel-sigmoid gates whose temperature falls geometrically from 1.0 to 0.001.

Three things go beyond it and are off by default: fusing only a random part of some prompts, so that
the fuser also serves shortened caches; a penalty on open gates, so that what carries nothing need
not be sent; and a guard against what another question's message would do.
"""

import json
import math
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from c2c.cache import KVCache
from c2c.checkpoint import load, save_fuser
from c2c.errors import C2CError
from c2c.fuser import Fuser, Projectors
from c2c.prefix_projector import ProjectedPrefix
from c2c.processes import ALONE, Processes, Share, of_nothing
from c2c.reading_ahead import ReadAhead
from c2c.sections import Runs
from c2c.stacked_fuser import Stacked, StackedFuser, StackedPrefix
from c2c.training_loss import Through, answer_loss, guard_loss, readings_of, unchanged
from c2c.training_readings import Batch, Reading

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
    guard_weight: float = 0.0  # times `guard_loss`
    guard_tolerance: float = 0.0  # of it, in nats a token
    partial_share: float = 0.0  # share of batches of which only a random part is fused
    checkpoint_every: int = 500
    seed: int = 42

    def batches_of(self, step: int) -> range:
        """The numbers of a step's batches; the first step is 0."""
        return range(step * self.accumulation, (step + 1) * self.accumulation)


class NotFinite(C2CError):
    """A step's loss, gradient or weights are NaN or infinite.

    `evidence` is ready for JSON: `step`, which `number` it was and its `value`, the `batches` of
    the step by their numbers, the parameters whose `gradients` are not finite, and the `checkpoint`
    of the last finite weights (None: there is none).
    """

    def __init__(self, sentence: str, evidence: dict[str, Any]) -> None:
        super().__init__(sentence)
        self.evidence = evidence


# Batch number -> batch. Random access, so that a resumed run sees the batches it would have seen.
Batches = Callable[[int], Batch]


# What happens to the messages of a batch, by its number.
Channels = Callable[[int], Through]


def not_altered(number: int) -> Through:
    """Every message arrives as it was sent."""
    return unchanged


F = TypeVar("F", bound=Fuser | ProjectedPrefix)


def train_fuser(
    receiver: PreTrainedModel,
    sharer: PreTrainedModel,
    fuser: F,
    batches: Batches,
    settings: TrainingSettings,
    checkpoint_dir: Path | None = None,
    on_step: Callable[[int, Mapping[str, float]], None] | None = None,
    channels: Channels = not_altered,
    processes: Processes = ALONE,
) -> F:
    """Train `fuser` in place and return it, frozen and in eval mode.

    With `checkpoint_dir` the run survives being killed: a later call with the same arguments goes
    on from the newest whole checkpoint and ends with the same weights. `on_step(step, metrics)` is
    told loss (and what the guard costs, where there is one), gradient norm (before it is clipped),
    learning rate, temperature and open gates after every optimizer step. `channels` puts what
    messages go through into the loop; no gradient passes it.

    Where there are several `processes`, each calls this with the same arguments and its own models;
    the first alone writes checkpoints, which all of them read. What is drawn (dropout, the gates'
    noise) follows from seed, step and process.

    Raises NotFinite at the first step whose loss, gradient or weights are not finite. Where the
    weights before it are finite they are saved, so that a later call begins with that very step.
    """
    for frozen in (receiver.eval(), sharer.eval(), fuser):
        frozen.requires_grad_(False)
    stacked = StackedFuser(fuser) if isinstance(fuser, Fuser) else StackedPrefix(fuser)
    optimizer, scheduler = _optimizer(stacked, settings)
    parts = (fuser, optimizer, scheduler)
    first = _resume(checkpoint_dir, settings, *parts) if checkpoint_dir else 0
    own_dir = checkpoint_dir if processes.rank == 0 else None  # where this process writes
    objective = processes.joined(_Objective(stacked, settings))
    read = _read(receiver, sharer, batches, channels, settings, first, processes)
    with ReadAhead(read, receiver.device) as ahead:
        for step in range(first, settings.steps):
            means = _add_gradients(objective, stacked, ahead, settings, step, processes)
            norm = get_total_norm([p.grad for p in stacked.parameters() if p.grad is not None])
            told = _read_together({**means, "gradient": norm})
            wrong = _not_finite(told)
            processes.require_all()
            if wrong:
                _save_if_finite(own_dir, step, settings, stacked, *parts)
                raise _ended(step, wrong, settings, stacked, checkpoint_dir)
            clip_grads_with_norm_(stacked.parameters(), settings.max_grad_norm, norm)
            for after in (optimizer.step, optimizer.zero_grad, scheduler.step):
                after()
            ahead.finish()  # from here to the next step, the models are the caller's
            done = step + 1
            if on_step:
                rate = scheduler.get_last_lr()[0]
                on_step(done, _metrics(told, rate, _gates(stacked, temperature(settings, step))))
            if done == settings.steps or (checkpoint_dir and done % settings.checkpoint_every == 0):
                if wrong := _not_finite({"largest weight": float(_largest_weight(stacked))}):
                    raise _ended(step, wrong, settings, stacked, checkpoint_dir)
                if own_dir:
                    _save(own_dir, done, settings, *parts)
    fuser.eval()
    return fuser


def _metrics(
    told: Mapping[str, float], learning_rate: float, gates: Mapping[str, float]
) -> dict[str, float]:
    """What is told of a step; its gradient has been called so where it was not finite."""
    named = {"gradient_norm" if name == "gradient" else name: x for name, x in told.items()}
    return {**named, "learning_rate": learning_rate, **gates}


@dataclass(frozen=True)
class _Read:
    """One process's share of a batch, what both frozen models have of it, and what its messages go
    through."""

    share: Share
    readings: Sequence[Reading]
    through: Through


def _read(
    receiver: PreTrainedModel,
    sharer: PreTrainedModel,
    batches: Batches,
    channels: Channels,
    settings: TrainingSettings,
    first: int,
    processes: Processes,
) -> Iterator[_Read]:
    """Every batch from step `first` on."""
    for step in range(first, settings.steps):
        choice = random.Random(f"{settings.seed}:{step}")
        for number in settings.batches_of(step):
            batch = batches(number)
            kept, order = _kept_part(settings, batch, choice)
            share = processes.share(batch, kept, order)
            readings = readings_of(receiver, sharer, share.batch, kept, order)
            through = channels(number)
            # Read ahead there may be too little memory, as gradients are still computed. What could
            # not be read is read when it is needed, and raises then.
            with suppress(RuntimeError):
                through = _sent_already(readings, through)
            yield _Read(share, readings, through)


def _sent_already(readings: Sequence[Reading], through: Through) -> Through:
    """`through`, with all read and the readings' own messages arrived; no gradient passes it."""
    arrived: dict[int, KVCache] = {}
    for reading in readings:
        reading.read()
        if reading.section:
            with torch.no_grad():
                arrived[id(reading.sent)] = through(reading.sent, reading.rows, reading.runs)

    def known(sent: KVCache, rows: Tensor, runs: Sequence[Runs]) -> KVCache:
        return arrived[id(sent)] if id(sent) in arrived else through(sent, rows, runs)

    return known


class _Objective(nn.Module):
    """What is minimized, as the one module that DDP takes: its parameters are the fuser's."""

    def __init__(self, fuser: Stacked, settings: TrainingSettings) -> None:
        super().__init__()
        self.fuser = fuser
        self._settings = settings

    def forward(self, read: _Read | None) -> tuple[Tensor, dict[str, Tensor]]:
        """What a share of a batch adds to what is minimized, and its terms, unweighted. Without
        one: nothing."""
        if read is None:
            return of_nothing(self.fuser), {}
        settings, fuser = self._settings, self.fuser
        share, readings, through = read.share, read.readings, read.through
        loss = share.of_answers * answer_loss(readings, fuser, through)
        terms = {"loss": loss}
        penalty = share.of_processes * settings.gate_penalty
        weighted = loss + penalty * _open_share(fuser)
        if settings.guard_weight:
            guard = guard_loss(readings, fuser, settings.guard_tolerance, through)
            terms["guard"] = share.of_lent * guard
            weighted = weighted + settings.guard_weight * terms["guard"]
        if share.of_processes < 1 and not any(reading.section for reading in readings):
            weighted = weighted + of_nothing(fuser)
        return weighted, terms


def _add_gradients(
    objective: nn.Module,
    fuser: Stacked,
    ahead: ReadAhead[_Read],
    settings: TrainingSettings,
    step: int,
    processes: Processes,
) -> dict[str, Tensor]:
    """Add the gradients of a step's batches to the fuser's; the means of what was minimized."""
    fuser.set_temperature(temperature(settings, step))
    # Seeded by step, so that a resumed run draws what an undisturbed one would; and by process. On
    # a CPU the lowest 32 bits count.
    torch.manual_seed(settings.seed * 1_000_003 + step + processes.rank * 2_654_435_761)
    numbers = settings.batches_of(step)
    means: dict[str, Tensor] = {}
    for number in numbers:
        with processes.apart(objective, is_last=number == numbers[-1]):
            weighted, terms = objective(ahead.get())
            for name, term in terms.items():
                means[name] = means.get(name, 0) + term.detach() / settings.accumulation
            ahead.start()
            # DDP gives the mean of what the processes have, and what is wanted is their sum.
            (processes.count * weighted / settings.accumulation).backward()
    return processes.sums(means)


def _optimizer(fuser: Stacked, settings: TrainingSettings) -> tuple[torch.optim.Optimizer, Any]:
    """The optimizer of a fuser's weights, and the schedule of its learning rate."""
    optimizer = torch.optim.AdamW(
        fuser.parameters(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    warmup = int(settings.warmup_share * settings.steps)
    return optimizer, get_linear_schedule_with_warmup(optimizer, warmup, settings.steps)


def temperature(settings: TrainingSettings, step: int) -> float:
    """initial * (final / initial) ^ min(step / anneal_steps, 1)."""
    anneal_steps = settings.anneal_steps or settings.steps
    ratio = settings.final_temperature / settings.initial_temperature
    return settings.initial_temperature * ratio ** min(step / anneal_steps, 1.0)


def _largest_weight(fuser: Stacked) -> Tensor:
    return torch.stack([p.detach().abs().max().float() for p in fuser.parameters()]).max()


def _read_together(numbers: Mapping[str, Tensor]) -> dict[str, float]:
    """Numbers [] of one device, for which it is waited once."""
    values = torch.stack([number.double() for number in numbers.values()]).tolist()
    return dict(zip(numbers, values, strict=True))


def _not_finite(numbers: Mapping[str, float]) -> tuple[str, float] | None:
    """The first of some numbers that is NaN or infinite, with its name."""
    return next(((n, value) for n, value in numbers.items() if not math.isfinite(value)), None)


def _ended(
    step: int,
    wrong: tuple[str, float],
    settings: TrainingSettings,
    fuser: Stacked,
    folder: Path | None,
) -> NotFinite:
    name, value = wrong
    kept = _checkpoints(folder)[-1:] if folder else []
    where = f"; the last finite weights are kept in {kept[0]}" if kept else ""
    return NotFinite(
        f"training ended at step {step + 1}: its {name} is {value}; try a lower learning rate, more"
        f" warm-up, or the models in bfloat16 or float32{where}",
        {
            "step": step + 1,
            "number": name,
            "value": str(value),
            "batches": list(settings.batches_of(step)),
            "gradients": fuser.spoilt(),
            "checkpoint": str(kept[0]) if kept else None,
        },
    )


def _kept_part(settings: TrainingSettings, batch: Batch, choice: random.Random) -> tuple[int, str]:
    instruction = batch.prompt_ids.shape[1] - 1
    if batch.message_ids is not None:
        instruction = batch.message_ids.shape[1]
    if choice.random() >= settings.partial_share:
        return instruction, "front"
    return choice.randint(1, instruction), choice.choice(("front", "back"))


def _open_share(fuser: Stacked) -> Tensor:
    logits = fuser.gate_logits()
    return logits.float().sigmoid().mean() if logits.numel() else logits.sum()


def _gates(fuser: Stacked, heat: float) -> dict[str, float]:
    logits = fuser.gate_logits()
    if not logits.numel():
        return {}
    return {"gate_temperature": heat, "open_gates": float((logits > 0).sum())}


def _save(
    folder: Path,
    step: int,
    settings: TrainingSettings,
    fuser: Projectors,
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
    for old in _checkpoints(folder)[:-KEPT_CHECKPOINTS]:
        shutil.rmtree(old)


def _save_if_finite(
    folder: Path | None, step: int, settings: TrainingSettings, fuser: Stacked, *parts: Any
) -> None:
    """Keep the weights before a step that is not finite, if they are."""
    if folder and math.isfinite(_largest_weight(fuser)):
        with suppress(OSError):  # a full disk: what is wrong is to be said all the same
            _save(folder, step, settings, *parts)


def _resume(
    folder: Path,
    settings: TrainingSettings,
    fuser: Projectors,
    optimizer: torch.optim.Optimizer,
    scheduler: Any,
) -> int:
    """Load the newest checkpoint into the objects given; the number of steps it has done."""
    if not finished_steps(folder):
        return 0
    newest = _checkpoints(folder)[-1]
    if json.loads((newest / "settings.json").read_text()) != vars(settings):
        raise C2CError(
            f"{folder} holds checkpoints of a run with other settings: give another folder"
        )
    device = str(next(fuser.parameters()).device)
    saved = load(type(fuser), newest / "fuser", fuser.sharer, fuser.receiver, device=device)
    fuser.load_state_dict(saved.state_dict())
    state = torch.load(newest / "training.pt", map_location=device, weights_only=True)
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    return finished_steps(folder)


def finished_steps(folder: Path) -> int:
    """How many steps the newest checkpoint in a folder has done; 0 where there is none."""
    found = _checkpoints(folder)
    return int(found[-1].name.removeprefix("step_")) if found else 0


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("step_*"))
