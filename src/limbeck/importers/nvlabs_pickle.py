"""NVIDIA's `.pkl` files of StyleGAN2 and 3 (stylegan2-ada-pytorch and stylegan3 repositories, SVS students).

Each network in them is stored as a call that executes the Python source stored beside it. Nothing is executed here:
that call becomes an inert record, from which tensors and a few settings are read. The older TensorFlow files are
recognized here too, see `nvlabs_tensorflow`.
Source: the two public repositories' pickling code; layout in words only, nothing of it is copied.
"""

import io
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.architectures.stylegan3 import OUTPUT_SCALE
from limbeck.errors import CheckpointError, UserError
from limbeck.importers import nvlabs_state, nvlabs_tensorflow, restricted_pickle, stylegan2, stylegan3, torch_file
from limbeck.importers.foreign import Facts, unwrapped
from limbeck.importers.restricted_pickle import Allowed, FileBytes, Record
from limbeck.model import Model

MAX_MODULES = 10_000


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor still in the bytes of its file."""

    storage: bytes | FileBytes
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def read(self) -> Tensor:
        """The tensor; storage bytes are themselves a nested file of torch, read in weights-only mode."""
        data = self.storage.read() if isinstance(self.storage, FileBytes) else self.storage
        storage = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        values = torch.empty(0, dtype=storage.dtype).set_(storage._untyped_storage)
        last = self.offset + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        numbers = (self.offset, *self.size, *self.stride)
        # Checked here because torch would silently enlarge a storage that is too short.
        if min(numbers) < 0 or (0 not in self.size and last >= len(values)) or _product(self.size) > len(values):
            raise CheckpointError(f"a tensor of shape {self.size} without its data")
        return values.as_strided(self.size, self.stride, self.offset)


@dataclass(frozen=True, slots=True)
class StoredModule:
    """A network or layer as stored: the name of its class and its attributes."""

    class_name: str
    state: dict[str, Any]

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.state.get(name, default)

    def children(self) -> dict[str, "StoredModule"]:
        return {name: child for name, child in self.state.get("_modules", {}).items() if child is not None}


def load(path: str | Path, facts: Facts) -> Model:
    """Read G_ema (or G) and D of such a file.

    Raises: CheckpointError if the file names anything unexpected, is damaged, or holds other networks.
    """
    content = restricted_pickle.read(path, _allowed())
    try:
        return _model(content, path, facts)
    except UserError as error:
        if not isinstance(error, CheckpointError):
            raise
        raise CheckpointError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    except Exception as error:  # the records hold what the file's author put there
        raise CheckpointError(f"{path}: not a StyleGAN2 or 3 network file ({torch_file.reason(error)})") from error


def _allowed() -> Allowed:
    """Names a file may use. Made anew for each file, so that no file can leave a trace in them."""

    def storage(data: bytes | FileBytes) -> bytes | FileBytes:
        if not isinstance(data, (bytes, FileBytes)):
            raise CheckpointError("refused: a storage that is not bytes")
        return data

    def tensor(data: bytes | FileBytes, offset: int, size: tuple, stride: tuple, *_rest: Any) -> StoredTensor:
        return StoredTensor(data, int(offset), tuple(map(int, size)), tuple(map(int, stride)))

    def parameter(data: StoredTensor, *_rest: Any) -> StoredTensor:
        return data

    def module(meta: dict[str, Any]) -> StoredModule:
        return StoredModule(str(meta["class_name"]), dict(meta["state"]))

    def record(kind: str) -> Callable[..., Record]:
        return lambda *arguments: Record(kind, *arguments)

    class Network(Record):
        """TensorFlow networks are made without a call, so their name must stand for a class."""

        __slots__ = ()

    def encoded(text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise CheckpointError(f"refused: bytes in the encoding {encoding!r}")
        return text.encode("latin1")  # how pickle's second protocol writes bytes

    modules = [f"numpy.{core}.multiarray" for core in ("core", "_core")]
    numpy_names = [("numpy", "dtype"), ("numpy", "ndarray")]
    numpy_names += [(module, name) for module in modules for name in ("scalar", "_reconstruct")]
    return {
        ("collections", "OrderedDict"): OrderedDict,
        ("builtins", "set"): set,
        ("_codecs", "encode"): encoded,
        ("dnnlib.util", "EasyDict"): dict,
        ("torch._utils", "_rebuild_tensor_v2"): tensor,
        ("torch._utils", "_rebuild_parameter"): parameter,
        ("torch.storage", "_load_from_bytes"): storage,
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): module,
        ("dnnlib.tflib.network", "Network"): Network,
        **{(module, name): record(name) for module, name in numpy_names},
    }


def _model(content: Any, path: str | Path, facts: Facts) -> Model:
    if nvlabs_tensorflow.recognized(content):
        return nvlabs_tensorflow.model(content, path, facts)
    if not isinstance(content, dict) or not isinstance(content.get("G_ema", content.get("G")), StoredModule):
        raise CheckpointError("not a StyleGAN2 or 3 network file: no network named G_ema or G in it")
    role = "G_ema" if "G_ema" in content else "G"
    stored, judge = content[role], content.get("D")
    content.clear()  # frees what is not read
    _refuse_other_generators(stored)
    where = str(path)
    generator = _generator(stored, where, facts)
    history = {"format": "nvlabs_pickle", "network": role, "file": os.path.basename(path), **facts.entry(where)}
    discriminator = None
    if judge is not None:
        blocks = judge.children()
        top = next(block for name, block in blocks.items() if name == f"b{judge.attribute('img_resolution')}")
        if top.attribute("architecture") == "resnet":
            discriminator = stylegan2.discriminator(
                _state(judge, where),
                where=where,
                clamp=top.children()["conv0"].attribute("conv_clamp"),
                group_size=blocks["b4"].children()["mbstd"].attribute("group_size"),
            )
        else:
            history["discriminator"] = f"not read: architecture {top.attribute('architecture')!r}, not 'resnet'"
    return Model(generator, discriminator, terms=nvlabs_state.TERMS).after("import", **history)


def _generator(stored: StoredModule, where: str, facts: Facts) -> Network:
    synthesis = stored.children()["synthesis"]
    if "input" not in synthesis.children():
        clamp = synthesis.children()["b4"].children()["conv1"].attribute("conv_clamp")
        return stylegan2.generator(_state(stored, where), where=where, clamp=clamp, facts=facts)
    layers = [layer for name, layer in synthesis.children().items() if name.startswith("L")]
    if not layers:
        raise CheckpointError("a StyleGAN3 network without layers")
    scale = synthesis.attribute("output_scale", OUTPUT_SCALE)
    if scale != OUTPUT_SCALE:
        raise CheckpointError(f"synthesis: output scale {scale}, expected {OUTPUT_SCALE}")
    settings = stylegan3.Settings(
        clamp=layers[0].attribute("conv_clamp"),
        magnitude_beta=layers[0].attribute("magnitude_ema_beta", 0.999),
        num_critical=synthesis.attribute("num_critical", 2),
    )
    return stylegan3.generator(_state(stored, where), settings, where=where, facts=facts)


def _refuse_other_generators(stored: StoredModule) -> None:
    synthesis = stored.children().get("synthesis", StoredModule("nothing", {}))
    for name, block in synthesis.children().items():
        if block.attribute("architecture", "skip") != "skip":
            raise CheckpointError(
                f"synthesis.{name}: architecture {block.attribute('architecture')!r}, expected 'skip'"
            )
    for name, module in _walk(stored, ""):
        if module.attribute("activation", "lrelu") not in ("lrelu", "linear"):
            raise CheckpointError(f"{name}: activation {module.attribute('activation')!r}, expected 'lrelu'")
        if name.startswith("mapping.fc") and abs(module.attribute("bias_gain", 0.01) - 0.01) > 1e-9:
            raise CheckpointError(f"{name}: learning-rate multiplier {module.attribute('bias_gain')}, expected 0.01")


def _walk(module: StoredModule, prefix: str) -> Iterator[tuple[str, StoredModule]]:
    """All modules with their dotted names, depth first."""
    waiting = [(prefix, module)]
    for _ in range(MAX_MODULES):
        if not waiting:
            return
        name, current = waiting.pop()
        yield name, current
        waiting += [(f"{name}.{child}".lstrip("."), inner) for child, inner in current.children().items()]
    raise CheckpointError(f"more than {MAX_MODULES} modules")


def _state(module: StoredModule, where: str) -> dict[str, Tensor]:
    """The state dict as the network's own `state_dict()` gives it."""
    state = {}
    limit = 2 * os.path.getsize(where)
    for prefix, current in _walk(module, ""):
        stored = {**current.attribute("_parameters", {}), **current.attribute("_buffers", {})}
        for name, value in stored.items():
            if value is None:
                continue
            tensor = value.read()
            limit -= tensor.numel() * tensor.element_size()
            if limit < 0:
                raise CheckpointError("refused: tensors larger than the file")
            state[f"{prefix}.{name}".lstrip(".")] = tensor
    return nvlabs_state.without_filters(unwrapped(state, where), where)


def _product(numbers: tuple[int, ...]) -> int:
    total = 1
    for number in numbers:
        total *= number
    return total
