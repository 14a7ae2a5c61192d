# SPDX-License-Identifier: Apache-2.0
"""The benchmarks measure what they say; no time is asserted."""

import argparse
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_model import small_world_model

from vjepa2_ros.benchmark import clips, planning
from vjepa2_ros.benchmark.decisions import (
    CONTACTS,
    FARTHEST,
    NEAREST,
    Decision,
    make_contacts,
    make_decisions,
)
from vjepa2_ros.benchmark.model import measure
from vjepa2_ros.benchmark.speed import measure as measure_speed
from vjepa2_ros.cli import bench
from vjepa2_ros.planning.action_space import ActionSpace
from vjepa2_ros.planning.planners import make_planner_named
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


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path, capsys):
    absent = tmp_path / "absent" / "folder" / "rows.json"
    assert run("planning", "--json", absent, "--output", tmp_path / "out") == 2
    assert capsys.readouterr().err.startswith("cannot measure: [Errno 2] No such file")
    assert not list(tmp_path.iterdir())


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


def test_what_was_measured_is_kept_and_not_measured_again(tmp_path, model):
    save_world_model(model, tmp_path / "model", card={})
    options = ("--checkpoint", tmp_path / "model", "--decisions", 1, "--workers", 1)
    rest = ("--planners", "icem", "--budgets", 16, "--no-closed-loop", "--output", tmp_path)
    assert run("planning", *options, *rest) == 0
    first = json.loads((tmp_path / "planning.json").read_text())
    kept = sorted((tmp_path / "kept").iterdir())
    assert [path.name.rpartition("-")[0] for path in kept] == [
        "cem-8000-decisions",
        "icem-16-decisions",
    ]
    measured = [path.stat().st_mtime_ns for path in kept]
    assert run("planning", *options, *rest) == 0
    assert json.loads((tmp_path / "planning.json").read_text()) == first, "times included"
    assert [path.stat().st_mtime_ns for path in kept] == measured
    # Another cost is another question.
    assert run("planning", *options, *rest, "--cost", "l2") == 0
    assert len(list((tmp_path / "kept").iterdir())) == 4


def test_context_warm_start_and_gripper_change_what_is_planned(model):
    (decision,) = make_decisions(model, 5, 1)
    plain = planning.Setting("model", seed=5, decisions=1, horizon=2)
    planned = [
        planning.plan_decision(model, setting, make_planner_named("icem", 64), decision, 0)[
            0
        ].actions
        for setting in (
            plain,
            replace(plain, context=2),
            replace(plain, warm=True),
            replace(plain, gripper="enumerated"),
        )
    ]
    for other in planned[1:]:
        assert not torch.equal(other, planned[0])
    assert set(planned[3][:, 6].tolist()) <= {-0.75, 0.0, 0.75}


def test_every_way_to_evaluate_gives_the_energies_of_the_reference(model, decisions):
    rounded = small_world_model()
    rounded.compute_dtype = torch.bfloat16
    rounded.round_weights()
    for horizon in (1, 3):
        rows = measure_speed(model, rounded, decisions[0], horizon, candidates=12, repeats=1)
        assert rows[0]["what"] == "reference" and rows[0]["ratio"] == 1.0
        for row in rows:
            exact = "bfloat16" not in row["what"]
            assert row["error"] < (1e-5 if exact else 0.02), row["what"]
            assert row["rank_correlation"] > (0.999 if exact else 0.9), row["what"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--context", 3), "context must be 1 or 2"),
        (("--warm-start",), "--horizon 2 or more"),
        (("--gripper", "shut"), "unknown gripper 'shut'"),
        (("--planners", "best"), "unknown planner 'best'"),
        (("--cost", "l3"), "unknown cost 'l3'"),
        (("--checkpoint", "/nowhere"), "no checkpoint"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_the_reason(words, said, capsys):
    assert run("planning", *words) == 2
    assert said in capsys.readouterr().err


def test_only_the_random_model_is_written(tmp_path, capsys):
    assert run("model", "--save", tmp_path / "copy") == 2
    assert "--checkpoint published" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_the_cost_of_a_model_is_told_with_its_floor(model):
    figures = measure(model, batches=[1, 8], repeats=2)
    assert figures["parameters"] > 0 and figures["matmul_tflops"] > 0
    assert [cost["candidates"] for cost in figures["costs"]] == [1, 1, 8]
    single, batch = figures["costs"][1:]
    config = model.predictor.config
    tokens, dim = config.rows * config.columns + 2, config.predictor_embed_dim
    attention = 4 * tokens**2 * dim  # queries times keys, and scores times values
    block = attention + 2 * tokens * dim * dim * (3 + 1 + 2 * config.mlp_ratio)
    outside = 2 * 2 * (tokens - 2) * config.embed_dim * dim + 2 * 2 * 7 * dim
    assert single["gflop"] * 1e9 == pytest.approx(config.depth * block + outside)
    assert batch["gflop"] == pytest.approx(single["gflop"], rel=0.1)
    for cost in figures["costs"]:
        assert cost["seconds"] > 0
        assert cost["share"] == pytest.approx(cost["floor_seconds"] / cost["seconds"])


@pytest.fixture(scope="module")
def contacts(model):
    return make_contacts(model, seed=5, count=8)


def test_true_actions_of_contact_succeed_and_doing_nothing_does_not(contacts):
    simulator = Simulator()
    for decision in contacts:
        down = torch.zeros(1, 7)
        down[0, :3] = (decision.goal_state - decision.state)[:3]
        grip = torch.zeros(1, 7)
        grip[0, 6] = {"release": -1.0, "lift": 0.0}.get(decision.contact, 1.0)
        assert decision.succeeds(torch.cat([down, grip]), simulator), decision.contact
        assert not decision.succeeds(torch.zeros(2, 7), simulator), decision.contact
    assert [decision.contact for decision in contacts] == 2 * list(CONTACTS)
    assert [decision.object for decision in contacts] == [0] * 4 + [1] * 4


def test_a_gripper_that_is_closed_round_an_object_counts_as_told(contacts):
    """Fingers stop at an object, and a model of what the gripper is told has to know."""
    told = make_contacts(small_world_model(commanded_gripper=True), seed=5, count=4)
    for measured, commanded in zip(contacts, told, strict=False):
        assert commanded.state[6] in (0.0, 1.0)
        torch.testing.assert_close(commanded.state[:6], measured.state[:6])
    assert 0.1 < contacts[2].state[6] < 0.9, "the cup is not between the fingers"


def test_plans_of_contact_are_carried_out_and_have_columns_of_their_own(tmp_path, model):
    save_world_model(model, tmp_path / "model", card={})
    options = ("--checkpoint", tmp_path / "model", "--decisions", 1, "--contacts", 2)
    rest = ("--planners", "skeletons", "--budgets", 24, "--horizon", 2, "--no-closed-loop")
    out = tmp_path / "out"
    words = ("--gripper", "enumerated", "--cost", "l2", "--output", out, "--preset", "contact")
    assert run("planning", *options, "--workers", 1, *rest, *words) == 0
    (row,) = json.loads((out / "planning.json").read_text())
    assert row["contacts"] == 2 and row["contact_success_rate"] in (0.0, 0.5, 1.0)
    assert row["path_weight"] == 0.15 and row["variance_weight"] == 0.5
    assert row["gflop"] > 0 and row["contact_energy_ratio_median"] > 0
    assert "success at contact" in (out / "planning.md").read_text()


@pytest.mark.parametrize(
    ("name", "layers", "width", "hidden", "tokens"),
    [("vitl", 24, 1024, 4096, 8192), ("vitg-384", 40, 1408, 6144, 18432)],
)
def test_the_operations_of_a_published_clip_are_those_of_its_matrices_and_attention(
    name, layers, width, hidden, tokens
):
    matrices = 2 * tokens * (4 * width**2 + 2 * width * hidden)
    attention = 4 * tokens**2 * width
    patches = 2 * tokens * width * (3 * 2 * 16 * 16)
    wanted = layers * (matrices + attention) + patches
    assert clips.count(name, 64) == pytest.approx(wanted, rel=1e-3)


def test_what_a_clip_costs_is_measured_in_a_process_of_its_own(tmp_path, capsys):
    report = tmp_path / "clips.json"
    words = ("--clips", "vitl", "--frames", 2, "--repeats", 1, "--threads", 1, "--json", report)
    assert run("model", *words) == 0
    figures = json.loads(report.read_text())
    (cost,) = figures["costs"]
    assert (cost["tokens"], cost["parameters"]) == (256, 303_885_312)
    assert cost["seconds"] > 0 and cost["share"] > 0 and cost["peak_memory_gib"] > 1.1
    assert "vitl" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--clips", "vitx"), "unknown encoder vitx: there are vitl, vith, vitg, vitg-384"),
        (("--clips", "vitl", "--frames", 1), "a clip needs at least 2 frames, not 1"),
        (("--clips", "vitl", "--checkpoint", "tabletop"), "leave out --checkpoint"),
        (("--frames", 16), "--frames goes with --clips"),
    ],
)
def test_clips_that_cannot_be_measured_are_refused(words, said, capsys):
    assert run("model", *words) == 2
    assert said in capsys.readouterr().err
