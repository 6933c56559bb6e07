"""The `limbeck` command: what it prints, what it writes, and how it fails."""

import pytest
import torch

import limbeck
from limbeck.architectures.stylegan2 import Discriminator, Generator
from limbeck.cli import main


@pytest.fixture
def native(tmp_path):
    generator = Generator(resolution=8, widths=[4, 4, 6, 6], z_dim=8, w_dim=8, mapping_depth=1)
    model = limbeck.Model(generator, Discriminator(resolution=8, widths=[4, 4]), terms="research only")
    return limbeck.save(limbeck.prune(model, "l1", ratio=0.5), tmp_path / "model.safetensors")


def test_inspect_prints_architecture_costs_and_history(native, capsys):
    main(["inspect", str(native)])
    printed = capsys.readouterr().out
    counted = limbeck.profile(limbeck.load(native).generator)
    for expected in (
        "generator: stylegan2 Generator",
        "widths: [2, 2, 3, 3]",
        f"parameters: {counted.num_parameters:,}",
        f"MACs per image: {counted.macs:,}",
        "discriminator: stylegan2 Discriminator",
        "terms: research only",
        "1. prune: ",
        "ratio=0.5",
    ):
        assert expected in printed


def test_export_and_convert_back(native, tmp_path, capsys):
    main(["export", str(native), "--format", "rosinality", "-o", str(tmp_path / "a.pt")])
    main(["convert", str(tmp_path / "a.pt"), str(tmp_path / "b.safetensors")])
    printed = capsys.readouterr().out
    assert f"written: {tmp_path / 'b.safetensors'}" in printed
    assert "format=rosinality" in printed
    first, again = limbeck.load(native).generator, limbeck.load(tmp_path / "b.safetensors").generator
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "NOWHERE"], "error: model file not found: NOWHERE"),
        (["convert", "FILE", "b.pt"], r"error: target=b.pt: must end in .safetensors"),
        (["export", "FILE", "--format", "gif", "-o", "a"], "error: export=gif: unknown; allowed: diffusers, nvlabs, "),
        (["export", "FILE", "--format", "nvlabs"], "error: the following arguments are required: -o/--output"),
        (["squeeze"], "error: argument {convert,inspect,export}: invalid choice: 'squeeze'"),
        ([], "error: the following arguments are required: {convert,inspect,export}"),
        (
            ["export", "FILE", "--format", "nvlabs", "-o", "/proc/nothing/a.pt"],
            "error: cannot write /proc/nothing/a.pt",
        ),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(native, capsys, arguments, message):
    with pytest.raises(SystemExit) as caught:
        main([str(native) if argument == "FILE" else argument for argument in arguments])
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(message)
    assert captured.err.count("\n") == 1
    assert captured.out == ""
