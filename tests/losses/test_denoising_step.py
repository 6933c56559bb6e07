import torch

from limbeck.embeddings.random_projection import RandomProjection
from limbeck.frozen import Frozen
from limbeck.losses.dime import Dime
from limbeck.losses.image_step import Players
from limbeck.losses.mmd import Linear, Mmd
from limbeck.losses.perceptual import Perceptual
from limbeck.losses.pixel_l1 import PixelL1
from limbeck.model import Model, Pair

from .denoising import denoising_step, tiny_denoiser


def touched(module) -> bool:
    return any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in module.parameters())


def calls(network) -> list:
    seen = []
    network.register_forward_hook(lambda *arguments: seen.append(arguments))
    return seen


def test_noise_is_added_as_in_the_paper():
    step = denoising_step()
    share = step.alpha_bar[900].float()
    expected = share.sqrt() * step.clean[1] + (1 - share).sqrt() * step.noise[1]
    torch.testing.assert_close(step.noisy[1], expected)


def test_each_network_passes_once_and_only_if_asked():
    step = denoising_step()
    student, teacher = calls(step.players.student), calls(step.players.teacher.network)
    assert not step.student_has_passed
    step.student_estimate, step.student_image, step.student_image  # noqa: B018
    assert step.student_has_passed
    assert (len(student), len(teacher)) == (1, 0)
    step.teacher_image, step.teacher_estimate  # noqa: B018
    assert (len(student), len(teacher)) == (1, 1)


def test_only_the_student_gets_a_gradient():
    step = denoising_step()
    assert not step.teacher_estimate.requires_grad
    assert not step.teacher_image.requires_grad
    (step.student_image - step.teacher_image).square().sum().backward()
    assert touched(step.players.student)
    assert not touched(step.players.teacher.network)


def test_a_perfect_estimate_gives_the_clean_images_of_the_least_noisy_rows():
    step = denoising_step(timestep=[600, 100, 900, 50])
    assert step.num_images == 2
    step.__dict__["_student_pass"] = (step.noise, {})
    torch.testing.assert_close(step.student_image, step.clean[[1, 3]], atol=1e-5, rtol=0)
    everything = denoising_step(timestep=[600, 100, 900, 50], image_share=1.0)
    everything.__dict__["_student_pass"] = (everything.noise, {})
    torch.testing.assert_close(everything.student_image, everything.clean, atol=1e-3, rtol=0)


def test_features_come_from_the_pass_of_the_estimate():
    step = denoising_step(feature_blocks=("mid_block", "up_blocks.1"))
    network = step.players.student
    with torch.no_grad():
        estimate, features = network(step.noisy, step.timestep, return_features=["mid_block"])
    torch.testing.assert_close(step.student_estimate, estimate)
    torch.testing.assert_close(step.student_features["mid_block"], features["mid_block"])
    assert list(step.teacher_features) == ["mid_block", "up_blocks.1"]


def test_losses_on_images_work_on_denoised_ones():
    teacher = tiny_denoiser(1)
    pair = Pair(Model(teacher), Model(tiny_denoiser()))
    settings = {"embeddings": {"a": RandomProjection()}, "weights": {"a": 1.0}, "num_images": 8}
    terms = [
        PixelL1(),
        Perceptual(embedding=RandomProjection()),
        Dime(**settings, statistics="batch"),
        Mmd(**settings, kernel=Linear(), teacher="queue", unbiased=False),  # the queue still holds the first images
    ]
    for term in terms:
        term.prepare(pair, half=False)
        step = denoising_step(teacher=teacher)
        value = term(step)
        value.backward()
        assert value > 0, type(term)
        assert touched(step.players.student), type(term)
        same = denoising_step(student=teacher, teacher=teacher)
        assert term(same).abs() < 1e-4 * value or isinstance(term, Mmd)


def test_a_preview_repeats_the_dropout_of_the_pass_to_come():
    student = tiny_denoiser(dropout=0.5).train()
    embedding = Frozen(RandomProjection().load())
    step, plain = denoising_step(student=student), denoising_step(student=student)
    preview = step.previewed_vectors(embedding)
    assert not preview.requires_grad
    assert not step.student_has_passed
    torch.rand(5)  # what happens in between does not matter
    torch.testing.assert_close(step.vectors(embedding, "student"), preview)
    assert not torch.allclose(plain.vectors(embedding, "student"), preview)


def test_half_precision_teacher_differs_a_little():
    exact = denoising_step()
    half = denoising_step()
    half.players = Players(half.players.student, Frozen(tiny_denoiser(1), half=True), {})
    error = (exact.teacher_estimate - half.teacher_estimate).abs().max() / exact.teacher_estimate.abs().max()
    assert 1e-4 < error < 0.05
