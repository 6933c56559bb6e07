import pytest
import torch
from torch import nn

from limbeck.cache import cache_path, read_cached, state_digest, write_cached


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "limbeck"


def test_a_path_is_named_by_all_facts(folder):
    path = cache_path("kind", "timm:a/b", [1, "x"])
    assert path.parent == folder / "kind"
    assert path.name.startswith("timm:a.b-")
    assert path == cache_path("kind", "timm:a/b", [1, "x"]) != cache_path("kind", "timm:a/b", [1, "y"])


def test_what_was_written_is_read_and_anything_else_is_not(folder):
    path = cache_path("kind", "name", 1)
    assert read_cached(path, {"a": (2, 3)}) is None
    value = torch.rand(2, 3)
    write_cached(path, {"a": value.T.contiguous().T})
    assert torch.equal(read_cached(path, {"a": (2, 3)})["a"], value)
    for wrong in ({"a": (3, 2)}, {"b": (2, 3)}, {"a": (2, 3), "b": (1,)}, {}):
        assert read_cached(path, wrong) is None
    path.write_bytes(path.read_bytes()[:-3])
    assert read_cached(path, {"a": (2, 3)}) is None
    write_cached(path, {"a": value * float("nan")})
    assert read_cached(path, {"a": (2, 3)}) is None


def test_a_cache_that_cannot_be_written_only_warns(folder):
    folder.write_text("in the way")
    with pytest.warns(UserWarning, match="kind: not kept in the cache"):
        write_cached(cache_path("kind", "name", 1), {"a": torch.rand(1)})


def test_the_digest_of_a_state_sees_names_types_shapes_and_values():
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    same = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    same.load_state_dict(base.state_dict())
    digests = [state_digest(base)]
    assert digests[0] == state_digest(same)
    with torch.no_grad():
        same[1].running_mean[1] += 1e-7
    digests += [state_digest(same), state_digest(base.double()), state_digest(nn.ModuleDict({"a": base.float()}))]
    assert len(set(digests)) == len(digests)
    assert state_digest(nn.Linear(1, 1).bfloat16()) != state_digest(nn.Linear(1, 1).bfloat16())
