"""Numbers of a report as people read them: short forms, ratios to the teacher, the headline."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.evaluation.report import EAGER, Report, Row

ERROR = "_se"  # ends the name of a metric's standard error
STEADY = 0.15  # a ratio of latencies that may be off by more is not shown: the machine was busy
TIMES, DASH, ARROW = "\u00d7", "\u2013", "\u2192"


def short(value: float | None) -> str:
    """Three or four significant digits: 24.8 M, 1.39 G, 0.0123; a dash for what was not measured."""
    if value is None or not math.isfinite(value):
        return DASH
    for least, unit, letter in ((1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e5, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / unit:.3g} {letter}"
    if float(value).is_integer() and abs(value) < 1e5:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.2g}"


def ratio(reference: float | None, value: float | None) -> float | None:
    """How many times smaller `value` is; None where that says nothing."""
    if not reference or not value or not math.isfinite(reference) or not math.isfinite(value):
        return None
    return reference / value


def speedup(teacher: Row, row: Row) -> float | None:
    """How many times faster than the teacher; None where both latencies' spread leaves that open."""
    factor, spreads = ratio(teacher.latency_ms, row.latency_ms), (teacher.latency_spread, row.latency_spread)
    if any(spread is not None and not math.isfinite(spread) for spread in spreads):
        return None
    return factor if math.prod(1 + (spread or 0.0) for spread in spreads) - 1 <= STEADY else None


def saved(teacher: Row | None, row: Row, cost: str) -> float | None:
    """How many times less of a cost (an attribute of `Row`) than the teacher; None where there is nothing to say."""
    if teacher is None or row is teacher:
        return None
    if cost == "latency_ms":
        return speedup(teacher, row)
    return ratio(getattr(teacher, cost), getattr(row, cost))


def latency_words(row: Row) -> str:
    """What stands beside a latency that its spread makes uncertain; else empty."""
    spread = row.latency_spread
    return f"\u00b1 {100 * spread:.0f} %" if spread is not None and STEADY < spread < math.inf else ""


def shipped_table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Head and lines of the latencies as shipped: a line per runtime and batch, a column per row that differs.

    Rows of equal shapes were timed once; the last one's name stands for them.
    """
    timed = [row for row in rows if row.latencies]
    if not timed:
        return [], []
    later = [[other.latencies for other in timed[index + 1 :]] for index in range(len(timed))]
    shown = [row for row, others in zip(timed, later, strict=True) if row.latencies not in others]
    lines = []
    for index, timing in enumerate(shown[0].latencies):
        cells = [str(timing["runtime"]), str(timing["num_images"])]
        for row in shown:
            own, first = row.latencies[index], shown[0].latencies[index]
            doubt = (1 + own["spread"]) * (1 + first["spread"]) - 1
            factor = f" ({times(ratio(first['latency_ms'], own['latency_ms']))})" if doubt <= STEADY else ""
            unsure = f" \u00b1 {100 * own['spread']:.0f} %" if own["spread"] > STEADY else ""
            cells.append(short(own["latency_ms"]) + unsure + (factor if row is not shown[0] else ""))
        lines.append(cells)
    return ["latency ms as shipped", "images", *(row.name for row in shown)], lines


def shipped_factor(first: Row, row: Row) -> tuple[str, float] | None:
    """(runtime, how many times faster than `first` one image is there), of the first runtime that is steady enough."""
    pairs = zip(first.latencies, row.latencies, strict=False)
    for one, own in ((one, own) for one, own in pairs if own["runtime"] != EAGER and own["num_images"] == 1):
        factor = ratio(one["latency_ms"], own["latency_ms"])
        if factor is not None and (1 + own["spread"]) * (1 + one["spread"]) - 1 <= STEADY:
            return str(own["runtime"]), factor
    return None


def times(factor: float | None) -> str:
    """× with two or three digits; empty for None."""
    if factor is None:
        return ""
    digits = 0 if factor >= 100 else 1 if factor >= 10 else 2
    return f"{TIMES} {factor:.{digits}f}"


def heading(report: Report, folder: Path) -> str:
    """The report's title, else the last two parts of the folder: experiment and overrides."""
    return report.title or " / ".join(folder.absolute().parts[-2:])


def metric_names(rows: Sequence[Row]) -> list[str]:
    """Every metric of any row, in the order of appearance; standard errors belong to the number before them."""
    names = list(dict.fromkeys(name for row in rows for name in row.metrics))
    return [name for name in names if name.removesuffix(ERROR) == name or name.removesuffix(ERROR) not in names]


def measured(row: Row, name: str) -> str:
    """A metric as people read it, with its standard error if that is known."""
    value, error = row.metrics.get(name), row.metrics.get(name + ERROR)
    return short(value) if value is None or error is None else f"{short(value)} \u00b1 {error:.1g}"


def main_metric(rows: Sequence[Row]) -> str | None:
    """The first kernel distance, else the first metric."""
    names = metric_names(rows)
    return next((name for name in names if name.startswith("kid")), names[0] if names else None)


def notes(report: Report) -> list[str]:
    """What a reader must know beside the table: the report's own notes, and doubts about what it shows."""
    found = [*report.notes]
    if any(latency_words(row) for row in report.rows):
        found.append("Latency was measured on a busy machine; where \u00b1 stands, no factor can be told from it.")
    found += sparse_words(report)
    found += filter_words(report)
    trained_on, rest = judges(report)
    if trained_on:
        flattering = f"{', '.join(trained_on)}: seen through a network that the student's losses use too"
        found.append(f"{flattering}, so they may flatter it; independent: {', '.join(rest) or 'none'}.")
    return found


def filter_words(report: Report) -> list[str]:
    """What fixed filters cost beside the MACs of the table, which leave them out as the papers do."""
    if not any(row.filter_macs for row in report.rows):
        return []
    teacher, told = report.row("teacher"), []
    for row in report.rows:
        less = ""
        if teacher is not None and row is not teacher:
            less = times(ratio(teacher.macs + teacher.filter_macs, row.macs + row.filter_macs))
        together = f"{short(row.macs + row.filter_macs)} with the others" + (f", {less} fewer" if less else "")
        told.append(f"{row.name} {short(row.filter_macs)} ({together})")
    return [f"MACs in fixed filters, which the MACs above leave out: {'; '.join(told)}."]


def sparse_words(report: Report) -> list[str]:
    """How much of each model with masks is in use, and what that does not mean."""
    found: dict[str, list[str]] = {}
    for row in report.rows:
        if row.sparsity:
            least, most = (f"{100 * bound(row.sparsity.values()):.1f} %" for bound in (min, max))
            share = least if least == most else f"{least} to {most}"
            fact = f"{share} of each layer's weights are switched off, {row.num_effective:,} of {row.num_parameters:,}"
            found.setdefault(f"{fact} parameters are in use", []).append(row.name)
    told = [f"{', '.join(names)}: {fact}." for fact, names in found.items()]
    if told:
        told.append(
            "Zeros among single weights do not make dense hardware faster: MACs and latency count them as ever; the "
            "size is that of the file, a bit a weight and the values in use."
        )
    return told


def sparsest(report: Report) -> dict[str, str]:
    """Share of switched-off weights by layer of the last model with masks, as people read it."""
    layers = next((row.sparsity for row in reversed(report.rows) if row.sparsity), {})
    return {name: f"{100 * share:.2f} %" for name, share in layers.items()}


def judges(report: Report) -> tuple[list[str], list[str]]:
    """Metrics whose feature network a loss of the student's training reads as well, and those of other networks."""
    student = report.row("student")
    trained = [entry for entry in (student.history if student else ()) if entry.get("stage") == "distil"][-1:]
    read = _weights({name: facts for entry in trained for name, facts in entry.items() if name.startswith("loss_")})
    metrics = {name: _weights(facts) for name, facts in report.protocol.get("metrics", {}).items()}
    judged = {name: weights for name, weights in metrics.items() if weights}
    return [n for n, weights in judged.items() if weights & read], [n for n, w in judged.items() if not w & read]


def _weights(facts: Any) -> set[str]:
    """Every `weights_sha256` in nested facts."""
    if not isinstance(facts, Mapping):
        return set()
    own = {str(facts["weights_sha256"])} if facts.get("weights_sha256") else set()
    return own.union(*map(_weights, facts.values()))


@dataclass(frozen=True)
class Highlight:
    """One figure of the headline: `value` in large letters above `caption`."""

    value: str
    caption: str


def highlights(report: Report) -> list[Highlight]:
    """What the student saves against the teacher, and what distillation brought back; empty without both rows."""
    teacher, student, pruned = (report.row(name) for name in ("teacher", "student", "pruned"))
    if teacher is None or student is None:
        return []
    costs = {"num_parameters": "fewer parameters", "macs": "fewer MACs", "latency_ms": "faster"}
    factors = {caption: saved(teacher, student, cost) for cost, caption in costs.items()}
    if shipped := shipped_factor(teacher, student):
        runtime, factor = shipped
        factors.pop("faster")
        factors[f"faster in {runtime}"] = factor
    found = [Highlight(times(factor), caption) for caption, factor in factors.items() if factor is not None]
    metric = main_metric(report.rows)
    if metric and metric in student.metrics:
        end = short(student.metrics[metric])
        if pruned is not None and metric in pruned.metrics:
            caption = f"{metric}, pruned {ARROW} distilled"
            found.append(Highlight(f"{short(pruned.metrics[metric])} {ARROW} {end}", caption))
        else:
            found.append(Highlight(end, metric))
    return found
