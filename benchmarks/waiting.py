"""How threads wait: a training step alone on the machine and beside busy processes, with and without a short spin.

    python benchmarks/waiting.py [--network quickstart | small] [--spins default 5000 1000] [--busy 0 2] [--rounds 5]

One process per setting, because OpenMP reads its variable when torch is loaded; they take turns, so that whatever else
the machine does meets all alike. "default" is OpenMP's own way. "one thread" cannot wait for others and is the measure
of what a shared machine can give.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ONE = "one thread"


def worker(network: str, steps: int) -> None:
    """Make the loop, then `steps` iterations at each line of standard input, and print images per second."""
    import torch
    from loops import BareLoop, composed, gan_module, networks

    import limbeck

    torch.manual_seed(0)
    if network == "quickstart":
        model = limbeck.load(Path(limbeck.__file__).parent / "teachers" / "robohash32.safetensors")
        student = limbeck.prune(model, "l1", ratio=0.7)
        nets = {"teacher": model.generator, "student": student.generator, "judge": model.discriminator}
        batch, resolution = 32, 32
    else:
        shape = argparse.Namespace(resolution=64, channel_base=16384, ratio=0.7)
        nets, batch, resolution = networks(shape), 8, 64
    loop = BareLoop(gan_module(composed("experiment=quickstart"), nets, batch=batch))
    real = (torch.rand(batch, 3, resolution, resolution) * 255).to(torch.uint8)
    loop.iteration((real, torch.zeros(batch, dtype=torch.int64)))
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        for _ in range(steps):
            loop.iteration((real, torch.zeros(batch, dtype=torch.int64)))
        print(steps * batch / (time.perf_counter() - began), flush=True)


def start(spin: str, options: argparse.Namespace) -> subprocess.Popen:
    variables = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    variables["OMP_NUM_THREADS"] = "1" if spin == ONE else str(options.threads)
    if spin.isdigit():
        variables["GOMP_SPINCOUNT"] = spin
    arguments = ["--worker", "--network", options.network, "--steps", str(options.steps)]
    return subprocess.Popen(
        [sys.executable, __file__, *arguments], env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def asked(process: subprocess.Popen) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=["quickstart", "small"], default="quickstart")
    parser.add_argument("--spins", nargs="+", default=["default", "20000", "5000", "1000", ONE])
    parser.add_argument("--busy", nargs="+", type=int, default=[0, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.network, options.steps)
        return
    workers = {spin: start(spin, options) for spin in options.spins}
    for process in workers.values():
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    from timing import prepare, spread

    print(prepare(None), f"load average before: {os.getloadavg()[0]:.1f}", sep="\n")
    print(f"\n| {options.network}, images/s | " + " | ".join(workers) + " |")
    print("| --- |" + " --- |" * len(workers))
    for count in options.busy:
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
        try:
            rounds = [{spin: asked(process) for spin, process in workers.items()} for _ in range(options.rounds)]
        finally:
            for process in busy:
                process.kill()
        row = [spread([r[spin] for r in rounds]) for spin in workers]
        print(f"| beside {count} busy processes | " + " | ".join(row) + " |", flush=True)
    for process in workers.values():
        process.stdin.close()  # type: ignore[union-attr]
        process.wait()


if __name__ == "__main__":
    main()
