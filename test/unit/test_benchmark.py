# SPDX-License-Identifier: Apache-2.0
"""The benchmarks measure what they say; no time is asserted."""

import argparse
import json

import numpy as np
import pytest
import torch
from small_model import small_world_model

from vjepa2_ros.benchmark.decisions import FARTHEST, NEAREST, Decision, make_decisions
from vjepa2_ros.benchmark.model import measure
from vjepa2_ros.cli import bench
from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.simulation.simulator import DOWN, Simulator
from vjepa2_ros.world_model.checkpoint import save_world_model

COLUMNS = {
    "planner",
    "default",
    "evaluations",
    "energy_ratio_median",
    "energy_ratio_p90",
    "action_error_m_median",
    "success_rate",
    "final_distance_m_median",
    "seconds_median",
}


@pytest.fixture(scope="module")
def model():
    return small_world_model()


@pytest.fixture(scope="module")
def decisions(model):
    return make_decisions(model, seed=5, count=12)


def run(*words):
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    return bench.run(parser.parse_args([str(word) for word in words]))


def test_a_bundle_is_decided_by_its_seed(model, decisions):
    again, other = make_decisions(model, 5, 2), make_decisions(model, 6, 2)
    for mine, same, different in zip(decisions, again, other, strict=False):
        assert torch.equal(mine.latent, same.latent) and torch.equal(mine.goal, same.goal)
        assert not torch.equal(mine.state, different.state)


def test_goals_lie_3_to_40_cm_away_and_some_want_the_gripper_changed(decisions):
    ways = torch.stack([decision.goal_state - decision.state for decision in decisions])
    distances = ways[:, :3].norm(dim=1)
    assert NEAREST - 0.01 < distances.min() and distances.max() < FARTHEST + 0.01
    turned = ways[:, 6].abs() > 0.9
    assert turned.sum() == 4 and (ways[~turned, 6].abs() < 0.01).all()


def test_the_best_action_leads_the_simulated_arm_nearest_to_the_goal(decisions):
    space, simulator = ActionSpace(), Simulator()
    for decision in decisions[:4]:
        state, goal = decision.state.numpy(), decision.goal_state.numpy()
        best = (goal - state)[:3].clip(-space.max_translation, space.max_translation)
        actions = torch.zeros(1, 7)
        actions[0, :3] = torch.from_numpy(best)
        assert decision.error(actions, space) == pytest.approx(0.0, abs=1e-6)
        simulator.reset(decision.scene)
        simulator.place(state[:3], DOWN, float(state[6]))
        simulator.set_target(state[:3] + best, DOWN.as_quat(), float(state[6]))
        simulator.advance(2.0)
        np.testing.assert_allclose(simulator.pose()[0], state[:3] + best, atol=0.01)


def test_errors_and_gripper_are_judged_against_the_goal():
    zero = torch.zeros(7)
    goal = torch.tensor([0.3, 0.0, 0.01, 0, 0, 0, 1.0])
    nothing = torch.zeros(1)
    decision = Decision(0, nothing, zero, nothing, goal, nothing, zero)
    action = torch.tensor([[0.075, 0.0, 0.01, 0, 0, 0, 0.75]])
    assert decision.error(action, ActionSpace()) == pytest.approx(0.0)
    assert decision.error(action, ActionSpace(horizon=2)) == pytest.approx(0.075)
    assert decision.gripper_is_right(action)
    for closing in (0.0, -0.75):
        action[0, 6] = closing
        assert not decision.gripper_is_right(action)


def test_a_row_compares_with_the_papers_search_and_is_written_as_it_is_done(tmp_path, model):
    save_world_model(model, tmp_path / "model", card={})
    report = tmp_path / "rows.json"
    options = ("--checkpoint", tmp_path / "model", "--decisions", 2, "--workers", 1)
    where = ("--json", report, "--output", tmp_path / "out")
    rows = ("--planners", "icem", "quadratic", "--budgets", 4, 16, "--no-closed-loop")
    assert run("planning", *rows, *options, *where) == 0
    rows = json.loads(report.read_text())
    # Four evaluations are too few for either.
    assert [(row["planner"], row["evaluations"]) for row in rows] == [
        ("icem", 16),
        ("quadratic", 16),
    ]
    for row in rows:
        assert set(row) >= COLUMNS and row["default"] is False
        assert 0.5 < row["energy_ratio_median"] <= row["energy_ratio_p90"] < 3.0
        assert row["success_rate"] is None and row["final_distance_m_median"] is None
    assert "| icem | 16 |" in (tmp_path / "out" / "planning.md").read_text()
    assert (tmp_path / "out" / "planning.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--planners", "best"), "unknown planner 'best'"),
        (("--cost", "l3"), "unknown cost 'l3'"),
        (("--checkpoint", "/nowhere"), "no checkpoint"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_the_reason(words, said, capsys):
    assert run("planning", *words) == 2
    assert said in capsys.readouterr().err


def test_the_cost_of_a_model_is_told_with_its_floor(model):
    figures = measure(model, batches=[1, 8], repeats=2)
    assert figures["parameters"] > 0 and figures["matmul_tflops"] > 0
    assert [cost["candidates"] for cost in figures["costs"]] == [1, 1, 8]
    single, batch = figures["costs"][1:]
    assert batch["gflop"] == pytest.approx(single["gflop"], rel=0.1)
    for cost in figures["costs"]:
        assert cost["seconds"] > 0
        assert cost["share"] == pytest.approx(cost["floor_seconds"] / cost["seconds"])
