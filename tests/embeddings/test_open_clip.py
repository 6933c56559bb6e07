import logging

import pytest
import torch
from safetensors.torch import save_file

from limbeck.embeddings.open_clip import OpenClip
from limbeck.embeddings.pretrained import Pretrained
from limbeck.embeddings.torchvision_shim import imported
from limbeck.errors import UserError

TINY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
    "text_cfg": {"context_length": 7, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1},
}
TINY_VIT = {**TINY, "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}}


@pytest.fixture
def architectures(monkeypatch):
    """Two small architectures with published weights' names, known to open_clip for the time of a test."""
    factory, pretrained = imported("open_clip.factory"), imported("open_clip.pretrained")
    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny-rn", TINY)
    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny-vit", TINY_VIT)
    for name in ("tiny-rn", "tiny-vit"):
        monkeypatch.setitem(pretrained._PRETRAINED, name, pretrained._PRETRAINED["RN50"])


def whole(model: str, **settings) -> torch.nn.Module:
    torch.manual_seed(4)
    return imported("open_clip").create_model(model, pretrained_text=False, **settings).eval()


@pytest.fixture
def file(architectures, tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_file(whole("tiny-rn").state_dict(), path)
    return path


def test_features_are_the_projected_ones_of_the_image_tower(file):
    embedding = Pretrained(source=OpenClip(model="tiny-rn", path=file), preprocessing="raw").load()
    image = torch.rand(2, 3, 64, 64) * 2 - 1
    found = embedding(image)
    assert found.shape == (2, embedding.num_features) == (2, 24)
    torch.testing.assert_close(found, whole("tiny-rn").encode_image(image), atol=1e-5, rtol=1e-4)
    assert embedding(torch.rand(1, 3, 100, 100)).shape == (1, 24)  # raw images are brought to the only size it takes
    assert embedding.preprocessing()["resize"].startswith("64x64, bilinear, half-pixel centers, no antialias")
    assert [m.shape[2] for m in embedding.feature_maps(image)] == [32, 16, 8, 4, 2]


def test_images_are_prepared_as_open_clip_does(file):
    clip = imported("open_clip")
    facts = clip.get_pretrained_cfg("RN50", "openai")
    from PIL import Image

    transform = clip.image_transform(
        64, is_train=False, mean=facts["mean"], std=facts["std"], interpolation="bicubic", resize_mode="shortest"
    )
    image = (
        torch.nn.functional.interpolate(torch.rand(1, 3, 9, 9), size=(90, 120), mode="bilinear") * 200 + 20
    ).round()
    expected = transform(Image.fromarray(image[0].permute(1, 2, 0).byte().numpy()))
    embedding = Pretrained(source=OpenClip(model="tiny-rn", path=file))
    found = embedding._prepared(image / 127.5 - 1)[0]
    assert (found - expected).abs().max() < 1.1 / 255 / min(facts["std"])


def test_a_file_of_the_image_tower_alone_fits(file, tmp_path):
    save_file(whole("tiny-rn").visual.state_dict(), tmp_path / "tower.safetensors")
    image = torch.rand(1, 3, 64, 64)
    both = (Pretrained(source=OpenClip(model="tiny-rn", path=p)).load() for p in (file, tmp_path / "tower.safetensors"))
    first, second = (embedding(image) for embedding in both)
    assert torch.equal(first, second)
    with pytest.raises(UserError, match="the weights are of another network"):
        Pretrained(source=OpenClip(model="tiny-vit", path=file)).load()


def test_a_transformer_takes_another_resolution(architectures, tmp_path):
    path = tmp_path / "vit.pth"
    torch.save(whole("tiny-vit").state_dict(), path)
    embedding = Pretrained(source=OpenClip(model="tiny-vit", path=path), resolution=48, preprocessing="raw").load()
    resampled = whole("tiny-vit", pretrained=str(path), force_image_size=48)
    image = torch.rand(2, 3, 48, 48)
    torch.testing.assert_close(embedding(image), resampled.encode_image(image), atol=1e-5, rtol=1e-4)


def test_gradients_reach_the_image_and_nothing_is_said(file, caplog, capfd):
    handlers = list(logging.root.handlers)
    embedding = Pretrained(source=OpenClip(model="tiny-rn", path=file)).load()
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    embedding(image).sum().backward()
    assert image.grad.abs().sum() > 0
    assert "random" not in caplog.text + "".join(capfd.readouterr())
    assert logging.root.handlers == handlers
    assert logging.root.manager.disable == 0


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"model": "nothing"}, "open_clip has no such model.*list_models"),
        ({"model": "hf-hub:timm/x"}, "open_clip has no such model"),
        ({"model": "RN50", "weights": "best"}, "weights='best': allowed for RN50: openai, yfcc15m, cc12m"),
        ({"model": "RN50"}, "hf download timm/resnet50_clip.openai open_clip_model.safetensors"),
    ],
)
def test_what_is_unknown_or_missing_is_said_in_one_line(architectures, settings, match, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=match) as error:
        Pretrained(source=OpenClip(**settings)).describe()
    assert "\n" not in str(error.value)


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch):
    def absent(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr("limbeck.embeddings.open_clip.imported", absent)
    lazy = Pretrained(source=OpenClip(model="RN50"))
    for use in (lazy.load, lazy.describe):
        with pytest.raises(UserError, match=r"open_clip:RN50: the package open_clip_torch is missing; pip install"):
            use()
