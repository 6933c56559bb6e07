"""Compress generative models: train, evaluate, convert, inspect, export."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import limbeck
from limbeck import startup
from limbeck.catalog import listing
from limbeck.completion import SHELLS, script
from limbeck.entry import exit_on_user_error
from limbeck.errors import UserError
from limbeck.launcher import start

if TYPE_CHECKING:
    from limbeck.model import Model


# Facts that a file may not say, see `limbeck.load`: kind of value, what is guessed.
FACTS: dict[str, tuple[type, str]] = {
    "resolution": (int, "attention at 16 pixels"),
    "num_train_steps": (int, "1000"),
    "beta_schedule": (str, "linear"),
    "beta_start": (float, "0.0001"),
    "beta_end": (float, "0.02"),
    "conv_clamp": (float, "none"),
    "mbstd_group_size": (int, "4"),
}


class _Parser(argparse.ArgumentParser):
    """Argparse whose complaints are one line, as everywhere else."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


@exit_on_user_error()
def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; wrong input is one line on standard error and exit code 2."""
    startup.prepare()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] in (["train"], ["evaluate"]):  # the rest is Hydra's
        start(given[0], given[1:])
        return
    parsed = _parser().parse_args(given)
    try:
        parsed.run(parsed)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="limbeck", description=__doc__)
    parser.add_argument("--version", action="version", version=f"limbeck {limbeck.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    commands.add_parser("train", help="compress a model: GROUP=CHOICE and KEY=VALUE; `limbeck train --help`")
    commands.add_parser("evaluate", help="judge a saved model: model=RUN_OR_FILE; `limbeck evaluate --help`")

    choices = commands.add_parser("choices", help="every choice of every group, a line each")
    choices.add_argument("group", nargs="?", metavar="GROUP", help="of this group only")
    choices.set_defaults(run=lambda parsed: print("\n".join(listing(parsed.group))))

    source = _source()
    convert = commands.add_parser("convert", parents=[source], help="any foreign checkpoint -> native .safetensors")
    convert.add_argument(
        "source", help="rosinality .pt, NVIDIA .pkl, DDIM .ckpt, diffusers folder, native file, run folder"
    )
    convert.add_argument("target", help="the file to write; must end in .safetensors")
    convert.add_argument("--half", action="store_true", help="store weights in float16")
    convert.set_defaults(run=_convert)

    inspect = commands.add_parser(
        "inspect", parents=[source], help="architecture, widths, parameters, MACs, history of stages"
    )
    inspect.add_argument("file", help="anything `convert` reads")
    inspect.set_defaults(run=_inspect)

    export = commands.add_parser(
        "export", parents=[source], help="a model in a deployable format, compared with its source"
    )
    export.add_argument("file", help="anything `convert` reads")
    export.add_argument("--format", required=True, help="a line of `limbeck choices export`")
    export.add_argument("-o", "--output", required=True, help="the file to write")
    export.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="of conf/export.yaml: data=image_folder data.path=FOLDER calibration=data export.most.error=0.05 …",
    )
    export.set_defaults(run=_export)

    publish = commands.add_parser("publish", help="a finished run as a folder with a model card, or to a Hub")
    publish.add_argument("folder", metavar="RUN", help="a run folder")
    publish.add_argument("target", metavar="TARGET", help="a new folder, or hub:OWNER/NAME")
    publish.add_argument("--public", action="store_true", help="let everyone see it on the Hub; private otherwise")
    publish.add_argument("--terms", default="", help="terms of the weights, where the student's file states none")
    publish.set_defaults(run=_publish)

    completion = commands.add_parser("completion", help="what bash or zsh needs to complete commands and choices")
    completion.add_argument("shell", choices=SHELLS)
    completion.set_defaults(run=lambda parsed: print(script(parsed.shell, tuple(commands.choices)), end=""))
    return parser


def _source() -> _Parser:
    """Options of every command that reads a model: a second file, and what the file does not say."""
    options = _Parser(add_help=False)
    options.add_argument("--discriminator", metavar="FILE", help="a second file, of the discriminator")
    for name, (kind, guessed) in FACTS.items():
        flag = f"--{name.replace('_', '-')}"
        options.add_argument(flag, dest=name, type=kind, help=f"if the file does not say it; else guessed: {guessed}")
    return options


def _loaded(path: str, parsed: argparse.Namespace) -> "Model":
    from limbeck.importers.checkpoint import load

    return load(path, discriminator=parsed.discriminator, **{name: getattr(parsed, name) for name in FACTS})


def _convert(parsed: argparse.Namespace) -> None:
    import torch

    from limbeck.model import save

    if Path(parsed.target).suffix != ".safetensors":
        raise UserError(f"target={parsed.target}: must end in .safetensors")
    model = _loaded(parsed.source, parsed)
    save(model, parsed.target, dtype=torch.float16 if parsed.half else None)
    print("\n".join(describe(model)))
    print(f"written: {parsed.target}")


def _inspect(parsed: argparse.Namespace) -> None:
    print("\n".join(describe(_loaded(parsed.file, parsed))))


def _export(parsed: argparse.Namespace) -> None:
    from limbeck.pruning.settling import deployable
    from limbeck.stages import exporter_of

    exporter = exporter_of(parsed.format, parsed.set)
    print(f"written: {exporter(deployable(_loaded(parsed.file, parsed)), parsed.output)}")


def _publish(parsed: argparse.Namespace) -> None:
    from limbeck.publishing import publish

    print(f"published: {publish(parsed.folder, parsed.target, public=parsed.public, terms=parsed.terms)}")


def describe(model: "Model") -> Iterator[str]:
    """Lines for a reader: what the networks are, what they cost, and what happened to them."""
    from limbeck.importers.foreign import guesses
    from limbeck.profiling import profile, size_mib

    guessed = guesses(model.history)
    roles = [("generator", model.generator), ("discriminator", model.discriminator)]
    if model.reverse is not None:
        roles += [
            ("reverse generator", model.reverse.generator),
            ("reverse discriminator", model.reverse.discriminator),
        ]
    for role, network in roles:
        if network is None:
            yield f"{role}: none"
            continue
        counted = profile(network)
        yield f"{role}: {network.family} {type(network).__name__}"
        yield f"  parameters: {counted.num_parameters:,} ({size_mib(network):.1f} MiB in float32)"
        yield f"  MACs per image: {counted.macs:,}"
        if counted.filter_macs:
            yield f"  MACs in fixed filters, beside these: {counted.filter_macs:,}"
        if network is model.generator:
            yield from _described_sparsity(model)
        for name, value in network.arguments.items():
            note = f" (a guess: the file does not say; --{name.replace('_', '-')} says it)" if name in guessed else ""
            yield f"  {name}: {_short(value)}{note}"
    for name in sorted(set(guessed) - set(model.generator.arguments)):
        yield f"guessed, as the file does not say: {name}: {guessed[name]}"
    yield f"terms: {model.terms or 'none stated'}"
    yield "history:" if model.history else "history: none"
    for number, entry in enumerate(model.history, 1):
        facts = ", ".join(f"{name}={value}" for name, value in entry.items() if name != "stage")
        yield f"  {number}. {entry.get('stage', '?')}: {facts}"


def _described_sparsity(model: "Model") -> Iterator[str]:
    from limbeck.profiling import sparsity

    sparse = sparsity(model)
    if sparse is not None:
        yield f"  parameters in use: {sparse.num_effective:,}; stored in {sparse.size_mib:.2f} MiB, masks included"
        yield "  share of switched-off weights, which alone make no dense hardware faster:"
        yield from (f"    {name}: {100 * share:.2f} %" for name, share in sparse.layers.items())


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 400 else f"{text[:380]} ... ({len(text):,} characters)"
