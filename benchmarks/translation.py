"""Networks that translate images, at their published sizes: images per second whole and at half of their channels, and
a step of training beside a plain loop.

    python benchmarks/translation.py [--measure inference steps] [--repeats 5] [--threads 1] [--resolution 256]

steps: pix2pix's U-Net and CycleGAN's ResNet-9 trained from scratch, and compressed by self-supervision (the judge
frozen), in batches of one. The plain loop is written as the baselines are described: the same networks and terms,
everything computed where it is needed. Interleaved, medians; process CPU time compares on a busy machine too.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from plain_translation import PlainCycle, PlainPix2pix
from timing import interleaved, others_line, prepare
from torch import Tensor, nn

from limbeck.architectures.base import Network
from limbeck.architectures.patchgan import PatchGAN
from limbeck.architectures.translation_resnet import ResNet
from limbeck.architectures.translation_unet import UNet
from limbeck.distillation.discriminators import FromTeacher
from limbeck.distillation.translation import TranslationDistillation
from limbeck.losses.adversarial import (
    LeastSquaresDiscriminator,
    LeastSquaresGenerator,
    NonSaturatingDiscriminator,
    NonSaturatingGenerator,
)
from limbeck.losses.self_supervised import SelfSupervised
from limbeck.losses.translation import Cycle, Identity, Target
from limbeck.losses.weighted import Weighted
from limbeck.model import Model, Pair
from limbeck.profiling import profile

ADAM: dict[str, Any] = {"lr": 2e-4, "betas": (0.5, 0.999)}


def halved(network: Network) -> Network:
    """The network with half of every group's channels."""
    return network.resized({group.name: -(-group.size // 2) for group in network.channel_groups()})


def drawing(network: Network) -> Callable[[], Tensor]:
    """One image of the network at its published size."""
    inputs = {name: torch.randn_like(value) for name, value in network.eval().example_inputs().items()}

    def draw() -> Tensor:
        with torch.no_grad():
            return network(**inputs)

    return draw


def measure_inference(options: argparse.Namespace) -> None:
    for name, whole in (("U-Net-256", UNet()), ("ResNet-9, 256 px", ResNet())):
        networks = {"whole": whole, "half": halved(whole)}
        times = interleaved({key: drawing(network) for key, network in networks.items()}, options.repeats)
        fewer = profile(networks["whole"]).macs / profile(networks["half"]).macs
        print(f"{name}: whole {times['whole'].per_second(1)} images/s, half {times['half'].per_second(1)} images/s")
        ratio = times["whole"].ratio_to(times["half"])
        print(f"  whole against half: {ratio} ({fewer:.2f} times the MACs); {others_line(times)}")


def pix2pix(options: argparse.Namespace) -> Model:
    judge = PatchGAN(resolution=options.resolution, in_channels=6, norm="batch")
    return Model(UNet(resolution=options.resolution), judge)


def cyclegan(options: argparse.Namespace) -> Model:
    def one() -> Model:
        return Model(ResNet(resolution=options.resolution), PatchGAN(resolution=options.resolution))

    model, other = one(), one()
    return Model(model.generator, model.discriminator, reverse=other)


def terms(**named: tuple[float, nn.Module]) -> dict[str, Weighted]:
    return {name: Weighted(term=term, weight=weight) for name, (weight, term) in named.items()}


def generator_terms(name: str) -> dict[str, Weighted]:
    if name == "pix2pix":
        return terms(adversarial=(1.0, NonSaturatingGenerator()), target=(100.0, Target()))
    return terms(adversarial=(1.0, LeastSquaresGenerator()), cycle=(10.0, Cycle()), identity=(5.0, Identity()))


def discriminator_terms(name: str) -> dict[str, Weighted]:
    judging = NonSaturatingDiscriminator() if name == "pix2pix" else LeastSquaresDiscriminator()
    return terms(adversarial=(0.5, judging))


SETTINGS: dict[str, dict[str, Any]] = {
    "pix2pix": {"first": "discriminator"},
    "cyclegan": {"pool_size": 50},
}


def ours(name: str, model: Model, images: Mapping[str, Tensor], *, compressing: bool) -> Callable[[], None]:
    """A step of limbeck's module without Lightning."""
    baseline, judging = generator_terms(name), discriminator_terms(name)
    if compressing:
        baseline = terms(self_supervised=(1.0, SelfSupervised(generator=baseline, discriminator=judging)))
    student = replace(model, generator=halved(model.generator)) if compressing else model
    pair, judges = Pair(model, student), FromTeacher(frozen=compressing)

    def adam(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, fused=True, **ADAM)

    module = TranslationDistillation(
        pair,
        judges=judges(pair),
        generator_terms=baseline,
        discriminator_terms=discriminator_terms(name),
        generator_optimizer=adam,
        discriminator_optimizer=adam,
        reverse_judges=judges if model.reverse else None,
        kimg=1000,
        batch_size=1,
        **SETTINGS[name],
    )
    module.setup("fit")
    module.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign]
    optimizers = module.configure_optimizers()
    label = torch.zeros(1, dtype=torch.int64)

    def step() -> None:
        module.play(optimizers, images["b"], label, images["a"])
        module._average(module.images_seen)
        module.images_seen += 1

    return step


PLAIN = {"pix2pix": PlainPix2pix, "cyclegan": PlainCycle}


def measure_steps(options: argparse.Namespace) -> None:
    images = {name: torch.rand(1, 3, options.resolution, options.resolution) * 2 - 1 for name in ("a", "b")}
    print("| | limbeck, s a step | plain loop, s a step | times |\n| --- | --- | --- | --- |")
    for name, make in (("pix2pix", pix2pix), ("cyclegan", cyclegan)):
        for compressing in (False, True):
            torch.manual_seed(0)
            model = make(options)
            student = halved(model.generator) if compressing else model.generator
            plain = PLAIN[name](model, student, compressing=compressing, adam=ADAM)
            sides: dict[str, Callable[[], object]] = {
                "limbeck": ours(name, model, images, compressing=compressing),
                "plain": lambda plain=plain: plain.step(images["a"], images["b"]),  # type: ignore[misc]
            }
            times = interleaved(sides, options.repeats)
            seconds = {side: sorted(t.wall)[len(t.wall) // 2] for side, t in times.items()}
            what = f"{name}, {'half the channels by self-supervision' if compressing else 'from scratch'}"
            ratio = times["plain"].ratio_to(times["limbeck"])
            print(f"| {what} | {seconds['limbeck']:.3g} | {seconds['plain']:.3g} | {ratio} |")
            print(f"  {others_line(times)}")


MEASURES = {"inference": measure_inference, "steps": measure_steps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--resolution", type=int, default=256, help="of the steps; a multiple of 256 for the U-Net")
    parser.add_argument("--measure", nargs="+", choices=list(MEASURES), default=list(MEASURES))
    options = parser.parse_args()
    print(prepare(options.threads))
    for name in options.measure:
        MEASURES[name](options)


if __name__ == "__main__":
    main()
