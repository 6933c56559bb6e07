"""How a command reads its arguments and says what it cannot read."""

import errno

import pytest

from limbeck.entry import exit_on_user_error, home_expanded, unreadable


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.path=/tmp/c (copy)", """quote the value: 'data.path="/tmp/c (copy)"'"""),
        ("data.path=/tmp/a=b", """quote the value: 'data.path="/tmp/a=b"'"""),
        ("loss/generator=[a", "brackets and quotes do not match"),
        ("kimg", "kimg: must be KEY=VALUE"),
    ],
)
def test_what_hydra_cannot_read_is_said_with_its_cure(override, said):
    assert said in unreadable(override)
    assert unreadable(override).startswith(override)


def test_the_cure_is_one():
    from hydra.core.override_parser.overrides_parser import OverridesParser

    for value in ("/tmp/c (copy)", "/tmp/a=b", 'with "quotes"', "a,b"):
        said = unreadable(f"data.path={value}").split("quote the value: ")[1]
        import shlex

        (read,) = OverridesParser.create().parse_overrides(shlex.split(said))
        assert read.value() == value


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("teacher.path=~/x.pkl", "teacher.path=/home/me/x.pkl"),
        ("+teacher.path=~/a b.pkl", '+teacher.path="/home/me/a b.pkl"'),
        ("teacher.path=/x.pkl", "teacher.path=/x.pkl"),
        ("~callback.progress", "~callback.progress"),
        ("-m", "-m"),
    ],
)
def test_home(monkeypatch, argument, expected):
    monkeypatch.setenv("HOME", "/home/me")
    assert home_expanded(argument) == expected


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 2, "error: cannot write: No space left on device"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x.yaml"), 2, "error: x.yaml: No such file"),
        (KeyboardInterrupt(), 130, "interrupted; the same command goes on"),
    ],
)
def test_one_line_and_an_exit_code(error, code, said, capsys):
    with pytest.raises(SystemExit) as stop, exit_on_user_error():
        raise error
    assert stop.value.code == code
    assert said in capsys.readouterr().err
