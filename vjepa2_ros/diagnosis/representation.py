# SPDX-License-Identifier: Apache-2.0
"""What a change of the cell is worth in true latents: the scale for all energies."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor
from tqdm import tqdm

from vjepa2_ros.planning.objective import distance
from vjepa2_ros.simulation.simulator import DOWN, GRASP_HEIGHTS, OBJECTS, Simulator
from vjepa2_ros.world_model.world_model import WorldModel

DISTANCES = (0.01, 0.02, 0.04, 0.075)
"""By which hand or object are moved [m]."""
_CLEAR = 0.12  # height over a grasp at which the fingers close on nothing [m]


def changes_of_latents(
    model: WorldModel, simulator: Simulator, scenes: Sequence[int], cost: str
) -> dict[str, float]:
    """Median energy between an image of the cell and one in which a single thing has changed.

    The reference is the open hand at an object, ready to grasp it; cup and box alike.

    Args:
        model: encodes.
        simulator: of the cell.
        scenes: seeds.
        cost: "l1" or "l2".

    Returns:
        Energies by what changed, such as "hand 2 cm sideways" or "object 4 cm".
    """
    found: dict[str, list[float]] = {}

    def look() -> Tensor:
        return model.encode(simulator.render())

    for scene in tqdm(scenes, desc="representation", unit="scene"):
        for index in range(len(OBJECTS)):
            simulator.reset(scene)
            place = simulator.object_positions()[index]
            grasp = np.append(place[:2], GRASP_HEIGHTS[index])
            simulator.place(grasp, DOWN, 0.0)
            ready, reference = simulator.snapshot(), look()
            for name, change in _changes(simulator, index, grasp):
                simulator.restore(ready)
                change()
                energy = float(distance(look(), reference, cost))
                found.setdefault(name, []).append(energy)
            simulator.restore(ready)
            simulator.place(grasp + (0.0, 0.0, _CLEAR), DOWN, 0.0)
            above = look()
            simulator.place(grasp + (0.0, 0.0, _CLEAR), DOWN, 1.0)
            found.setdefault("fingers closed in the air", []).append(
                float(distance(look(), above, cost))
            )
    return {name: float(np.median(energies)) for name, energies in found.items()}


def _changes(
    simulator: Simulator, index: int, grasp: np.ndarray
) -> list[tuple[str, Callable[[], None]]]:
    """Names of single changes to the cell, and what makes them."""

    def hand(offset: np.ndarray) -> Callable[[], None]:
        return lambda: simulator.place(grasp + offset, DOWN, 0.0)

    def thing(way: float) -> Callable[[], None]:
        return lambda: simulator.place_object(index, grasp[:2] + (0.0, way))

    def close() -> None:
        simulator.set_target(grasp, DOWN.as_quat(), 1.0)
        simulator.advance(1.0)

    changes = [("fingers closed on the object", close)]
    for way in DISTANCES:
        centimetres = f"{way * 100:g} cm"
        changes += [
            (f"hand {centimetres} sideways", hand(np.array([way, 0.0, 0.0]))),
            (f"hand {centimetres} up", hand(np.array([0.0, 0.0, way]))),
            (f"object {centimetres}", thing(way)),
        ]
    return changes
