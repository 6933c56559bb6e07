"""Does a training that lasts stay as it is? Memory, open files, threads and speed of a run, looked at from outside.

    python benchmarks/soak.py RUN_FOLDER PROCESS --minutes 120 --out soak.json
    python benchmarks/soak.py --read --out soak.json         # the table so far

Looks at the process each minute (Linux) and at each new row of the run's log, ends when the process does, and says the
slope of each and whether it is flat. Speed is images per second by the clock, as logged, and per second of the
processor; the latter is judged, because it holds on a busy machine too. The first fifth of the time, at least three
minutes, is warming up and is left out. Slope: the median of the changes between values that lie half of the series
apart, so that outliers do not matter.
"""

import argparse
import csv
import itertools
import json
import os
import statistics
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

LIMITS = {  # worst change that is still called flat, percent an hour
    "rss_mib": 1.0,
    "open_files": 0.0,
    "threads": 0.0,
    "images_per_cpu_second": -2.0,
}
SPEED = "speed/images_per_second"
Series = Sequence[tuple[float, float]]  # (hours, value)


def process_facts(process: int) -> dict[str, float] | None:
    """Resident memory, open files, threads, seconds of the processor; None if the process has ended."""
    place = Path(f"/proc/{process}")
    try:
        status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
        num_files = sum(1 for _ in (place / "fd").iterdir())
        user, system = (place / "stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:
        return None
    if "VmRSS" not in status:  # ended, but nobody has asked for its exit code yet
        return None
    facts = {"rss_mib": int(status["VmRSS"].split()[0]) / 1024, "open_files": num_files}
    cpu_seconds = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return {**facts, "threads": int(status["Threads"]), "cpu_seconds": cpu_seconds}


def last_speed(path: Path) -> dict[str, float] | None:
    """kimg and images per second of the last row of a log that has both."""
    if not path.is_file():
        return None
    with open(path, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get(SPEED) and row.get("kimg")]
    return {"kimg": float(rows[-1]["kimg"]), "images_per_second": float(rows[-1][SPEED])} if rows else None


def watch(process: int, log: Path, minutes: float, out: Path | None) -> dict[str, list[dict[str, float]]]:
    """looks: what the process is each minute; rows: each new row of the log with what the process had spent by then."""
    began, changed = time.time(), log.stat().st_mtime if log.is_file() else 0.0
    seen: dict[str, list[dict[str, float]]] = {"looks": [], "rows": []}
    while (now := (time.time() - began) / 60) <= minutes and (facts := process_facts(process)) is not None:
        if log.is_file() and log.stat().st_mtime != changed:
            changed, row = log.stat().st_mtime, last_speed(log)
            if row is not None and (not seen["rows"] or row["kimg"] > seen["rows"][-1]["kimg"]):
                seen["rows"].append({"hours": now / 60, **row, "cpu_seconds": facts["cpu_seconds"]})
        if now >= len(seen["looks"]):
            seen["looks"].append({"hours": now / 60, **facts})
            if out:
                out.write_text(json.dumps({"date": f"{date.today()}", **seen}, indent=1) + "\n")
        time.sleep(1)
    return seen


def slope(values: Series) -> float:
    """Change of the value per hour."""
    half = len(values) // 2
    pairs = zip(values[:half], values[len(values) - half :], strict=True)
    return statistics.median((late[1] - early[1]) / (late[0] - early[0]) for early, late in pairs)


def series(seen: dict[str, list[dict[str, float]]]) -> dict[str, Series]:
    """What is judged, by its name, warming up left out."""
    looks, rows = seen["looks"], seen["rows"]
    found = {name: [(look["hours"], look[name]) for look in looks] for name in ("rss_mib", "open_files", "threads")}
    found["images_per_second"] = [(row["hours"], row["images_per_second"]) for row in rows]
    found["images_per_cpu_second"] = [
        (row["hours"], 1000 * (row["kimg"] - before["kimg"]) / (row["cpu_seconds"] - before["cpu_seconds"]))
        for before, row in itertools.pairwise(rows)
    ]
    begin = max(looks[-1]["hours"] / 5, 0.05)
    return {name: [value for value in values if value[0] >= begin] for name, values in found.items()}


def table(seen: dict[str, list[dict[str, float]]]) -> str:
    looks, rows = seen["looks"], seen["rows"]
    images = f", kimg {rows[0]['kimg']:g} to {rows[-1]['kimg']:g}" if rows else ""
    lines = [f"{60 * looks[-1]['hours']:.0f} minutes, {len(looks)} looks at the process, {len(rows)} rows{images}", ""]
    lines += ["| | median [least most] | first | last | per hour | |", "| --- | ---: | ---: | ---: | ---: | --- |"]
    for name, values in series(seen).items():
        if len(values) < 4:
            lines.append(f"| {name} | | | | | too few values |")
            continue
        plain = [value for _, value in values]
        middle, change = statistics.median(plain), slope(values)
        percent, limit = 100 * change / middle, LIMITS.get(name)
        flat = limit is None or (percent >= limit if limit < 0 else percent <= limit)
        spread = f"{middle:.5g} [{min(plain):.5g} {max(plain):.5g}]"
        said = "" if limit is None else "flat" if flat else f"not flat (limit {limit:+g} %)"
        lines.append(
            f"| {name} | {spread} | {plain[0]:.5g} | {plain[-1]:.5g} | {change:+.3g} ({percent:+.2f} %) | {said} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="of the run")
    parser.add_argument("process", type=int, nargs="?", help="number of the process that trains in it")
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--out", type=Path, help="file for what was seen, JSON, written each minute")
    parser.add_argument("--read", action="store_true", help="only show the table of the file --out")
    options = parser.parse_args()
    if options.read:
        seen = json.loads(options.out.read_text())
    else:
        seen = watch(options.process, options.folder / "metrics.csv", options.minutes, options.out)
    print(table(seen))


if __name__ == "__main__":
    main()
