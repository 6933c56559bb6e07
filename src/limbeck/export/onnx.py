"""An ONNX model of the forward pass, for runtimes that know nothing of torch.

    session = onnxruntime.InferenceSession("student.onnx")
    (image,) = session.run(None, {"latent": latents})

Inputs are as in `torch_export`; any number of images.
"""

import warnings
from pathlib import Path

import torch

from limbeck.errors import UserError
from limbeck.export.base import Exporter, inference_copy, require_close
from limbeck.export.torch_export import facts, program
from limbeck.files import written_aside
from limbeck.model import Model


class Onnx(Exporter):
    """Writes one `.onnx` file and compares it as onnxruntime runs it; `terms` and `history` are metadata of it."""

    def __call__(self, model: Model, path: str | Path) -> Path:
        try:
            import onnxruntime
            import onnxscript  # noqa: F401  (torch's exporter needs it)
        except ImportError as error:
            raise UserError(f"format=onnx: needs {error.name}; pip install onnxruntime onnxscript") from error
        network = inference_copy(model.generator)
        with written_aside(path) as aside:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's, of its own parts
                made = torch.onnx.export(program(network), dynamo=True, verbose=False)
            assert made is not None
            made.model.metadata_props.update(facts(model))
            made.save(aside)
            session = onnxruntime.InferenceSession(aside, providers=["CPUExecutionProvider"])

            def again(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
                return torch.from_numpy(session.run(None, {name: value.numpy() for name, value in inputs.items()})[0])

            require_close(again, network, what=f"{path}: generator")
        return Path(path)
