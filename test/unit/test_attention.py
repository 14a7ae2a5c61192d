# SPDX-License-Identifier: Apache-2.0
"""Attention in training gives what the fused kernel gives, gradients included."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from vjepa2_ros.world_model.attention import attend


@pytest.mark.parametrize("masked", [False, True])
def test_attention_and_its_gradients_are_those_of_the_fused_kernel(masked):
    torch.manual_seed(0)
    parts = [torch.randn(2, 3, length, 8, requires_grad=True) for length in (5, 7, 7)]
    mask = torch.tril(torch.ones(5, 7, dtype=torch.bool), 2) if masked else None
    weights = torch.randn(2, 3, 5, 8)
    found, wanted = [], []
    for function, results in ((attend, found), (scaled_dot_product_attention, wanted)):
        result = function(*parts, mask)
        results += [result, *torch.autograd.grad((result * weights).sum(), parts)]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_without_a_gradient_the_fused_kernel_itself_runs(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "vjepa2_ros.world_model.attention.F.scaled_dot_product_attention",
        lambda *arguments, **options: calls.append(options) or arguments[2],
    )
    tokens = torch.randn(1, 2, 4, 8)
    attend(tokens, tokens, tokens)
    with torch.inference_mode():
        attend(tokens, tokens, tokens)
    assert len(calls) == 2
    attend(tokens.requires_grad_(), tokens, tokens)
    assert len(calls) == 2
