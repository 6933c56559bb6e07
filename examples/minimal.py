"""Compress a generator in one plain loop: load, prune, refine, distil, judge. No Hydra, no Lightning.

    python examples/minimal.py [--steps 1000]

The same as `python train.py` in small, for reading: what the package adds is exact resuming, several devices, more
losses and criteria, and a report.
"""

import argparse
import copy

import torch

import limbeck
from limbeck.configured import configured
from limbeck.losses.adversarial import discriminator_logistic, generator_logistic
from limbeck.metrics.kernel_distance import KernelDistance


def main(steps: int, num_judged: int, batch_size: int = 8) -> None:
    torch.manual_seed(0)
    teacher = configured("teacher", "robohash32")()  # or limbeck.load("stylegan2.pkl")
    data = limbeck.data.robohash(kind="cats", resolution=32)
    images = data.train()

    # Prune: 70 % of the channels of every layer go. Refine: singular values of what stays are evened out.
    student = limbeck.initializers.svs(limbeck.prune(teacher, "l1", ratio=0.7))
    generator, judge = (
        copy.deepcopy(network).train().requires_grad_(True) for network in (student.generator, teacher.discriminator)
    )
    players = torch.optim.Adam(generator.parameters(), lr=4e-3, betas=(0.0, 0.99))
    judges = torch.optim.Adam(judge.parameters(), lr=1e-3, betas=(0.0, 0.99))

    # Distil: fool the judge, and draw what the teacher draws from the same latent.
    for step in range(steps):
        latent = torch.randn(batch_size, teacher.generator.z_dim)
        real = images.batch(torch.randint(len(images), (batch_size,)).numpy())[0] / 127.5 - 1
        fake = generator(latent)
        judges.zero_grad()
        discriminator_logistic(judge(real), judge(fake.detach())).backward()
        judges.step()
        with torch.no_grad():
            target = teacher.generator(latent)
        players.zero_grad()
        (generator_logistic(judge(fake)) + 10 * (fake - target).abs().mean()).backward()
        players.step()
        if step % 100 == 0:
            print(f"step {step}: {(fake - target).abs().mean():.3f} from the teacher's pixels")

    # Judge: kernel distance to held-out images, teacher beside student.
    metric = KernelDistance(embedding=configured("embedding", "lite0"))
    heldout = data.heldout()
    real = heldout.batch(torch.arange(min(num_judged, len(heldout))).numpy())[0] / 127.5 - 1
    for name, network in (("teacher", teacher.generator), ("student", generator.eval())):
        model = limbeck.Model(network)
        metric.reset()
        metric.update(real, real=True)
        metric.update(limbeck.sample(model, num_judged, seed=1), real=False)
        print(name, {key: round(value.item(), 4) for key, value in metric.compute().items()}, limbeck.profile(network))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--judged", type=int, default=1000, help="images to judge by")
    main(parser.parse_args().steps, parser.parse_args().judged)
