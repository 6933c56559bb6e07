"""Models on a Hugging Face Hub: `hub:OWNER/NAME` or `hub:OWNER/NAME@REVISION`, from this machine's cache if there."""

import os
from pathlib import Path
from typing import Any

from limbeck.errors import UserError

PREFIX = "hub:"
WEIGHTS = "model.safetensors"  # of a published student
PATTERNS = ["*.json", "*/*.json", "*.safetensors", "*/*.safetensors", "*.bin", "*/*.bin"]


def recognized(path: Any) -> bool:
    """Whether a model is named by its place on a Hub."""
    return str(path).startswith(PREFIX)


def fetched(path: Any) -> Path:
    """The folder of a model's files, or a published student's file in it. Raises: UserError if it cannot be had."""
    import huggingface_hub

    name, _, revision = str(path).removeprefix(PREFIX).partition("@")
    if name.count("/") != 1 or not all(name.split("/")):
        raise UserError(f"{path}: must be hub:OWNER/NAME or hub:OWNER/NAME@REVISION")
    try:
        folder = huggingface_hub.snapshot_download(
            name, revision=revision or None, allow_patterns=PATTERNS, endpoint=os.environ.get("HF_ENDPOINT")
        )
    except Exception as error:  # no network, no such name, no right to it: dozens of types
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{path}: cannot be fetched ({type(error).__name__}: {reason})") from error
    published = Path(folder) / WEIGHTS
    return published if published.is_file() else Path(folder)
