"""Reading one file of a run, fast enough for thousands of runs.

`MlflowClient.download_artifacts` asks the store for the run again, makes a repository and lists the
folder before it reads: 7 ms for a local file, four requests for one behind a server.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from mlflow.entities import Run
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

from latentwire.tracking.retries import with_retries
from latentwire.tracking.store import Store


@contextmanager
def local_artifact(store: Store, run: Run, path: str) -> Iterator[Path]:
    """A local file with the content of the artifact file `path`, to be read only, while the block
    runs. Raises whatever the run's artifact store does."""
    location = run.info.artifact_uri
    if is_local_uri(location):
        yield Path(local_file_uri_to_path(location)) / path
        return
    # Runs of an experiment lie in one place: one repository, and what it knows, serves all.
    below = f"{run.info.run_id}/artifacts"
    root, inside = location, path
    if location.endswith(f"/{below}"):
        root, inside = location.removesuffix(f"/{below}"), f"{below}/{path}"
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / Path(path).name
        with_retries(_repository(root, store.uri)._download_file)(inside, str(target))
        yield target


@lru_cache
def _repository(location: str, uri: str) -> ArtifactRepository:
    return get_artifact_repository(location, tracking_uri=uri)


def list_files(store: Store, run: Run) -> list[str]:
    """The paths of all artifact files of a run, sorted."""
    repository = get_artifact_repository(run.info.artifact_uri, tracking_uri=store.uri)
    files: list[str] = []
    folders: list[str | None] = [None]
    while folders:
        for entry in repository.list_artifacts(folders.pop()):
            (folders if entry.is_dir else files).append(entry.path)
    return sorted(files)
