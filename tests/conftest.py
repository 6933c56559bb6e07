"""Shapes written in signatures are checked while tests run; a normal run does not pay for it."""

import os

import pytest
import torch
from jaxtyping import install_import_hook

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one worker per core, one thread per worker
torch.set_num_threads(1)
CHECKED = ["functional", "pruning", "losses", "metrics", "embeddings", "masks"]
install_import_hook([f"limbeck.{name}" for name in CHECKED], "beartype.beartype")


@pytest.fixture(autouse=True)
def _seeded():
    """Every test starts from the same random state and a small number of threads."""
    torch.manual_seed(0)
