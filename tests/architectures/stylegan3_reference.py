"""StyleGAN3 written slowly from its description: one weight per image, zeros inserted, SciPy's filters.

Reads nothing of the network under test but its state dict and its arguments.
"""

import math

import numpy as np
import scipy.signal
import scipy.special
import torch
import torch.nn.functional as F

MARGIN = 10


def quantities(resolution, num_layers=14, num_critical=2):
    """Cutoff, half width of the transition band, rate and map size of each layer's output."""
    found = []
    for i in range(num_layers + 1):
        e = min(i / (num_layers - num_critical), 1)
        cutoff = 2 * ((resolution / 2) / 2) ** e
        stop = 2**2.1 * ((resolution / 2) * 2**0.3 / 2**2.1) ** e
        rate = 2 ** int(np.ceil(np.log2(min(2 * stop, resolution))))
        size = resolution if i >= num_layers - 1 else rate + 2 * MARGIN
        found.append((cutoff, max(stop, rate / 2) - cutoff, rate, size))
    return found


def low_pass(taps, cutoff, half_width, rate):
    return scipy.signal.firwin(taps, cutoff, width=2 * half_width, fs=rate)


def radial_low_pass(taps, cutoff, half_width, rate):
    beta = scipy.signal.kaiser_beta(scipy.signal.kaiser_atten(taps, 2 * half_width / (rate / 2)))
    window = np.kaiser(taps, beta)
    found = np.empty((taps, taps))
    for j in range(taps):
        for k in range(taps):
            r = math.hypot(j - (taps - 1) / 2, k - (taps - 1) / 2) / rate
            found[j, k] = scipy.special.j1(2 * math.pi * cutoff * r) / (math.pi * r) * window[j] * window[k]
    return found / found.sum()


def correlated(x, kernel):
    """Every map of x with one kernel: [k, k], or [k] along both axes."""
    n, c, h, w = x.shape
    kernel = torch.as_tensor(kernel, dtype=x.dtype)
    maps = x.reshape(n * c, 1, h, w)
    for one in [kernel] if kernel.ndim == 2 else [kernel[:, None], kernel[None, :]]:
        maps = F.conv2d(maps, one[None, None])
    return maps.unflatten(0, (n, c))[:, :, 0]


def filtered(x, up_filter, down_filter, up, size_out, clamp):
    """Zeros behind every sample, the uneven padding, filter, activation, filter, every second sample."""
    n, c, h, w = x.shape
    spread = x.new_zeros(n, c, h * up, w * up)
    spread[:, :, ::up, ::up] = x
    total = (size_out - 1) * 2 + 1 - h * up + len(up_filter) + len(down_filter) - 2
    low = (total + up) // 2
    spread = F.pad(spread, [low, total - low] * 2)
    y = correlated(spread, up_filter * up)
    y = (torch.where(y > 0, y, 0.2 * y) * math.sqrt(2)).clamp(-clamp, clamp)
    return correlated(y, down_filter)[:, :, ::2, ::2]


def affine(state, name, style):
    return style @ (state[f"{name}.weight"] / math.sqrt(style.shape[1])).T + state[f"{name}.bias"]


def waves(state, style, band, rate, size, transform):
    weight, out = state["synthesis.input.weight"], []
    for values in affine(state, "synthesis.input.affine", style):
        c, s, x, y = values / values[:2].norm()
        zero, one = torch.zeros_like(c), torch.ones_like(c)
        turn = torch.stack([c, -s, zero, s, c, zero, zero, zero, one]).reshape(3, 3)
        shift = torch.stack([one, zero, -x, zero, one, -y, zero, zero, one]).reshape(3, 3)
        placed = turn @ shift @ transform.to(style.dtype)
        maps = []
        for frequency, phase in zip(state["synthesis.input.freqs"], state["synthesis.input.phases"], strict=True):
            f = frequency @ placed[:2, :2]
            p = phase + frequency @ placed[:2, 2]
            a = (1 - (f.norm() - band) / (rate / 2 - band)).clamp(0, 1)
            place = (torch.arange(size, dtype=style.dtype) + 0.5 - size / 2) / rate
            maps.append(a * torch.sin(2 * math.pi * (f[0] * place[None, :] + f[1] * place[:, None] + p)))
        out.append(torch.einsum("of,fhw->ohw", weight, torch.stack(maps)) / math.sqrt(weight.shape[1]))
    return torch.stack(out)


def layer(state, name, x, style, *, kernel, rgb):
    """The modulated convolution with its bias; the filter is left to the caller."""
    weight = state[f"{name}.weight"]
    scales = affine(state, f"{name}.affine", style)
    scales = scales / math.sqrt(weight.shape[1]) if rgb else scales
    images = []
    for image, scale in zip(x, scales, strict=True):
        own = weight * scale[None, :, None, None]
        if not rgb:
            own = own / (own.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        own = own / state[f"{name}.magnitude_ema"].sqrt()
        images.append(F.conv2d(image[None], own, padding=0 if rgb else kernel - 1)[0])
    return torch.stack(images) + state[f"{name}.bias"][:, None, None]


def image(generator, styles, transform=None, update=None):
    """Images [n, 3, r, r] of styles [n, num_styles, w_dim]; `update`: decay of the magnitudes, moved in `state`."""
    arguments = generator.arguments
    state = {name: value.to(styles.dtype) for name, value in generator.state_dict().items()}
    return image_of(state, arguments, styles, transform, update), state


def image_of(state, arguments, styles, transform=None, update=None):
    num_layers, num_critical = arguments["num_layers"], arguments["num_critical"]
    plan = quantities(arguments["resolution"], num_layers, num_critical)
    transform = torch.eye(3) if transform is None else transform
    cutoff, _, rate, size = plan[0]
    x = waves(state, styles[:, 0], cutoff, rate, size, transform)
    for i in range(num_layers + 1):
        name, rgb = f"synthesis.L{i}", i == num_layers
        if update is not None:
            m = state[f"{name}.magnitude_ema"]
            state[f"{name}.magnitude_ema"] = update * m + (1 - update) * x.square().mean()
        x = layer(state, name, x, styles[:, i + 1], kernel=arguments["kernel"], rgb=rgb)
        if rgb:
            break
        (cut_in, half_in, rate_in, _), (cut_out, half_out, rate_out, size_out) = plan[max(i - 1, 0)], plan[i]
        temporary = 2 * max(rate_in, rate_out)
        up = temporary // rate_in
        design = radial_low_pass if arguments["radial"] and i < num_layers - num_critical else low_pass
        filters = low_pass(6 * up, cut_in, half_in, temporary), design(12, cut_out, half_out, temporary)
        x = filtered(x, *filters, up, size_out, arguments["clamp"])
    return x.clamp(-arguments["clamp"], arguments["clamp"]) * 0.25
