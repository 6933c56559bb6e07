"""Every YAML file in conf/ is used: each choice of each group composes and its objects are built."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import OmegaConf

from limbeck.entry import pipeline_of, register_resolvers

CONF = Path(__file__).parents[2] / "conf"
LISTS = {"loss/generator", "loss/discriminator", "callback", "companion", "logger", "metric"}
OFFERED = {
    line.strip("- ").partition(":")[0] for line in (CONF / "train.yaml").read_text().splitlines() if "- " in line
}
NO_OBJECTS = {"experiment", "recipe", "hydra/callbacks", "hydra/sweeper"}
FILES = sorted(path.relative_to(CONF) for path in CONF.rglob("*.yaml") if path.parent != CONF)
CHOICES = [(str(path.parent), path.stem) for path in FILES]
EXPERIMENTS = [name for group, name in CHOICES if group == "experiment"]


def composed(*overrides: str, config: str = "train"):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        found = compose(config, list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(found)
        return found


@pytest.mark.parametrize(("group", "name"), [c for c in CHOICES if c[0] not in NO_OBJECTS])
def test_every_choice_can_be_built(group, name):
    value = f"[{name}]" if group in LISTS else name
    added = "" if group in OFFERED else "+"
    found = composed(f"{added}{group}={value}", "experiment=bare")
    node = OmegaConf.select(found, group.replace("/", "."))
    assert node is not None
    instantiate(node, _convert_="all")


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_can_be_built(experiment):
    pipeline = pipeline_of(composed(f"experiment={experiment}"))
    assert pipeline.title == experiment
    assert pipeline.distiller().loss["generator"]
    assert list(pipeline.loggers()) == ["csv"]


@pytest.mark.parametrize("experiment", [e for e in EXPERIMENTS if e != "bare"])
def test_every_experiment_says_what_it_is(experiment):
    lines = (CONF / "experiment" / f"{experiment}.yaml").read_text().splitlines()
    header = "\n".join(line for line in lines[1:] if line.startswith("#"))
    assert "python train.py" in header
    assert "Expected" in header
    assert lines[0] == "# @package _global_"


@pytest.mark.parametrize(
    ("overrides", "resize"),
    [
        (["protocol=fid50k"], "tensorflow"),
        (["protocol=fid50k_ddim"], "half_pixel"),
        (["protocol=fid50k_pytorch"], "half_pixel"),
        (["protocol=fid50k_ddim", "embeddings.inception.resize=tensorflow"], "tensorflow"),
        (["experiment=stylegan2_ffhq_dcp"], "half_pixel"),
        (["experiment=stylegan2_ffhq_stylekd"], "half_pixel"),
        (["experiment=stylegan2_ffhq_svs"], "tensorflow"),
        (["experiment=ddpm_cifar10_svs"], "half_pixel"),
    ],
)
def test_protocols_choose_the_resize_of_their_papers(overrides, resize):
    chosen = overrides if overrides[0].startswith("experiment") else ["experiment=bare", *overrides]
    found = composed(*chosen)
    assert found.protocol.metrics.fid.embedding.resize == resize
    if overrides[0].startswith("protocol"):
        assert composed(*overrides, "metric=[]", config="evaluate").protocol.num_images == 50000


def test_no_file_is_without_a_choice():
    assert len(FILES) > 30
    assert {path.stem for path in CONF.glob("*.yaml")} == {"train", "evaluate", "export"}
