"""What milestones work on: a pair, its question sets and a tracking store, each loaded once."""

import logging
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from c2c.cache import geometry
from c2c.chat import PINNED_DAY
from c2c.checkpoint import load_fuser
from c2c.errors import printable, shortened
from c2c.fuser import Fuser
from c2c.models import load_model
from latentwire.channel.calibration import Calibration
from latentwire.channel.link import Link
from latentwire.channel.packet import IDENTITY_BYTES
from latentwire.channel.registry import needs_calibration
from latentwire.environment import choose_device, choose_dtype
from latentwire.errors import NotHere
from latentwire.evaluation.pair import LoadedPair
from latentwire.milestones.peek import peek_store
from latentwire.pairs.identity import combined_identity, pair_identity, require_pinned
from latentwire.pairs.load import choose_pair, load_pair
from latentwire.pairs.locate import LocatedPair, locate_pair
from latentwire.pairs.pair import Pair, require_supported
from latentwire.pairs.prompting import Prompting, prompting_of
from latentwire.pairs.tokenizer import check_embedded, check_same_tokenizer, load_tokenizer
from latentwire.parameters import AUTO, Values
from latentwire.spec.condition import Channel, Condition
from latentwire.spec.setting import Setting
from latentwire.tasks.dataset import Dataset
from latentwire.tasks.question import Question, derange, tokenize
from latentwire.tasks.registry import load_dataset, load_training, published_examples, task_named
from latentwire.tracking.calibrations import Subject, find_calibration
from latentwire.tracking.store import Store, open_store

log = logging.getLogger("latentwire")

DATE_TOLD = f"the chat template asks for the date and is always told {PINNED_DAY:%F}"


@dataclass
class Study:
    """A pair with its question sets on a device, and the store that results go to."""

    values: Values
    pair: Pair
    device: str
    dtype: torch.dtype
    store: Store
    calibration: Calibration | None = None  # found when a codec first needs it
    datasets: dict[str, Dataset] = field(default_factory=dict)
    _questions: dict[str, tuple[list[Question], list[Question]]] = field(default_factory=dict)

    @property
    def dataset_names(self) -> tuple[str, ...]:
        return self.values["dataset"] or self.pair.datasets

    def resolved(self, values: Values) -> Values:
        """A milestone's parameters with what `auto` meant."""
        return values | {
            "pair": self.pair.name,
            "dataset": self.dataset_names,
            "device": self.device,
            "dtype": str(self.dtype).removeprefix("torch."),
        }

    @property
    def batch_size(self) -> int | None:
        """Questions at once; None leaves it to the engine, which asks the device."""
        return self.values["batch_size"] or None

    @cached_property
    def located(self) -> LocatedPair:
        return locate_pair(self.pair, download=not self.values["dry_run"])

    def datasets_missing(self) -> list[str]:
        """The question sets that a run would download."""
        missing = []
        for name in self.dataset_names:
            try:
                self.dataset(name)
            except NotHere:
                missing.append(name)
        return missing

    def is_local(self) -> bool:
        """Whether the pair's files and questions are on this machine, so that fingerprints can be
        known."""
        try:
            return bool(self.identity) and not self.datasets_missing()
        except NotHere as error:
            log.debug("%s", error)
            return False

    @cached_property
    def identity(self) -> dict[str, str]:
        """Revisions or hashes of receiver, sharer and fuser, and what of prompts and the ends of
        answers is not in their files; LatentWireError for another hash than the pair pins."""
        identity = pair_identity(self.located)
        require_pinned(self.pair, identity)
        return identity | self.prompting.beside_files()

    def dataset(self, name: str) -> Dataset:
        if name not in self.datasets:
            download = not self.values["dry_run"]
            self.datasets[name] = load_dataset(name, self.values["data_dir"], download)
        return self.datasets[name]

    def training(self, name: str) -> Dataset:
        """Questions of a set that are never scored."""
        return load_training(name, self.values["data_dir"], not self.values["dry_run"])

    def examples(self, name: str) -> int:
        """How many of a dataset's questions are to be evaluated, which a dry run knows of a
        published set that is not here too."""
        try:
            total = len(self.dataset(name).examples)
        except NotHere:
            known = published_examples(name)
            if known is None:
                raise
            total = known
        return min(self.values.get("limit") or total, total)

    def setting(self, dataset: str) -> Setting:
        task = task_named(dataset)
        return Setting(
            pair=self.pair.name,
            pair_identity=combined_identity(self.identity),
            dataset=dataset,
            dataset_hash=self.dataset(dataset).hash,
            prompt_version=task.version,
            dtype=str(self.dtype).removeprefix("torch."),
            seed=self.values["seed"],
            max_new_tokens=task.max_new_tokens,
        )

    def questions(self, dataset: str) -> tuple[list[Question], list[Question]]:
        """All questions of a dataset, and the donor of each under the control `deranged`."""
        if dataset not in self._questions:
            asked = self.dataset(dataset)
            questions = tokenize(asked.task, asked.examples, self.tokenizer)
            self._questions[dataset] = questions, derange(questions, self.values["seed"])
        return self._questions[dataset]

    @property
    def tokenizer(self) -> Any:
        """The receiver's tokenizer, once it is seen to agree with the sharer's."""
        return self._tokenizers[0]

    @cached_property
    def _tokenizers(self) -> tuple[Any, Any]:
        """The receiver's and the sharer's."""
        receiver, sharer = map(load_tokenizer, (self.located.receiver, self.located.sharer))
        check_same_tokenizer(receiver, sharer)
        return receiver, sharer

    @cached_property
    def prompting(self) -> Prompting:
        """What the template prints, and the tokens that end an answer."""
        return prompting_of(self.located, *self._tokenizers)

    def calibrated(self, condition: Condition) -> Condition:
        """The condition, with the calibration that its codec will use if it needs one."""
        if condition.channel is None:
            return condition
        return replace(condition, channel=self.calibrated_channel(condition.channel))

    def calibrated_channel(self, channel: Channel) -> Channel:
        """The same for a channel. Raises LatentWireError where there is no calibration."""
        if not needs_calibration(channel.codec):
            return channel
        if self.calibration is None:
            self.calibration = find_calibration(
                self.store, self.values.get("calibration", AUTO), self.subject, channel.codec
            )
        return replace(channel, calibration=self.calibration.hash)

    def for_workers(self) -> "Study":
        """The study as a worker gets it: without the store, which one process writes, and what is
        in memory, but with what is known of the files."""
        study = replace(self, store=None)  # type: ignore[arg-type]
        study.located, study.identity = self.located, self.identity
        return study

    @property
    def subject(self) -> Subject:
        """What a calibration must be of, to be used here."""
        dtype = str(self.dtype).removeprefix("torch.")
        return Subject(self.pair.name, combined_identity(self.identity), dtype)

    @property
    def loaded(self) -> LoadedPair:
        """Models and fuser in memory."""
        link = replace(self._in_memory.link, calibration=self.calibration)
        return replace(self._in_memory, link=link)

    @cached_property
    def _in_memory(self) -> LoadedPair:
        log.info("loading pair %s on %s in %s", self.pair.name, self.device, self.dtype)
        receiver = load_model(self.located.receiver, self.dtype, self.device)
        sharer = load_model(self.located.sharer, self.dtype, self.device)
        fuser = load_fuser(
            self.located.fuser,
            geometry(sharer.config),
            geometry(receiver.config),
            self.dtype,
            self.device,
        )
        models = {"receiver": receiver, "sharer": sharer}
        check_embedded(
            self.tokenizer, {n: m.get_input_embeddings().num_embeddings for n, m in models.items()}
        )
        for name, model in models.items():
            model.generation_config.eos_token_id = sorted(self.prompting.ends[name])
        self._tell(fuser)
        identity = bytes.fromhex(combined_identity(self.identity))[:IDENTITY_BYTES]
        return LoadedPair(receiver, sharer, fuser, self.tokenizer, Link.of(fuser, identity))

    def _tell(self, fuser: Fuser) -> None:
        """Say what is unusual about the pair that was loaded."""
        if self.prompting.printed:
            log.info("%s", DATE_TOLD)
        for name, ends in self.prompting.ends.items():
            if ends != self.prompting.configured[name]:
                known = ", ".join(map(str, sorted(ends)))
                log.info("the %s's answers end at tokens %s, not only at its config's", name, known)
        if not fuser.layers_read("key") and not fuser.layers_read("value"):
            log.warning(
                "every gate of the fuser is closed, so nothing would be sent and C2C will equal the"
                " receiver alone; take another fuser, or train it again"
            )


def open_study(values: Values) -> Study:
    """The study that checked parameters ask for; says in its first line which pair and why.

    Under `dry_run` its store is only looked at.
    """
    device = choose_device(values["device"])
    name, reason = choose_pair(values["pair"], device.startswith("cuda"))
    pair = load_pair(name)
    require_supported(pair)
    announce(pair, reason, device)
    store = peek_store() if values["dry_run"] else open_store()
    return Study(values, pair, device, choose_dtype(values["dtype"], device), store)


def announce(pair: Pair, reason: str, device: str) -> None:
    """A run's first line: which pair and why."""
    text = f"pair {pair.name} ({reason}) on {device}: {shortened(pair.description, 300)}"
    print(printable(text), flush=True)
