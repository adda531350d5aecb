"""Question sets as inputs of runs: what the runs page shows under Dataset, and filters by."""

import json
from collections.abc import Mapping

from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from latentwire.tracking.store import Store

DIGEST_CHARACTERS = 36  # MLflow keeps no longer ones
TEST, TRAINING = "test", "training"


def log_question_sets(
    store: Store, run_id: str, sets: Mapping[str, tuple[str, int, str]], context: str = TEST
) -> None:
    """Log question sets as inputs of a run, in one request.

    Args:
        store: where the run is.
        run_id: the run.
        sets: name -> (content hash, questions, where they were read; "" where nobody knows).
        context: TEST for what is scored, TRAINING for what is learnt from.
    """
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
        store.client.log_inputs(run_id, inputs)
