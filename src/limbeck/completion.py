"""Completion for bash and zsh: commands, and for `train` and `evaluate` every GROUP=CHOICE."""

from collections.abc import Sequence

from limbeck.catalog import choices, groups

SHELLS = ("bash", "zsh")
SCRIPT = """\
# eval "$(limbeck completion %(shell)s)", for good in ~/.%(shell)src
%(before)s_limbeck() {
  local line="${COMP_LINE:0:COMP_POINT}" cur words
  cur="${line##* }"
  words="%(commands)s"
  case "$line" in
    *limbeck\\ train\\ *|*limbeck\\ evaluate\\ *) words="%(choices)s" ;;
    *limbeck\\ choices\\ *) words="%(groups)s" ;;
    *limbeck\\ *\\ *) words="" ;;
  esac
  if [ -z "$words" ]; then
    COMPREPLY=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}"))
    return
  fi
  local found=($(compgen -W "$words" -- "$cur")) part="${cur%%"${cur##*=}"}"
  COMPREPLY=("${found[@]#"$part"}")
}
complete -o default -F _limbeck limbeck
"""


def script(shell: str, commands: Sequence[str]) -> str:
    """What a shell must read. shell: one of SHELLS."""
    chosen = [f"{choice.group}={choice.name}" for group in groups() for choice in choices(group)]
    return SCRIPT % {
        "shell": shell,
        "before": "autoload -U +X bashcompinit && bashcompinit\n" if shell == "zsh" else "",
        "commands": " ".join(commands),
        "choices": " ".join(chosen),
        "groups": " ".join(groups()),
    }
