"""The published StyleGAN2 run at full size: refused without files, carried through on a CPU with a tiny limit."""

import io
import json
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.embeddings.torchvision_shim import imported

from .conftest import run

pytestmark = pytest.mark.slow


def test_missing_files_are_named_with_a_place_to_get_them(tmp_path):
    done = run("train.py", "experiment=stylegan2_ffhq_svs", f"hydra.run.dir={tmp_path / 'run'}")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "ffhq.pkl" in line
    assert "NVIDIA" in line


@pytest.fixture
def images(tmp_path):
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(4):
            file = io.BytesIO()
            pixels = np.random.default_rng(index).integers(0, 256, (256, 256, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(file, format="PNG")
            archive.writestr(f"{index:08d}.png", file.getvalue())
        archive.writestr("dataset.json", json.dumps({"labels": None}))
    return path


@pytest.fixture
def trunk(tmp_path):
    """VGG16's layout with random weights."""
    features = imported("torchvision.models").vgg16(weights=None).features
    path = tmp_path / "vgg16.pth"
    torch.save({f"features.{name}": value for name, value in features.state_dict().items()}, path)
    return path


def test_the_published_run_at_full_size(tmp_path, images, trunk):
    folder = tmp_path / "run"
    arguments = [
        "experiment=stylegan2_ffhq_svs",
        "teacher=untrained_stylegan2",
        "~teacher.path",
        "~teacher.obtain",
        "mask=everything",
        "pruning.criterion.num_samples=2",
        "pruning.criterion.batch_size=1",
        "pruning.criterion.num_directions=2",
        "pruning.criterion.num_pca=64",
        f"data.path={images}",
        "data.num_workers=0",
        f"loss.generator.lpips.term.trunk_path={trunk}",
        "metric=[kid_random]",
        "protocol.num_images=4",
        "protocol.num_reference=4",
        "protocol.batch_size=2",
        "batch_size=2",
        "distillation.micro_batch_size=1",
        "kimg=0.002",
        "callback=[progress]",
        f"hydra.run.dir={folder}",
    ]
    done = run("train.py", *arguments, timeout=800)
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads((folder / "report.json").read_text())["rows"]}
    assert (rows["teacher"]["num_parameters"], rows["teacher"]["macs"]) == (30_034_338, 45_124_673_536)
    assert (rows["student"]["num_parameters"], rows["student"]["macs"]) == (5_573_364, 4_123_578_080)
