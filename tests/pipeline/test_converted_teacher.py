"""From a checkpoint in a public format, converted, through train.py to the report."""

import json

import torch

import limbeck
from limbeck.architectures.stylegan2 import Discriminator, Generator
from limbeck.cli import main

from .conftest import TINY, run


def test_a_converted_checkpoint_runs_through_to_the_report(tmp_path):
    torch.manual_seed(0)
    generator = Generator(resolution=32, widths=[16] * 8, z_dim=16, w_dim=16, mapping_depth=2).eval()
    source = limbeck.Model(generator, Discriminator(resolution=32, widths=[16] * 4).eval())
    foreign = tmp_path / "550000.pt"
    native = limbeck.save(source, tmp_path / "source.safetensors")
    main(["export", str(native), "--format", "rosinality", "-o", str(foreign)])
    main(["convert", str(foreign), str(tmp_path / "teacher.safetensors")])
    settings = [s for s in TINY if "teacher" not in s]
    settings += ["teacher=stylegan2", f"teacher.path={tmp_path / 'teacher.safetensors'}", "discriminator=teacher"]
    settings += ["pruning=dcp", "pruning.criterion.num_samples=20", "pruning.criterion.num_pca=100", "initializer=svs"]
    folder = tmp_path / "run"
    done = run("train.py", *settings, f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4/4 steps 100 %" in done.stdout
    page = (folder / "report.html").read_text()
    assert "Channels kept" in page
    assert "scores per group" in page
    report = json.loads((folder / "report.json").read_text())
    assert [row["name"] for row in report["rows"]] == ["teacher", "pruned", "initialized", "student"]
    pruned = limbeck.load(folder / "pruned.safetensors")
    assert pruned.history[-1]["criterion"] == "dcp"
