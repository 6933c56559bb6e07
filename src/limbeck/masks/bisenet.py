"""BiSeNet with a ResNet-18 trunk, as trained for face parsing on CelebAMask-HQ; parameter names are those of the
public face-parsing weights (`79999_iter.pth`), so that file fits as it is.

Source: Yu et al., "BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation", 2018; layout of the
public face-parsing release, in which the trunk's 1/8 map stands for the spatial path.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.embeddings.torchvision_shim import imported


class ConvolutionUnit(nn.Module):
    """Convolution without bias, batch normalization, ReLU."""

    def __init__(self, num_in: int, num_out: int, kernel: int = 3):
        super().__init__()
        self.conv = nn.Conv2d(num_in, num_out, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(num_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class AttentionRefinement(nn.Module):
    """Features scaled per channel by a gate computed from their global mean."""

    def __init__(self, num_in: int, num_out: int):
        super().__init__()
        self.conv = ConvolutionUnit(num_in, num_out)
        self.conv_atten = nn.Conv2d(num_out, num_out, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(num_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * self.bn_atten(self.conv_atten(x.mean(dim=(2, 3), keepdim=True))).sigmoid()


class ContextPath(nn.Module):
    """The trunk, and its deep maps brought up to 1/8 of the image's size."""

    def __init__(self) -> None:
        super().__init__()
        self.resnet = imported("torchvision.models").resnet18(weights=None)
        del self.resnet.fc  # the classifier is not in the file
        self.arm16, self.arm32 = AttentionRefinement(256, 128), AttentionRefinement(512, 128)
        self.conv_head32, self.conv_head16 = ConvolutionUnit(128, 128), ConvolutionUnit(128, 128)
        self.conv_avg = ConvolutionUnit(512, 128, kernel=1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(trunk map at 1/8 with 128 channels, context at 1/8 with 128 channels)."""
        trunk = self.resnet
        x = trunk.layer1(trunk.maxpool(F.relu(trunk.bn1(trunk.conv1(image)))))
        eighth = trunk.layer2(x)
        sixteenth = trunk.layer3(eighth)
        last = trunk.layer4(sixteenth)
        deep = self.arm32(last) + self.conv_avg(last.mean(dim=(2, 3), keepdim=True))
        deep = self.conv_head32(F.interpolate(deep, size=sixteenth.shape[2:], mode="nearest"))
        middle = self.arm16(sixteenth) + deep
        return eighth, self.conv_head16(F.interpolate(middle, size=eighth.shape[2:], mode="nearest"))


class FeatureFusion(nn.Module):
    """Both maps joined, plus the same once more gated per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.convblk = ConvolutionUnit(256, 256, kernel=1)
        self.conv1 = nn.Conv2d(256, 64, 1, bias=False)
        self.conv2 = nn.Conv2d(64, 256, 1, bias=False)

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        x = self.convblk(torch.cat([spatial, context], dim=1))
        gate = self.conv2(F.relu(self.conv1(x.mean(dim=(2, 3), keepdim=True)))).sigmoid()
        return x * gate + x


class Head(nn.Module):
    """3x3 convolution unit, then one score per class."""

    def __init__(self, num_in: int, num_hidden: int, num_classes: int):
        super().__init__()
        self.conv = ConvolutionUnit(num_in, num_hidden)
        self.conv_out = nn.Conv2d(num_hidden, num_classes, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.conv(x))


class BiSeNet(nn.Module):
    """Image [n, 3, h, w], normalized as for ImageNet, to class scores of the same size.

    Differs: the two auxiliary heads (`conv_out16`, `conv_out32`), which only training uses, are left out.
    """

    def __init__(self, num_classes: int = 19):
        super().__init__()
        self.cp = ContextPath()
        self.ffm = FeatureFusion()
        self.conv_out = Head(256, 256, num_classes)

    def forward(self, image: Tensor) -> Tensor:
        scores = self.conv_out(self.ffm(*self.cp(image)))
        return F.interpolate(scores, size=image.shape[2:], mode="bilinear", align_corners=True)
