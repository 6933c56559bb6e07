"""Images per second of a StyleGAN2 teacher and its pruned student, float32 and bfloat16, beside the machine's limit.

    python benchmarks/sampling.py [--batches 1 8] [--threads 2] [--peers DIR]

With --peers (see peers.py) NVIDIA's networks run on the same weights, interleaved with ours, under the same allocator;
the largest deviation is asserted first. LIMBECK_ALLOCATOR=default measures without the allocator setting.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from peers import fitted, load, svs_folder
from timing import interleaved, others_line, prepare
from torch import Tensor, nn

from limbeck.architectures.stylegan2 import Generator
from limbeck.pruning.allocation import kept_count

FUSIONS = {"as shipped": {}, "unfused": {"fused_modconv": False}}


def pruned(teacher: Generator, ratio: float) -> Generator:
    return teacher.resized({group.name: kept_count(group.size, ratio) for group in teacher.channel_groups()})


def with_visible_noise(generator: Generator) -> Generator:
    """New networks add no noise; give every layer some, so that a comparison covers it."""
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith("noise_strength"):
                parameter.fill_(0.1)
    return generator.eval()


def sampler(generator: Callable, latent: Tensor, *, half: bool = False) -> Callable[[], Tensor]:
    def run() -> Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            return generator(latent)

    return run


def deviation(image: Tensor, reference: Tensor) -> tuple[float, float]:
    """Largest and mean absolute difference, relative to the reference's largest pixel."""
    difference, scale = (image - reference).abs(), reference.abs().max()
    return (difference.max() / scale).item(), (difference.mean() / scale).item()


def their_samplers(folder: Path, name: str, ours: Generator, ratio: float, latent: Tensor, base: int) -> dict:
    (networks,) = load(folder, "training.networks_stylekd")
    settings = {"channel_base": base, "num_fp16_res": 0}
    theirs = networks.Generator(512, 0, 512, ours.resolution, 3, prune_ratio=ratio, synthesis_kwargs=settings).eval()
    fitted(theirs, ours)

    def call(fusion: dict) -> Callable[[Tensor], Tensor]:
        return lambda z: theirs(z, None, noise_mode="const", **fusion)

    runs = {f"{name} NVIDIA {label}": sampler(call(fusion), latent) for label, fusion in FUSIONS.items()}
    reference = sampler(ours, latent)()
    for label, run in runs.items():
        largest, _ = deviation(run(), reference)
        print(f"deviation of {label}: {largest:.1e} of the largest pixel")
        assert largest < 1e-4, label
    return runs


def matmul_line(n: int, repeats: int) -> str:
    """GMAC/s of an n x n matrix product in both precisions: a yardstick, not the limit of convolutions."""
    pairs = {dtype: torch.randn(2, n, n).to(dtype) for dtype in (torch.float32, torch.bfloat16)}
    times = interleaved({str(d): lambda p=p: p[0] @ p[1] for d, p in pairs.items()}, repeats)
    speeds = [f"{str(d).removeprefix('torch.')} {times[str(d)].per_second(n**3 / 1e9)}" for d in pairs]
    return f"matmul n={n}, GMAC/s: {', '.join(speeds)}"


def measure(networks: dict[str, tuple[Generator, float]], batch: int, options: argparse.Namespace) -> None:
    latent = torch.randn(batch, 512)
    folder = svs_folder(options.peers)
    runs, macs = {}, {}
    for name, (network, ratio) in networks.items():
        exact = sampler(network, latent)
        runs[f"{name} float32"], runs[f"{name} bfloat16"] = exact, sampler(network, latent, half=True)
        largest, mean = deviation(runs[f"{name} bfloat16"](), exact())
        print(f"bfloat16 error of the {name}: largest {largest:.1%}, mean {mean:.2%} of the largest pixel")
        if folder is not None:
            runs |= their_samplers(folder, name, network, ratio, latent, options.channel_base)
        macs |= {label: network.macs() for label in runs if label.startswith(name)}
    times = interleaved(runs, options.repeats)
    print(f"\n| batch {batch} | images/s | GMAC/s |\n| --- | --- | --- |")
    for label, time in times.items():
        print(f"| {label} | {time.per_second(batch)} | {time.per_second(batch * macs[label] / 1e9)} |")
    print()
    for name in networks:
        for precision in ("float32", "bfloat16"):
            for fusion in FUSIONS if folder is not None else ():
                theirs, ours = times[f"{name} NVIDIA {fusion}"], times[f"{name} {precision}"]
                print(f"{name} {precision} over NVIDIA {fusion}: {theirs.ratio_to(ours)}")
    for precision in ("float32", "bfloat16"):
        gain = times[f"teacher {precision}"].ratio_to(times[f"student {precision}"])
        print(f"student over teacher, {precision}: {gain}")
    print(others_line(times))


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--channel-base", type=int, default=32768, help='32768 is "base", 16384 "small"')
    parser.add_argument("--ratio", type=float, default=0.7)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--matmul", type=int, default=4096, help="side of the yardstick's matrices")
    parser.add_argument("--peers", type=Path, help="folder that holds the clones named in peers.py")
    options = parser.parse_args()
    print(prepare(options.threads))
    teacher = with_visible_noise(Generator(resolution=options.resolution, channel_base=options.channel_base))
    networks = {
        "teacher": (teacher, 0.0),
        "student": (with_visible_noise(pruned(teacher, options.ratio)), options.ratio),
    }
    for name, (network, _) in networks.items():
        print(f"{name}: {num_parameters(network) / 1e6:.2f} M parameters, {network.macs() / 1e9:.2f} GMAC")
    print(matmul_line(options.matmul, options.repeats))
    for batch in options.batches:
        measure(networks, batch, options)


if __name__ == "__main__":
    main()
