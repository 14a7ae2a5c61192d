# SPDX-License-Identifier: Apache-2.0
"""Parameter files of the whole stack: read, merged and checked before anything starts.

The files are those of ROS 2. They are merged in this order, the last one wins: the files under
`config/`, a preset, the user's files in the order given, and the options of the command. Inside a
file a section `/**` counts less than one that names a node. Everything is refused that rcl would
accept silently: a file or section that concerns no node, an unknown parameter, a bad value.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vjepa2_ros import plain_yaml
from vjepa2_ros.settings.declaration import Parameter, SettingsError, parameters_of, suggestion
from vjepa2_ros.settings.stack import NODES, StackSettings, build_stack, known_parameters
from vjepa2_ros.share import share_directory

NAMESPACE = "/vjepa2"
"""Namespace of the nodes, unless told otherwise."""
ALL_NODES = "/**"
"""Section, and key of options, that concerns every node."""
SHARED_FILE = "cell"
"""Name of the shipped file with the section `/**`."""
DEFAULT = "default"
_NAMESPACE = re.compile(r"/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*", re.ASCII)
MAX_BYTES = 1_000_000
"""Largest parameter file that is read."""


@dataclass(frozen=True)
class Value:
    """An effective value, and where it came from: a file, an option, or `DEFAULT`."""

    value: Any
    origin: str


@dataclass(frozen=True)
class Configuration:
    """The effective settings of the stack.

    Attributes:
        settings: typed.
        values: the same by node and parameter, with their origins.
    """

    settings: StackSettings
    values: Mapping[str, Mapping[str, Value]]

    def changes(self, node: str) -> dict[str, Any]:
        """Parameters of a node that differ from their declared defaults."""
        declared = parameters_of(NODES[node].settings)
        return {
            name: list(entry.value) if isinstance(entry.value, tuple) else entry.value
            for name, entry in self.values[node].items()
            if entry.value != declared[name].default
        }

    def all_changes(self) -> dict[str, dict[str, Any]]:
        """`changes` of every node."""
        return {node: self.changes(node) for node in NODES}


def resolve(
    files: Iterable[str | Path] = (),
    preset: str | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    namespace: str = NAMESPACE,
) -> Configuration:
    """Merge and check everything that decides the settings of the stack.

    Args:
        files: parameter files, or folders of files named like those under `config/`.
        preset: name of a file under `config/presets`, without its suffix.
        options: values that options of a command set, by node (or `ALL_NODES`) and parameter.
        namespace: of the nodes; sections of another one are refused.

    Raises:
        SettingsError: names each file, section, parameter or value that cannot be used, or the
            settings that contradict each other.
    """
    layers = [*_shipped(), *([_preset(preset)] if preset else [])]
    for path in files:
        layers += _expand(Path(path).expanduser())
    merged: dict[str, dict[str, Value]] = {
        node: {name: Value(p.default, DEFAULT) for name, p in parameters_of(e.settings).items()}
        for node, e in NODES.items()
    }
    problems: list[str] = []
    for path in layers:
        sections = _sections(path, namespace)
        problems += _merge(merged, sections, _display(path))
    problems += _merge(merged, (options or {}).items(), "command line")
    if problems:
        raise SettingsError("; ".join(problems))
    _check_shared(merged)
    plain = {n: {name: v.value for name, v in values.items()} for n, values in merged.items()}
    return Configuration(build_stack(plain), merged)


def namespace_of(text: str) -> str:
    """A namespace of nodes, with the slash in front that may be left out.

    Raises:
        SettingsError: no node can have it.
    """
    if not _NAMESPACE.fullmatch(text):
        raise SettingsError(
            f"{text!r} is not a namespace: use letters, digits and underscores, as in {NAMESPACE}"
        )
    return "/" + text.strip("/")


def presets() -> tuple[str, ...]:
    """Names of the shipped presets."""
    return tuple(sorted(path.stem for path in _preset_folder().glob("*.yaml")))


# Files --------------------------------------------------------------------------------------


def _shipped() -> list[Path]:
    folder = share_directory() / "config"
    # The shared file first: what names a node counts more.
    return sorted(folder.glob("*.yaml"), key=lambda path: (path.stem != SHARED_FILE, path.name))


def _preset_folder() -> Path:
    return share_directory() / "config" / "presets"


def _preset(name: str) -> Path:
    if name not in presets():
        raise SettingsError(f"unknown preset {name!r}: use {', '.join(presets())}")
    return _preset_folder() / f"{name}.yaml"


def _expand(path: Path) -> list[Path]:
    """The file itself, or the parameter files of a folder, the shared one first."""
    if not path.is_dir():
        return [path]
    known = [SHARED_FILE, *NODES]
    files = {file.stem: file for file in path.iterdir() if file.suffix in (".yaml", ".yml")}
    names = ", ".join(f"{name}.yaml" for name in known)
    if unknown := sorted(file.name for name, file in files.items() if name not in known):
        raise SettingsError(f"{path}: no node reads {', '.join(unknown)}; known: {names}")
    if not files:
        raise SettingsError(f"{path}: the folder holds none of {names}")
    return [files[name] for name in known if name in files]


def _sections(path: Path, namespace: str) -> list[tuple[str, dict[str, Any]]]:
    """Pairs of node (or `ALL_NODES`) and its flat parameters, the general ones first."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise SettingsError(f"{path} is not a regular file")
        if status.st_size > MAX_BYTES:
            raise SettingsError(
                f"{path} has {status.st_size / 1e6:.1f} MB: a parameter file has at most "
                f"{MAX_BYTES / 1e6:.0f}"
            )
        text = path.read_text()
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not a text file") from None
    try:
        content = plain_yaml.load(text)
    except ValueError as error:
        raise SettingsError(f"{path} is not valid YAML: {error}") from None
    if content is None:
        raise SettingsError(f"{path} is empty: remove it, or give it a section for a node")
    if not isinstance(content, dict):
        raise SettingsError(f"{path} is not a parameter file: it must map node names to parameters")
    found = []
    for section, body in _node_sections(content, ""):
        node = _node_of(section, namespace)
        above, _, name = section.rpartition("/")
        if node is None and body is None and _node_of(above, namespace) is not None:
            raise SettingsError(f"{path}: `ros__parameters:` is missing between {above} and {name}")
        if node is None:
            raise SettingsError(
                f"{path} has a section for {section!r}, which is not a node of this stack; known: "
                f"{ALL_NODES}, " + ", ".join(f"/**/{name}" for name in NODES)
            )
        if not isinstance(body, dict):
            raise SettingsError(f"{path}: ros__parameters of {section!r} must be a mapping")
        found.append((node, dict(_flat(body, ""))))
    if not found:
        raise SettingsError(f"{path} is not a parameter file: no section has `ros__parameters`")
    return sorted(found, key=lambda pair: pair[0] != ALL_NODES)


def _node_sections(content: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Sections with `ros__parameters`; a namespace may be a level of its own, as rcl takes it."""
    for name, body in content.items():
        path = f"{prefix}/{str(name).strip('/')}" if prefix else str(name)
        if not isinstance(body, dict) or not body:
            yield path, body if "ros__parameters" in str(body) else None
        elif "ros__parameters" in body:
            yield path, body["ros__parameters"]
        else:
            yield from _node_sections(body, path)


def _node_of(section: str, namespace: str) -> str | None:
    """Name of the node that a section concerns, `ALL_NODES`, or None."""
    if section in ("/**", "**"):
        return ALL_NODES
    prefix, _, name = section.strip("/").rpartition("/")
    if name not in NODES or prefix not in ("", "*", "**", namespace.strip("/")):
        return None
    return name


def _flat(body: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in body.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _display(path: Path) -> str:
    share = share_directory()
    return str(path.relative_to(share) if path.is_relative_to(share) else path)


# Merging ------------------------------------------------------------------------------------


def _merge(
    merged: dict[str, dict[str, Value]],
    sections: Iterable[tuple[str, Mapping[str, Any]]],
    origin: str,
) -> list[str]:
    """Set the values of some sections; returns what cannot be used."""
    problems = []
    for node, values in sections:
        for name, value in values.items():
            known: Mapping[str, Parameter] = (
                known_parameters() if node == ALL_NODES else parameters_of(NODES[node].settings)
            )
            if name not in known:
                where = f"{origin}: " + ("" if node == ALL_NODES else f"{node}: ")
                problems.append(f"{where}unknown parameter {name!r}{suggestion(name, known)}")
                continue
            for target in NODES if node == ALL_NODES else (node,):
                declared = parameters_of(NODES[target].settings).get(name)
                if declared is None:
                    continue
                try:
                    merged[target][name] = Value(declared.check(value), origin)
                except SettingsError as error:
                    problems.append(f"{origin}: {target}: {error}")
    return problems


def _check_shared(merged: Mapping[str, Mapping[str, Value]]) -> None:
    """Raise SettingsError where nodes disagree on what belongs to the whole cell."""
    for name, parameter in known_parameters().items():
        if parameter.shared != "same":
            continue
        holders: Sequence[tuple[str, Value]] = [
            (node, values[name]) for node, values in merged.items() if name in values
        ]
        first, value = holders[0]
        for node, other in holders[1:]:
            if other.value != value.value:
                raise SettingsError(
                    f"{name} must be the same in all nodes, but is {_text(value)} in {first} and "
                    f"{_text(other)} in {node}: set it once, in a section {ALL_NODES}"
                )


def _text(entry: Value) -> str:
    value = list(entry.value) if isinstance(entry.value, tuple) else entry.value
    return f"{value} ({entry.origin})"
