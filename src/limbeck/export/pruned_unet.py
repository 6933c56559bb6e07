"""A UNet2DModel of diffusers with narrower layers. Needs nothing but diffusers; copied into every exported folder.

    unet = PrunedUNet2DModel.from_pretrained("FOLDER/unet")
    pipeline = DDIMPipeline(unet, DDIMScheduler.from_pretrained("FOLDER/scheduler"))

or `DiffusionPipeline.from_pretrained("FOLDER", trust_remote_code=True)`.
"""

import inspect

from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import Downsample2D
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.models.upsampling import Upsample2D
from torch import nn

SETTINGS = frozenset(inspect.signature(UNet2DModel.__init__).parameters) - {"self"}


class PrunedUNet2DModel(UNet2DModel):
    """Built at full width from the ordinary configuration, then cut to size.

    layer_widths: [input, output] channels of every convolution, linear layer and normalization that is narrower than
        at full width, by its name.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int,
        block_out_channels: list[int],
        down_block_types: list[str],
        up_block_types: list[str],
        layer_widths: dict[str, list[int]],
        in_channels: int = 3,
        out_channels: int = 3,
        layers_per_block: int = 2,
        attention_head_dim: int | None = None,
        norm_num_groups: int = 32,
        norm_eps: float = 1e-6,
        dropout: float = 0.0,
        downsample_padding: int = 0,
        freq_shift: int = 1,
        flip_sin_to_cos: bool = False,
    ):
        # What the decorator has registered: the arguments above, by their names.
        super().__init__(**{name: value for name, value in self.config.items() if name in SETTINGS})
        for name, (num_in, num_out) in layer_widths.items():
            parent, _, child = name.rpartition(".")
            holder = self.get_submodule(parent)
            setattr(holder, child, narrower(getattr(holder, child), num_in, num_out))
        for module in self.modules():
            if isinstance(module, (Downsample2D, Upsample2D)):
                module.channels = module.conv.in_channels
            elif isinstance(module, Attention):
                module.scale = (module.to_q.out_features // module.heads) ** -0.5


def narrower(layer: nn.Module, num_in: int, num_out: int) -> nn.Module:
    """A new layer of the same kind with these numbers of channels."""
    if isinstance(layer, nn.Conv2d):
        kernel, stride, padding = layer.kernel_size[0], layer.stride[0], int(layer.padding[0])
        return nn.Conv2d(num_in, num_out, kernel, stride=stride, padding=padding)
    if isinstance(layer, nn.GroupNorm):
        return nn.GroupNorm(layer.num_groups, num_out, eps=layer.eps)
    return nn.Linear(num_in, num_out)
