import subprocess
import sys

import pytest

from limbeck.embeddings.torchvision_shim import imported

PROGRAM = """
import sys, types, importlib.abc
import torch
from limbeck.embeddings import torchvision_shim
calls = []
real = torchvision_shim.importlib.import_module
def failing(name):
    calls.append(name)
    if name == "torchvision" and len(calls) == 1:
        raise RuntimeError({message!r})
    return types.ModuleType(name)
torchvision_shim.importlib.import_module = failing
torch.version.cuda = {cuda!r}
try:
    torchvision_shim.imported("timm")
    print(calls, len(torchvision_shim._declared))
except RuntimeError as error:
    print("raised", error)
"""


def answer(message: str, cuda: str | None) -> str:
    program = PROGRAM.format(message=message, cuda=cuda)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("name", ["timm", "lpips", "torchvision.models", "torch_fidelity.metric_fid"])
def test_libraries_that_need_torchvision_can_be_imported(name):
    assert imported(name).__name__ == name


def test_models_of_torchvision_work():
    assert imported("torchvision.models").resnet18(weights=None).fc.out_features == 1000


def test_operators_are_declared_for_that_very_error_only():
    missing = "operator torchvision::nms does not exist"
    assert answer(missing, None) == "['torchvision', 'timm'] 1"
    assert answer(missing, "12.8") == f"raised {missing}"
    assert answer("something else", None) == "raised something else"
