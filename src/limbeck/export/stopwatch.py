"""How long one image takes where the network will run: in a runtime that is shipped, or in PyTorch as it is."""

import statistics
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch

from limbeck import devices
from limbeck.architectures.base import Network
from limbeck.export.base import inference_copy, trial_inputs
from limbeck.export.onnx import require_onnx, write_onnx
from limbeck.export.runtimes import Runtime
from limbeck.model import Model
from limbeck.profiling.measured import latency_rounds, timed_in_turn


class Stopwatch:
    """A network to the median milliseconds of its forward passes of one image, on this machine.

    runtimes: by any name; the first that is installed is measured in, on the CPU. Without any it is PyTorch, on the
    device on which runs compute. rounds: of which the median is taken; None for as many as fit into some seconds.
    """

    def __init__(self, *, runtimes: Mapping[str, Runtime] | None = None, rounds: int | None = None):
        self.runtimes = runtimes or {}
        self.rounds = rounds

    def __str__(self) -> str:
        threads = f"{torch.get_num_threads()} threads"
        runtime = self._runtime()
        return f"{runtime.name}, {threads}" if runtime else f"PyTorch on {devices.described().partition(', no')[0]}"

    @torch.no_grad()
    def __call__(self, network: Network) -> float:
        runtime = self._runtime()
        if runtime is None:
            return _median(latency_rounds(network.to(devices.device()).eval(), rounds=self.rounds))
        require_onnx()
        network = inference_copy(network)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "student.onnx")
            write_onnx(Model(network), path)
            call = partial(runtime.program(path), trial_inputs(network, 1))
            return _median([one.seconds for one in timed_in_turn([call], rounds=self.rounds)[0]])

    def _runtime(self) -> Runtime | None:
        return next((runtime for runtime in self.runtimes.values() if runtime.installed()), None)


def _median(seconds: list[float]) -> float:
    return statistics.median(seconds) * 1e3
