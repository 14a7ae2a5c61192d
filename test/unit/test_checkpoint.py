# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: our own folder, the published layout, and everything that is neither."""

import json
import shutil

import numpy as np
import pytest
import torch
from small_model import (
    published_states,
    small_encoder,
    small_predictor,
    small_world_model,
    write_published,
)

from vjepa2_ros.world_model.checkpoint import CheckpointError, load_world_model, save_world_model
from vjepa2_ros.world_model.world_model import WorldModel

SIDECAR = {"image_size": 64, "encoder_head_dim": 16, "predictor_head_dim": 24, "num_frames": 16}
IMAGE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    return small_world_model()


@pytest.fixture
def folder(model, tmp_path):
    save_world_model(model, tmp_path / "model", {"data": "none"})
    return tmp_path / "model"


@pytest.fixture
def published(model, tmp_path):
    (tmp_path / "ac.json").write_text(json.dumps(SIDECAR))
    return write_published(tmp_path / "ac.pt", model)


def imagine(model):
    torch.manual_seed(0)
    return model.rollout(model.encode(IMAGE), torch.rand(7), 0.1 * torch.randn(4, 2, 7))


def test_our_folder_comes_back_as_it_was(model, folder):
    loaded = load_world_model(folder)
    assert (loaded.name, loaded.crop_aspect, loaded.config) == (
        model.name,
        model.crop_aspect,
        model.config,
    )
    assert loaded.fingerprint == model.fingerprint
    torch.testing.assert_close(imagine(loaded), imagine(model), atol=0, rtol=0)
    assert json.loads((folder / "config.json").read_text())["card"] == {"data": "none"}
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "module.backbone.", ""])
def test_the_published_layout_loads_whatever_wraps_its_names(model, tmp_path, prefix):
    (tmp_path / "ac.json").write_text(json.dumps(SIDECAR))
    loaded = load_world_model(write_published(tmp_path / "ac.pt", model, prefix))
    torch.testing.assert_close(imagine(loaded), imagine(model), atol=1e-5, rtol=0)


def test_a_published_model_can_be_converted_to_our_folder_and_stays_the_same_model(
    model, published, tmp_path
):
    loaded = load_world_model(published)
    save_world_model(loaded, tmp_path / "converted", {})
    assert (
        load_world_model(tmp_path / "converted").fingerprint
        == loaded.fingerprint
        == model.fingerprint
    )


def test_the_published_geometry_needs_no_sidecar(tmp_path):
    model = WorldModel(
        small_encoder(256, width=64, heads=1),
        small_predictor(256, width=64, predictor_width=128, num_frames=64),
    )
    loaded = load_world_model(write_published(tmp_path / "ac.pt", model))
    assert loaded.config == model.config
    assert loaded.latent_shape == (256, 64)


def test_left_overs_of_training_do_not_matter(model, tmp_path):
    (tmp_path / "ac.json").write_text(json.dumps(SIDECAR))
    path = write_published(
        tmp_path / "ac.pt", model, extras=False, loss=np.float64(0.5), epoch=np.float32(1.0)
    )
    assert load_world_model(path).latent_shape == model.latent_shape


def test_weights_in_half_precision_become_float32(model, tmp_path):
    (tmp_path / "ac.json").write_text(json.dumps(SIDECAR))
    halves = [
        {name: value.bfloat16() for name, value in state.items()}
        for state in published_states(model)
    ]
    loaded = load_world_model(
        write_published(tmp_path / "ac.pt", model, encoder=halves[0], predictor=halves[1])
    )
    assert {weight.dtype for weight in loaded.predictor.parameters()} == {torch.float32}


def test_eager_attention_and_autocast_change_little(model, folder):
    wanted = imagine(model)
    torch.testing.assert_close(
        imagine(load_world_model(folder, attention="eager")), wanted, atol=1e-4, rtol=0
    )
    rounded = imagine(load_world_model(folder, dtype="bfloat16"))
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - wanted).abs().mean() < 0.1


def refused(path, complaint, **options):
    with pytest.raises(CheckpointError, match=complaint):
        load_world_model(path, **options)


def test_a_missing_checkpoint_is_named(tmp_path):
    refused(tmp_path / "nothing.pt", "no checkpoint at .*nothing.pt")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_without_one_of_its_files_is_refused_by_its_name(folder, name):
    (folder / name).unlink()
    refused(folder, f"has no {name}")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_truncated_files_are_refused_as_truncated(folder, published, share):
    for path, loaded in ((folder / "model.safetensors", folder), (published, published)):
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        refused(loaded, "truncated")


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "notes.pt"
    path.write_text("not a checkpoint")
    refused(path, "cannot be read|weights alone")


def test_a_checkpoint_of_python_objects_is_refused_unexecuted(tmp_path):
    torch.save({"encoder": shutil.rmtree, "predictor": {}}, tmp_path / "objects.pt")
    refused(tmp_path / "objects.pt", "not a file of weights alone")


def test_a_checkpoint_of_something_else_is_refused_with_what_it_holds(tmp_path):
    torch.save({"state_dict": {}, "epoch": 3}, tmp_path / "other.pt")
    refused(tmp_path / "other.pt", "lacks encoder and predictor; it holds state_dict, epoch")
    torch.save([1, 2], tmp_path / "list.pt")
    refused(tmp_path / "list.pt", "holds a list")


def test_the_pretraining_checkpoint_is_told_from_the_action_conditioned_one(model, tmp_path):
    predictor = {"module.backbone.mask_tokens.0": torch.zeros(1, 1, 48)}
    refused(
        write_published(tmp_path / "vitg.pt", model, predictor=predictor), "without action_encoder"
    )


def test_weights_of_another_size_are_refused_with_their_names(model, published, tmp_path):
    encoder, predictor = published_states(model)
    del predictor["predictor_blocks.1.norm2.bias"], predictor["extrinsics_encoder.weight"]
    predictor["predictor_proj.weight"] = torch.zeros(7, 48)
    predictor["proprioception.weight"] = torch.zeros(1)
    path = write_published(published, model, predictor=predictor)
    refused(path, "2 missing: extrinsics_encoder.weight, predictor_blocks.1.norm2.bias")
    refused(path, "1 unexpected: proprioception.weight")
    refused(path, r"predictor_proj.weight \[7, 48\] instead of \[48, 48\]")


def test_a_missing_block_is_named(model, published):
    encoder, _ = published_states(model)
    encoder = {name: value for name, value in encoder.items() if not name.startswith("blocks.0.")}
    refused(write_published(published, model, encoder=encoder), r"blocks \[0\]")


def test_an_encoder_of_another_width_than_the_predictors_is_refused(model, published):
    encoder, _ = published_states(small_world_model(width=32, heads=2))
    refused(write_published(published, model, encoder=encoder), "encoder makes latents of")


def test_a_width_that_the_published_heads_do_not_divide_asks_for_the_sidecar(model, tmp_path):
    refused(write_published(tmp_path / "ac.pt", model), "give encoder_head_dim in a JSON file")


def test_a_sidecar_with_unknown_fields_is_refused_with_those_it_may_have(published):
    published.with_suffix(".json").write_text('{"heads": 3}')
    refused(published, "image_size, encoder_head_dim")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"format": "something 7"}, "something 7"),
        ({"encoder": {}}, "missing"),
        ({"predictor": {"image_size": [64, 64], "depht": 2}}, "depht"),
    ],
)
def test_a_configuration_of_another_kind_is_refused(folder, change, complaint):
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    refused(folder, complaint)


@pytest.mark.parametrize("text", ["{", "[]", '"model"'])
def test_a_configuration_that_is_no_json_object_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    refused(folder, "cannot be used")


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("encoder", "hidden_size", "wide"),
        ("encoder", "num_attention_heads", 0),
        ("encoder", "hidden_act", "nothing"),
        ("predictor", "num_heads", 0),
        ("predictor", "image_size", [64]),
        ("predictor", "patch_size", 8),
    ],
)
def test_a_configuration_that_makes_no_model_is_refused(folder, part, field, value):
    config = json.loads((folder / "config.json").read_text())
    config[part][field] = value
    (folder / "config.json").write_text(json.dumps(config))
    refused(folder, "describes no model that works")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"device": "abacus"}, "unknown device"),
        ({"device": "cuda:99"}, "is not there"),
        ({"dtype": "float8"}, "unknown dtype"),
        ({"attention": "flashy"}, "unknown attention"),
    ],
)
def test_options_that_cannot_be_had_are_refused_with_the_choices(folder, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        load_world_model(folder, **options)
