"""The denoiser of DDPM: a U-Net of residual blocks and self-attention, with any width per channel group.

Source: Ho et al., "Denoising Diffusion Probabilistic Models", 2020, appendix B, in the form of DDIM's released code
(Song et al., 2021). Parameter names follow diffusers' UNet2DModel, so its state dicts fit as they are.

Every layer knows the channel groups it reads and the one it writes (`Channels`); groups, MACs and what can be refined
all follow from that. A group is named after the first layer that writes it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.architectures.base import Axis, ChannelGroup, Maskable, Network, Refinable
from limbeck.errors import UserError
from limbeck.functional.diffusion import alpha_bar_of, alpha_bar_schedule, check_schedule, ddim, time_grid

MOST_LEVELS, MOST_BLOCKS = 12, 64  # so that a file's header cannot ask for modules without end


@dataclass(frozen=True)
class Channels:
    """The channels of a tensor that live or die together.

    name: of their group; "" if they are fixed (image channels, sinusoids). full: how many the unpruned network has,
    which decides where it has shortcuts. size: how many there are here. heads: of attention, that share them evenly.
    """

    name: str
    full: int
    size: int
    heads: int = 1


def fixed(size: int) -> Channels:
    """Channels that are never pruned."""
    return Channels("", size, size)


@dataclass
class Plan:
    """What all blocks share while a network is built.

    widths: sizes of the groups that differ from full width. used: names of all groups made so far.
    """

    widths: Mapping[str, int]
    norm_groups: int
    norm_eps: float
    dropout: float
    head_width: int | None
    down_padding: int
    time: Channels = field(default_factory=lambda: fixed(0))
    used: set[str] = field(default_factory=set)

    def group(self, name: str, full: int, heads: int = 1) -> Channels:
        """A new group, written first by the layer of this name."""
        self.used.add(name)
        size = self.widths.get(name, full)
        if size < 1 or size % heads:
            raise UserError(f"widths[{name!r}]={size}: must be a positive multiple of {heads}")
        return Channels(name, full, size, heads)


class Convolution(nn.Conv2d):
    """A convolution between channel groups, padded to keep the size unless told otherwise.

    reads: groups whose channels lie one after another on the input. writes: the group of the output. side: height and
    width of the output; so for the other layers too.
    """

    def __init__(
        self,
        reads: Sequence[Channels],
        writes: Channels,
        *,
        side: int,
        kernel: int = 3,
        stride: int = 1,
        padding: int | None = None,
    ):
        num_in = sum(channels.size for channels in reads)
        padding = kernel // 2 if padding is None else padding
        super().__init__(num_in, writes.size, kernel, stride=stride, padding=padding)
        self.reads, self.writes, self.side = reads, writes, side


class Linear(nn.Linear):
    """A fully connected layer between channel groups, applied at every one of `side` x `side` places."""

    def __init__(self, reads: Sequence[Channels], writes: Channels, *, side: int = 1):
        super().__init__(sum(channels.size for channels in reads), writes.size)
        self.reads, self.writes, self.side = reads, writes, side


class Normalization(nn.GroupNorm):
    """Group normalization of channel groups; its own groups may span two of them."""

    def __init__(self, plan: Plan, reads: Sequence[Channels], *, side: int):
        for channels in reads:
            if channels.size % plan.norm_groups:
                raise UserError(
                    f"width {channels.size} of {channels.name!r}: must be a multiple of norm_groups={plan.norm_groups}"
                )
        super().__init__(plan.norm_groups, sum(channels.size for channels in reads), eps=plan.norm_eps)
        self.reads, self.side = reads, side


Layer = Convolution | Linear | Normalization


def layer_axes(name: str, layer: Layer) -> Iterator[tuple[Channels, Axis]]:
    """Where the channels of every group lie in the layer's parameters."""
    if not isinstance(layer, Normalization):
        # Logits of attention are divided by the root of the head width: a gain that follows the queries' width.
        gain = name.endswith(".to_q")
        yield layer.writes, Axis(f"{name}.weight", 0, "output", fan_in=gain)
        yield layer.writes, Axis(f"{name}.bias", 0, fan_in=gain)
    offset = 0
    for channels in layer.reads:
        if isinstance(layer, Normalization):
            yield channels, Axis(f"{name}.weight", 0, offset=offset)
            yield channels, Axis(f"{name}.bias", 0, offset=offset)
        else:
            yield channels, Axis(f"{name}.weight", 1, "input", offset=offset)
        offset += channels.size


def activated(x: Tensor) -> Tensor:
    """SiLU; without gradients nobody else reads its input, so it needs no new memory."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


class ResidualBlock(nn.Module):
    """Twice normalization, SiLU, convolution, with the time step between; a 1x1 shortcut where the width changes."""

    def __init__(self, plan: Plan, name: str, reads: Sequence[Channels], width: int, *, side: int):
        super().__init__()
        shortcut = sum(channels.full for channels in reads) != width
        self.writes = plan.group(f"{name}.conv2", width) if shortcut else reads[0]
        inner = plan.group(f"{name}.conv1", width)
        self.norm1 = Normalization(plan, reads, side=side)
        self.conv1 = Convolution(reads, inner, side=side)
        self.time_emb_proj = Linear([plan.time], inner)
        self.norm2 = Normalization(plan, [inner], side=side)
        self.dropout = nn.Dropout(plan.dropout)
        self.conv2 = Convolution([inner], self.writes, side=side)
        self.conv_shortcut = Convolution(reads, self.writes, side=side, kernel=1) if shortcut else None

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        inner = self.conv1(activated(self.norm1(x))) + self.time_emb_proj(time)[:, :, None, None]
        change = self.conv2(self.dropout(activated(self.norm2(inner))))
        return change + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Attention(nn.Module):
    """Self-attention over all places of a feature map, added to it; logits are divided by sqrt(current head width)."""

    def __init__(self, plan: Plan, name: str, stream: Channels, *, side: int):
        super().__init__()
        self.num_heads = stream.full // (plan.head_width or stream.full)
        inner = plan.group(f"{name}.to_q", stream.full, self.num_heads)
        self.group_norm = Normalization(plan, [stream], side=side)
        self.to_q = Linear([stream], inner, side=side)
        self.to_k = Linear([stream], inner, side=side)
        self.to_v = Linear([stream], inner, side=side)
        self.to_out = nn.ModuleList([Linear([inner], stream, side=side)])

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        tokens = self.group_norm(x).permute(0, 2, 3, 1).flatten(1, 2)
        parts = [layer(tokens).unflatten(2, (self.num_heads, -1)) for layer in (self.to_q, self.to_k, self.to_v)]
        query, key, value = (part.transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return x + self.to_out[0](mixed).unflatten(1, (height, width)).permute(0, 3, 1, 2)


class Resampling(nn.Module):
    """To half the size by a strided convolution, or (`up`) to twice the size by repeated pixels and a convolution.

    On the way down with `down_padding` 0 one zero row and column follow the image.
    """

    def __init__(self, plan: Plan, name: str, stream: Channels, *, side: int, up: bool):
        super().__init__()
        self.up = up
        self.writes = plan.group(f"{name}.conv", stream.full)
        stride, padding = (1, None) if up else (2, plan.down_padding)
        self.conv = Convolution([stream], self.writes, side=side, stride=stride, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        if self.up:
            return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.conv(x if self.conv.padding[0] else F.pad(x, (0, 1, 0, 1)))


class Level(nn.Module):
    """All blocks of one resolution on one way, each followed by attention if the level has any, then resampling.

    Down: every block's output is kept for the way up. Up: every block reads the stream and the latest output kept.
    """

    def __init__(self, plan: Plan, name: str, width: int, *, side: int, attention: bool) -> None:
        super().__init__()
        self.plan, self.name, self.width, self.side, self.attention = plan, name, width, side, attention
        self.resnets, self.attentions = nn.ModuleList(), nn.ModuleList()
        self.downsamplers, self.upsamplers = nn.ModuleList(), nn.ModuleList()

    def add_block(self, *reads: Channels) -> Channels:
        """Append a residual block, and attention if the level has it; returns what the stream carries after them."""
        index = len(self.resnets)
        block = ResidualBlock(self.plan, f"{self.name}.resnets.{index}", reads, self.width, side=self.side)
        self.resnets.append(block)
        if self.attention:
            self.attentions.append(
                Attention(self.plan, f"{self.name}.attentions.{index}", block.writes, side=self.side)
            )
        return block.writes

    def add_resampling(self, stream: Channels, *, up: bool) -> Channels:
        """Append the way to the next level; returns what the stream carries after it."""
        kind, side = ("upsamplers", self.side * 2) if up else ("downsamplers", self.side // 2)
        resampling = Resampling(self.plan, f"{self.name}.{kind}.0", stream, side=side, up=up)
        self.get_submodule(kind).append(resampling)
        return resampling.writes

    def forward(self, x: Tensor, time: Tensor, kept: list[Tensor] | None = None) -> list[Tensor]:
        """The stream after every block and after resampling. kept: outputs of the way down; they are used up."""
        outputs = []
        for index, block in enumerate(self.resnets):
            x = block(x if kept is None else torch.cat([x, kept.pop()], dim=1), time)
            x = self.attentions[index](x) if self.attentions else x
            outputs.append(x)
        outputs += [resample(x) for resample in (*self.downsamplers, *self.upsamplers)]
        return outputs


class Middle(nn.Module):
    """Residual block, attention, residual block at the lowest resolution."""

    def __init__(self, plan: Plan, name: str, stream: Channels, *, side: int):
        super().__init__()
        blocks = [ResidualBlock(plan, f"{name}.resnets.{index}", [stream], stream.full, side=side) for index in (0, 1)]
        self.resnets = nn.ModuleList(blocks)
        self.attentions = nn.ModuleList([Attention(plan, f"{name}.attentions.0", stream, side=side)])

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.resnets[1](self.attentions[0](self.resnets[0](x, time)), time)


class TimeEmbedding(nn.Module):
    """Sinusoids to what all residual blocks read."""

    def __init__(self, plan: Plan, width: int):
        super().__init__()
        hidden = plan.group("time_embedding.linear_1", 4 * width)
        plan.time = plan.group("time_embedding.linear_2", 4 * width)
        self.linear_1 = Linear([fixed(width)], hidden)
        self.linear_2 = Linear([hidden], plan.time)

    def forward(self, sinusoids: Tensor) -> Tensor:
        return self.linear_2(activated(self.linear_1(sinusoids)))


def sinusoids(timestep: Tensor, width: int, *, shift: float, cosine_first: bool) -> Tensor:
    """Sines, then cosines of the time step [n] at width / 2 frequencies from 1 down to about 1 / 10000: [n, width].

    frequency_k = 10000^(-k / (width / 2 - shift)); the last column is zero if the width is odd.

    Source: Vaswani et al., "Attention is all you need", 2017, section 3.5, in the order and spacing of DDPM's code.
    """
    half = width // 2
    exponents = torch.arange(half, device=timestep.device, dtype=torch.float32) / (half - shift)
    angles = timestep[:, None].float() * torch.exp(exponents * -math.log(10_000))
    parts = [angles.cos(), angles.sin()] if cosine_first else [angles.sin(), angles.cos()]
    return F.pad(torch.cat(parts, dim=1), (0, width % 2))


class UNet(Network):
    """Noisy image [n, num_channels, h, w] and time step [n] to an estimate of the noise, of the image's shape.

    resolution: of the training images; other sizes work if every level divides evenly.
    level_widths: channels per level at full width, highest resolution first; each level halves the size.
    blocks_per_level: residual blocks on the way down; one more on the way up.
    attention_levels: indices of the levels with attention (the middle always has it).
    head_width: full-width channels per attention head; None for one head.
    norm_groups, norm_eps: of every group normalization. dropout: inside residual blocks.
    down_padding: 0 (DDPM) or 1, of the strided convolutions. time_shift, cosine_first: see `sinusoids`.
    num_train_steps, beta_schedule, beta_start, beta_end: the noise it was trained on, see `alpha_bar_schedule`.
    betas: that noise step by step, instead of a formula.
    widths: sizes of the channel groups that differ from full width, by name.
    """

    truncates_widths = True
    draw_settings = ("steps", "grid", "eta", "clip_sample")

    def __init__(
        self,
        *,
        resolution: int = 32,
        num_channels: int = 3,
        level_widths: Sequence[int] = (128, 256, 256, 256),
        blocks_per_level: int = 2,
        attention_levels: Sequence[int] = (1,),
        head_width: int | None = None,
        norm_groups: int = 32,
        norm_eps: float = 1e-6,
        dropout: float = 0.0,
        down_padding: int = 0,
        time_shift: float = 1.0,
        cosine_first: bool = False,
        num_train_steps: int = 1000,
        beta_schedule: str = "linear",
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        betas: Sequence[float] | None = None,
        widths: Mapping[str, int] | None = None,
    ):
        super().__init__()
        self._arguments = {
            "resolution": resolution,
            "num_channels": num_channels,
            "level_widths": list(level_widths),
            "blocks_per_level": blocks_per_level,
            "attention_levels": sorted(attention_levels),
            "head_width": head_width,
            "norm_groups": norm_groups,
            "norm_eps": norm_eps,
            "dropout": dropout,
            "down_padding": down_padding,
            "time_shift": time_shift,
            "cosine_first": cosine_first,
            "num_train_steps": num_train_steps,
            "beta_schedule": beta_schedule,
            "beta_start": beta_start,
            "beta_end": beta_end,
            "widths": dict(widths or {}),
            **({} if betas is None else {"betas": list(betas)}),
        }
        self._check()
        self.resolution, self.num_channels, self.num_classes = resolution, num_channels, 0
        self.latent_shape = (num_channels, resolution, resolution)
        plan = Plan(self._arguments["widths"], norm_groups, norm_eps, dropout, head_width, down_padding)
        self.time_embedding = TimeEmbedding(plan, level_widths[0])
        self._build(plan)
        down, up = ([f"{way}_blocks.{index}" for index in range(len(level_widths))] for way in ("down", "up"))
        self.block_names = (*down, "mid_block", *up)
        unknown = sorted(set(plan.widths) - plan.used)
        if unknown:
            raise UserError(f"widths[{unknown[0]!r}]: no such channel group")
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _check(self) -> None:
        facts = self._arguments
        levels, resolution = facts["level_widths"], facts["resolution"]
        for name in ("num_channels", "norm_groups"):
            if facts[name] < 1:
                raise UserError(f"{name}={facts[name]}: must be at least 1")
        if not 1 <= len(levels) <= MOST_LEVELS or min(levels) < 1:
            raise UserError(f"level_widths={levels}: must be 1 to {MOST_LEVELS} positive numbers")
        if not 1 <= facts["blocks_per_level"] <= MOST_BLOCKS:
            raise UserError(f"blocks_per_level={facts['blocks_per_level']}: must be from 1 to {MOST_BLOCKS}")
        if resolution < 1 or resolution % 2 ** (len(levels) - 1):
            raise UserError(f"resolution={resolution}: must be a multiple of {2 ** (len(levels) - 1)}")
        if not set(facts["attention_levels"]) <= set(range(len(levels))):
            raise UserError(f"attention_levels={facts['attention_levels']}: must be within 0..{len(levels) - 1}")
        if facts["head_width"] is not None:
            attending = [levels[index] for index in facts["attention_levels"]] + [levels[-1]]
            if facts["head_width"] < 1 or any(width % facts["head_width"] for width in attending):
                raise UserError(f"head_width={facts['head_width']}: must divide the attending widths {attending}")
        if facts["down_padding"] not in (0, 1):
            raise UserError(f"down_padding={facts['down_padding']}: must be 0 or 1")
        check_schedule(*self._schedule())
        if len(self.alpha_bar()) != facts["num_train_steps"]:
            raise UserError(f"betas: {len(self.alpha_bar())} steps, num_train_steps={facts['num_train_steps']}")

    def _build(self, plan: Plan) -> None:
        facts = self._arguments
        levels, num_blocks, side = facts["level_widths"], facts["blocks_per_level"], self.resolution
        attending = facts["attention_levels"]
        stream = plan.group("conv_in", levels[0])
        self.conv_in = Convolution([fixed(self.num_channels)], stream, side=side)
        kept = [stream]
        self.down_blocks = nn.ModuleList()
        for index, width in enumerate(levels):
            level = Level(plan, f"down_blocks.{index}", width, side=side, attention=index in attending)
            for _ in range(num_blocks):
                stream = level.add_block(stream)
                kept.append(stream)
            if index + 1 < len(levels):
                side //= 2
                stream = level.add_resampling(stream, up=False)
                kept.append(stream)
            self.down_blocks.append(level)
        self.mid_block = Middle(plan, "mid_block", stream, side=side)
        self.up_blocks = nn.ModuleList()
        for index, width in reversed(list(enumerate(levels))):
            name = f"up_blocks.{len(levels) - 1 - index}"
            level = Level(plan, name, width, side=side, attention=index in attending)
            for _ in range(num_blocks + 1):
                stream = level.add_block(stream, kept.pop())
            if index:
                side *= 2
                stream = level.add_resampling(stream, up=True)
            self.up_blocks.append(level)
        self.conv_norm_out = Normalization(plan, [stream], side=side)
        self.conv_out = Convolution([stream], fixed(self.num_channels), side=side)

    def forward(
        self, noisy_image: Tensor, timestep: Tensor | int, *, return_features: Sequence[str] = ()
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Estimate the noise in an image.

        noisy_image: [n, num_channels, h, w]. timestep: [n], or one for all, in 0 .. num_train_steps - 1.
        return_features: blocks ("down_blocks.0", "mid_block", "up_blocks.1" ...) whose output [n, c, h', w'], after
            resampling, is returned beside the estimate.
        """
        self._check_input(noisy_image, timestep)
        facts, dtype = self._arguments, self.conv_in.weight.dtype
        steps = torch.as_tensor(timestep, device=noisy_image.device).flatten().expand(noisy_image.shape[0])
        width = self.time_embedding.linear_1.in_features
        waves = sinusoids(steps, width, shift=facts["time_shift"], cosine_first=facts["cosine_first"])
        time = F.silu(self.time_embedding(waves.to(dtype)))
        x = self.conv_in(noisy_image.to(dtype, memory_format=torch.channels_last))
        kept, features = [x], {}
        for index, level in enumerate(self.down_blocks):
            kept += level(kept[-1], time)
            features[f"down_blocks.{index}"] = kept[-1]
        x = features["mid_block"] = self.mid_block(kept[-1], time)
        for index, level in enumerate(self.up_blocks):
            x = features[f"up_blocks.{index}"] = level(x, time, kept)[-1]
        estimate = self.conv_out(activated(self.conv_norm_out(x))).to(noisy_image.dtype)
        if not return_features:
            return estimate
        unknown = [name for name in return_features if name not in features]
        if unknown:
            raise UserError(f"return_features: {unknown[0]!r} unknown; allowed: {', '.join(features)}")
        return estimate, {name: features[name] for name in return_features}

    def _check_input(self, image: Tensor, timestep: Tensor | int) -> None:
        multiple = 2 ** (len(self.down_blocks) - 1)
        if image.ndim != 4 or image.shape[1] != self.num_channels or any(side % multiple for side in image.shape[2:]):
            expected = f"[n, {self.num_channels}, h, w], h and w multiples of {multiple}"
            raise UserError(f"noisy_image: shape {tuple(image.shape)}, expected {expected}")
        num_steps = self._arguments["num_train_steps"]
        if isinstance(timestep, int) and not 0 <= timestep < num_steps:  # a tensor may lie on a device
            raise UserError(f"timestep={timestep}: must be in 0..{num_steps - 1}")
        if isinstance(timestep, Tensor) and timestep.numel() not in (1, image.shape[0]):
            raise UserError(f"timestep: shape {tuple(timestep.shape)}, expected [{image.shape[0]}] or one for all")

    def alpha_bar(self) -> Tensor:
        """Cumulative products [num_train_steps] of the schedule it was trained on, float64, on the CPU."""
        betas = self._arguments.get("betas")
        return alpha_bar_schedule(*self._schedule()) if betas is None else alpha_bar_of(betas)

    def _schedule(self) -> tuple[str, int, float, float]:
        facts = self._arguments
        return facts["beta_schedule"], facts["num_train_steps"], facts["beta_start"], facts["beta_end"]

    def draw(
        self,
        latent: Tensor,
        label: Tensor | None = None,
        *,
        steps: int = 100,
        grid: str = "uniform",
        eta: float = 0.0,
        clip_sample: bool = False,
        **_others: Any,
    ) -> Tensor:
        """Images from standard normal noise by DDIM. steps, grid: see `time_grid`; eta, clip_sample: see `ddim`."""
        timesteps = time_grid(steps, grid, self._arguments["num_train_steps"])
        return ddim(self, latent, timesteps, self.alpha_bar(), eta, clip_sample=clip_sample)

    def check_drawing(self, *, steps: int = 100, grid: str = "uniform", **_others: Any) -> None:
        time_grid(steps, grid, self._arguments["num_train_steps"])

    def cost_notes(self, *, steps: int = 100, **_others: Any) -> tuple[str, ...]:
        return (f"MACs and latency are those of one estimate of the noise; an image takes {steps} of them",)

    def drawing_stages(self, latent: Tensor, num_stages: int, **how: Any) -> Tensor:
        """Noisy images at evenly spread steps of `draw`, from the noise to the image."""
        seen: list[Tensor] = []
        watching = self.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
        try:
            seen.append(self.draw(latent, **how))
        finally:
            watching.remove()
        shown = torch.linspace(0, len(seen) - 1, num_stages).round().int().tolist()
        return torch.stack([seen[index] for index in shown])

    def layers(self) -> Iterator[tuple[str, Layer]]:
        """All layers with parameters and their names in the state dict."""
        return ((name, module) for name, module in self.named_modules() if isinstance(module, Layer))

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """Joined by residual sums and identity shortcuts: the stream of a level; the inside of every block; each
        block's output on the way up; query, key and value of each attention; both layers of the time embedding.
        """
        found: dict[str, tuple[Channels, list[Axis]]] = {}
        for name, layer in self.layers():
            for channels, axis in layer_axes(name, layer):
                found.setdefault(channels.name, (channels, []))[1].append(axis)
        found.pop("")
        return tuple(self._group(channels, tuple(axes)) for channels, axes in found.values())

    def _group(self, channels: Channels, axes: tuple[Axis, ...]) -> ChannelGroup:
        """Normalization groups over two concatenated groups may cut across those over one alone."""
        norms = self._arguments["norm_groups"]
        layers = {name: layer for name, layer in self.layers() if isinstance(layer, Normalization)}
        run, normalized = channels.size // channels.heads, False
        for axis in axes:
            layer = layers.get(axis.parameter.rpartition(".")[0])
            if layer is not None:
                run, normalized = math.gcd(run, layer.num_channels // norms, axis.offset), True
        return ChannelGroup(channels.name, channels.size, axes, norms if normalized else channels.heads, run)

    def pruning_order(self) -> tuple[str, ...]:
        """Backwards from the output: at every block of the way up its own groups, then those of what it skips to.

        Source: Fang et al., "Structural Pruning for Diffusion Models", 2023; order observed in the released pruner.
        """
        time = ["time_embedding.linear_2", "time_embedding.linear_1"]
        sources = [["conv_in"]]
        for level in self.down_blocks:
            sources += [*self._visited(level), *([layer.writes.name] for layer in level.downsamplers)]
        found: list[str] = []
        levels: list[Any] = list(self.up_blocks)
        for index, level in reversed(list(enumerate(levels))):
            for number, block in reversed(list(enumerate(self._visited(level)))):
                found += [*block, *time]
                if number == 0 and index:
                    found.append(levels[index - 1].upsamplers[0].writes.name)
                found += sources.pop(0)
        for block in reversed(self._visited(self.mid_block)):
            found += block
        return tuple(dict.fromkeys(found))

    @staticmethod
    def _visited(level: Any) -> list[list[str]]:
        """Per residual block the groups of its output, of the attention that follows it, and of its inside."""
        attentions = [[layer.to_q.writes.name] for layer in level.attentions]
        attentions += [[]] * (len(level.resnets) - len(attentions))
        return [
            [block.writes.name, *attention, block.conv1.writes.name]
            for block, attention in zip(level.resnets, attentions, strict=True)
        ]

    def resized(self, sizes: Mapping[str, int]) -> Self:
        return type(self)(**{**self._arguments, "widths": {**self._arguments["widths"], **sizes}})

    def macs(self) -> int:
        """Multiply-accumulates of one image, biases and group normalization included (one and two a value).

        Source: Fang et al., "Structural Pruning for Diffusion Models", 2023, released counter: attention products,
        activations, resampling and softmax not counted.
        """
        return sum(p.numel() * layer.side**2 for _, layer in self.layers() for p in layer.parameters())

    def refinable(self) -> Refinable:
        """Everything: all convolutions and linear layers are refined, all group normalizations reset."""
        weighted = [name for name, layer in self.layers() if not isinstance(layer, Normalization)]
        norms = [name for name, layer in self.layers() if isinstance(layer, Normalization)]
        return Refinable(
            weights=tuple(f"{name}.weight" for name in weighted),
            biases=tuple(f"{name}.bias" for name in weighted),
            norm_weights=tuple(f"{name}.weight" for name in norms),
            norm_biases=tuple(f"{name}.bias" for name in norms),
        )

    def maskable(self) -> tuple[Maskable, ...]:
        """Convolutions and the projections of attention; not what reads the time step."""
        layers = []
        for name, module in self.named_modules():
            if isinstance(module, Convolution):
                layers.append(name)
            elif isinstance(module, Attention):
                layers += [f"{name}.{part}" for part in ("to_q", "to_k", "to_v", "to_out.0")]
        return tuple(Maskable(f"{name}.weight", f"{name}.bias") for name in layers)

    def example_inputs(self, num_images: int = 1) -> dict[str, Tensor]:
        parameter = next(self.parameters())
        return {
            "noisy_image": parameter.new_zeros(num_images, *self.latent_shape),
            "timestep": torch.zeros(num_images, dtype=torch.long, device=parameter.device),
        }
