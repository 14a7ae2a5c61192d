# SPDX-License-Identifier: Apache-2.0
"""Video clips: exactness, every layout of checkpoints, and what is said of bad input."""

import argparse
import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
import video_checkpoints as tiny
from safetensors import safe_open
from small_model import small_world_model
from transformers import VJEPA2ForVideoClassification

from vjepa2_ros.cli import anticipate, classify, embed
from vjepa2_ros.verification.verify import run
from vjepa2_ros.video.classification import Clips
from vjepa2_ros.video.clip_encoder import load_clip_encoder, load_mask_predictor
from vjepa2_ros.video.frames import FramesInMemory, VideoError, open_video, record
from vjepa2_ros.video.index import ClipIndex, IndexFileError, load_index, write_tensors
from vjepa2_ros.video.labels import LabelsError, epic_labels, load_labels
from vjepa2_ros.video.preprocessing import preprocess_video
from vjepa2_ros.video.probe import load_probe, save_probe
from vjepa2_ros.video.sampling import ClipError, anticipation_indices, segment_indices
from vjepa2_ros.world_model.attentive_probe import AttentiveProbe
from vjepa2_ros.world_model.checkpoint import save_world_model
from vjepa2_ros.world_model.validation import CheckpointError

KINDS = {"clip_sampling", "ek100_sampling", "ek100_labels", "ek100_metric", "video_preproc",
         "enc_clip", "enc_masked", "mask_pred", "anticipation", "probe_ek100", "probe_ssv2",
         "probe_ssv2_h8", "probe_lowvar", "ssv2_e2e"}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny.backbone(tmp_path_factory.mktemp("backbone") / "tiny.pt")


@pytest.fixture
def video(tmp_path):
    return tiny.video_file(tmp_path / "clip.avi")


def command(module, *words):
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return module.run(parser.parse_args([str(word) for word in words]))


def test_every_case_of_the_reference_is_met():
    cases = run(tiny.GOLDEN)
    assert [case for case in cases if not case.passed] == []
    assert {case.case.partition("/")[0] for case in cases} == KINDS


# Frames -------------------------------------------------------------------------------------


def test_the_frames_of_a_file_come_by_their_numbers(video):
    opened = open_video(video)
    assert (opened.length, opened.rate, opened.name) == (40, 30.0, "clip.avi")
    read = opened.read([30, 2, 30])
    assert read.shape == (3, 96, 128, 3) and (read[0] == read[2]).all()
    # But for what JPEG leaves of them.
    assert np.abs(read[1].astype(int) - tiny.frames()[2]).mean() < 20
    assert np.abs(read[1].astype(int) - tiny.frames()[4]).mean() > 20


def test_a_folder_of_images_is_a_video(tmp_path):
    for number, frame in enumerate(tiny.frames(3)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    opened = open_video(tmp_path)
    assert opened.length == 3 and (opened.read([2, 0]) == tiny.frames(3)[[2, 0]]).all()
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(VideoError, match="64x64 pixels.*before it 128x96"):
        opened.read([0, 1])


@pytest.mark.parametrize(
    "name, content, text",
    [
        ("absent.mp4", None, "there is no video"),
        ("text.mp4", b"no video", "cannot be decoded as a video"),
        ("empty.mp4", b"", "cannot be decoded as a video"),
    ],
)
def test_what_is_no_video_is_refused(tmp_path, name, content, text):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(VideoError, match=text):
        open_video(tmp_path / name)


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(VideoError, match="holds no image"):
        open_video(tmp_path)


def test_a_video_without_frames_is_refused(tmp_path):
    with pytest.raises(VideoError, match="no frame|cannot be decoded"):
        open_video(tiny.video_file(tmp_path / "none.avi", tiny.frames(0)))


def test_a_camera_is_recorded_for_as_long_as_is_asked():
    class Camera:
        left = 5

        def grab(self):
            self.left -= 1
            return self.left >= 0

        def retrieve(self):
            return tiny.frames(1)[0]

    assert record(Camera(), 3, "camera", 30.0).length == 3
    with pytest.raises(VideoError, match="ended after 5 of 6 images"):
        record(Camera(), 6, "camera", 30.0)


# Clips --------------------------------------------------------------------------------------


def test_a_video_shorter_than_a_clip_is_refused_but_in_segments():
    with pytest.raises(
        ClipError, match="has 40 frames, a clip of 16 frames at a step of 4 needs 61"
    ):
        Clips(16, 4).indices(40)
    assert Clips(16, 4, segments=2).indices(40).shape == (2, 16)
    with pytest.raises(ClipError, match="too short"):
        segment_indices(1, 16, 4, 2)
    with pytest.raises(ClipError, match="has 5 frames/s"):
        anticipation_indices(100, 5.0, 32)


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("resize", ["opencv", "antialias"])
def test_frames_become_normalised_squares(views, resize):
    clip = preprocess_video(np.full((2, 60, 200, 3), 124, np.uint8), 64, resize, views)
    assert clip.shape == (views, 2, 3, 64, 64)
    grey = (124 / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    assert torch.allclose(clip, grey[:, None, None].expand_as(clip), atol=1e-6)


@pytest.mark.parametrize(
    "frames, options, text",
    [
        (np.zeros((2, 64, 64), np.uint8), {}, r"wanted|must be uint8 RGB \[T, H, W, 3\]"),
        (np.zeros((2, 64, 64, 3)), {}, "must be uint8"),
        (tiny.frames(2), {"resize": "best"}, "unknown resize"),
        (tiny.frames(2), {"views": 2}, "use 1 or 3"),
    ],
)
def test_other_frames_and_options_are_refused(frames, options, text):
    with pytest.raises(ValueError, match=text):
        preprocess_video(frames, 64, **options)


# Checkpoints --------------------------------------------------------------------------------


def clip():
    return preprocess_video(tiny.frames(8), 64)


def test_either_encoder_of_a_published_file_is_read(checkpoint):
    both = [load_clip_encoder(checkpoint, part) for part in ("target_encoder", "encoder")]
    target, online = (encoder.tokens(clip()) for encoder in both)
    assert both[0].source.startswith("target_encoder of ") and target.shape == (1, 64, 64)
    assert not torch.allclose(target, online)
    bias = both[0].encoder.model.encoder.layernorm.bias
    assert torch.allclose(1.25 * (target - bias), online - bias, atol=1e-5)


def test_a_folder_of_transformers_gives_the_same_tokens(checkpoint, tmp_path):
    published = load_clip_encoder(checkpoint)
    config = published.encoder.config
    config.num_pooler_layers, config.pred_num_hidden_layers = 1, 1
    config.pred_hidden_size, config.pred_num_attention_heads = 48, 2
    whole = VJEPA2ForVideoClassification(config)
    whole.vjepa2.encoder.load_state_dict(published.encoder.model.encoder.state_dict())
    whole.save_pretrained(tmp_path)
    loaded = load_clip_encoder(tmp_path)
    assert torch.equal(loaded.tokens(clip()), published.tokens(clip()))


def test_a_folder_of_ours_is_an_encoder_of_clips_too(tmp_path):
    model = small_world_model()
    save_world_model(model, tmp_path, {})
    encoder = load_clip_encoder(tmp_path)
    size = model.encoder.size
    tokens = encoder.tokens(preprocess_video(tiny.frames(5), size))
    rows = model.encoder.rows
    assert tokens.shape == (1, 2 * rows * rows, model.encoder.channels), "the odd frame is left out"
    with pytest.raises(CheckpointError, match="leave the size out"):
        load_clip_encoder(tmp_path, size=size * 2)
    with pytest.raises(ValueError, match="needs at least 2 frames"):
        encoder.tokens(preprocess_video(tiny.frames(1), size))


@pytest.mark.parametrize(
    "content, text",
    [
        ({"classifiers": []}, "holds no encoder, but classifiers"),
        ({"encoder": {"patch_embed.proj.weight": torch.zeros(2, 3)}}, "wanted 5 dimensions"),
        ({"encoder": {}}, "lacks"),
        ([1], "holds a list"),
    ],
)
def test_what_is_no_encoder_is_refused(tmp_path, content, text):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=text):
        load_clip_encoder(tmp_path / "other.pt")


def test_folders_and_paths_that_are_no_models_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_clip_encoder(tmp_path / "absent.pt")
    with pytest.raises(CheckpointError, match="is no model folder"):
        load_clip_encoder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(CheckpointError, match="'bert', wanted vjepa2"):
        load_clip_encoder(tmp_path)
    with pytest.raises(ValueError, match="unknown part"):
        load_clip_encoder(tmp_path, "teacher")


def test_a_model_without_a_mask_predictor_anticipates_nothing(tmp_path, checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    content["predictor"] = {"predictor_embed.weight": torch.zeros(2, 2)}
    torch.save(content, tmp_path / "tiny.pt")
    with pytest.raises(CheckpointError, match="holds no mask predictor"):
        load_mask_predictor(tmp_path / "tiny.pt", load_clip_encoder(checkpoint).encoder)


def test_a_probe_tells_its_classes_and_the_heads_are_given(tmp_path):
    path = tiny.probe(tmp_path / "probe.pt")
    probe = load_probe(path, tiny.HEADS)
    assert probe.classes == {"labels": 174} and probe.width == 64
    epic = load_probe(tiny.probe(tmp_path / "epic.pt", "probe_ek100"), tiny.HEADS)
    assert epic.classes == {"verb": 7, "noun": 11, "action": 13}
    tokens = torch.randn(1, 64, 64)
    with torch.no_grad():
        assert not torch.allclose(probe(tokens)["labels"], load_probe(path, 8)(tokens)["labels"])
    with pytest.raises(CheckpointError, match="probe that works"):
        load_probe(path, 7)


@pytest.mark.parametrize("model", ["probe_ssv2", "probe_ek100"])
def test_a_probe_that_is_saved_has_the_published_names_and_weights(tmp_path, model):
    published = torch.load(tiny.probe(tmp_path / "p.pt", model))["classifiers"][0]
    save_probe(tmp_path / "again.pt", load_probe(tmp_path / "p.pt", tiny.HEADS))
    again = torch.load(tmp_path / "again.pt")["classifiers"][0]
    assert set(again) == set(published)
    assert all(torch.equal(again[name], weight) for name, weight in published.items())
    with pytest.raises(OSError):
        save_probe(tmp_path / "absent" / "p.pt", load_probe(tmp_path / "p.pt", tiny.HEADS))
    with pytest.raises(ValueError, match="classes success"):
        save_probe(tmp_path / "own.pt", AttentiveProbe(64, 1, {"success": 2}))



@pytest.mark.parametrize(
    "content, text",
    [
        ({"encoder": {}}, "is no probe: it holds encoder"),
        ({"classifiers": [{"linear.weight": torch.zeros(3, 4)}]}, "lacks pooler.query_tokens"),
        ({"classifiers": ["text"]}, "wanted a list of classifiers"),
    ],
)
def test_what_is_no_probe_is_refused(tmp_path, content, text):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=text):
        load_probe(tmp_path / "other.pt")


# Labels -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, content",
    [
        ("list.json", '["a", "b"]'),
        ("id2label.json", '{"1": "b", "0": "a"}'),
        ("label2id.json", '{"b": "1", "a": "0"}'),
        ("label2id.json", '{"b": 1, "a": 0}'),
        ("lines.txt", "a\n\nb\n"),
    ],
)
def test_labels_are_read_from_every_layout(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert load_labels(tmp_path / name, 2) == ["a", "b"]


@pytest.mark.parametrize(
    "name, content, text",
    [
        ("x.json", '["a"]', "holds 1 names, the probe has 2 classes: give the labels of"),
        ("x.json", '{"a": "b", "c": "d"}', "neither a list"),
        ("x.json", '{"0": "a", "5": "b"}', "neither a list"),
        ("x.json", "{", "no JSON"),
        ("x.json", "7", "neither a list"),
        ("x.txt", None, "cannot be read"),
    ],
)
def test_other_files_of_labels_are_refused(tmp_path, name, content, text):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(LabelsError, match=text):
        load_labels(tmp_path / name, 2)


def test_names_of_labels_cannot_steer_the_terminal(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps(["\x1b[2J", "b"]))
    assert load_labels(tmp_path / "x.json", 2)[0] == r"\x1b[2J"


def test_epic_classes_follow_from_the_training_annotation(tmp_path):
    (tmp_path / "train.csv").write_text(
        "narration_id,verb_class,noun_class\na,3,7\nb,0,7\nc,3,7\nd,3,2\n"
    )
    (tmp_path / "verbs.csv").write_text("id,key\n0,take\n3,cut\n")
    labels = epic_labels(tmp_path / "train.csv", tmp_path / "verbs.csv")
    assert labels["verb"] == ["take", "cut"] and labels["noun"] == ["noun 2", "noun 7"]
    assert sorted(labels["action"]) == ["cut noun 2", "cut noun 7", "take noun 7"]
    (tmp_path / "train.csv").write_text("verb_class\nx\n")
    with pytest.raises(LabelsError, match="is no annotation of Epic-Kitchens-100"):
        epic_labels(tmp_path / "train.csv")


# Commands -----------------------------------------------------------------------------------


def test_a_clip_is_embedded(checkpoint, video, tmp_path, capsys):
    output = tmp_path / "embedding.safetensors"
    assert command(embed, video, "--checkpoint", checkpoint, "--output", output) == 0
    with safe_open(output, "pt") as file:
        tokens, vector = file.get_tensor("tokens"), file.get_tensor("embedding")
        assert file.metadata()["source"] == f"target_encoder of {checkpoint}"
    # 16 frames are 8 tubelets of 4 x 4 patches.
    assert tokens.shape == (1, 128, 64) and torch.allclose(vector, tokens.mean((0, 1)), atol=1e-6)
    assert "tokens [1, 128, 64]" in capsys.readouterr().out


def test_the_nearest_clips_of_a_folder_are_found(checkpoint, tmp_path, capsys):
    folder = tmp_path / "clips"
    (folder / "pictures").mkdir(parents=True)
    tiny.video_file(folder / "stripes.avi")
    tiny.video_file(folder / "grey.avi", np.full((40, 96, 128, 3), 90, np.uint8))
    (folder / "broken.mp4").write_bytes(b"nothing")
    for number in range(32):
        cv2.imwrite(str(folder / "pictures" / f"{number:02}.png"), np.full((64, 64, 3), 200))
    words = ("--checkpoint", checkpoint, "--index", folder)
    assert command(embed, *words) == 1, "one clip is broken"
    assert "3 clips in" in (said := capsys.readouterr()).out and "left out" in said.err
    (folder / "broken.mp4").unlink()
    index = load_index(folder / embed.INDEX_FILE)
    assert index.names == ["grey.avi", "pictures", "stripes.avi"]
    query = tiny.video_file(tmp_path / "query.avi", np.full((40, 96, 128, 3), 95, np.uint8))
    assert command(embed, *words, "--query", query, "--top", 2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].endswith("grey.avi")


def test_clips_that_are_known_are_not_embedded_again(checkpoint, tmp_path, monkeypatch, capsys):
    tiny.video_file(tmp_path / "one.avi")
    words = ("--checkpoint", checkpoint, "--index", tmp_path)
    assert command(embed, *words) == 0
    embedded = []
    once_more = embed._vector
    monkeypatch.setattr(embed, "_vector", lambda text, *rest: embedded.append(text)
                        or once_more(text, *rest))  # fmt: skip
    tiny.video_file(tmp_path / "two.avi")
    assert command(embed, *words, "--frames", 16, "--step", 1) == 2
    assert not embedded and "give the same, or remove the file" in capsys.readouterr().err
    assert command(embed, *words) == 0
    assert embedded == [str(tmp_path / "two.avi")]


def test_a_file_that_is_no_index_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"nothing")
    with pytest.raises(IndexFileError, match="no index of clips"):
        load_index(tmp_path / "x")
    ClipIndex("0", ["a"], [1], torch.zeros(2, 3)).save(tmp_path / "y")
    with pytest.raises(IndexFileError, match="damaged"):
        load_index(tmp_path / "y")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(IndexFileError, match="is no file"):
        load_index(tmp_path / "pipe")


def test_an_action_is_named_and_drawn(checkpoint, video, tmp_path, capsys):
    labels, picture = tmp_path / "labels.json", tmp_path / "named.png"
    labels.write_text(json.dumps([f"Doing $thing$ {number}" for number in range(174)]))
    code = command(
        classify, video, "--checkpoint", checkpoint, "--probe", tiny.probe(tmp_path / "probe.pt"),
        "--heads", tiny.HEADS, "--labels", labels, "--segments", 2, "--views", 3, "--seed", 1,
        "--output", picture,
    )  # fmt: skip
    said = capsys.readouterr().out
    assert code == 0 and said.count("Doing $thing$") == 5
    shares = [float(line.split()[0]) for line in said.splitlines() if "Doing" in line]
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 100
    assert cv2.imread(str(picture)) is not None


def test_what_comes_next_is_named_and_drawn(checkpoint, video, tmp_path, capsys):
    picture = tmp_path / "next.png"
    probe = tiny.probe(tmp_path / "epic.pt", "probe_ek100")
    words = (video, "--checkpoint", checkpoint, "--probe", probe, "--heads", tiny.HEADS,
             "--output", picture)  # fmt: skip
    assert command(anticipate, *words) == 0
    said = capsys.readouterr().out
    assert "1 s after 1.33 s" in said and all(kind in said for kind in ("verb", "noun", "action"))
    assert cv2.imread(str(picture)) is not None
    assert command(anticipate, *words, "--at", 7) == 2
    assert "outside the video of 1.3 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    "module, words, text",
    [
        (embed, (), "either VIDEO or --index"),
        (embed, ("VIDEO", "--query", "VIDEO"), "--query needs --index"),
        (embed, ("VIDEO", "--frames", "99"), "has 40 frames, a clip of 99"),
        (embed, ("absent.mp4",), "there is no video at absent.mp4"),
        (embed, ("/dev/video97",), "there is no camera at /dev/video97"),
        (embed, ("--index", "/nowhere"), "there is no folder"),
        (classify, ("VIDEO", "--probe", "/no/such.pt"), "there is no file /no/such.pt"),
        (classify, ("VIDEO", "--probe", "EPIC"), "use `vjepa2-ros anticipate`"),
        (classify, ("VIDEO", "--probe", "WIDE"), "the probe is for an encoder of 32 channels"),
        (classify, ("VIDEO", "--probe", "PROBE", "--labels", "EPIC"), "cannot be read"),
        (embed, ("VIDEO", "--threads", "1000000"), "--threads is 256 at most"),
        (anticipate, ("VIDEO", "--probe", "EPIC", "--labels", "PROBE"), "cannot be read"),
        (anticipate, ("VIDEO", "--probe", "EPIC", "--verbs", "PROBE"), "--labels: give that, too"),
        (anticipate, ("VIDEO", "--probe", "PROBE"), "use `vjepa2-ros classify`"),
    ],
)
def test_bad_input_ends_with_what_to_do(checkpoint, video, tmp_path, capsys, module, words, text):
    paths = {
        "VIDEO": video,
        "PROBE": tiny.probe(tmp_path / "probe.pt"),
        "EPIC": tiny.probe(tmp_path / "epic.pt", "probe_ek100"),
        "WIDE": tiny.probe(tmp_path / "wide.pt", "probe_lowvar"),
    }
    given = [paths.get(word, word) for word in words]
    heads = [] if module is embed else ["--heads", 2 if "WIDE" in words else tiny.HEADS]
    assert command(module, *given, "--checkpoint", checkpoint, *heads) == 2
    said = capsys.readouterr().err
    assert text in said and "Traceback" not in said


def test_no_command_on_clips_needs_ros_or_physics(checkpoint, video):
    code = (
        "import sys; sys.modules.update(rclpy=None, mujoco=None);"
        "from vjepa2_ros.cli.main import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "embed", video, "--checkpoint", checkpoint],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_folder_with_a_pipe_or_a_device_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "0.png")
    with pytest.raises(VideoError, match="not a regular file"):
        open_video(tmp_path).read([0])
    (tmp_path / "0.png").unlink()
    (tmp_path / "0.png").symlink_to("/dev/zero")
    with pytest.raises(VideoError, match="not a regular file"):
        open_video(tmp_path).read([0])


def test_an_embedding_replaces_no_device(checkpoint, video, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    words = (embed, video, "--checkpoint", checkpoint, "--output", tmp_path / "pipe")
    assert command(*words) == 2 and "is no file" in capsys.readouterr().err
    assert not (tmp_path / "pipe").is_file()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert command(*words[:-1], tmp_path / "loop") == 2
    assert "is no file" in capsys.readouterr().err
    with pytest.raises(OSError, match="is no file"):
        write_tensors(tmp_path / "pipe", {}, {})


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: weights.pop("predictor_blocks.0.mlp.fc1.weight"),
        lambda weights: weights.update({"predictor_embed.weight": torch.zeros(0, 64)}),
        lambda weights: weights.update({"predictor_embed.weight": torch.tensor(1.0)}),
        lambda weights: weights.update({"predictor_blocks.0.attn.qkv.weight": torch.tensor(1.0)}),
        lambda weights: [weights.pop(name) for name in list(weights) if "blocks" in name],
    ],
)
def test_a_broken_mask_predictor_is_refused(checkpoint, tmp_path, change):
    content = torch.load(checkpoint, weights_only=True)
    weights = tiny.weights("mask_pred")
    change(weights)
    torch.save(content | {"predictor": weights}, tmp_path / "tiny.pt")
    (tmp_path / "tiny.json").write_text(checkpoint.with_suffix(".json").read_text())
    with pytest.raises(CheckpointError):
        load_mask_predictor(tmp_path / "tiny.pt", load_clip_encoder(checkpoint).encoder)


@pytest.mark.parametrize(
    "name", ["linear.weight", "pooler.blocks.0.attn.qkv.weight", "pooler.query_tokens"]
)
@pytest.mark.parametrize("weight", [torch.tensor(1.0), torch.zeros(0, 64)])
def test_a_broken_probe_is_refused(tmp_path, name, weight):
    torch.save({"classifiers": [tiny.weights("probe_ssv2") | {name: weight}]}, tmp_path / "p.pt")
    with pytest.raises(CheckpointError):
        load_probe(tmp_path / "p.pt", tiny.HEADS)


@pytest.mark.parametrize("clips", ['{"encoder": "0", "names": 7, "sizes": [1]}',
                                   '{"encoder": "0", "names": [["a"]], "sizes": [1]}',
                                   "[" * 100_000, "7"])  # fmt: skip
def test_a_hostile_index_is_refused(tmp_path, clips):
    metadata = {"format": "vjepa2_ros clip index 1", "clips": clips}
    write_tensors(tmp_path / "x", {"embeddings": torch.zeros(1, 3)}, metadata)
    with pytest.raises(IndexFileError):
        load_index(tmp_path / "x")


@pytest.mark.parametrize(
    "words, text",
    [
        (("--at", "1e308"), "outside the video"),
        (("--seconds", "1e9"), "--seconds 60"),
        (("--rate", "1e308"), "from 0.1 to 1000"),
        (("--frames", "100000"), "--frames is 1024 at most"),
    ],
)
def test_numbers_beyond_measure_are_refused(checkpoint, video, tmp_path, capsys, words, text):
    probe = tiny.probe(tmp_path / "epic.pt", "probe_ek100")
    given = (video, "--checkpoint", checkpoint, "--probe", probe, "--heads", tiny.HEADS, *words)
    assert command(anticipate, *given) == 2 and text in capsys.readouterr().err


def test_frames_in_memory_are_a_video():
    assert (FramesInMemory(tiny.frames(3), "x").read([1, 1]) == tiny.frames(3)[[1, 1]]).all()


@pytest.mark.parametrize("shape", [(1, 60000), (31, 64), (32, 400), (60000, 40)])
def test_a_frame_that_would_fill_the_memory_when_it_is_resized_is_refused(shape):
    """A line of 60,000 pixels was once made one of millions, 147 high."""
    with pytest.raises(ValueError, match="10 times the other at most"):
        preprocess_video(np.zeros((1, *shape, 3), np.uint8), 256)
