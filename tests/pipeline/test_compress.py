"""One command for a model and images of one's own."""

import re

import pytest
import torch
import yaml
from PIL import Image

import limbeck
from limbeck.architectures.stylegan2 import Discriminator, Generator

from .conftest import assert_same_student, run

pytestmark = pytest.mark.slow
SHORT = ["pruning=l1", "kimg=0.12", "metric=[kid_random]", "protocol.num_images=8", "protocol.num_reference=8"]


def test_one_command_says_what_it_chose_and_the_forecast_leaves_no_trace(tmp_path):
    network = Generator(resolution=16, widths=[8] * 6, z_dim=16, w_dim=8, mapping_depth=1).eval()
    path = limbeck.save(limbeck.Model(network, Discriminator(resolution=16, widths=[8] * 3)), tmp_path / "teacher.bin")
    (tmp_path / "photos").mkdir()
    for number in range(12):
        pixels = torch.randint(0, 256, (20, 24, 3), dtype=torch.uint8).numpy()
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.jpg")
    command = ["experiment=compress", f"teacher.path={path}", f"data.path={tmp_path / 'photos'}", *SHORT]

    done = run("train.py", *command, f"hydra.run.dir={tmp_path / 'a'}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    headings = [line.split()[1] for line in done.stdout.splitlines() if re.match(r" +\d+:\d\d  \w", line)]
    chosen = ["teacher", "data", "recipe", "training"]
    assert headings == [*chosen, "device", "import", "forecast", "prune", "initialize", "distil", "evaluate", "done"]
    student = r"student of [\d,]+ parameters \(÷ [\d.]+\), [\d,. k]+ MACs \(÷ [\d.]+\)"
    said = student + r"; training about 0:0\d \([\d.e+]+ images/s over 10 steps\); [\d.]+ GiB"
    assert re.search(said, done.stdout)
    config = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())
    assert config["recipe"]["chosen"][0] == "recipe=stylegan2"

    again = run("train.py", *command, f"hydra.run.dir={tmp_path / 'a'}")
    assert again.returncode == 0, again.stderr
    assert "as chosen when the run began: recipe=stylegan2" in again.stdout
    assert "nothing to do" in again.stdout

    plain = run("train.py", *command, "forecast_steps=0", f"hydra.run.dir={tmp_path / 'b'}")
    assert plain.returncode == 0, plain.stderr
    assert_same_student(tmp_path / "a", tmp_path / "b")
