# SPDX-License-Identifier: Apache-2.0
"""Names of the classes of a probe. None are shipped: their licences are not ours to give."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from vjepa2_ros.text import printable
from vjepa2_ros.video.probe import ACTION, NOUN, VERB

MAX_BYTES = 64 * 2**20


class LabelsError(ValueError):
    """A file of labels cannot be used; the text says why."""


def load_labels(path: Path, count: int) -> list[str]:
    """Read the names of classes in their order.

    Args:
        path: a JSON file (a list of names, an object from number to name or from name to number,
            as Something-Something and `transformers` have them), or a text file of one name a line.
        count: classes that the probe has.

    Raises:
        LabelsError: the file cannot be read, or holds another number of names.
    """
    text = _read(path)
    if path.suffix.lower() == ".json":
        try:
            names = _ordered(json.loads(text), path)
        except (ValueError, RecursionError) as error:
            if isinstance(error, LabelsError):
                raise
            raise LabelsError(f"{path} is no JSON file: {error}") from error
    else:
        names = [line.strip() for line in text.splitlines() if line.strip()]
    if len(names) != count:
        raise LabelsError(
            f"{path} holds {len(names)} names, the probe has {count} classes: give the labels of "
            "the set that the probe was trained on (Something-Something v2 has 174, Diving48 48)"
        )
    return [printable(name) for name in names]


def epic_labels(training: Path, verbs: Path | None = None, nouns: Path | None = None) -> dict:
    """Classes of Epic-Kitchens-100 in the order in which the published evaluation numbers them.

    Nothing of the order is in a checkpoint. It follows from the annotations of the training set:
    verbs and nouns ascend, actions come in the order in which CPython iterates over a set of pairs.

    Args:
        training: `EPIC_100_train.csv`.
        verbs, nouns: `EPIC_100_verb_classes.csv`, `EPIC_100_noun_classes.csv`; None: numbers in
            the place of names.

    Returns:
        Names by set: `VERB`, `NOUN`, `ACTION` ("verb noun").

    Raises:
        LabelsError: a file cannot be read.
    """
    try:
        pairs = [
            (int(row["verb_class"]), int(row["noun_class"]))
            for row in csv.DictReader(_read(training).splitlines())
        ]
    except LabelsError:
        raise
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise LabelsError(
            f"{training} is no annotation of Epic-Kitchens-100: it lacks whole numbers in "
            f"verb_class and noun_class ({error})"
        ) from error
    names = {VERB: _epic_names(verbs), NOUN: _epic_names(nouns)}

    def named(kind: str, number: int) -> str:
        return names[kind].get(number, f"{kind} {number}")

    return {
        VERB: [named(VERB, number) for number in sorted({verb for verb, _ in pairs})],
        NOUN: [named(NOUN, number) for number in sorted({noun for _, noun in pairs})],
        ACTION: [f"{named(VERB, verb)} {named(NOUN, noun)}" for verb, noun in epic_actions(pairs)],
    }


def epic_actions(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Pairs of verb and noun that occur, in the order of the published evaluation."""
    actions = set()
    for pair in pairs:
        actions.add(pair)
    return list(actions)


def _epic_names(path: Path | None) -> dict[int, str]:
    if path is None:
        return {}
    try:
        rows = csv.DictReader(_read(path).splitlines())
        return {int(row["id"]): printable(row["key"]) for row in rows}
    except LabelsError:
        raise
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise LabelsError(f"{path} lacks the columns id and key: {error}") from error


def _read(path: Path) -> str:
    try:
        if not path.is_file():
            raise LabelsError(f"{path} cannot be read: it is no file")
        if path.stat().st_size > MAX_BYTES:
            raise LabelsError(f"{path} is larger than {MAX_BYTES // 2**20} MiB: no file of labels")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelsError(f"{path} cannot be read: {error}") from error


def _ordered(content: object, path: Path) -> list[str]:
    """Names in the order of their numbers."""
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return content
    if isinstance(content, dict):
        if all(isinstance(name, str) and str(key).isdecimal() for key, name in content.items()):
            numbered = {int(key): name for key, name in content.items()}
        elif all(str(number).isdecimal() for number in content.values()):
            numbered = {int(str(number)): name for name, number in content.items()}
        else:
            numbered = {}
        if numbered and sorted(numbered) == list(range(len(content))):
            return [numbered[number] for number in range(len(numbered))]
    raise LabelsError(
        f"{path} is neither a list of names nor an object from 0, 1, … to names or back"
    )
