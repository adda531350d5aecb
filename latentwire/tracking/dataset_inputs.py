"""Question sets as inputs of runs: what the runs page shows under Dataset, and filters by."""

import json
from collections.abc import Mapping, Sequence

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from latentwire.tracking.store import Store

BAD_REQUEST = "BAD_REQUEST"  # what a database's objection becomes
ATTEMPTS = 5
DIGEST_CHARACTERS = 36  # MLflow keeps no longer ones
TEST, TRAINING = "test", "training"


def log_question_sets(
    store: Store, run_id: str, sets: Mapping[str, tuple[str, int, str]], context: str = TEST
) -> None:
    """Log question sets as inputs of a run, in one request: by name the content hash, how many
    questions, and where they were read ("" where nobody knows). `context` is TEST for what is
    scored, TRAINING for what is learnt from."""
    inputs = [
        DatasetInput(
            Dataset(
                name=name,
                digest=content_hash[:DIGEST_CHARACTERS],
                source_type="latentwire",
                source=json.dumps({"read_from": source}),
                profile=json.dumps({"questions": questions, "sha256": content_hash}),
            ),
            [InputTag(MLFLOW_DATASET_CONTEXT, context)],
        )
        for name, (content_hash, questions, source) in sets.items()
    ]
    if inputs:
        log_inputs(store.client, run_id, inputs)


def _is_refused(error: BaseException) -> bool:
    return isinstance(error, MlflowException) and error.error_code == BAD_REQUEST


@retry(
    retry=retry_if_exception(_is_refused),
    stop=stop_after_attempt(ATTEMPTS),
    wait=wait_random_exponential(multiplier=0.1, max=1),
    reraise=True,
)
def log_inputs(client: MlflowClient, run_id: str, inputs: Sequence[DatasetInput]) -> None:
    """Log inputs of a run, again where the store refuses it.

    MLflow looks for a set and makes it where there is none: of two processes that name a new one at
    the same instant, one is refused. It may ask again: what is there is not made twice.
    """
    client.log_inputs(run_id, inputs)
