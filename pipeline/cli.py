"""What all commands share: exit codes, errors without tracebacks, and configuration files."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pipeline.errors import UserError, unknown_name

__all__ = [
    "DONE",
    "MAX_SEED",
    "PARTIAL",
    "USER_ERROR",
    "Parser",
    "WholeNumber",
    "read_config",
    "run",
]

DONE = 0
USER_ERROR = 1
PARTIAL = 2
"""Exit codes: all done; a mistake of the user; done in part, and the report says what failed."""

MAX_SEED = 2**63 - 1
"""The largest seed that every generator takes."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a write fails with where there is no room for it."""

TAKES = {"int": "a whole number", "float": "a number", "Path": "a path"}
"""What an option takes, by the name of its type; text where it is none of these."""


@dataclass(frozen=True)
class WholeNumber:
    """The type of an option that takes whole numbers within limits.

    Attributes:
        low: The smallest.
        high: The largest.
    """

    low: int
    high: int

    def __call__(self, text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or not self.low <= value <= self.high:
            raise argparse.ArgumentTypeError(f"{text!r} is not {self}")
        return value

    def __str__(self) -> str:
        return f"a whole number from {self.low} to {self.high}"


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, but not that an option is off when it is not given."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False or action.default == []:
            return action.help
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are `UserError` and whose options a file can set.

    Args:
        config: Whether to offer ``--config FILE`` (JSON or TOML; keys are option names, with
            dashes or underscores). The command line wins over the file, the file over defaults.
    """

    def __init__(self, *args: Any, config: bool = False, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", _HelpFormatter)
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)
        self._takes_config = config
        if config:
            self.add_argument(
                "--config", type=Path, metavar="FILE", help="options from a JSON or TOML file"
            )

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help.")

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        argv = sys.argv[1:] if args is None else list(args)
        if self._takes_config:
            early = Parser(prog=self.prog, add_help=False)
            early.add_argument("--config", type=Path)
            known, _ = early.parse_known_args(argv)
            if known.config is not None:
                self._set_from_file(known.config)
        parsed, rest = self.parse_known_args(argv, namespace)
        if rest:
            option = rest[0].split("=", 1)[0]
            options = list(self._options())
            if option.startswith("-"):
                raise unknown_name("option", option, options)
            raise UserError(f"{option!r} is one argument too many; see {self.prog} --help.")
        return parsed

    def _options(self) -> Iterator[str]:
        """Every option, those of sub-commands too."""
        for action in self._actions:
            yield from action.option_strings
            if isinstance(action, argparse._SubParsersAction):
                for parser in action.choices.values():
                    yield from parser._options()

    def _set_from_file(self, path: Path) -> None:
        """Makes a file's values the parser's defaults, converted as the command line would."""
        actions = self._file_actions()
        for key, value in read_config(path).items():
            dest = key.replace("-", "_")
            if dest not in actions:
                raise unknown_name(f"option of {path.name} named", key, actions)
            value = self._from_file(actions[dest], value, key, path)
            actions[dest].required = False
            self.set_defaults(**{dest: value})

    def file_value(self, path: Path, dest: str) -> Any:
        """One option of a configuration file, converted; None if the file does not name it.

        Raises:
            UserError: If the file cannot be read or the value does not fit.
        """
        for key, value in read_config(path).items():
            if key.replace("-", "_") == dest:
                return self._from_file(self._file_actions()[dest], value, key, path)
        return None

    def _file_actions(self) -> dict[str, argparse.Action]:
        """The options that a file can set, by the names of their values."""
        unfit = ("help", "config")
        return {a.dest: a for a in self._actions if a.option_strings and a.dest not in unfit}

    def _from_file(self, action: argparse.Action, value: Any, key: str, path: Path) -> Any:
        """A file's value, held to what the command line takes.

        Raises:
            UserError: Naming the key, the value and what the option takes.
        """
        try:
            if action.nargs == 0:
                if not isinstance(value, bool):
                    raise ValueError("neither on nor off")
                return value
            if not _takes_several(action):
                return self._word(action, value)
            words = value if isinstance(value, list) else [value]
            if action.nargs == "+" and not words:
                raise ValueError("at least one is needed")
            return [self._word(action, word) for word in words]
        except (argparse.ArgumentError, ValueError) as error:
            shown = json.dumps(value, default=str, ensure_ascii=False)
            raise UserError(
                f"The configuration {path} sets {key} to {shown}; give {self._takes(action)}."
            ) from error

    def _word(self, action: argparse.Action, value: Any) -> Any:
        """One value of an option, converted from the text that stands for it in a command."""
        if isinstance(value, bool) or not isinstance(value, str | int | float | None):
            raise ValueError("no single text or number")
        converted = self._get_value(action, "none" if value is None else str(value))
        # What takes the word otherwise, such as a path, has no way to say nothing.
        if value is None and converted is not None:
            raise ValueError("none is not allowed")
        self._check_value(action, converted)
        return converted

    def _takes(self, action: argparse.Action) -> str:
        """What an option takes in a configuration file, in words."""
        if action.nargs == 0:
            return "true or false"
        if action.choices is not None:
            words = f"one of {', '.join(map(str, action.choices))}"
        elif isinstance(action.type, WholeNumber):
            words = str(action.type)
        else:
            words = TAKES.get(getattr(action.type, "__name__", ""), "text")
        if _takes_several(action):
            return f"{words}, or a list of such"
        try:
            self._word(action, None)
        except (argparse.ArgumentError, ValueError):
            return words
        return f"{words}, or none"


def _takes_several(action: argparse.Action) -> bool:
    return action.nargs in ("+", "*")


def read_config(path: Path) -> dict[str, Any]:
    """Reads a table of options from a JSON or TOML file.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise UserError(
            f"The configuration {path} cannot be read ({error.strerror}); check --config."
        ) from error
    except ValueError as error:
        raise UserError(
            f"The configuration {path} is not valid "
            f"{'TOML' if path.suffix == '.toml' else 'JSON'} ({error}); mend it."
        ) from error
    if not isinstance(values, dict):
        raise UserError(f"The configuration {path} must hold one table of options.")
    return values


def run(main: Callable[[], int]) -> NoReturn:
    """Runs a command and ends the process with its exit code; user errors print one sentence."""
    code: Any = DONE
    try:
        code = main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = USER_ERROR
    except KeyboardInterrupt:
        print(
            "interrupted; finished parts are kept, run the command again to go on", file=sys.stderr
        )
        code = 130
    except BrokenPipeError:
        # The reader (head, less) went away: not an error, and nobody is left to tell.
        _drop_output()
    except SystemExit as end:
        # Where rich was printing, it has ended the process by itself, with code 1.
        code = DONE if isinstance(end.__context__, BrokenPipeError) else end.code
    except OSError as error:
        code = _no_room(error)
    try:
        # Not None: standard output may be closed from the beginning (>&-).
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
    except OSError as error:
        # Said once is enough: what the command could not print is still to be flushed.
        code = code if code == USER_ERROR else _no_room(error)
        _drop_output()
    sys.exit(code)


def _no_room(error: OSError) -> int:
    """Says that a disk is full, whatever was being written; other errors are raised again."""
    if error.errno not in FULL:
        raise error
    print(
        f"error: the output cannot be written ({error.strerror}); free some space or choose "
        "another place.",
        file=sys.stderr,
    )
    return USER_ERROR


def _drop_output() -> None:
    """Sends what is still to be printed nowhere, or Python would try it again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
