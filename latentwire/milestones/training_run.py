"""What `train` does: a fuser is trained, watched and logged, from wherever it was left."""

import json
import logging
import random
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from c2c.cache import geometry
from c2c.errors import C2CError
from c2c.fast_ops import fast_steps
from c2c.fuser import Fuser
from c2c.prefix_fit import FitTexts, fit_linear, read_alike
from c2c.prefix_projector import ProjectedPrefix
from c2c.processes import Processes
from c2c.projector import ProjectorSize
from c2c.training import Channels, NotFinite, TrainingSettings, train_fuser
from c2c.training_batches import TokenBatches
from latentwire.analysis.pictures import save_png
from latentwire.analysis.training_figures import draw_training
from latentwire.channel.calibration import Calibration
from latentwire.channel.codec_names import needs_calibration
from latentwire.channel.rope import inverse_frequencies
from latentwire.errors import LatentWireError, NotCached
from latentwire.evaluation.fit_calibration import calibrate
from latentwire.evaluation.loaded_pair import LoadedPair
from latentwire.evaluation.memory import out_of_memory
from latentwire.interfaces.registry import load_interface, new_weights
from latentwire.pairs.pair import require_alignment
from latentwire.parameters import AUTO
from latentwire.session import torchrun
from latentwire.session.milestone_run import MilestoneRun, log_checkpoints, session_run
from latentwire.session.session import Session
from latentwire.spec.condition import Channel
from latentwire.tasks.dataset import Dataset
from latentwire.terminal import shows_bars, tell
from latentwire.tracking.dataset_inputs import TRAINING, log_question_sets
from latentwire.tracking.series import SeriesLog
from latentwire.training.channel import codecs_in_the_loop, codes_layers_together, mapped_layers
from latentwire.training.data import (
    Reader,
    ScoredQuestions,
    TrainingData,
    load_training_data,
    paired_texts,
)
from latentwire.training.folder import TrainingFolder
from latentwire.training.judging import Judge, as_evaluated

log = logging.getLogger("latentwire")
FITTED_TOKENS = 65_536  # of messages, from which the linear maps of a new prefix are fitted

UNCOMPRESSED = "bf16"  # what validation sends where no codec is in the loop

# What weights do not follow from; the rest is a training's recipe.
_BESIDE = (
    *("pair", "device", "data_dir", "dry_run", "preflight", "output_dir", "trained_pair"),
    "alignment",  # as it was asked for; the one that there is stands in the recipe
)


def run_on(session: Session) -> None:
    """Train the fuser that a session's parameters ask for; nothing where it has been done."""
    torchrun.require_fit(session.device, session.values["batch_size"])
    try:
        data = _load_data(session)
    except NotCached as missing:
        if not session.values["dry_run"]:
            raise
        print(f"train: not all is here yet, a run downloads it: {missing}")
        return
    folder = TrainingFolder(session.values["output_dir"], _recipe(session, data))
    folder.require_own()
    tell(f"train: {len(data.pairs)} conversations: {'; '.join(p.told() for p in data.parts)}")
    tell(f"train: {_plan(session, data, folder)}")
    if not data.judged_by:
        log.warning(
            "train: there are no validation questions, so nothing says how good the fuser is or"
            " whether its message matters, and its last state is kept; of five questions on, one"
            " in five at most is kept back for it"
        )
    if session.values["dry_run"]:
        return
    if folder.is_done:
        print(f"train: finished, the pair is {folder.pair_file}")
        return
    with folder.locked(), session_run(session, "train") as milestone:
        log_checkpoints(milestone, session)
        used = {part.name: (part.hash, part.used, part.source) for part in data.parts}
        log_question_sets(session.store, milestone.run_id, used, TRAINING)
        _train(session, data, folder, milestone)
        _log_results(session, folder, milestone)
        folder.forget_checkpoints()
    print(f"train: the pair is {folder.pair_file}, for every milestone: -P pair={folder.pair_file}")


def _load_data(session: Session) -> TrainingData:
    values = session.values
    scored = [e.question for name in session.dataset_names for e in session.dataset(name).examples]
    return load_training_data(
        values["data"],
        session.question_sets,
        ScoredQuestions(scored),
        _reader(session),
        values["data_dir"],
        values["eval_examples"],
        session.may_download,
    )


def _reader(session: Session) -> Reader:
    """How the pair reads. LatentWireError for two tokenizers as `require_alignment` has it."""
    files, pair, inserts = session.files, session.pair, session.files.inserts()
    require_alignment(pair, inserts)
    return Reader(files.tokenizer, files.sharer_tokenizer, pair.alignment, inserts)


def _plain(value: Any) -> Any:
    """A parameter as JSON has it."""
    if isinstance(value, tuple):
        return [str(each) if isinstance(each, Dataset) else each for each in value]
    return str(value) if isinstance(value, Path) else value


def _recipe(session: Session, data: TrainingData) -> dict[str, Any]:
    """What the weights follow from."""
    given = {name: _plain(value) for name, value in session.resolved.items() if name not in _BESIDE}
    parts = [{"name": p.name, "sha256": p.hash, "used": p.used} for p in data.parts]
    judged = [question.example.id for question in data.judged_by]
    _, count = torchrun.rank_and_count()
    beside: dict[str, Any] = {"processes": count} if count > 1 else {}
    if session.pair.alignment:
        beside["alignment"] = session.pair.alignment
    pair = session.files.identity
    return {**given, **beside, "conversations": parts, "judged_by": judged, "pair": pair}


def _plan(session: Session, data: TrainingData, folder: TrainingFolder) -> str:
    values = session.values
    seen = values["steps"] * values["batch_size"] * values["accumulation"]
    done = folder.finished_steps
    onward = f", {done} of them done" if done else ""
    through = ", ".join(values["codec"] or ()) or "16 bits"
    _, count = torchrun.rank_and_count()
    shared = f", by {count} processes" if count > 1 else ""
    alignment = session.pair.alignment
    aligned = f", prompts aligned by {alignment}" if alignment else ""
    return (
        f"{values['steps']} steps{onward}{shared}, {seen / len(data.pairs):.1f} epochs,"
        f" messages through {through}{aligned}, judged by {len(data.judged_by)} validation"
        f" questions, in {folder.path}"
    )


def _train(
    session: Session, data: TrainingData, folder: TrainingFolder, milestone: MilestoneRun
) -> None:
    """Train to the end, from where an earlier start was ended, and write the pair."""
    values = session.values
    with torchrun.begin(session.for_worker(), session.device) as join:
        parts = _parts(session, data)
        calibration = _calibration(session, data, parts.fuser, folder)
        numbers = sum(parameter.numel() for parameter in parts.fuser.parameters())
        made_of = f"{numbers:,} parameters in {len(parts.fuser.projectors)} projectors"
        tell(f"train: {made_of}")
        milestone.writer.log(milestone.run_id, metrics={"fuser_parameters": numbers})
        watch = _Watch(session, data, folder, milestone, parts, calibration)
        processes = join()
        with watch.shown(), _fast(session):
            try:
                parts.train(session, folder, processes, calibration, watch.after_step)
            except NotFinite as error:
                raise _with_evidence(error, watch) from None
            except C2CError as error:
                raise LatentWireError(f"train: {error}") from None
    if not watch.has_best:  # no validation questions: the last state is the result
        folder.save(parts.fuser, values["steps"])
    name = values["trained_pair"] or "+".join([session.pair.name, *(values["codec"] or ())])
    description = f"{session.pair.description}; fuser trained for {values['steps']} steps"
    folder.write_pair(session.pair, name, description)


def take_part(session: Session, join: torchrun.Join) -> None:
    """What a process other than the first does in a training: its share of each step."""
    parts = _parts(session, _load_data(session))
    folder = TrainingFolder(session.values["output_dir"], {})
    processes = join()  # from here on, what the first process makes before the first step is there
    calibration = folder.calibration() if _calibrated_codecs(session) else None
    with _fast(session):
        parts.train(session, folder, processes, calibration)


@dataclass(frozen=True)
class _Parts:
    """What is trained, and on what; the same in every process."""

    fuser: Fuser | ProjectedPrefix
    batches: TokenBatches

    def train(
        self,
        session: Session,
        folder: TrainingFolder,
        processes: Processes,
        calibration: Calibration | None,
        after_step: Callable[[int, Mapping[str, float]], None] | None = None,
    ) -> None:
        try:
            train_fuser(
                *session.files.models,
                self.fuser,
                self.batches,
                _settings(session.values),
                folder.checkpoints,
                after_step,
                _channels(session.values, self.fuser, calibration),
                processes,
            )
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise LatentWireError(_too_large(session.values)) from None


def _parts(session: Session, data: TrainingData) -> _Parts:
    values = session.values
    fuser = _first_fuser(session, data)
    batches = TokenBatches(
        data.pairs,
        data.pad,
        values["batch_size"],
        values["seed"],
        session.device,
        data.messages,
        data.aligned,
    )
    return _Parts(fuser, batches)


def _channels(
    values: Mapping[str, Any], fuser: Fuser | ProjectedPrefix, calibration: Calibration | None
) -> Channels:
    alone = round(values["codec_after"] * values["steps"]) * values["accumulation"]
    return codecs_in_the_loop(fuser, values["codec"] or (), values["seed"], alone, calibration)


def _calibrated_codecs(session: Session) -> list[str]:
    return [name for name in session.values["codec"] or () if needs_calibration(name)]


def _calibration(
    session: Session,
    data: TrainingData,
    fuser: Fuser | ProjectedPrefix,
    folder: TrainingFolder,
) -> Calibration | None:
    """What the codecs in the loop need to know of the sharer's caches; None where they need
    nothing."""
    asking = _calibrated_codecs(session)
    if not asking:
        return None
    about = {"pair": session.pair.name, "dtype": session.dtype_name, "of": "a training"}

    def make() -> bytes:
        tell(f"train: a calibration for {', '.join(asking)}, from {len(data.measured)} questions")
        pair = session.files.with_interface(as_evaluated(fuser, session.dtype))
        return calibrate(_sending_all(pair, mapped_layers(fuser)), data.measured, about)

    return folder.calibrated(make)


def _sending_all(pair: LoadedPair, layers: tuple[int, ...]) -> LoadedPair:
    """The pair, with K and V of these layers sent, whatever gates are closed."""
    endpoint = replace(pair.endpoint, key_layers=layers, value_layers=layers)
    return replace(pair, endpoint=endpoint)


def _with_evidence(error: NotFinite, watch: "_Watch") -> LatentWireError:
    """Write and log what shows why a training ended; the sentence to end with."""
    rows = [row for number in error.evidence["batches"] for row in watch.parts.batches.rows(number)]
    asked = [watch.data.names[row] for row in rows]
    path = watch.folder.write_evidence({**error.evidence, "conversations": asked})
    with suppress(Exception):  # a store that is away: what ended the training is to be said
        watch.milestone.writer.log_file(watch.milestone.run_id, path)
    kept = "; the best fuser so far is kept beside it" if watch.has_best else ""
    return LatentWireError(f"train: {error}; {path} names its {len(asked)} conversations{kept}")


def _too_large(values: Mapping[str, Any]) -> str:
    size, times = values["batch_size"], values["accumulation"]
    smaller = f" (batch_size={size // 2} and accumulation={2 * times} have the same step)"
    return (
        "train: the device has not enough memory: take a smaller batch_size with more accumulation"
        f"{smaller if size > 1 else ''} in another output_dir; or, where others used the device"
        " too, start again when they have ended, to go on from the last checkpoint"
    )


def _settings(values: Mapping[str, Any]) -> TrainingSettings:
    return TrainingSettings(
        steps=values["steps"],
        learning_rate=values["learning_rate"],
        accumulation=values["accumulation"],
        gate_penalty=values["gate_penalty"],
        guard_weight=values["guard_weight"],
        guard_tolerance=values["guard_tolerance"],
        partial_share=values["partial_share"],
        checkpoint_every=values["checkpoint_every"],
        seed=values["seed"],
    )


def _first_fuser(session: Session, data: TrainingData) -> Fuser | ProjectedPrefix:
    """The fuser, or the prefix, before its first step, in float32."""
    values, located = session.values, session.files.located
    if session.pair.untrained:
        raise LatentWireError(f"{session.pair.name} is a control; train the pair itself")
    receiver, sharer = session.files.models
    shapes = geometry(sharer.config), geometry(receiver.config)
    wanted = values["init"]
    if wanted == "fuser" and located.fuser is None:
        raise LatentWireError(f"init=fuser: pair {session.pair.name} has no fuser; take init=new")
    if located.fuser is not None and wanted in (AUTO, "fuser"):
        found = load_interface(located.fuser, *shapes, torch.float32, session.device)
        if not isinstance(found, Fuser | ProjectedPrefix):
            raise LatentWireError(f"init={wanted}: such weights cannot be trained; take init=new")
        return found
    size = ProjectorSize(
        values["hidden_dim"],
        values["intermediate_dim"] or values["hidden_dim"],
        values["num_layers"],
    )
    torch.manual_seed(values["seed"])
    fuser = new_weights(
        located.fuser,
        session.pair.interface,
        *shapes,
        size,
        lambda: (inverse_frequencies(sharer), inverse_frequencies(receiver)),
    ).to(session.device)
    if isinstance(fuser, ProjectedPrefix):
        texts = _texts_to_fit(session, data)
        explained = fit_linear(fuser, receiver, sharer, texts)
        tell(f"train: a linear map explains {100 * explained:.0f} % of the receiver's own cache")
        return fuser
    assert isinstance(fuser, Fuser)
    with torch.no_grad():
        for name, parameter in fuser.named_parameters():
            if name.endswith("gate_logit"):
                parameter.fill_(values["gate_init"])
    return fuser


def _texts_to_fit(session: Session, data: TrainingData) -> Iterator[FitTexts]:
    """Messages drawn by the seed, in batches of about one length. LatentWireError where none is
    left that tokens of two tokenizers can be paired of."""
    values, files = session.values, session.files
    texts = list(dict.fromkeys(map(tuple, data.messages)))
    random.Random(values["seed"]).shuffle(texts)
    enough = bisect_left(list(accumulate(map(len, texts))), FITTED_TOKENS) + 1
    drawn = sorted(texts[:enough], key=len)
    size, device = values["batch_size"], session.device
    if files.sharer_tokenizer is None:
        for start in range(0, len(drawn), size):
            yield read_alike(drawn[start : start + size], device)
        return
    said = dict(zip(map(tuple, data.messages), data.said, strict=True))
    both = files.tokenizer, files.sharer_tokenizer
    paired = [found for text in drawn if (found := paired_texts(*both, said[text]))]
    if not paired:
        raise LatentWireError(
            "train: no message of the training data stands unchanged in both models' chat"
            " templates, so there is nothing to begin a prefix from: take other data"
        )
    for start in range(0, len(paired), size):
        sharers, receivers, places = zip(*paired[start : start + size], strict=True)
        yield FitTexts.of(sharers, receivers, places, device)


@contextmanager
def _fast(session: Session) -> Iterator[None]:
    """Let a GPU multiply the fuser's float32 matrices with inputs rounded to TF32, which is finer
    than the models' own bfloat16, and take the models' small steps in few kernels. Where the models
    are in float32 too, nothing is rounded."""
    before = torch.get_float32_matmul_precision()
    if session.dtype is not torch.float32:
        torch.set_float32_matmul_precision("high")
    try:
        with fast_steps(*session.files.models):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


@dataclass
class _Watch:
    """What is done after each step: keeping and logging its numbers, and now and then judging."""

    session: Session
    data: TrainingData
    folder: TrainingFolder
    milestone: MilestoneRun
    parts: _Parts
    calibration: Calibration | None
    has_best: bool = False
    _bar: Any = None
    _since: float = 0.0  # when the last step, or its judging, had ended
    _said: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        values = self.session.values
        self._judge: Judge | None = None
        if self.data.judged_by:
            channels = [self._channel(name) for name in values["codec"] or (UNCOMPRESSED,)]
            self._judge = Judge(self.data.judged_by, channels, values["seed"])
        self._judged = self.folder.judgements()
        self.has_best = bool(self._judged)
        self._log = SeriesLog(self.milestone.writer, self.milestone.run_id)

    def _channel(self, name: str) -> Channel:
        """How validation sends messages through a codec."""
        found = self.calibration
        used = found.hash if found and needs_calibration(name) else ""
        return Channel(name, calibration=used, alignment=self.session.pair.alignment)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show a bar while the block trains, and log all that is left at its end."""
        steps, earlier = self.session.values["steps"], self.folder.forget_later_steps()
        for row in earlier:
            self._log.add(int(row["step"]), {k: v for k, v in row.items() if k != "step"})
        for step, judgement in self._judged.items():
            self._log.add(step, judgement.metrics())
        tty = shows_bars()
        self._since = time.perf_counter()
        with tqdm(total=steps, initial=len(earlier), unit="step", disable=not tty) as self._bar:
            try:
                yield
            except BaseException:
                self._log.try_flush()
                raise
            self._log.flush()

    def after_step(self, step: int, metrics: Mapping[str, float]) -> None:
        values = self.session.values
        seconds = time.perf_counter() - self._since
        tokens = sum(map(self.parts.batches.tokens, _settings(values).batches_of(step - 1)))
        numbers = {**metrics, "tokens_per_s": tokens / seconds, "step_seconds": seconds}
        self.folder.add_step({"step": step, **numbers})
        self._log.add(step, numbers)
        self._bar.set_postfix(loss=f"{metrics['loss']:.3f}", refresh=False)
        self._bar.update()
        self._say(step, numbers)
        every = values["eval_every"]
        if step == values["steps"] or (every and step % every == 0):
            self._validate(step)
        self._since = time.perf_counter()

    def _say(self, step: int, numbers: Mapping[str, float]) -> None:
        """A line now and then where no bar is shown."""
        if self._bar.disable and time.monotonic() - self._said > 15:
            self._said = time.monotonic()
            left = (self.session.values["steps"] - step) * numbers["step_seconds"]
            tell(
                f"train: step {step}: loss {numbers['loss']:.3f},"
                f" {numbers['tokens_per_s']:,.0f} tokens a second, about {left:.0f} s left"
            )

    def _validate(self, step: int) -> None:
        if self._judge is None or step in self._judged:
            return
        trained = as_evaluated(self.parts.fuser, self.session.dtype)
        pair = self.session.files.with_interface(trained)
        if codes_layers_together(self.session.values["codec"] or ()):
            pair = _sending_all(pair, mapped_layers(trained))
        endpoint = replace(pair.endpoint, calibration=self.calibration)
        judgement = self._judge.judge(step, replace(pair, endpoint=endpoint))
        best = self.folder.add_judgement(judgement, self.parts.fuser)
        self.has_best = True
        self._judged[step] = judgement
        self._log.add(step, judgement.metrics())
        self._bar.write(
            f"train: step {step}: {judgement.told()}{', the best so far' if best else ''}",
            file=sys.stdout,
        )
        sys.stdout.flush()


def _log_results(session: Session, folder: TrainingFolder, milestone: MilestoneRun) -> None:
    """The curves, the fuser and the pair's file as artifacts; what the best state scored."""
    writer, run_id = milestone.writer, milestone.run_id
    steps, judged = folder.steps(), folder.judgements()
    rows = [asdict(judgement) for judgement in judged.values()]
    save_png(draw_training(steps, rows, session.pair.name), folder.curves)
    made = (folder.curves, folder.pair_file, folder.path / "recipe.json", folder.calibration_file)
    for path in filter(None, made):
        writer.log_file(run_id, path)
    writer.log_text(run_id, "".join(json.dumps(row) + "\n" for row in rows), "validation.jsonl")
    writer.log_folder(run_id, folder.path / "fuser", "fuser")
    if not judged:
        return
    best = max(judged.values(), key=lambda judgement: judgement.pairing_gain)
    named = {f"best_{name}": value for name, value in best.metrics().items()}
    writer.log(run_id, metrics={**named, "best_step": best.step})
    writer.set_description(run_id, f"**The best state is of step {best.step}:** {best.told()}.")
    print(f"train: the best state is of step {best.step}: {best.told()}")
