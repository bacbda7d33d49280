"""Muon: weights of hidden layers learn by momentum whose singular values are made equal.

A convolution's weight is one matrix here, outputs x (inputs x kernel), which ``torch.optim.Muon``
(matrices alone) does not take. What is no such matrix (biases, scalars, weights of a few outputs)
learns by Adam, whose code is torch's. A weight moves by about the learning rate in the mean square,
by less where its gradient has few directions; Adam's steps are hardly longer, so its rates fit.
Where gradients are 0 for a while, momentum moves a weight on at full length.
Source: K. Jordan, "Muon: an optimizer for hidden layers in neural networks", 2024.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

MOMENTUM = 0.95
SMALLEST_SIDE = 16  # of a weight that is a matrix here
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # a, b, c of X <- aX + b(XX')X + c(XX')(XX')X
ITERATIONS = 5


class Muon(Adam):
    """``Adam`` whose hidden weights take orthogonal steps. Of a group's options these know ``lr``
    alone."""

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float) -> None:
        split = []
        for group in groups:
            hidden = [p for p in group["params"] if is_hidden(p)]
            rest = [p for p in group["params"] if not is_hidden(p)]
            split += [{**group, "params": hidden, "hidden": True}] if hidden else []
            split += [{**group, "params": rest, "hidden": False}] if rest else []
        super().__init__(split, lr=lr)

    def __setstate__(self, state: dict[str, Any]) -> None:
        Optimizer.__setstate__(self, state)  # Adam's looks for steps, which hidden weights lack

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of all parameters that have a gradient. Hidden weights have none after it.

        Raises
        ------
        ValueError
            If there is a ``closure``: losses are computed before.
        """
        if closure is not None:
            raise ValueError("Muon takes no closure: compute the loss before the step")
        for group in self.param_groups:
            for parameter in group["params"] if group["hidden"] else ():
                if parameter.grad is not None:
                    self._orthogonal_step(parameter, parameter.grad, group["lr"])
                    parameter.grad = None  # so Adam leaves it alone
        super().step()

    def _orthogonal_step(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        momentum = state["momentum"]
        momentum.lerp_(gradient, 1 - MOMENTUM)
        matrix = gradient.lerp(momentum, MOMENTUM).flatten(1)
        step = orthogonal(matrix) * max(matrix.shape) ** 0.5  # mean square 1
        parameter.sub_(step.reshape(parameter.shape), alpha=lr)


def is_hidden(parameter: Tensor) -> bool:
    """Whether ``parameter`` is a matrix or a convolution's weight, of enough outputs and inputs."""
    if parameter.ndim < 2:
        return False
    outputs, inputs = parameter.shape[0], parameter[0].numel()
    return min(outputs, inputs) >= SMALLEST_SIDE


def orthogonal(matrix: Tensor) -> Tensor:
    """``matrix`` (rows, columns) with its singular values brought near 1, in float32: those from
    about 0.002 of its norm on to 0.7 to 1.2, smaller ones towards that."""
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = (matrix.T if tall else matrix).float()
    x = x / x.norm().clamp_min(1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x
