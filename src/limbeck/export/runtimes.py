"""Where a student runs once it is shipped: runtimes that take an ONNX file and know nothing of torch."""

import importlib.util
from abc import ABC, abstractmethod
from pathlib import Path

import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.export.base import Program
from limbeck.stopping import kept_signal_stack


class Runtime(ABC):
    """A runtime on the CPU. name: in reports. package, extra: what must be installed, and what pip calls it here."""

    name: str
    package: str
    extra: str

    def installed(self) -> bool:
        return importlib.util.find_spec(self.package) is not None

    def require(self) -> None:
        """Raises: UserError naming the extra, if the runtime is not installed."""
        if not self.installed():
            raise UserError(f"{self.name}: needs {self.package}; pip install limbeck[{self.extra}]")

    @abstractmethod
    def program(self, path: str | Path) -> Program:
        """The file as a function, on as many threads as torch has."""


class OnnxRuntime(Runtime):
    """ONNX Runtime's own CPU kernels."""

    name, package, extra = "ONNX Runtime", "onnxruntime", "onnx"

    def program(self, path: str | Path) -> Program:
        self.require()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

        def run(inputs: dict[str, Tensor]) -> Tensor:
            return torch.from_numpy(session.run(None, {name: value.numpy() for name, value in inputs.items()})[0])

        return run


class OpenVino(Runtime):
    """OpenVINO's CPU plug-in; reads .onnx and its own .xml, and computes in float32 unless the file says otherwise."""

    name, package, extra = "OpenVINO", "openvino", "openvino"

    def program(self, path: str | Path) -> Program:
        self.require()
        import openvino

        core = openvino.Core()
        settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
        with kept_signal_stack():
            compiled = core.compile_model(str(path), "CPU", {**settings, "PERFORMANCE_HINT": "LATENCY"})

        def run(inputs: dict[str, Tensor]) -> Tensor:
            return torch.from_numpy(compiled({name: value.numpy() for name, value in inputs.items()})[0].copy())

        return run
