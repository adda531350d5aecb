"""What milestones work on: a configuration with its pair, its question sets and a tracking store,
each loaded once, however many milestones run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from latentwire.channel.codec_names import needs_calibration
from latentwire.controls.registry import is_calibrated
from latentwire.errors import LatentWireError, NotCached
from latentwire.pairs.identity import combined_identity
from latentwire.pairs.pair import Pair, require_alignment
from latentwire.parameters import AUTO, Values
from latentwire.session.configuration import Configuration
from latentwire.session.pair_in_use import PairInUse
from latentwire.spec.condition import Channel, Condition
from latentwire.spec.setting import USUAL_SEED, Setting
from latentwire.tasks.dataset import Dataset
from latentwire.tasks.question import NEEDS_INSERTING, Question, derange, tokenize
from latentwire.tasks.registry import (
    load_dataset,
    load_development,
    load_training,
    published_examples,
)
from latentwire.tracking.calibration_lookup import CalibrationKey, find_calibration
from latentwire.tracking.runs import IDENTITY
from latentwire.tracking.store import Store

if TYPE_CHECKING:  # they bring torch and transformers
    from latentwire.channel.calibration import Calibration
    from latentwire.evaluation.loaded_pair import LoadedPair
    from latentwire.session.milestone_run import MilestoneRun


@dataclass
class _Kept:
    """What was loaded or found, for all milestones of a start."""

    datasets: dict[str, Dataset] = field(default_factory=dict)
    asked: dict[str, list[Question]] = field(default_factory=dict)
    donors: dict[tuple[str, int], list[Question]] = field(default_factory=dict)
    calibration: "Calibration | None" = None  # found when a codec first needs it
    seed_everywhere: bool | None = None  # see `setting`; asked once
    waiting: Callable[[], None] | None = None  # checks, see `prepare_work`


@dataclass(frozen=True)
class Session(Configuration):
    """A configuration at work. `store` is None in a worker, where another process writes."""

    store: Store
    files: PairInUse
    kept: _Kept = field(default_factory=_Kept)
    parent: "MilestoneRun | None" = None  # the run that its milestones' runs stand below

    @classmethod
    def of(cls, chosen: Configuration, store: Store) -> "Session":
        """A session in which nothing is loaded yet."""
        files = PairInUse(chosen.pair, chosen.device, chosen.dtype_name, chosen.may_download)
        return cls(**vars(chosen), store=store, files=files)

    def under(self, values: Values) -> "Session":
        """The session under another milestone's parameters, with all that is loaded."""
        return replace(self, values=values)

    def below(self, parent: "MilestoneRun") -> "Session":
        """The session of a milestone that does others, for these."""
        return replace(self, parent=parent)

    def for_worker(self) -> "Session":
        """The session as a worker process gets it: without the store, and with nothing in memory
        but what is known of the files."""
        kept = _Kept(calibration=self.kept.calibration)
        files = self.files.on(self.device)
        return replace(self, store=None, files=files, kept=kept, parent=None)  # type: ignore[arg-type]

    def on(self, device: str) -> "Session":
        """The session on another device."""
        return replace(self, device=device, files=self.files.on(device))

    def with_fuser_of(self, pair: Pair) -> "Session":
        """The session on a pair of the same models with another fuser; models stay in memory."""
        kept = _Kept(self.kept.datasets, self.kept.asked, self.kept.donors)
        return replace(self, pair=pair, files=self.files.with_fuser_of(pair), kept=kept)

    def prepare_work(self) -> bool:
        """Make the checks that waited (see `open_session`), before anything is computed.

        Whether the pair is another than the store remembered: then plans are to be made again.
        Raises LatentWireError with a sentence for each check that failed.
        """
        if self.kept.waiting is None:
            return False
        check, self.kept.waiting = self.kept.waiting, None
        remembered = vars(self.files).pop("identity")
        check()
        if self.files.identity == remembered:
            return False
        self.kept.calibration = self.kept.seed_everywhere = None
        return True

    def datasets_missing(self) -> list[str]:
        """The question sets that a run would download."""
        missing = []
        for name in self.dataset_names:
            try:
                self.dataset(name)
            except NotCached:
                missing.append(name)
        return missing

    def dataset(self, name: str) -> Dataset:
        if name not in self.kept.datasets:
            asked = self.question_set(name)
            found = load_dataset(asked, self.values["data_dir"], self.may_download)
            self.kept.datasets[name] = found
        return self.kept.datasets[name]

    def training(self, name: str) -> Dataset:
        """Questions of a set that are never scored."""
        return load_training(self.question_set(name), self.values["data_dir"], self.may_download)

    def development(self, name: str) -> Dataset:
        """Questions of a set to choose by: never scored, and not trained on where the set has such
        a split."""
        asked, folder = self.question_set(name), self.values["data_dir"]
        return load_development(asked, folder, self.may_download) or self.training(name)

    def learnt_on(self, sets: Sequence[Dataset], first: int) -> dict[str, object]:
        """What identifies that which is learnt of the pair on the first questions of some sets."""
        return {
            "pair_identity": self.subject.pair_identity,
            "dtype": self.subject.dtype,
            "questions": [{"set": s.name, "hash": s.hash, "first": first} for s in sets],
        }

    def examples(self, name: str) -> int:
        """How many of a dataset's questions are to be evaluated, which a dry run knows of a
        published set that is not here too."""
        try:
            total = len(self.dataset(name).examples)
        except NotCached:
            known = published_examples(name)
            if known is None:
                raise
            total = known
        return min(self.values.get("limit") or total, total)

    def asked(self, dataset: str) -> list[Question]:
        """All questions of a dataset. LatentWireError where the pair's interface cannot take them.
        Tokenized once, and without the seed that pairs them, which not every milestone has."""
        if dataset not in self.kept.asked:
            read = self.dataset(dataset)
            questions = self.tokenized(read)
            if self.files.sharer_tokenizer is not None:
                require_alignment(self.pair, self.files.inserts())
            if any(q.prompts.private for q in questions) and not self.files.inserts():
                raise LatentWireError(f"{dataset}: {NEEDS_INSERTING}")
            self.kept.asked[dataset] = questions
        return self.kept.asked[dataset]

    def tokenized(self, read: Dataset, first: int | None = None) -> list[Question]:
        """The first questions of a set, or all, with the prompts of both models."""
        both = self.files.tokenizer, self.files.sharer_tokenizer
        return tokenize(read.task, read.examples[:first], *both)

    def donors(self, dataset: str, donor: int = 1) -> list[Question]:
        """Each question's donor of this number, under the control `deranged`."""
        if (dataset, donor) not in self.kept.donors:
            found = derange(self.asked(dataset), self.values["seed"], donor)
            self.kept.donors[dataset, donor] = found
        return self.kept.donors[dataset, donor]

    def setting(self, dataset: str) -> Setting:
        """What results on a dataset are kept under. Where the store has some of this seed from
        when it stood in every fingerprint, all goes on under the names of then."""
        task = self.dataset(dataset).task
        setting = Setting(
            pair=self.pair.name,
            pair_identity=self.subject.pair_identity,
            dataset=dataset,
            dataset_hash=self.dataset(dataset).hash,
            prompt_version=task.version,
            dtype=self.dtype_name,
            seed=self.values["seed"],
            max_new_tokens=task.max_new_tokens,
        )
        if setting.seed == USUAL_SEED:
            return setting
        if self.kept.seed_everywhere is None:
            earlier = self.store.search(tags={IDENTITY: setting.before().identity()})
            self.kept.seed_everywhere = next(earlier, None) is not None
        return setting.before() if self.kept.seed_everywhere else setting

    @property
    def subject(self) -> CalibrationKey:
        """What a calibration must be of, to be used here."""
        return CalibrationKey(
            self.pair.name, combined_identity(self.files.identity), self.dtype_name
        )

    def calibrated(self, condition: Condition) -> Condition:
        """The condition as it is run: with the calibration that its codec or control will use if it
        needs one, and the alignment of the pair's tokenizers if they differ."""
        if condition.channel is None:
            return condition
        known = ""
        if is_calibrated(condition.control):
            known = self._calibration(f"control {condition.control}").hash
        channel = self.calibrated_channel(condition.channel)
        return replace(condition, channel=channel, control_calibration=known)

    def calibrated_channel(self, channel: Channel) -> Channel:
        """The same for a channel. Raises LatentWireError where there is no calibration."""
        channel = replace(channel, alignment=channel.alignment or self.pair.alignment)
        if not needs_calibration(channel.codec):
            return channel
        return replace(channel, calibration=self._calibration(f"codec {channel.codec}").hash)

    def known_bytes(self, condition: Condition) -> int:
        """What both ends must hold beforehand for a condition that `calibrated` gave."""
        if condition.channel is None or not condition.channel.calibration:
            return 0
        codec = condition.channel.codec
        return self._calibration(f"codec {codec}").bytes_for(codec)

    def _calibration(self, asker: str) -> "Calibration":
        """The pair's, looked for once. Raises LatentWireError where there is none for `asker`."""
        if self.kept.calibration is not None:
            self.kept.calibration.check_serves(asker)
        else:
            self.kept.calibration = find_calibration(
                self.store, self.values.get("calibration", AUTO), self.subject, asker
            )
        return self.kept.calibration

    @property
    def loaded(self) -> "LoadedPair":
        """Models and fuser in memory."""
        pair = self.files.in_memory
        return replace(pair, endpoint=replace(pair.endpoint, calibration=self.kept.calibration))

    def is_local(self) -> bool:
        """Whether the pair's files and questions are on this machine, so that fingerprints can be
        known."""
        try:
            return bool(self.files.identity) and not self.datasets_missing()
        except NotCached:
            return False
