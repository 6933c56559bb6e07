"""Objects from the YAML files in conf/ for Python callers: the same files that the commands use, without Hydra."""

import importlib
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from limbeck.errors import UserError

INSTALLED, CLONED = Path(__file__).with_name("conf"), Path(__file__).parents[2] / "conf"
CONF = CLONED if CLONED.is_dir() else INSTALLED
# What plug-ins read from the top level of a configuration, with its values there.
SHARED = {
    "seed": 0,
    "allocation": None,
    "data": None,
    "protocol": None,
    "calibration": None,
    "mask": {"_target_": "limbeck.masks.everything.Everything"},
    "latency": {"_target_": "limbeck.export.stopwatch.Stopwatch"},
}


def require_conf() -> None:
    """Raises: UserError if the folder of all choices is missing, as in a damaged installation."""
    if not CONF.is_dir():
        raise UserError(f"{CONF}: missing; every choice is a file in it: install limbeck again")


def configured(group: str, name: str, **changes: Any) -> Any:
    """The object that conf/<group>/<name>.yaml describes, with some of its keys replaced.

    Raises: UserError if there is no such file, or it has no such key.
    """
    require_conf()
    file = CONF / group / f"{name}.yaml"
    if not file.is_file():
        allowed = sorted(path.stem for path in file.parent.glob("*.yaml"))
        raise UserError(f"{group}={name}: unknown; allowed: {', '.join(allowed) or 'none'}")
    node = OmegaConf.load(file)
    unknown = sorted(set(changes) - set(node))
    if unknown:
        raise UserError(
            f"{group}.{unknown[0]}: unknown for {group}={name}; allowed: {', '.join(sorted(map(str, node)))}"
        )
    described = OmegaConf.to_container(OmegaConf.create({**SHARED, group: node}), resolve=True)
    return _built(described[group] | changes)  # type: ignore[index, call-overload]


def _built(node: Any) -> Any:
    """Build every mapping that has a `_target_`, innermost first."""
    if isinstance(node, list):
        return [_built(item) for item in node]
    if not isinstance(node, dict):
        return node
    values = {key: _built(value) for key, value in node.items() if key not in ("_target_", "_partial_")}
    if "_target_" not in node:
        return values
    module, _, attribute = node["_target_"].rpartition(".")
    target = getattr(importlib.import_module(module), attribute)
    return partial(target, **values) if node.get("_partial_") else target(**values)
