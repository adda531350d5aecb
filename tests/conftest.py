"""Fixtures for every test."""

import gc
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from blank_pictures import stand_ins
from examples import PROFILE
from forked_python import write_worker
from hypothesis import HealthCheck, settings
from launched import SHARED, launcher_process
from rewritten import keep_rewritten, test_files

# The models are so small that sharing one step among threads costs ten times what it saves;
# so too in the processes that tests start, up to eight at once.
os.environ["OMP_NUM_THREADS"] = "1"

# The same examples at every start, and no limit of time for one: on a busy machine a test must not
# fail that passes on an idle one. LATENTWIRE_HYPOTHESIS=random looks for others.
settings.register_profile(
    "same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("random", deadline=None)
settings.load_profile(PROFILE)


LONG = ("slurm", "servers", "slow", "browser")  # marks, those of tests that wait most first


def pytest_configure(config: pytest.Config) -> None:
    """Several workers have one launcher, which is a child of the process that has no tests. They
    are forked from one that has the imports, but where there is a GPU: CUDA would not work."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        stack = ExitStack()
        config.add_cleanup(stack.close)
        names = ("launcher", "workers")
        paths = stack.enter_context(launcher_process(os.environ, names))
        os.environ[SHARED] = paths[0]
        if not Path("/dev/nvidiactl").exists():
            program = Path(paths[0]).with_name("python")
            write_worker(program, paths[1])
            config.option.tx = [f"popen//python={program}" for _ in config.option.tx]
        asked = (Path(argument.split("::")[0]).absolute() for argument in config.args)
        keep_rewritten(test_files(asked), config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests first, where several workers share them: else one of them would still
    be at such a file when the others have nothing left."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    places: dict[Path, int] = {}
    for item in items:
        marks = [place for place, name in enumerate(LONG) if item.get_closest_marker(name)]
        places[item.path] = min([*marks, places.get(item.path, len(LONG))])
    items.sort(key=lambda item: places[item.path])


def pytest_collection() -> None:
    """What only a process with tests needs, and takes seconds to import: nothing of it is garbage,
    for which Python would look through all of it again and again."""
    gc.disable()
    import sqlite_stores  # noqa: F401
    import torch

    torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    """What the imports have made stays: no collection looks through it again."""
    gc.collect()
    gc.freeze()
    gc.enable()


SHARED_DIR = Path(__file__).parents[1] / ".." / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Reference data too large or not ours to commit; tests that need it skip without it."""
    if not SHARED_DIR.is_dir():
        pytest.skip(f"the reference data is not there: {SHARED_DIR}")
    return SHARED_DIR


@pytest.fixture
def blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of this process are blank, as those of the processes that tests start."""
    for replaced in stand_ins():
        monkeypatch.setattr(*replaced)


@pytest.fixture(autouse=True)
def _same_surroundings() -> Iterator[None]:
    """No test leaves the next one in another folder or environment: what is set there early, a
    process forked from the launcher could not have."""
    folder, environment = Path.cwd(), dict(os.environ)
    yield
    assert Path.cwd() == folder
    for name in {*os.environ, *environment} - {"PYTEST_CURRENT_TEST"}:
        if name in environment:
            os.environ[name] = environment[name]
        else:
            del os.environ[name]
