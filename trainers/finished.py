"""Reading what finished runs left: results, configuration, the log, labels."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import UserError, printable
from pipeline.files import object_digest
from trainers.tasks import EPOCHS, TASKS, Task, find_task, task_name

__all__ = ["SCHEMA", "config", "find_runs", "labels", "lines", "read_results"]

SCHEMA = 1
"""The shape of ``results.json`` that is read here."""

SHOWN = 40
"""Letters of a wrong value that a message repeats."""

Rule = tuple[Callable[[Any], bool], str]
"""Whether a value is right, and what is expected, in words."""


def config(run: Path) -> dict[str, Any]:
    """The resolved configuration: ``config.json``, with where manifest and store were as ``paths``.

    Raises:
        UserError: If there is none, or it is not what a run writes.
    """
    return _read_json(run, "config.json", {"seed"})


def read_results(run: Path) -> dict[str, Any]:
    """The content of a finished run's ``results.json``.

    Returns:
        The results and, under ``identity``, the run's configuration without its seed: what runs
        that may be averaged have in common.

    Raises:
        UserError: If the folder does not hold what a finished run leaves.
    """
    results = _read_json(run, "results.json", NEEDED)
    asked = config(run)
    try:
        _check_results(results)
    except ValueError as error:
        raise _unusable(run, "results.json", error) from error
    try:
        _check_config(asked, results)
    except ValueError as error:
        raise _unusable(run, "config.json", error) from error
    identity = {k: v for k, v in asked.items() if k not in ("seed", "paths")}
    return {**results, "identity": identity}


def lines(run: Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl``, one an epoch; none of a method that trains nothing.

    Raises:
        UserError: If a line is damaged.
    """
    path = run / "metrics.jsonl"
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise _unusable(run, path.name, error) from error


def labels(run: Path) -> dict[str, np.ndarray]:
    """What a method thinks of the training labels: the arrays of ``labels.h5``.

    Returns:
        ``id`` (N,) and ``classes`` (K,) str, and arrays (N, ...) by name; empty where the run left
        no such file.

    Raises:
        UserError: If the file is damaged.
    """
    import h5py

    path = run / "labels.h5"
    if not path.is_file():
        return {}
    try:
        with h5py.File(path) as file:
            found = {
                name: data.asstr()[:] if h5py.check_string_dtype(data.dtype) else data[:]
                for name, data in file.items()
            }
        if "id" not in found:
            raise ValueError("it names no clips")
    except (OSError, AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is damaged; delete the run's folder and train the run again."
        ) from error
    return found


def find_runs(folders: Sequence[Path]) -> dict[Path, dict[str, Any]]:
    """All finished runs below some folders, each once.

    A folder that cannot be read is left out, and so is one with the configuration and seed of
    another; standard error says so.

    Returns:
        Their results, as `read_results` gives them, by folder, sorted.

    Raises:
        UserError: If there is none.
    """
    found: dict[Path, dict[str, Any]] = {}
    seen: set[Path] = set()
    first: dict[str, Path] = {}
    repeated: list[tuple[Path, Path]] = []
    for path in sorted({done.parent for folder in folders for done in folder.rglob("DONE")}):
        # One folder may be reached by several names.
        if path.resolve() in seen:
            continue
        seen.add(path.resolve())
        try:
            results = read_results(path)
        except UserError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        known = [results["identity"], results["seed"], results.get("noise")]
        earlier = first.setdefault(object_digest(known), path)
        if earlier == path:
            found[path] = results
        else:
            repeated.append((path, earlier))
    if repeated:
        path, earlier = repeated[0]
        more = f"; so are {len(repeated) - 1} more folders" if len(repeated) > 1 else ""
        print(
            f"counted once: {path} is the same configuration and seed as {earlier}{more}.",
            file=sys.stderr,
        )
    if not found:
        names = ", ".join(str(folder) for folder in folders)
        raise UserError(f"There is no finished run in {names}; train one or name another folder.")
    return found


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    # Comparing also settles NaN, infinity and whole numbers that no float holds.
    whole = isinstance(value, (int, float)) and not isinstance(value, bool)
    return whole and abs(value) <= sys.float_info.max


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _or_null(rule: Rule) -> Rule:
    check, expected = rule
    return lambda value: value is None or check(value), f"{expected} or null"


def _all(container: type, rule: Rule, expected: str) -> Rule:
    def check(value: Any) -> bool:
        values = value.values() if isinstance(value, dict) else value
        return isinstance(value, container) and all(map(rule[0], values))

    return check, expected


COUNT: Rule = (_is_count, "a whole number from 0")
NUMBER: Rule = (_is_number, "a finite number")
TEXT: Rule = (_is_text, "a text")
OBJECT: Rule = (_is_object, "an object")
OBJECTS = _all(list, OBJECT, "a list of objects")
NAMES = _all(dict, TEXT, "an object of texts")

RULES: Mapping[str, Rule] = {
    "schema": (lambda value: _is_count(value) and value == SCHEMA, str(SCHEMA)),
    "task": (lambda value: value in tuple(TASKS), f"one of {', '.join(TASKS)}"),
    **dict.fromkeys(("method", "dataset", "supervision"), TEXT),
    **dict.fromkeys(("seed", "updates"), COUNT),
    **dict.fromkeys(("schedule", "filter"), _or_null(TEXT)),
    **dict.fromkeys(("passes", "seconds"), _or_null(NUMBER)),
    "features": _or_null(NAMES),
    "needs": _all(list, TEXT, "a list of texts"),
    "noise": OBJECTS,
    "metrics": OBJECT,
    "selection": OBJECT,
    "failed": _all(dict, COUNT, "an object of whole numbers from 0"),
}
"""What the entries of ``results.json`` must be that tables, comparisons and figures rely on."""

NEEDED = ("schema", "method", "seed", "updates", "dataset", "supervision", "features", "metrics")
"""Those that every result has; others came later or depend on the task."""

NOISE_RULES: Mapping[str, Rule] = {
    "kind": TEXT,
    "rate": _or_null(NUMBER),
    "rates": _or_null(_all(dict, NUMBER, "an object of finite numbers")),
    "options": _or_null(OBJECT),
    "realised": OBJECT,
}

CONFIG_RULES: Mapping[str, Rule] = {
    "manifest": TEXT,
    "features": _or_null(NAMES),
    "hyperparameters": OBJECT,
    "noise": OBJECTS,
}


def _check_results(results: Mapping[str, Any]) -> None:
    """Raises ValueError, naming the entry, where a result is not what a run writes."""
    _check(results, RULES, needed=NEEDED)
    task = find_task(task_name(results))
    _check_noise(results.get("noise", ()))
    for key in ("epoch", "oracle_epoch"):
        _check(results.get("selection", {}), {key: _or_null(COUNT)}, where="selection.")
    _check_block(results["metrics"], "metrics")
    _check_numbers(results["metrics"].get("train") or {}, "metrics.train")
    for key, of in _further_blocks(task):
        if key in results:
            _check_block(results[key], key)
            if of is not None:
                _check(results[key], {of: _or_null(TEXT)}, needed=(of,), where=f"{key}.")


def _check_config(asked: Mapping[str, Any], results: Mapping[str, Any]) -> None:
    """Raises ValueError where a configuration is not what a run writes, or is another run's."""
    _check(asked, CONFIG_RULES, needed=("manifest",))
    _check_noise(asked.get("noise", ()))
    own = {"task": task_name(results), "noise": results.get("noise", [])}
    for key, value in {**own, "method": results["method"], "seed": results["seed"]}.items():
        if key in asked and asked[key] != value:
            raise ValueError(f"{key} is not that of its results.json")


def _further_blocks(task: Task) -> Iterator[tuple[str, str | None]]:
    """Key of each block of a task beside ``metrics``, and its entry that is a name."""
    yield from ((key, None) for key in task.filters.values() if key != "metrics")
    yield from ((variation.key, variation.of) for variation in task.variations)


def _check(
    values: Mapping[str, Any],
    rules: Mapping[str, Rule],
    *,
    needed: Collection[str] = (),
    where: str = "",
) -> None:
    for key, (check, expected) in rules.items():
        if key not in values:
            if key in needed:
                raise ValueError(f"{where}{key} is missing")
        elif not check(values[key]):
            text = printable(json.dumps(values[key], ensure_ascii=False))
            text = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
            raise ValueError(f"{where}{key} is {text}, not {expected}")


def _check_noise(noise: Sequence[Mapping[str, Any]]) -> None:
    for number, entry in enumerate(noise, start=1):
        where = f"entry {number} of noise, "
        _check(entry, NOISE_RULES, needed=("kind",), where=where)
        overall = {"overall": _or_null(NUMBER)}
        _check(entry.get("realised", {}), overall, where=f"{where}realised.")


def _check_block(block: Any, name: str) -> None:
    """A block of metrics: of validation, and of test after each epoch."""
    _check({name: block}, {name: OBJECT})
    _check(block, {"val": OBJECT, "test": OBJECT}, needed=("val", "test"), where=f"{name}.")
    _check_numbers(block["val"], f"{name}.val")
    _check(block["test"], dict.fromkeys(EPOCHS, OBJECT), needed=EPOCHS, where=f"{name}.test.")
    for epoch in EPOCHS:
        _check_numbers(block["test"][epoch], f"{name}.test.{epoch}")


def _check_numbers(values: Any, where: str) -> None:
    _check({where: values}, {where: OBJECT})
    _check(values, dict.fromkeys(values, _or_null(NUMBER)), where=f"{where}.")


def _finite(text: str) -> float:
    """A number of JSON; Python also takes what programs that read our output cannot."""
    value = float(text)
    if not np.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value


def _read_json(run: Path, name: str, keys: Collection[str]) -> dict[str, Any]:
    """An object that a run wrote, with some keys at least; all its numbers are finite."""
    try:
        text = (run / name).read_text(encoding="utf-8")
        value = json.loads(text, parse_constant=_finite, parse_float=_finite)
        if not isinstance(value, dict) or set(keys) - value.keys():
            raise ValueError("it is not what a run writes")
    except (OSError, ValueError, RecursionError) as error:
        raise _unusable(run, name, error) from error
    return value


def _unusable(run: Path, name: str, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or error
    return UserError(
        f"The run {run} has no usable {name} ({reason}); delete the folder and train the run again."
    )
