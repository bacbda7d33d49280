"""Muon: its steps are torch's where torch takes the weights, and Adam's for the rest."""

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Adam

from fsrst.muon import Muon, is_hidden, orthogonal


def stepped(
    parameter: nn.Parameter, gradients: list[Tensor], optimizer: torch.optim.Optimizer
) -> None:
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()


@pytest.mark.parametrize("shape", [(16, 144), (64, 16)])
def test_orthogonal_keeps_directions_and_evens_lengths(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    lengths = u.T @ orthogonal(matrix) @ v.T
    assert (lengths - lengths.diag().diag()).abs().max() < 1e-3
    assert lengths.diag().min() > 0.5 and lengths.diag().max() < 1.3


@pytest.mark.parametrize("shape", [(16, 48), (48, 16)])
def test_matrices_move_as_torchs(shape: tuple[int, int]) -> None:
    """torch's computes in bfloat16, and its steps are a fifth as long."""
    generator = torch.Generator().manual_seed(5)
    gradients = [torch.randn(shape, generator=generator) for _ in range(3)]
    ours, theirs = (nn.Parameter(torch.zeros(shape)) for _ in range(2))
    stepped(ours, gradients, Muon([{"params": [ours]}], lr=0.01))
    theirs_muon = torch.optim.Muon(
        [theirs], lr=0.05, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
    )
    stepped(theirs, gradients, theirs_muon)
    a, b = ours.detach().flatten(), theirs.detach().flatten()
    assert torch.cosine_similarity(a, b, dim=0) > 0.999
    assert float(a.norm() / b.norm()) == pytest.approx(1, abs=0.01)


def test_a_step_is_as_long_as_the_learning_rate() -> None:
    weight = nn.Parameter(torch.zeros(16, 16, 3, 3))
    stepped(weight, [torch.randn(16, 16, 3, 3)], Muon([{"params": [weight]}], lr=0.01))
    assert weight.detach().square().mean().sqrt() == pytest.approx(0.01, rel=0.25)


def test_what_is_not_hidden_moves_as_adams() -> None:
    parameters = [nn.Parameter(torch.ones(shape)) for shape in ((16,), (12, 32, 3, 3), (48, 1, 1))]
    assert not any(is_hidden(parameter) for parameter in parameters)
    for ours in parameters:
        theirs = nn.Parameter(ours.detach().clone())
        gradients = [torch.randn(ours.shape) for _ in range(3)]
        stepped(ours, gradients, Muon([{"params": [ours]}], lr=0.01))
        stepped(theirs, gradients, Adam([theirs], lr=0.01))
        assert torch.equal(ours, theirs)


def test_the_order_in_memory_changes_nothing() -> None:
    gradient = torch.randn(32, 16, 3, 3)
    ours, theirs = (nn.Parameter(torch.zeros(32, 16, 3, 3)) for _ in range(2))
    stepped(ours, [gradient] * 2, Muon([{"params": [ours]}], lr=0.01))
    last = theirs.data = theirs.data.contiguous(memory_format=torch.channels_last)
    moved = gradient.contiguous(memory_format=torch.channels_last)
    stepped(theirs, [moved] * 2, Muon([{"params": [theirs]}], lr=0.01))
    assert torch.allclose(ours, last, atol=1e-6)


def test_a_gradient_of_few_directions_moves_less_and_is_no_failure() -> None:
    weight = nn.Parameter(torch.zeros(32, 64))
    gradient = torch.outer(torch.randn(32), torch.randn(64))
    stepped(weight, [gradient], Muon([{"params": [weight]}], lr=0.01))
    moved = float(weight.detach().square().mean().sqrt())
    assert 0.6 < moved / (0.01 / 32**0.5) < 1.3  # one of 32 singular values, near 1
    stepped(weight, [torch.zeros(32, 64)], Muon([{"params": [weight]}], lr=0.01))
    assert weight.isfinite().all()


def test_a_closure_is_refused() -> None:
    with pytest.raises(ValueError, match="takes no closure"):
        Muon([{"params": [nn.Parameter(torch.zeros(16, 16))]}], lr=0.01).step(lambda: 0.0)  # type: ignore[arg-type]


def test_groups_keep_their_rates() -> None:
    fast, slow = (nn.Linear(32, 16) for _ in range(2))
    groups = [{"params": list(fast.parameters()), "full_lr": 0.1}]
    groups += [{"params": list(slow.parameters()), "full_lr": 0.01}]
    optimizer = Muon(groups, lr=0.1)
    found = [(group["hidden"], group["full_lr"]) for group in optimizer.param_groups]
    assert found == [(True, 0.1), (False, 0.1), (True, 0.01), (False, 0.01)]
