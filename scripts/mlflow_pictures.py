"""Draw the pictures of docs/mlflow.md: MLflow's own pages on the store that holds a study.

    PYTHONPATH=.:tests .venv/bin/python scripts/mlflow_pictures.py sqlite:///mlflow.db docs/images

Needs chromium and chromedriver. Starts `mlflow server` on a free port of this machine, and ends it.
"""

import sys
import time
from pathlib import Path

from browser import chromium, resize
from mlflow import MlflowClient
from mlflow_pages import (
    close_assistant,
    compare_page,
    milestone_page,
    runs_page,
    show,
    ui,
    unfold_description,
)
from PIL import Image

from latentwire.tracking.runs import LEVEL, MILESTONE
from latentwire.tracking.store import DEFAULT_EXPERIMENT
from latentwire.tracking.ui_views import VIEWS

SETTLE_S = 2  # for what opens slowly
SQLITE = "sqlite:///"


def absolute(uri: str) -> str:
    """A store's address that is the same from every folder: the server starts in its own."""
    path = uri.removeprefix(SQLITE)
    return uri if path == uri else f"{SQLITE}{Path(path).absolute()}"


def main(uri: str, folder: Path) -> None:
    uri = absolute(uri)
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(DEFAULT_EXPERIMENT)
    if experiment is None:
        sys.exit(f"{uri} has no experiment {DEFAULT_EXPERIMENT}: run make demo first")
    ids = [experiment.experiment_id]
    finished = "attributes.status = 'FINISHED'"
    runs = client.search_runs(ids, f"{finished} and tags.`{LEVEL}` = 'milestone'")
    study = [run for run in runs if run.data.tags[MILESTONE] == "m2"]
    if not study:
        sys.exit(f"{uri} has no finished m2: run make demo first")
    milestone = study[0].info.run_id
    conditions = client.search_runs(
        ids,
        f"{finished} and tags.`mlflow.parentRunId` = '{milestone}' and params.control = 'matched'"
        " and params.dataset = 'demo_graded'",
    )
    own = [run.info.run_id for run in conditions[:4]]
    pages = {
        "mlflow_milestones.png": runs_page(ids[0], VIEWS[0]),
        "mlflow_conditions.png": runs_page(ids[0], VIEWS[1]),
        "mlflow_run.png": milestone_page(ids[0], milestone),
        "mlflow_compare.png": compare_page(ids[0], own),
    }
    with ui(uri) as address, chromium(1440, 900) as page:
        for name, path in pages.items():
            resize(page, 1440, 1500 if name == "mlflow_run.png" else 800)
            show(page, address, path)
            close_assistant(page)
            unfold_description(page)
            time.sleep(SETTLE_S)
            page.save_screenshot(str(folder / name))
            with Image.open(folder / name) as picture:
                picture.convert("RGB").quantize(256, Image.Quantize.FASTOCTREE).save(
                    folder / name, optimize=True
                )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
