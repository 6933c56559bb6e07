"""Images per second of every data source, beside the rate that training on this machine could use at most.

Rates by the clock want an otherwise idle machine; images per second of one core's time do not mind company.

The bound is the discriminator alone, forward and backward on a batch of real images (twice that work and the generators
belong to a real step): a loader faster than it is never waited for. Folder and zip hold photograph-like 256 px PNGs
made for the occasion.
    python benchmarks/data_loading.py [--seconds 5] [--batch-size 32] [--device cpu|cuda] [--workers 0 1 2]
    python benchmarks/data_loading.py --open 200000    # instead: how long a large set takes to open
"""

import argparse
import io
import os
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image

from limbeck.architectures.stylegan2 import Discriminator
from limbeck.data.base import ImageSource
from limbeck.data.image_folder import image_folder
from limbeck.data.loading import train_loader
from limbeck.data.robohash import RoboHash
from limbeck.data.zip_archive import zip_archive

NUM_FILES = 300


def write_files(folder: Path) -> None:
    """Smooth color fields with some grain: PNGs of about 90 KB, as photographs of faces at 256 px have."""
    rng = np.random.default_rng(0)
    for i in range(NUM_FILES):
        field = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((256, 256), Image.BICUBIC)
        grain = rng.normal(0, 2.5, (256, 256, 3))
        Image.fromarray((np.asarray(field) + grain).clip(0, 255).astype(np.uint8)).save(folder / f"{i:05d}.png")


def images_per_second(source: ImageSource, *, batch_size: int, seconds: float) -> tuple[float, float]:
    """Steady rate of the training stream, and images per second of processor time of this process.

    The first batches, with the start of workers, do not count.
    """
    batches = iter(train_loader(source, batch_size=batch_size, seed=0))
    for _ in range(8):
        next(batches)
    start, spent, count = time.perf_counter(), time.process_time(), 0
    while (passed := time.perf_counter() - start) < seconds:
        count += len(next(batches)[0])
    spent = time.process_time() - spent
    batches.close()
    return count / passed, count / spent


def discriminator_rate(
    resolution: int, channel_base: int, *, batch_size: int, device: str, seconds: float
) -> tuple[float, float]:
    """Images per second of one forward and backward pass on real images; the same per second of processor time."""
    network = Discriminator(resolution=resolution, channel_base=channel_base).to(device)
    images = torch.randn(batch_size, 3, resolution, resolution, device=device)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = network(images).float().mean()
        loss.backward()
        loss.item()

    step()
    start, spent, count = time.perf_counter(), time.process_time(), 0
    while (passed := time.perf_counter() - start) < seconds:
        step()
        count += batch_size
    return count / passed, count / (time.process_time() - spent)


def opening(num_files: int) -> None:
    """Seconds to open sets of very many small files: first, and when nothing has changed since."""
    png = io.BytesIO()
    Image.new("RGB", (8, 8)).save(png, "PNG")
    with tempfile.TemporaryDirectory() as name:
        os.environ["XDG_CACHE_HOME"] = str(Path(name) / "cache")
        folder, archive = Path(name) / "images", Path(name) / "images.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as opened:
            for i in range(num_files):
                place = folder / f"{i // 1000:05d}"
                if i % 1000 == 0:
                    place.mkdir(parents=True)
                (place / f"{i:07d}.png").write_bytes(png.getvalue())
                opened.writestr(f"{i // 1000:05d}/{i:07d}.png", png.getvalue())
        for make, path in ((image_folder, folder), (zip_archive, archive)):
            for when in ("first", "again"):
                source = make(path=path, labels="folders")
                for what, function in (("open", source.open), ("digest", source.digest)):
                    start, spent = time.perf_counter(), time.process_time()
                    function()
                    passed, spent = time.perf_counter() - start, time.process_time() - spent
                    called = f"{make.__name__}, {num_files:,} files, {when}, {what}"
                    print(f"{called}: {passed:.1f} s, {spent:.1f} s of processor time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5, help="per figure")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--open", type=int, metavar="FILES", help="measure this instead")
    arguments = parser.parse_args()
    if arguments.open:
        opening(arguments.open)
        return
    options = {"batch_size": arguments.batch_size, "seconds": arguments.seconds}
    load = f", load {os.getloadavg()[0]:.1f} at start" if hasattr(os, "getloadavg") else ""
    print(f"{os.cpu_count()} cores{load}; torch {torch.__version__}, Pillow {PIL.__version__}; {options}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "images").mkdir()
        write_files(path / "images")
        with zipfile.ZipFile(path / "images.zip", "w", zipfile.ZIP_STORED) as archive:
            for file in sorted((path / "images").iterdir()):
                archive.write(file, file.name)
        mean_kb = (path / "images.zip").stat().st_size / NUM_FILES / 1000
        sources: dict[str, ImageSource] = {
            "RoboHash cats 32 px": RoboHash(kind="cats", resolution=32),
            "RoboHash robots 32 px": RoboHash(kind="robots", resolution=32),
            "RoboHash cats 64 px": RoboHash(kind="cats", resolution=64),
            "RoboHash robots 64 px": RoboHash(kind="robots", resolution=64),
            f"folder, 256 px PNG of {mean_kb:.0f} KB": image_folder(path=path / "images"),
            f"zip, 256 px PNG of {mean_kb:.0f} KB": zip_archive(path=path / "images.zip"),
        }
        for name, source in sources.items():
            source.num_workers = 0
            _, per_core = images_per_second(source, **options)
            rates = []
            for source.num_workers in arguments.workers:
                rates.append(f"{images_per_second(source, **options)[0]:,.0f} ({source.num_workers})")
            print(f"{name}: {per_core:,.0f} images/s of one core's time; by the clock (workers): {', '.join(rates)}")
    for resolution, base, name in ((32, 16384, "small"), (64, 16384, "small"), (256, 32768, "base")):
        batch_size = min(arguments.batch_size, max(2048 // resolution, 1))
        rate, per_core = discriminator_rate(
            resolution, base, batch_size=batch_size, device=arguments.device, seconds=arguments.seconds
        )
        print(
            f"the most that training can use, {name} discriminator alone at {resolution} px, {arguments.device}: "
            f"{per_core:,.1f} images/s of one core's time; by the clock: {rate:,.1f}"
        )


if __name__ == "__main__":
    main()
