"""What a number depends on besides the configuration: software, commit, hardware, date."""

import datetime
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

from limbeck import devices, startup

PACKAGES = ("limbeck", "torch", "torchvision", "pytorch-lightning", "numpy")


def versions() -> dict[str, str]:
    """Versions of this process, as shown in every report; unknown ones are left out."""
    facts = {"date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"), "commit": _commit()}
    facts |= {"hardware": _hardware(), "python": platform.python_version(), "system": platform.platform(terse=True)}
    facts |= {"device": devices.described(), "waiting threads": startup.waiting()}
    for package in PACKAGES:
        try:
            facts[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {name: value for name, value in facts.items() if value}


def _commit() -> str:
    """Commit of the source tree; a trailing + says that files differ from it. Empty outside a git work tree."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, timeout=10)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "") if commit.returncode == 0 else ""


def _hardware() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"{_processor()}, {devices.num_processors()} cores, torch threads: {torch.get_num_threads()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
