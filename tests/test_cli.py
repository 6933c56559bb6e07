"""The `limbeck` command: what it prints, what it writes, and how it fails."""

import subprocess

import pytest
import torch

import limbeck
from limbeck.architectures import stylegan3
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


def test_inspect_tells_what_fixed_filters_cost(tmp_path, capsys):
    generator = stylegan3.Generator(resolution=16, widths=[4, 4], num_layers=1, num_critical=0, z_dim=4, w_dim=4)
    main(["inspect", str(limbeck.save(limbeck.Model(generator), tmp_path / "a.safetensors"))])
    printed = capsys.readouterr().out
    assert "generator: stylegan3 Generator" in printed
    assert f"MACs per image: {generator.macs():,}\n" in printed
    assert f"MACs in fixed filters, beside these: {generator.filter_macs():,}\n" in printed


def test_inspect_tells_what_is_switched_off(native, tmp_path, capsys):
    sparse = limbeck.sparsify(limbeck.load(native), ratio=0.25, granularity="kernel")
    main(["inspect", str(limbeck.save(sparse, tmp_path / "sparse.safetensors"))])
    printed = capsys.readouterr().out
    assert "parameters in use: " in printed
    assert "make no dense hardware faster" in printed
    assert "    synthesis.b8.conv1.weight: 22.22 %" in printed  # 2 of 9 kernels


def test_silent_channels_leave_at_export(native, tmp_path):
    sparse = limbeck.sparsify(limbeck.load(native), ratio=0.5, granularity="filter")
    limbeck.save(sparse, tmp_path / "sparse.safetensors")
    main(["export", str(tmp_path / "sparse.safetensors"), "--format", "rosinality", "-o", str(tmp_path / "a.pt")])
    slim = limbeck.load(tmp_path / "a.pt")
    assert slim.generator.arguments["widths"] == [2, 1, 2, 2]  # of 2, 2, 3, 3; the constant is no layer
    latent = torch.randn(2, 8)
    torch.testing.assert_close(slim.generator(latent), sparse.generator(latent), rtol=1e-5, atol=1e-5)


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
        (["squeeze"], "error: argument COMMAND: invalid choice: 'squeeze'"),
        (["choices", "sizes"], "error: sizes: no such group; allowed: allocation, calibration, callback, "),
        ([], "error: the following arguments are required: COMMAND"),
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


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"limbeck {limbeck.__version__}\n"


def test_choices_of_one_group_and_of_all(capsys):
    main(["choices", "initializer"])
    group, *lines = capsys.readouterr().out.splitlines()
    assert group == "initializer"
    assert [line.split()[0] for line in lines] == ["keep", "random", "svs", "svs_scale", "svs_shape"]
    assert lines[0].split(maxsplit=1)[1] == "The pruned weights as they are."
    main(["choices"])
    printed = capsys.readouterr().out.splitlines()
    assert {"pruning", "loss/generator", "experiment"} <= set(printed)
    assert set(lines) <= set(printed)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("limbeck ex", ["export"]),
        ("limbeck train initializer=r", ["random"]),
        ("limbeck train kimg=3 pruning=gan", ["gan_slimming"]),
        ("limbeck choices loss/d", ["loss/discriminator"]),
    ],
)
def test_completion_in_a_shell(capsys, tmp_path, line, found):
    main(["completion", "bash"])
    (tmp_path / "script").write_text(capsys.readouterr().out)
    words = " ".join(f"'{word}'" for word in line.split(" "))
    asked = f"COMP_LINE='{line}'; COMP_POINT={len(line)}; COMP_WORDS=({words}); COMP_CWORD={line.count(' ')}"
    command = f'source {tmp_path / "script"}; {asked}; _limbeck; echo "${{COMPREPLY[@]}}"'
    printed = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout
    assert printed.split() == found
