import pytest
import torch
import torch.nn.functional as F
from torch import nn

from limbeck.embeddings.module import Module
from limbeck.embeddings.pretrained import Pretrained, as_vectors, maps_by_size
from limbeck.errors import UserError
from limbeck.frozen import Frozen


def network() -> nn.Module:
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 3, stride=2)]
    made = nn.Sequential(*layers)
    made[1].running_mean.normal_()
    return made


def embedding(**changes) -> Pretrained:
    own = {"module": network(), "name": "small", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
    own |= {key: changes.pop(key) for key in list(changes) if key in {*own, "path", "fixed"}}
    return Pretrained(source=Module(resolution=16, **own), **changes)


def test_features_are_those_of_the_plain_network_on_its_own_input():
    image = torch.rand(2, 3, 24, 24) * 2 - 1
    own = F.interpolate((image + 1) / 2, size=(16, 16), mode="bilinear", align_corners=False, antialias=True)
    own = (own - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / torch.tensor([0.2, 0.3, 0.4])[:, None, None]
    expected = network().eval()(own).mean(dim=(2, 3))
    found = embedding().load()(image)
    assert found.shape == (2, 5)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_raw_features_are_those_of_the_image_as_it_is():
    image = torch.rand(2, 3, 24, 20) * 2 - 1
    torch.testing.assert_close(
        embedding(preprocessing="raw").load()(image), network().eval()(image).mean(dim=(2, 3)), atol=1e-6, rtol=1e-5
    )
    small = F.interpolate(image, size=(12, 12), mode="bilinear", align_corners=False)
    resized = embedding(preprocessing="raw", resolution=12).load()
    torch.testing.assert_close(resized(image), network().eval()(small).mean(dim=(2, 3)), atol=1e-6, rtol=1e-5)


def test_a_network_of_one_size_gets_raw_images_in_that_size():
    fixed = embedding(preprocessing="raw", fixed=True)
    assert fixed.preprocessing()["resize"].startswith("16x16, bilinear, half-pixel centers, no antialias")
    assert embedding(preprocessing="raw").preprocessing()["resize"] == "none"


def test_facts_are_known_before_any_weights_are_read():
    lazy = embedding()
    assert lazy.network is None
    assert lazy.num_features == 5
    assert lazy.describe() == {
        "embedding": "small",
        "weights_sha256": lazy.weights_digest(),
        "resize": "16x16, bilinear, half-pixel centers, antialias",
        "normalization": "(RGB in [0, 1] - (0.5, 0.4, 0.3)) / (0.2, 0.3, 0.4)",
        "num_features": 5,
    }
    with pytest.raises(RuntimeError, match="small is used before load"):
        lazy(torch.rand(1, 3, 8, 8))


def test_whatever_changes_the_features_changes_the_digest(tmp_path):
    other = network()
    other[0].weight.data[0, 0, 0, 0] += 1e-3
    variants = [
        embedding(),
        embedding(preprocessing="raw"),
        embedding(resolution=12),
        embedding(mean=[0.5, 0.4, 0.31]),
        embedding(module=other),
        embedding(name="other"),
    ]
    assert len({variant.digest() for variant in variants}) == len(variants)
    assert embedding().digest() == embedding().digest()


def test_weights_come_from_a_file_and_name_it_by_its_content(tmp_path):
    path = tmp_path / "weights.pth"
    other = network()
    other[3].bias.data += 1
    torch.save(other.state_dict(), path)
    image = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(embedding(path=path).load()(image), embedding(module=other).load()(image))
    assert embedding(path=path).weights_digest() != embedding().weights_digest()
    with pytest.raises(UserError, match=r"absent.pth: no such file"):
        embedding(path=tmp_path / "absent.pth").load()
    torch.save({"0.weight": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=r"small: .*weights.pth: the weights are of another network"):
        embedding(path=path).load()


def test_the_network_is_frozen_in_evaluation_and_lets_gradients_through():
    loaded = embedding().load()
    before = {name: value.clone() for name, value in loaded.state_dict().items()}
    image = torch.rand(2, 3, 16, 16, requires_grad=True)
    loaded(image).square().sum().backward()
    assert image.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert all(torch.equal(before[name], value) for name, value in loaded.state_dict().items())
    assert loaded.load().network is loaded.network


def test_in_bfloat16_the_features_differ_a_little_and_are_float32():
    loaded = embedding().load()
    image = torch.rand(2, 3, 16, 16)
    exact, half = Frozen(loaded)(image), Frozen(loaded, half=True)(image)
    assert half.dtype == torch.float32
    assert 1e-6 < (half - exact).abs().max() / exact.abs().max() < 0.03


def test_maps_end_blocks_and_come_finest_first():
    maps = embedding().load().feature_maps(torch.rand(2, 1, 16, 16))
    assert [tuple(m.shape) for m in maps] == [(2, 4, 16, 16), (2, 5, 7, 7)]
    assert maps[0].min() == 0  # after the activation, not before
    nested = nn.Sequential(nn.Sequential(network(), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    assert [tuple(m.shape) for m in maps_by_size(nested.eval(), torch.rand(2, 3, 16, 16))] == [
        (2, 4, 16, 16),
        (2, 5, 7, 7),
    ]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"preprocessing": "trained"}, "preprocessing='trained': must be 'as_trained' or 'raw'"),
        ({"resolution": 0}, "resolution=0: must be a whole number above 0"),
    ],
)
def test_wrong_settings_are_refused_by_name(changes, match):
    made = Pretrained(source=Module(module=network(), name="small"), **changes)
    with pytest.raises(UserError, match=match):
        made.describe()


def test_a_size_that_the_network_cannot_take_is_refused_before_training():
    made = Pretrained(source=Module(module=network(), name="small"), resolution=1)
    with pytest.raises(UserError, match=r"small: resolution=1: the network refuses 1x1 images") as error:
        made.load()
    assert "\n" not in str(error.value)


def test_only_vectors_and_maps_are_features():
    assert torch.equal(as_vectors(torch.ones(2, 3)), torch.ones(2, 3))
    assert torch.equal(as_vectors(torch.full((2, 3, 4, 4), 7.0)), torch.full((2, 3), 7.0))
    for output in (torch.ones(2, 3, 4), (torch.ones(2, 3),)):
        with pytest.raises(UserError, match=r"an embedding needs vectors"):
            as_vectors(output)
