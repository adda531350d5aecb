"""What a condition on a question set still needs: the store is asked once for all of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mlflow.entities import Run

from latentwire.channel.codec_names import bits_label
from latentwire.controls.registry import is_lent
from latentwire.session.session import Session
from latentwire.spec.axes import NONE, SYSTEMS
from latentwire.spec.condition import Condition
from latentwire.spec.setting import Setting
from latentwire.tasks.dataset import Dataset
from latentwire.tracking.finished_chunks import Span, finished_spans, missing_spans, parse_chunk
from latentwire.tracking.runs import CHUNK, DATASET_HASH


@dataclass(frozen=True)
class ConditionPlan:
    """What one condition on one dataset still needs."""

    setting: Setting
    condition: Condition
    examples: int  # to be evaluated
    examples_total: int  # scored questions of the dataset
    missing: tuple[Span, ...]
    from_file: bool = False  # whether the dataset is a file of the user's

    @property
    def fingerprint(self) -> str:
        return self.setting.condition_fingerprint(self.condition)

    @property
    def params(self) -> dict[str, str]:
        channel = self.condition.channel
        # Without it, a run has the one seed of its identity.
        seeded = is_lent(self.condition.control) and not self.setting.seed_everywhere
        return {
            "pair": self.setting.pair,
            "dataset": self.setting.dataset,
            **self.condition.params(),
            "kv_bits": bits_label(channel.codec) if channel else NONE,
            "dtype": self.setting.dtype,
            "examples_total": str(self.examples_total),
            **({DATASET_HASH: self.setting.dataset_hash} if self.from_file else {}),
            **({"seed": str(self.setting.seed)} if seeded else {}),
        }

    @property
    def examples_missing(self) -> int:
        return sum(stop - start for start, stop in self.missing)


def make_plans(session: Session, conditions: Sequence[Condition]) -> list[ConditionPlan]:
    """Which chunks of each condition on each of the session's datasets are missing in the store. A
    condition that cannot answer a dataset's questions is left out (`System.serves`)."""
    settings = {dataset: session.setting(dataset) for dataset in session.dataset_names}
    points = [
        (setting, condition)
        for dataset, setting in settings.items()
        for condition in conditions
        if _serves(session.dataset(dataset), condition)
    ]
    prints = [setting.condition_fingerprint(condition) for setting, condition in points]
    finished = finished_spans(session.store, prints)
    return [
        _plan(session, setting, condition, finished[fingerprint])
        for (setting, condition), fingerprint in zip(points, prints, strict=True)
    ]


def _serves(dataset: Dataset, condition: Condition) -> bool:
    return SYSTEMS[condition.system].serves(dataset.private, dataset.task.has_options)


def _plan(
    session: Session, setting: Setting, condition: Condition, finished: Iterable[Span]
) -> ConditionPlan:
    examples = session.examples(setting.dataset)
    size = session.values["chunk_size"]
    chunks = [(start, min(start + size, examples)) for start in range(0, examples, size)]
    missing = missing_spans(chunks, finished)
    asked = session.dataset(setting.dataset)
    counts = examples, len(asked.examples)
    return ConditionPlan(setting, condition, *counts, tuple(missing), asked.task.from_file)


def still_missing(session: Session, plan: ConditionPlan, chunks: Iterable[Run]) -> ConditionPlan:
    """The plan, where these chunk runs are what is finished."""
    spans = [parse_chunk(chunk.data.tags[CHUNK]) for chunk in chunks]
    return _plan(session, plan.setting, plan.condition, spans)
