"""Masks of the student's weights while it is trained: what they switch off stays exactly zero."""

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from limbeck.architectures.base import Network
from limbeck.masking import Masks, check_masks

INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class HeldMasks(nn.Module):
    """Applied to the student after every optimizer step, and to its gradients before it.

    Forward passes, momentum and clipping then see what they would see if the weights were not there. The masks travel
    in the checkpoint.
    """

    def __init__(self, masks: Masks):
        super().__init__()
        self.masks = dict(masks)
        self._bits: dict[tuple, Tensor] = {}

    def current(self) -> dict[str, Tensor]:
        """The masks in force, on the CPU."""
        return {name: mask.cpu() for name, mask in self.masks.items()}

    def replace(self, masks: Masks, *networks: Network) -> None:
        """Put other masks in force, and switch off in these networks what they say."""
        for network in networks:
            check_masks(network, masks)
        parameters = dict(networks[0].named_parameters())
        self.masks = {name: mask.to(parameters[name].device) for name, mask in masks.items()}
        self._bits.clear()
        for network in networks:
            self.hold(network)

    @torch.no_grad()
    def hold(self, network: nn.Module) -> None:
        """Set what is switched off to zero."""
        for name in self.masks:
            self._clear(network.get_parameter(name), name)

    @torch.no_grad()
    def hold_gradients(self, network: nn.Module) -> None:
        """Set the gradients of what is switched off to zero."""
        for name in self.masks:
            gradient = network.get_parameter(name).grad
            if gradient is not None:
                self._clear(gradient, name)

    def _clear(self, tensor: Tensor, name: str) -> None:
        """Zero what is switched off, in place, by clearing all its bits.

        Filling by a mask takes tens of times as long on a CPU, and multiplying by zero leaves -0, infinity and NaN.
        """
        integer = INTEGERS[tensor.element_size()]
        key = (name, integer, tensor.stride(), tensor.device)
        if key not in self._bits:  # all bits set where the weight is in use
            self._bits[key] = torch.empty_like(tensor, dtype=integer).copy_(self.masks[name]).neg_()
        tensor.view(integer).bitwise_and_(self._bits[key])

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        destination |= {prefix + name: mask for name, mask in self.masks.items()}

    def _load_from_state_dict(self, state_dict: Mapping[str, Tensor], prefix: str, *others: Any) -> None:
        """The masks are those of the state, whichever there were before."""
        device = next((mask.device for mask in self.masks.values()), "cpu")
        found = {name.removeprefix(prefix): mask for name, mask in state_dict.items() if name.startswith(prefix)}
        self.masks = {name: mask.to(device) for name, mask in found.items()}
        self._bits.clear()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.masks = {name: fn(mask) for name, mask in self.masks.items()}
        self._bits.clear()
        return super()._apply(fn, recurse)
