"""Several processes that a launcher started: they meet before anything else, decide as one, and end as one.

Without this, a process that fails or has nothing to do leaves the others waiting in their next exchange until the job's
time limit. Lightning's own children (`trainer=ddp` without a launcher) are started in the middle of a run and meet in
`Trainer.fit`; for them, and in a single process, everything here does nothing.
"""

import contextlib
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from limbeck.errors import UserError

T = TypeVar("T")
ENDED, LEFT, DECISION = "limbeck/ended", "limbeck/left", "limbeck/decision"
POLL_SECONDS, GRACE_SECONDS = 0.5, 5.0
MENDABLE = 2
PORTS = range(15_000, 25_000)
_meeting: "_Meeting | None" = None


@dataclass(frozen=True)
class Launched:
    """This process as its launcher numbers it, and where all of them meet."""

    rank: int
    local_rank: int
    world_size: int
    address: str
    port: int


def launched(environment: Mapping[str, str] = os.environ) -> Launched | None:
    """What torchrun or srun says; None for a single process and for Lightning's children."""
    env = environment
    if int(env.get("WORLD_SIZE", 1)) > 1 and "RANK" in env:  # torchrun; Lightning's children have no RANK
        rank, local_rank, size = (int(env.get(name, 0)) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
        return Launched(rank, local_rank, size, env.get("MASTER_ADDR", "127.0.0.1"), int(env.get("MASTER_PORT", 29500)))
    if int(env.get("SLURM_STEP_NUM_TASKS", 1)) > 1 and "SLURM_PROCID" in env:  # srun, but not the batch script itself
        names = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS", "SLURM_JOB_ID", "SLURM_STEP_ID")
        rank, local_rank, size, job, step = (int(env.get(name, 0)) for name in names)
        port = PORTS[(job * 10 + step) % len(PORTS)]
        address = env.get("MASTER_ADDR") or first_host(env.get("SLURM_STEP_NODELIST", env.get("SLURM_NODELIST", "")))
        return Launched(rank, local_rank, size, address, int(env.get("MASTER_PORT", port)))
    return None


def first_host(node_list: str) -> str:
    """The first name of a SLURM node list such as `gpu[03-07,9],login`."""
    found = re.match(r"([^,\[]*)(?:\[([^\],-]*))?", node_list)
    return (found[1] + (found[2] or "")) if found and found[1] else "127.0.0.1"


def speaks() -> bool:
    """Whether this process may say what is wrong before all have met: the first one, for all find the same."""
    own = launched()
    return _meeting is not None or own is None or own.rank == 0


@contextlib.contextmanager
def together(*, on_gpu: bool) -> Iterator[None]:
    """Join the processes that the launcher started; whichever of them ends with an error ends all, with its exit code.

    on_gpu: whether they exchange tensors on GPUs too.
    """
    global _meeting
    own = launched()
    if own is None:
        yield
        return
    _meeting = _Meeting(own, on_gpu=on_gpu)
    try:
        yield
    except BaseException as error:
        earlier, own_code = _meeting.failed(_exit_code(error))
        if earlier and own_code != earlier:
            raise SystemExit(earlier) from None  # what this process met is the other's end
        raise
    else:
        _meeting.leave()
    finally:
        _meeting = None


def met() -> bool:
    """Whether this is one of several processes inside `together`, all of which do the same."""
    return _meeting is not None


def decided(function: Callable[[], T]) -> T | None:
    """What `function` returns on the first process, a JSON value; it runs there alone, the others wait, however long.

    If it raises a UserError there, the others end with the same exit code and without a word. None in processes that
    have not met the first one, which has gone on without them.
    """
    if _meeting is None:
        from limbeck import parallel

        return function() if parallel.rank() == 0 else None
    return _meeting.decided(function)


def first_alone(function: Callable[[], T]) -> T:
    """What `function` returns, on every process, but on the first before the others: what fails is said once."""
    kept: list[T] = []
    decided(lambda: kept.append(function()))
    return kept[0] if kept else function()


class _Meeting:
    """The processes of one launch from their meeting to their end."""

    def __init__(self, own: Launched, *, on_gpu: bool) -> None:
        import torch
        import torch.distributed as dist

        self.own, self._decisions = own, 0
        os.environ |= {"MASTER_ADDR": own.address, "MASTER_PORT": str(own.port)}
        if on_gpu:
            torch.cuda.set_device(own.local_rank % torch.cuda.device_count())
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", rank=own.rank, world_size=own.world_size)
        store: Any = dist.distributed_c10d._get_default_store()
        # Of their own, because a connection serves one thread at a time.
        self.store, self._watched = store.clone(), store.clone()
        self._over = threading.Event()
        self._watching = threading.Thread(target=self._watch, daemon=True)
        self._watching.start()

    def decided(self, function: Callable[[], Any]) -> Any:
        key = f"{DECISION}/{self._decisions}"
        self._decisions += 1
        if self.own.rank == 0:
            try:
                value = function()
            except UserError:
                self.store.set(key, json.dumps({"refused": True}))
                raise
            self.store.set(key, json.dumps({"value": value}))
            return value
        while not self.store.check([key]):
            time.sleep(POLL_SECONDS)
        answer = json.loads(self.store.get(key))
        if "refused" in answer:
            raise SystemExit(MENDABLE)
        return answer["value"]

    def failed(self, code: int) -> tuple[int, int]:
        """Tell the others; returns the exit code of whoever ended first, 0 if that is this process, and the own one."""
        _ignore_signals()
        self._over.set()
        try:
            earlier = int(self.store.get(ENDED)) if self.store.check([ENDED]) else 0
            self.store.set(ENDED, str(earlier or code))
            self.store.add(LEFT, 1)
            if self.own.rank == 0:  # whose store it may be
                self._wait_until_all_left(2 * POLL_SECONDS + 2)
        except RuntimeError:  # the store went with the process that held it
            earlier = 1
        return earlier, code

    def leave(self) -> None:
        """The end that all reach."""
        import torch.distributed as dist

        self._over.set()
        self._watching.join()
        self.store.add(LEFT, 1)
        if self.own.rank == 0:
            self._wait_until_all_left(60)
        dist.destroy_process_group()

    def _wait_until_all_left(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self.store.add(LEFT, 0) < self.own.world_size and time.monotonic() < until:
            time.sleep(POLL_SECONDS / 5)

    def _watch(self) -> None:
        """End this process when another one has: it may wait in an exchange that will never come."""
        code = 0
        while not code:
            if self._over.wait(2 * POLL_SECONDS):
                return
            try:
                code = int(self._watched.get(ENDED)) if self._watched.check([ENDED]) else 0
            except RuntimeError:
                code = 1
        if not self._over.wait(GRACE_SECONDS):  # by itself it ends more gently
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _ignore_signals() -> None:
    """Let a launcher that ends all processes once one has ended not change the exit code that is on its way."""
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGUSR1", "SIGUSR2"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)


def _exit_code(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return MENDABLE if isinstance(error, UserError) else 1
