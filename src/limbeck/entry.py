"""How a command starts and how it fails: one line and exit code 2 for whatever the user can mend."""

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from limbeck.configured import CONF
from limbeck.errors import UserError

MENDABLE = 2


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Turn what the user can mend into `error: …` on standard error and exit code 2."""
    from hydra.errors import HydraException, InstantiationException
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
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(_refused(str(error)))
    except OSError as error:
        if error.filename is None:
            raise
        sys.exit(_refused(f"{error.filename}: {error.strerror}"))


@contextlib.contextmanager
def job() -> Iterator[None]:
    """Guard of one job's work: alone it ends the command; in a sweep the other jobs go on, and the sweep then fails."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    try:
        with exit_on_user_error():
            yield
    except SystemExit as stop:
        if hydra.mode != RunMode.MULTIRUN or stop.code != MENDABLE:
            raise
        # Hydra keeps an exception until all jobs have run, wherever they ran, and raises it then.
        raise UserError(
            f"{hydra.sweep.dir}: not every run was finished, see the lines above; the same command runs what is "
            f"missing, `python -m limbeck.sweep {hydra.sweep.dir}` shows what is there"
        ) from None


def launch(main: Callable[[], None]) -> None:
    """Run a Hydra entry point; its body guards itself, this guards what Hydra does before and after."""
    from limbeck import allocator

    os.environ["HYDRA_FULL_ERROR"] = "1"  # lets us see Hydra's exceptions instead of its own exit
    register_resolvers()
    with exit_on_user_error():
        allocator.set_allocator()
        main()


def refuse_wrong_kinds(config: Any) -> None:
    """Refuse an override that puts text where the configuration has a number, or anything else for yes or no.

    Raises: UserError naming the key, its value and what is allowed.
    """
    from hydra import compose
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    hydra = HydraConfig.get()
    parsed = OverridesParser.create().parse_overrides(list(hydra.overrides.task))
    choices = [o for o in parsed if (CONF / o.key_or_group).is_dir()]
    default = compose(hydra.job.config_name, [str(o.input_line) for o in choices])
    for override in parsed:
        name = override.key_or_group
        before, after = OmegaConf.select(default, name), OmegaConf.select(config, name)
        if override in choices or before is None:
            continue
        if isinstance(before, bool):
            if not isinstance(after, bool):
                raise UserError(f"{name}={after!r}: must be true or false")
        elif isinstance(before, int | float) and (isinstance(after, bool) or not isinstance(after, int | float)):
            raise UserError(f"{name}={after!r}: must be a number")


def forget_unselected_terms(config: Any) -> None:
    """Drop what an experiment says of loss terms, callbacks and metrics that another choice leaves out.

    Settings named on the command line stay, so that they are refused by name.
    """
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf, open_dict

    named = [override.lstrip("+~") for override in HydraConfig.get().overrides.task]
    for group in ("loss.generator", "loss.discriminator", "callback", "metric"):
        chosen: Any = OmegaConf.select(config, group) or {}
        for name in [name for name, plugin in chosen.items() if "_target_" not in (plugin or {})]:
            if not any(override.startswith(f"{group}.{name}") for override in named):
                with open_dict(chosen):
                    del chosen[name]


def forget_replaced_choices(config: Any) -> None:
    """Drop what an experiment says of a plug-in in whose place the command line chooses another one.

    What both have by the same name keeps the experiment's value (a pruning ratio); settings named on the command line
    stay.
    """
    from hydra import compose
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    hydra = HydraConfig.get()
    parsed = OverridesParser.create().parse_overrides(list(hydra.overrides.task))
    chosen = {o.key_or_group: f"{o.value()}" for o in parsed if (CONF / o.key_or_group / f"{o.value()}.yaml").is_file()}
    chosen.pop("experiment", None)
    if not chosen:
        return
    experiment = [str(o.input_line) for o in parsed if o.key_or_group == "experiment"]
    before = compose(hydra.job.config_name, experiment, return_hydra_config=True).hydra.runtime.choices
    named = [str(o.key_or_group) for o in parsed]
    for group, name in chosen.items():
        own = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml"))
        found = OmegaConf.select(config, group.replace("/", "."))
        if before.get(group) != name and "defaults" not in own and OmegaConf.is_dict(found):
            _forget_unknown(found, own, group.replace("/", "."), named)


def _forget_unknown(node: Any, own: Any, where: str, named: Sequence[str]) -> None:
    """Drop keys of `node` that `own` does not have, or has as null, at any depth, unless an override names them."""
    from omegaconf import OmegaConf, open_dict

    for key in list(node):
        place = f"{where}.{key}"
        if isinstance(own.get(key), dict):
            _forget_unknown(node[key], own[key], place, named)
        elif any(name == place or name.startswith(f"{place}.") for name in named):
            continue
        elif key not in own:
            with open_dict(node):
                del node[key]
        elif own[key] is None and OmegaConf.is_dict(node[key]):
            node[key] = None


def refuse_nested_launch(config: Any) -> None:
    """Refuse several processes per job inside a sweep: they would each start the whole sweep again.

    Under submitit on SLURM every process is started by SLURM itself, which is fine.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    launcher = hydra.runtime.choices["hydra/launcher"]
    if hydra.mode == RunMode.MULTIRUN and "strategy" in config.trainer and launcher != "submitit_slurm":
        trainer = hydra.runtime.choices["trainer"]
        raise UserError(
            f"trainer={trainer} with -m: allowed: trainer=cpu, trainer=gpu, or hydra/launcher=submitit_slurm"
        )


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
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return MENDABLE
