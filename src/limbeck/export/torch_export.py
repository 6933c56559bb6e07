"""A program of `torch.export`: runs wherever torch does, without this package.

    image = torch.export.load("student.pt2").module()(latent=torch.randn(4, 512))

Inputs are those of one forward pass, with every setting at its default: a style-based generator takes `latent` (and
`label`), stored noise, no truncation; a denoiser takes `noisy_image` and `timestep`. Any number of images.
"""

import io
import json
import warnings
from pathlib import Path

import torch

from limbeck.architectures.base import Network
from limbeck.export.base import Exporter, inference_copy, require_close, trial_inputs
from limbeck.files import written_aside
from limbeck.model import Model


class TorchExport(Exporter):
    """Writes a `.pt2` archive; `terms` and `history` lie in it as extra files."""

    def __call__(self, model: Model, path: str | Path) -> Path:
        content, network = io.BytesIO(), inference_copy(model.generator)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch's, of its own parts
            torch.export.save(program(network), content, extra_files=facts(model))
            content.seek(0)
            again = torch.export.load(content).module()
            require_close(lambda inputs: again(**inputs), network, what=f"{path}: generator")
        with written_aside(path) as aside:
            aside.write_bytes(content.getvalue())
        return Path(path)


def program(network: Network) -> torch.export.ExportedProgram:
    """The forward pass of the network, for any number of images."""
    inputs = trial_inputs(network, 2)
    shapes = {name: {0: torch.export.Dim.DYNAMIC} for name in inputs}
    with torch.no_grad():
        return torch.export.export(network, (), inputs, dynamic_shapes=shapes)


def facts(model: Model) -> dict[str, str]:
    """What must travel with the weights, as text by name."""
    return {"terms": model.terms or "none stated", "history": json.dumps([dict(entry) for entry in model.history])}
