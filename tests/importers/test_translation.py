"""Public files of pix2pix, CycleGAN, StarGAN and SRGAN: equal images, old layouts, both directions, named mistakes."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

import limbeck
from limbeck.architectures.patchgan import PatchGAN
from limbeck.importers.checkpoint import File

from . import translation_references as reference
from .translation_references import instance, trained_looking

TRANSLATORS = {
    "resnet": lambda: reference.ResnetGenerator(),
    "resnet_9": lambda: reference.ResnetGenerator(w=2, blocks=9, colors=(1, 2)),
    "resnet_dropout": lambda: reference.ResnetGenerator(dropout=0.5),
    "resnet_batch": lambda: reference.ResnetGenerator(norm=nn.BatchNorm2d, bias=False),
    "unet": lambda: reference.UnetGenerator(),
    "unet_7": lambda: reference.UnetGenerator(w=1, levels=7, colors=(1, 3)),
    "unet_instance": lambda: reference.UnetGenerator(norm=instance, bias=True),
}
ENLARGERS = {"leftthomas": lambda: reference.ThomasGenerator(), "lornatang": lambda: reference.LornaGenerator()}
JUDGES = {
    "patchgan": lambda: reference.PatchDiscriminator(),
    "patchgan_2": lambda: reference.PatchDiscriminator(layers=2),
    "patchgan_batch": lambda: reference.PatchDiscriminator(num_in=6, norm=nn.BatchNorm2d, bias=False),
    "pixel": lambda: reference.PixelDiscriminator(),
    "pixel_batch": lambda: reference.PixelDiscriminator(norm=nn.BatchNorm2d, bias=False),
}


def saved(network, path, *, prefix="", old=True, **more):
    """As the reference's own `torch.save` writes it; in the format of 2018 unless `old` is false."""
    state = OrderedDict((prefix + name, value) for name, value in network.state_dict().items())
    torch.save(more | {"state_dict": state} if more else state, path, _use_new_zipfile_serialization=not old)
    return path


def close(image, expected):
    assert expected.std() > 0.02
    torch.testing.assert_close(image, expected, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", TRANSLATORS)
@pytest.mark.parametrize("wrapped", [False, True])
def test_translated_images_are_the_reference_s(tmp_path, name, wrapped):
    network = trained_looking(TRANSLATORS[name]())
    prefix = "_orig_mod.module." if wrapped else ""
    model = limbeck.load(saved(network, tmp_path / "latest_net_G.pth", prefix=prefix, old=wrapped))
    channels = model.generator.latent_shape[0]
    image = torch.randn(2, channels, 128, 128)
    close(model.generator(image), network(image))
    assert model.discriminator is model.reverse is None
    with pytest.raises(limbeck.UserError, match="backward: this model has no other direction"):
        File(tmp_path, backward=True)()
    assert model.history[0]["format"] == "pix2pix"
    assert model.terms.startswith("licence of the weights not stated")


@torch.no_grad()
def test_running_statistics_of_2018_are_dropped(tmp_path):
    network = trained_looking(reference.ResnetGenerator())
    old = reference.ResnetGenerator(norm=lambda size: instance(size, stored=True))
    old.load_state_dict(trained_looking(old).state_dict() | network.state_dict())
    model = limbeck.load(saved(old, tmp_path / "latest_net_G.pth"))
    image = torch.randn(1, 3, 32, 32)
    close(model.generator(image), network(image))
    assert not any("running" in key for key in model.generator.state_dict())


@torch.no_grad()
def test_files_older_than_the_counter_of_batch_norm(tmp_path):
    network = trained_looking(reference.UnetGenerator())
    state = {key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    image = torch.randn(1, 3, 64, 64)
    close(limbeck.load(tmp_path / "a.pth").generator(image), network(image))


def test_what_a_file_does_not_say_is_guessed_or_told(tmp_path):
    path = saved(reference.ResnetGenerator(dropout=0.0), tmp_path / "a.pth")
    guessed = limbeck.load(path)
    assert guessed.history[0]["guessed"] == {"resolution": 256, "dropout": 0.5}
    told = limbeck.load(path, resolution=64, dropout=0.0)
    assert (told.generator.resolution, told.generator.arguments["dropout"]) == (64, 0.0)
    plain = limbeck.load(saved(reference.ResnetGenerator(), tmp_path / "b.pth"))
    assert plain.generator.arguments["dropout"] is None
    with pytest.raises(limbeck.UserError, match=r"dropout=0.5: no question"):
        limbeck.load(tmp_path / "b.pth", dropout=0.5)


@torch.no_grad()
def test_a_unet_in_training_mode_is_the_reference_in_training_mode(tmp_path):
    network = trained_looking(reference.UnetGenerator(levels=7))
    generator = limbeck.load(saved(network, tmp_path / "a.pth")).generator
    image = torch.randn(2, 3, 128, 128)
    drawn = []
    for trained in (network.train(), generator.train()):
        torch.manual_seed(5)
        drawn.append(trained(image))
    close(drawn[1], drawn[0])
    close(generator.eval()(image), network.eval()(image))  # and the statistics moved alike


@torch.no_grad()
@pytest.mark.parametrize("name", JUDGES)
def test_a_discriminator_s_file_beside_its_generator_s(tmp_path, name):
    network = trained_looking(JUDGES[name]())
    generator = saved(reference.ResnetGenerator(), tmp_path / "latest_net_G.pth")
    path = saved(network, tmp_path / "latest_net_D.pth", prefix="module.")
    with pytest.raises(limbeck.CheckpointError, match="holds a discriminator alone"):
        limbeck.load(path)
    model = limbeck.load(generator, discriminator=path)
    image = torch.randn(2, model.discriminator.num_channels, 64, 64)
    close(model.discriminator(image), network(image))
    assert model.history[-1]["discriminator"] == "latest_net_D.pth"


@torch.no_grad()
def test_both_directions_of_a_folder(tmp_path):
    networks = {name: trained_looking(reference.ResnetGenerator()) for name in ("G_A", "G_B")}
    networks |= {name: trained_looking(reference.PatchDiscriminator()) for name in ("D_A", "D_B")}
    for name, network in networks.items():
        saved(network, tmp_path / f"latest_net_{name}.pth")
    saved(reference.ResnetGenerator(), tmp_path / "5_net_G_A.pth")
    model, image = limbeck.load(tmp_path), torch.randn(1, 3, 64, 64)
    close(model.generator(image), networks["G_A"](image))
    close(model.discriminator(image), networks["D_A"](image))
    close(model.reverse.generator(image), networks["G_B"](image))
    close(model.reverse.discriminator(image), networks["D_B"](image))
    assert model.reverse.history[0]["file"] == "latest_net_G_B.pth"
    again = limbeck.load(limbeck.save(model, tmp_path / "both.safetensors"))
    assert torch.equal(again.reverse.generator(image), model.reverse.generator(image))
    backward = File(tmp_path, backward=True)()
    close(backward.generator(image), networks["G_B"](image))
    close(backward.discriminator(image), networks["D_B"](image))
    close(backward.reverse.generator(image), networks["G_A"](image))
    assert backward.reverse.reverse is None


@torch.no_grad()
def test_a_folder_of_one_direction(tmp_path):
    network = trained_looking(reference.UnetGenerator())
    saved(network, tmp_path / "latest_net_G.pth")
    model, image = limbeck.load(tmp_path), torch.randn(1, 3, 64, 64)
    close(model.generator(image), network(image))
    assert model.discriminator is model.reverse is None
    judge = trained_looking(JUDGES["patchgan_batch"]())
    saved(judge, tmp_path / "latest_net_D.pth")
    found = limbeck.load(tmp_path).discriminator
    close(found(image, image.flip(3)), judge(torch.cat([image.flip(3), image], dim=1)))


@torch.no_grad()
def test_generator_and_discriminator_of_one_file(tmp_path):
    generator, judge = trained_looking(reference.UnetGenerator()), trained_looking(JUDGES["patchgan"]())
    content = {"G": generator.state_dict(), "D": judge.state_dict(), "epoch": 3, "cfg": [1, 2], "fid": 70.0}
    torch.save(content, tmp_path / "model_best_AtoB.pth")
    model, image = limbeck.load(tmp_path / "model_best_AtoB.pth"), torch.randn(1, 3, 64, 64)
    close(model.generator(image), generator(image))
    close(model.discriminator(image), judge(image))


@torch.no_grad()
@pytest.mark.parametrize(("labels", "told"), [(1, 0), (3, 0), (3, 2)])
def test_stargan(tmp_path, labels, told):
    """told: entries of the generator's label that say which of two data sets it is of."""
    network, judge = reference.StarGenerator(labels=labels + told), reference.StarDiscriminator(labels=labels)
    trained_looking(network).train()
    trained_looking(judge)
    path = saved(network, tmp_path / "200000-G.ckpt")
    model = limbeck.load(path, discriminator=saved(judge, tmp_path / "200000-D.ckpt"), resolution=32)
    image, label = torch.randn(2, 3, 32, 32), torch.eye(5)[:2, : labels + told]
    close(model.generator(image, label), network(image, label))
    for found, expected in zip(model.discriminator(image), judge(image), strict=True):
        close(found, expected)
    assert (model.discriminator.resolution, model.discriminator.num_classes) == (32, labels)


@torch.no_grad()
@pytest.mark.parametrize("name", ENLARGERS)
def test_super_resolution(tmp_path, name):
    network = trained_looking(ENLARGERS[name]())
    more = {"epoch": 9, "ema_state_dict": ENLARGERS[name]().state_dict()} if name == "lornatang" else {}
    model = limbeck.load(saved(network, tmp_path / "a.pth.tar", **more))
    small = torch.rand(2, 3, 12, 10)
    close((model.generator(small * 2 - 1) + 1) / 2, network(small))
    assert model.generator.scale == 4


@torch.no_grad()
def test_super_resolution_s_discriminators(tmp_path):
    generator = saved(reference.LornaGenerator(), tmp_path / "g.pth.tar", epoch=1)
    image = torch.rand(2, 3, 96, 96) * torch.tensor([0.1, 1.0])[:, None, None, None]
    lorna = trained_looking(reference.LornaDiscriminator())
    found = limbeck.load(generator, discriminator=saved(lorna, tmp_path / "d.pth.tar", epoch=1)).discriminator
    close(found(image * 2 - 1), lorna(image).flatten())
    assert found.resolution == 96
    thomas = trained_looking(reference.ThomasDiscriminator())
    found = limbeck.load(generator, discriminator=saved(thomas, tmp_path / "d.pth")).discriminator
    close(found(image * 2 - 1), torch.logit(thomas(image)))


@pytest.mark.parametrize(
    ("make", "name", "change", "message"),
    [
        ("resnet", "model.4.weight", None, r"'model\.4\.weight' is missing"),
        ("resnet", "model.11.conv_block.5.bias", None, r"'model\.11\.conv_block\.5\.bias' \(here 'blocks\.1\.second"),
        ("resnet", "model.7.weight", torch.zeros(16, 9, 3, 3), r"'model\.7\.weight' .*has shape \(16, 9, 3, 3\)"),
        ("resnet", "model.7.weight", torch.zeros(16), r"'model\.7\.weight' has shape \(16,\), expected 4 axes"),
        ("resnet", "model.99.weight", torch.zeros(1), r"'model\.99\.weight' does not belong to a ResNet"),
        ("resnet", "model.1.weight", [0.0], r"'model\.1\.weight' is missing|'model\.1\.weight' is no tensor"),
        ("unet", "model.model.3.bias", torch.full([3], float("nan")), r"'model\.model\.3\.bias' .*holds NaN"),
        ("unet", "model.model.1.model.3.model.2.weight", None, r"'model\.model\.1\.model\.3\.model\.2\.weight'"),
        ("unet", "model.model.1.model.3.model.1.weight", None, r"model\.model\.1\.model\.3\.model"),
    ],
)
def test_damaged_files_are_named_in_their_own_words(tmp_path, make, name, change, message):
    state = dict(TRANSLATORS[make]().state_dict())
    if change is None:
        del state[name]
    else:
        state[name] = change
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(limbeck.CheckpointError, match=message):
        limbeck.load(tmp_path / "a.pth")


def test_a_discriminator_that_does_not_fit_is_refused(tmp_path):
    generator = saved(reference.ResnetGenerator(), tmp_path / "g.pth")
    wrong = saved(reference.PatchDiscriminator(num_in=4), tmp_path / "d.pth")
    with pytest.raises(limbeck.CheckpointError, match=r"d\.pth: the discriminator's num_channels is 4"):
        limbeck.load(generator, discriminator=wrong)
    star = saved(reference.StarGenerator(), tmp_path / "g.ckpt")
    other = saved(reference.StarDiscriminator(labels=4), tmp_path / "d.ckpt")
    with pytest.raises(limbeck.CheckpointError, match=r"d\.ckpt: the discriminator's num_classes is 4"):
        limbeck.load(star, discriminator=other)


def test_pickled_networks_are_refused(tmp_path):
    torch.save(reference.ResnetGenerator(), tmp_path / "a.pth")
    with pytest.raises(limbeck.CheckpointError, match="refused"):
        limbeck.load(tmp_path / "a.pth")


def test_pixel_and_patch_discriminators_are_told_apart(tmp_path):
    generator = saved(reference.ResnetGenerator(), tmp_path / "g.pth")
    for name, layers in (("pixel", 0), ("patchgan_2", 2), ("patchgan", 3)):
        found = limbeck.load(generator, discriminator=saved(JUDGES[name](), tmp_path / "d.pth")).discriminator
        assert isinstance(found, PatchGAN)
        assert found.arguments["num_layers"] == layers
