import pytest
import torch
from torch import nn

from limbeck.errors import UserError
from limbeck.masks.segmentation import Segmentation, content, parser_input


class Brightness(nn.Module):
    """Class 0 where the red channel is below its mean, else class 1; class 2 where blue is far above."""

    def __init__(self, wrap=lambda scores: scores):
        super().__init__()
        self.scale = nn.Parameter(torch.ones([]))
        self.wrap = wrap

    def forward(self, x):
        red, blue = x[:, :1] * self.scale, x[:, 2:]
        return self.wrap(torch.cat([-red, red, 100 * (blue - 1)], dim=1))


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"scale": torch.tensor(2.0), "aux.weight": torch.zeros(3)}, path)
    return path


def made(path, **changes):
    settings = {"network": Brightness, "path": str(path), "ignored": [0, 2], "resolution": 8, "unused": ["aux."]}
    return Segmentation(**{**settings, **changes})


def test_parser_sees_clamped_colors_normalized_as_for_imagenet():
    x = parser_input(torch.tensor([-3.0, 1.0]).reshape(2, 1, 1, 1).expand(2, 1, 4, 4), 6)
    assert x.shape == (2, 3, 6, 6)
    torch.testing.assert_close(x[0, :, 0, 0], -torch.tensor([0.485 / 0.229, 0.456 / 0.224, 0.406 / 0.225]))
    torch.testing.assert_close(x[1, 0], torch.full((6, 6), (1 - 0.485) / 0.229))


def test_halving_keeps_pixels_with_more_than_half_of_their_area():
    classes = torch.tensor([[[1, 1, 1, 0], [1, 0, 0, 0], [16, 5, 1, 16], [5, 5, 1, 16]]])
    expected = torch.tensor([[[[True, False], [True, False]]]])
    assert torch.equal(content(classes, [0, 16], (2, 2)), expected)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: (s, None), lambda s: {"out": s}])
def test_ignored_classes_are_left_out(weights, wrap):
    image = torch.full((1, 3, 8, 8), -1.0)
    image[:, 0, :4] = 1.0  # red half: class 1
    image[:, 2, :2] = 1.0  # a quarter of it blue as well: class 2
    mask = made(weights, network=lambda: Brightness(wrap)).load()(image)
    expected = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    expected[:, :, 2:4] = True
    assert torch.equal(mask, expected)


def test_loading_fills_and_freezes(weights):
    mask = made(weights)
    assert mask.network is None
    assert mask.load() is mask
    network = mask.network
    assert network.scale.item() == 2.0
    assert not network.scale.requires_grad
    assert mask.load().network is network


def test_descriptions_name_the_weights(weights, tmp_path):
    other = tmp_path / "other.pth"
    torch.save({"scale": torch.tensor(3.0)}, other)
    assert made(weights).describe() == made(weights).describe()
    assert made(weights).describe() != made(other).describe()
    assert made(weights).describe() != made(weights, ignored=[0]).describe()


def test_a_missing_file_is_named_with_the_way_out(tmp_path):
    with pytest.raises(UserError, match=r"mask.path=.*gone.pth: file not found.*the parser.*mask=everything"):
        made(tmp_path / "gone.pth", obtain="the parser").load()


def test_weights_of_another_network_are_refused(weights, tmp_path):
    with pytest.raises(UserError, match="not the weights of Brightness"):
        made(weights, unused=[]).load()
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"no weights")
    with pytest.raises(UserError, match="not the weights of Brightness"):
        made(broken).load()
