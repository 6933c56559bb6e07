import pytest
import torch

from limbeck.evaluation.image_store import ImageStore
from limbeck.metrics.ssim import Ssim

from .conftest import protocol, tiny_denoiser, tiny_model

SHAPE = (2, 3, 4, 4)


def drawn(value):
    return lambda: torch.full(SHAPE, value, dtype=torch.uint8)


def test_a_batch_is_drawn_once_for_the_same_weights_and_settings(tmp_path):
    network = tiny_model().generator
    first = ImageStore(tmp_path).batch(network, {"steps": 5}, 0, drawn(7), SHAPE)
    again = ImageStore(tmp_path).batch(network, {"steps": 5}, 0, lambda: pytest.fail("drawn again"), SHAPE)
    assert torch.equal(first, again)
    store = ImageStore(tmp_path)
    others = [
        store.batch(network, {"steps": 6}, 0, drawn(8), SHAPE),
        store.batch(network, {"steps": 5}, 2, drawn(9), SHAPE),
        store.batch(tiny_model(1).generator, {"steps": 5}, 0, drawn(10), SHAPE),
    ]
    assert [int(images.max()) for images in others] == [8, 9, 10]
    assert len(list(tmp_path.rglob("*.safetensors"))) == 4


def test_a_damaged_file_is_drawn_anew(tmp_path):
    network = tiny_model().generator
    ImageStore(tmp_path).batch(network, {}, 0, drawn(1), SHAPE)
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:50])
    assert int(ImageStore(tmp_path).batch(network, {}, 0, drawn(2), SHAPE).max()) == 2
    assert int(ImageStore(tmp_path).batch(network, {}, 0, drawn(3), SHAPE).max()) == 2


def test_clear_leaves_nothing(tmp_path):
    store = ImageStore(tmp_path / "drawn")
    store.clear()
    store.batch(tiny_model().generator, {}, 0, drawn(1), SHAPE)
    store.clear()
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_evaluation_draws_only_what_is_missing_and_the_teacher_once(source, tmp_path):
    """The network is slow: every pass through it counts."""
    teacher, student = tiny_denoiser(0), tiny_denoiser(1)
    passes = {"teacher": 0, "student": 0}
    for name, model in (("teacher", teacher), ("student", student)):
        model.generator.register_forward_hook(lambda *_, name=name: passes.update({name: passes[name] + 1}))
    settings = {"num_images": 20, "batch_size": 8, "steps": 4, "keep_drawn": True}
    expected = protocol({"ssim": Ssim()}, **settings)(student, data=source, teacher=teacher)
    assert passes == {"teacher": 12, "student": 12}

    def stopped(what, done, total):
        if done > 8:
            raise KeyboardInterrupt

    store, asked = ImageStore(tmp_path), protocol({"ssim": Ssim()}, **settings)
    with pytest.raises(KeyboardInterrupt):
        asked(student, data=source, teacher=teacher, store=store, on_progress=stopped)
    for name in passes:
        passes[name] = 0
    assert asked(student, data=source, teacher=teacher, store=ImageStore(tmp_path)) == expected
    assert passes == {"teacher": 4, "student": 4}  # the last of three batches
    asked(tiny_denoiser(2), data=source, teacher=teacher, store=ImageStore(tmp_path))
    assert passes["teacher"] == 4


def test_other_models_are_not_kept(source, tmp_path):
    protocol({"ssim": Ssim()})(tiny_model(), data=source, teacher=tiny_model(1), store=ImageStore(tmp_path))
    assert list(tmp_path.iterdir()) == []
