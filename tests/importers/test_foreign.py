"""What all foreign files share: wrapped names, facts that no tensor shows, a discriminator in a second file."""

import json
import re

import pytest
import safetensors.torch
import torch

import limbeck
from limbeck.architectures.ddpm import UNet
from limbeck.architectures.stylegan2 import Discriminator, Generator
from limbeck.cli import main
from limbeck.importers.checkpoint import File
from limbeck.importers.foreign import unwrapped

from . import test_ddim, test_diffusers, test_rosinality

WRAPPINGS = {
    "compiled": lambda name: f"_orig_mod.{name}",
    "compiled in DataParallel": lambda name: f"module._orig_mod.{name}",
    "DataParallel in compiled": lambda name: f"_orig_mod.module.{name}",
    "twice": lambda name: f"module.module.{name}",
    "inside": lambda name: name.replace(".", "._orig_mod.", 1),
    "sharded": lambda name: f"_fsdp_wrapped_module.{name.replace('.', '._checkpoint_wrapped_module.', 1)}",
}


def saved(content, path):
    torch.save(content, path)
    return path


def wrapped(state, wrapping):
    return {WRAPPINGS[wrapping](name): value for name, value in state.items()}


def small():
    generator = test_rosinality.small_generator()
    return generator, test_rosinality.noisy(Discriminator(resolution=8, widths=[4, 6]))


def same(a, b):
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_wrapped_networks_of_every_layout(tmp_path, wrapping):
    generator, discriminator = small()
    rosinality = test_rosinality.container(generator, discriminator, latent_avg=generator.mapping.w_avg.clone())
    for role in ("g", "g_ema", "d"):
        rosinality[role] = wrapped(rosinality[role], wrapping)
    official = {"G_ema": wrapped(generator.state_dict(), wrapping), "D": wrapped(discriminator.state_dict(), wrapping)}
    for content in (rosinality, official):
        model = limbeck.load(saved(content, tmp_path / "a.pt"))
        assert same(model.generator, generator)
        assert same(model.discriminator, discriminator)
    theirs = test_ddim.reference(multipliers=[1, 2], num_blocks=1)
    bare = limbeck.load(saved(theirs.state_dict(), tmp_path / "bare.ckpt")).generator
    average = {
        "n_averaged": torch.tensor(3),
        **{f"module.{name}": value for name, value in theirs.state_dict().items()},
    }
    for content in (wrapped(theirs.state_dict(), wrapping), [{}, {}, 1, 5, average], {"ema": average, "epoch": 3}):
        assert same(limbeck.load(saved(content, tmp_path / "a.ckpt")).generator, bare)
    ours = test_diffusers.network()
    folder = test_diffusers.folder(tmp_path / "folder", state=wrapped(ours.state_dict(), wrapping))
    assert same(limbeck.load(folder).generator, ours)


def test_two_names_that_become_one_are_refused():
    with pytest.raises(limbeck.CheckpointError, match=r"here: 'module\.a' and another entry are both 'a'"):
        unwrapped({"a": 1, "module.a": 2}, "here")
    assert unwrapped({"n_averaged": 1, "a": 2}, "here") == {"n_averaged": 1, "a": 2}
    assert unwrapped({"submodule.a": 1, "modules.b": 2}, "here") == {"submodule.a": 1, "modules.b": 2}


def attends_at_8(tmp_path):
    theirs = test_ddim.Reference(width=32, multipliers=[1, 2, 2], num_blocks=1, attention_level=2)
    return saved(theirs.state_dict(), tmp_path / "attn8.ckpt")


def test_facts_that_a_file_does_not_hold_are_told_or_shown_as_guesses(tmp_path, capsys):
    path = attends_at_8(tmp_path)
    guessed = limbeck.load(path)
    assert guessed.generator.resolution == guessed.history[0]["guessed"]["resolution"] == 64
    told = limbeck.load(path, resolution=32, beta_schedule="cosine", num_train_steps=50)
    assert told.generator.resolution == 32
    assert torch.equal(told.generator.alpha_bar(), limbeck.functional.diffusion.alpha_bar_schedule("cosine", 50))
    assert sorted(told.history[0]["guessed"]) == ["beta_end", "beta_start"]
    assert told.history[0]["told"] == {"resolution": 32, "beta_schedule": "cosine", "num_train_steps": 50}
    assert File(path, resolution=32, beta_end=None)().generator.resolution == 32

    main(["inspect", str(path)])
    assert re.search(r"  resolution: 64 \(a guess: .*--resolution says it\)", capsys.readouterr().out)
    main(["convert", str(path), str(tmp_path / "a.safetensors"), "--resolution", "32"])
    assert "  resolution: 32\n" in capsys.readouterr().out
    converted = limbeck.load(tmp_path / "a.safetensors")
    assert converted.generator.resolution == 32
    main(["inspect", str(tmp_path / "a.safetensors")])
    assert re.search(r"  beta_schedule: linear \(a guess", capsys.readouterr().out)


def test_made_up_tensors_are_guesses(tmp_path, capsys):
    content = test_rosinality.container(small()[0])
    content["g_ema"] = {name: value for name, value in content["g_ema"].items() if not name.startswith("noises")}
    main(["inspect", str(saved(content, tmp_path / "old.pt"))])
    printed = capsys.readouterr().out
    assert "guessed, as the file does not say: noise_const: normal noise with a fixed seed" in printed
    assert "guessed, as the file does not say: w_avg: the mean of 10,000 styles" in printed


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"resolution": 30}, "resolution=30: must be a multiple of 4 pixels for 3 levels"),
        ({"resolution": "32"}, "resolution='32': must be a multiple of 4"),
        ({"beta_schedule": "quadratic"}, "beta_schedule='quadratic': must be one of linear"),
        ({"beta_end": "much"}, "beta_end='much': must be a number"),
        ({"num_heads": 4}, "num_heads=4: no question at .*attn8.ckpt; it may be told: beta_end, beta_schedule"),
    ],
)
def test_wrong_facts(tmp_path, facts, message):
    with pytest.raises(limbeck.UserError, match=message):
        limbeck.load(attends_at_8(tmp_path), **facts)


def test_facts_that_the_file_states_otherwise(tmp_path):
    folder = test_diffusers.folder(tmp_path / "a")
    assert limbeck.load(folder, resolution=8, num_train_steps=500).generator.resolution == 8
    with pytest.raises(limbeck.UserError, match=r"resolution=16: .*says 8; leave it out"):
        limbeck.load(folder, resolution=16)
    unsaid = {name: value for name, value in test_diffusers.CONFIG.items() if name != "sample_size"}
    folder = test_diffusers.folder(tmp_path / "b", config=unsaid)
    assert limbeck.load(folder, resolution=16).generator.resolution == 16
    native = limbeck.save(limbeck.Model(small()[0]), tmp_path / "a.safetensors")
    with pytest.raises(limbeck.UserError, match=r"resolution=8: no question at .*states everything"):
        limbeck.load(native, resolution=8)


def test_discriminator_from_a_second_file(tmp_path):
    generator, discriminator = small()
    first = saved(test_rosinality.container(generator)["g_ema"], tmp_path / "g.pt")
    whole = test_rosinality.container(generator, discriminator)
    seconds = [
        saved(whole["d"], tmp_path / "d.pt"),
        saved(wrapped(whole["d"], "twice"), tmp_path / "wrapped.pt"),
        saved({"state_dict": whole["d"], "epoch": 2}, tmp_path / "d.tar"),
        saved(whole, tmp_path / "whole.pt"),
        saved(discriminator.state_dict(), tmp_path / "official.pt"),
        limbeck.save(limbeck.Model(generator, discriminator), tmp_path / "native.safetensors"),
    ]
    for second in seconds:
        model = limbeck.load(first, discriminator=second)
        assert same(model.discriminator, discriminator)
        assert model.history[-1]["discriminator"] == second.name
    assert same(File(first, discriminator=str(seconds[0]))().discriminator, discriminator)
    assert limbeck.load(first).discriminator is None
    with pytest.raises(limbeck.UserError, match=r"teacher\.discriminator=nowhere\.pt: no such file"):
        File(first, discriminator="nowhere.pt")()
    with pytest.raises(limbeck.CheckpointError, match=r"g\.pt: no discriminator in it"):
        limbeck.load(first, discriminator=first)
    with pytest.raises(limbeck.CheckpointError, match=r"d\.pt: holds a discriminator alone; name it beside"):
        limbeck.load(seconds[0])
    other = limbeck.save(
        limbeck.Model(generator, Discriminator(resolution=16, widths=[4, 4, 4])), tmp_path / "16.safetensors"
    )
    with pytest.raises(limbeck.CheckpointError, match=r"the discriminator's resolution is 16, the generator's 8"):
        limbeck.load(first, discriminator=other)
    with pytest.raises(limbeck.UserError, match=r"holds a denoiser, which has none"):
        limbeck.load(test_diffusers.folder(tmp_path / "unet"), discriminator=seconds[0])


def in_pieces(folder, kind):
    """The same weights in two files and an index, as the library writes large ones."""
    whole = folder / f"diffusion_pytorch_model.{kind}"
    state = safetensors.torch.load_file(whole) if kind == "safetensors" else torch.load(whole, weights_only=True)
    names = sorted(state)
    pieces = {}
    for number, part in enumerate((names[:7], names[7:]), 1):
        piece = f"diffusion_pytorch_model-0000{number}-of-00002.{kind}"
        write = safetensors.torch.save_file if kind == "safetensors" else torch.save
        write({name: state[name].contiguous() for name in part}, folder / piece)
        pieces |= dict.fromkeys(part, piece)
    whole.unlink()
    index = folder / f"diffusion_pytorch_model.{kind}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": pieces}))
    return index


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_weights_in_pieces(tmp_path, kind):
    ours = test_diffusers.network()
    folder = test_diffusers.folder(tmp_path, state=ours.state_dict(), kind=kind)
    index = in_pieces(folder, kind)
    assert same(limbeck.load(folder).generator, ours)
    piece = folder / f"diffusion_pytorch_model-00002-of-00002.{kind}"
    content = piece.read_bytes()
    piece.unlink()
    with pytest.raises(limbeck.CheckpointError, match=r"-00002-of-00002\.\w+: a piece of the weights is missing"):
        limbeck.load(folder)
    piece.write_bytes(content)
    listed = json.loads(index.read_text())
    for name in ("../secret.safetensors", "/etc/passwd"):
        listed["weight_map"]["conv_in.bias"] = name
        index.write_text(json.dumps(listed))
        with pytest.raises(limbeck.CheckpointError, match=r"refused: .*pieces lie beside it"):
            limbeck.load(folder)
    index.write_text("{}")
    with pytest.raises(limbeck.CheckpointError, match="expected 'weight_map'"):
        limbeck.load(folder)


def test_old_names_in_errors(tmp_path):
    state = test_diffusers.with_old_names(test_diffusers.network().state_dict())
    del state["mid_block.attentions.0.key.bias"]
    with pytest.raises(limbeck.CheckpointError, match=r"0\.key\.bias' \(here '.*0\.to_k\.bias'\) is missing"):
        limbeck.load(test_diffusers.folder(tmp_path, state=state))


def test_widths_of_the_time_embedding_need_no_key(tmp_path):
    student = limbeck.prune(limbeck.Model(test_diffusers.network()), "l1", ratio=0.5).generator
    assert isinstance(student, UNet)
    config = test_diffusers.CONFIG | {"time_embedding_dim": 16, "_name_or_path": "x", "num_train_timesteps": 1000}
    assert same(limbeck.load(test_diffusers.folder(tmp_path, config, student.state_dict())).generator, student)


def test_generator_of_a_size_that_noise_images_would_not_fit(tmp_path):
    state = Generator(resolution=8, widths=[4, 4, 4, 4], z_dim=4, w_dim=4, mapping_depth=1).state_dict()
    far = {name.replace(".b8.", ".b65536."): value for name, value in state.items() if "noise_const" not in name}
    with pytest.raises(limbeck.CheckpointError, match="65536 pixels, supported: up to 4096"):
        limbeck.load(saved({"G_ema": far}, tmp_path / "a.pt"))
