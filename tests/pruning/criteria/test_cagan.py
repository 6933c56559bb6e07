"""The content-aware score against its laws and a slow loop written from the paper."""

import pytest
import torch

import limbeck
from limbeck.architectures.stylegan2 import Generator
from limbeck.configured import configured
from limbeck.errors import UserError
from limbeck.masks.base import ContentMask
from limbeck.masks.everything import Everything
from limbeck.model import Model
from limbeck.pruning.criteria.cagan import CAGAN, salted
from limbeck.pruning.scoring import scored
from limbeck.pruning.sensitivity import readers
from limbeck.seeds import batch_seed


class Corner(ContentMask):
    """Only the upper left `size` by `size` pixels are content."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def check(self):
        pass

    def load(self):
        return self

    def forward(self, image):
        mask = torch.zeros(len(image), 1, *image.shape[2:], dtype=torch.bool)
        mask[:, :, : self.size, : self.size] = True
        return mask

    def describe(self):
        return {"corner": self.size}


def model():
    torch.manual_seed(0)
    return Model(Generator(resolution=16, widths=[6, 5, 6, 7, 5, 4], z_dim=8, w_dim=8, mapping_depth=1).eval())


def scores_of(subject=None, mask=None, **options):
    options = {"num_samples": 6, "batch_size": 3, "density": 0.3} | options
    return scored(CAGAN(mask=mask or Everything(), **options), subject or model())


def test_salt_and_pepper():
    image = torch.rand(50, 3, 32, 32) * 1.8 - 0.9
    mask = Corner(16)(image)
    noisy = salted(image, mask, 0.25, torch.Generator().manual_seed(0))
    changed = (noisy != image).any(dim=1, keepdim=True)
    assert not changed[~mask].any()
    assert changed[mask].float().mean().item() == pytest.approx(0.25, abs=0.01)
    values = noisy.permute(0, 2, 3, 1)[changed[:, 0]]
    assert (values == values[:, :1]).all()
    assert set(values.unique().tolist()) == {-1.0, 1.0}
    assert values.mean().item() == pytest.approx(0.0, abs=0.05)


def test_no_noise_or_no_content_scores_nothing():
    for scores in (scores_of(density=0.0), scores_of(mask=Corner(0))):
        assert all(score.abs().max() == 0 for score in scores.values())


def test_content_decides():
    here, there = scores_of(mask=Corner(4)), scores_of()
    assert any(not torch.allclose(here[name] / here[name].sum(), there[name] / there[name].sum()) for name in here)


def test_scores_equal_a_loop_over_the_loss_itself():
    subject, options = model(), {"num_samples": 5, "batch_size": 2, "density": 0.3}
    network = subject.generator  # noise strengths of a new network are zero, so drawn noise does not matter
    parameters = dict(network.named_parameters())
    total = {group.name: torch.zeros(group.size).double() for group in network.channel_groups()}
    for index in range(3):
        source = torch.Generator().manual_seed(batch_seed(0, index))
        latent = torch.randn(min(2, 5 - 2 * index), 8, generator=source)
        torch.randint(2**62, [], generator=source)  # the seed of the injected noise
        image = network(latent, noise="none")
        noisy = salted(image, Corner(8)(image), 0.3, source)  # replaced in place: no gradient at replaced pixels
        loss = (noisy.detach() - image).abs().sum()
        for group, axis in readers(network).items():
            (gradient,) = torch.autograd.grad(loss, parameters[axis.parameter], retain_graph=True)
            total[group] += gradient.abs().mean(dim=(0, 2, 3)).double()
    for name, score in scores_of(subject, Corner(8), **options).items():
        torch.testing.assert_close(score, total[name], rtol=1e-4, atol=1e-9)


def test_first_reader_of_each_group():
    names = {group: axis.parameter for group, axis in readers(model().generator).items()}
    assert names == {
        "const": "synthesis.b4.conv1.weight",
        "b4.conv1": "synthesis.b8.conv0.weight",
        "b8.conv0": "synthesis.b8.conv1.weight",
        "b8.conv1": "synthesis.b16.conv0.weight",
        "b16.conv0": "synthesis.b16.conv1.weight",
        "b16.conv1": "synthesis.b16.torgb.weight",
    }


def test_the_mask_is_checked_before_any_work():
    class Missing(Corner):
        def check(self):
            raise UserError("mask.path=parser.pth: no such file")

    with pytest.raises(UserError, match="no such file"):
        scores_of(mask=Missing(4))


@pytest.mark.parametrize(
    ("options", "message"), [({"density": 1.5}, "density=1.5"), ({"batch_size": 0}, "batch_size=0")]
)
def test_mistakes_are_named(options, message):
    with pytest.raises(UserError, match=message):
        scores_of(**options)


@pytest.mark.parametrize("name", ["cagan", "dcp", "gan_slimming", "l1_in", "l1_out"])
def test_a_denoiser_is_refused_in_one_line(name):
    with pytest.raises(
        UserError, match=r"needs a generator that draws from a latent vector, not UNet|of this UNet has none"
    ):
        limbeck.prune(configured("teacher", "untrained_ddpm")(), name)
