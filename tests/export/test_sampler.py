"""A denoiser leaves with its sampling loop: a program of NumPy and a runtime that draws limbeck's own images."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import limbeck
from limbeck.architectures.ddpm import UNet
from limbeck.configured import configured
from limbeck.evaluation.sampling import inputs_of
from limbeck.export import denoiser_runner, sampler
from limbeck.export.runtimes import OnnxRuntime
from limbeck.functional.diffusion import time_grid

pytestmark = pytest.mark.slow
SIZES = {"resolution": 8, "level_widths": [8, 16], "blocks_per_level": 1, "norm_groups": 4}
ALONE = """
import sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "limbeck"):
            raise ImportError(f"{name} is not for programs that were shipped")
sys.meta_path.insert(0, Refused())
import importlib.util
import numpy as np
spec = importlib.util.spec_from_file_location("runner", sys.argv[1])
runner = importlib.util.module_from_spec(spec)
spec.loader.exec_module(runner)
estimate, facts = runner.opened(sys.argv[2])
noise = np.load("noise.npy")
asked = [(7, "uniform", False), (5, "quadratic", True), (50, "uniform", False)]
for number, (steps, grid, clipped) in enumerate(asked):
    images = runner.sample(estimate, facts, noise, steps=steps, grid=grid, clip_sample=clipped)
    np.save(f"images{number}.npy", images)
assert not {"torch", "limbeck"} & {name.split(".")[0] for name in sys.modules}
"""


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    betas = [*np.linspace(0.001, 0.2, 49).tolist(), 1.0]  # the last step leaves no signal
    network = UNet(**SIZES, num_train_steps=50, betas=betas)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return limbeck.prune(limbeck.Model(network.eval()), "random", ratio=0.5)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """Both files and their samplers."""
    folder = tmp_path_factory.mktemp("exported")
    return [
        configured("export", "onnx")(model, folder / "a.onnx"),
        configured("export", "openvino")(model, folder / "b.xml"),
    ]


@pytest.mark.parametrize("number", [0, 1])
def test_the_sampler_draws_limbecks_images_without_it(model, exported, tmp_path, number):
    path = exported[number]
    np.save(tmp_path / "noise.npy", inputs_of(model.generator, 3, seed=5).source.numpy())
    command = [sys.executable, "-c", ALONE, str(path.with_name(f"{path.stem}_sampler.py")), str(path)]
    subprocess.run(command, check=True, cwd=tmp_path)
    asked = [(7, "uniform", False), (5, "quadratic", True), (50, "uniform", False)]
    for trial, (steps, grid, clip_sample) in enumerate(asked):
        expected = limbeck.sample(model, 3, seed=5, steps=steps, grid=grid, clip_sample=clip_sample)
        found = torch.from_numpy(np.load(tmp_path / f"images{trial}.npy"))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
        assert found.std() > 0.1


def test_the_sampler_is_a_program_too(exported, tmp_path):
    command = [sys.executable, str(exported[0].with_name("a_sampler.py")), str(exported[0]), "images.npy"]
    command += ["--num-images", "2", "--steps", "3"]
    subprocess.run([*command, "--eta", "1", "--grid", "quadratic"], check=True, cwd=tmp_path)
    images = np.load(tmp_path / "images.npy")
    assert images.shape == (2, 3, 8, 8)
    assert images.dtype == np.float32
    assert np.abs(images).max() <= 1


@pytest.mark.parametrize("kind", ["uniform", "quadratic"])
@pytest.mark.parametrize("steps", [1, 2, 7, 50, 1000])
def test_its_time_steps_are_ours(kind, steps):
    assert denoiser_runner.time_grid(steps, kind, 1000) == time_grid(steps, kind, 1000)


def test_noise_on_the_way_has_ddpms_small_variance():
    """One step to s where the estimate is 0: the image times a constant, plus sigma z of Song et al., Eq. 16."""
    facts = {"alpha_bar": [0.9, 0.4]}
    noise = np.zeros((1, 1, 200, 200), np.float32)
    sigma = np.sqrt(0.1 / 0.6) * np.sqrt(1 - 0.4 / 0.9)
    found = denoiser_runner.sample(lambda image, step: np.zeros_like(image), facts, noise, steps=2, eta=1.0)
    assert found.std() * np.sqrt(0.9) == pytest.approx(sigma, rel=0.02)


def test_a_sampler_that_draws_other_images_is_not_kept(model, exported, tmp_path, monkeypatch):
    monkeypatch.setattr(sampler, "IMAGE_TOLERANCE", -1.0)
    program = OnnxRuntime().program(exported[0])
    with pytest.raises(limbeck.UserError, match=r"not kept, because its sampler's images deviate by \d"):
        sampler.keep_sampler(tmp_path / "a.onnx", exported[0], program, model.generator)
    assert not list(tmp_path.iterdir())
