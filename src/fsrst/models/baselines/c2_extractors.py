"""The first two stages of C2-Matching: two extractors learn where a warped picture went.

Source: the paper of ``c2_matching``, "contrastive correspondence" and "teacher-student correlation
distillation". The teacher sees both pictures in high resolution; the student sees the first one in
low resolution and is guided by the teacher's correlation. Their weights files are what
``c2-matching`` and ``mrefsr`` take as ``extractors``.

Deviations:
- The motion is a homography drawn by its numbers (``draw_homographies``), from a generator seeded
  by the pictures, so that a resumed run repeats it.
- The student starts as a copy of its teacher.
- Features are compared at single places here, and later matched as 3x3 patches.
- The student's distillation is over all places and all targets; the original's over places whose
  match lies in the picture and their targets alone, without a border of 10 px.
The original's code and licence: see ``c2_matching``.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fsrst.errors import FsrstError
from fsrst.models.baselines.matching import best_match, transfer
from fsrst.models.baselines.ttsr import SCALE, Enlarge, first_present
from fsrst.models.baselines.vgg import LOADED, VGG, as_buffers, digest
from fsrst.models.blocks import full_precision
from fsrst.models.interface import ReferenceSR, State

MARGIN = 1.0
SAFE_RADIUS = 4  # [cells of the feature map]: nearer ones are no negatives
TEMPERATURE = 0.15
DISTILLATION_WEIGHT = 15.0


class Extractors(ReferenceSR):
    """Two extractors in training, ``extractor_lr`` and ``extractor_refs``.

    Stages, not upscalers: ``loss`` is what they are for. ``upscale`` shows what the matching sees:
    each 4x4 block is taken from where the first reference matches (bicubic without one), so its
    PSNR tells how good the matching is.
    """

    reference_limit = 1
    chooses = True
    picture_error = None

    def __init__(self, *, name: str, vgg_width: int) -> None:
        super().__init__()
        self.name = name
        self.scale = SCALE
        self.lr_size = None
        self.options: dict[str, Any] = {"vgg_width": vgg_width}
        self.extractor_lr = VGG(vgg_width, last_relu=False)
        self.extractor_refs = copy.deepcopy(self.extractor_lr)  # of two starts nothing would match
        self.enlarge = Enlarge(SCALE)

    def encode(self, refs: Tensor, present: Tensor | None = None) -> State:
        ref, found, n = first_present(refs, present)
        state = (self.extractor_refs(ref)[2], ref, found)
        return tuple(t[:, None].expand(-1, n, *t.shape[1:]) for t in state)

    def upscale(self, lr: Tensor, state: State) -> Tensor:
        key, ref, found = (t[:, 0] for t in state)
        enlarged = self.enlarge(lr).clamp(0, 1)
        index = best_match(self.extractor_lr(enlarged)[2], key, padding=1)
        copied = transfer(ref, index, SCALE)
        return torch.where(found[:, None, None, None] > 0, copied, enlarged)


class C2Teacher(Extractors):
    """Stage 1. ``loss``: the margin loss between a picture and itself under a homography."""

    def __init__(
        self, *, name: str = "c2-teacher", vgg: str = "random", vgg_width: int = 64
    ) -> None:
        super().__init__(name=name, vgg_width=vgg_width)
        self.extractor_lr.start_from(vgg)
        self.options["vgg"] = self.extractor_refs.start_from(vgg)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        hr = batch["hr"]
        warped, target, valid = self_correspondence(hr)
        similarity = correlation(self.extractor_lr(hr)[2], self.extractor_refs(warped)[2])
        return margin_loss(similarity, target, valid, hr.shape[-1] // SCALE)


class C2Student(Extractors):
    """Stage 2. ``loss``: the margin loss with the picture in low resolution, and 15 times the
    divergence of the student's correlation from the teacher's.

    ``teacher`` names the weights file of a c2-teacher; it is kept as buffers, to go on training.
    """

    def __init__(
        self, *, name: str = "c2-student", teacher: str = "random", vgg_width: int = 64
    ) -> None:
        super().__init__(name=name, vgg_width=vgg_width)
        teacher_lr, teacher_refs = (VGG(vgg_width, last_relu=False) for _ in range(2))
        if teacher != "random" and not teacher.startswith(LOADED):
            teacher = copy_extractors(teacher, teacher_lr, teacher_refs)
            self.extractor_lr.load_state_dict(teacher_lr.state_dict())
            self.extractor_refs.load_state_dict(teacher_refs.state_dict())
        self.teacher_lr, self.teacher_refs = as_buffers(teacher_lr), as_buffers(teacher_refs)
        self.options["teacher"] = teacher

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Raises FsrstError without a teacher: there is nothing to learn from random numbers."""
        if self.options["teacher"] == "random":
            raise FsrstError(
                f"{self.name} learns from a teacher: set model_options teacher to the weights file"
                " of a c2-teacher (configs/c2-teacher.yaml makes one)"
            )
        hr = batch["hr"]
        warped, target, valid = self_correspondence(hr)
        lr = self.enlarge(batch["lr"]).clamp(0, 1)
        ours = correlation(self.extractor_lr(lr)[2], self.extractor_refs(warped)[2])
        with torch.no_grad():
            theirs = correlation(self.teacher_lr(hr)[2], self.teacher_refs(warped)[2])
        divergence = F.kl_div(
            (ours / TEMPERATURE).log_softmax(dim=2),
            (theirs / TEMPERATURE).log_softmax(dim=2),
            reduction="none",
            log_target=True,
        )
        distillation = divergence.sum(dim=2).mean()  # per place of the input
        found = margin_loss(ours, target, valid, hr.shape[-1] // SCALE)
        return found + DISTILLATION_WEIGHT * distillation


def copy_extractors(path: str, *targets: VGG) -> str:
    """Read both extractors of a c2-teacher or c2-student; returns what ``options`` says of them."""
    from fsrst.models.weights import load_weights  # it imports the table of all networks

    model, _ = load_weights(path)
    if not isinstance(model, Extractors):
        raise FsrstError(f"{path} holds {model.name}; expected a c2-student (or a c2-teacher)")
    for target, ours in zip(targets, (model.extractor_lr, model.extractor_refs), strict=True):
        if model.options["vgg_width"] != target.features["0"].out_channels:
            raise FsrstError(
                f"{path} has vgg_width {model.options['vgg_width']}; give this network the same"
            )
        target.load_state_dict(ours.state_dict())
    return f"{LOADED}{model.name}-{digest(model.state_dict())}"


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Cosine of every pair of places: (B, C, h, w) twice -> (B, h*w, h*w), float32."""
    with full_precision(first):
        a, b = (F.normalize(x.float().flatten(2), dim=1) for x in (first, second))
        return a.transpose(1, 2) @ b


def margin_loss(similarity: Tensor, target: Tensor, valid: Tensor, width: int) -> Tensor:
    """max(0, 1 + squared distance to the match - that to the hardest other), mean over ``valid``.

    ``similarity`` (B, P, P) is that of unit vectors, so a squared distance is 2 - 2 * similarity;
    ``target`` (B, P) the index that each place of the first picture went to; ``valid`` (B, P)
    whether it is still inside; ``width`` that of both feature maps. Others are at least
    ``SAFE_RADIUS`` + 1 cells (Chebyshev) from the match, in either picture.
    """
    count = similarity.shape[-1]
    place = torch.arange(count, device=similarity.device)
    y, x = place // width, place % width
    near = ((y[:, None] - y).abs() <= SAFE_RADIUS) & ((x[:, None] - x).abs() <= SAFE_RADIUS)
    match = target[:, :, None]
    positive = similarity.gather(2, match)[..., 0]
    others_second = similarity.masked_fill(near[target], -1).amax(dim=2)
    column = similarity.transpose(1, 2).gather(1, match.expand(-1, -1, count))  # row i: target's
    others_first = column.masked_fill(near, -1).amax(dim=2)
    negative = torch.maximum(others_second, others_first)
    loss = torch.relu(MARGIN + 2 * (negative - positive)) * valid
    return loss.sum() / valid.sum().clamp_min(1)


@torch.no_grad()
def self_correspondence(pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A random homography of each picture (B, 3, H, W): (warped picture, ``target``, ``valid``).

    ``target`` (B, P) int64, P = H/4 * W/4: the cell of the warped picture's features to which each
    cell went; ``valid`` (B, P) of 0 and 1: whether that is inside. Outside a picture is its mirror
    image.
    """
    with full_precision(pictures):
        b, _, height, width = pictures.shape
        seed = int(pictures.double().sum().item() * 1e4) % 2**31  # of the batch: resume is exact
        matrices = draw_homographies(b, torch.Generator().manual_seed(seed)).to(pictures.device)
        grid = _apply(matrices, _centres(height, width, pictures.device))
        warped = F.grid_sample(
            pictures.float(),
            grid.view(b, height, width, 2),
            padding_mode="reflection",
            align_corners=False,
        )
        h, w = height // SCALE, width // SCALE
        went = _apply(torch.linalg.inv(matrices), _centres(h, w, pictures.device))  # (B, P, 2)
        valid = (went.abs() < 1).all(dim=2)
        cell = ((went.clamp(-1, 1) + 1) / 2 * torch.tensor([w, h], device=went.device)).long()
        x, y = cell[..., 0].clamp_max(w - 1), cell[..., 1].clamp_max(h - 1)
        return warped, y * w + x, valid.float()


def draw_homographies(count: int, generator: torch.Generator) -> Tensor:
    """(count, 3, 3), from places of the warped picture to places of the picture, both in [-1, 1].

    Rotation within 20 degrees, scale 0.8 to 1.25 (up and sideways apart), shift within a tenth of
    the picture, perspective numbers within 0.1.
    """
    drawn = torch.rand(count, 7, generator=generator) * 2 - 1
    angle = torch.deg2rad(20 * drawn[:, 0])
    sx, sy = 1.25 ** drawn[:, 1], 1.25 ** drawn[:, 2]
    cos, sin, one = angle.cos(), angle.sin(), torch.ones(count)
    dx, dy, px, py = 0.2 * drawn[:, 3], 0.2 * drawn[:, 4], 0.1 * drawn[:, 5], 0.1 * drawn[:, 6]
    rows = (sx * cos, -sy * sin, dx, sx * sin, sy * cos, dy, px, py, one)
    return torch.stack(rows, dim=1).view(count, 3, 3)


def _centres(height: int, width: int, device: torch.device) -> Tensor:
    """Pixel centres in [-1, 1], x first: (height * width, 2)."""
    y = (torch.arange(height, device=device) * 2 + 1) / height - 1
    x = (torch.arange(width, device=device) * 2 + 1) / width - 1
    return torch.stack((x.expand(height, width), y[:, None].expand(height, width)), -1).flatten(
        0, 1
    )


def _apply(matrices: Tensor, points: Tensor) -> Tensor:
    """(B, 3, 3), (P, 2) -> (B, P, 2)."""
    mapped = F.pad(points, (0, 1), value=1.0) @ matrices.transpose(1, 2)
    return mapped[..., :2] / mapped[..., 2:]
