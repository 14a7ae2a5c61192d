# SPDX-License-Identifier: Apache-2.0
"""Golden cases of what surrounds the networks: preprocessing and pose algebra."""

import re

import numpy as np
from scipy.spatial.transform import Rotation
from torch import Tensor

from vjepa2_ros.verification.golden import Case, GoldenError, GoldenSet, compare, not_covered
from vjepa2_ros.world_model.poses import compose, difference
from vjepa2_ros.world_model.preprocessing import (
    NOTEBOOK_ASPECT,
    TRAINING_ASPECT,
    central_crop,
    preprocess,
)

# Array and crop names of the two transforms, and their crop's aspect.
_OUTPUTS = {"out": NOTEBOOK_ASPECT, "out_traincfg": TRAINING_ASPECT}
_CROPS = {"notebook_crop_i_j_h_w": NOTEBOOK_ASPECT, "train_config_crop_i_j_h_w": TRAINING_ASPECT}


def preprocessing_cases(golden: GoldenSet) -> list[Case]:
    """Transformed images, and crops of sizes that the set lists without images."""
    cases = []
    for group, names in golden.groups("preproc/").items():
        case = f"preproc/{group}"
        try:
            image = golden.array(_input_of(golden, group))
            for name in names:
                if name in _OUTPUTS:
                    wanted = golden.tensor(f"{case}/{name}")
                    actual = preprocess(image, wanted.shape[-1], _OUTPUTS[name]).transpose(0, 1)
                    cases.append(compare(case, name, actual, wanted, golden.tolerance("feature")))
        except (GoldenError, ValueError) as error:
            cases.append(Case(case, "transform", False, message=str(error)))
    for size, described in golden.meta.get("transform", {}).get("crops", {}).items():
        cases += _crop_cases(size, described)
    return cases


def _input_of(golden: GoldenSet, group: str) -> str:
    """Key of a group's image; groups of one name and different sizes share it."""
    if f"preproc/{group}/in" in golden:
        return f"preproc/{group}/in"
    name = re.sub(r"_\d+$", "", group)
    shared = [
        key
        for key in golden.keys("preproc/")
        if re.fullmatch(rf"preproc/{re.escape(name)}_\d+/in", key)
    ]
    if len(shared) != 1:
        raise GoldenError(f"array preproc/{group}/in is missing")
    return shared[0]


def _crop_cases(size: str, described: dict) -> list[Case]:
    """Crops [i, j, height, width] of images of one size, such as "480x640"."""
    case = f"crop/{size}"
    dimensions = re.match(r"(\d+)x(\d+)", size)
    if not dimensions:
        return [not_covered(case, "crop", "no size like 480x640")]
    height, width = map(int, dimensions.groups())
    cases = []
    for name, crops in described.items():
        if name in _CROPS:
            actual = central_crop(height, width, _CROPS[name])
            # Where the reference picks among several at random, any of them is right.
            error = min(
                max(abs(a - b) for a, b in zip(actual, crop, strict=True)) for crop in crops
            )
            cases.append(Case(case, name, error == 0, float(error), 0.0))
        elif name.endswith("_crop_i_j_h_w"):
            cases.append(not_covered(case, name, "unknown transform"))
    return cases


def pose_cases(golden: GoldenSet) -> list[Case]:
    """Composition and difference of poses, in both precisions and at gimbal lock."""
    if not golden.keys("pose/"):
        return []
    tolerance = golden.tolerance("pose")
    cases = []

    def check(name: str, function, first: str, second: str, double: bool = False) -> None:
        """Compare function(first, second) with pose/name where the set holds it."""
        if f"pose/{name}" not in golden:
            return
        try:
            inputs = [golden.tensor(f"pose/{key}") for key in (first, second)]
            actual = function(*(x.double() if double else x for x in inputs))
            expected = golden.tensor(f"pose/{name}")
            if name.startswith("gimbal"):
                cases.append(_compare_matrices(name, actual, expected, tolerance))
            else:
                cases.append(
                    compare("pose", name, _wrapped_to(actual, expected), expected, tolerance)
                )
        except (GoldenError, RuntimeError) as error:
            cases.append(Case("pose", name, False, message=str(error)))

    check("new_pose", compose, "pose", "action")
    check("new_pose_f64", compose, "pose", "action", double=True)
    check("diff", difference, "diff_start", "diff_end")
    check("diff_f64", difference, "diff_start", "diff_end", double=True)
    check("gimbal_new_pose", compose, "gimbal_pose", "gimbal_action")
    if "pose/franka_diff" in golden:
        states = golden.tensor("pose/franka_states")
        expected = golden.tensor("pose/franka_diff")
        cases.append(
            compare(
                "pose", "franka_diff", difference(states[0, 0], states[0, 1]), expected, tolerance
            )
        )
    return cases


def _wrapped_to(actual: Tensor, expected: Tensor) -> Tensor:
    """`actual` with whole turns added to its angles, so that they are nearest to `expected`'s."""
    actual = actual.clone()
    turns = ((expected[..., 3:6] - actual[..., 3:6]) / (2 * np.pi)).round()
    actual[..., 3:6] += 2 * np.pi * turns
    return actual


def _compare_matrices(name: str, actual: Tensor, expected: Tensor, tolerance: float) -> Case:
    """Poses with their angles as matrices: Euler angles are not unique at gimbal lock."""

    def with_matrices(poses: np.ndarray) -> np.ndarray:
        matrices = Rotation.from_euler("xyz", poses[:, 3:6]).as_matrix().reshape(len(poses), 9)
        return np.concatenate([poses[:, :3], matrices, poses[:, 6:]], axis=1)

    ours, theirs = (with_matrices(poses.double().numpy()) for poses in (actual, expected))
    return compare("pose", f"{name} (matrices)", ours, theirs, tolerance)
