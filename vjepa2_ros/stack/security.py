# SPDX-License-Identifier: Apache-2.0
"""SROS 2 for the stack: a keystore with one enclave per node, and who may do what.

The policy is `config/security/policies.xml`. Keys and signatures are made by the package `sros2` of
an installed ROS 2; it is not on PyPI.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from vjepa2_ros.settings.files import NAMESPACE
from vjepa2_ros.share import share_directory

ENABLE = "ROS_SECURITY_ENABLE"
_OVERRIDE = "ROS_SECURITY_ENCLAVE_OVERRIDE"


class SecurityError(RuntimeError):
    """The keystore could not be made; the text says what to do."""


def policies(namespace: str = NAMESPACE) -> ElementTree.ElementTree:
    """The policy of all nodes in a namespace."""
    tree = ElementTree.parse(share_directory() / "config" / "security" / "policies.xml")
    for enclave in tree.iter("enclave"):
        node = enclave.attrib["path"].rpartition("/")[2]
        enclave.attrib["path"] = enclave_of(node, namespace)
    for profile in tree.iter("profile"):
        profile.attrib["ns"] = namespace
    return tree


def enclave_of(node: str, namespace: str = NAMESPACE) -> str:
    """Name of the enclave of a node."""
    return f"{namespace.rstrip('/')}/{node}"


def enclave_arguments(
    node: str, namespace: str, environment: Mapping[str, str] = os.environ
) -> list[str]:
    """What follows `--ros-args` for a node to use its enclave; nothing where SROS 2 is off.

    Args:
        node: its name.
        namespace: of the node.
        environment: of its process.
    """
    if environment.get(ENABLE, "").lower() != "true" or environment.get(_OVERRIDE):
        return []
    return ["--enclave", enclave_of(node, namespace)]


def create(keystore: Path, namespace: str = NAMESPACE) -> list[str]:
    """Make keystore, enclaves and permissions; keys that are there already are kept.

    The permissions hold for the domain of ROS_DOMAIN_ID.

    Args:
        keystore: folder; made if it does not exist.
        namespace: of the nodes.

    Returns:
        Names of the enclaves.

    Raises:
        SecurityError: the package `sros2` is not installed, or refused.
        OSError: the folder cannot be written.
    """
    try:
        from sros2 import keystore as sros2
        from sros2.errors import SROS2Error
    except (ImportError, LookupError, OSError) as error:
        # The last two: its modules are there, its resources are not found.
        raise SecurityError(
            f"the package sros2 is missing ({error}): install it with ROS 2 (ros-DISTRO-sros2) and "
            "source that ROS 2; it is not on PyPI, and neither is a middleware with security"
        ) from error
    tree = policies(namespace)
    enclaves = [enclave.attrib["path"] for enclave in tree.iter("enclave")]
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder, "policies.xml")
        tree.write(policy, encoding="UTF-8", xml_declaration=True)
        try:
            if not sros2.is_valid_keystore(keystore):
                sros2.create_keystore(keystore)
            for enclave in enclaves:
                sros2.create_enclave(keystore, enclave)
                sros2.create_permission(keystore, enclave, policy)
        except (SROS2Error, RuntimeError) as error:
            raise SecurityError(f"sros2 refused: {error}") from error
    # The keys of the authority sign whatever they are asked to.
    (keystore / "private").chmod(0o700)
    return enclaves
