# SPDX-License-Identifier: Apache-2.0
"""The planner's parameter file as settings of the search."""

import pytest

from vjepa2_ros.planning.cem import CEMConfig, CrossEntropyMethod
from vjepa2_ros.planning.settings import action_space, planner, read_node_parameters
from vjepa2_ros.share import share_directory


def shipped(**changes):
    return read_node_parameters(share_directory() / "config" / "planner_node.yaml") | changes


def test_below_zero_the_gripper_is_left_to_the_search():
    assert action_space(shipped(close_gripper_from=-1)).close_gripper_from is None


def test_the_gripper_may_close_from_any_action_of_the_horizon_on():
    for first in range(3):
        settings = shipped(close_gripper_from=first, horizon=3)
        assert action_space(settings).close_gripper_from == first


@pytest.mark.parametrize(("first", "horizon"), [(1, 1), (3, 3), (14, 3)])
def test_a_gripper_that_would_never_close_is_refused(first, horizon):
    settings = shipped(close_gripper_from=first, horizon=horizon)
    with pytest.raises(ValueError, match=f"close_gripper_from {first} .*never close"):
        action_space(settings)


def test_a_space_of_fixed_axes_alone_is_refused():
    with pytest.raises(ValueError, match="nothing is left to search"):
        action_space(shipped(fixed_axes="x=0, y=0, z=0, gripper=0"))


def test_the_papers_search_has_its_own_settings_and_every_other_a_number_of_evaluations():
    paper = planner(shipped(planner="cem", samples=32, iterations=3, top_k=4))
    assert isinstance(paper, CrossEntropyMethod)
    assert paper.config == CEMConfig(samples=32, iterations=3, top_k=4)
    for name in ("icem", "mppi", "cma_es", "quadratic"):
        assert planner(shipped(planner=name, evaluations=77)).evaluations == 77


def test_an_unknown_planner_is_refused_with_the_names_of_those_that_exist():
    with pytest.raises(ValueError, match="'best'.*cem, icem, mppi, cma_es, quadratic"):
        planner(shipped(planner="best"))
