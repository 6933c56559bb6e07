"""A process that has imported everything and forks commands on request: imports are most of what a tiny run costs.

Reads one JSON object a line, `{"arguments": […], "environment": {…}, "cwd": …, "output": …, "errors": …}`, answers
with `started NUMBER`, and later, in the order of their ends, `ended NUMBER EXIT_CODE`. A fork carries out `train.py` or
`evaluate.py` as a new interpreter would.
"""

import json
import os
import runpy
import select
import sys
from typing import Any


def imported() -> None:
    from limbeck import startup

    startup.prepare()
    import limbeck.commands
    import limbeck.distillation.distiller
    import limbeck.distillation.gan
    import limbeck.distillation.trainer
    import limbeck.evaluation.judgement
    import limbeck.evaluation.write_report
    import limbeck.pruning.criteria.dcp
    import limbeck.pruning.pruner  # noqa: F401


def carry_out(request: dict[str, Any]) -> None:
    """In the fork; never returns."""
    code = 1
    try:
        for number, name in ((0, os.devnull), (1, request["output"]), (2, request["errors"])):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), number)
        os.environ.update(request["environment"])
        os.chdir(request["cwd"])
        sys.argv = request["arguments"]
        runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    imported()
    said, running, listening = os.fdopen(os.dup(1), "w"), set(), True
    while listening or running:
        ready, _, _ = select.select([sys.stdin] if listening else [], [], [], 0.02)
        if ready:
            line = sys.stdin.readline()
            listening = bool(line)
            if line.strip():
                number = os.fork()
                if not number:
                    carry_out(json.loads(line))
                running.add(number)
                print("started", number, file=said, flush=True)
        while running:
            number, status = os.waitpid(-1, os.WNOHANG)
            if not number:
                break
            running.discard(number)
            print("ended", number, os.waitstatus_to_exitcode(status), file=said, flush=True)


if __name__ == "__main__":
    main()
