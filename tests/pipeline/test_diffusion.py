"""Whole runs of a tiny denoiser, as a user starts them."""

import json
import re
import signal
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

import limbeck
from limbeck.configured import CONF
from limbeck.entry import pipeline_of, register_resolvers
from limbeck.errors import UserError
from limbeck.loggers.table import read_table

from .conftest import assert_same_student, end_after_a_checkpoint, run

pytestmark = pytest.mark.slow
TINY = [
    "experiment=quickstart_ddpm",
    "initializer=svs",
    "runtime=[]",
    "teacher=untrained_ddpm",
    "teacher.generator.level_widths=[8,16]",
    "teacher.generator.blocks_per_level=1",
    "teacher.generator.norm_groups=4",
    "+teacher.generator.num_train_steps=20",
    "pruning.criterion.taylor.num_train_steps=20",
    "pruning.criterion.taylor.batch_size=4",
    "metric=[ssim]",
    "protocol.num_images=12",
    "protocol.batch_size=8",
    "protocol.steps=3",
    "callback.sample_grid.steps=2",
    "kimg=0.08",
    "batch_size=8",
    "distillation.micro_batch_size=4",
    "distillation.warmup_kimg=0.02",
    "distillation.decay_kimg=0.02",
    "distillation.log_every_kimg=0.02",
    "checkpoint_kimg=0.016",
    "trainer.precision=32-true",
]


def tiny(folder: Path, *more: str) -> list[str]:
    return [*TINY, f"hydra.run.dir={folder}", *more]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    done = run("train.py", *tiny(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_run_folder_is_complete(finished):
    names = """config.yaml scores.safetensors pruned.safetensors initialized.safetensors checkpoints/last.ckpt
        student.safetensors metrics.csv report.json report.md report.html samples/stages.png samples/student.png"""
    assert [name for name in names.split() if not (finished / name).is_file()] == []
    assert len(list((finished / "samples").glob("kimg*.png"))) >= 2
    assert not list(finished.rglob("*.part"))
    assert not (finished / "samples" / "drawn").exists()


def test_the_report_compares_all_stages(finished):
    report = json.loads((finished / "report.json").read_text())
    rows = {row["name"]: row for row in report["rows"]}
    assert list(rows) == ["teacher", "pruned", "initialized", "student"]
    assert rows["student"]["num_parameters"] == rows["pruned"]["num_parameters"] < rows["teacher"]["num_parameters"]
    assert rows["teacher"]["metrics"] == {}
    assert all("ssim" in rows[name]["metrics"] for name in ("pruned", "initialized", "student"))
    protocol = report["protocol"]
    assert (protocol["steps"], protocol["grid"], protocol["eta"]) == (3, "quadratic", 1.0)
    assert "truncation" not in protocol


def test_the_log_has_all_terms_and_the_gradient(finished):
    rows = read_table(finished / "metrics.csv")
    assert rows[-1]["kimg"] == 0.08
    columns = {"loss/generator/noise_prediction", "loss/generator/teacher_noise", "gradient/generator/norm"}
    assert columns <= set(rows[0])


def test_the_student_loads_and_draws(finished):
    student = limbeck.load(finished)
    assert [entry["stage"] for entry in student.history] == ["import", "prune", "initialize", "distil"]
    assert student.discriminator is None
    assert limbeck.sample(student, 2, steps=2).shape == (2, 3, 32, 32)


def test_the_evaluation_command_repeats_the_report(finished, tmp_path):
    done = run("evaluate.py", f"model={finished}", f"hydra.run.dir={tmp_path / 'again'}")
    assert done.returncode == 0, done.stderr
    assert "steps 3, grid quadratic, eta 1.0, clip_sample True" in done.stdout
    before, again = (json.loads((folder / "report.json").read_text()) for folder in (finished, tmp_path / "again"))
    assert again["rows"][-1]["metrics"] == before["rows"][-1]["metrics"]


def test_a_killed_run_resumes_bit_for_bit(finished, tmp_path):
    folder = tmp_path / "killed"
    end_after_a_checkpoint(tiny(folder), folder, signal.SIGKILL)
    assert not (folder / "student.safetensors").is_file()
    done = run("train.py", *tiny(folder))
    assert done.returncode == 0, done.stderr
    assert_same_student(finished, folder)


def test_two_processes_make_one_student(tmp_path):
    more = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "loss/generator=[noise_prediction,dime]"]
    dime = "loss.generator.dime.term"
    more += [f"+embedding@{dime}.embeddings.random=random_projection", f"+{dime}.weights.random=20"]
    more += [f"{dime}.weights.lite0=0", f"{dime}.statistics=batch", f"{dime}.over=batch"]
    done = run("train.py", *tiny(tmp_path / "ddp", *more), timeout=400)
    assert done.returncode == 0, done.stderr  # the distiller itself refuses students that differ
    rows = read_table(tmp_path / "ddp" / "metrics.csv")
    assert rows[-1]["kimg"] == 0.08
    assert "loss/generator/dime" in rows[0]
    assert "loss/generator/teacher_noise" not in rows[0]


WITHOUT = ["~loss.generator.noise_prediction", "~loss.generator.teacher_noise"]  # else stubs remain of them
WRONG = {
    "judges": (["discriminator=fresh"], "discriminator"),
    "a game": (["loss/discriminator=[nonsaturating]"], "loss/discriminator"),
    "a loss of generators": (["loss/generator=[nonsaturating]", *WITHOUT], "nonsaturating"),
    "statistics of samples": (["loss/generator=[noise_prediction,dime]", WITHOUT[1]], "dime.term.statistics"),
    "a generator": (["distillation=gan"], "discriminator"),
    "a callback left out": (["callback=[progress]"], "callback.sample_grid"),
    "too many steps": (["protocol.steps=21"], "steps=21"),
    "no such grid": (["protocol.grid=cubic"], "protocol.grid"),
}


@pytest.mark.parametrize(("overrides", "named"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused_before_anything_is_pruned(tmp_path, overrides, named):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", tiny(tmp_path, *overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        pipeline = pipeline_of(config)
    with pytest.raises(UserError, match=re.escape(named)):
        pipeline.run(tmp_path, {})
    assert not (tmp_path / "scores.safetensors").exists()


def test_the_command_says_it_in_one_line(tmp_path):
    done = run("train.py", *tiny(tmp_path / "run", "loss/generator=[nonsaturating]"))
    assert done.returncode == 2, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: loss/generator: 'nonsaturating'")
