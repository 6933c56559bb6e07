import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.embeddings.preprocessing import (
    Preprocessing,
    Training,
    as_trained,
    center,
    normalized,
    resized,
    shorter_side_to,
)
from limbeck.embeddings.torchvision_shim import imported

TRAINING = Training(resolution=48, resize=56, interpolation="bicubic", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))


def smooth_images(height: int, width: int) -> torch.Tensor:
    """8-bit images without the extremes, where Pillow's bicubic would clip."""
    rough = torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(1)) * 160 + 48
    big = torch.nn.functional.interpolate(rough, size=(height, width), mode="bilinear", align_corners=False)
    return big.round()


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 128), (140, 100), (30, 30)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_as_trained_is_the_evaluation_transform_of_torchvision(height, width, interpolation):
    transforms = imported("torchvision.transforms")
    reference = transforms.Compose(
        [
            transforms.Resize(56, interpolation=transforms.InterpolationMode(interpolation)),
            transforms.CenterCrop(48),
            transforms.ToTensor(),
            transforms.Normalize(TRAINING.mean, TRAINING.std),
        ]
    )
    images = smooth_images(height, width)
    files = [Image.fromarray(image.permute(1, 2, 0).numpy().astype(np.uint8)) for image in images]
    expected = torch.stack([reference(file) for file in files])
    training = Training(48, 56, interpolation, mean=TRAINING.mean, std=TRAINING.std)
    found = as_trained(training, 48, crop=True)(images / 127.5 - 1)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1.1 / 255 / min(TRAINING.std)  # Pillow rounds to 8 bits


@pytest.mark.parametrize("name", ["test_resnet.r160_in1k", "test_vit.r160_in1k", "resnet50.a1_in1k"])
def test_as_trained_is_the_evaluation_transform_of_timm(name):
    timm = imported("timm")
    from limbeck.embeddings.timm import Timm

    facts = timm.models.get_pretrained_cfg(name).to_dict()
    reference = timm.data.create_transform(**timm.data.resolve_data_config({}, pretrained_cfg=facts))
    image = smooth_images(256, 256)[:1]
    expected = reference(Image.fromarray(image[0].permute(1, 2, 0).numpy().astype(np.uint8)))
    training = Timm(model=name).training()
    found = as_trained(training, training.resolution, crop=True)(image / 127.5 - 1)[0]
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1.1 / 255 / min(training.std)


def test_without_crop_the_whole_image_is_kept():
    image = torch.rand(1, 3, 96, 128)
    whole = as_trained(TRAINING, 48, crop=False)
    assert whole(image).shape == (1, 3, 48, 48)
    assert whole.describe()["resize"] == "48x48, bicubic, half-pixel centers, antialias"
    expected = normalized(
        resized(image, (48, 48), interpolation="bicubic", antialias=True), TRAINING.mean, TRAINING.std
    )
    assert torch.equal(whole(image), expected)


def test_another_resolution_keeps_the_share_that_is_cut_off():
    assert as_trained(TRAINING, 96, crop=True).resize == 112
    assert as_trained(TRAINING, 96, crop=True).crop == 96


def test_raw_images_are_left_alone():
    image = torch.rand(2, 3, 40, 40) * 2 - 1
    raw = Preprocessing()
    assert torch.equal(raw(image), image)
    assert raw.describe() == {"resize": "none", "normalization": "[-1, 1]"}


def test_a_raw_resize_is_bilinear_with_half_pixel_centers_and_without_antialias():
    row = torch.tensor([0.0, 1.0, 2.0, 3.0]).expand(1, 3, 4, 4)
    # positions (i + 0.5) * 4 / 2 - 0.5 = 0.5 and 2.5
    assert torch.equal(Preprocessing(resize=2)(row)[0, 0, 0], torch.tensor([0.5, 2.5]))
    wide = torch.tensor([0.0, 0, 0, 9, 0, 0, 0, 0]).expand(1, 3, 8, 8)
    # position 1.5 and 5.5 look at two neighbours each, so the bright column 3 is not seen
    assert torch.equal(Preprocessing(resize=2)(wide)[0, 0, 0], torch.zeros(2))
    assert Preprocessing(resize=2, antialias=True)(wide)[0, 0, 0, 0] > 1


def test_black_and_white_after_normalization_by_hand():
    image = torch.tensor([-1.0, 1.0]).reshape(1, 1, 1, 2).expand(1, 3, 1, 2)
    found = normalized(image, (0.25, 0.5, 0.0), (0.5, 0.25, 1.0))
    assert torch.allclose(found[0, :, 0], torch.tensor([[-0.5, 1.5], [-2.0, 2.0], [0.0, 1.0]]))


def test_the_shorter_side_decides_and_the_other_is_rounded_down():
    assert shorter_side_to(48, (64, 64)) == (48, 48)
    assert shorter_side_to(48, (64, 101)) == (48, 75)
    assert shorter_side_to(48, (101, 64)) == (75, 48)


def test_the_center_of_odd_remainders_is_that_of_torchvision():
    crop = imported("torchvision.transforms").CenterCrop(4)
    for height, width in ((4, 4), (5, 7), (9, 6), (8, 11)):
        image = torch.rand(1, 3, height, width)
        assert torch.equal(center(image, 4), crop(image))


def test_gradients_pass_through():
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    as_trained(TRAINING, 48, crop=True)(image).sum().backward()
    assert image.grad[:, :, 32, 32].abs().sum() > 0
    assert image.grad[:, :, 0, 0].abs().sum() == 0  # cut off


def test_every_setting_is_in_the_words():
    settings = [
        Preprocessing(),
        Preprocessing(resize=32),
        Preprocessing(resize=33),
        Preprocessing(resize=32, squash=False),
        Preprocessing(resize=32, antialias=True),
        Preprocessing(resize=32, interpolation="bicubic"),
        Preprocessing(resize=32, crop=30),
        Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.25)),
    ]
    assert len({str(setting.describe()) for setting in settings}) == len(settings)
