"""The U-Net in the module names of the DDIM code base, written out plainly: what its checkpoints are compared with."""

import math

import torch
import torch.nn.functional as F
from torch import nn


def norm(width):
    return nn.GroupNorm(32, width, eps=1e-6)


class Block(nn.Module):
    def __init__(self, num_in, num_out, time):
        super().__init__()
        self.norm1, self.conv1 = norm(num_in), nn.Conv2d(num_in, num_out, 3, padding=1)
        self.temb_proj = nn.Linear(time, num_out)
        self.norm2, self.conv2 = norm(num_out), nn.Conv2d(num_out, num_out, 3, padding=1)
        if num_in != num_out:
            self.nin_shortcut = nn.Conv2d(num_in, num_out, 1)

    def forward(self, x, time):
        h = self.conv1(F.silu(self.norm1(x))) + self.temb_proj(F.silu(time))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if "nin_shortcut" in dict(self.named_children()) else x)


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = norm(width)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x):
        n, c, h, w = x.shape
        q, k, v = (layer(self.norm(x)).reshape(n, c, h * w) for layer in (self.q, self.k, self.v))
        weights = torch.einsum("ncq,nck->nqk", q, k).div(math.sqrt(c)).softmax(dim=2)
        return x + self.proj_out(torch.einsum("nck,nqk->ncq", v, weights).reshape(n, c, h, w))


def holder(**children):
    module = nn.Module()
    for name, child in children.items():
        module.add_module(name, child)
    return module


class Reference(nn.Module):
    def __init__(self, *, width, multipliers, num_blocks, attention_level):
        super().__init__()
        self.width, self.num_blocks, time = width, num_blocks, 4 * width
        self.temb = holder(dense=nn.ModuleList([nn.Linear(width, time), nn.Linear(time, time)]))
        self.conv_in = nn.Conv2d(3, width, 3, padding=1)
        self.down, current, kept = nn.ModuleList(), width, [width]
        for level, multiplier in enumerate(multipliers):
            block, attn = nn.ModuleList(), nn.ModuleList()
            for _ in range(num_blocks):
                block.append(Block(current, width * multiplier, time))
                current = width * multiplier
                attn.extend([Attention(current)] if level == attention_level else [])
                kept.append(current)
            self.down.append(holder(block=block, attn=attn))
            if level + 1 < len(multipliers):
                self.down[-1].add_module("downsample", holder(conv=nn.Conv2d(current, current, 3, stride=2)))
                kept.append(current)
        self.mid = holder(
            block_1=Block(current, current, time), attn_1=Attention(current), block_2=Block(current, current, time)
        )
        levels = []
        for level, multiplier in reversed(list(enumerate(multipliers))):
            block, attn = nn.ModuleList(), nn.ModuleList()
            for _ in range(num_blocks + 1):
                block.append(Block(current + kept.pop(), width * multiplier, time))
                current = width * multiplier
                attn.extend([Attention(current)] if level == attention_level else [])
            levels.insert(0, holder(block=block, attn=attn))
            if level:
                levels[0].add_module("upsample", holder(conv=nn.Conv2d(current, current, 3, padding=1)))
        self.up = nn.ModuleList(levels)
        self.norm_out, self.conv_out = norm(current), nn.Conv2d(current, 3, 3, padding=1)

    def forward(self, x, t):
        half = self.width // 2
        angles = t.float()[:, None] * torch.exp(torch.arange(half) * -(math.log(10000) / (half - 1)))[None]
        time = torch.cat([angles.sin(), angles.cos()], dim=1)
        time = self.temb.dense[1](F.silu(self.temb.dense[0](time)))
        kept = [self.conv_in(x)]
        for level in self.down:
            for index, block in enumerate(level.block):
                h = block(kept[-1], time)
                kept.append(level.attn[index](h) if len(level.attn) else h)
            if "downsample" in dict(level.named_children()):
                kept.append(level.downsample.conv(F.pad(kept[-1], (0, 1, 0, 1))))
        h = self.mid.block_2(self.mid.attn_1(self.mid.block_1(kept[-1], time)), time)
        for level in reversed(self.up):
            for index, block in enumerate(level.block):
                h = block(torch.cat([h, kept.pop()], dim=1), time)
                h = level.attn[index](h) if len(level.attn) else h
            if "upsample" in dict(level.named_children()):
                h = level.upsample.conv(h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
        return self.conv_out(F.silu(self.norm_out(h)))
