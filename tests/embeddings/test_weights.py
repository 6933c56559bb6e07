import hashlib
import http.server
import threading

import pytest
import safetensors.torch
import torch
from torch import nn

from limbeck.embeddings.weights import Origin, fill, stored_tensors, weights_file
from limbeck.errors import UserError


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """Empty caches of Hugging Face and of torch, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: pytest.fail("asks the network"))


def one_line(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_named_file_wins(tmp_path):
    path = tmp_path / "own.pth"
    path.write_bytes(b"x")
    assert weights_file("n", path, Origin(repository="timm/x", files=("a",)), download=False) == path
    with pytest.raises(
        UserError, match=r"embedding n: source.path=.*absent.pth: no such file; get them with: hf download"
    ) as e:
        weights_file("n", tmp_path / "absent.pth", Origin(repository="timm/x", files=("a",)), download=True)
    one_line(e)


def test_missing_weights_are_one_line_that_says_how_to_get_them():
    with pytest.raises(UserError) as error:
        weights_file("timm:x", None, Origin(repository="timm/x", files=("model.safetensors", "b.bin")), download=False)
    message = one_line(error)
    assert "hf download timm/x model.safetensors" in message
    assert "source.path=FILE" in message
    assert "source.download=true" in message


def test_the_cache_of_hugging_face_is_looked_at_without_network(tmp_path):
    snapshot = tmp_path / "hub" / "models--timm--x" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    refs = tmp_path / "hub" / "models--timm--x" / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    (snapshot / "second.bin").write_bytes(b"weights")
    origin = Origin(repository="timm/x", files=("first.safetensors", "second.bin"))
    assert weights_file("n", None, origin, download=False) == snapshot / "second.bin"


def test_the_downloads_of_torchvision_are_looked_at(tmp_path):
    kept = tmp_path / "torch" / "hub" / "checkpoints" / "net.pth"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"weights")
    assert weights_file("n", None, Origin(url="https://example.org/a/net.pth"), download=False) == kept


def test_a_download_happens_only_when_allowed(tmp_path):
    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"weights")

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.handle_request, daemon=True).start()
    origin = Origin(url=f"http://127.0.0.1:{server.server_port}/net.pth")
    with pytest.raises(UserError, match="not on this machine"):
        weights_file("n", None, origin, download=False)
    path = weights_file("n", None, origin, download=True)
    server.server_close()
    assert path.read_bytes() == b"weights"
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(UserError, match=r"embedding n: the download failed") as error:
        weights_file("n", None, Origin(url=f"http://127.0.0.1:{server.server_port}/other.pth"), download=True)
    one_line(error)


def test_files_of_both_kinds_and_wrapped_ones_are_read(tmp_path):
    tensors = {"a.weight": torch.rand(3), "b": torch.rand(2, 2)}
    safetensors.torch.save_file(tensors, tmp_path / "plain.safetensors")
    torch.save(tensors, tmp_path / "plain.pth")
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in tensors.items()}}, tmp_path / "wrapped.pth")
    torch.save({"student": {}, "teacher": {f"backbone.{k}": v for k, v in tensors.items()}}, tmp_path / "dino.pth")
    for file in ("plain.safetensors", "plain.pth", "wrapped.pth", "dino.pth"):
        found = stored_tensors("n", tmp_path / file)
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[name], value) for name, value in tensors.items())


class Hostile:
    def __reduce__(self):
        return hashlib.sha256, (b"run",)


@pytest.mark.parametrize("content", [b"", b"not weights", [1, 2], {"a": Hostile()}])
def test_anything_else_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "other.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match=r"embedding n: .*other.pth: not a file of weights") as error:
        stored_tensors("n", path)
    one_line(error)


def test_filling_is_strict_but_for_what_is_spare():
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    state = {name: torch.rand_like(value.float()) for name, value in network.state_dict().items()}
    del state["1.num_batches_tracked"]
    fill(network, {**state, "fc.weight": torch.rand(5)}, name="n", spare=["fc."])
    assert torch.equal(network[0].weight, state["0.weight"])
    assert torch.equal(network[1].running_var, state["1.running_var"])
    with pytest.raises(UserError, match=r"embedding n: .* fc.weight is left over"):
        fill(network, {**state, "fc.weight": torch.rand(5)}, name="n")
    with pytest.raises(UserError, match=r"0.bias is missing"):
        fill(network, {k: v for k, v in state.items() if k != "0.bias"}, name="n")
    with pytest.raises(UserError, match=r"0.bias has shape \(3,\), expected \(2,\)"):
        fill(network, {**state, "0.bias": torch.rand(3)}, name="n")
