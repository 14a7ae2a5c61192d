# SPDX-License-Identifier: Apache-2.0
"""What the speed-ups of the evaluations give, against the procedure of the reference.

The reference predicts all candidates at once in float32, each with a copy of the present of its
own, and computes the whole history again for each action, under a mask. Its attention is fused; the
second row shows what that gives. From the third on each row adds one speed-up to the row before it.
All but bfloat16 are exact; the energies of all are compared with the reference's.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from vjepa2_ros.benchmark.decisions import Decision
from vjepa2_ros.benchmark.device_timing import median_seconds
from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.planning.objective import LatentDistance, distance
from vjepa2_ros.world_model.encoder import normalise
from vjepa2_ros.world_model.poses import compose
from vjepa2_ros.world_model.predictor import ActionConditionedPredictor, frame_causal_mask
from vjepa2_ros.world_model.rope import rotary_tables
from vjepa2_ros.world_model.world_model import WorldModel

Energies = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Speed:
    """One way to evaluate candidates.

    Attributes:
        what: name of the way.
        horizon: actions in a candidate.
        candidates: evaluated at once.
        milliseconds: for one candidate.
        ratio: of the reference's time to this one's.
        error: largest relative difference of an energy to the reference's.
        rank_correlation: Spearman's, of the energies.
    """

    what: str
    horizon: int
    candidates: int
    milliseconds: float
    ratio: float
    error: float
    rank_correlation: float


def measure(
    model: WorldModel,
    rounded: WorldModel,
    decision: Decision,
    horizon: int,
    candidates: int,
    repeats: int,
) -> list[dict]:
    """Rows of one horizon.

    Args:
        model: in float32.
        rounded: the same in bfloat16.
        decision: what is planned.
        horizon: actions in a candidate.
        candidates: drawn evenly from the bounds.
        repeats: of which the median time counts.

    Returns:
        The fields of `Speed` for each way, the reference first.
    """
    space = ActionSpace(horizon=horizon)
    draws = torch.rand(candidates, space.dimensions, generator=torch.Generator().manual_seed(0))
    actions = space.from_unit(2 * draws - 1).to(model.device)
    rows: list[Speed] = []
    with torch.no_grad():
        for what, energies in _ways(model, rounded, decision, horizon):
            found = energies(actions).double().cpu()
            taken = median_seconds(lambda: energies(actions), model.device, repeats)  # noqa: B023
            each = 1e3 * taken / candidates
            if not rows:
                expected, reference = found, each
            rows.append(
                Speed(
                    what,
                    horizon,
                    candidates,
                    each,
                    reference / each,
                    float(((found - expected) / expected).abs().max()),
                    float(spearmanr(expected, found)[0]),
                )
            )
    return [asdict(row) for row in rows]


def _ways(
    model: WorldModel, rounded: WorldModel, decision: Decision, horizon: int
) -> Iterator[tuple[str, Energies]]:
    latent, state, goal = (
        value.to(model.device) for value in (decision.latent, decision.state, decision.goal)
    )

    def reference(actions: Tensor) -> Tensor:
        return distance(_predict_again(model.predictor, latent, state, actions), goal)

    def spelled_out(actions: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            return reference(actions)

    def framewise(actions: Tensor) -> Tensor:
        return distance(_predict_framewise(model.predictor, latent, state, actions), goal)

    def objective(model: WorldModel, chunk: int | None) -> LatentDistance:
        return LatentDistance(model, latent, state, goal, chunk=chunk)

    yield "reference", reference
    yield "reference, attention not fused", spelled_out
    yield "no mask; keys and values kept", framewise
    yield "the present embedded once", objective(model, None)
    yield "chunks that fit the memory", objective(model, model.sequences_within(None, horizon))
    half = rounded.sequences_within(None, horizon)
    yield "bfloat16, weights rounded once", objective(rounded, half)


def _predict_again(
    predictor: ActionConditionedPredictor, latent: Tensor, state: Tensor, actions: Tensor
) -> Tensor:
    """Latents [S, N, D] after sequences [S, H, 7], everything recomputed at each step."""
    samples, patches = len(actions), len(latent)
    latents = latent.repeat(samples, 1, 1)
    states = state.repeat(samples, 1, 1)
    for step in range(actions.shape[1]):
        raw = _forward_with_mask(predictor, latents, actions[:, : step + 1], states)
        latents = torch.cat([latents, normalise(raw[:, -patches:])], dim=1)
        following = compose(states[:, -1:], actions[:, step : step + 1])
        states = torch.cat([states, following], dim=1)
    return latents[:, -patches:]


def _forward_with_mask(
    predictor: ActionConditionedPredictor, latents: Tensor, actions: Tensor, states: Tensor
) -> Tensor:
    """As `ActionConditionedPredictor.forward`, with a mask also where one frame sees itself."""
    config, frames = predictor.config, actions.shape[1]
    x = predictor.predictor_embed(latents).unflatten(1, (frames, -1))
    tokens = [predictor.action_encoder(actions), predictor.state_encoder(states)]
    x = torch.cat([token.unsqueeze(2) for token in tokens] + [x], dim=2).flatten(1, 2)
    head_dim = config.predictor_embed_dim // config.num_heads
    grid = config.rows, config.columns
    tables = rotary_tables(frames, *grid, config.conditioning_tokens, head_dim, x.device)
    mask = frame_causal_mask(frames, x.shape[1] // frames, x.device)
    for block in predictor.predictor_blocks:
        x = block(x, *tables, mask)
    x = x.unflatten(1, (frames, -1))[:, :, config.conditioning_tokens :].flatten(1, 2)
    return predictor.predictor_proj(predictor.predictor_norm(x))


def _predict_framewise(
    predictor: ActionConditionedPredictor, latent: Tensor, state: Tensor, actions: Tensor
) -> Tensor:
    """The same, each frame computed once, with a copy of the present for each sequence."""
    predicted = latent.repeat(len(actions), 1, 1)
    states = state.repeat(len(actions), 1, 1)
    cache = None
    for action in actions.split(1, dim=1):
        raw, cache = predictor.extend(predicted, action, states, past=cache)
        predicted, states = normalise(raw), compose(states, action)
    return predicted
