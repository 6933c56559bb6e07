"""How a command starts and how it fails: one line and exit code 2 for whatever the user can mend."""

import contextlib
import errno
import functools
import hashlib
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck import startup
from limbeck.errors import UserError
from limbeck.processes import MENDABLE, speaks
from limbeck.stopping import INTERRUPTED, SIGNALS, TERMINATED

if TYPE_CHECKING:
    from limbeck.pipeline import Pipeline

FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Turn what the user can mend into `error: …` on standard error and exit code 2."""
    from hydra.errors import HydraException, InstantiationException, OverrideParseException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except UserError as error:
        sys.exit(_refused(str(error)))
    except InstantiationException as error:
        cause = error.__cause__
        while cause is not None and not isinstance(cause, UserError):
            cause = cause.__cause__
        if cause is None:
            raise
        sys.exit(_refused(str(cause)))
    except OverrideParseException as error:
        sys.exit(_refused(unreadable(error.override)))
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(_refused(str(error) + chosen_later(sys.argv)))
    except OSError as error:
        if error.filename is None and error.errno not in FULL:
            raise
        sys.exit(_refused(f"{error.filename or 'cannot write'}: {error.strerror}"))
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from what is there", file=sys.stderr)
        sys.exit(INTERRUPTED)


@contextlib.contextmanager
def job() -> Iterator[None]:
    """Guard of one job's work: alone it ends the command; in a sweep the other jobs go on, and the sweep then fails."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    try:
        with exit_on_user_error(), stopped_by_signals():
            yield
    except SystemExit as stop:
        if hydra.mode != RunMode.MULTIRUN or stop.code != MENDABLE:
            raise
        # Hydra keeps an exception until all jobs have run, wherever they ran, and raises it then.
        raise UserError(
            f"{hydra.sweep.dir}: not every run was finished, see the lines above; the same command runs what is "
            f"missing, `python -m limbeck.sweep {hydra.sweep.dir}` shows what is there"
        ) from None


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Outside of training, which has its own way, a signal to stop ends the work at once with exit code 143.

    Whoever has set a handler before (submitit) keeps it.
    """

    def stop(number: int, frame: Any) -> None:
        raise SystemExit(TERMINATED)

    numbers = [number for number in SIGNALS if number != signal.SIGINT]  # Python's own handler is right for that
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    ours = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def launch(main: Callable[[], None]) -> None:
    """Run a Hydra entry point; its body guards itself, this guards what Hydra does before and after."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # lets us see Hydra's exceptions instead of its own exit
    register_resolvers()
    with exit_on_user_error():
        startup.prepare()
        sys.argv = [sys.argv[0], *map(home_expanded, sys.argv[1:])]
        main()


def pipeline_of(config: Any) -> "Pipeline":
    """The pipeline that `config` describes, but for what needs Lightning, which it builds when it gets there.

    Lightning takes longer to import than all else together; a teacher that cannot be read need not wait for it.
    """
    from hydra.utils import get_class, instantiate
    from omegaconf import OmegaConf

    node = config.pipeline
    make = {name: functools.partial(instantiate, node[name], _convert_="all") for name in node if name != "_target_"}
    later = {name: make.pop(name) for name in ("distiller", "judgement", "loggers")}
    now = {name: build() if OmegaConf.is_config(node[name]) else node[name] for name, build in make.items()}
    return get_class(node["_target_"])(**now, **later)


def home_expanded(argument: str) -> str:
    """KEY=~/file with the home folder in the place of `~`, which Hydra's parser does not know."""
    found = re.fullmatch(r"(\+{0,2}[\w./@-]+=)(~[^,\"']*)", argument)
    return found[1] + _quoted(str(Path(found[2]).expanduser())) if found else argument


def unreadable(override: str) -> str:
    """What to say of an override that Hydra's parser refuses."""
    key, equals, value = override.partition("=")
    if not equals:
        return f"{override}: must be KEY=VALUE"
    if value[:1] in "[{\"'" and value:
        return f"{override}: brackets and quotes do not match"
    cure = shlex.quote(f"{key}={_quoted(value, always=True)}")
    return f"{override}: cannot be read as KEY=VALUE; quote the value: {cure}"


def chosen_later(arguments: Sequence[str]) -> str:
    """What to add where a setting is unknown before the recipe is chosen that has it."""
    named = any(argument.startswith("recipe=") for argument in arguments)
    if named or "experiment=compress" not in arguments:
        return ""
    return "; a setting of the recipe that is chosen later needs its name too: recipe=NAME (limbeck choices recipe)"


def _quoted(value: str, *, always: bool = False) -> str:
    return value if not always and re.fullmatch(r"[\w./@%+-]*", value) else '"' + value.replace('"', '\\"') + '"'


def settings_of(config: Any) -> dict[str, Any]:
    """The resolved configuration as plain containers, without `pipeline`, which repeats the other keys."""
    from omegaconf import OmegaConf

    settings = OmegaConf.to_container(config, resolve=True)
    assert isinstance(settings, dict)
    return {str(name): value for name, value in settings.items() if name != "pipeline"}


def register_resolvers() -> None:
    """`limbeck.folder`: a folder name from overrides, short enough for any file system."""
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("limbeck.folder", folder_name, replace=True)


def folder_name(overrides: str, limit: int = 120) -> str:
    """Overrides as one path component: slashes become dots; a long name is cut and ends in its digest."""
    name = overrides.replace("/", ".").replace(" ", "") or "default"
    if len(name) <= limit:
        return name
    return f"{name[:limit]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _refused(message: str) -> int:
    if speaks():
        print("error: " + " ".join(message.split()), file=sys.stderr)
    return MENDABLE
