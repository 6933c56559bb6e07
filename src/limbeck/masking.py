"""Masks of weights: which entries of a network's parameters are switched off, and how a file keeps them.

A mask is a bool tensor of its parameter's shape, false where the value is held at zero. Which layers masks may cover is
declared by the architecture (`Network.maskable`); masks of whole channels also cover what belongs to these channels.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from jaxtyping import Bool, Shaped, UInt8
from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.errors import CheckpointError, UserError

Masks = Mapping[str, Tensor]


def check_masks(network: Network, masks: Masks) -> None:
    """Raises: UserError naming the first mask that belongs to no parameter, or has another shape or type."""
    parameters = dict(network.named_parameters())
    for name, mask in masks.items():
        if name not in parameters:
            raise UserError(f"mask {name!r}: no such parameter of a {type(network).__name__}")
        if mask.shape != parameters[name].shape or mask.dtype != torch.bool:
            found, wanted = tuple(mask.shape), tuple(parameters[name].shape)
            raise UserError(f"mask {name!r}: is {mask.dtype} {found}, expected torch.bool {wanted}")


@torch.no_grad()
def switch_off(network: Network, masks: Masks) -> None:
    """Set the masked entries of the network's parameters to zero, in place. Raises: UserError, see `check_masks`."""
    check_masks(network, masks)
    for name, mask in masks.items():
        network.get_parameter(name).masked_fill_(~mask.to(network.get_parameter(name).device), 0)


def num_effective(network: Network, masks: Masks) -> int:
    """Parameters that are not switched off."""
    total = sum(parameter.numel() for parameter in network.parameters())
    return total - sum(int((~mask).sum()) for mask in masks.values())


def layer_sparsity(network: Network, masks: Masks) -> dict[str, float]:
    """Share of switched-off weights in [0, 1] of every layer that masks may cover, by its weight's name."""
    weights = [layer.weight for layer in network.maskable()] or [name for name, m in masks.items() if m.ndim > 1]
    return {name: float((~masks[name]).double().mean()) if name in masks else 0.0 for name in weights}


# -- in files ------------------------------------------------------------------------------------------------

BITS, VALUES = ":mask", ":kept"  # endings of the two tensors that stand for a masked one


def packed_bits(mask: Bool[Tensor, "*shape"]) -> UInt8[Tensor, " bytes"]:
    """One bit an entry in row-major order, the first entry in a byte's highest bit, the last byte filled with zeros."""
    return torch.from_numpy(np.packbits(mask.cpu().contiguous().numpy()))


def unpacked_bits(bits: Tensor, shape: torch.Size) -> Bool[Tensor, "*shape"]:
    """The inverse of `packed_bits`. Raises: ValueError if there are more or fewer bits than entries."""
    size = shape.numel()
    if bits.dtype != torch.uint8 or bits.shape != (-(-size // 8),):
        raise ValueError(f"a mask of {size} entries takes {-(-size // 8)} bytes, found {bits.dtype} {list(bits.shape)}")
    found = np.unpackbits(bits.numpy())
    if found[size:].any():
        raise ValueError(f"a mask of {size} entries has bits set beyond them")
    return torch.from_numpy(found[:size].astype(bool)).reshape(shape)


def packed(name: str, tensor: Shaped[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]) -> Iterator[tuple[str, Tensor]]:
    """What a file holds of a masked tensor: one bit an entry, and the values that are kept, in row-major order."""
    yield name + BITS, packed_bits(mask)
    yield name + VALUES, tensor[mask.to(tensor.device)]


def unpacked(name: str, held: dict[str, Tensor], shape: torch.Size, *, where: str) -> tuple[Tensor, Tensor]:
    """The tensor and its mask; their two entries of `held` are taken out.

    where: opens error messages. Raises: CheckpointError if an entry is missing or does not fit the shape.
    """
    missing = [ending for ending in (BITS, VALUES) if name + ending not in held]
    if missing:
        raise CheckpointError(f"{where}: tensor {name + missing[0]!r} is missing")
    bits, values = held.pop(name + BITS), held.pop(name + VALUES)
    try:
        mask = unpacked_bits(bits, shape)
    except ValueError as error:
        raise CheckpointError(f"{where}: tensor {name + BITS!r}: {error}") from error
    kept = int(mask.sum())
    if values.shape != (kept,):
        raise CheckpointError(f"{where}: tensor {name + VALUES!r} has shape {tuple(values.shape)}, expected ({kept},)")
    tensor = torch.zeros(shape, dtype=values.dtype)
    tensor[mask] = values
    return tensor, mask
