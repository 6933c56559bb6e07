"""Whatever a user can mend costs one line and exit code 2."""

import numpy as np
import pytest
from PIL import Image

from .conftest import run, tiny

pytestmark = pytest.mark.slow

ROWS = {
    "unknown name": (["pruning=cagam"], "pruning"),
    "unknown key": (["pruning.ration=0.5"], "ration"),
    "impossible ratio": (["pruning.ratio=1.0"], "ratio"),
    "negative ratio": (["pruning.ratio=-0.1"], "ratio"),
    "latency out of reach": (["runtime=[]", "pruning.target_latency_ms=1e-6"], "out of reach, at least "),
    "text for a number": (["kimg=many"], "kimg"),
    "text for a ratio": (["pruning.ratio=most"], "pruning.ratio"),
    "unknown resume": (["resume=perhaps"], "resume"),
    "no batch": (["batch_size=0"], "batch_size"),
    "missing teacher": (["teacher=stylegan2", "teacher.path=nowhere.pkl"], "nowhere.pkl"),
    "other resolution": (["data.resolution=64"], "resolution"),
    "deselected loss": (["loss/generator=[nonsaturating]", "loss.generator.pixel_l1.weight=2"], "pixel_l1"),
    "unwritable folder": (["hydra.run.dir=/dev/null/run"], "/dev/null"),
    "unknown accelerator": (["trainer.accelerator=abacus"], "accelerator"),
}


@pytest.mark.parametrize(("overrides", "named"), ROWS.values(), ids=ROWS)
def test_one_line_and_exit_code_two(tmp_path, overrides, named):
    drop = ("teacher.generator", "teacher.discriminator") if overrides[0] == "teacher=stylegan2" else ()
    arguments = [a for a in tiny(tmp_path / "run") if not a.lstrip("+").startswith(drop or ("never",))]
    done = run("train.py", *arguments, *overrides)
    assert_refused(done, named)


def assert_refused(done, named):
    assert done.returncode == 2, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert named in lines[0]


def test_a_corrupt_image_is_named(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(20):
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(folder / f"{index:02d}.png")
    (folder / "07.png").write_bytes((folder / "07.png").read_bytes()[:40])
    arguments = [a for a in tiny(tmp_path / "run") if not a.startswith("data")]
    done = run("train.py", *arguments, "data=image_folder", "~data.kind", f"data.path={folder}")
    assert_refused(done, "07.png")


def test_too_few_images_are_found_before_pruning(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(folder / "a.png")
    arguments = [a for a in tiny(tmp_path / "run") if not a.startswith(("data", "metric"))]
    one = ["data=image_folder", "~data.kind", f"data.path={folder}"]
    done = run("train.py", *arguments, "metric=[prdc_lite0]", *one)
    assert_refused(done, "num_neighbors=5: needs at least 6 real and 6 drawn images; there are 1 and 64")
    assert not (tmp_path / "run" / "pruned.safetensors").exists()


def test_not_a_number_stops_the_run_and_keeps_the_last_checkpoint(tmp_path):
    folder = tmp_path / "run"
    done = run("train.py", *tiny(folder, "optimizer.generator.lr=1e25"))
    assert_refused(done, "loss/")
    assert not (folder / "student.safetensors").exists()


def test_another_configuration_is_not_written_over(finished):
    before = (finished / "config.yaml").read_text()
    refused = run("train.py", *tiny(finished, "seed=5"))
    assert_refused(refused, "another configuration")
    assert f"evaluate.py model={finished} metric=[…]" in refused.stderr
    assert_refused(run("train.py", *tiny(finished), "resume=never"), "resume=never")
    assert (finished / "config.yaml").read_text() == before
