# SPDX-License-Identifier: Apache-2.0
"""Search by a quadratic surrogate: fit a paraboloid to the energies, evaluate its minimum, refit.

Response-surface method with a shrinking trust region (Conn, Scheinberg and Vicente, Introduction to
Derivative-Free Optimization, chapters 4 and 10). Evenly spread points come first; then each round
fits a quadratic to all evaluations so far, near points weighing more, and evaluates its minimum in
the trust region and points around it. The plan was evaluated exactly: the surrogate proposes, the
world model decides.

The *squared* energy is fitted: a mean distance of latents has the shape of a cone near the goal,
and its square that of a paraboloid.
"""

import numpy as np

from vjepa2_ros.planning.search import Search, SearchPlanner

_FIRST = 0.25  # share of the evaluations that are spread over the whole cube
_ROUNDS = 6  # fits
_SHRINK = 0.6  # of the trust region from round to round
_NEIGHBOURHOOD = 1.5  # radius within which points weigh, in radii of the trust region
_FLOOR = 1e-3  # weight of a point far away
_RIDGE = 1e-4


class QuadraticSurrogate(SearchPlanner):
    """A `Planner` for few dimensions: a quadratic of d has (d + 1)(d + 2) / 2 coefficients."""

    def search(self, search: Search) -> None:
        """See `SearchPlanner`."""
        search.begin(int(self.evaluations * _FIRST))
        radius = 1.0
        for left in range(_ROUNDS, 0, -1):
            centre = search.best
            surface = fit(search.points - centre, search.energies**2, _NEIGHBOURHOOD * radius)
            radius *= _SHRINK
            lower = np.maximum(-1.0, centre - 2 * radius) - centre
            upper = np.minimum(1.0, centre + 2 * radius) - centre
            proposed = centre + minimum(*surface, lower, upper)
            count = (self.evaluations - len(search.points)) // left
            around = proposed + 0.8 * radius * search.spread(count - 1)
            search.evaluate(np.vstack([proposed, around]))


def fit(points: np.ndarray, values: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Gradient g [D] and symmetric matrix A [D, D] of c + g·x + x·A·x through values [S].

    Args:
        points: [S, D].
        values: [S].
        radius: see `least_squares`.
    """
    dimensions = points.shape[1]
    solution = least_squares(points, radius) @ values
    matrix = np.zeros((dimensions, dimensions))
    matrix[np.triu_indices(dimensions)] = solution[1 + dimensions :]
    return solution[1 : 1 + dimensions], (matrix + matrix.T) / 2


def least_squares(points: np.ndarray, radius: float) -> np.ndarray:
    """Matrix [terms, S] that maps values at points [S, D] to coefficients of `terms`.

    Weighted least squares; the weight is a normal density of the distance from the origin, divided
    by the root of D, with the standard deviation `radius`.
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

    Coordinate descent, exact on each axis, also where the quadratic is concave. scipy's L-BFGS-B
    gives the same point in forty times the time, which is more than the world model takes.
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
