"""A strong lottery ticket: a generator whose weights stay at random values, and scores that say which of them it uses.

Source: Yeo et al., "Can We Find Strong Lottery Tickets in Generative Models?", 2023, released code; after Ramanujan et
al., "What's Hidden in a Randomly Weighted Neural Network?", 2020.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from limbeck.architectures.base import Maskable, Network, class_path, network_class
from limbeck.architectures.uncut import Uncut
from limbeck.errors import UserError
from limbeck.functional.sparsity import chosen, num_kept, pooled_masks, top_mask

STD = 0.02  # of weights, and of normalization weights around 1
WEIGHT_SCORE, BIAS_SCORE = 0.1, 1.0  # scores start uniformly in plus or minus this
CHOSEN, LEFT = 0.1, 0.05  # scores of a ticket from a file, which keeps no more than their order
BITS, HASH = "bits", "seeded_sha256"


def seeded_state(network: Network, seed: int, init: str) -> dict[str, Tensor]:
    """Random values, on the CPU, of all weights, biases and normalization parameters of a network of any device.

    init: "normal": weights N(0, 0.02^2), biases of convolutions uniform in +-1 / sqrt(fan-in), of linear layers 0,
    normalization N(1, 0.02^2) with biases 0; it is what the released script trains with. "signed_constant": weights
    +-sqrt(2 / fan-in) with random signs, all biases uniform, normalization 1 and 0; it is what its configuration asks
    for. Fan-in as torch.nn.init counts it, which for transposed convolutions is the number of outputs.
    """
    numbers = torch.Generator().manual_seed(seed)
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    norms, state = network.refinable(), {}
    for layer in network.maskable():
        shape = shapes[layer.weight]
        fan_in = math.prod(shape[1:])
        if init == "normal":
            state[layer.weight] = torch.randn(shape, generator=numbers) * STD
        else:
            signs = torch.rand(shape, generator=numbers) < 0.5
            state[layer.weight] = torch.where(signs, -1.0, 1.0) * math.sqrt(2 / fan_in)
        if layer.bias is not None:
            spread = 0.0 if init == "normal" and len(shape) == 2 else 1 / math.sqrt(fan_in)
            state[layer.bias] = (torch.rand(shapes[layer.bias], generator=numbers) * 2 - 1) * spread
    for name in norms.norm_weights:
        spread = STD if init == "normal" else 0.0
        state[name] = 1 + torch.randn(shapes[name], generator=numbers) * spread
    return state | {name: torch.zeros(shapes[name]) for name in norms.norm_biases}


def seeded_scores(layers: tuple[Maskable, ...], shapes: Mapping[str, torch.Size], seed: int) -> dict[str, Tensor]:
    """First scores of all weights, uniform in +-0.1, and biases, uniform in +-1, by the name of what they score."""
    numbers, scores = torch.Generator().manual_seed(seed + 1), {}
    for name, spread in _scored(layers).items():
        scores[name] = (torch.rand(shapes[name], generator=numbers) * 2 - 1) * spread
    return scores


def _scored(layers: tuple[Maskable, ...]) -> dict[str, float]:
    """Weights and biases in their order, with the spread of their first scores."""
    found = {}
    for layer in layers:
        found[layer.weight] = WEIGHT_SCORE
        if layer.bias is not None:
            found[layer.bias] = BIAS_SCORE
    return found


class Ticket(Uncut):
    """Latent [n, z_dim] to image, by the weights whose scores are largest in magnitude; the scores alone are trained.

    network, network_arguments: class path and constructor arguments of the generator. keep_ratio: share of weights in
    use, in (0, 1]. seed, init: of the weights, see `seeded_state`. scope: "layer" keeps the same share of every layer,
    "global" ranks all weights together, and all biases.

    Normalization parameters stay at their first values too; running statistics are measured as ever. A file holds the
    seed, one bit for each weight and bias, and the statistics. No channel is cut: weights are chosen one by one.
    """

    called = "ticket"

    def __init__(
        self,
        *,
        network: str,
        network_arguments: Mapping[str, Any],
        keep_ratio: float = 0.1,
        seed: int = 31,
        init: Literal["normal", "signed_constant"] = "normal",
        scope: Literal["layer", "global"] = "layer",
    ):
        super().__init__()
        num_kept(1, keep_ratio)
        if init not in ("normal", "signed_constant"):
            raise UserError(f"init={init!r}: must be 'normal' or 'signed_constant'")
        if scope not in ("layer", "global"):
            raise UserError(f"scope={scope!r}: must be 'layer' or 'global'")
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63 - 1:
            raise UserError(f"seed={seed}: must be a whole number, at least 0")
        self._arguments = {
            "network": network,
            "network_arguments": dict(network_arguments),
            "keep_ratio": keep_ratio,
            "seed": seed,
            "init": init,
            "scope": scope,
        }
        with torch.random.fork_rng(devices=[]):
            inner = network_class(network)(**network_arguments)
        self.layers = inner.maskable()
        self._check(inner)
        for name in ("resolution", "num_channels", "num_classes", "latent_shape", "draws_from", "z_dim"):
            setattr(self, name, getattr(inner, name))
        self.measured_buffers = inner.measured_buffers
        self.statistics = {f"network.{name}" for name, _ in inner.named_buffers()}
        state = inner.state_dict()
        on_meta = next(iter(state.values())).is_meta
        if not on_meta:
            inner.load_state_dict(seeded_state(inner, seed, init), strict=False)
        for module in inner.modules():  # buffers, so that nothing trains them
            for name, parameter in list(module.named_parameters(recurse=False)):
                delattr(module, name)
                module.register_buffer(name, parameter.detach())
        self.network = inner
        scores = {name: state[name] for name in _scored(self.layers)} if on_meta else self._first_scores()
        self.scores = nn.ParameterDict({_key(name): nn.Parameter(score) for name, score in scores.items()})

    def _check(self, inner: Network) -> None:
        norms = inner.refinable()
        covered = {*_scored(self.layers), *norms.norm_weights, *norms.norm_biases}
        other = [name for name, _ in inner.named_parameters() if name not in covered]
        if other or not self.layers or inner.num_classes or inner.draws_from != "noise" or len(inner.latent_shape) != 1:
            raise UserError(f"{type(inner).__name__}: no plain generator, which a ticket needs")

    @classmethod
    def of(cls, network: Network, **settings: Any) -> "Ticket":
        """A ticket of this network's shape."""
        return cls(network=class_path(network), network_arguments=network.arguments, **settings)

    def forward(self, latent: Tensor) -> Tensor:
        weights = {
            name: chosen(self.network.get_buffer(name), self.scores[_key(name)], mask)
            for name, mask in self.own_masks().items()
        }
        return functional_call(self.network, weights, (latent,))

    def draw(self, latent: Tensor, label: Tensor | None = None, **_others: Any) -> Tensor:
        """The images of one forward pass."""
        return self(latent)

    def solid(self) -> Network:
        """The plain generator whose weights are those in use, the others zero."""
        generator = network_class(self._arguments["network"])(**self._arguments["network_arguments"])
        masks, state = self.own_masks(), self.network.state_dict()
        generator.load_state_dict({n: torch.where(masks[n], v, 0) if n in masks else v for n, v in state.items()})
        return generator.to(next(self.parameters())).train(self.training)

    def own_masks(self) -> dict[str, Tensor]:
        """True for the weights and biases in use, by their names in the generator."""
        return self._masks({name: self.scores[_key(name)] for name in _scored(self.layers)})

    def _masks(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        ratio = self._arguments["keep_ratio"]
        if self._arguments["scope"] == "layer":
            return {name: top_mask(score, ratio) for name, score in scores.items()}
        weights = [layer.weight for layer in self.layers]
        found: dict[str, Tensor] = {}
        for pool in (weights, [name for name in scores if name not in weights]):
            if pool:
                found |= dict(zip(pool, pooled_masks([scores[name] for name in pool], ratio), strict=True))
        return {name: found[name] for name in scores}

    def _first_scores(self) -> dict[str, Tensor]:
        shapes = {name: value.shape for name, value in self.network.state_dict().items()}
        return seeded_scores(self.layers, shapes, self._arguments["seed"])

    def packed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Running statistics, one bit for each weight and bias, and a digest of the seeded values."""
        held = {name: value for name, value in state.items() if name in self.statistics}
        seeded = {name: value for name, value in state.items() if name.startswith("network.") and name not in held}
        masks = torch.cat([mask.flatten().cpu() for mask in self.own_masks().values()])
        return {**held, BITS: torch.from_numpy(np.packbits(masks.numpy())), HASH: sha256(seeded)}

    def unpacked(self, held: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scores have the order that a file tells, and are the first ones where the file chooses the same as these."""
        shapes = {name: value.shape for name, value in self.network.state_dict().items()}
        names, seed = [*_scored(self.layers)], self._arguments["seed"]
        sizes = [shapes[name].numel() for name in names]
        bits, digest = (held.pop(name, torch.empty(0)) for name in (BITS, HASH))
        if bits.dtype != torch.uint8 or bits.shape != (-(-sum(sizes) // 8),):
            raise UserError(f"tensor {BITS!r}: {sum(sizes)} weights and biases take {-(-sum(sizes) // 8)} bytes")
        seeded = {f"network.{n}": v for n, v in seeded_state(self.network, seed, self._arguments["init"]).items()}
        if not torch.equal(sha256(seeded), digest):
            raise UserError(
                f"torch {torch.__version__} draws other weights from seed {seed} than were drawn for this ticket; "
                "load it with the version of torch that wrote it"
            )
        flat = torch.from_numpy(np.unpackbits(bits.numpy())[: sum(sizes)].astype(bool))
        masks = {n: mask.reshape(shapes[n]) for n, mask in zip(names, flat.split(sizes), strict=True)}
        scores = self._first_scores()
        if any(not torch.equal(mask, masks[name]) for name, mask in self._masks(scores).items()):
            scores = {name: torch.where(mask, CHOSEN, LEFT) for name, mask in masks.items()}
        return {**held, **seeded, **{f"scores.{_key(name)}": score for name, score in scores.items()}}

    def macs(self) -> int:
        """Those of the generator with all its weights, by its own rule; zeros among them save nothing by themselves."""
        return self.network.macs()

    def example_inputs(self, num_images: int = 1) -> dict[str, Tensor]:
        return self.network.example_inputs(num_images)


def sha256(tensors: Mapping[str, Tensor]) -> Tensor:
    """Digest, uint8 [32], of the values in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].detach().cpu().contiguous().numpy().tobytes())
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)


def _key(name: str) -> str:
    """A parameter's name as a key, which may hold no dots."""
    return name.replace(".", "/")
