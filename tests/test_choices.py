"""What the command line chose, set right."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import OmegaConf

from limbeck.choices import checked, forget_replaced_choices, forget_unselected_terms
from limbeck.configured import CONF
from limbeck.entry import pipeline_of, register_resolvers


def settled(*overrides: str, all_checks: bool = False):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        if all_checks:
            checked(config)
        forget_replaced_choices(config)
        forget_unselected_terms(config)
    return config


def test_settings_of_the_replaced_choice_go_and_shared_ones_stay():
    found = settled("experiment=ddpm_cifar10_diff_pruning", "pruning=taylor", "pruning.criterion.batch_size=7").pruning
    assert found.ratio == 0.3
    assert found.criterion.batch_size == 7
    assert "threshold" not in found.criterion
    assert "taylor" not in found.criterion


def test_the_experiments_own_choice_keeps_its_settings():
    found = settled("experiment=teacher_robohash32_ddpm", "teacher=untrained_ddpm", "pruning=none").teacher
    assert list(found.generator.level_widths) == [32, 64, 96]
    widths = settled("experiment=teacher_robohash32", "teacher=untrained_stylegan2").teacher.generator.widths
    assert len(widths) == 8


EMBEDDING = "loss.generator.perceptual.term.embedding"


@pytest.mark.parametrize("name", ["random_projection", "denoiser", "vgg19_bn", "module"])
def test_an_embedding_in_place_of_another_one_leaves_no_settings_behind(name):
    found = settled("experiment=quickstart", f"embedding@{EMBEDDING}={name}").loss.generator.perceptual
    assert set(found.term.embedding) == set(OmegaConf.load(CONF / "embedding" / f"{name}.yaml"))
    instantiate(found, _convert_="all")


def test_an_embedding_keeps_what_is_named_beside_it():
    named = (f"embedding@{EMBEDDING}=random_projection", f"{EMBEDDING}.num_features=8")
    assert settled("experiment=quickstart", *named).loss.generator.perceptual.term.embedding.num_features == 8


def test_choices_of_ones_own_folder_replace_as_those_of_the_package(tmp_path):
    """`--config-dir` and `hydra.searchpath` lead to the same place."""
    (tmp_path / "pruning").mkdir()
    target = "_target_: limbeck.pruning.pruner.Pruner"
    (tmp_path / "pruning" / "mine.yaml").write_text(f"{target}\nratio: 0.5\ncriterion: null\n")
    where = f"hydra.searchpath=[file://{tmp_path}]"
    found = settled("experiment=stylegan2_ffhq_svs", "pruning=mine", where, all_checks=True).pruning
    assert dict(found) == {"_target_": "limbeck.pruning.pruner.Pruner", "ratio": 0.7, "criterion": None}


def test_what_the_command_line_names_stays():
    found = settled("experiment=quickstart", "teacher=untrained_ddpm", "+teacher.generator.num_train_steps=20")
    assert found.teacher.generator.num_train_steps == 20


@pytest.mark.parametrize("choice", ["random", "l1", "taylor", "none"])
@pytest.mark.parametrize("experiment", ["ddpm_celeba_svs", "stylegan2_ffhq_svs"])
def test_any_criterion_goes_with_any_experiment(experiment, choice):
    instantiate(settled(f"experiment={experiment}", f"pruning={choice}").pruning)


def test_callbacks_that_are_left_out_leave_no_settings_behind():
    assert list(settled("experiment=compare_pruning_ddpm").callback) == ["progress"]
    found = settled("experiment=quickstart_ddpm", "callback=[progress]", "callback.sample_grid.steps=3").callback
    assert list(found) == ["progress", "sample_grid"]  # named, so it is refused by name


def test_other_losses_go_with_a_denoiser():
    found = settled("experiment=quickstart_ddpm", "loss/generator=[noise_prediction,block_features]").loss
    assert list(found.generator) == ["noise_prediction", "block_features"]
    assert not found.get("discriminator")


def test_groups_may_be_empty():
    found = settled("experiment=quickstart", "callback=[]", "logger=[]", "metric=[]", "loss/generator=[]")
    assert not any((found.callback, found.logger, found.metric, found.loss.generator, found.protocol.metrics))
    pipeline = pipeline_of(found)
    assert pipeline.loggers() == {}
    assert pipeline.distiller().callbacks == {}


def test_all_checks_come_in_one_call(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    named = ("data=image_folder", "data.path='~/pictures'", "protocol.num_images=3.2e1")
    found = settled("experiment=quickstart", *named, all_checks=True)
    assert found.data.path == "/home/me/pictures"
    assert found.protocol.num_images == 32
