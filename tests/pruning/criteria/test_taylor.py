"""Taylor scores by hand, against the released rule written out, and by their laws."""

import pytest
import torch

import limbeck
from limbeck.architectures.ddpm import UNet
from limbeck.architectures.stylegan2 import Generator
from limbeck.configured import configured
from limbeck.errors import UserError
from limbeck.pruning.allocation import kept_indices
from limbeck.pruning.criteria.taylor import Taylor, scored_weights, taylor_scores, taylor_terms
from limbeck.pruning.scoring import add, scored, worked
from limbeck.pruning.slimming import slim

from .image_sources import InMemory

SMALL = {"resolution": 8, "level_widths": [8, 16], "blocks_per_level": 1, "norm_groups": 4, "num_train_steps": 4}
SETTINGS = {"batch_size": 6, "num_train_steps": 4, "seed": 3}


def model():
    network = UNet(**SMALL, dropout=0.5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return limbeck.Model(network.requires_grad_(False).train())


def criterion(**changes):
    return Taylor(InMemory(20), **(SETTINGS | changes))


def summed_gradients(network, state, pixels="sum"):
    """Straight from the definition: one backward pass through the losses of all time steps."""
    network.eval().requires_grad_(True).zero_grad()
    alpha_bar, loss = network.alpha_bar().float(), 0
    for step in range(4):
        clean, noise, share = state["clean"], state["noise"], alpha_bar[step]
        estimate = network(share.sqrt() * clean + (1 - share).sqrt() * noise, torch.full((len(clean),), step))
        error = (noise - estimate).square()
        loss = loss + (error.sum() / len(clean) if pixels == "sum" else error.mean())
    loss.backward()
    return {name: parameter.grad for name, parameter in network.named_parameters()}


def test_terms_by_hand():
    products = torch.tensor([[1.0, -2.0], [6.0, -4.0]])
    assert taylor_terms(products, 0, "squares").tolist() == [5.0, 52.0]
    assert taylor_terms(products, 1, "squares").tolist() == [37.0, 20.0]
    assert taylor_terms(products, 0, "magnitudes").tolist() == [3.0, 10.0]
    assert taylor_terms(products, 0, "sum").tolist() == [-1.0, 2.0]
    assert taylor_terms(torch.tensor([-1.0, 2.0]), 0, "magnitudes").tolist() == [1.0, 2.0]


@pytest.mark.parametrize("pixels", ["sum", "mean"])
def test_scores_are_the_released_rule(pixels):
    subject, taylor = model(), criterion(pixels=pixels)
    state = worked(taylor, subject)
    scores = taylor.scores(subject, state)
    network = subject.generator
    gradients = summed_gradients(network, state, pixels)
    products = {name: (p * gradients[name]).detach() for name, p in network.named_parameters()}

    block, after = "down_blocks.0.resnets.0", "up_blocks.1.resnets"
    inner = (
        products[f"{block}.conv1.weight"].square().sum(dim=(1, 2, 3))
        + products[f"{block}.time_emb_proj.weight"].square().sum(dim=1)
        + products[f"{block}.norm2.weight"].abs()
        + products[f"{block}.conv2.weight"].square().sum(dim=(0, 2, 3))
    )
    torch.testing.assert_close(scores[f"{block}.conv1"].float(), inner, rtol=1e-3, atol=1e-8 * inner.max().item())

    # The first block's stream comes back on the way up, behind 16 and 8 channels of the stream there.
    stream = sum(products[f"{name}.weight"].square().sum(dim=(1, 2, 3)) for name in ("conv_in", f"{block}.conv2"))
    stream = stream + products[f"{block}.norm1.weight"].abs()
    stream = stream + products[f"{block}.conv1.weight"].square().sum(dim=(0, 2, 3))
    stream = stream + products["down_blocks.0.downsamplers.0.conv.weight"].square().sum(dim=(0, 2, 3))
    for index, offset in ((0, 16), (1, 8)):
        entries = slice(offset, offset + 8)
        stream = stream + products[f"{after}.{index}.norm1.weight"][entries].abs()
        for layer in ("conv1", "conv_shortcut"):
            stream = stream + products[f"{after}.{index}.{layer}.weight"][:, entries].square().sum(dim=(0, 2, 3))
    torch.testing.assert_close(scores["conv_in"].float(), stream, rtol=1e-3, atol=1e-8 * stream.max().item())


def test_other_statistics():
    subject = model()
    state = worked(criterion(), subject)
    gradients = summed_gradients(subject.generator, state)
    layers = [subject.generator.time_embedding.linear_1.weight, subject.generator.time_embedding.linear_2.weight]
    first, second = (
        (layer * gradients[f"time_embedding.linear_{number}.weight"]).detach() for number, layer in enumerate(layers, 1)
    )
    name = "time_embedding.linear_1"
    magnitudes = criterion(statistic="magnitudes").scores(subject, state)[name]
    torch.testing.assert_close(magnitudes.float(), first.abs().sum(1) + second.abs().sum(0), rtol=1e-3, atol=1e-9)
    signed = criterion(statistic="sum").scores(subject, state)[name]
    torch.testing.assert_close(signed.float(), (first.sum(1) + second.sum(0)).abs(), rtol=1e-2, atol=1e-6)


def test_layers_that_read_a_group_twice_can_be_left_out():
    network = UNet(resolution=8, level_widths=[8, 8], blocks_per_level=1, norm_groups=4, attention_levels=[])
    ones = {name: torch.ones_like(network.get_parameter(name)) for name in scored_weights(network)}
    all_of_them, fewer = (taylor_scores(network, ones, count_repeated=counts) for counts in (True, False))
    # The first block of the way up reads the lowest stream as it is and as what was skipped to.
    name, twice = "down_blocks.0.downsamplers.0.conv", network.up_blocks[0].resnets[0]
    left_out = twice.norm1.weight.abs()
    left_out = left_out.reshape(2, 8).sum(dim=0).double()
    for layer in (twice.conv1, twice.conv_shortcut):
        left_out = left_out + layer.weight.double().square().sum(dim=(0, 2, 3)).reshape(2, 8).sum(dim=0)
    torch.testing.assert_close(all_of_them[name] - fewer[name], left_out.detach())
    differing = [group for group in fewer if not torch.equal(fewer[group], all_of_them[group])]
    assert differing == [name]


def test_sequential_scores_are_those_of_the_network_that_is_left():
    """Each group scored, then really cut, from the network and from a twin that holds the gradients as weights."""
    network, twin = (UNet(**(SMALL | {"level_widths": [8, 16, 16]})) for _ in range(2))
    gradients = {name: twin.get_parameter(name).detach() for name in scored_weights(twin)}
    scores = taylor_scores(network, gradients, sequential_ratio=0.5)
    at_once = taylor_scores(network, gradients)
    for name in network.pruning_order():
        left = {key: twin.get_parameter(key).detach() for key in scored_weights(twin)}
        expected = taylor_scores(network, left)[name]
        torch.testing.assert_close(scores[name], expected)
        norm_groups = {group.name: group.norm_groups for group in network.channel_groups()}[name]
        keep = {name: kept_indices(expected, len(expected) // 2, norm_groups)}
        network, twin = slim(network, keep), slim(twin, keep)
    first, *others = network.pruning_order()
    assert torch.equal(scores[first], at_once[first])
    assert not any(torch.allclose(scores[name], at_once[name]) for name in others)


def test_order_of_the_released_pruner():
    """As observed there, for the same network: 64 and 128 channels, one block a level, attention at the lowest."""
    network = UNet(resolution=8, level_widths=[8, 16], blocks_per_level=1, attention_levels=[1], norm_groups=4)
    assert list(network.pruning_order()) == [
        "up_blocks.1.resnets.1.conv2",
        "up_blocks.1.resnets.1.conv1",
        "time_embedding.linear_2",
        "time_embedding.linear_1",
        "conv_in",
        "up_blocks.1.resnets.0.conv2",
        "up_blocks.1.resnets.0.conv1",
        "up_blocks.0.upsamplers.0.conv",
        "down_blocks.0.resnets.0.conv1",
        "up_blocks.0.resnets.1.conv2",
        "up_blocks.0.attentions.1.to_q",
        "up_blocks.0.resnets.1.conv1",
        "down_blocks.0.downsamplers.0.conv",
        "up_blocks.0.resnets.0.conv2",
        "up_blocks.0.attentions.0.to_q",
        "up_blocks.0.resnets.0.conv1",
        "down_blocks.1.resnets.0.conv2",
        "down_blocks.1.attentions.0.to_q",
        "down_blocks.1.resnets.0.conv1",
        "mid_block.resnets.1.conv1",
        "mid_block.attentions.0.to_q",
        "mid_block.resnets.0.conv1",
    ]
    assert set(network.pruning_order()) == {group.name for group in network.channel_groups()}


def test_micro_batches_and_resuming_change_nothing(tmp_path):
    subject = model()
    whole = scored(criterion(), subject)
    parts = scored(criterion(micro_batch_size=4), subject)
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-3, atol=1e-6 * whole[name].max().item())
    taylor, path = criterion(), tmp_path / "scores.safetensors"
    state = taylor.start(subject)
    for index in range(4):
        add(state, taylor.step(subject, state, index))
    expected = taylor.scores(subject, state)
    scored(taylor, subject, path=path)
    again = scored(taylor, subject, path=path)
    assert all(torch.equal(again[name], expected[name]) for name in expected)


def test_the_model_is_left_as_it_was():
    subject = model()
    before = {name: value.clone() for name, value in subject.generator.state_dict().items()}
    random_state = torch.get_rng_state()
    scored(criterion(), subject)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert subject.generator.training
    assert not any(parameter.requires_grad for parameter in subject.generator.parameters())
    assert all(parameter.grad is None for parameter in subject.generator.parameters())
    assert all(torch.equal(before[name], value) for name, value in subject.generator.state_dict().items())


def test_the_batch_follows_the_seed_and_comes_from_the_data():
    subject = model()
    first, again, other = (criterion(seed=seed).start(subject) for seed in (1, 1, 2))
    assert torch.equal(first["clean"], again["clean"])
    assert torch.equal(first["noise"], again["noise"])
    assert not torch.equal(first["clean"], other["clean"])
    assert not torch.equal(first["noise"], other["noise"])
    rows = (InMemory(20).images.float() / 127.5 - 1).flatten(1)
    found = [(rows == image.flatten()).all(dim=1).nonzero().item() for image in first["clean"]]
    assert len(set(found)) == 6
    assert abs(first["noise"].std() - 1) < 0.05


def test_half_precision_keeps_most_of_the_ranking():
    subject = model()
    exact, half = scored(criterion(), subject), scored(criterion(precision="bfloat16"), subject)
    name = "down_blocks.1.resnets.0.conv1"
    assert len(set(exact[name].topk(8).indices.tolist()) & set(half[name].topk(8).indices.tolist())) >= 6


def test_pruning_with_taylor_scores():
    subject = model()
    student = limbeck.prune(subject, criterion(), ratio=0.5)
    sizes = {group.name: group.size for group in student.generator.channel_groups()}
    assert sizes["conv_in"] == 4
    assert sizes["time_embedding.linear_2"] == 16
    assert student.history[-1]["criterion"] == "taylor"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size=0: must be at least 1"),
        ({"batch_size": 21}, "batch_size=21: the data has 20 images"),
        ({"micro_batch_size": 0}, "micro_batch_size=0"),
        ({"num_train_steps": 1000}, "num_train_steps=1000: the denoiser has 4"),
        ({"statistic": "cubes"}, "statistic='cubes': must be one of squares"),
        ({"pixels": "all"}, "pixels='all'"),
        ({"precision": "int8"}, "precision='int8'"),
        ({"sequential_ratio": 1}, r"sequential_ratio=1: must be a number in \[0, 1\)"),
        ({"data": None}, "data: not set"),
        ({"data": InMemory(20, resolution=16)}, "data and denoiser differ in resolution: data 16, denoiser 8"),
        ({"data": InMemory(20, num_channels=1)}, "data and denoiser differ in num_channels"),
    ],
)
def test_wrong_settings_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        Taylor(**({"data": InMemory(20)} | SETTINGS | changes)).start(model())


def test_a_gan_is_refused():
    generator = Generator(resolution=8, widths=[4, 4, 4, 4], z_dim=4, w_dim=4, mapping_depth=1)
    with pytest.raises(UserError, match="Generator is no denoiser"):
        criterion().start(limbeck.Model(generator))


def test_without_data_the_short_form_says_what_is_missing():
    with pytest.raises(UserError, match="data: not set"):
        limbeck.prune(limbeck.Model(UNet(**(SMALL | {"num_train_steps": 1000}))), "taylor")
    assert configured("pruning", "taylor").criterion.batch_size == 128
