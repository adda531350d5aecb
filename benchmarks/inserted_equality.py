"""One model at both ends, all of the message sent losslessly: does it write, token for token, what
the model writes that reads everything itself?

    mlflow run . -e m0 -P pair=self:MODEL -P dataset=xquad -P dtype=float32 -P controls=matched
    mlflow run . -e m2 -P pair=self:MODEL -P dataset=xquad -P dtype=float32 -P codec=fp32 \
        -P controls=matched
    PYTHONPATH=.:C2C python benchmarks/inserted_equality.py PAIR xquad fp32

PAIR is the pair's name in the tracking store (MLFLOW_TRACKING_URI), whose answers are compared
question by question; prints one line of JSON. With `bf16` in place of `fp32`, and both milestones
in bfloat16, rounding differs.
"""

import argparse
import json

from latentwire.tracking.results_reader import newest_results
from latentwire.tracking.store import open_store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("pair", "dataset", "codec"):
        parser.add_argument(name)
    options = parser.parse_args()
    store = open_store(create=False)
    found = newest_results(
        store, "local", options.pair, lambda params: params["dataset"] == options.dataset
    )
    outputs: dict[str, dict[str, str]] = {"alone": {}, "sent": {}}
    for result in found:
        if result.system == "sharer":
            side = "alone"
        elif (result.codec, result.keep_ratio, result.control) == (options.codec, 1.0, "matched"):
            side = "sent"
        else:
            continue
        outputs[side] |= {record.example_id: record.output for record in result.records}
    alone, sent = outputs.values()
    both = alone.keys() & sent.keys()
    equal = sum(alone[name] == sent[name] for name in both)
    told = {"pair": options.pair, "dataset": options.dataset, "codec": options.codec}
    print(json.dumps({**told, "questions": len(both), "equal_answers": equal}))


if __name__ == "__main__":
    main()
