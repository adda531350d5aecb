"""The pair's fuser: trained on questions about people that no question set asks about."""

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from c2c.cache import geometry
from c2c.fuser import Fuser, new_fuser
from c2c.training import train_fuser
from c2c.training_readings import Batch
from tools.demo_pair.answer_training import LOG_EVERY_STEPS, OnMetrics, Reply
from tools.demo_pair.config import DemoSettings
from tools.demo_pair.outliers import ignore_channels
from tools.demo_pair.questions import Questioner
from tools.demo_pair.token_templates import question_frame
from tools.demo_pair.world import Split, World


def train_demo_fuser(
    world: World,
    tokenizer: PreTrainedTokenizerFast,
    receiver: PreTrainedModel,
    sharer: PreTrainedModel,
    settings: DemoSettings,
    device: torch.device,
    seed: int,
    on_metrics: OnMetrics,
) -> Fuser:
    """Train a fuser with the protocol's own loop; both models stay as they are."""
    fuser = new_fuser(geometry(sharer.config), geometry(receiver.config), settings.projector)
    ignore_channels(fuser)
    fuser.to(device)
    questioner = Questioner(world, tokenizer, device, seed)
    reply = Reply(tokenizer, device)
    frame = question_frame(tokenizer, world, short=False, stated=False)
    facts = world.facts([Split.FUSER_SETTLED, Split.FUSER_DISPUTED])

    def batch(number: int) -> Batch:
        drawn = questioner.draw(facts, settings.fuser_batch, answer="truth")
        return Batch(frame.fill(drawn.slots), reply.ids(drawn.key))

    def on_step(step: int, metrics: object) -> None:
        if step % LOG_EVERY_STEPS == 0 or step == settings.fuser_training.steps:
            assert isinstance(metrics, dict)
            on_metrics("fuser", metrics, step)

    return train_fuser(receiver, sharer, fuser, batch, settings.fuser_training, on_step=on_step)
