"""A CycleGAN through all stages, as a user starts it: pruned with its trunk kept, distilled, judged, exported."""

import json

import pytest
import torch
from PIL import Image

import limbeck
from limbeck.cli import main
from limbeck.loggers.table import read_table

from .conftest import run

pytestmark = pytest.mark.slow
TINY = [
    "experiment=bare",
    "teacher=untrained_cyclegan",
    "teacher.generator.resolution=32",
    "teacher.generator.width=4",
    "teacher.generator.num_blocks=1",
    "teacher.discriminator.width=4",
    "teacher.discriminator.num_layers=2",
    "data=robohash_rotated",
    "data.images.resolution=32",
    "pruning=l1",
    "pruning.ratio=0.5",
    "pruning.keep_groups=[trunk]",
    "initializer=keep",
    "discriminator=teacher",
    "distillation=translation",
    "loss/generator=[least_squares,cycle,pixel_l1]",
    "loss/discriminator=[least_squares]",
    "metric=[kid_random,l1_target,psnr]",
    "protocol.num_images=32",
    "protocol.num_reference=40",
    "kimg=0.032",
    "batch_size=8",
    "distillation.log_every_kimg=0.008",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("translation") / "run"
    done = run("train.py", *TINY, f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_student_is_small_and_the_other_direction_whole(finished):
    pruned, student = (limbeck.load(finished / f"{name}.safetensors") for name in ("pruned", "student"))
    widths = {"stem": 2, "down1": 4, "trunk": 16, "blocks.0.inner": 8, "up1": 4, "up2": 2}
    assert student.generator.widths == widths
    assert student.reverse.generator.widths["stem"] == 4
    assert student.history[1]["kept_groups"] == ["trunk"]
    moved = {
        name: any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
        for name, one, other in (
            ("generator", pruned.generator, student.generator),
            ("reverse", pruned.reverse.generator, student.reverse.generator),
            ("judge", pruned.discriminator, student.discriminator),
            ("reverse judge", pruned.reverse.discriminator, student.reverse.discriminator),
        )
    }
    assert all(moved.values()), moved


def test_all_rows_are_judged_by_the_same_inputs_and_their_truth(finished):
    rows = {row["name"]: row["metrics"] for row in json.loads((finished / "report.json").read_text())["rows"]}
    assert all({"kid_random", "l1_target", "psnr"} <= set(found) for found in rows.values())
    assert rows["teacher"]["l1_target"] != rows["pruned"]["l1_target"]
    logged = read_table(finished / "metrics.csv")[-1]
    assert {"loss/generator/cycle", "logits/teacher/real", "logits/reverse/teacher/fake"} <= set(logged)


def test_pictures_show_source_teacher_student_and_target(finished):
    with Image.open(next((finished / "samples").glob("kimg*.png"))) as grid:
        assert grid.height == 4 * 96
    for name in ("source", "student", "target"):
        with Image.open(finished / "samples" / f"{name}.png") as grid:
            assert grid.size == (8 * 96, 2 * 96)


def test_the_student_goes_back_to_the_public_code_s_layout(finished, tmp_path):
    main(["export", str(finished / "student.safetensors"), "--format", "pix2pix", "-o", str(tmp_path / "G.pth")])
    again = limbeck.load(tmp_path / "G.pth", resolution=32).generator
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again(image), limbeck.load(finished / "student.safetensors").generator(image))


def test_two_processes_train_as_one(finished, tmp_path):
    shared = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    done = run("train.py", *TINY, *shared, f"hydra.run.dir={tmp_path / 'two'}")
    assert done.returncode == 0, done.stdout + done.stderr
    one, two = (limbeck.load(folder / "student.safetensors") for folder in (finished, tmp_path / "two"))
    image = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    # By what they compute: a bias in front of instance norm has no gradient but rounding, which Adam makes a step of.
    for role in ("generator", "discriminator"):
        for own, other in ((one, two), (one.reverse, two.reverse)):
            with torch.no_grad():
                drawn = [getattr(model, role)(image) for model in (own, other)]
            torch.testing.assert_close(drawn[0], drawn[1], rtol=0, atol=1e-3)
            assert drawn[0].std() > 0.02


def test_data_without_sources_are_refused_before_the_first_stage(tmp_path):
    folder = tmp_path / "run"
    done = run("train.py", *[x for x in TINY if not x.startswith("data")], "data=robohash", f"hydra.run.dir={folder}")
    assert done.returncode == 2
    assert "holds no images to start from" in done.stderr
    assert not (folder / "pruned.safetensors").is_file()
