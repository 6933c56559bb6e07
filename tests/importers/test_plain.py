"""Files of DCGAN, SNGAN, GFMN's generator and of tickets in them, beside networks built from their descriptions."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import limbeck
from limbeck.errors import CheckpointError


class Generator(nn.Module):
    """DCGAN's, as in PyTorch's example."""

    def __init__(self, z=7, widths=(12, 9, 5), colors=3):
        super().__init__()
        layers, num_in = [], z
        for index, width in enumerate(widths):
            step = (1, 0) if index == 0 else (2, 1)
            layers += [nn.ConvTranspose2d(num_in, width, 4, *step, bias=False), nn.BatchNorm2d(width), nn.ReLU(True)]
            num_in = width
        self.main = nn.Sequential(*layers, nn.ConvTranspose2d(num_in, colors, 4, 2, 1, bias=False), nn.Tanh())

    def forward(self, latent):
        return self.main(latent[:, :, None, None])


class Discriminator(nn.Module):
    """DCGAN's, with its sigmoid."""

    def __init__(self, width=3, colors=3, levels=3):
        super().__init__()
        layers, num_in = [], colors
        for level in range(levels):
            layers.append(nn.Conv2d(num_in, width * 2**level, 4, 2, 1, bias=False))
            layers += [nn.BatchNorm2d(width * 2**level)] if level else []
            layers.append(nn.LeakyReLU(0.2, True))
            num_in = width * 2**level
        self.main = nn.Sequential(*layers, nn.Conv2d(num_in, 1, 4, 1, 0, bias=False), nn.Sigmoid())

    def forward(self, image):
        return self.main(image).flatten()


class SnganBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.b1, self.c1 = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, padding=1)
        self.b2, self.c2 = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, padding=1)
        self.c_sc = nn.Conv2d(width, width, 1)

    def forward(self, x):
        up = nn.Upsample(scale_factor=2)
        return self.c2(F.relu(self.b2(self.c1(up(F.relu(self.b1(x))))))) + self.c_sc(up(x))


class Sngan(nn.Module):
    """64 px: four blocks, numbered from 2."""

    def __init__(self, z=7, width=6):
        super().__init__()
        self.l1 = nn.Linear(z, 16 * width)
        self.blocks = [f"block{number}" for number in range(2, 6)]
        for name in self.blocks:
            self.add_module(name, SnganBlock(width))
        self.b5, self.c5 = nn.BatchNorm2d(width), nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, latent):
        x = self.l1(latent).reshape(len(latent), -1, 4, 4)
        for name in self.blocks:
            x = self.get_submodule(name)(x)
        return torch.tanh(self.c5(F.relu(self.b5(x))))


class GfmnBlock(nn.Module):
    """Its convolutions are listed by name and by place."""

    def __init__(self, num_in, num_out):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(n, num_out, 3, padding=1) for n in (num_in, num_out))
        self.conv_bypass = nn.Conv2d(num_in, num_out, 1)
        norms = nn.BatchNorm2d(num_in), nn.BatchNorm2d(num_out)
        up = nn.Upsample(scale_factor=2)
        self.model = nn.Sequential(norms[0], nn.ReLU(), up, self.conv1, norms[1], nn.ReLU(), self.conv2)
        self.bypass = nn.Sequential(self.conv_bypass, up)

    def forward(self, x):
        return self.model(x) + self.bypass(x)


class Gfmn(nn.Module):
    def __init__(self, z=7, widths=(16, 8, 4)):
        super().__init__()
        self.net = nn.Module()
        self.net.firstConv = nn.ConvTranspose2d(z, widths[0], 4, bias=False)
        self.count = len(widths) - 1
        for index in range(self.count):
            self.net.add_module(f"resblock_{index}", GfmnBlock(widths[index], widths[index + 1]))
        self.net.batchNorm, self.net.lastConv = nn.BatchNorm2d(widths[-1]), nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, latent):
        x = self.net.firstConv(latent[:, :, None, None])
        for index in range(self.count):
            x = self.net.get_submodule(f"resblock_{index}")(x)
        return torch.tanh(self.net.lastConv(F.relu(self.net.batchNorm(x))))


def trained_looking(network):
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                value.normal_(0, 0.3)
                value.abs_().add_(0.5) if name.endswith("running_var") else None
    return network.eval()


REFERENCES = {
    "dcgan": Generator,
    "dcgan_grey": lambda: Generator(widths=(6, 5, 4, 3), colors=1),
    "sngan": Sngan,
    "gfmn": Gfmn,
}


@torch.no_grad()
@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("wrapped", [False, True])
def test_images_are_those_of_the_file_s_own_network(tmp_path, name, wrapped):
    network = trained_looking(REFERENCES[name]())
    state = {("module." if wrapped else "") + key: value for key, value in network.state_dict().items()}
    path = tmp_path / "netG_epoch_24.pth"
    torch.save({"netG_state_dict": state} if wrapped else state, path, _use_new_zipfile_serialization=not wrapped)
    model, latent = limbeck.load(path), torch.randn(4, 7)
    expected = network(latent)
    assert expected.std() > 0.02
    torch.testing.assert_close(model.generator(latent), expected, rtol=0, atol=1e-5)
    assert model.history[0]["format"] == name.removesuffix("_grey")
    assert limbeck.sample(model, 2).shape == (2, *expected.shape[1:])


@torch.no_grad()
def test_a_second_file_brings_the_discriminator_whose_logits_the_sigmoid_took(tmp_path):
    torch.save(trained_looking(Generator()).state_dict(), tmp_path / "netG.pth")
    judge = trained_looking(Discriminator())
    torch.save(judge.state_dict(), tmp_path / "netD.pth")
    model = limbeck.load(tmp_path / "netG.pth", discriminator=tmp_path / "netD.pth")
    image = torch.rand(3, 3, 32, 32) * 2 - 1
    torch.testing.assert_close(model.discriminator(image).sigmoid(), judge(image))
    with pytest.raises(CheckpointError, match="holds a discriminator alone"):
        limbeck.load(tmp_path / "netD.pth")


@torch.no_grad()
def test_a_ticket_s_weights_serve_where_its_flag_is_one(tmp_path):
    network = trained_looking(Gfmn())
    state, names = dict(network.state_dict()), {"net.firstConv": False, "net.resblock_0.conv1": True}
    for layer, has_bias in names.items():
        weight = state[f"{layer}.weight"]
        flag = (torch.rand_like(weight) < 0.3).float()
        state |= {f"{layer}.flag": flag, f"{layer}.scores": torch.randn_like(weight)}
        flags = (torch.rand(len(state[f"{layer}.bias"])) < 0.5).float() if has_bias else torch.tensor(1.0)
        state |= {f"{layer}.bias_flag": flags, f"{layer}.bias_scores": torch.zeros_like(flags)}
        network.get_parameter(f"{layer}.weight").mul_(flag)
        if has_bias:
            network.get_parameter(f"{layer}.bias").mul_(flags)
    torch.save({"netG_state_dict": state}, tmp_path / "netG_best.tar")
    model, latent = limbeck.load(tmp_path / "netG_best.tar"), torch.randn(3, 7)
    torch.testing.assert_close(model.generator(latent), network(latent), rtol=0, atol=1e-5)
    assert set(model.masks) == {"start.conv.weight", "blocks.0.conv1.conv.weight", "blocks.0.conv1.conv.bias"}
    assert torch.equal(model.masks["start.conv.weight"], state["net.firstConv.flag"].bool())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("main.4.running_var"), r"tensor 'main.4.running_var' .*is missing"),
        (
            lambda s: s.update({"main.4.weight": torch.ones(3)}),
            r"tensor 'main.4.weight' .*has shape \(3,\), expected \(9,\)",
        ),
        (lambda s: s.update({"main.20.weight": torch.ones(3)}), "tensor 'main.20.weight' does not belong"),
        (lambda s: s.update({"main.3.weight": torch.ones(3)}), r"tensor 'main.3.weight' .*has shape \(3,\)"),
    ],
)
def test_mistakes_are_named_as_in_the_file(tmp_path, change, message):
    state = dict(Generator().state_dict())
    change(state)
    torch.save(state, tmp_path / "netG.pth")
    with pytest.raises(CheckpointError, match=message):
        limbeck.load(tmp_path / "netG.pth")


def test_a_flag_that_is_no_mask_is_refused(tmp_path):
    state = dict(Sngan().state_dict()) | {"l1.flag": torch.full((96, 7), 0.5)}
    torch.save(state, tmp_path / "netG.pth")
    with pytest.raises(CheckpointError, match=r"tensor 'l1.flag' is no mask: expected zeros and ones of \(96, 7\)"):
        limbeck.load(tmp_path / "netG.pth")
