"""The commands of docs/sweeps.md are ones that Hydra, and a search, can take apart and compose."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from limbeck.configured import CONF
from limbeck.entry import register_resolvers
from limbeck.evaluation.objective import objectives
from limbeck.sweep.search import parted

PAGE = Path(__file__).parents[2] / "docs" / "sweeps.md"
COMMANDS = re.findall(r"^python train\.py -m (.*)$", PAGE.read_text(), re.MULTILINE)
INSTALLED_APART = "ray"  # its launcher's settings are known only beside its package


def test_there_are_commands():
    assert len(COMMANDS) == 6
    assert sum("hydra/sweeper=optuna" in command for command in COMMANDS) == 2


@pytest.mark.parametrize("command", [c for c in COMMANDS if INSTALLED_APART not in c])
def test_commands_compose(command):
    space, fixed = parted(shlex.split(command))
    assert space
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        first = [f"{key}={(getattr(way, 'choices', None) and way.choices[0]) or way.low}" for key, way in space.items()]
        config = compose("train", [*fixed, *first], return_hydra_config=True)
        chosen = {o.key_or_group: o.value() for o in OverridesParser.create().parse_overrides(fixed)}
        for group, name in chosen.items():
            if group.startswith("hydra/"):
                assert config.hydra.runtime.choices[group] == name
        assert bool(objectives(config.objective)) == ("hydra/sweeper" in chosen)
