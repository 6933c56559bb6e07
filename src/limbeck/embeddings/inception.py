"""The Inception network of FID and KID: TensorFlow's 2015-12-05 graph, with batch normalization folded in.

Source: Szegedy et al., "Rethinking the Inception Architecture", 2016; Heusel et al., 2017 (the weights of FID).
Parameter names follow the converted weights of pytorch-fid and torch-fidelity, so either file fits.
Differs from other Inceptions, as that graph does: average pooling leaves padding out, and the last block pools by
maximum. Normalization is folded into the convolutions, and images are stored channels last: same features up to
rounding (1e-4), 1.5 times as fast on a CPU.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.embeddings.base import Embedding, file_digest, freeze, in_color
from limbeck.embeddings.preprocessing import resized
from limbeck.errors import UserError

FILE = "pt_inception-2015-12-05-6726825d.pth"
HOME = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
SIDE = 299
EPSILON = 0.001  # of batch normalization

Pool = Callable[[Tensor], Tensor]
average_pool: Pool = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
maximum_pool: Pool = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)
halving_pool: Pool = partial(F.max_pool2d, kernel_size=3, stride=2)


def resized_as_tensorflow(image: Float[Tensor, "n c h w"], side: int) -> Float[Tensor, "n c s s"]:
    """Bilinear resize of TensorFlow 1: output pixel i reads position i * old / new, corners and centers not aligned.

    Source: tensorflow/core/kernels/resize_bilinear_op.cc (align_corners=False, half_pixel_centers=False).
    """
    rows, columns = (_positions(old, side) for old in image.shape[2:])
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).to(image)
    return F.grid_sample(image, grid.expand(len(image), -1, -1, -1), padding_mode="border", align_corners=True)


def _positions(old: int, new: int) -> Float[Tensor, "new"]:
    """Positions i * old / new, at most the last pixel's, as -1 (first pixel) ... 1 (last pixel)."""
    position = torch.arange(new, dtype=torch.float64) * (old / new)
    return position.clamp(max=old - 1) * (2 / max(old - 1, 1)) - 1


class Convolution(nn.Conv2d):
    """Convolution, bias, ReLU."""

    def forward(self, input: Tensor) -> Tensor:
        return F.relu(self.without_relu(input), inplace=not input.requires_grad)

    def without_relu(self, input: Tensor) -> Tensor:
        return super().forward(input)


Step = tuple[str, int, int | tuple[int, int], int]  # name, output channels, kernel, stride


def _convolution(num_in: int, step: Step, *, same: bool = True) -> Convolution:
    _, num_out, kernel, stride = step
    high, wide = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (high // 2, wide // 2) if same and stride == 1 else 0
    return Convolution(num_in, num_out, (high, wide), stride=stride, padding=padding)


class Branch:
    """A pooling (or none), a chain of convolutions, then possibly two side by side that both read the chain's end."""

    def __init__(self, *chain: Step, pool: Pool | None = None, fork: Sequence[Step] = ()) -> None:
        self.chain, self.pool, self.fork = chain, pool, fork


class Mixed(nn.Module):
    """Branches over the same input, their outputs in a row; the convolutions carry the names of the weights' file."""

    def __init__(self, num_in: int, *branches: Branch) -> None:
        super().__init__()
        self.branches = branches
        self.num_out = 0
        for branch in branches:
            width = num_in
            for step in branch.chain:
                self.add_module(step[0], _convolution(width, step))
                width = step[1]
            for step in branch.fork:
                self.add_module(step[0], _convolution(width, step))
            self.num_out += sum(step[1] for step in branch.fork) if branch.fork else width

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for branch in self.branches:
            chain = [self._named(step) for step in branch.chain]
            if branch.pool is average_pool:
                # An average commutes with the 1x1 convolution after it, which leaves fewer channels to pool.
                outputs.append(F.relu(average_pool(chain[0].without_relu(x))))
                continue
            y = branch.pool(x) if branch.pool else x
            for convolution in chain:
                y = convolution(y)
            outputs += [self._named(step)(y) for step in branch.fork] or [y]
        return torch.cat(outputs, dim=1)

    def _named(self, step: Step) -> Convolution:
        layer = self.get_submodule(step[0])
        assert isinstance(layer, Convolution)
        return layer


def mixed_35(num_in: int, pooled: int) -> Mixed:
    """Figure 5 of the paper with 5x5 kept, at 35x35."""
    return Mixed(
        num_in,
        Branch(("branch1x1", 64, 1, 1)),
        Branch(("branch5x5_1", 48, 1, 1), ("branch5x5_2", 64, 5, 1)),
        Branch(("branch3x3dbl_1", 64, 1, 1), ("branch3x3dbl_2", 96, 3, 1), ("branch3x3dbl_3", 96, 3, 1)),
        Branch(("branch_pool", pooled, 1, 1), pool=average_pool),
    )


def mixed_to_17(num_in: int) -> Mixed:
    """Figure 10: from 35x35 to 17x17."""
    return Mixed(
        num_in,
        Branch(("branch3x3", 384, 3, 2)),
        Branch(("branch3x3dbl_1", 64, 1, 1), ("branch3x3dbl_2", 96, 3, 1), ("branch3x3dbl_3", 96, 3, 2)),
        Branch(pool=halving_pool),
    )


def mixed_17(num_in: int, width: int) -> Mixed:
    """Figure 6 with n = 7, at 17x17."""
    row, column = (1, 7), (7, 1)
    return Mixed(
        num_in,
        Branch(("branch1x1", 192, 1, 1)),
        Branch(("branch7x7_1", width, 1, 1), ("branch7x7_2", width, row, 1), ("branch7x7_3", 192, column, 1)),
        Branch(
            ("branch7x7dbl_1", width, 1, 1),
            ("branch7x7dbl_2", width, column, 1),
            ("branch7x7dbl_3", width, row, 1),
            ("branch7x7dbl_4", width, column, 1),
            ("branch7x7dbl_5", 192, row, 1),
        ),
        Branch(("branch_pool", 192, 1, 1), pool=average_pool),
    )


def mixed_to_8(num_in: int) -> Mixed:
    """From 17x17 to 8x8."""
    return Mixed(
        num_in,
        Branch(("branch3x3_1", 192, 1, 1), ("branch3x3_2", 320, 3, 2)),
        Branch(
            ("branch7x7x3_1", 192, 1, 1),
            ("branch7x7x3_2", 192, (1, 7), 1),
            ("branch7x7x3_3", 192, (7, 1), 1),
            ("branch7x7x3_4", 192, 3, 2),
        ),
        Branch(pool=halving_pool),
    )


def mixed_8(num_in: int, pool: Pool) -> Mixed:
    """Figure 7, at 8x8."""
    row, column = (1, 3), (3, 1)
    return Mixed(
        num_in,
        Branch(("branch1x1", 320, 1, 1)),
        Branch(("branch3x3_1", 384, 1, 1), fork=[("branch3x3_2a", 384, row, 1), ("branch3x3_2b", 384, column, 1)]),
        Branch(
            ("branch3x3dbl_1", 448, 1, 1),
            ("branch3x3dbl_2", 384, 3, 1),
            fork=[("branch3x3dbl_3a", 384, row, 1), ("branch3x3dbl_3b", 384, column, 1)],
        ),
        Branch(("branch_pool", 192, 1, 1), pool=pool),
    )


class Network(nn.Module):
    """Images [n, 3, 299, 299] in about [-1, 1] to the maps before each reduction; the last is [n, 2048, 8, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _convolution(3, ("", 32, 3, 2), same=False)
        self.Conv2d_2a_3x3 = _convolution(32, ("", 32, 3, 1), same=False)
        self.Conv2d_2b_3x3 = _convolution(32, ("", 64, 3, 1))
        self.Conv2d_3b_1x1 = _convolution(64, ("", 80, 1, 1))
        self.Conv2d_4a_3x3 = _convolution(80, ("", 192, 3, 1), same=False)
        self.Mixed_5b = mixed_35(192, 32)
        self.Mixed_5c = mixed_35(self.Mixed_5b.num_out, 64)
        self.Mixed_5d = mixed_35(self.Mixed_5c.num_out, 64)
        self.Mixed_6a = mixed_to_17(288)
        self.Mixed_6b = mixed_17(768, 128)
        self.Mixed_6c = mixed_17(768, 160)
        self.Mixed_6d = mixed_17(768, 160)
        self.Mixed_6e = mixed_17(768, 192)
        self.Mixed_7a = mixed_to_8(768)
        self.Mixed_7b = mixed_8(1280, average_pool)
        self.Mixed_7c = mixed_8(2048, maximum_pool)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        maps = [x]
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(halving_pool(x)))
        maps.append(x)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(halving_pool(x))))
        maps.append(x)
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        maps.append(x)
        return [*maps, self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))]


def as_tensorflow(image: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 s s"]:
    """Images in [-1, 1] as the graph of 2015 gets them: its own resize, (RGB - 128) / 128."""
    return resized_as_tensorflow(image, SIDE) * (127.5 / 128) - 0.5 / 128


def as_pytorch_fid(image: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 s s"]:
    """Images in [-1, 1] as pytorch-fid hands them over: half-pixel centers, and 2 x - 1 of x in [0, 1]."""
    return resized(image, (SIDE, SIDE), interpolation="bilinear", antialias=False)


@dataclass(frozen=True)
class Resize:
    """A way from an image to the network's input, and its words."""

    function: Callable[[Tensor], Tensor]
    words: str
    normalization: str


RESIZES = {
    "tensorflow": Resize(
        as_tensorflow,
        "as in TensorFlow 1 (corners and centers not aligned), no antialias",
        "(RGB in 0..255 - 128) / 128",
    ),
    "half_pixel": Resize(
        as_pytorch_fid, "with half-pixel centers as in pytorch-fid, no antialias", "2 (RGB in 0..255) / 255 - 1"
    ),
}


class Inception(Embedding):
    """2048 globally averaged features. "FID" and "KID" without further words mean these.

    path: the weights' file, `pt_inception-2015-12-05-6726825d.pth`; never downloaded.
    resize: "tensorflow" (NVIDIA's code and torch-fidelity) or "half_pixel" (pytorch-fid, and the papers that used it);
        the smaller the images, the more the two differ.
    """

    name = "inception"
    metric_suffix = ""
    num_features = 2048

    def __init__(self, *, path: str | Path | None = None, resize: str = "tensorflow") -> None:
        super().__init__()
        self.path, self.resize = path, resize
        self.network: Network | None = None

    def load(self) -> Embedding:
        if self.network is None:
            path = self._existing()
            try:
                stored = torch.load(path, map_location="cpu", weights_only=True)
                folded = folded_normalization(stored)
                # assign: every value comes from the file, so none is drawn at random before.
                with torch.device("meta"):
                    network = Network()
                network.load_state_dict(folded, assign=True)
            except Exception as error:  # torch.load raises many kinds for a damaged file
                reason = " ".join(str(error).split())[:200]
                raise UserError(f"embeddings.inception.path={path}: not the weights {FILE} ({reason})") from error
            freeze(network)
            self.network = network
        return self

    def weights_digest(self) -> str:
        return file_digest(self._existing())

    def preprocessing(self) -> dict[str, str]:
        way = self._way()
        return {"resize": f"{SIDE}x{SIDE}, bilinear {way.words}", "normalization": way.normalization}

    def forward(self, image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n f"]:
        return self.feature_maps(image)[-1].mean(dim=(2, 3)).float()

    def feature_maps(self, image: Float[Tensor, "n c h w"]) -> list[Tensor]:
        """Five maps: 64 channels at 147x147, 192 at 71, 288 at 35, 768 at 17, 2048 at 8."""
        if self.network is None:
            raise RuntimeError("embedding inception is used before load()")
        x = self._way().function(in_color(image))
        return self.network(x.contiguous(memory_format=torch.channels_last))

    def _way(self) -> Resize:
        if self.resize not in RESIZES:
            raise UserError(f"embeddings.inception.resize={self.resize!r}: allowed: {', '.join(RESIZES)}")
        return RESIZES[self.resize]

    def _existing(self) -> Path:
        if self.path is None or not Path(self.path).is_file():
            state = "not set" if self.path is None else f"{self.path}: no such file"
            raise UserError(
                f"embeddings.inception.path: {state}; FID and KID need {FILE} (95 MB), get it from {HOME}{FILE} "
                "and name it with embeddings.inception.path=FILE"
            )
        return Path(self.path)


def folded_normalization(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """`x.conv.weight` and `x.bn.*` as one `x.weight` and `x.bias`; the classifier is left out."""
    folded = {}
    for key, weight in stored.items():
        if not key.endswith(".conv.weight"):
            continue
        layer = key.removesuffix(".conv.weight")
        mean, variance, gain, shift = (
            stored[f"{layer}.bn.{name}"].double() for name in ("running_mean", "running_var", "weight", "bias")
        )
        scale = gain / (variance + EPSILON).sqrt()
        folded[f"{layer}.weight"] = (weight.double() * scale[:, None, None, None]).float()
        folded[f"{layer}.bias"] = (shift - mean * scale).float()
    return folded
