"""A campaign of `kill -9`: one tiny run after the other, killed at random moments of every stage until it is through.

    python benchmarks/kills.py --kills 100 --seed 0 --out kills.json

Each start is the same command on the same folder. A kill aims at a stage, as the run shows it, and comes a random part
of that stage's usual time later; the process is stopped first, so that what the folder holds at that moment can be
noted. At the end of each run its student and its exported file must equal those of a run that nobody disturbed, bit for
bit, its log in every row and every column but speed and memory, its report in every metric, and nothing may be left
that was being written. Exit code 1 if anything differs.

Most of a start is imports, which write nothing. So most starts are forks of a process that has them (`--cold` is the
share of those that are not). Scores are saved at every step instead of every half minute, and Linux is needed.
"""

import argparse
import csv
import functools
import json
import os
import random
import re
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("start", "import", "score", "prune", "initialize", "train", "checkpoint", "evaluate", "report", "export")
HEADING = re.compile(r"^ *[\d:]+\d  (\w+)")
RUN = [
    "experiment=quickstart",
    "runtime=[]",
    "teacher=untrained_stylegan2",
    "teacher.generator.resolution=32",
    "+teacher.generator.widths=[16,16,16,16,16,16,16,16]",
    "+teacher.generator.z_dim=16",
    "+teacher.generator.w_dim=16",
    "+teacher.generator.mapping_depth=2",
    "+teacher.discriminator.widths=[16,16,16,16]",
    "pruning=dcp",
    "pruning.ratio=0.5",
    "pruning.criterion.num_samples=60",
    "pruning.criterion.num_pca=200",
    "loss/generator=[nonsaturating,pixel_l1,path_length]",
    "metric=[kid_random]",
    "protocol.num_images=128",
    "protocol.batch_size=16",
    "kimg=0.3",
    "batch_size=8",
    "distillation.decay_kimg=0.1",
    "distillation.log_every_kimg=0.03",
    "checkpoint_kimg=0.05",
]


@dataclass(frozen=True)
class Kill:
    """One kill: what it aimed at, what it met, and the files that were being written."""

    run: int
    aim: str
    stage: str
    writing: list[str]
    cold: bool
    seconds: float


class Work:
    """The two commands of one folder: train, then export."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.said = folder, folder.with_suffix(".log")

    @property
    def trained(self) -> bool:
        """Whether only the export is left."""
        return (self.folder / "report.json").is_file()

    def arguments(self) -> list[str]:
        if self.trained:
            source, target = self.folder / "student.safetensors", self.folder / "student.pt"
            return ["limbeck", "export", str(source), "--format", "rosinality", "-o", str(target)]
        return [str(ROOT / "train.py"), *RUN, f"hydra.run.dir={self.folder}"]

    def writing(self) -> list[str]:
        return sorted(path.name.rpartition(".")[0].rpartition(".")[0] for path in self.folder.rglob(".*.part"))

    def stage(self) -> str:
        """Where the running command is, by what it has printed and what lies in the folder."""
        found = [match[1] for line in self.said.read_text().splitlines() if (match := HEADING.match(line))]
        now = found[-1] if found else "start"
        if now in ("start", "device"):
            exporting = self.trained and "done" not in found
            return "export" if exporting else "start" if now == "start" else "import"
        if now == "prune":
            complete = (self.folder / "scores.safetensors").is_file() and b'"done": 12,' in self._header()
            return "prune" if complete else "score"
        if now == "distil":
            return "checkpoint" if any(name.endswith(".ckpt") for name in self.writing()) else "train"
        if now == "evaluate":
            return "report" if re.search(r"^ +[\d:]+\d +student: ", self.said.read_text(), re.M) else "evaluate"
        return "report" if now == "done" else now

    def _header(self) -> bytes:
        with open(self.folder / "scores.safetensors", "rb") as file:
            return file.read(400).replace(b"\\", b"")


def carry_out(arguments: list[str]) -> None:
    """In a process of its own: one of the two commands."""
    from limbeck import startup

    startup.prepare()
    from limbeck.pruning import scoring

    scoring.SAVE_SECONDS = 0.0
    sys.argv = arguments
    if arguments[0] == "limbeck":
        from limbeck.cli import main

        sys.exit(main())
    runpy.run_path(arguments[0], run_name="__main__")


def started(work: Work, *, cold: bool) -> int:
    """Number of a new process that carries out the next command and writes what it says into the log."""
    arguments = work.arguments()
    work.said.write_text("")
    if cold:
        with open(work.said, "a") as file:
            command = [sys.executable, "-u", __file__, "--carry-out", *arguments]
            return subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file).pid
    if own := os.fork():
        return own
    code = 1
    try:
        file = os.open(work.said, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.chdir(ROOT)
        carry_out(arguments)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.stdout.flush()
        os._exit(code)


def ended(process: int) -> int | None:
    """Exit code of a child, None while it runs."""
    number, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if number else None


def watched(process: int, work: Work, seconds: float = 0.002) -> Iterator[str]:
    """The stage, again and again, until the process ends by itself. Raises: SystemExit if it failed."""
    while (code := ended(process)) is None:
        yield work.stage()
        time.sleep(seconds)
    if code:
        raise SystemExit(f"exit code {code} of a run that nobody killed:\n{work.said.read_text()}")


def undisturbed(work: Work, *, cold: bool) -> dict[str, float]:
    """Seconds that each stage takes."""
    spent: Counter[str] = Counter()
    for _command in range(2):
        since = time.perf_counter()
        for stage in watched(started(work, cold=cold), work, 0.005):
            now = time.perf_counter()
            spent[stage] += now - since
            since = now
    return dict(spent)


def killed(work: Work, aim: str, pace: dict[str, float], chance: random.Random, run: int, *, cold: bool) -> Kill | None:
    """Start the next command and kill it in the stage `aim`, or in the next one that comes; None if it ended before.

    A third of the kills wait for the next moment at which a file is being written, those of a checkpoint always.
    """
    began, process = time.perf_counter(), started(work, cold=cold)
    wanted, catch = STAGES.index(aim), aim == "checkpoint" or chance.random() < 1 / 3
    delay = chance.random() * pace.get("train" if aim == "checkpoint" else aim, 0.1)
    if aim == "start" and cold:
        delay += chance.random() * 8  # imports
    reached: float | None = None
    for stage in watched(process, work, 0.0005 if catch else 0.005):
        if reached is None and STAGES.index(stage) >= (STAGES.index("train") if aim == "checkpoint" else wanted):
            reached = time.perf_counter()
        if reached is None or time.perf_counter() - reached < delay:
            continue
        if catch and (stage == "train" if aim == "checkpoint" else not work.writing()):
            continue
        os.kill(process, signal.SIGSTOP)
        met, writing = work.stage(), work.writing()
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        return Kill(run, aim, met, writing, cold, round(time.perf_counter() - began, 2))
    return None


def differences(work: Work, untouched: Work) -> list[str]:
    """What a run that was killed and went on has otherwise than the undisturbed one; empty if all is the same."""
    import torch
    from safetensors.torch import load_file

    found = [f"left over: {path.name}" for path in work.folder.rglob(".*") if path.is_file()]
    for name, read in {
        "student.safetensors": load_file,
        "pruned.safetensors": load_file,
        "student.pt": lambda path: torch.load(path, weights_only=True)["g_ema"],
    }.items():
        here, there = (read(some.folder / name) for some in (work, untouched))
        if here.keys() != there.keys() or any(not torch.equal(here[key], there[key]) for key in here):
            found.append(f"{name}: other values")
    for what, read in {"metrics.csv": rows_of_log, "report.json": metrics_of_report}.items():
        if read(work.folder / what) != read(untouched.folder / what):
            found.append(f"{what}: other values")
    return found


def rows_of_log(path: Path) -> list[dict[str, str]]:
    """All rows of a log without the columns that no two runs share."""
    with open(path, newline="") as file:
        return [
            {k: v for k, v in row.items() if not k.startswith(("speed/", "memory/"))} for row in csv.DictReader(file)
        ]


def metrics_of_report(path: Path) -> list[tuple[str, dict[str, float]]]:
    return [(row["name"], row["metrics"]) for row in json.loads(path.read_text())["rows"]]


def warm() -> None:
    """Import in this process what its forks need."""
    from limbeck import startup

    startup.prepare()
    import torch

    import limbeck.cli
    import limbeck.commands
    import limbeck.distillation.distiller
    import limbeck.distillation.gan
    import limbeck.evaluation.judgement
    import limbeck.evaluation.write_report
    import limbeck.pruning.criteria.dcp  # noqa: F401
    from limbeck.data import robohash

    # The pictures that the images are made of are inputs that do not change: each start would shrink them anew.
    plain = robohash.shrunk
    kept = functools.cache(lambda name, resolution: plain(robohash.Image.open(name), resolution))
    robohash.shrunk = lambda picture, resolution: kept(picture.filename, resolution)
    robohash.RoboHash(kind="cats", resolution=32).open()
    torch.set_num_threads(1)


def campaign(options: argparse.Namespace, place: Path, note: Callable[[dict], None]) -> bool:
    """Run after run until enough kills are done; whether all came out the same."""
    chance, kills, runs = random.Random(options.seed), [], []
    untouched = Work(place / "untouched")
    undisturbed(untouched, cold=True)
    warm()
    pace = undisturbed(Work(place / "pace"), cold=False)
    print("seconds without kills:", ", ".join(f"{stage} {pace.get(stage, 0):.2g}" for stage in STAGES), flush=True)
    wrong = differences(Work(place / "pace"), untouched)
    while len(kills) < options.kills and not wrong:
        work, number = Work(place / f"run{len(runs)}"), len(kills)
        for aim in sorted(chance.choices(STAGES, k=options.per_run), key=STAGES.index):
            if len(kills) < options.kills:
                found = killed(work, aim, pace, chance, len(runs), cold=chance.random() < options.cold)
                kills += [] if found is None else [found]
                note({"pace": pace, "runs": runs, "kills": [asdict(kill) for kill in kills]})
        exported = False  # by a command that nobody killed, even if an earlier one had written the file
        while not exported:
            exported = work.trained
            for _ in watched(started(work, cold=False), work, 0.05):
                pass
        wrong = differences(work, untouched)
        runs.append({"kills": len(kills) - number, "differences": wrong})
        print(f"run {len(runs)}: {runs[-1]['kills']} kills, {wrong or 'equal'}", flush=True)
        note({"pace": pace, "runs": runs, "kills": [asdict(kill) for kill in kills]})
    if wrong:
        print("differs:", *wrong, f"in {place}", sep="\n  ")
    print(table(kills))
    return not wrong


def table(kills: list[Kill]) -> str:
    lines = ["", "| stage | kills | of them while a file was being written | from a cold start |"]
    lines.append("| --- | ---: | ---: | ---: |")
    for stage in (*STAGES, "all"):
        some = [kill for kill in kills if stage in (kill.stage, "all")]
        lines.append(
            f"| {stage} | {len(some)} | {sum(map(bool, (k.writing for k in some)))} | {sum(k.cold for k in some)} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--per-run", type=int, default=20, help="kills of one run before it may end")
    parser.add_argument("--cold", type=float, default=0.05, help="share of the starts that import everything anew")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file for all kills, JSON")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}

    def note(found: dict) -> None:
        if options.out:
            about = {"date": f"{date.today()}", "seed": options.seed}
            options.out.write_text(json.dumps({**about, **found}, indent=1) + "\n")

    place = Path(tempfile.mkdtemp(prefix="kills"))
    same = campaign(options, place, note)
    if same:
        import shutil

        shutil.rmtree(place)
    sys.exit(not same)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--carry-out"]:
        carry_out(sys.argv[2:])
    else:
        main()
