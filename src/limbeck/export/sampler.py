"""A denoiser leaves with its sampling loop: the noise schedule in the file, and beside it a program that draws."""

import json
from pathlib import Path

import torch

from limbeck.architectures.base import Network
from limbeck.architectures.inputs import drawn_inputs
from limbeck.errors import UserError
from limbeck.evaluation.sampling import drawn_images
from limbeck.export import denoiser_runner
from limbeck.export.base import Program, standing_in
from limbeck.files import written_aside
from limbeck.stopping import kept_signal_stack

STEPS = 4  # of the trial: the loop is the same however often it turns
IMAGE_TOLERANCE = 1e-3  # an eighth of a level of 8 bits


def takes_steps(network: Network) -> bool:
    """Whether an image takes several passes."""
    return "steps" in network.draw_settings


def sampling_facts(network: Network) -> dict[str, str]:
    """What the loop must know of a denoiser, as text by name; nothing of a network that draws in one pass."""
    if not takes_steps(network):
        return {}
    return {"sampling": json.dumps({"shape": network.latent_shape, "alpha_bar": network.alpha_bar().tolist()})}


def keep_sampler(path: Path, made: Path, program: Program, network: Network) -> None:
    """Write `NAME_sampler.py` beside `path` if the network takes steps.

    made: what will be at `path`. program: the same file, as this package runs it.

    Raises: UserError if the sampler draws other images from it than this package does.
    """
    if not takes_steps(network):
        return
    inputs = drawn_inputs(network, 1, torch.Generator().manual_seed(0))
    steps = min(STEPS, len(network.alpha_bar()))
    expected = drawn_images(standing_in(program, network), inputs, steps=steps)
    with kept_signal_stack():
        estimate, facts = denoiser_runner.opened(made)
    found = torch.from_numpy(denoiser_runner.sample(estimate, facts, inputs.source.numpy(), steps=steps))
    deviation = (found - expected).abs().max().item()
    if not deviation <= IMAGE_TOLERANCE:
        raise UserError(f"{path}: not kept, because its sampler's images deviate by {deviation:.1e}")
    with written_aside(path.with_name(f"{path.stem}_sampler.py")) as aside:
        aside.write_text(Path(denoiser_runner.__file__).read_text())
