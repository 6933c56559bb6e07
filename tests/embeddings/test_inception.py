import pytest
import torch
import torch.nn.functional as F

from limbeck.embeddings.inception import Inception, as_pytorch_fid, as_tensorflow, resized_as_tensorflow
from limbeck.embeddings.torchvision_shim import imported
from limbeck.errors import UserError


@pytest.mark.parametrize(("height", "width"), [(32, 32), (40, 64), (299, 299), (512, 400)])
def test_the_resize_is_tensorflow_s(height, width):
    module = imported("torch_fidelity.interpolate_compat_tensorflow")
    image = torch.randint(0, 256, (2, 3, height, width)).float()
    expected = module.interpolate_bilinear_2d_like_tensorflow1x(image, size=(299, 299), align_corners=False)
    # A position in float32 is off by at most max(height, width) / 2^24 pixels each way, a pixel by at most 255.
    tolerance = 2 * 255 * max(height, width) / 2**24
    assert (resized_as_tensorflow(image, 299) - expected).abs().max() < tolerance


def test_the_resize_by_hand():
    image = torch.tensor([[0.0, 10.0]]).reshape(1, 1, 1, 2).expand(-1, -1, 2, -1)
    assert torch.allclose(resized_as_tensorflow(image, 4)[0, 0, 0], torch.tensor([0.0, 5.0, 10.0, 10.0]))


@pytest.mark.parametrize("side", [32, 299, 400])
def test_half_pixel_is_the_input_of_pytorch_fid(side):
    """As its `InceptionV3.forward` has it: x in [0, 1], torch's bilinear interpolation, 2 x - 1."""
    x = torch.rand(2, 3, side, side)
    expected = 2 * F.interpolate(x, size=(299, 299), mode="bilinear", align_corners=False) - 1
    assert torch.allclose(as_pytorch_fid(2 * x - 1), expected, atol=1e-6)
    assert (as_pytorch_fid(2 * x - 1) - as_tensorflow(2 * x - 1)).abs().mean() > (0.05 if side == 32 else 1e-3)


def test_half_pixel_by_hand():
    image = torch.tensor([[0.0, 1.0]]).reshape(1, 1, 1, 2).expand(-1, 3, 2, -1)
    row = as_pytorch_fid(image)[0, 0, 0]  # position (i + 1/2) 2 / 299 - 1/2, cut at the ends
    assert torch.allclose(row, ((torch.arange(299) + 0.5) * 2 / 299 - 0.5).clamp(0, 1), atol=1e-6)


def test_the_resize_is_a_setting_with_a_digest_of_its_own(fidelity_inception, inception):
    other = Inception(path=fidelity_inception[1], resize="half_pixel").load()
    assert "half-pixel" in other.describe()["resize"]
    assert other.digest() != inception.digest()
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    assert torch.equal(other.feature_maps(image)[0], other.network(as_pytorch_fid(image))[0])
    with pytest.raises(UserError, match=r"embeddings.inception.resize='pil': allowed: tensorflow, half_pixel"):
        Inception(path=fidelity_inception[1], resize="pil").digest()


@pytest.mark.parametrize("size", [32, 256])
def test_features_are_those_of_torch_fidelity(fidelity_inception, inception, size):
    network, _ = fidelity_inception
    image = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    with torch.no_grad():
        expected = network(image)[0]
        found = inception(image.float() / 127.5 - 1)
    assert found.shape == (2, 2048)
    assert expected.std() > 1e-3  # random weights that say something
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_maps_and_gradient(inception):
    image = torch.rand(1, 1, 64, 64, requires_grad=True)
    maps = inception.feature_maps(image)
    assert [tuple(m.shape[1:]) for m in maps] == [
        (64, 147, 147), (192, 71, 71), (288, 35, 35), (768, 17, 17), (2048, 8, 8)
    ]  # fmt: skip
    maps[-1].sum().backward()
    assert image.grad.abs().sum() > 0


@pytest.mark.parametrize("path", [None, "nowhere/inception.pth"])
def test_a_missing_file_is_named_with_its_source(path):
    embedding = Inception(path=path)
    for use in (embedding.load, embedding.digest):
        with pytest.raises(UserError) as refusal:
            use()
        message = str(refusal.value)
        assert "pt_inception-2015-12-05-6726825d.pth" in message
        assert "https://github.com/mseitzer/pytorch-fid/releases" in message
        assert "embeddings.inception.path=" in message
        assert "\n" not in message
        assert path is None or path in message


@pytest.mark.parametrize("content", [b"", b"not weights", None])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    path = tmp_path / "other.pth"
    if content is None:
        torch.save({"layer.conv.weight": torch.zeros(1)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"other.pth: not the weights") as refusal:
        Inception(path=path).load()
    assert "\n" not in str(refusal.value)


def test_the_digest_is_that_of_the_file(fidelity_inception, tmp_path):
    path = fidelity_inception[1]
    copy = tmp_path / "copy.pth"
    copy.write_bytes(path.read_bytes())
    assert Inception(path=path).digest() == Inception(path=copy).digest()
    copy.write_bytes(path.read_bytes() + b"x")
    assert Inception(path=path).digest() != Inception(path=copy).digest()
