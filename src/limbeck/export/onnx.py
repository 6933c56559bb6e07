"""An ONNX model of the forward pass, for runtimes that know nothing of torch.

    session = onnxruntime.InferenceSession("student.onnx")
    (image,) = session.run(None, {"latent": latents})

Inputs are as in `torch_export`; any number of images. A denoiser comes with `student_sampler.py`, which draws from it.
"""

import warnings
from pathlib import Path

import torch

from limbeck.errors import UserError
from limbeck.export.base import Exporter, inference_copy, require_close
from limbeck.export.runtimes import OnnxRuntime
from limbeck.export.sampler import keep_sampler, sampling_facts
from limbeck.export.torch_export import facts, program
from limbeck.files import written_aside
from limbeck.model import Model


class Onnx(Exporter):
    """Writes one `.onnx` file and compares it as onnxruntime runs it; `terms` and `history` are metadata of it."""

    def __call__(self, model: Model, path: str | Path) -> Path:
        require_onnx()
        path, network = Path(path), inference_copy(model.generator)
        with written_aside(path) as aside:
            write_onnx(model, aside)
            program = OnnxRuntime().program(aside)
            require_close(program, network, what=f"{path}: generator")
            keep_sampler(path, aside, program, network)
        return path


def require_onnx() -> None:
    """Raises: UserError naming the extra, if something is not installed."""
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401  (torch's exporter needs it)
    except ImportError as error:
        raise UserError(f"format=onnx: needs {error.name}; pip install limbeck[onnx]") from error


def write_onnx(model: Model, path: Path) -> None:
    """The forward pass in float32 as one file, not compared yet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of its own parts
        made = torch.onnx.export(program(inference_copy(model.generator)), dynamo=True, verbose=False)
    assert made is not None
    made.model.metadata_props.update(facts(model) | sampling_facts(model.generator))
    made.save(path)
