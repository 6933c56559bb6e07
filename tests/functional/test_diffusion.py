"""Diffusion by hand, by its laws, and against the papers' loops written out."""

import math

import pytest
import torch

from limbeck.errors import UserError
from limbeck.functional.diffusion import (
    alpha_bar_schedule,
    antithetic_timesteps,
    ddim,
    ddpm,
    diffuse,
    noise_loss,
    predicted_clean,
    time_grid,
)


def denoiser(image, timestep):
    """A nonlinear stand-in for a network that depends on every input."""
    return torch.sin(image * 1.3) * 0.5 + image.flip(3) * 0.3 + 0.001 * timestep[:, None, None, None]


# -- schedules --------------------------------------------------------------------------------------------------------


def test_linear_schedule():
    alpha_bar = alpha_bar_schedule()
    assert alpha_bar.shape == (1000,)
    assert alpha_bar.dtype == torch.float64
    assert alpha_bar[0].item() == pytest.approx(1 - 1e-4)
    assert alpha_bar[1].item() == pytest.approx((1 - 1e-4) * (1 - 1e-4 - 0.0199 / 999))
    assert alpha_bar[-1].item() == pytest.approx(4.0358e-5, rel=1e-3)
    assert (alpha_bar.diff() < 0).all()
    assert alpha_bar_schedule("linear", 2, 0.1, 0.5).tolist() == pytest.approx([0.9, 0.45])


def test_other_schedules_by_hand():
    middle = ((math.sqrt(0.1) + math.sqrt(0.4)) / 2) ** 2
    expected = [0.9, 0.9 * (1 - middle), 0.9 * (1 - middle) * 0.6]
    assert alpha_bar_schedule("scaled_linear", 3, 0.1, 0.4).tolist() == pytest.approx(expected)

    def level(t):
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    cosine = alpha_bar_schedule("cosine", 4)
    assert cosine[:3].tolist() == pytest.approx([level(t / 4) / level(0) for t in (1, 2, 3)])
    assert cosine[3].item() == pytest.approx(cosine[2].item() * 0.001)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("square",), "beta_schedule='square': must be one of linear"),
        (("linear", 0), "num_train_steps=0"),
        (("linear", 10, 0.5, 0.1), "beta_start=0.5, beta_end=0.1"),
        (("linear", 10, 0.0, 0.1), "0 < beta_start"),
    ],
)
def test_impossible_schedules(arguments, message):
    with pytest.raises(UserError, match=message):
        alpha_bar_schedule(*arguments)


# -- time steps -------------------------------------------------------------------------------------------------------


def test_uniform_grid():
    assert time_grid(100) == list(range(0, 1000, 10))
    assert time_grid(1000) == list(range(1000))
    assert time_grid(3, num_train_steps=10) == [0, 3, 6]
    assert time_grid(1) == [0]


def test_quadratic_grid():
    grid = time_grid(100, kind="quadratic")
    assert len(grid) == 100
    assert len(set(grid)) == 96
    assert grid[:5] == [0, 0, 0, 0, 1]
    assert grid[-3:] == [768, 783, 800]
    assert grid == sorted(grid)
    assert time_grid(5, "quadratic", num_train_steps=20) == [0, 1, 4, 9, 16]
    assert time_grid(1, "quadratic") == [0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "steps=0: must be from 1 to 1000"),
        ((1001,), "steps=1001"),
        ((5, "cubic"), "kind='cubic': must be one of"),
    ],
)
def test_impossible_grids(arguments, message):
    with pytest.raises(UserError, match=message):
        time_grid(*arguments)


def test_antithetic_time_steps():
    source = torch.Generator().manual_seed(0)
    for num in (1, 4, 7):
        drawn = antithetic_timesteps(num, 100, generator=source)
        half = num // 2 + 1
        assert drawn.shape == (num,)
        assert torch.equal(drawn[half:], 99 - drawn[: num - half])
        assert 0 <= drawn.min() <= drawn.max() <= 99
    many = antithetic_timesteps(20_000, 10, generator=source)
    assert torch.bincount(many, minlength=10).min() > 1700


# -- noising ----------------------------------------------------------------------------------------------------------


def test_diffuse_by_hand():
    clean, noise = torch.full((3, 1, 1, 1), 2.0), torch.full((3, 1, 1, 1), -1.0)
    noisy = diffuse(clean, noise, torch.tensor([1.0, 0.0, 0.64]))
    assert noisy.flatten().tolist() == pytest.approx([2.0, -1.0, 0.8 * 2 - 0.6])


def test_predicted_clean_is_the_inverse():
    clean, noise = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    share = torch.tensor([0.99, 0.5, 0.1], dtype=torch.float64)
    torch.testing.assert_close(predicted_clean(diffuse(clean, noise, share), noise, share), clean)
    assert diffuse(clean, noise, share).dtype == torch.float32


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_diffuse_refuses_what_is_no_share(share):
    with pytest.raises(UserError, match=r"alpha_bar: .*must lie in \[0, 1\]"):
        diffuse(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), torch.tensor([share]))


def test_noise_loss_by_hand():
    estimate = torch.tensor([[[[1.0, 2.0]]], [[[0.0, 0.0]]]])
    noise = torch.tensor([[[[0.0, 0.0]]], [[[0.0, 4.0]]]])
    assert noise_loss(estimate, noise).item() == (5 + 16) / 2


# -- sampling ---------------------------------------------------------------------------------------------------------


def released_ddim(image, timesteps, alpha_bar, eta, draws, bound=math.inf):
    """DDIM's loop with the released code's constants c1 and c2, in float64. bound: of the clean image."""
    image = image.double()
    for index in reversed(range(len(timesteps))):
        now = alpha_bar[timesteps[index]]
        after = alpha_bar[timesteps[index - 1]] if index else torch.tensor(1.0).double()
        estimate = denoiser(image, torch.full((len(image),), timesteps[index]))
        clean = ((image - estimate * (1 - now).sqrt()) / now.sqrt()).clamp(-bound, bound)
        c1 = eta * ((1 - now / after) * (1 - after) / (1 - now)).sqrt()
        c2 = ((1 - after) - c1**2).sqrt()
        drawn = next(draws) if c1 > 0 else 0
        image = after.sqrt() * clean + c1 * drawn + c2 * estimate
    return image


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("grid", [time_grid(20), time_grid(20, "quadratic")])
@pytest.mark.parametrize(("clip_sample", "bound"), [(False, math.inf), (True, 1.0)])
def test_ddim_is_the_released_loop(eta, grid, clip_sample, bound):
    noise, alpha_bar = torch.randn(2, 3, 4, 4), alpha_bar_schedule()
    source = torch.Generator().manual_seed(7)
    drawn = [torch.randn(noise.shape, generator=source) for _ in range(20)]
    source.manual_seed(7)
    image = ddim(denoiser, noise, grid, alpha_bar, eta, source, clip_sample=clip_sample)
    expected = released_ddim(noise, grid, alpha_bar, eta, iter(drawn), bound)
    assert (image.abs().max() > 1.5) is not clip_sample
    torch.testing.assert_close(image.double(), expected, rtol=1e-4, atol=1e-4)
    assert image.dtype == torch.float32
    assert not image.requires_grad


def test_one_step_of_ddim_by_hand():
    alpha_bar = torch.tensor([0.81, 0.36], dtype=torch.float64)

    def constant(image, timestep):
        return torch.full_like(image, 0.5)

    image = ddim(constant, torch.ones(1, 1, 1, 1), [0, 1], alpha_bar)
    first = 0.9 * (1 - 0.8 * 0.5) / 0.6 + math.sqrt(0.19) * 0.5
    assert image.item() == pytest.approx((first - math.sqrt(0.19) * 0.5) / 0.9)


def test_the_exact_noise_leads_back_to_the_image():
    clean, noise, alpha_bar = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 4), alpha_bar_schedule()

    def oracle(image, timestep):
        share = alpha_bar[timestep][:, None, None, None]
        return ((image - share.sqrt() * clean) / (1 - share).sqrt()).float()

    start = diffuse(clean, noise, alpha_bar[[990]])
    torch.testing.assert_close(ddim(oracle, start, time_grid(100), alpha_bar), clean, rtol=1e-3, atol=1e-3)
    clean = clean.clamp(-1, 1)
    start = diffuse(clean, noise, alpha_bar[[999]])
    source = torch.Generator().manual_seed(0)
    torch.testing.assert_close(ddpm(oracle, start, range(1000), alpha_bar, generator=source), clean, rtol=0, atol=1e-3)


def test_sampling_follows_the_generator_alone():
    noise, alpha_bar = torch.randn(2, 3, 4, 4), alpha_bar_schedule()
    state = torch.get_rng_state()
    images = [
        sampler(denoiser, noise, time_grid(10), alpha_bar, generator=torch.Generator().manual_seed(1), **settings)
        for sampler, settings in ((ddim, {"eta": 1.0}), (ddpm, {}))
        for _ in range(2)
    ]
    assert torch.equal(images[0], images[1])
    assert torch.equal(images[2], images[3])
    assert torch.equal(torch.get_rng_state(), state)
    deterministic = ddim(denoiser, noise, time_grid(10), alpha_bar)
    assert torch.equal(deterministic, ddim(denoiser, noise, torch.tensor(time_grid(10)), alpha_bar))


def test_repeated_steps_change_nothing():
    noise, alpha_bar = torch.randn(2, 3, 4, 4), alpha_bar_schedule()
    once, twice = ([0, 10, 500], [0, 0, 10, 10, 10, 500])
    torch.testing.assert_close(ddim(denoiser, noise, once, alpha_bar), ddim(denoiser, noise, twice, alpha_bar))


@pytest.mark.parametrize("variance", ["large", "small"])
def test_ddpm_is_the_papers_algorithm(variance):
    """Algorithm 2 with beta_t and the two choices of sigma of section 3.2, over all steps."""
    num_steps, noise = 30, torch.randn(2, 3, 4, 4)
    betas = torch.linspace(1e-3, 0.2, num_steps, dtype=torch.float64)
    alpha_bar = alpha_bar_schedule("linear", num_steps, 1e-3, 0.2)
    source = torch.Generator().manual_seed(3)
    image = noise.double()
    for t in reversed(range(num_steps)):
        before = alpha_bar[t - 1] if t else torch.tensor(1.0).double()
        estimate = denoiser(image, torch.full((2,), t))
        clean = ((image - (1 - alpha_bar[t]).sqrt() * estimate) / alpha_bar[t].sqrt()).clamp(-1, 1)
        mean = before.sqrt() * betas[t] / (1 - alpha_bar[t]) * clean
        mean = mean + (1 - betas[t]).sqrt() * (1 - before) / (1 - alpha_bar[t]) * image
        sigma = (betas[t] if variance == "large" else (1 - before) / (1 - alpha_bar[t]) * betas[t]).sqrt()
        image = mean + sigma * torch.randn(noise.shape, generator=source) if t else mean
    source.manual_seed(3)
    found = ddpm(denoiser, noise, range(num_steps), alpha_bar, variance, source)
    torch.testing.assert_close(found.double(), image, rtol=1e-4, atol=1e-4)
    assert found.abs().max() <= 1 + 1e-6


@pytest.mark.parametrize("timesteps", [[], [3, 2], [-1, 2], [5, 1000]])
def test_wrong_time_steps(timesteps):
    for sampler in (ddim, ddpm):
        with pytest.raises(UserError, match=r"timesteps: must ascend within 0\.\.999"):
            sampler(denoiser, torch.zeros(1, 1, 2, 2), timesteps, alpha_bar_schedule())


def test_unknown_variance():
    with pytest.raises(UserError, match="variance='medium': must be one of small, large"):
        ddpm(denoiser, torch.zeros(1, 1, 2, 2), [0], alpha_bar_schedule(), "medium")
