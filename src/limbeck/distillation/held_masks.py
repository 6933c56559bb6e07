"""Masks of the student's weights while it is trained: what they switch off stays exactly zero."""

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from limbeck.architectures.base import Network
from limbeck.masking import Masks, check_masks


class HeldMasks(nn.Module):
    """Applied to the student after every optimizer step, and to its gradients before it.

    Forward passes, momentum and clipping then see what they would see if the weights were not there. The masks travel
    in the checkpoint.
    """

    def __init__(self, masks: Masks):
        super().__init__()
        self.off = {name: ~mask for name, mask in masks.items()}

    def current(self) -> dict[str, Tensor]:
        """The masks in force, on the CPU."""
        return {name: ~off.cpu() for name, off in self.off.items()}

    def replace(self, masks: Masks, *networks: Network) -> None:
        """Put other masks in force, and switch off in these networks what they say."""
        for network in networks:
            check_masks(network, masks)
        self.off = {name: ~mask for name, mask in masks.items()}
        for network in networks:
            self.hold(network)

    @torch.no_grad()
    def hold(self, network: nn.Module) -> None:
        """Set what is switched off to zero."""
        for name, off in self.off.items():
            network.get_parameter(name).masked_fill_(off, 0)

    @torch.no_grad()
    def hold_gradients(self, network: nn.Module) -> None:
        """Set the gradients of what is switched off to zero."""
        for name, off in self.off.items():
            gradient = network.get_parameter(name).grad
            if gradient is not None:
                gradient.masked_fill_(off, 0)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        destination |= {prefix + name: ~off for name, off in self.off.items()}

    def _load_from_state_dict(self, state_dict: Mapping[str, Tensor], prefix: str, *others: Any) -> None:
        """The masks are those of the state, whichever there were before."""
        device = next((off.device for off in self.off.values()), "cpu")
        found = {name.removeprefix(prefix): mask for name, mask in state_dict.items() if name.startswith(prefix)}
        self.off = {name: ~mask.to(device) for name, mask in found.items()}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.off = {name: fn(off) for name, off in self.off.items()}
        return super()._apply(fn, recurse)
