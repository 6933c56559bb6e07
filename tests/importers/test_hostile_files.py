"""Files made to harm: nothing runs, nothing explodes, and the refusal says why."""

import io
import os
import pickle
import pickletools
import resource
import struct
import subprocess
import sys
import zipfile

import pytest
import torch

import limbeck


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.fixture
def canary(tmp_path):
    """A path that must not exist when the test is over."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "code of the file was executed"


def refused(path, data, match):
    path.write_bytes(data)
    with pytest.raises(limbeck.CheckpointError, match=match) as caught:
        limbeck.load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_system_calls(tmp_path, canary, protocol):
    data = pickle.dumps({"G_ema": Call(os.system, f"touch {canary}")}, protocol)
    refused(tmp_path / "a.pkl", data, r"refused: the file wants posix\.system")


@pytest.mark.parametrize(
    "function", [eval, exec, getattr, __import__, open, os.popen, subprocess.Popen, io.open, torch.load, pickle.loads]
)
def test_dangerous_names(tmp_path, canary, function):
    call = Call(function, f"open({str(canary)!r}, 'w')")
    refused(tmp_path / "a.pkl", pickle.dumps(call, 4), "refused: the file wants")
    torch.save({"g_ema": call}, tmp_path / "b.pt")
    refused(tmp_path / "b.pt", (tmp_path / "b.pt").read_bytes(), "unreadable or refused")


def test_torch_files_name_what_they_want(tmp_path, canary):
    torch.save({"g_ema": Call(os.system, f"touch {canary}")}, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", (tmp_path / "a.pt").read_bytes(), r"posix\.system")


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_the_bytes_of_a_tensor(tmp_path, canary, legacy):
    inner = io.BytesIO()
    torch.save(Call(os.system, f"touch {canary}"), inner, _use_new_zipfile_serialization=not legacy)
    for data in (inner.getvalue(), pickle.dumps(Call(os.system, f"touch {canary}"))):
        storage = Call(torch.storage._load_from_bytes, data)
        record = network_record({"const": tensor_call(storage, (4,), (1,))})
        refused(tmp_path / "a.pkl", pickle_of(record), r"posix\.system|damaged|not a StyleGAN2 or 3 network file")


def tensor_call(storage, size, stride, offset=0):
    return Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, None)


def stored(*values):
    inner, values = io.BytesIO(), torch.tensor(values, dtype=torch.float32)
    storage = torch.storage.TypedStorage(wrap_storage=values.untyped_storage(), dtype=values.dtype, _internal=True)
    torch.save(storage, inner, _use_new_zipfile_serialization=False)
    return Call(torch.storage._load_from_bytes, inner.getvalue())


def network_record(tensors, modules=None):
    """A minimal generator of the pickle layout whose 4x4 block holds these tensors."""
    conv = module({}, {"conv1": module(tensors)})
    return {"G_ema": module({}, {"synthesis": module({}, {"b4": conv} | (modules or {}))})}


def module(tensors, children=None):
    return ("module", tensors, children or {})


def pickle_of(content):
    """Pickle bytes in which every ("module", ...) is a call of NVIDIA's loader, assembled by hand."""

    def replaced(node):
        if isinstance(node, tuple) and node and node[0] == "module":
            state = {"_parameters": node[1], "_buffers": {}, "_modules": {k: replaced(v) for k, v in node[2].items()}}
            return Named({"class_name": "Layer", "module_src": "", "state": state})
        return {key: replaced(value) for key, value in node.items()} if isinstance(node, dict) else node

    # Protocol 3 writes names as text lines, so a stand-in can be renamed in place.
    data = pickle.dumps(replaced(content), 3)
    own = b"c" + Named.__module__.encode() + b"\n_named\n"
    return data.replace(own, b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n")


def _named(meta):
    raise AssertionError(f"called while reading: {meta}")


class Named:
    def __init__(self, meta):
        self.meta = meta

    def __reduce__(self):
        return _named, (self.meta,)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Tests are not importable by name under pytest's importlib mode; pickle wants its functions to be."""
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or type(sys)(__name__))
    monkeypatch.setattr(sys.modules[__name__], "_named", _named, raising=False)


def test_the_hand_made_layout_is_read_so_that_these_tests_test_something(tmp_path):
    record = network_record({"bias": tensor_call(stored(1.0, 2.0), (2,), (1,))})
    refused(tmp_path / "a.pkl", pickle_of(record), "tensor 'synthesis.b4.conv1.affine.weight' is missing")


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ((10**12,), (1,), 0),
        ((10**12,), (0,), 0),
        ((3,), (1,), 0),
        ((2,), (1,), 1),
        ((2,), (-1,), 1),
        ((2,), (1,), -1),
        ((2**40, 2**40), (0, 0), 0),
    ],
)
def test_tensors_larger_than_their_data(tmp_path, size, stride, offset):
    record = network_record({"weight": tensor_call(stored(1.0, 2.0), size, stride, offset)})
    refused(tmp_path / "a.pkl", pickle_of(record), "without its data")


def test_many_tensors_of_the_same_bytes(tmp_path):
    storage = stored(*([1.0] * 10_000))
    shared = tensor_call(storage, (10_000,), (1,))
    record = network_record({f"weight{index}": shared for index in range(50)})
    refused(tmp_path / "a.pkl", pickle_of(record), "tensors larger than the file")


def test_modules_that_multiply(tmp_path):
    node = module({})
    for _ in range(40):
        node = module({}, {"a": node, "b": node})
    refused(tmp_path / "a.pkl", hand_written_doubling(40), "more than 10000 modules")


def hand_written_doubling(depth):
    """Each level's children are the same object twice, by the pickle's memo: 2^depth modules in a few bytes."""
    call = b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n"
    head = call + b"(}(X\x0a\x00\x00\x00class_nameX\x01\x00\x00\x00LX\x05\x00\x00\x00state}X\x08\x00\x00\x00_modules}("
    out = call + b"(}(X\x0a\x00\x00\x00class_nameX\x01\x00\x00\x00LX\x05\x00\x00\x00state}utR" + b"r\x00\x00\x00\x000"
    for level in range(depth):
        memo = struct.pack("<I", level)
        out += head + b"X\x01\x00\x00\x00aj" + memo + b"X\x01\x00\x00\x00bj" + memo + b"usutR"
        out += b"r" + struct.pack("<I", level + 1) + b"0"
    top = head + b"X\x09\x00\x00\x00synthesisj" + struct.pack("<I", depth) + b"usutR"
    return b"\x80\x02" + out + b"}X\x05\x00\x00\x00G_ema" + top + b"s."


def test_huge_memo_index_takes_no_memory(tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(tmp_path / "a.pkl", b"\x80\x02}r\xff\xff\xff\x7f.", "no network named G_ema")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 200 * 1024


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04\x8e" + struct.pack("<Q", 10**15) + b"x.",  # bytes of a petabyte, of which one is there
        b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"}.",  # a frame of that size
        b"\x80\x04" + b"(" * 100_000 + b"l" * 100_000 + b".",  # deep nesting
        b"\x80\x04",
        b"\x80\x63}.",  # protocol 99
        b"\x80\x04\xff\xff",
    ],
)
def test_damaged_pickles(tmp_path, data):
    refused(tmp_path / "a.pkl", data, "damaged pickle|no network named G_ema")


def test_objects_outside_the_file_and_extension_codes(tmp_path):
    refused(tmp_path / "a.pkl", b"\x80\x02X\x01\x00\x00\x00aQ.", "objects outside itself")
    refused(tmp_path / "b.pkl", b"\x80\x02\x82\x01.", "extension code 1")


def test_state_cannot_be_set_on_the_reader_s_own_functions(tmp_path):
    # BUILD on a function could replace its defaults, and so change how later files are read.
    data = b"\x80\x02ctorch.storage\n_load_from_bytes\nN}X\x0c\x00\x00\x00__defaults__(K\x01tr\x00\x00\x00\x00s\x86b."
    assert any(op.name == "BUILD" for op, _, _ in pickletools.genops(data))
    refused(tmp_path / "a.pkl", data, "sets the state of a function")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.99, 0.9999])
@pytest.mark.parametrize("ending", ["pt", "pkl"])
def test_truncated_files(tmp_path, share, ending):
    whole = tmp_path / "whole"
    if ending == "pt":
        torch.save({"g_ema": {"input.input": torch.ones(1, 4, 4, 4)}, "d": torch.randn(5000)}, whole)
    else:
        whole.write_bytes(pickle_of(network_record({"weight": tensor_call(stored(*range(500)), (500,), (1,))})))
    data = whole.read_bytes()
    refused(tmp_path / f"a.{ending}", data[: int(share * len(data))], "damaged|unreadable|refused")


def test_compressed_archive(tmp_path):
    torch.save({"g_ema": {"input.input": torch.zeros(1, 512, 200, 200)}}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as source, zipfile.ZipFile(tmp_path / "bomb.pt", "w") as bomb:
        for entry in source.infolist():
            bomb.writestr(entry.filename, source.read(entry), zipfile.ZIP_DEFLATED)
    assert os.path.getsize(tmp_path / "bomb.pt") < 0.01 * os.path.getsize(tmp_path / "plain.pt")
    refused(tmp_path / "bomb.pt", (tmp_path / "bomb.pt").read_bytes(), "compressed archive")


def test_expanded_tensor_in_a_torch_file(tmp_path):
    torch.save({"g_ema": {"input.input": torch.zeros(1).expand(1, 10**6, 10**3, 4)}}, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", (tmp_path / "a.pt").read_bytes(), "without its data")


def test_shared_storage_in_a_torch_file(tmp_path):
    value = torch.zeros(10_000)
    torch.save({"g_ema": {f"input.input{index}": value.view(-1) for index in range(50)}}, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", (tmp_path / "a.pt").read_bytes(), "refused: tensors of")


@pytest.mark.parametrize("data", [b"", b"\x00", b"hello world, this is text", bytes(64), b"PK\x03\x04" + bytes(100)])
def test_files_of_no_kind(tmp_path, data):
    refused(tmp_path / "a.bin", data, "unreadable|damaged|not a")


def test_folders_and_missing_files(tmp_path):
    with pytest.raises(limbeck.CheckpointError, match=r"student\.safetensors"):
        limbeck.load(tmp_path)
    with pytest.raises(limbeck.CheckpointError, match="not found"):
        limbeck.load(tmp_path / "nothing.pkl")
