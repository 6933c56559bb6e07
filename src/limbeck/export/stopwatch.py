"""How long one image takes where the network will run: in a runtime that is shipped, or in PyTorch as it is."""

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
from limbeck.profiling.measured import latency, timed_in_turn


class Stopwatch:
    """A network to the milliseconds of a forward pass of one image, on this machine, as reports show them.

    runtimes: by any name; the first that is installed is measured in, on the CPU. Without any it is PyTorch, on the
    device on which runs compute. rounds: of which the fastest counts, see `profiling.measured`; None for as many as fit
    into some seconds.
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
            return latency(network.to(devices.device()).eval(), rounds=self.rounds).latency_ms
        require_onnx()
        network = inference_copy(network)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "student.onnx")
            write_onnx(Model(network), path)
            call = partial(runtime.program(path), trial_inputs(network, 1))
            return min(timed_in_turn([call], rounds=self.rounds)[0]).seconds * 1e3

    def _runtime(self) -> Runtime | None:
        return next((runtime for runtime in self.runtimes.values() if runtime.installed()), None)
