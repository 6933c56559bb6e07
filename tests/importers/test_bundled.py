"""The teachers that come with the package: each small, with a card that fits, terms, and a choice that names it."""

import re
from pathlib import Path

import pytest
import torch

import limbeck
from limbeck.configured import configured
from limbeck.export.base import inference_copy, trial_inputs

ROOT = Path(__file__).parents[2]
TEACHERS = sorted((ROOT / "src/limbeck/teachers").glob("*.safetensors"))
MOST_MB = {"robohash32": 6.0, "robohash32_ddpm": 6.0}  # all others 2


def test_there_are_some():
    assert {file.stem for file in TEACHERS} == {file.stem for file in (ROOT / "src/limbeck/teachers").glob("*.md")}
    assert set(MOST_MB) <= {file.stem for file in TEACHERS}


@pytest.mark.parametrize("file", TEACHERS, ids=lambda file: file.stem)
def test_the_card_says_what_the_file_holds(file):
    model, card = limbeck.load(file), file.with_suffix(".md").read_text()
    assert file.stat().st_size <= MOST_MB.get(file.stem, 2.0) * 1e6
    assert f"{sum(parameter.numel() for parameter in model.generator.parameters()):,} parameters" in card
    assert model.terms.startswith("CC-BY-")
    assert model.terms.partition(":")[0] in card
    made_by = re.search(r"experiment=(\w+)", card).group(1)
    assert (ROOT / "conf/experiment" / f"{made_by}.yaml").is_file()
    for picture in re.findall(r"\]\((\S+\.png)\)", card):
        assert (file.parent / picture).resolve().is_file()


@pytest.mark.parametrize("file", TEACHERS, ids=lambda file: file.stem)
def test_it_draws(file):
    model = configured("teacher", file.stem)()
    assert model.history[-1] == {"stage": "import", "bundled": file.stem}
    network = inference_copy(model.generator)
    with torch.no_grad():
        images = network(**trial_inputs(network, 2))
    assert images.isfinite().all()
    assert images.std() > 0.1
