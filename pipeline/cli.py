"""What all commands share: exit codes, errors without tracebacks, and configuration files."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pipeline.errors import UserError, unknown_name

__all__ = ["DONE", "PARTIAL", "USER_ERROR", "Parser", "read_config", "run"]

DONE = 0
USER_ERROR = 1
PARTIAL = 2
"""Exit codes: all done; a mistake of the user; done in part, and the report says what failed."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a write fails with where there is no room for it."""


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
            early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
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
        values = read_config(path)
        actions = {a.dest: a for a in self._actions if a.option_strings and a.dest != "help"}
        for key, value in values.items():
            dest = key.replace("-", "_")
            if dest not in actions:
                raise unknown_name(f"option of {path.name} named", key, actions)
            action = actions[dest]
            if isinstance(value, list):
                value = [self._get_value(action, str(v)) for v in value]
            elif action.type is not None and value is not None:
                value = self._get_value(action, str(value))
            action.required = False
            self.set_defaults(**{dest: value})


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
