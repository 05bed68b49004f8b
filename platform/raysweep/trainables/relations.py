"""Relational distillation: a student learns not its teacher's outputs, but how the teacher relates samples.

Relational knowledge distillation (Park, Kim, Lu & Cho, CVPR 2019): the distances between the embeddings of
two samples, and the angles between those of three, should be the same for student and teacher, up to scale.
Their embeddings need not have the same width, so the student may have any architecture.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

ANGLE = 2.0  # the weight of angles beside distances: 50 to 25 in the paper
TRIPLES = 64  # samples of a batch whose angles are compared: their number grows with the cube
EPSILON = 1e-12


def loss(student: Tensor, teacher: Tensor) -> Tensor:
    """How differently two embeddings `[n, any width]` of the same samples relate them; 0 for a single sample."""
    if len(student) < 2:
        return student.sum() * 0.0
    with torch.autocast(student.device.type, enabled=False):  # subtracts nearly equal numbers
        student, teacher = student.float().flatten(1), teacher.float().flatten(1)
        apart = functional.smooth_l1_loss(_distances(student), _distances(teacher))
        angles = functional.smooth_l1_loss(_angles(student[:TRIPLES]), _angles(teacher[:TRIPLES]))
    return apart + ANGLE * angles


def _distances(x: Tensor) -> Tensor:
    """`[n, n]`, in units of their mean."""
    square = x.pow(2).sum(1)
    between = (square[:, None] + square[None] - 2 * x @ x.T).clamp(min=EPSILON).sqrt()
    between = between * (1 - torch.eye(len(x), device=x.device))
    return between / (between.sum() / (len(x) * (len(x) - 1))).clamp(min=EPSILON)


def _angles(x: Tensor) -> Tensor:
    """`[n, n, n]`: the cosine of the angle at i between the directions to j and to k."""
    directions = functional.normalize(x[None] - x[:, None], dim=2)
    return directions @ directions.transpose(1, 2)
