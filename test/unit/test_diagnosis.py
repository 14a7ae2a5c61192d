# SPDX-License-Identifier: Apache-2.0
"""Diagnosis: representation, predictor and search apart."""

import argparse
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from small_model import small_world_model

from vjepa2_ros.cli import diagnose, imagine
from vjepa2_ros.diagnosis.approaches import approaches
from vjepa2_ros.diagnosis.imagination import imagine as imagine_actions
from vjepa2_ros.diagnosis.prediction import (
    STEPS,
    Situation,
    errors_by_situation,
    play_episodes,
    situation,
)
from vjepa2_ros.diagnosis.representation import changes_of_latents
from vjepa2_ros.policies.true_dynamics import TrueDynamics
from vjepa2_ros.simulation.simulator import DOWN, GRASP_HEIGHTS, Simulator
from vjepa2_ros.tasks.truth import Truth
from vjepa2_ros.world_model.checkpoint import save_world_model
from vjepa2_ros.world_model.decoder import PatchDecoder


@pytest.fixture(scope="module")
def simulator():
    return Simulator()


@pytest.fixture(scope="module")
def model():
    return small_world_model()


@pytest.fixture
def before(simulator):
    simulator.reset(4)
    simulator.place(np.array([0.4, 0.0, 0.3]), DOWN, 0.0)
    return Truth.of(simulator)


def moved(truth, way):
    objects = truth.objects.copy()
    objects[0, 0] += way
    return replace(truth, objects=objects)


def test_situations_are_told_by_what_happens_to_the_objects(before):
    held = replace(before, held=np.array([True, False]))
    near = replace(before, hand=before.objects[1] + (0.0, 0.0, 0.05))
    assert situation(before, before) is Situation.FREE
    assert situation(before, near) is Situation.NEAR
    assert situation(before, moved(before, 0.02)) is Situation.PUSHED
    assert situation(before, held) is situation(held, before) is Situation.GRASPED
    assert situation(held, moved(held, 0.02)) is Situation.HELD


def test_true_dynamics_see_what_the_cell_shows_after_the_same_motion(simulator, model):
    simulator.reset(3)
    simulator.place(np.array([0.45, 0.0, 0.2]), DOWN, 0.0)
    action = torch.tensor([0.05, -0.03, -0.04, 0.0, 0.0, 0.0, 1.0])
    state = torch.from_numpy(simulator.state()).float()
    before = simulator.snapshot().physics
    predicted = TrueDynamics(model, simulator).rollout(
        torch.zeros(16, 48), state, action[None, None]
    )
    np.testing.assert_array_equal(simulator.snapshot().physics, before)
    target = simulator.pose()[0] + action[:3].numpy()
    simulator.set_target(target, simulator.pose()[1], 1.0)
    simulator.advance(1.0)
    torch.testing.assert_close(
        predicted[0], model.encode(simulator.render()), atol=0.05, rtol=0.05
    )


def test_true_dynamics_imagine_an_object_that_comes_along(simulator, model):
    simulator.reset(3)
    grasp = np.append(simulator.object_positions()[1, :2], GRASP_HEIGHTS[1])
    simulator.place(grasp, DOWN, 0.0)
    truth = TrueDynamics(model, simulator)
    lift = torch.tensor([[0.0] * 6 + [1.0], [0.0, 0.0, 0.07, 0.0, 0.0, 0.0, 0.0]])
    empty = lift.clone()
    empty[0, 6] = 0.0
    snapshot = simulator.snapshot()
    truth.image(snapshot, empty)
    assert truth.copy.object_positions()[1, 2] < 0.03
    truth.image(snapshot, lift)
    assert truth.copy.object_positions()[1, 2] > 0.08


def test_a_larger_change_of_the_cell_changes_the_latents_more(simulator, model):
    changes = changes_of_latents(model, simulator, [5, 6], "l1")
    assert 0 < changes["hand 1 cm up"] < changes["hand 7.5 cm up"]
    assert 0 < changes["object 2 cm"] and 0 < changes["fingers closed in the air"]


def test_true_predictions_tell_approaches_apart_as_the_truth_does_and_copying_not_at_all(
    simulator, model
):
    class Copy(TrueDynamics):
        def rollout(self, latent, state, actions, chunk=None, past=None, every_step=False):
            return torch.zeros(1, *latent.shape)

    models = {"truth": TrueDynamics(model, simulator), "same": Copy(model, simulator)}
    told = approaches(models, simulator, [20_001], "l2")
    for name in ("cup", "box"):
        assert 5 <= told[name]["approaches"] <= 24 and 0 < told[name]["succeed"] < 1
        assert told[name]["truth"] == told[name]["true"] > 0.5
        assert told[name]["same"] == 0.5


def test_copying_has_an_error_of_one_and_the_truth_of_none(simulator, model):
    class Copy(TrueDynamics):
        def rollout(self, latent, state, actions, chunk=None, past=None, every_step=False):
            return latent[None]

    episodes = list(play_episodes(simulator, [7], 0.075, commanded_gripper=True))
    errors = errors_by_situation({"copy": Copy(model, simulator)}, episodes)
    assert sum(row["steps"][0] for row in errors.values()) == 11
    for row in errors.values():
        relative = [r for r, steps in zip(row["copy"], row["steps"], strict=True) if steps]
        assert relative == pytest.approx([1.0] * len(relative))
        assert len(row["copied"]) == STEPS


def run(*words):
    parser = argparse.ArgumentParser()
    diagnose.add_arguments(parser)
    return diagnose.run(parser.parse_args([str(word) for word in words]))


def test_the_command_writes_tables_and_pictures(model, tmp_path, capsys):
    save_world_model(model, tmp_path / "model", {})
    settings = tmp_path / "planner.yaml"
    settings.write_text(
        json.dumps(
            {
                "planner_node": {
                    "ros__parameters": {
                        "latent_quadratic.evaluations": 12,
                        "steps_per_subgoal": 2,
                        "threads": 1,
                    }
                }
            }
        )
    )
    words = ("--checkpoint", tmp_path / "model", "--config", settings, "--episodes", 1)
    threads = torch.get_num_threads()
    code = run("--task", "reach", *words, "--output", tmp_path / "out")
    torch.set_num_threads(threads)
    assert code == 0
    found = json.loads((tmp_path / "out" / "diagnosis.json").read_text())
    assert found["task"] == "reach" and len(found["successes"]) == 1
    (row,) = found["decisions"].values()
    assert row["decisions"] >= 1 and row["best_true"] <= row["hold_true"] + 1e-6
    assert "| sub-goal |" in (tmp_path / "out" / "diagnosis.md").read_text()
    for name in ("energies.png", "decisions.png"):
        assert (tmp_path / "out" / name).stat().st_size > 1000
    assert "figures in" in capsys.readouterr().out


def test_what_cannot_be_diagnosed_is_refused(tmp_path, capsys):
    assert run("--task", "dance", "--output", tmp_path) == 2
    assert run("--task", "reach", "--object", "cup", "--output", tmp_path) == 2
    assert run("--checkpoint", tmp_path / "none", "--output", tmp_path) == 2
    said = capsys.readouterr().err
    assert "unknown task 'dance'" in said and "no object" in said and "no checkpoint" in said


def show(*words):
    parser = argparse.ArgumentParser()
    imagine.add_arguments(parser)
    threads = torch.get_num_threads()
    try:
        return imagine.run(parser.parse_args([str(word) for word in words]))
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def drawing(tmp_path_factory):
    """A checkpoint whose latents can be drawn."""
    folder = tmp_path_factory.mktemp("drawing") / "model"
    model = small_world_model()
    size = {"channels": 48, "image_size": 64, "patch_size": 16}
    model.parts["decoder"] = PatchDecoder(size)
    save_world_model(model, folder, {})
    return folder


ACTION = ("--action", 0.05, 0, 0, 0, 0)


def test_several_actions_are_imagined_beside_what_truly_follows(drawing, tmp_path, capsys):
    path = tmp_path / "out" / "imagined.png"
    words = ("--checkpoint", drawing, "--scene", 3, "--steps", 2, "--output", path)
    assert show(*words, *ACTION, "--action", 0, 0, -0.05, 0.3, 1) == 0
    picture = cv2.imread(str(path))
    # Two rows for each action, a column for the camera and one for each step.
    assert picture.shape[0] > 4 * 150 and picture.shape[1] > 3 * 150
    assert str(path) in capsys.readouterr().out


def test_predictions_that_are_true_have_no_error(simulator):
    model = small_world_model()
    size = {"channels": 48, "image_size": 64, "patch_size": 16}
    simulator.reset(3)
    right = TrueDynamics(model, simulator)
    right.parts = {"decoder": PatchDecoder(size)}
    state = torch.from_numpy(simulator.state()).float()
    (found,) = imagine_actions(
        right, simulator.render(), state, [(0.05, 0.0, -0.02, 0.2, 1.0)], 2, simulator
    )
    assert len(found.pictures) == len(found.truth) == 2
    assert max(found.errors) < 1e-5
    assert np.abs(found.truth[1].astype(int) - found.truth[0]).max() > 50


def test_a_picture_of_ones_own_is_imagined_without_a_truth(drawing, tmp_path):
    image, path = tmp_path / "camera.png", tmp_path / "imagined.png"
    cv2.imwrite(str(image), np.zeros((64, 64, 3), np.uint8))
    state = ("--state", 0.5, 0, 0.3, 3.14, 0, 0, 0)
    assert show(image, "--checkpoint", drawing, *state, *ACTION, "--output", path) == 0
    assert path.is_file()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--action", "nan", 0, 0, 0, 0), "at most 100"),
        (("--action", 1e300, 0, 0, 0, 0), "at most 100"),
        (("/dev/zero", *ACTION), "is no file"),
        (("picture.png", *ACTION, "--state", 0.5, 0, 0.3, 3, 0, 0, -7), "from 0 to 1"),
        ((*ACTION, "--output", "picture.pdf"), "a PNG file"),
        ((*ACTION, "--output", "."), "a PNG file"),
        ((*ACTION, "--steps", 99), "at most"),
        ((*ACTION, "--state", 0, 0, 0, 0, 0, 0, 0), "without IMAGE"),
        (("absent.png", *ACTION), "absent.png is no file"),
    ],
)
def test_what_cannot_be_imagined_is_refused(drawing, words, complaint, capsys):
    assert show("--checkpoint", drawing, *words) == 2
    assert complaint in capsys.readouterr().err


def test_a_model_without_a_decoder_cannot_show_what_it_imagines(tmp_path, capsys):
    save_world_model(small_world_model(), tmp_path, {})
    assert show("--checkpoint", tmp_path, *ACTION) == 2
    assert "decoder" in capsys.readouterr().err
