"""Files of pretrained weights: where they lie on this machine, what is said when they do not, how they are read.

Nothing here waits for a network that may be absent: a file is named by its path or lies where the libraries keep their
downloads; only `download: true` lets it be fetched, with a short time limit.
"""

import shutil
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from limbeck.errors import UserError
from limbeck.files import written_aside

WRAPPERS = ("state_dict", "model", "teacher")  # keys under which training checkpoints keep a network
PREFIXES = ("module.", "_orig_mod.", "backbone.")
SECONDS = 10.0


@dataclass(frozen=True)
class Origin:
    """Where weights can be had: files of a Hugging Face repository, best first, and / or a plain address."""

    repository: str | None = None
    files: tuple[str, ...] = ()
    url: str | None = None

    def on_this_machine(self) -> Path | None:
        """The file where a library has put it before; no network."""
        for file in self.files if self.repository else ():
            found = huggingface_hub.try_to_load_from_cache(self.repository or "", file)
            if isinstance(found, str):
                return Path(found)
        kept = self._kept()
        return kept if kept is not None and kept.is_file() else None

    def fetched(self) -> Path:
        """Download the first file that is there. Raises: whatever the network raises."""
        if self.repository:
            for file in self.files[:-1]:
                try:
                    return self._from_hub(file)
                except huggingface_hub.errors.EntryNotFoundError:
                    continue
            return self._from_hub(self.files[-1])
        kept = self._kept()
        if self.url is None or kept is None:
            raise FileNotFoundError("no address is known for these weights")
        with (
            urllib.request.urlopen(self.url, timeout=SECONDS) as source,
            written_aside(kept) as aside,
            open(aside, "wb") as target,
        ):
            shutil.copyfileobj(source, target)
        return kept

    def words(self) -> str:
        """How to get the weights by hand."""
        if self.repository:
            return f"get them with: hf download {self.repository} {self.files[0]}"
        return f"get them from {self.url}" if self.url else "no address is known for them"

    def _from_hub(self, file: str) -> Path:
        return Path(huggingface_hub.hf_hub_download(self.repository or "", file, etag_timeout=SECONDS))

    def _kept(self) -> Path | None:
        """Where torchvision and timm put a download."""
        return Path(torch.hub.get_dir()) / "checkpoints" / Path(self.url).name if self.url else None


def weights_file(name: str, path: str | Path | None, origin: Origin, *, download: bool) -> Path:
    """The file of the weights: `path`, or else where a library keeps its download, or else (if allowed) downloaded.

    name: of the embedding, opens every message. Raises: UserError if there is no such file.
    """
    if path is not None:
        if not Path(path).is_file():
            raise UserError(f"embedding {name}: source.path={path}: no such file; {origin.words()}")
        return Path(path)
    found = origin.on_this_machine()
    if found is not None:
        return found
    if not download:
        raise UserError(
            f"embedding {name}: its weights are not on this machine; {origin.words()}, or name a file with its "
            "source.path=FILE, or allow the download with its source.download=true"
        )
    try:
        return origin.fetched()
    except Exception as error:  # a network fails in many ways
        reason = _one_line(error)
        raise UserError(
            f"embedding {name}: the download failed ({reason}); {origin.words()}, and name the file with its "
            "source.path=FILE"
        ) from error


def stored_tensors(name: str, path: Path) -> dict[str, Tensor]:
    """The tensors of a file (safetensors, or torch.save of tensors only), without wrappers and their prefixes.

    Raises: UserError if the file is unreadable, or holds anything but tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        stored = torch.load(path, map_location="cpu", weights_only=True)
        for wrapper in WRAPPERS:
            if isinstance(stored.get(wrapper), Mapping):
                stored = stored[wrapper]
        return {_plain(key): value for key, value in stored.items() if isinstance(value, Tensor)}
    except Exception as error:  # torch.load raises many kinds for a damaged file
        raise UserError(f"embedding {name}: {path}: not a file of weights ({_one_line(error)})") from error


def fill(network: nn.Module, stored: Mapping[str, Tensor], *, name: str, spare: Sequence[str] = ()) -> None:
    """Copy the tensors into the network.

    spare: beginnings of names that the file may have beyond the network's (a classifier that was taken off).
    Raises: UserError naming the first tensor that is missing, left over or misshaped.
    """
    expected = network.state_dict()
    given = {key: value for key, value in stored.items() if key in expected or not key.startswith(tuple(spare))}
    for key in (*expected, *given):
        if key not in given and not key.endswith("num_batches_tracked"):
            raise UserError(f"embedding {name}: the weights are of another network: {key} is missing")
        if key not in expected:
            raise UserError(f"embedding {name}: the weights are of another network: {key} is left over")
        if key in given and given[key].shape != expected[key].shape:
            shapes = f"{tuple(given[key].shape)}, expected {tuple(expected[key].shape)}"
            raise UserError(f"embedding {name}: the weights are of another network: {key} has shape {shapes}")
    network.load_state_dict(given, strict=False)


def _plain(key: str) -> str:
    for prefix in PREFIXES:
        key = key.removeprefix(prefix)
    return key


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
