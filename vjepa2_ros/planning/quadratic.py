# SPDX-License-Identifier: Apache-2.0
"""Search by a quadratic surrogate: fit a paraboloid to the energies, ask at its minimum, refit.

Response-surface method with a shrinking trust region (Conn, Scheinberg and Vicente, Introduction to
Derivative-Free Optimization, chapters 4 and 10). Points spread evenly come first; then each round
fits a quadratic to everything asked so far, near points weighing more, and asks about its
minimum in the trust region and about points round it. What is returned was asked about exactly:
the surrogate proposes, the world model decides.

The *squared* energy is fitted: a mean distance of latents has the shape of a cone near the goal,
and its square that of a paraboloid.
"""

import numpy as np
import torch
from scipy.stats import qmc
from torch import Tensor

from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.planning.planner import Objective, Plan, Search, cube, numpy_generator

_FIRST = 0.25  # share of the evaluations that are spread over the whole cube
_ROUNDS = 6  # fits
_SHRINK = 0.6  # of the trust region from round to round
_NEIGHBOURHOOD = 1.5  # radius within which points weigh, in radii of the trust region
_FLOOR = 1e-3  # weight of a point far away
_RIDGE = 1e-4


class QuadraticSurrogate:
    """A `Planner` for few dimensions: a quadratic of d has (d + 1)(d + 2) / 2 coefficients."""

    def __init__(self, evaluations: int):
        if evaluations < 2 * (_ROUNDS + 1):
            raise ValueError(f"evaluations must be at least {2 * (_ROUNDS + 1)}, got {evaluations}")
        self.evaluations = evaluations

    def plan(
        self,
        objective: Objective,
        space: ActionSpace,
        generator: torch.Generator,
        previous: Tensor | None = None,
    ) -> Plan:
        """Search as `Planner.plan`."""
        search = Search(objective, space)
        spread = qmc.Sobol(space.dimensions, seed=numpy_generator(generator))
        search.begin(spread, int(self.evaluations * _FIRST), previous)
        radius = 1.0
        for left in range(_ROUNDS, 0, -1):
            centre = search.best
            surface = fit(search.points - centre, search.energies**2, _NEIGHBOURHOOD * radius)
            radius *= _SHRINK
            lower = np.maximum(-1.0, centre - 2 * radius) - centre
            upper = np.minimum(1.0, centre + 2 * radius) - centre
            proposed = centre + minimum(*surface, lower, upper)
            count = (self.evaluations - len(search.points)) // left
            around = proposed + 0.8 * radius * cube(spread, count - 1)
            search.evaluate(np.vstack([proposed, around]))
        return search.plan()


def fit(points: np.ndarray, values: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Gradient g [D] and symmetric matrix A [D, D] of c + g·x + x·A·x through values [S].

    points: [S, D]. radius: see `least_squares`.
    """
    dimensions = points.shape[1]
    solution = least_squares(points, radius) @ values
    matrix = np.zeros((dimensions, dimensions))
    matrix[np.triu_indices(dimensions)] = solution[1 + dimensions :]
    return solution[1 : 1 + dimensions], (matrix + matrix.T) / 2


def least_squares(points: np.ndarray, radius: float) -> np.ndarray:
    """Matrix [terms, S] that makes coefficients of `terms` out of values at points [S, D].

    Weighted least squares, with a normal weight of the distance from the origin (per root of D).
    """
    columns = terms(points)
    distance = np.linalg.norm(points, axis=1) / np.sqrt(points.shape[1])
    weights = np.exp(-0.5 * (distance / radius) ** 2) + _FLOOR
    weighted = columns * weights[:, None]
    penalty = np.full(columns.shape[1], _RIDGE)
    penalty[0] = 0.0
    return np.linalg.solve(weighted.T @ columns + np.diag(penalty), weighted.T)


def terms(points: np.ndarray) -> np.ndarray:
    """Constant, linear and quadratic terms [S, (D + 1)(D + 2) / 2] of points [S, D]."""
    row, column = np.triu_indices(points.shape[1])
    return np.hstack([np.ones((len(points), 1)), points, points[:, row] * points[:, column]])


def minimum(
    gradient: np.ndarray, matrix: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> np.ndarray:
    """Point [D] near the minimum of g·x + x·A·x in a box round the origin.

    Coordinate descent: exact on each axis, also where the quadratic bends down. (scipy's L-BFGS-B
    finds the same in forty times the time, which is more than the world model takes.)
    """
    x = np.zeros_like(gradient)
    for _ in range(10):
        for axis in range(len(x)):
            bend = matrix[axis, axis]
            slope = gradient[axis] + 2 * (matrix[axis] @ x - bend * x[axis])
            if bend > 1e-9:
                x[axis] = np.clip(-slope / (2 * bend), lower[axis], upper[axis])
            else:
                ends = lower[axis], upper[axis]
                x[axis] = min(ends, key=lambda end: slope * end + bend * end * end)
    return x
