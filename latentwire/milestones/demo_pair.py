"""Make the bundled pair again from nothing: tokenizer, sharer, receiver, fuser, question sets.

Seeded; on one device the same seed gives the same pair. Losses and accuracies on the development
questions are logged as it trains, the finished pair and its report as artifacts.
"""

import dataclasses

from latentwire.parameters import DEVICE, SEED, Parameter, Values
from latentwire.user_files import output_folder

DEFAULT_OUTPUT = "outputs/demo_pair"

PARAMETERS = (
    dataclasses.replace(SEED, default="7", help="of everything that is random"),
    DEVICE,
    Parameter("output_dir", DEFAULT_OUTPUT, output_folder, "folder that the pair is written to"),
)


def run(values: Values) -> None:
    # They take seconds to import: a help text must not. And `tools` is not part of the installed
    # package; entry points run in a checkout, which has it.
    from latentwire.environment import choose_device
    from latentwire.session.milestone_run import milestone_run
    from latentwire.tracking.store import open_store
    from tools.demo_pair.build import build_demo_pair

    device, output_dir = choose_device(values["device"]), values["output_dir"]
    with milestone_run(open_store(), "demo_pair", values, f"seed {values['seed']}") as milestone:

        def on_metrics(stage: str, metrics: dict[str, float], step: int) -> None:
            named = {f"{stage}/{name}": value for name, value in metrics.items()}
            milestone.writer.log(milestone.run_id, metrics=named, step=step)

        build_demo_pair(output_dir, values["seed"], device, on_metrics)
        milestone.writer.log_folder(milestone.run_id, output_dir, "pair")
    print(f"the pair is in {output_dir}; a pair's YAML file with its paths makes it usable")
