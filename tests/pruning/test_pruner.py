"""The pruning stage and `limbeck.prune`."""

import subprocess
import sys

import pytest
import torch
from PIL import Image

import limbeck
from limbeck.architectures.stylegan2 import Discriminator, Generator
from limbeck.configured import configured
from limbeck.masks.everything import Everything
from limbeck.model import Model, Pair
from limbeck.pruning.allocation import Global, PerGroup
from limbeck.pruning.criteria.cagan import CAGAN
from limbeck.pruning.criteria.l1 import L1
from limbeck.pruning.pruner import Pruner
from limbeck.pruning.scoring import scored


def small_model():
    generator = Generator(resolution=16, widths=[10, 10, 20, 20, 8, 8], z_dim=4, w_dim=4, mapping_depth=1).eval()
    discriminator = Discriminator(resolution=16, widths=[4, 4, 4]).eval()
    return Model(generator, discriminator, terms="research only")


def equal_states(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("criterion", ["l1", "random", L1(role="output")])
def test_prune_gives_the_stated_widths(criterion):
    model = small_model()
    student = limbeck.prune(model, criterion, ratio=0.7)
    assert student.generator.arguments["widths"] == [3, 3, 6, 6, 3, 3]
    assert student.generator(torch.randn(2, 4)).shape == (2, 3, 16, 16)
    assert student.terms == "research only"
    assert student.history[-1]["stage"] == "prune"
    assert student.history[-1]["ratio"] == 0.7


def test_options_reach_the_pruner():
    model = small_model()
    assert limbeck.prune(model, "l1", ratio=0.7, round_to=4).generator.arguments["widths"] == [4, 4, 8, 8, 4, 4]
    plain, corrected = (limbeck.prune(model, "l1", ratio=0.5, correct_gain=on).generator for on in (False, True))
    ratio = corrected.synthesis.b4.torgb.weight / plain.synthesis.b4.torgb.weight
    torch.testing.assert_close(ratio, torch.full_like(ratio, 0.5**0.5))


def test_the_best_channels_by_score_stay():
    model = small_model()
    scores = scored(L1(), model)
    pruned = limbeck.prune(model, "l1", ratio=0.5).generator
    kept = scores["const"].argsort(descending=True)[:5].sort().values
    assert torch.equal(pruned.synthesis.b4.const, model.generator.synthesis.b4.const[kept])


@pytest.mark.parametrize("ratio", [0.0, 0.7])
def test_none_returns_an_equal_copy(ratio):
    model = small_model()
    student = limbeck.prune(model, "none", ratio=ratio)
    assert student.generator is not model.generator
    assert equal_states(student.generator, model.generator)
    assert student.history[-1] == {"stage": "prune", "criterion": "none", "ratio": 0.0}


def test_stage_keeps_the_teacher_and_copies_the_discriminator():
    model = small_model()
    pair = Pruner(L1(), ratio=0.5)(Pair(model, model))
    assert pair.teacher is model
    assert pair.student.discriminator is not model.discriminator
    assert equal_states(pair.student.discriminator, model.discriminator)


def test_a_model_without_discriminator():
    assert limbeck.prune(Model(small_model().generator), "l1").discriminator is None


def test_a_plain_function_is_a_criterion():
    def first_channels(model):
        return {group.name: -torch.arange(group.size) for group in model.generator.channel_groups()}

    model = small_model()
    student = limbeck.prune(model, first_channels, ratio=0.5)
    assert torch.equal(student.generator.synthesis.b4.const, model.generator.synthesis.b4.const[:5])
    assert student.history[-1]["criterion"] == "first_channels"


def test_target_macs_decides_the_ratio():
    model = small_model()
    full = model.generator.macs()
    student = limbeck.prune(model, "l1", ratio=0.0, target_macs=full // 3)
    ratio = student.history[-1]["ratio"]
    assert student.generator.macs() <= full // 3
    assert 0 < ratio < 1
    assert (
        limbeck.prune(model, "l1", ratio=ratio - 0.0001).generator.macs() > full // 3
    )  # not one step more than needed
    assert limbeck.prune(model, "l1", target_macs=full).history[-1]["ratio"] == 0.0
    with pytest.raises(limbeck.UserError, match=r"pruning.target_macs=10: out of reach, at least \d+ are left"):
        limbeck.prune(model, "l1", target_macs=10)
    with pytest.raises(limbeck.UserError, match=r"pruning.target_macs=few: must be a number above 0"):
        limbeck.prune(model, "l1", target_macs="few")


@pytest.mark.parametrize(
    ("options", "widths"),
    [
        ({"keep_groups": ["const", "b8.*"]}, [10, 5, 20, 20, 4, 4]),
        ({"groups": ["conv0"]}, [10, 10, 10, 20, 4, 8]),
        ({"groups": ["b16.conv0", "b8.*"], "keep_groups": ["conv1"]}, [10, 10, 10, 20, 4, 8]),
        ({"groups": []}, [10, 10, 20, 20, 8, 8]),
        ({"keep_groups": ["*"], "allocation": Global()}, [10, 10, 20, 20, 8, 8]),
        ({"groups": ["b4.conv1", "b8.conv0"], "allocation": PerGroup(ratios=[0.9, 0.5])}, [10, 1, 10, 20, 8, 8]),
    ],
)
def test_groups_are_cut_or_left_whole_by_name(options, widths):
    model = small_model()
    student = limbeck.prune(model, "l1", ratio=0.5, **options)
    assert student.generator.arguments["widths"] == widths
    groups = model.generator.channel_groups()
    whole = [group.name for group, width in zip(groups, widths, strict=True) if width == group.size]
    assert student.history[-1]["kept_groups"] == whole


def test_whole_groups_are_left_out_of_a_global_ranking():
    def rising(model):
        return {g.name: torch.full([g.size], 10.0**i) for i, g in enumerate(model.generator.channel_groups())}

    allocation = Global(normalize="none", min_share=0.1)
    student = limbeck.prune(small_model(), rising, ratio=0.5, allocation=allocation, keep_groups=["const", "b8.conv*"])
    assert student.generator.arguments["widths"] == [10, 1, 20, 20, 4, 8]  # 13 of 26, at least one of each group


def test_a_group_that_is_not_there_is_named():
    for setting in ("groups", "keep_groups"):
        with pytest.raises(limbeck.UserError, match=rf"pruning.{setting}: no group fits 'trunk'; groups: const, b4"):
            limbeck.prune(small_model(), "l1", **{setting: ["trunk"]})
        with pytest.raises(limbeck.UserError, match=rf"pruning.{setting}='const': must be a list"):
            limbeck.prune(small_model(), "l1", **{setting: "const"})


def test_scores_and_their_picture_stay_in_the_folder(tmp_path):
    model = small_model()
    Pruner(CAGAN(mask=Everything(), num_samples=2, batch_size=1), ratio=0.5)(Pair(model, model), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"scores.safetensors", "scores.png"}
    with Image.open(tmp_path / "scores.png") as picture:
        assert picture.size[0] > 1000


def test_mistakes_are_named():
    model = small_model()
    with pytest.raises(limbeck.UserError, match=r"pruning=magic: unknown; allowed: .*l1.*random"):
        limbeck.prune(model, "magic")
    with pytest.raises(limbeck.UserError, match=r"pruning\.rounding: unknown for pruning=l1; allowed: .*round_to"):
        limbeck.prune(model, "l1", rounding=8)
    for ratio in (1.0, -0.5):
        with pytest.raises(limbeck.UserError, match=r"ratio=.*\[0, 1\)"):
            limbeck.prune(model, "l1", ratio=ratio)
        with pytest.raises(limbeck.UserError, match=r"pruning.ratio=.*\[0, 1\)"):
            Pruner(None, ratio=ratio)(Pair(model, model))


def test_configured_builds_nested_objects():
    pruner = configured("pruning", "random", ratio=0.25)
    assert (pruner.ratio, pruner.criterion.seed, pruner.allocation) == (0.25, 0, None)
    assert type(configured("pruning", "cagan").criterion.mask).__name__ == "Everything"


@pytest.mark.slow
def test_python_interface_needs_neither_hydra_nor_lightning():
    code = """
import sys
for name in ("hydra", "lightning", "pytorch_lightning"):
    sys.modules[name] = None
import limbeck
from limbeck.architectures.stylegan2 import Generator
model = limbeck.Model(Generator(resolution=8, widths=[4, 4, 4, 4], z_dim=4, w_dim=4, mapping_depth=1))
student = limbeck.initializers.svs(limbeck.prune(model, "l1", ratio=0.5))
assert limbeck.profile(student.generator).num_parameters < limbeck.profile(model.generator).num_parameters
"""
    subprocess.run([sys.executable, "-c", code], check=True)
