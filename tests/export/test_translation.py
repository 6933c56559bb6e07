"""Translation networks in the layouts of the public codes, as programs, and as ONNX models."""

import pytest
import torch

import limbeck
from limbeck.architectures import srgan, stargan
from limbeck.architectures.patchgan import PatchGAN
from limbeck.architectures.translation_resnet import ResNet
from limbeck.architectures.translation_unet import UNet
from limbeck.configured import configured

MODELS = {
    "pix2pix": lambda: UNet(width=4, num_levels=5),
    "pix2pix_resnet": lambda: ResNet(resolution=16, width=4, num_blocks=2, dropout=0.3),
    "pix2pix_resnet_batch": lambda: ResNet(resolution=32, width=4, num_blocks=1, norm="batch"),
    "stargan": lambda: stargan.Generator(resolution=16, num_classes=2, width=4, num_blocks=2),
    "srgan": lambda: srgan.Generator(resolution=32, width=6, num_blocks=2),
    "srgan_tanh": lambda: srgan.Generator(resolution=32, width=6, num_blocks=2, output="tanh", bias=True),
}


def student(name):
    """A pruned model with everything that plays along."""
    other = limbeck.Model(ResNet(resolution=16, width=2, num_blocks=1))
    judge = PatchGAN(width=2)
    return limbeck.prune(limbeck.Model(MODELS[name]().eval(), judge, reverse=other), "random", ratio=0.3)


@pytest.mark.parametrize("name", MODELS)
def test_the_layout_of_the_public_code_holds_the_generator_bit_for_bit(tmp_path, name):
    model, layout = student(name), name.partition("_")[0]
    path = configured("export", layout)(model, tmp_path / "a.pth")
    facts = {"resolution": model.generator.resolution}
    if model.generator.arguments.get("dropout") is not None:
        facts["dropout"] = model.generator.arguments["dropout"]
    again = limbeck.load(path, **facts)
    assert again.generator.arguments | {"width": 0} == model.generator.arguments | {"width": 0}
    for key, value in model.generator.state_dict().items():
        assert torch.equal(value, again.generator.state_dict()[key]), key
    assert again.discriminator is again.reverse is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "form"), [("pix2pix", "onnx"), ("pix2pix_resnet", "torch_export"), ("stargan", "onnx"), ("srgan", "onnx")]
)
def test_programs_equal_their_network(tmp_path, name, form):
    path = configured("export", form)(student(name), tmp_path / "a.bin")  # compared before it is kept
    assert path.stat().st_size > 1000


def test_other_networks_are_refused(tmp_path):
    for layout, name in (("pix2pix", "stargan"), ("stargan", "pix2pix"), ("srgan", "pix2pix")):
        with pytest.raises(limbeck.UserError, match=rf"format={layout}: holds .* not "):
            configured("export", layout)(student(name), tmp_path / "a.pth")
    mixed = limbeck.Model(srgan.Generator(resolution=32, width=4, num_blocks=1, output="tanh"))
    with pytest.raises(limbeck.UserError, match="neither's layout"):
        configured("export", "srgan")(mixed, tmp_path / "a.pth")
    assert list(tmp_path.iterdir()) == []
