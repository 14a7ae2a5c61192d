# SPDX-License-Identifier: Apache-2.0
"""Parameter files of the stack: merged in order, refused where they would do nothing."""

import argparse
import dataclasses
import os

import pytest
import yaml

from vjepa2_ros.cli.configuration import add_configuration_arguments
from vjepa2_ros.settings.declaration import SettingsError
from vjepa2_ros.settings.files import presets, resolve
from vjepa2_ros.settings.manager import LifecycleManagerSettings
from vjepa2_ros.settings.stack import NODES, StackSettings, managed_nodes


def parameter_file(path, **sections):
    names = {"all": "/**", **{node: f"/**/{node}" for node in NODES}}
    content = {names[node]: {"ros__parameters": values} for node, values in sections.items()}
    path.write_text(yaml.safe_dump(content))
    return path


def test_without_files_everything_has_its_declared_default():
    effective = resolve()
    assert effective.settings == StackSettings()
    assert not any(effective.all_changes().values())


def test_a_file_with_one_changed_line_changes_nothing_else(tmp_path):
    file = parameter_file(tmp_path / "mine.yaml", planner_node={"patience": 5})
    effective = resolve([file])
    assert effective.all_changes()["planner_node"] == {"patience": 5}
    assert effective.settings.planner.search.planner == "latent_quadratic"
    assert effective.settings.planner.search.chosen.evaluations == 32
    assert effective.values["planner_node"]["patience"].origin == str(file)


def test_files_merge_and_the_last_one_wins(tmp_path):
    first = parameter_file(tmp_path / "a.yaml", planner_node={"patience": 5, "context": 2})
    second = parameter_file(tmp_path / "b.yaml", planner_node={"patience": 7})
    assert resolve([first, second]).changes("planner_node") == {"patience": 7, "context": 2}
    assert resolve([second, first]).changes("planner_node") == {"patience": 5, "context": 2}


def test_options_overrule_files(tmp_path):
    file = parameter_file(tmp_path / "mine.yaml", simulator_node={"seed": 5})
    effective = resolve([file], options={"simulator_node": {"seed": 6}})
    assert effective.settings.simulator.seed == 6


def test_files_overrule_a_preset(tmp_path):
    file = parameter_file(tmp_path / "mine.yaml", planner_node={"cem": {"samples": 100}})
    search = resolve([file], preset="paper").settings.planner.search
    assert search.planner == "cem" and search.chosen.samples == 100
    assert search.chosen.iterations == 10


def test_the_section_for_all_nodes_reaches_every_node_that_has_the_parameter(tmp_path):
    file = parameter_file(
        tmp_path / "cell.yaml",
        all={"workspace": {"lower": [0.4, -0.1, 0.1]}, "base_frame": "fr3", "checkpoint": "mine"},
    )
    settings = resolve([file]).settings
    assert settings.controller.limits.cell.workspace.lower == (0.4, -0.1, 0.1)
    assert settings.planner.execution.cell.workspace == settings.simulator.workspace
    assert settings.simulator.base.base_frame == "fr3"
    assert settings.encoder.model.checkpoint == settings.planner.model.checkpoint == "mine"


def test_a_section_for_a_node_counts_more_than_the_one_for_all_wherever_it_stands(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "/**/encoder_node: {ros__parameters: {device: cpu}}\n/**: {ros__parameters: {device: cuda}}"
    )
    settings = resolve([file]).settings
    assert (settings.encoder.model.device, settings.planner.model.device) == ("cpu", "cuda")


@pytest.mark.parametrize(
    "section", ["/**/planner_node", "planner_node", "/planner_node", "/vjepa2/planner_node"]
)
def test_a_node_may_be_named_in_every_way_that_ros_takes(tmp_path, section):
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({section: {"ros__parameters": {"patience": 9}}}))
    assert resolve([file]).settings.planner.loop.patience == 9


def test_a_folder_may_hold_a_file_for_the_cell_and_for_each_node(tmp_path):
    parameter_file(tmp_path / "cell.yaml", all={"threads": 2})
    for node in NODES:
        parameter_file(tmp_path / f"{node}.yaml", **{node: {}})
    assert resolve([tmp_path]).settings.encoder.model.threads == 2


def test_what_a_cell_has_once_may_not_differ_between_nodes(tmp_path):
    file = parameter_file(
        tmp_path / "mine.yaml", planner_node={"workspace": {"lower": [0.4, -0.1, 0.1]}}
    )
    with pytest.raises(SettingsError, match=r"workspace.lower must be the same in all nodes"):
        resolve([file])


def test_a_plan_may_not_exceed_what_the_controller_takes(tmp_path):
    file = parameter_file(tmp_path / "mine.yaml", controller_node={"max_step": 0.05})
    with pytest.raises(SettingsError, match="max_translation 0.075 m must be below"):
        resolve([file])


def test_the_planner_may_not_seem_silent_to_the_controller(tmp_path):
    file = parameter_file(tmp_path / "mine.yaml", planner_node={"status_rate": 1.0})
    with pytest.raises(SettingsError, match="status_rate 1.0 Hz must be at least twice"):
        resolve([file])


@pytest.mark.parametrize(
    "text, reason",
    [
        (None, "No such file"),
        ("", "is empty"),
        ("# a remark\n", "is empty"),
        ("- 1\n", "is not a parameter file"),
        ("a: [", "is not valid YAML"),
        ("planner_node: {patience: 3}", "planner_node"),
        ("/**/planner_node: {ros__parameters: 3}", "must be a mapping"),
        ("/**/planer_node: {ros__parameters: {patience: 3}}", "not a node of this stack"),
        ("/other/planner_node: {ros__parameters: {patience: 3}}", "not a node of this stack"),
        ("/**/planner_node: {ros__parameters: {pateince: 3}}", "did you mean 'patience'"),
        ("/**/planner_node: {ros__parameters: {evaluations: 3}}", "latent_quadratic.evaluations"),
        (
            "/**/planner_node: {ros__parameters: {patience: many}}",
            "patience must be of type integer, not text",
        ),
        ("/**: {patience: 3}", "`ros__parameters:` is missing between /** and patience"),
        ("/**/planner_node: {ros__parameters: {patience: -1}}", "patience is -1"),
        ("/**/planner_node: {ros__parameters: {planner: grid}}", "unknown planner 'grid'"),
        ("/**: {ros__parameters: {colour: red}}", "unknown parameter 'colour'"),
        ("/**/planner_node: {ros__parameters: {cem: {samples: 5}}}", "at least top_k"),
        ("/**/planner_node: {ros__parameters: {cem: 5}}", "unknown parameter 'cem'"),
        ("!!python/object/apply:os.system [true]", "is not valid YAML"),
        (
            "/**: &a {ros__parameters: *a}",
            "is not valid YAML: found unconstructable recursive node",
        ),
        ("/**/planner_node: {ros__parameters: &a {cem: [*a]}}", "recursive node"),
        ("/**: {ros__parameters: {threads: 1, threads: 2}}", "'threads' is given twice"),
        ("a: {ros__parameters: {}}\na: {ros__parameters: {}}", "'a' is given twice"),
        ("a: " + 250_000 * "long", "has 1.0 MB: a parameter file has at most 1"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_name_and_the_reason(tmp_path, text, reason):
    file = tmp_path / "mine.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        resolve([file])
    assert reason in str(caught.value)
    assert "mine.yaml" in str(caught.value) or "planner" in str(caught.value)


def test_an_anchor_may_be_used_again(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "/**/encoder_node: {ros__parameters: &same {threads: 3}}\n"
        "/**/planner_node: {ros__parameters: {<<: *same, patience: 5}}"
    )
    settings = resolve([file]).settings
    assert settings.encoder.model.threads == settings.planner.model.threads == 3
    assert settings.planner.loop.patience == 5


def test_what_is_no_regular_file_is_refused_without_reading_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.yaml", "/dev/zero"):
        with pytest.raises(SettingsError, match=f"{path} is not a regular file"):
            resolve([path])


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(SettingsError, match="mine.yaml is no"):
        resolve([tmp_path / "mine.yaml"])


def test_a_folder_without_a_known_file_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="holds none of cell.yaml"):
        resolve([tmp_path])
    parameter_file(tmp_path / "planer_node.yaml", planner_node={})
    with pytest.raises(SettingsError, match="no node reads planer_node.yaml"):
        resolve([tmp_path])


def test_all_problems_of_all_files_are_reported_at_once(tmp_path):
    first = parameter_file(tmp_path / "a.yaml", planner_node={"patience": -5, "contxt": 2})
    second = parameter_file(tmp_path / "b.yaml", controller_node={"max_step": "far"})
    with pytest.raises(SettingsError) as caught:
        resolve([first, second])
    text = str(caught.value)
    assert "patience" in text and "'context'" in text and "max_step" in text


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_valid_and_changes_something(name):
    assert any(resolve(preset=name).all_changes().values())


def test_the_help_names_every_preset():
    parser = argparse.ArgumentParser()
    add_configuration_arguments(parser)
    (preset,) = [action for action in parser._actions if action.dest == "preset"]
    assert all(name in preset.help for name in presets())


@pytest.mark.parametrize("name", sorted({*presets()} - {"paper", "simulated_franka"}))
def test_presets_with_longer_plans_allow_for_their_time(name):
    settings = resolve(preset=name).settings
    ages = {
        settings.planner.execution.cell.age.max_observation_age,
        settings.controller.limits.cell.age.max_observation_age,
    }
    assert min(ages) >= 15.0


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(SettingsError, match="unknown preset 'papre': use .*paper"):
        resolve(preset="papre")


def test_the_preset_of_the_paper_is_the_papers_search():
    planner = resolve(preset="paper").settings.planner
    assert planner.search.planner == "cem" and planner.search.chosen.evaluations == 8000
    assert planner.action.horizon == 1 and planner.action.max_translation == 0.075
    assert planner.action.gripper.mode == "sampled" and planner.loop.patience == 0


def test_the_manager_brings_up_the_simulated_stack_unless_told_otherwise():
    assert LifecycleManagerSettings().nodes == managed_nodes("simulation")


def test_every_node_of_a_stack_is_an_attribute_of_its_settings():
    names = [field.name for field in dataclasses.fields(StackSettings)]
    assert sorted(entry.attribute for entry in NODES.values()) == sorted(names)
