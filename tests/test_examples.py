"""The examples: a family outside the package goes through every stage without the package being touched."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import limbeck
from limbeck.architectures.base import channel_slice

TOP = Path(__file__).parents[1]
EXAMPLE = TOP / "examples" / "own_network"
SHORT = ["kimg=0.064", "metric=[kid_random]", "protocol.num_images=16", "protocol.num_reference=16", "batch_size=8"]


@pytest.fixture
def painter(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLE))
    import painter

    yield painter
    sys.modules.pop("painter", None)


def test_the_guide_shows_the_example():
    assert f"```python\n{(EXAMPLE / 'painter.py').read_text()}```" in (TOP / "docs" / "own_network.md").read_text()


def test_its_channels_may_be_exchanged(painter):
    """In every group at once, at random: any axis that is forgotten changes the images."""
    network = painter.Painter(z_dim=6, widths=[5, 4, 3]).eval()
    for bias in (up.bias for up in network.ups):
        torch.nn.init.normal_(bias)
    latent = torch.randn(3, 6)
    before, state = network(latent), network.state_dict()
    for group in network.channel_groups():
        order = torch.roll(torch.arange(group.size), 1)
        for axis in group.axes:
            index = torch.arange(state[axis.parameter].shape[axis.dim])
            entries = channel_slice(axis, group.size)
            index[entries] = index[entries].reshape(group.size, axis.repeat)[order].flatten()
            state[axis.parameter].copy_(state[axis.parameter].index_select(axis.dim, index).clone())
        torch.testing.assert_close(network(latent), before)


def test_its_costs_by_hand(painter):
    network = painter.Painter(z_dim=2, widths=[3, 1, 1])
    assert network.macs() == 2 * 48 + 3 * 16 * 16 + 16 * 64 + 3 * 16 * 256
    assert limbeck.prune(limbeck.Model(network), "l1", ratio=0.5).generator.widths == [2, 1, 1]


def test_its_files_load_where_it_was_imported_and_nowhere_else(painter, tmp_path):
    path = limbeck.save(limbeck.Model(painter.Painter(z_dim=4, widths=[4, 4, 4]).eval()), tmp_path / "a.safetensors")
    again = painter.trained(path).generator
    assert isinstance(again, painter.Painter)
    del sys.modules["painter"]
    with pytest.raises(limbeck.CheckpointError, match=r"refused class 'painter\.Painter'"):
        limbeck.load(path)
    assert "painter" not in sys.modules


@pytest.mark.slow
def test_it_goes_through_all_stages(tmp_path):
    shutil.copytree(EXAMPLE, tmp_path / "project")

    def limbeck_command(*arguments):
        command = [sys.executable, "-m", "limbeck", *arguments]
        done = subprocess.run(command, cwd=tmp_path / "project", capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr

    limbeck_command("train", "--config-dir", "conf", "experiment=painter", *SHORT, "hydra.run.dir=run")
    run = tmp_path / "project" / "run"
    rows = {row["name"]: row for row in json.loads((run / "report.json").read_text())["rows"]}
    assert list(rows) == ["teacher", "pruned", "initialized", "student"]
    assert rows["student"]["macs"] < 0.4 * rows["teacher"]["macs"]
    assert "kid_random" in rows["student"]["metrics"]
    limbeck_command("evaluate", "model=run", "hydra.run.dir=again")
    again = json.loads((tmp_path / "project" / "again" / "report.json").read_text())["rows"][-1]
    assert again["metrics"] == rows["student"]["metrics"]
