"""What is not there is one line that says what to do."""

import sys

import pytest

from limbeck import catalog, configured
from limbeck.cli import main
from limbeck.configured import configured as built
from limbeck.data.lmdb import lmdb
from limbeck.errors import UserError
from limbeck.export.onnx import require_onnx

EXTRAS = {
    "lmdb": ("lmdb", lambda: lmdb(path="x").open()),
    "open_clip": ("clip", lambda: built("embedding", "open_clip").load()),
    "onnxruntime": ("onnx", require_onnx),
    "onnxscript": ("onnx", require_onnx),
}


@pytest.mark.parametrize("package", EXTRAS)
def test_a_missing_package_names_its_extra(monkeypatch, package):
    extra, use = EXTRAS[package]
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"pip install limbeck\[{extra}\]") as caught:
        use()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "command", [["train"], ["choices"], ["export", "a.safetensors", "--format", "onnx", "-o", "b"]]
)
def test_a_wheel_whose_choices_were_removed(monkeypatch, capsys, tmp_path, command):
    for module in (catalog, configured):
        monkeypatch.setattr(module, "CONF", tmp_path / "conf")
    with pytest.raises(SystemExit) as caught:
        main(command)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said == f"error: {tmp_path / 'conf'}: missing; every choice is a file in it: install limbeck again\n"
