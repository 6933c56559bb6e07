"""`limbeck train` and `limbeck evaluate`: what train.py and evaluate.py do, from any folder, by the installed conf/."""

import os
import sys
from collections.abc import Sequence
from typing import Any

from limbeck.configured import CONF, require_conf
from limbeck.entry import launch


def start(command: str, arguments: Sequence[str]) -> None:
    """Run "train" or "evaluate" with Hydra's arguments.

    Modules of the current folder can be named in YAML files, as with a script that lies there.
    Raises: UserError if the installation holds no conf/.
    """
    import hydra

    from limbeck import commands

    require_conf()
    typed = list(sys.argv)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # last: no file here takes the place of an installed package

    def task(config: Any) -> Any:
        sys.argv = typed  # Lightning starts further processes by the command as it was typed
        return getattr(commands, command)(config)

    sys.argv = [f"limbeck {command}", *arguments]
    try:
        launch(hydra.main(version_base="1.3", config_path=str(CONF), config_name=command)(task))
    finally:
        sys.argv = typed
