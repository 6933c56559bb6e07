"""What `experiment=compress` chooses, by the teacher and its data."""

import contextlib

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from PIL import Image

import limbeck
from limbeck.architectures import srgan, stylegan2, ticket
from limbeck.architectures.residual_generator import sngan
from limbeck.choices import checked, default_settings
from limbeck.configured import CONF
from limbeck.entry import chosen_later, pipeline_of, register_resolvers, settings_of
from limbeck.identity import counted
from limbeck.recipe import adapted, fits, fitting, recipes, ruled


@contextlib.contextmanager
def commanded(*overrides):
    """The configuration of a command line, while Hydra runs."""
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["experiment=compress", *overrides], return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        checked(config)
        yield config


def teacher(discriminator=True):
    network = stylegan2.Generator(resolution=16, widths=[8] * 6, z_dim=16, w_dim=8, mapping_depth=1).eval()
    return limbeck.Model(network, stylegan2.Discriminator(resolution=16, widths=[8] * 3) if discriminator else None)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(6):
        pixels = torch.randint(0, 256, (20, 24 + number, 3), dtype=torch.uint8).numpy()
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def files(tmp_path, photos):
    path = limbeck.save(teacher(), tmp_path / "teacher.safetensors")
    return f"teacher.path={path}", f"data.path={photos}"


def test_what_fits_by_hand():
    wanted = {"family": ["a", "b"], "discriminator": [True], "num_parameters": [0, 5.0]}
    facts = {"family": "b", "discriminator": True, "num_parameters": 4}
    assert fits(wanted, facts)
    assert fits({}, facts)
    for name, other in (("family", "c"), ("discriminator", False), ("num_parameters", 5)):
        assert not fits(wanted, {**facts, name: other})
    assert not fits({"num_images": [0, 9]}, facts)


@pytest.mark.parametrize(
    ("num_images", "kimg"), [(10, 20.0), (1000, 20.0), (12_345, 247.0), (25_000, 500.0), (70_000, 500.0)]
)
def test_rules_by_hand(num_images, kimg):
    rule = {"of": "num_images", "times": 0.02, "least": 20, "most": 500}
    assert ruled(rule, {"num_images": num_images}) == kimg
    assert ruled({"of": "labels"}, {"labels": "folders"}) == "folders"
    assert ruled({"of": "resolution"}, {"resolution": 1024}) == 1024


FAMILIES = ["stylegan2", "stylegan3", "ddpm", "dcgan", "translation_resnet", "translation_unet", "srgan", "stargan"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("discriminator", [True, False])
@pytest.mark.parametrize("num_parameters", [1e4, 5e6, 8e6, 1e9])
def test_one_recipe_fits_each_teacher(family, discriminator, num_parameters):
    offered = {file.stem: OmegaConf.to_container(OmegaConf.load(file)).get("recipe", {}) for file in RECIPES}
    facts = {"family": family, "discriminator": discriminator, "num_parameters": num_parameters}
    assert len([name for name, recipe in offered.items() if fits(recipe.get("fits", {}), facts)]) == 1


RECIPES = sorted((CONF / "recipe").glob("*.yaml"))


@pytest.mark.parametrize("name", [file.stem for file in RECIPES if file.stem not in ("auto", "translation")])
def test_every_recipe_can_be_built(name):
    with commanded(f"recipe={name}") as config:
        assert config.recipe.why
        assert set(config.recipe.rules) > {"data.resolution", "kimg"}
        pipeline = pipeline_of(config)
        assert pipeline.distiller().loss["generator"]
        for key, rule in config.recipe.rules.items():
            assert {"of"} <= set(rule) <= {"of", "times", "least", "most"}, key


def test_a_teacher_and_its_photos(files, tmp_path, capsys):
    with commanded(*files, "pruning.ratio=0.5", "distillation.decay_kimg=0.5") as config:
        found = adapted(config, tmp_path)
        default = default_settings(found)
        settings = settings_of(found)
    assert settings["recipe"]["chosen"][0] == "recipe=stylegan2"
    assert list(settings["loss"]["generator"]) == ["nonsaturating", "pixel_l1", "perceptual", "relation"]
    assert settings["kimg"] == default["kimg"] == 20
    assert settings["loss"]["discriminator"]["r1"]["weight"] == pytest.approx(1e-4 * 16**2, rel=0.01)
    assert (settings["data"]["resolution"], settings["data"]["resize"]) == (16, "lanczos")
    assert (settings["pruning"]["ratio"], settings["distillation"]["decay_kimg"]) == (0.5, 0.5)
    assert default["pruning"]["ratio"] == 0.7
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["teacher", "data", "recipe", "training"]
    assert "stylegan2, 16 px" in lines[0]
    assert "with its discriminator" in lines[0]
    assert "6 images" in lines[1]
    assert "RESULTS.md" in lines[2]
    assert "20 kimg in batches of 8" in lines[3]
    assert not [key for key in counted(settings) if key.startswith(("recipe", "forecast"))]


def test_what_is_typed_goes_first(files, tmp_path):
    typed = ("recipe=stylegan2", "kimg=3", "data.resize=box", "loss/generator=[nonsaturating]", "initializer=random")
    with commanded(*files, *typed) as config:
        found = adapted(config, tmp_path)
    assert (found.kimg, found.data.resize, list(found.loss.generator)) == (3, "box", ["nonsaturating"])
    assert found.initializer["_target_"].endswith("Random")
    assert "recipe=stylegan2" not in found.recipe.chosen


def test_a_run_that_has_begun_keeps_its_choice(files, tmp_path, photos):
    chosen = ["recipe=stylegan_alone", "kimg=7"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"recipe": {"chosen": chosen}}))
    with commanded(*files) as config:
        found = adapted(config, tmp_path)
    assert found.kimg == 7
    assert list(found.loss.generator) == ["pixel_l1", "perceptual"]
    assert found.recipe.chosen == chosen


@pytest.mark.parametrize("there", [True, False])
def test_weights_that_are_missing_have_a_stand_in(files, tmp_path, monkeypatch, capsys, there):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    if there:
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints" / "vgg16-397923af.pth").touch()
    with commanded(*files, "recipe=stylegan2_large") as config:
        found = adapted(config, tmp_path)
        terms = [name for name, node in found.loss.generator.items() if "_target_" in node]
    assert ("lpips" in terms, "perceptual" in terms) == (there, not there)
    assert ("perceptual stands in for lpips (" in capsys.readouterr().out) == (not there)


@pytest.mark.parametrize(
    ("generator", "message"),
    [
        (lambda: srgan.Generator(resolution=16, width=4, num_blocks=1), "srgan: .* take experiment=pix2pix_robohash"),
        (
            lambda: ticket.Ticket.of(sngan(8, 4, z_dim=4), keep_ratio=0.5),
            "no recipe for ticket; allowed: dcgan, ddpm, ",
        ),
    ],
)
def test_what_has_no_recipe_is_one_line(tmp_path, photos, generator, message):
    path = limbeck.save(limbeck.Model(generator().eval()), tmp_path / "a.safetensors")
    with (
        commanded(f"teacher.path={path}", f"data.path={photos}") as config,
        pytest.raises(limbeck.UserError, match=message) as caught,
    ):
        adapted(config, tmp_path)
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_one_line(files, tmp_path):
    for given, message in ((files[1], "teacher.path: not set"), (files[0], "data.path: not set; allowed are")):
        with commanded(given) as config, pytest.raises(limbeck.UserError, match=message):
            adapted(config, tmp_path)


def test_a_recipe_of_ones_own_is_found(tmp_path):
    (tmp_path / "recipe").mkdir()
    own = "# @package _global_\nrecipe:\n  fits: {family: [mine]}\n"
    (tmp_path / "recipe" / "mine.yaml").write_text(own)
    with commanded(f"hydra.searchpath=[file://{tmp_path}]"):
        assert fitting(recipes(), {"family": "mine"}) == "mine"


def test_the_best_of_results_is_the_recipe():
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        best = compose("train", ["experiment=stylegan2_best"])
        chosen = compose("train", ["experiment=compress", "recipe=stylegan2"])
    for key in ("pruning.criterion", "initializer", "optimizer", "distillation", "discriminator", "kimg", "batch_size"):
        assert OmegaConf.select(best, key) == OmegaConf.select(chosen, key), key


def test_settings_of_a_recipe_that_is_not_known_yet():
    assert "recipe=NAME" in chosen_later(["train.py", "experiment=compress", "pruning.criterion.num_samples=3"])
    assert not chosen_later(["train.py", "experiment=compress", "recipe=ddpm"])
    assert not chosen_later(["train.py", "pruning.criterion.x=3"])
