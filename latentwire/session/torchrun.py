"""The processes of a training that torchrun has started, each with a GPU of its own.

The first does what a training alone does: it is asked for, talks to the tracking store, writes the
folder, judges and prints. The others wait to be told of trainings, take part in them, and say
nothing. They meet at the store (a host and a port) that torchrun keeps. Where one ends by an error,
torchrun ends the rest; the first says that one's sentence, and its run ends as it should.
"""

import itertools
import os
import pickle
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from latentwire.errors import LatentWireError, first_line
from latentwire.tracking.signals import Terminated, raise_on_sigterm

if TYPE_CHECKING:  # a help text needs no torch
    from torch.distributed import Store

    from c2c.processes import Processes

Join = Callable[[], "Processes"]

FOREVER = timedelta(days=365)  # that one waits for another: a validation may take any time
LOOK_S = 0.2
SIGNAL_S = 3.0  # by then torchrun has signalled the others that one has died
_ENDED = "ended"  # key: the sentence of the process that ended first by an error

_trainings = itertools.count()  # the first process begins them, and the others follow, in order


def rank_and_count() -> tuple[int, int]:
    """Which of how many processes this is: 0 of 1 unless torchrun has started several."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def require_fit(device: str, batch_size: int) -> None:
    """LatentWireError where so many processes cannot train on such a device, or such batches."""
    _, count = rank_and_count()
    if count == 1:
        return
    if batch_size < count:
        raise LatentWireError(
            f"batch_size={batch_size}: each of {count} processes reads a part of every batch; take"
            " a larger one, or fewer processes"
        )
    if device not in ("cpu", "cuda"):
        raise LatentWireError(
            f"device={device}: each of {count} processes has a GPU of its own; take device=cuda, or"
            " device=cpu"
        )
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    if device == "cuda" and here > (gpus := _gpus()):
        raise LatentWireError(
            f"torchrun has started {here} processes on a machine with {gpus} GPUs: start it with"
            f" --nproc-per-node {gpus}"
        )


@contextmanager
def begin(task: Any, device: str) -> Iterator[Join]:
    """In the block, the first process trains with the others, which are told of `task`. What is
    given makes them one group, once this process has loaded what it trains.

    Raises LatentWireError where another process ended by an error: the sentence is its.
    """
    from c2c.processes import ALONE, Processes

    _, count = rank_and_count()
    if count == 1:
        yield lambda: ALONE
        return
    store, number, processes = _store(), next(_trainings), Processes(0, count)
    store.set(f"training {number}", pickle.dumps((device, task)).hex())
    _take_gpu(device)
    raise_on_sigterm(lambda: _anothers_error(store) or Terminated())
    signal.signal(signal.SIGINT, _interrupt)
    with _watch(processes.lost):
        try:
            yield partial(_join, store, number, device, processes)
        except Exception as error:
            raise _reason(store, error, processes.lost) from None
        _part()


def dismiss() -> None:
    """Let the others end: there is nothing more to take part in."""
    if rank_and_count()[1] > 1:
        _store().set(f"training {next(_trainings)}", "")


def follow(load: Callable[[], Callable[[Any, Join], None]]) -> NoReturn:
    """Take part in each training that the first process begins, then exit: all that any other
    process does. `load` imports what takes part."""
    for asked in (signal.SIGTERM, signal.SIGINT):  # there is nothing to end in order
        signal.signal(asked, signal.SIG_DFL)
    sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    from c2c.processes import Processes

    store, take_part = _store(), load()
    try:
        for number in _trainings:
            told = store.get(f"training {number}").decode()
            if not told:
                break
            device, task = pickle.loads(bytes.fromhex(told))
            _take_gpu(device)
            take_part(task, partial(_join, store, number, device, Processes(*rank_and_count())))
            _part()
    except Exception as error:
        _leave(store, error)
    sys.exit(0)


def _leave(store: "Store", error: Exception) -> NoReturn:
    """End a process that is not the first by an error, which the first will tell."""
    from c2c.errors import C2CError
    from c2c.training import NotFinite

    if isinstance(error, NotFinite):  # so it is in every process, and the first shows what it was
        signal.pause()  # torchrun ends this one once that has ended
    rank, count = rank_and_count()
    if isinstance(error, (LatentWireError, C2CError)):
        store.compare_set(_ENDED, "", str(error))
        leave(2)
    said = f"process {rank} of {count} ended by {type(error).__name__}: {first_line(error)}"
    store.compare_set(_ENDED, "", said)
    time.sleep(SIGNAL_S)  # where all it is is that another has ended, this one is ended meanwhile
    sys.stderr = sys.__stderr__
    sys.excepthook(type(error), error, error.__traceback__)
    leave(1)


def leave(status: int) -> NoReturn:
    """End this process at once: to take a group apart that others wait in may never end."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _connect() -> "Store":
    from torch import distributed

    client, _, _ = next(distributed.rendezvous("env://", timeout=FOREVER))
    # torchrun keeps it when it starts all processes again.
    start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return distributed.PrefixStore(f"latentwire {start}", client)


_store = cache(_connect)


def _join(store: "Store", number: int, device: str, processes: "Processes") -> "Processes":
    """Make one group of all processes, once each is ready for a training."""
    from torch import distributed

    rank, count = processes.rank, processes.count
    store.set(f"ready {number} {rank}", "")
    while not store.check([f"ready {number} {other}" for other in range(count)]):
        time.sleep(LOOK_S / 10)  # here, not in the store's own wait, a signal ends it
        processes.require_all()
    # What is done about an error, and when, is decided here and not by NCCL's own watch.
    os.environ["TORCH_NCCL_ASYNC_ERROR_HANDLING"] = "0"
    distributed.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        store=distributed.PrefixStore(f"group {number}", store),
        rank=rank,
        world_size=count,
        timeout=FOREVER,
    )
    return processes


def _part() -> None:
    """End the group, where there is one."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def _take_gpu(device: str) -> None:
    """From now on `cuda` means the GPU that is this process's own."""
    import torch

    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """Ctrl-C, which a terminal sends to every process, and torchrun again, in one way or another:
    the later ones would cut short how the run is ended."""
    for later in (signal.SIGINT, signal.SIGTERM):
        signal.signal(later, signal.SIG_IGN)
    raise KeyboardInterrupt


def _anothers_error(store: "Store") -> LatentWireError | None:
    return LatentWireError(store.get(_ENDED).decode()) if store.check([_ENDED]) else None


def _reason(store: "Store", error: Exception, lost: threading.Event) -> Exception:
    """What has ended a training in the first process: its own error, or that another has ended, of
    which a connection that is closed may be all that this one sees."""
    from c2c.errors import C2CError

    own = isinstance(error, (LatentWireError, C2CError)) and not lost.is_set()
    if own or not (lost.is_set() or lost.wait(SIGNAL_S)):
        return error
    found = _anothers_error(store)
    if found:  # torchrun's signal is on its way: the run is to be ended in order
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return found or error


@contextmanager
def _watch(lost: threading.Event) -> Iterator[None]:
    """In the block, what waits for another process's GPU is given up once that process has ended,
    or this one is asked to end: a signal is handled when nothing is waited for."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread = threading.Thread(target=_look, args=(_connect(), reader, lost), daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)
        thread.join()
        os.close(reader)


def _look(store: "Store", signals: int, lost: threading.Event) -> None:
    """Look until another process has ended, a signal has come, or there are to be no more."""
    from torch import distributed

    with suppress(RuntimeError):  # a store that is gone tells nothing
        while not store.check([_ENDED]):
            if select.select([signals], [], [], LOOK_S)[0]:
                came = os.read(signals, 64)
                if not came:
                    return
                if not {signal.SIGINT, signal.SIGTERM}.isdisjoint(came):
                    break
        lost.set()
        if group := distributed.group.WORLD:
            group.abort()
