"""Teacher stages: from a file, or untrained."""

import functools

import pytest
import torch

import limbeck
from limbeck.architectures.stylegan2 import Discriminator, Generator
from limbeck.importers.checkpoint import File
from limbeck.importers.untrained import Untrained

SMALL = functools.partial(Generator, resolution=8, widths=[4, 4, 4, 4], z_dim=4, w_dim=4, mapping_depth=1)


def test_file_that_is_not_named_or_not_there(tmp_path):
    with pytest.raises(limbeck.UserError, match=r"teacher\.path: not set; .*teacher\.path=FILE"):
        File()()
    missing = File(tmp_path / "ffhq.pkl", obtain="from the authors' page")
    with pytest.raises(limbeck.UserError, match=r"teacher\.path=.*ffhq\.pkl: no such file.*from the authors' page"):
        missing()


def test_native_file(tmp_path):
    path = limbeck.save(limbeck.Model(SMALL(), terms="mine"), tmp_path / "t.safetensors")
    model = File(path)()
    assert model.terms == "mine"
    assert model.history == ({"stage": "import", "path": "t.safetensors"},)


def test_untrained_networks_follow_the_seed_alone():
    stage = Untrained(SMALL, functools.partial(Discriminator, resolution=8, widths=[4, 4]), seed=5)
    first = stage()
    torch.manual_seed(77)
    state = torch.get_rng_state()
    again = stage()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.generator.synthesis.b8.conv0.weight, again.generator.synthesis.b8.conv0.weight)
    assert torch.equal(first.discriminator.b8.conv0.weight, again.discriminator.b8.conv0.weight)
    other = Untrained(SMALL, seed=6)()
    assert other.discriminator is None
    assert not torch.equal(first.generator.synthesis.b4.const, other.generator.synthesis.b4.const)
