"""What the command line chose, set right before anything is built: the same checks for every command.

`checked` is all of them in order; whatever is wrong costs a second, because nothing here needs torch.
"""

import copy
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limbeck.errors import UserError
from limbeck.kinds import refuse_wrong_kinds


def checked(config: Any) -> None:
    """Refuse what cannot be meant and drop what another choice replaced; changes `config`.

    What a recipe has chosen (`recipe.chosen`) counts as if conf/ said it, not the command line.
    Raises: UserError naming the key, its value and what is allowed.
    """
    refuse_nested_launch(config)
    expand_home(config)
    refuse_wrong_kinds(config, by_choice(beforehand(config)), task_overrides())
    forget_replaced_choices(config)
    forget_unselected_terms(config)


def task_overrides() -> list[str]:
    """The command line's own overrides, as typed."""
    from hydra.core.hydra_config import HydraConfig

    return list(HydraConfig.get().overrides.task)


def beforehand(config: Any) -> tuple[str, ...]:
    """What a recipe has chosen for this run, as overrides; see `recipe`."""
    return tuple((config.get("recipe") or {}).get("chosen") or ())


def by_choice(chosen: Sequence[str] = ()) -> Any:
    """The configuration that the same choices give without any value on the command line. chosen: see `beforehand`."""
    typed = [str(o.input_line) for o in _parsed(tuple(task_overrides())) if _is_group(o.key_or_group)]
    return _composed(_config_name(), (*_not_typed(chosen), *typed))


def composed(chosen: Sequence[str]) -> Any:
    """The configuration of the command line with `chosen` before what was typed, which goes first; without `hydra`."""
    from omegaconf import open_dict

    config = copy.deepcopy(_composed(_config_name(), (*_not_typed(chosen), *task_overrides())))
    with open_dict(config):
        config.pop("hydra")
        if chosen:
            config.recipe.chosen = list(chosen)
    return config


def _not_typed(chosen: Sequence[str]) -> list[str]:
    """Those of `chosen` whose key the command line does not name."""
    keys = {override.get_key_element().lstrip("+~") for override in _parsed(tuple(task_overrides()))}
    return [override for override in chosen if override.partition("=")[0] not in keys]


def default_settings(config: Any) -> dict[str, Any]:
    """`by_choice` as plain containers, resolved, without what repeats other keys."""
    from omegaconf import OmegaConf

    default = by_choice(beforehand(config))
    own = OmegaConf.masked_copy(default, [key for key in default if key not in ("hydra", "pipeline")])
    return OmegaConf.to_container(own, resolve=True)  # type: ignore[return-value]


def expand_home(config: Any) -> None:
    """`~` at the start of a path that the command line names is the user's home folder, as in a shell."""
    from omegaconf import OmegaConf

    for override in _parsed(tuple(task_overrides())):
        value = OmegaConf.select(config, override.key_or_group)
        if isinstance(value, str) and value.startswith("~"):
            OmegaConf.update(config, override.key_or_group, str(Path(value).expanduser()))


def forget_unselected_terms(config: Any) -> None:
    """Drop what an experiment says of loss terms, callbacks and metrics that another choice leaves out.

    Settings named on the command line stay, so that they are refused by name.
    """
    from omegaconf import OmegaConf, open_dict

    named = [override.lstrip("+~") for override in task_overrides()]
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
    from omegaconf import OmegaConf

    whole = ("experiment", "recipe")  # they set many keys, and other choices take places among these
    parsed = _parsed(tuple(task_overrides()))
    chosen = [o for o in parsed if o.key_or_group not in whole and _own_settings(o.key_or_group, o.value())]
    if not chosen:
        return
    experiment = tuple(str(o.input_line) for o in parsed if o.key_or_group in whole)
    before = _composed(_config_name(), (*_not_typed(beforehand(config)), *experiment)).hydra.runtime.choices
    named = [str(o.key_or_group) for o in parsed]
    for override in chosen:
        where = (override.package or override.key_or_group.replace("/", ".")).removeprefix("_global_.")
        found = OmegaConf.select(config, where)
        if before.get(override.get_key_element().lstrip("+")) != override.value() and OmegaConf.is_dict(found):
            _forget_unknown(found, _own_settings(override.key_or_group, override.value()), where, named)


def _is_group(name: str) -> bool:
    """Whether there is such a group, in conf/ or in a folder of the user's own."""
    return repository().group_exists(name)


def _own_settings(group: str, name: Any) -> dict[str, Any]:
    """What the file of a choice sets, wherever it lies; empty if there is none, or if it takes settings from others."""
    from omegaconf import OmegaConf

    files = repository()
    if not isinstance(name, str) or not files.config_exists(f"{group}/{name}"):
        return {}
    loaded = files.load_config(f"{group}/{name}")
    return {} if loaded.defaults_list else OmegaConf.to_container(loaded.config)  # type: ignore[return-value]


def _forget_unknown(node: Any, own: Any, where: str, named: Sequence[str]) -> None:
    """Drop keys of `node` that `own` does not have, or has as null, at any depth, unless an override names them."""
    from omegaconf import OmegaConf, open_dict

    for key in list(node):
        place = f"{where}.{key}"
        if isinstance(own.get(key), dict):
            if node[key] is not None:
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
    if hydra.mode == RunMode.MULTIRUN and "strategy" in (config.get("trainer") or {}) and launcher != "submitit_slurm":
        trainer = hydra.runtime.choices["trainer"]
        raise UserError(
            f"trainer={trainer} with -m: allowed: trainer=auto, cpu or gpu, or hydra/launcher=submitit_slurm"
        )


def repository() -> Any:
    """Where Hydra finds the files of the choices: conf/, `--config-dir`, `hydra.searchpath`."""
    from hydra.core.global_hydra import GlobalHydra

    loader: Any = GlobalHydra.instance().config_loader()
    return loader._parse_overrides_and_create_caching_repo(_config_name(), _where_to_look())[1]


def _config_name() -> str:
    from hydra.core.hydra_config import HydraConfig

    return HydraConfig.get().job.config_name or "train"


def _where_to_look() -> list[str]:
    from hydra.core.hydra_config import HydraConfig

    return [str(override) for override in HydraConfig.get().overrides.hydra if "searchpath" in str(override)]


def side_by_side() -> bool:
    """Whether this is one of several runs that a launcher starts at once on one machine, giving none its own GPU."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    return hydra.mode == RunMode.MULTIRUN and hydra.runtime.choices["hydra/launcher"] == "joblib"


@functools.cache
def _parsed(overrides: tuple[str, ...]) -> list[Any]:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_overrides(list(overrides))


@functools.cache
def _composed(name: str, overrides: tuple[str, ...]) -> Any:
    from hydra import compose

    return compose(name, [*_where_to_look(), *overrides], return_hydra_config=True)
