"""Latency as shipped: the networks as ONNX files in the runtimes that are installed, in turn with eager PyTorch.

Eager PyTorch at small sizes is bound by calls, not by arithmetic, and hides what pruning saves; nobody deploys it.
"""

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.errors import UserError
from limbeck.evaluation.report import EAGER
from limbeck.export.base import inference_copy, trial_inputs
from limbeck.export.onnx import require_onnx, write_onnx
from limbeck.export.runtimes import Program, Runtime
from limbeck.model import Model
from limbeck.profiling.measured import spread, timed_in_turn

BATCHES = (1, 16)
Timing = dict[str, Any]  # runtime, num_images, latency_ms, spread


def shipped_latencies(
    models: Mapping[str, Model], runtimes: Sequence[Runtime], *, rounds: int | None = None
) -> tuple[dict[str, list[Timing]], list[str]]:
    """(timings by model, notes on what could not be measured); on the CPU, networks of equal shapes once.

    Every round times every model in every runtime, so that their ratios hold on a busy machine.
    """
    notes = [f"{r.name} is not installed: pip install limbeck[{r.extra}]" for r in runtimes if not r.installed()]
    there = [runtime for runtime in runtimes if runtime.installed()]
    if not there:
        return {}, notes
    distinct: dict[tuple, str] = {}
    alike = {name: distinct.setdefault(_shapes(model.generator), name) for name, model in models.items()}
    networks = {name: inference_copy(models[name].generator) for name in distinct.values()}
    with tempfile.TemporaryDirectory() as folder:
        try:
            require_onnx()
            programs = _programs(models, networks, there, Path(folder))
        except UserError as error:
            return {}, [*notes, f"latency as shipped was not measured: {error}"]
        except Exception as error:  # torch's exporter and the runtimes raise dozens of types
            reason = " ".join(str(error).split())[:120]
            return {}, [
                *notes,
                f"latency as shipped was not measured: no ONNX program ({type(error).__name__}: {reason})",
            ]
        found: dict[str, list[Timing]] = {name: [] for name in networks}
        for num_images in BATCHES:
            for (name, runtime), timing in _timed(networks, programs, num_images, rounds).items():
                found[name].append({"runtime": runtime, "num_images": num_images, **timing})
    return {name: found[first] for name, first in alike.items()}, notes


def _programs(
    models: Mapping[str, Model], networks: Mapping[str, Network], runtimes: Sequence[Runtime], folder: Path
) -> dict[tuple[str, str], Program]:
    programs: dict[tuple[str, str], Program] = {}
    for number, (name, network) in enumerate(networks.items()):
        path = folder / f"{number}.onnx"
        write_onnx(models[name], path)
        programs[name, EAGER] = partial(_eager, network)
        programs |= {(name, runtime.name): runtime.program(path) for runtime in runtimes}
    return programs


@torch.no_grad()
def _timed(
    networks: Mapping[str, Network], programs: Mapping[tuple[str, str], Program], num_images: int, rounds: int | None
) -> dict[tuple[str, str], Timing]:
    inputs = {name: trial_inputs(network, num_images) for name, network in networks.items()}
    calls = [partial(program, inputs[name]) for (name, _), program in programs.items()]
    timed = timed_in_turn(calls, rounds=rounds, warmup=1)
    return {
        key: {"latency_ms": min(some).seconds * 1e3, "spread": spread(some)}
        for key, some in zip(programs, timed, strict=True)
    }


def _eager(network: Network, inputs: dict[str, Tensor]) -> Tensor:
    return network(**inputs)


def _shapes(network: Network) -> tuple:
    return type(network), *((name, tuple(value.shape)) for name, value in network.state_dict().items())
