"""How a command starts and how it fails: one line and exit code 2 for whatever the user can mend."""

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable, Iterator

from limbeck.errors import UserError

MENDABLE = 2


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Turn UserError into `error: …` on standard error and exit code 2."""
    try:
        yield
    except UserError as error:
        sys.exit(_refused(str(error)))


def launch(main: Callable[[], None]) -> None:
    """Run a Hydra entry point with the same rule for Hydra's own complaints."""
    from hydra.errors import HydraException, InstantiationException
    from omegaconf.errors import OmegaConfBaseException

    from limbeck import allocator

    allocator.set_allocator()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # lets us see the exception instead of Hydra's own exit
    register_resolvers()
    try:
        main()
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
