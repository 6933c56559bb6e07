"""The reference networks of translation and super-resolution as plain torch modules, named as in their public files.

Written from the description of the layers and of the names, to be slow, obvious and independent of the package.
"""

import torch
from torch import nn
from torch.nn import functional as F


def instance(size, *, stored=False):
    return nn.InstanceNorm2d(size, track_running_stats=stored)


class ResnetBlock(nn.Module):
    def __init__(self, size, norm, bias, dropout):
        super().__init__()
        middle = [nn.Dropout(dropout)] if dropout is not None else []
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(size, size, 3, bias=bias), norm(size), nn.ReLU(), *middle,
            nn.ReflectionPad2d(1), nn.Conv2d(size, size, 3, bias=bias), norm(size),
        )  # fmt: skip

    def forward(self, x):
        return x + self.conv_block(x)


class ResnetGenerator(nn.Module):
    """CycleGAN's: `model.0` ... in one sequence."""

    def __init__(self, w=4, blocks=2, *, norm=instance, bias=True, dropout=None, colors=(3, 3)):
        super().__init__()
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(colors[0], w, 7, bias=bias), norm(w), nn.ReLU()]
        for size in (w, 2 * w):
            layers += [nn.Conv2d(size, 2 * size, 3, 2, 1, bias=bias), norm(2 * size), nn.ReLU()]
        layers += [ResnetBlock(4 * w, norm, bias, dropout) for _ in range(blocks)]
        for size in (4 * w, 2 * w):
            up = nn.ConvTranspose2d(size, size // 2, 3, 2, 1, output_padding=1, bias=bias)
            layers += [up, norm(size // 2), nn.ReLU()]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(w, colors[1], 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x):
        return self.model(x)


class UnetLevel(nn.Module):
    """One level of pix2pix's U-Net around the one below it."""

    def __init__(
        self, num_in, inner, num_out, below=None, *, outermost=False, dropout=False, norm=nn.BatchNorm2d, bias
    ):
        super().__init__()
        self.outermost = outermost
        down = nn.Conv2d(num_in, inner, 4, 2, 1, bias=bias)
        if outermost:
            up = nn.ConvTranspose2d(2 * inner, num_out, 4, 2, 1)
            layers = [down, below, nn.ReLU(), up, nn.Tanh()]
        elif below is None:
            up = nn.ConvTranspose2d(inner, num_out, 4, 2, 1, bias=bias)
            layers = [nn.LeakyReLU(0.2), down, nn.ReLU(), up, norm(num_out)]
        else:
            up = nn.ConvTranspose2d(2 * inner, num_out, 4, 2, 1, bias=bias)
            layers = [nn.LeakyReLU(0.2), down, norm(inner), below, nn.ReLU(), up, norm(num_out)]
            layers += [nn.Dropout(0.5)] if dropout else []
        self.model = nn.Sequential(*layers)

    def forward(self, x):
        return self.model(x) if self.outermost else torch.cat([x, self.model(x)], dim=1)


class UnetGenerator(nn.Module):
    def __init__(self, w=3, levels=6, *, norm=nn.BatchNorm2d, bias=False, colors=(3, 3)):
        super().__init__()
        how = {"norm": norm, "bias": bias}
        level = UnetLevel(8 * w, 8 * w, 8 * w, **how)
        for _ in range(levels - 5):
            level = UnetLevel(8 * w, 8 * w, 8 * w, level, dropout=True, **how)
        for size in (4 * w, 2 * w, w):
            level = UnetLevel(size, 2 * size, size, level, **how)
        self.model = UnetLevel(colors[0], w, colors[1], level, outermost=True, **how)

    def forward(self, x):
        return self.model(x)


class PatchDiscriminator(nn.Module):
    def __init__(self, num_in=3, w=4, layers=3, *, norm=instance, bias=True):
        super().__init__()
        found, size = [nn.Conv2d(num_in, w, 4, 2, 1), nn.LeakyReLU(0.2)], w
        for index in range(1, layers + 1):
            wider = w * min(2**index, 8)
            stride = 2 if index < layers else 1
            found += [nn.Conv2d(size, wider, 4, stride, 1, bias=bias), norm(wider), nn.LeakyReLU(0.2)]
            size = wider
        self.model = nn.Sequential(*found, nn.Conv2d(size, 1, 4, 1, 1))

    def forward(self, x):
        return self.model(x)


class PixelDiscriminator(nn.Module):
    def __init__(self, num_in=3, w=4, *, norm=instance, bias=True):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(num_in, w, 1), nn.LeakyReLU(0.2), nn.Conv2d(w, 2 * w, 1, bias=bias), norm(2 * w),
            nn.LeakyReLU(0.2), nn.Conv2d(2 * w, 1, 1, bias=bias),
        )  # fmt: skip

    def forward(self, x):
        return self.net(x)


def star_norm(size):
    return nn.InstanceNorm2d(size, affine=True, track_running_stats=True)


class StarBlock(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(size, size, 3, 1, 1, bias=False), star_norm(size), nn.ReLU(),
            nn.Conv2d(size, size, 3, 1, 1, bias=False), star_norm(size),
        )  # fmt: skip

    def forward(self, x):
        return x + self.main(x)


class StarGenerator(nn.Module):
    """StarGAN's; its authors never switch to evaluation mode."""

    def __init__(self, w=4, labels=3, blocks=2):
        super().__init__()
        layers = [nn.Conv2d(3 + labels, w, 7, 1, 3, bias=False), star_norm(w), nn.ReLU()]
        for size in (w, 2 * w):
            layers += [nn.Conv2d(size, 2 * size, 4, 2, 1, bias=False), star_norm(2 * size), nn.ReLU()]
        layers += [StarBlock(4 * w) for _ in range(blocks)]
        for size in (4 * w, 2 * w):
            layers += [nn.ConvTranspose2d(size, size // 2, 4, 2, 1, bias=False), star_norm(size // 2), nn.ReLU()]
        self.main = nn.Sequential(*layers, nn.Conv2d(w, 3, 7, 1, 3, bias=False), nn.Tanh())

    def forward(self, x, label):
        planes = label.reshape(len(x), -1, 1, 1).repeat(1, 1, x.shape[2], x.shape[3])
        return self.main(torch.cat([x, planes], dim=1))


class StarDiscriminator(nn.Module):
    def __init__(self, resolution=32, w=2, labels=3, layers=4):
        super().__init__()
        found, size = [], 3
        for index in range(layers):
            found += [nn.Conv2d(size, w * 2**index, 4, 2, 1), nn.LeakyReLU(0.01)]
            size = w * 2**index
        self.main = nn.Sequential(*found)
        self.conv1 = nn.Conv2d(size, 1, 3, 1, 1, bias=False)
        self.conv2 = nn.Conv2d(size, labels, resolution // 2**layers, bias=False)

    def forward(self, x):
        h = self.main(x)
        classes = self.conv2(h)
        return self.conv1(h), classes.reshape(classes.shape[0], classes.shape[1])


class ThomasBlock(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(size, size, 3, padding=1), nn.BatchNorm2d(size)
        self.prelu = nn.PReLU()
        self.conv2, self.bn2 = nn.Conv2d(size, size, 3, padding=1), nn.BatchNorm2d(size)

    def forward(self, x):
        return x + self.bn2(self.conv2(self.prelu(self.bn1(self.conv1(x)))))


class ThomasUp(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.conv, self.prelu = nn.Conv2d(size, 4 * size, 3, padding=1), nn.PReLU()

    def forward(self, x):
        return self.prelu(F.pixel_shuffle(self.conv(x), 2))


class ThomasGenerator(nn.Module):
    """leftthomas's SRGAN; images in [0, 1]."""

    def __init__(self, w=6, blocks=5):
        super().__init__()
        self.num_blocks = blocks
        self.block1 = nn.Sequential(nn.Conv2d(3, w, 9, padding=4), nn.PReLU())
        for index in range(blocks):
            self.add_module(f"block{index + 2}", ThomasBlock(w))
        self.add_module(f"block{blocks + 2}", nn.Sequential(nn.Conv2d(w, w, 3, padding=1), nn.BatchNorm2d(w)))
        up = nn.Sequential(ThomasUp(w), ThomasUp(w), nn.Conv2d(w, 3, 9, padding=4))
        self.add_module(f"block{blocks + 3}", up)

    def forward(self, x):
        head = h = self.block1(x)
        for index in range(self.num_blocks + 1):
            h = self.get_submodule(f"block{index + 2}")(h)
        return (torch.tanh(self.get_submodule(f"block{self.num_blocks + 3}")(head + h)) + 1) / 2


class ThomasDiscriminator(nn.Module):
    def __init__(self, w=2):
        super().__init__()
        layers, size = [nn.Conv2d(3, w, 3, padding=1), nn.LeakyReLU(0.2)], w
        for wider, stride in ((w, 2), (2 * w, 1), (2 * w, 2), (4 * w, 1), (4 * w, 2), (8 * w, 1), (8 * w, 2)):
            layers += [nn.Conv2d(size, wider, 3, stride, 1), nn.BatchNorm2d(wider), nn.LeakyReLU(0.2)]
            size = wider
        layers += [nn.AdaptiveAvgPool2d(1), nn.Conv2d(size, 2 * size, 1), nn.LeakyReLU(0.2), nn.Conv2d(2 * size, 1, 1)]
        self.net = nn.Sequential(*layers)

    def forward(self, x):
        return torch.sigmoid(self.net(x).reshape(len(x)))


class LornaBlock(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.rcb = nn.Sequential(
            nn.Conv2d(size, size, 3, padding=1, bias=False), nn.BatchNorm2d(size), nn.PReLU(),
            nn.Conv2d(size, size, 3, padding=1, bias=False), nn.BatchNorm2d(size),
        )  # fmt: skip

    def forward(self, x):
        return x + self.rcb(x)


class LornaUp(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.upsample_block = nn.Sequential(nn.Conv2d(size, 4 * size, 3, padding=1), nn.PixelShuffle(2), nn.PReLU())

    def forward(self, x):
        return self.upsample_block(x)


class LornaGenerator(nn.Module):
    """Lornatang's SRGAN and SRResNet; images in [0, 1]."""

    def __init__(self, w=6, blocks=3):
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, w, 9, padding=4), nn.PReLU())
        self.trunk = nn.Sequential(*(LornaBlock(w) for _ in range(blocks)))
        self.conv2 = nn.Sequential(nn.Conv2d(w, w, 3, padding=1, bias=False), nn.BatchNorm2d(w))
        self.upsampling = nn.Sequential(LornaUp(w), LornaUp(w))
        self.conv3 = nn.Conv2d(w, 3, 9, padding=4)

    def forward(self, x):
        head = self.conv1(x)
        return torch.clamp(self.conv3(self.upsampling(self.conv2(self.trunk(head)) + head)), 0, 1)


class LornaDiscriminator(nn.Module):
    def __init__(self, w=2, resolution=96):
        super().__init__()
        layers, size = [nn.Conv2d(3, w, 3, padding=1), nn.LeakyReLU(0.2)], w
        for wider, stride in ((w, 2), (2 * w, 1), (2 * w, 2), (4 * w, 1), (4 * w, 2), (8 * w, 1), (8 * w, 2)):
            layers += [nn.Conv2d(size, wider, 3, stride, 1, bias=False), nn.BatchNorm2d(wider), nn.LeakyReLU(0.2)]
            size = wider
        self.features = nn.Sequential(*layers)
        flat = size * (resolution // 16) ** 2
        self.classifier = nn.Sequential(nn.Linear(flat, 2 * size), nn.LeakyReLU(0.2), nn.Linear(2 * size, 1))

    def forward(self, x):
        return self.classifier(torch.flatten(self.features(x), 1))


@torch.no_grad()
def trained_looking(network):
    """Weights large enough to matter and statistics unlike any default; the network in evaluation mode."""
    for name, value in network.state_dict().items():
        if not value.is_floating_point():
            value.fill_(7)
        elif value.ndim > 1:
            value.copy_(torch.randn_like(value) * (1.5 / value[0].numel() ** 0.5))
        elif name.endswith("running_var"):
            value.copy_(torch.rand_like(value) + 0.5)
        else:
            value.copy_(torch.randn_like(value) * 0.3 + (1.0 if name.endswith("weight") else 0.0))
    return network.eval()
