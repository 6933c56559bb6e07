"""Diffusion in discrete time: noise schedules, noising an image in one jump, and sampling by DDIM or DDPM.

Time steps are t = 0 ... T - 1; alpha_bar[t] is the share of the clean image's variance that is left at step t, and
1 stands for the clean image itself. Images are in [-1, 1].

Sources: Ho et al., "Denoising Diffusion Probabilistic Models", 2020; Song et al., "Denoising Diffusion Implicit
Models", 2021, and its released code for the grids of time steps.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limbeck.arguments import number, one_of, whole
from limbeck.errors import UserError

Denoiser = Callable[[Tensor, Tensor], Tensor]  # noisy image [n, c, h, w], time step [n] -> estimate of the noise
SCHEDULES = ("linear", "scaled_linear", "cosine")
GRIDS = ("uniform", "quadratic")
VARIANCES = ("small", "large")


def check_schedule(kind: str, num_train_steps: int, beta_start: float | int, beta_end: float | int) -> None:
    """Raises: UserError if there is no such noise schedule."""
    if kind not in SCHEDULES:
        raise UserError(f"beta_schedule={kind!r}: must be one of {', '.join(SCHEDULES)}")
    if num_train_steps < 1 or not 0 < beta_start <= beta_end < 1:
        raise UserError(
            f"num_train_steps={num_train_steps}, beta_start={beta_start}, beta_end={beta_end}: "
            "must be at least 1, and 0 < beta_start <= beta_end < 1"
        )


def alpha_bar_schedule(
    kind: str = "linear", num_train_steps: int = 1000, beta_start: float | int = 1e-4, beta_end: float | int = 0.02
) -> Float[Tensor, "t"]:
    """Cumulative products of 1 - beta_t, in float64.

    kind: "linear" betas (DDPM), "scaled_linear" (linear in their square roots, latent diffusion), or "cosine" (Nichol
        and Dhariwal, "Improved Denoising Diffusion Probabilistic Models", 2021, Eq. 17, betas at most 0.999; it does
        not use beta_start and beta_end).
    """
    check_schedule(kind, num_train_steps, beta_start, beta_end)
    if kind == "cosine":
        time = torch.arange(num_train_steps + 1, dtype=torch.float64) / num_train_steps
        level = torch.cos((time + 0.008) / 1.008 * math.pi / 2).square()
        betas = (1 - level[1:] / level[:-1]).clamp(max=0.999)
    elif kind == "scaled_linear":
        betas = torch.linspace(beta_start**0.5, beta_end**0.5, num_train_steps, dtype=torch.float64).square()
    else:
        betas = torch.linspace(beta_start, beta_end, num_train_steps, dtype=torch.float64)
    return (1 - betas).cumprod(dim=0)


def alpha_bar_of(betas: Sequence[float]) -> Float[Tensor, "t"]:
    """Cumulative products of 1 - beta_t in float64, of a schedule that no formula here gives.

    betas: each in [0, 1); the last one may be 1, which leaves no signal at the last step.
    Raises: UserError if there are none, or others.
    """
    if not betas or not all(0 <= beta < 1 for beta in betas[:-1]) or not 0 <= betas[-1] <= 1:
        raise UserError("betas: must be numbers from 0 to below 1, at least one; only the last one may be 1")
    return (1 - torch.tensor(betas, dtype=torch.float64)).cumprod(dim=0)


def diffuse(
    clean: Float[Tensor, "n c h w"], noise: Float[Tensor, "n c h w"], alpha_bar: Float[Tensor, "n"]
) -> Float[Tensor, "n c h w"]:
    """Jump from a clean image to its noisy version in one step.

    x_t = sqrt(a) x_0 + sqrt(1 - a) e,  with a = alpha_bar in [0, 1]; images in [-1, 1].

    Source: Ho et al., 2020, Eq. 4.
    Raises: UserError if alpha_bar leaves [0, 1].
    """
    if alpha_bar.numel() and not (alpha_bar.min() >= 0 and alpha_bar.max() <= 1):
        raise UserError(f"alpha_bar: from {alpha_bar.min()} to {alpha_bar.max()}, must lie in [0, 1]")
    share = alpha_bar[:, None, None, None]
    return share.sqrt().to(clean) * clean + (1 - share).sqrt().to(clean) * noise


def predicted_clean(
    noisy: Float[Tensor, "n c h w"], estimate: Float[Tensor, "n c h w"], alpha_bar: Float[Tensor, "n"]
) -> Float[Tensor, "n c h w"]:
    """The clean image that an estimate of the noise implies, unclipped: the inverse of `diffuse`.

    x_0 = (x_t - sqrt(1 - a) e) / sqrt(a),  with a = alpha_bar in [0, 1].

    Where a = 0 the noisy image holds nothing of the clean one, so no estimate of noise tells about it: 0 stands there.

    Source: Ho et al., 2020, Eq. 15; Song et al., 2021, Eq. 9.
    """
    share = alpha_bar[:, None, None, None]
    divisor = torch.where(share > 0, share, 1).sqrt().to(noisy)  # an infinity here would spoil gradients
    return torch.where(share > 0, (noisy - (1 - share).sqrt().to(noisy) * estimate) / divisor, 0)


def noise_loss(estimate: Float[Tensor, "n c h w"], noise: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
    """Squared error of the estimate, summed over channels and pixels, averaged over images; in float32.

    Source: Ho et al., 2020, Eq. 14; summed instead of averaged over pixels as in DDIM's released code.
    """
    return (estimate.float() - noise.float()).square().sum(dim=(1, 2, 3)).mean()


def antithetic_timesteps(
    num: int, num_train_steps: int = 1000, *, generator: torch.Generator | None = None
) -> Int[Tensor, "n"]:
    """Random time steps in pairs t and T - 1 - t, on the generator's device: a batch never has only early ones.

    Source: DDIM's released training code.
    """
    device = "cpu" if generator is None else generator.device
    drawn = torch.randint(num_train_steps, (num // 2 + 1,), generator=generator, device=device)
    return torch.cat([drawn, num_train_steps - 1 - drawn])[:num]


def time_grid(num_steps: int, kind: str = "uniform", num_train_steps: int = 1000) -> list[int]:
    """Ascending time steps at which to sample.

    kind: "uniform" is 0, T / n, 2 T / n ...; "quadratic" is the squares of n equidistant numbers from 0 to
        sqrt(0.8 T), rounded down, so it starts with repeated steps and ends at 0.8 T.

    Source: DDIM's released code ("uniform", "quad").
    Differs: "uniform" has exactly n steps where n does not divide T; the released code takes more then.
    """
    one_of(kind, "kind", GRIDS)
    num_steps, num_train_steps = whole(num_steps, "steps"), whole(num_train_steps, "num_train_steps", at_least=1)
    if not 1 <= num_steps <= num_train_steps:
        raise UserError(f"steps={num_steps}: must be from 1 to {num_train_steps}")
    if kind == "uniform":
        return [index * num_train_steps // num_steps for index in range(num_steps)]
    end = math.sqrt(num_train_steps * 0.8)
    step = end / max(1, num_steps - 1)
    roots = [index * step for index in range(num_steps - 1)] + [end if num_steps > 1 else 0.0]
    return [int(root**2) for root in roots]


@torch.no_grad()
def ddim(
    denoiser: Denoiser,
    noise: Float[Tensor, "n c h w"],
    timesteps: Sequence[int] | Int[Tensor, "steps"],
    alpha_bar: Float[Tensor, "t"],
    eta: float | int = 0.0,
    generator: torch.Generator | None = None,
    *,
    clip_sample: bool = False,
) -> Float[Tensor, "n c h w"]:
    """Clean images from noise, without gradients.

    x_s = sqrt(a_s) x_0 + sqrt(1 - a_s - sigma^2) e + sigma z,
    sigma = eta sqrt((1 - a_s) / (1 - a_t)) sqrt(1 - a_t / a_s),
    from each of the `timesteps` t down to the one before it, s; from the first one to the clean image, a = 1.

    denoiser: (noisy image [n, c, h, w], time step [n]) -> estimate of the noise e. timesteps: ascending.
    eta: 0 is deterministic, 1 draws z with DDPM's small variance. generator: of z, on its own device.
    clip_sample: keep x_0 within [-1, 1] at every step, as `ddpm` does; the estimate of the noise stays as it is.

    Source: Song et al., 2021, Eq. 12 and 16; a repeated time step changes nothing, as in the released code, which does
    not clip. Clipped as diffusers' DDIMScheduler does, whose default it is.
    """
    number(eta, "eta", low=0, high=1)
    image = noise
    for step, now, after in _downwards(timesteps, alpha_bar):
        estimate = denoiser(image, _repeated(step, image)).to(image.dtype)
        clean = _clean(image, estimate, now)
        if clip_sample:
            clean = clean.clamp(-1, 1)
        sigma = eta * math.sqrt((1 - after) / (1 - now)) * math.sqrt(max(0.0, 1 - now / after))
        image = math.sqrt(after) * clean + math.sqrt(max(0.0, 1 - after - sigma**2)) * estimate
        if sigma > 0:
            image = image + sigma * _normal(image, generator)
    return image


@torch.no_grad()
def ddpm(
    denoiser: Denoiser,
    noise: Float[Tensor, "n c h w"],
    timesteps: Sequence[int] | Int[Tensor, "steps"],
    alpha_bar: Float[Tensor, "t"],
    variance: str = "large",
    generator: torch.Generator | None = None,
) -> Float[Tensor, "n c h w"]:
    """Clean images from noise by ancestral sampling, without gradients; the clean estimate is clipped at every step.

    x_s = sqrt(a_s) b / (1 - a_t) x_0 + sqrt(1 - b) (1 - a_s) / (1 - a_t) x_t + sigma z,  b = 1 - a_t / a_s,
    sigma^2 = b ("large") or b (1 - a_s) / (1 - a_t) ("small"),
    from each of the `timesteps` t down to the one before it, s; the last step adds no noise.

    denoiser, timesteps, generator: see `ddim`. All T time steps are the paper's; fewer skip some of them.

    Source: Ho et al., 2020, Algorithm 2 with Eq. 7; x_0 is clipped to [-1, 1] as in the released code.
    """
    if variance not in VARIANCES:
        raise UserError(f"variance={variance!r}: must be one of {', '.join(VARIANCES)}")
    image = noise
    for step, now, after in _downwards(timesteps, alpha_bar):
        estimate = denoiser(image, _repeated(step, image)).to(image.dtype)
        clean = _clean(image, estimate, now).clamp(-1, 1)
        beta, shrink = 1 - now / after, (1 - after) / (1 - now)
        image = math.sqrt(after) * beta / (1 - now) * clean + math.sqrt(1 - beta) * shrink * image
        sigma = math.sqrt(max(0.0, beta if variance == "large" else beta * shrink))
        if after < 1 and sigma > 0:
            image = image + sigma * _normal(image, generator)
    return image


def _downwards(
    timesteps: Sequence[int] | Int[Tensor, "steps"], alpha_bar: Float[Tensor, "t"]
) -> Iterator[tuple[int, float, float]]:
    """(t, alpha_bar at t, alpha_bar at the step before t), the noisiest first; before the first step stands 1."""
    steps = [int(step) for step in timesteps]
    if not steps or steps != sorted(steps) or steps[0] < 0 or steps[-1] >= len(alpha_bar):
        raise UserError(f"timesteps: must ascend within 0..{len(alpha_bar) - 1}, at least one")
    shares = [float(alpha_bar[step]) for step in steps]
    if not all(0 <= share <= 1 for share in shares):
        raise UserError(f"alpha_bar: from {min(shares)} to {max(shares)}, must lie in [0, 1]")
    return zip(reversed(steps), reversed(shares), reversed([1.0, *shares[:-1]]), strict=True)


def _repeated(step: int, image: Tensor) -> Tensor:
    return torch.full((len(image),), step, dtype=torch.long, device=image.device)


def _clean(noisy: Tensor, estimate: Tensor, share: float) -> Tensor:
    """`predicted_clean` where all images are at the same time step."""
    if share == 0:
        return torch.zeros_like(noisy)
    return (noisy - math.sqrt(1 - share) * estimate) / math.sqrt(share)


def _normal(image: Tensor, generator: torch.Generator | None) -> Tensor:
    device = image.device if generator is None else generator.device
    return torch.randn(image.shape, generator=generator, device=device, dtype=image.dtype).to(image.device)
