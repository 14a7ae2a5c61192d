# SPDX-License-Identifier: Apache-2.0
"""What a plan is rated by: the distance of its predicted latent to the goal's."""

import torch
from torch import Tensor

from vjepa2_ros.settings.planning import COSTS
from vjepa2_ros.world_model.parts import UNCERTAINTY
from vjepa2_ros.world_model.poses import compose
from vjepa2_ros.world_model.predictor import KVCache
from vjepa2_ros.world_model.world_model import WorldModel


def distance(latent: Tensor, goal: Tensor, cost: str = "l1") -> Tensor:
    """Energy [...] of latents [..., N, D] against a goal [N, D], a mean over patches and channels.

    Args:
        latent: [..., N, D].
        goal: [N, D].
        cost: "l1" is the mean absolute difference (the paper's), "l2" the mean squared one.
    """
    return magnitude((latent - goal).flatten(-2), cost)


def magnitude(difference: Tensor, cost: str = "l1") -> Tensor:
    """Energy [...] of differences to the goal [..., M], as `distance`."""
    if cost == "l1":
        return difference.abs().mean(-1)
    if cost == "l2":
        return difference.square().mean(-1)
    raise ValueError(f"unknown cost {cost!r}: use {' or '.join(COSTS)}")


def state_distance(
    states: Tensor, goal: Tensor, cost: str = "l1", with_gripper: bool = True
) -> Tensor:
    """Energy [...] of states of the robot [..., 7] against that of the goal [7].

    A mean over the components as they are, metres, radians and closedness, as in jepa-wms; angles
    are compared the short way round.

    Args:
        states: [..., 7].
        goal: [7], as measured.
        cost: see `distance`.
        with_gripper: whether the closedness counts. It does not for models whose states hold what
            the gripper was told: round an object that is not what is measured.
    """
    return magnitude(state_differences(states, goal, with_gripper), cost)


def state_differences(states: Tensor, goal: Tensor, with_gripper: bool = True) -> Tensor:
    """Differences [..., 7 or 6] of states to a goal's, with angles from -pi to pi."""
    differences = states - goal
    angles = differences[..., 3:6]
    wrapped = torch.atan2(angles.sin(), angles.cos())
    parts = [differences[..., :3], wrapped, *([differences[..., 6:]] if with_gripper else [])]
    return torch.cat(parts, dim=-1)


class LatentDistance:
    """`Objective` of a planner: energies of action sequences from one state towards one goal.

    The energy of the last predicted latent counts and, by `path_weight`, the mean over all of them:
    with a horizon of several actions any way that ends at the goal would be as good otherwise.

    Under "l2" the expected energy of what may follow is the energy of the predicted mean and the
    variance of the prediction. The latter is added by `variance_weight`, where the model has the
    part `uncertainty`: what may end otherwise then costs more than what is certain.

    Args:
        world_model: predicts the latents.
        latent: of the present image [N, D].
        state: of the robot at its time [7].
        goal: latent of the goal image [N, D].
        cost: "l1" or "l2", see `distance`.
        chunk: most sequences that are predicted at once, which bounds the memory; None: all.
        past: KV cache of the frames before the present one, see `WorldModel.rollout`.
        offset: error of the predictions, which is subtracted from them, [N, D] of the last one, or
            [H, N, D] of each where `path_weight` is not 0; None: none.
        path_weight: of the mean energy over all predicted latents, beside 1 for the last one.
        variance_weight: of the variance; without effect for a model that cannot tell it.
        goal_state: of the robot in the goal image [7]; needed with a `state_weight`.
        state_weight: of `state_distance` of the last state.

    Attributes:
        rates_variance: whether the variance counts.
        state_components: how many components of the differences, at their end, are of the state.

    Raises:
        ValueError: the cost is unknown, "l1" with a `variance_weight`, `chunk` is below 1, the
            shapes do not fit, or a `state_weight` comes without a state.
    """

    def __init__(
        self,
        world_model: WorldModel,
        latent: Tensor,
        state: Tensor,
        goal: Tensor,
        cost: str = "l1",
        chunk: int | None = None,
        past: KVCache | None = None,
        offset: Tensor | None = None,
        path_weight: float = 0.0,
        variance_weight: float = 0.0,
        goal_state: Tensor | None = None,
        state_weight: float = 0.0,
    ):
        if cost not in COSTS:
            raise ValueError(f"unknown cost {cost!r}: use {' or '.join(COSTS)}")
        if variance_weight > 0 and cost != "l2":
            raise ValueError(f"variance_weight needs the cost l2, not {cost}")
        if chunk is not None and chunk < 1:
            raise ValueError(f"chunk must be at least 1, got {chunk}")
        if goal.shape != latent.shape:
            raise ValueError(f"goal has shape {list(goal.shape)}, the latent {list(latent.shape)}")
        if state_weight > 0 and goal_state is None:
            raise ValueError("state_weight needs the state of the robot in the goal image")
        self.world_model = world_model
        self.latent = latent.to(world_model.device)
        self.state = state.to(world_model.device)
        self.goal = goal.to(world_model.device)
        self.cost = cost
        self.chunk = chunk
        self.past = past
        self.path_weight = path_weight
        self.variance_weight = variance_weight
        self.rates_variance = variance_weight > 0 and UNCERTAINTY in world_model.parts
        self.state_weight = state_weight
        self.goal_state = (
            None if goal_state is None else goal_state.to(world_model.device, torch.float32)
        )
        self._with_gripper = not world_model.predictor.config.commanded_gripper
        self.state_components = (6 + self._with_gripper) if state_weight else 0
        self._wanted = self.goal if offset is None else self.goal + offset

    def __call__(self, actions: Tensor) -> Tensor:
        """Energies [S] float32 on the CPU of action sequences [S, H, 7]."""
        # At once: each transfer makes the host wait.
        parts = actions.to(self.latent.device).split(self.chunk or len(actions))
        return torch.cat([self.energies(self.differences(part)) for part in parts]).cpu()

    def differences(self, actions: Tensor) -> Tensor:
        """Corrected predictions minus the goal [S, M] of sequences [S, H, 7], on the device.

        M is N * D or, with a `path_weight`, H * N * D, where each step is scaled such that
        `energies` weighs it. Where the variance counts, its root is one component more for each
        patch; where the state counts, its components follow at the end.
        """
        if self.rates_variance:
            predicted, variance = self.world_model.rollout_with_variance(
                self.latent, self.state, actions, self.chunk, self.past
            )
            if not self.path_weight:
                predicted, variance = predicted[:, -1], variance[:, -1]
            predicted = self._with_variance(predicted.sub_(self._wanted), variance)
        else:
            predicted = self.world_model.rollout(
                self.latent,
                self.state,
                actions,
                self.chunk,
                self.past,
                every_step=self.path_weight > 0,
            )
            predicted = predicted.sub_(self._wanted)
        if self.path_weight > 0:
            steps = actions.shape[1]
            weights = torch.full((steps,), self.path_weight / steps, device=predicted.device)
            weights[-1] += 1.0
            # Energies are means over all components, absolute or squared.
            scales = weights * (steps / (1.0 + self.path_weight))
            if self.cost == "l2":
                scales = scales.sqrt()
            predicted = predicted.mul_(scales[:, None, None])
        return self._with_state(predicted.flatten(1), actions)

    def energies(self, differences: Tensor) -> Tensor:
        """Energies [S] of differences [S, M]."""
        return magnitude(differences, self.cost)

    def _with_state(self, differences: Tensor, actions: Tensor) -> Tensor:
        """Components [S, M + 7], whose energy is that of both.

        Args:
            differences: [S, M].
            actions: [S, H, 7].
        """
        if not self.state_weight:
            return differences
        assert self.goal_state is not None
        states = self.state.expand(len(actions), -1)
        for action in actions.unbind(1):
            states = compose(states, action)
        parts = differences, state_differences(states, self.goal_state, self._with_gripper)
        count = sum(part.shape[-1] for part in parts)
        # Energies are means over all components, absolute or squared.
        scales = [count / parts[0].shape[-1], self.state_weight * count / parts[1].shape[-1]]
        if self.cost == "l2":
            scales = [scale**0.5 for scale in scales]
        return torch.cat([part * scale for part, scale in zip(parts, scales, strict=True)], dim=-1)

    def _with_variance(self, differences: Tensor, variance: Tensor) -> Tensor:
        """Components [..., N, D + 1], whose mean square is that of both.

        Args:
            differences: [..., N, D].
            variance: [..., N].
        """
        channels = differences.shape[-1]
        deviation = (self.variance_weight * channels * variance).sqrt()
        scale = ((channels + 1) / channels) ** 0.5
        return torch.cat([differences, deviation[..., None]], dim=-1).mul_(scale)
