import numpy as np
import pytest
import torch

from limbeck.architectures.dcgan import Generator
from limbeck.data.base import ImageDataset, ImageFacts, ImageSource
from limbeck.embeddings.base import Embedding
from limbeck.embeddings.random_projection import RandomProjection
from limbeck.embeddings.torchvision_shim import imported
from limbeck.embeddings.vgg19_bn import MEAN, STD, VGG19BN, normalized
from limbeck.errors import UserError
from limbeck.evaluation.sampling import from_eight_bits
from limbeck.losses.image_step import Players
from limbeck.losses.moment_matching import MomentMatching, batch_moments, moments_of_sums, moving_average
from limbeck.losses.steps import Draw, GeneratorStep
from limbeck.model import Model, Pair


class Pixels(Embedding):
    """Two maps: the image, and its square; grey values of the batch's mean brightness would show in neither."""

    name, metric_suffix, num_features = "pixels", "_pixels", 3

    def load(self):
        return self

    def weights_digest(self):
        return "none"

    def preprocessing(self):
        return {}

    def forward(self, image):
        return image.mean(dim=(2, 3))

    def feature_maps(self, image):
        return [image, image.square()]


class Images(ImageSource, ImageDataset):
    """Random images of 8 x 8 with few values."""

    mirror, num_workers = False, 0

    def __init__(self, count=13, value=None):
        numbers = torch.Generator().manual_seed(4)
        drawn = torch.randint(256, (count, 3, 8, 8), generator=numbers, dtype=torch.uint8)
        self.images = drawn if value is None else torch.full_like(drawn, value)

    def open(self):
        return ImageFacts(8, 3, 0, len(self.images))

    def train(self):
        return self

    heldout = train

    def __len__(self):
        return len(self.images)

    def batch(self, indices):
        return self.images[torch.from_numpy(np.asarray(indices))], torch.zeros(len(indices))

    def digest(self):
        return str(int(self.images.long().sum()))


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def prepared(data=None, **settings) -> MomentMatching:
    term = MomentMatching(embedding=Pixels(), data=data or Images(), **settings)
    student = Model(Generator(resolution=8, width=4, z_dim=5))
    term.prepare(Pair(student, student), half=False)
    return term


def showing(images) -> GeneratorStep:
    """A step whose student has drawn these images."""
    student = Generator(resolution=8, width=1, z_dim=5)
    step = GeneratorStep(Players(student, None, {}), Draw(torch.zeros(1, len(images), 5)))
    step.__dict__["_student_pass"] = (images, {})
    return step


def test_v_follows_as_torch_adam_does():
    torch.manual_seed(0)
    start, targets = torch.randn(5), torch.randn(4, 5)
    reference = start.clone().requires_grad_()
    adam = torch.optim.Adam([reference], lr=0.05, betas=(0.5, 0.999))
    ours, first, second = start.clone(), torch.zeros(5), torch.zeros(5)
    for step, target in enumerate(targets, start=1):
        adam.zero_grad()
        (reference - target).square().mean().backward()
        adam.step()
        moving_average(ours, target, first, second, step, learning_rate=0.05, betas=(0.5, 0.999))
        torch.testing.assert_close(ours, reference.detach())
    for _ in range(300):
        step += 1
        moving_average(ours, target, first, second, step, learning_rate=0.05, betas=(0.5, 0.999))
    torch.testing.assert_close(ours, target, atol=2e-2, rtol=0)


def test_sums_give_the_variance_of_two_passes_and_nothing_for_constants():
    features = torch.rand(50, 7).double() * 3 + 100
    mean, variance = moments_of_sums(features.sum(dim=0), features.square().sum(dim=0), 50)
    torch.testing.assert_close(mean, features.mean(dim=0))
    torch.testing.assert_close(variance, features.var(dim=0), rtol=1e-4, atol=0)
    same = torch.full((50, 2), 0.1, dtype=torch.float64)
    assert moments_of_sums(same.sum(dim=0), same.square().sum(dim=0), 50)[1].max() < 1e-15


def test_moments_of_a_batch_and_their_gradient():
    features = torch.randn(6, 3, requires_grad=True)
    mean, variance = batch_moments(features)
    torch.testing.assert_close((mean, variance), (features.mean(dim=0), features.var(dim=0)))
    weights = torch.randn(2, 3)
    ours = torch.autograd.grad((mean * weights[0] + variance * weights[1]).sum(), features)[0]
    direct = (features.mean(dim=0) * weights[0] + features.var(dim=0) * weights[1]).sum()
    torch.testing.assert_close(ours, torch.autograd.grad(direct, features)[0])


def test_the_real_set_as_fakes_gives_zero_whatever_v_is():
    data = Images()
    term = prepared(data, batch_size=4)
    for name in ("mean", "variance"):
        term.get_buffer(f"average_{name}").fill_(1.0)
    assert term(showing(from_eight_bits(data.images))).abs().item() < 2e-3  # of 384 features
    other = torch.rand(13, 3, 8, 8) / 2
    assert term(showing(other)).abs().item() > 1


def test_value_and_gradient_by_the_formula():
    """v makes its step before it is used, and is constant in the loss."""
    term, fakes = prepared(learning_rate=0.1), torch.rand(5, 3, 8, 8, requires_grad=True)
    before = term.average_mean.clone()
    value = term(showing(fakes))
    features = torch.cat([fakes.flatten(1), fakes.square().flatten(1)], dim=1)
    real = from_eight_bits(Images().images)
    truth = torch.cat([real.flatten(1), real.square().flatten(1)], dim=1).double()
    expected = term.average_mean @ (truth.mean(dim=0).float() - features.mean(dim=0))
    expected = expected + term.average_variance @ (truth.var(dim=0).float() - features.var(dim=0))
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(*(torch.autograd.grad(x, fakes)[0] for x in (value, expected)), rtol=1e-3, atol=1e-5)
    assert (term.average_mean - before).abs().min() > 0.05  # Adam's first step is as long as its rate
    assert "average_mean" in term.state_dict()
    assert "second_variance" in term.state_dict()


def test_statistics_are_kept_under_everything_they_depend_on(monkeypatch):
    data, fakes = Images(), torch.rand(4, 3, 8, 8)
    value = prepared(data)(showing(fakes))
    monkeypatch.setattr(Images, "batch", lambda *_: pytest.fail("read again"))
    torch.testing.assert_close(prepared(data)(showing(fakes)), value)
    for changed in ({"data": Images(14)}, {"batch_size": 5}, {"num_images": 6}):
        with pytest.raises(pytest.fail.Exception, match="read again"):
            prepared(**{"data": data, **changed})(showing(fakes))


def test_every_image_is_read_once_and_no_batch_of_one():
    term = prepared(Images(13), batch_size=4)
    read = [image for _, image in term._real_images(13, 13)]
    assert [len(image) for image in read] == [4, 4, 5]
    assert torch.equal(
        torch.cat(read).flatten(1).long().sum(dim=1).sort()[0], Images(13).images.flatten(1).long().sum(dim=1).sort()[0]
    )


def test_impossible_settings_are_refused_by_name():
    for changes, message in (
        ({"batch_size": 1}, "batch_size=1: must be a whole number, at least 2"),
        ({"num_images": 1}, "num_images=1"),
        ({"betas": (0.5, 1.0)}, r"betas=\[0.5, 1.0\]"),
        ({"learning_rate": 0}, "learning_rate=0"),
        ({"embedding": VGG19BN(path="nowhere.pth")}, "vgg19_bn.*nowhere.pth"),
    ):
        with pytest.raises(UserError, match=message):
            MomentMatching(**{"embedding": Pixels(), "data": Images(), **changes}).check()


def test_any_embedding_serves():
    term = MomentMatching(embedding=RandomProjection(), data=Images())
    student = Generator(resolution=8, width=4, z_dim=5)
    term.prepare(Pair(Model(student), Model(student)), half=False)
    term(GeneratorStep(Players(student, None, {}), Draw(torch.randn(1, 4, 5)))).backward()
    assert all(parameter.grad is not None for parameter in student.parameters())


# -- VGG-19 -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vgg(tmp_path_factory):
    """(file of random weights, the network of torchvision)."""
    path = tmp_path_factory.mktemp("vgg") / "vgg19_bn.pth"
    torch.manual_seed(0)
    with torch.device("meta"):
        network = imported("torchvision.models").vgg19_bn(weights=None).features
    network = network.to_empty(device="cpu")
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            value.normal_(0, 0.05)
            value.add_(1) if name.endswith("running_var") else None
    torch.save({f"features.{name}": value for name, value in network.state_dict().items()}, path)
    return path, network


@pytest.mark.parametrize("batch_statistics", [True, False])
def test_maps_are_torchvisions_after_every_relu(vgg, batch_statistics):
    path, network = vgg
    image = torch.rand(2, 3, 32, 32) * 2 - 1
    maps, hooks = [], []
    for layer in network:
        if isinstance(layer, torch.nn.ReLU):
            layer.inplace = False
            hooks.append(layer.register_forward_hook(lambda _, __, output: maps.append(output)))
    with torch.no_grad():
        mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
        state = {name: value.clone() for name, value in network.state_dict().items()}
        network.train(batch_statistics)(((image + 1) / 2 - mean) / std)
        network.load_state_dict(state)
        ours = VGG19BN(path=path, batch_statistics=batch_statistics).load()
        found = ours.feature_maps(image)
    for hook in hooks:
        hook.remove()
    assert len(found) == 16
    for a, b in zip(found, maps, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert sum(map(torch.numel, found)) == 2 * 303_104
    assert 4 * sum(m[0].numel() for m in found) == 1_212_416  # at 64 px: every map has four times as many places
    assert ours(image).shape == (2, ours.num_features)
    ours.resolution = 64
    assert ours.feature_maps(image)[0].shape == (2, 64, 64, 64)
    assert ours.describe()["resize"].startswith("64x64, bilinear")
    assert ours.describe()["normalization"].endswith("of the batch" if batch_statistics else "stored")


def test_normalization_of_the_extremes():
    ones = torch.ones(1, 3, 1, 1)
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    torch.testing.assert_close(normalized(-ones).flatten(), -mean / std)
    torch.testing.assert_close(normalized(ones).flatten(), (1 - mean) / std)
