"""Folders of Hugging Face diffusers with a `UNet2DModel`, from disk or from the Hub; diffusers itself is not needed.

Source: the public library's configuration keys, their defaults and module names; names and shapes only.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
from torch import Tensor

from limbeck.errors import CheckpointError, UserError
from limbeck.importers import ddpm, torch_file
from limbeck.importers.diffusers_config import network_config, read_json, schedule, square
from limbeck.importers.foreign import Facts, unwrapped
from limbeck.model import Model

TERMS = "licence of the weights not stated in the folder; a student inherits its teacher's terms"
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def recognized(folder: str | Path) -> bool:
    """Whether this is a folder of diffusers: of a pipeline, or of one network."""
    return any(os.path.isfile(Path(folder) / name) for name in ("model_index.json", "config.json", "unet/config.json"))


def load(folder: str | Path, facts: Facts) -> Model:
    """The U-Net of the folder, with the noise schedule of its scheduler; without one, of `facts`, else DDPM's.

    Raises: CheckpointError if something is missing, unreadable, or of a kind that is not supported.
    """
    folder = Path(folder)
    home = folder / "unet" if (folder / "unet" / "config.json").is_file() else folder
    config = network_config(home / "config.json")
    state, terms, names = _state(home)
    noise, sampler = schedule(folder, facts)
    try:
        arguments = {**_arguments(config, state, home, facts), **noise}
    except TypeError as error:
        raise CheckpointError(f"{home / 'config.json'}: a value of another kind ({error})") from error
    network = ddpm.network(arguments, state, where=str(home), names=names)
    history = {"format": "diffusers", "file": folder.resolve().name, **facts.entry(str(folder))}
    return Model(network, terms=terms).after("import", **history, **({"sampler": sampler} if sampler else {}))


def _arguments(config: Mapping[str, Any], state: Mapping[str, Tensor], home: Path, facts: Facts) -> dict[str, Any]:
    attending = []
    for kind in ("down", "up"):
        plain, attends = f"{kind.title()}Block2D", f"Attn{kind.title()}Block2D"
        types = list(config[f"{kind}_block_types"])[:: 1 if kind == "down" else -1]
        if not set(types) <= {plain, attends}:
            raise CheckpointError(f"{home}: {kind}_block_types: {types}, supported: {plain}, {attends}")
        attending.append([index for index, name in enumerate(types) if name == attends])
    layout = ddpm.layout(state, str(home))
    num_levels = layout.pop("num_levels")
    found = {
        "down_block_types": (len(config["down_block_types"]), num_levels),
        "block_out_channels": (len(config["block_out_channels"]), num_levels),
        "up_block_types": (attending[1], attending[0]),
        "attention": (attending[0], layout["attention_levels"]),
        "layers_per_block": (config["layers_per_block"], layout["blocks_per_level"]),
        "out_channels": (config["out_channels"], config["in_channels"]),
    }
    for name, (stated, wanted) in found.items():
        if stated != wanted:
            raise CheckpointError(f"{home}: {name}: {stated} in the configuration, expected {wanted}")
    return {
        **layout,
        "resolution": square(config["sample_size"], num_levels, home, facts),
        "num_channels": config["in_channels"],
        "level_widths": config["block_out_channels"],
        "head_width": config["attention_head_dim"],
        "norm_groups": config["norm_num_groups"],
        "norm_eps": config["norm_eps"],
        "dropout": config["dropout"],
        "down_padding": config["downsample_padding"],
        "time_shift": config["freq_shift"],
        "cosine_first": config["flip_sin_to_cos"],
    }


def _state(home: Path) -> tuple[dict[str, Tensor], str, dict[str, str]]:
    """The tensors, under today's names and in their shapes; the licence note if an export of ours left one; names."""
    files = pieces(home)
    content: dict[str, Any] = {}
    terms = TERMS
    for file in files:
        part, noted = (torch_file.read(file), None) if file.suffix == ".bin" else _safetensors(file)
        terms = noted or terms
        if not isinstance(part, Mapping) or not all(isinstance(value, Tensor) for value in part.values()):
            raise CheckpointError(f"{file}: not a state dict")
        repeated = sorted(set(part) & set(content))
        if repeated:
            raise CheckpointError(f"{file}: tensor {repeated[0]!r} is in another piece too")
        content |= part
    bare = unwrapped(content, str(home))
    state = {_new_name(str(name)): _in_shape(str(name), value) for name, value in bare.items()}
    return state, terms, _old_names(bare)


def pieces(home: Path) -> list[Path]:
    """The files that hold the weights, one or several.

    Raises: CheckpointError naming a piece that is missing, or what was looked for.
    """
    for name in WEIGHTS:
        if (home / name).is_file():
            return [home / name]
        index = home / f"{name}.index.json"
        if index.is_file():
            return _listed(index)
    raise CheckpointError(f"{home}: no weights; expected {' or '.join(WEIGHTS)}, or {WEIGHTS[0]}.index.json and pieces")


def _listed(index: Path) -> list[Path]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise CheckpointError(f"{index}: expected 'weight_map', names of tensors to files")
    files = [index.parent / name for name in sorted(set(names.values()))]
    for file in files:
        if file.parent != index.parent or file.suffix not in (".safetensors", ".bin"):
            raise CheckpointError(f"{index}: refused: {file.name!r}; pieces lie beside it")
        if not file.is_file():
            raise CheckpointError(f"{file}: a piece of the weights is missing; {index.name} lists {len(files)} of them")
    return files


def _safetensors(file: Path) -> tuple[dict[str, Tensor], str | None]:
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            terms = (opened.metadata() or {}).get("terms")
            return {name: opened.get_tensor(name) for name in opened.keys()}, terms  # noqa: SIM118 - not a mapping
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: unreadable ({' '.join(str(error).split())})") from error


def _old_names(state: Mapping[str, Any]) -> dict[str, str]:
    """Today's names of a file with names of before 2023 to its own, also of tensors that are missing in it."""
    blocks = {name.rpartition(".")[0].rpartition(".")[0] for name in state if _new_name(name) != name}
    theirs = [f"{block}.{layer}.{kind}" for block in blocks for layer in OLD_NAMES for kind in ("weight", "bias")]
    return {_new_name(name): name for name in theirs}


def _new_name(name: str) -> str:
    """Attention layers were called otherwise before 2023."""
    block, _, rest = name.partition(".attentions.")
    parts = rest.split(".")
    if len(parts) == 3 and parts[1] in OLD_NAMES:
        return f"{block}.attentions.{parts[0]}.{OLD_NAMES[parts[1]]}.{parts[2]}"
    return name


def _in_shape(name: str, value: Tensor) -> Tensor:
    return ddpm.as_matrix(value) if ".attentions." in name else value


class Hub:
    """A teacher stage: the folder of a model on the Hugging Face Hub, from this machine's cache if it is there.

    name: "owner/name". revision: a commit or tag; None is the newest. facts: what the folder does not say.
    """

    def __init__(self, name: str, *, revision: str | None = None, **facts: Any):
        self.name = name
        self.revision = revision
        self.facts = facts

    def __call__(self) -> Model:
        """Raises: UserError if it can be had neither from the network nor from the cache."""
        way_out = "or name a copy on disk: teacher=ddpm teacher.path=FOLDER"
        try:
            from huggingface_hub import snapshot_download
        except ImportError as error:
            raise UserError(f"teacher.name={self.name}: needs `pip install huggingface_hub`, {way_out}") from error
        try:
            weights = [file for name in WEIGHTS for file in (name, name.replace(".", "-*-of-*.", 1))]
            wanted = ["*.json", "*/*.json", *weights, *(f"*/{name}" for name in weights)]
            folder = snapshot_download(self.name, revision=self.revision, allow_patterns=wanted)
        except Exception as error:  # no network, no such name, no right to it: dozens of types
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"teacher.name={self.name}: cannot be fetched ({type(error).__name__}: {reason}), {way_out}"
            ) from error
        return load(folder, Facts(self.facts)).after("import", hub=self.name)
