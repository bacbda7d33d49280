"""The run-time: open a model once, set references once, upscale every frame.

    upscaler = open_upscaler("fsrst2")
    upscaler.set_references([read_image("a.jpg"), read_image("b.jpg")])
    sharp = upscaler(read_image("small.png"))

Pictures are uint8 (H, W, 3) sRGB. Importing this module imports neither torch nor a runtime.
"""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fsrst.errors import FsrstError, did_you_mean
from fsrst.image import (
    Floats,
    Pixels,
    check_picture,
    crop_to,
    from_planes,
    greyed,
    monochrome,
    to_planes,
)
from fsrst.runtime.cores import physical_cores
from fsrst.runtime.grey import as_grey_as, light_of, with_light_of
from fsrst.runtime.model_files import GRAPH_SUFFIX, TORCH_SUFFIX, find
from fsrst.runtime.self_ensemble import SelfEnsemble
from fsrst.runtime.worth import not_worth_it

BACKENDS = ("auto", "onnxruntime", "openvino", "torch")
PRECISIONS = {
    "onnxruntime": ("f32",),
    "openvino": ("f32", "bf16", "int8"),
    "torch": ("f32",),
}
MIN_SIDE, MAX_SIDE = 8, 512  # input [px] of models that take any size: its area is 512^2 at most
MAX_LONG_SIDE = 1024  # [px]; memory grows with its square: 5 GB at most with few references
MAX_BATCH = 16  # frames at once; larger batches are no faster
MAX_BATCH_PIXELS = MAX_BATCH * 64**2  # of their inputs together: bounds memory


class Backend(Protocol):
    """What runs the two graphs; arrays are float32 and contiguous. What ``upscale`` and ``explain``
    return is valid until the next call.

    ``info`` is the header of the weights with ``scale`` and ``lr_size``.
    """

    name: str
    precision: str
    info: dict[str, Any]

    def encode(self, refs: Floats, present: Floats) -> tuple[Floats, ...]:
        """refs (B, N, 3, s*h, s*w), present (B, N) of 0 and 1 -> state, each tensor (B, N, ...)."""

    def upscale(self, lr: Floats, *state: Floats) -> Floats:
        """lr (B, 3, h, w), state of the same batch -> sr (B, 3, s*h, s*w), unclamped."""

    def explain(self, lr: Floats, *state: Floats) -> tuple[Floats, Floats]:
        """The same, and shares (B, N, s*h, s*w); only for models whose info says ``explains``."""


class Upscaler:
    """uint8 in, uint8 out; references are encoded once, not for every frame.

    That is done when they are set, or where a model takes any size, at the first frame of a size;
    those of one size are kept. One thread at a time: give each thread an upscaler of its own.

    Attributes
    ----------
    model, backend, precision
        Names: what was asked for, what runs, what it computes in.
    scale, lr_size
        Enlargement; side of the only input size [px], or None when the model takes any.
    references
        How many are set (0 at first).
    explains
        Whether ``explain`` works with this model.
    info
        Header of the weights: model, options, parameters, training, scores, version.
    graph
        File of the frames' graph; None where torch runs the network itself.
    """

    def __init__(self, model: str, runner: Backend, graph: Path | None = None) -> None:
        self.model = model
        self.graph = graph
        self.backend = runner.name
        self.precision = runner.precision
        self.info = runner.info
        self.scale = int(runner.info["scale"])
        self.lr_size: int | None = runner.info["lr_size"]
        self.explains = bool(runner.info.get("explains"))
        self.references = 0
        self._runner = runner
        self._pictures: list[Pixels] = []
        self._states: dict[str, tuple[Floats, ...]] = {}  # of references "as set", "grey", "none"
        self._size = (0, 0)  # of the inputs that they are for: height, width [px]
        self._shown: list[Pixels] = []  # the references at the output's size, of inputs of _judged
        self._left_out: list[int] = []
        self._grey_alone = False  # whether none of the others has colours
        self._judged: tuple[int, int] | None = None

    @property
    def self_ensemble(self) -> bool:
        """Whether the mean of a picture and its mirror image, each upscaled, is what comes out."""
        return isinstance(self._runner, SelfEnsemble)

    def set_references(self, pictures: Iterable[Pixels]) -> None:
        """Other pictures of the same person, uint8 (H, W, 3) of any size and aspect, or none.

        Each is cropped to the largest centred part of the output's aspect and resized to the
        output's size (``fsrst.image.crop_to``), and made grey for inputs that are grey or toned
        (``fsrst.image.monochrome``). Where all of them are and an input is not, its light is
        upscaled with them where they serve, and its colours without, in twice the time. They
        replace those set before. Those that show no more than an input are left out when it is
        upscaled (``left_out``).

        Raises
        ------
        FsrstError
            If one is no uint8 RGB picture, or the encoder is missing or of other weights.
        """
        one = isinstance(pictures, np.ndarray) and pictures.ndim == 3
        if one or not isinstance(pictures, Iterable):
            found = "one picture; put it into [ ]" if one else f"{pictures!r}; [] is none"
            raise FsrstError(f"references are a list of pictures, got {found}")
        pictures = list(pictures)
        for number, picture in enumerate(pictures, start=1):
            check_picture(picture, f"reference {number}")
        self._pictures = [picture.copy() for picture in pictures]  # callers reuse their buffers
        self.references = len(self._pictures)
        self._states, self._judged = {}, None
        if self.lr_size is not None:
            for kind in self._kinds(self.lr_size, self.lr_size, grey=False):
                self._state_for(self.lr_size, self.lr_size, kind)

    def left_out(self, height: int, width: int) -> list[int]:
        """Positions in the list that was set of the references that are not used for inputs of
        ``height`` x ``width`` [px]: they show hardly more than the input, for want of pixels, or
        because they were enlarged or are blurred (``fsrst.runtime.worth``).
        """
        self.check_size(height, width)
        if self._judged != (height, width):
            high, wide = self.scale * height, self.scale * width
            self._shown = [crop_to(picture, wide, high) for picture in self._pictures]
            self._left_out = not_worth_it(self._pictures, self._shown, height, width)
            self._grey_alone = all(
                monochrome(shown) for i, shown in enumerate(self._shown) if i not in self._left_out
            )
            self._judged = (height, width)
        return list(self._left_out)

    def __call__(self, lr: Pixels) -> Pixels:
        """Upscale one picture: uint8 (h, w, 3) -> uint8 (s*h, s*w, 3).

        Raises
        ------
        FsrstError
            If it is no uint8 RGB picture or not of the model's size, or if what comes out is NaN.
        """
        return self.upscale_batch([lr])[0]

    def warm_up(self, height: int, width: int) -> None:
        """Compile now what frames of ``height`` x ``width`` [px] with these references need.

        Else OpenVINO compiles a model that takes any size at the first frame of a size, for all
        sizes, and at the ninth once more (of a self-ensemble the fifth), for that size alone: a
        second or two each. A change of the size, or of the number of references that are used for
        it (those set less ``left_out``), asks for it again.
        """
        frames = 1
        if self.backend == "openvino" and self.lr_size is None:
            from fsrst.runtime.openvino_backend import FRAMES_BEFORE_FIXED

            frames += FRAMES_BEFORE_FIXED // (2 if self.self_ensemble else 1)
        self.check_size(height, width)
        plain = np.zeros((height, width, 3), np.uint8)
        plain[: height // 2, :, 0] = plain[:, : width // 2, 1] = 255  # in colour, as frames are
        for _ in range(frames):
            self(plain)

    def check(self, lr: Pixels) -> None:
        """Raise the FsrstError that ``upscaler(lr)`` would raise for this picture, if any."""
        self._check_lr(lr, lr)

    def check_size(self, height: int, width: int) -> None:
        """Raise the FsrstError that a picture of ``height`` x ``width`` [px] would meet, if any."""
        if not all(isinstance(side, int | np.integer) for side in (height, width)):
            raise FsrstError(f"a size is two whole numbers [px], got {height!r} and {width!r}")
        if self.lr_size is not None and (height, width) != (self.lr_size, self.lr_size):
            raise FsrstError(
                f"the input is {width}x{height}, {self.model} takes {self.lr_size}x{self.lr_size};"
                " cut out the head and resize it"
            )
        small = min(height, width) < MIN_SIDE
        if small or height * width > MAX_SIDE**2 or max(height, width) > MAX_LONG_SIDE:
            advice = "too small to show a face" if small else "cut out the head, or reduce it"
            raise FsrstError(
                f"the input is {width}x{height}; {self.model} enlarges heads from"
                f" {MIN_SIDE}x{MIN_SIDE} to {MAX_SIDE}x{MAX_SIDE}, the longer side up to"
                f" {MAX_LONG_SIDE}: {advice}"
            )

    def upscale_batch(self, pictures: Iterable[Pixels]) -> list[Pixels]:
        """Upscale pictures of one size that share the references, each as ``upscaler(lr)`` does;
        none for none. Large ones are run a few at a time, so memory is bounded.

        Raises
        ------
        FsrstError
            If one is no uint8 RGB picture, not of the model's size or not of the first's.
        """
        if not isinstance(pictures, Iterable):
            raise FsrstError(f"a batch is a list of pictures, got {pictures!r}")
        pictures = list(pictures)
        results: dict[int, Pixels] = {}
        for picture in pictures:
            self._check_lr(picture, pictures[0])
        area = pictures[0].shape[0] * pictures[0].shape[1] if len(pictures) else 1
        together = max(1, min(MAX_BATCH, MAX_BATCH_PIXELS // area))
        greys = [monochrome(picture) for picture in pictures]
        for grey in set(greys):
            members = [i for i, other in enumerate(greys) if other == grey]
            for start in range(0, len(members), together):
                chosen = members[start : start + together]
                lr = np.stack([to_planes(pictures[i]) for i in chosen])
                made = self._call(lr, grey)()
                for i, planes in zip(chosen, made, strict=True):
                    results[i] = as_grey_as(pictures[i], from_planes(planes))
        return [results[i] for i in range(len(pictures))]

    def frame_call(self, lr: Pixels) -> Callable[[], Floats]:
        """A call of the frames' graph alone (of a self-ensemble two; twice as many where the
        references alone are grey), for timing: float32 (1, 3, h, w) in, the references encoded
        before, float32 (1, 3, s*h, s*w) out.

        Raises
        ------
        FsrstError
            As ``upscaler(lr)``.
        """
        self.check(lr)
        return self._call(to_planes(lr)[None], monochrome(lr))

    def explain(self, lr: Pixels) -> tuple[Pixels, Floats]:
        """Upscale one picture and say where its detail comes from.

        Returns the result, and the share of every reference in each pixel of it as float32
        (N, s*h, s*w); what is missing from a sum of 1 came from no reference. OpenVINO computes
        both in float32, so in bf16 and int8 the result is some levels off ``upscaler(lr)``.

        Raises
        ------
        FsrstError
            If the model cannot say it, or the picture is not of its size.
        """
        if not self.explains:
            raise FsrstError(
                f"{self.model} does not say where its detail comes from; use fsrst2 or fsrst2-small"
            )
        self.check(lr)
        height, width = lr.shape[:2]
        planes = to_planes(lr)[None]
        sr, shares = self._explained(planes, self._states_for(planes, monochrome(lr)))
        used = self._used(height, width)
        every = np.zeros((self.references, *shares.shape[2:]), np.float32)
        every[used] = shares[0, : len(used)]
        return as_grey_as(lr, from_planes(sr[0])), every

    def _call(self, lr: Floats, grey: bool) -> Callable[[], Floats]:
        """What upscales inputs (B, 3, h, w), ``grey`` or not; their references are encoded here."""
        states = self._states_for(lr, grey)
        if len(states) == 1:
            return lambda: self._runner.upscale(lr, *states[0])
        return lambda: self._explained(lr, states)[0]

    def _explained(self, lr: Floats, states: list[tuple[Floats, ...]]) -> tuple[Floats, Floats]:
        """Inputs (B, 3, h, w) upscaled, and the references' shares; of two states (``_kinds``) the
        light of the second where detail came from references."""
        if len(states) == 1:
            return self._runner.explain(lr, *states[0])
        plain, greys = states
        colours = self._runner.upscale(lr, *plain).copy()  # it is valid until the next call
        light, shares = self._runner.explain(light_of(lr), *greys)
        return with_light_of(colours, light, shares.sum(axis=1, keepdims=True)), shares

    def _states_for(self, lr: Floats, grey: bool) -> list[tuple[Floats, ...]]:
        """The references of each of the ``_kinds``, encoded, for a batch of inputs (B, 3, h, w)."""
        batch, _, height, width = lr.shape
        states = [self._state_for(height, width, kind) for kind in self._kinds(height, width, grey)]
        if batch == 1:
            return states
        return [tuple(np.repeat(tensor, batch, axis=0) for tensor in state) for state in states]

    def _kinds(self, height: int, width: int, grey: bool) -> tuple[str, ...]:
        """The references that inputs of one size [px], ``grey`` or not, are upscaled with; two
        kinds: their colours without any, their light with grey ones.

        The search compares colours: those of an input fit nowhere in a grey reference.
        """
        used = self._used(height, width)
        if not used:
            return ("none",)
        if grey:
            return ("grey",)
        return ("none", "grey") if self.explains and self._grey_alone else ("as set",)

    def _state_for(self, height: int, width: int, kind: str) -> tuple[Floats, ...]:
        """The references encoded for inputs of one size [px]: "as set", "grey" or "none". They are
        kept until the size or the references change."""
        if self._size != (height, width):
            self._states, self._size = {}, (height, width)
        if kind not in self._states:
            high, wide = self.scale * height, self.scale * width
            used = [] if kind == "none" else self._used(height, width)
            # a graph has at least one reference; present = 0 takes it out
            refs = np.zeros((1, max(1, len(used)), 3, high, wide), dtype=np.float32)
            present = np.zeros(refs.shape[:2], dtype=np.float32)
            for place, i in enumerate(used):
                shown = greyed(self._shown[i]) if kind == "grey" else self._shown[i]
                refs[0, place], present[0, place] = to_planes(shown), 1
            self._states[kind] = self._runner.encode(refs, present)
        return self._states[kind]

    def _used(self, height: int, width: int) -> list[int]:
        """Positions of the references that inputs of one size [px] are upscaled with."""
        left_out = self.left_out(height, width)
        return [i for i in range(self.references) if i not in left_out]

    def _check_lr(self, picture: Pixels, first: Pixels) -> None:
        check_picture(picture, "the input")
        height, width = picture.shape[:2]
        self.check_size(height, width)
        if picture.shape != first.shape:
            raise FsrstError(
                f"a batch holds pictures of one size: got {width}x{height} beside"
                f" {first.shape[1]}x{first.shape[0]}"
            )


def open_upscaler(
    model: str | Path = "fsrst2",
    backend: str = "auto",
    *,
    precision: str | None = None,
    threads: int | None = None,
    self_ensemble: bool = False,
) -> Upscaler:
    """Open a model for upscaling.

    Parameters
    ----------
    model
        Name of a shipped model (``shipped_models()``; it goes before a folder so named), or a path:
        an exported ``*.upscale.onnx`` or the STEM given to ``fsrst export``, a ``.safetensors``
        file (torch backend), or a folder that holds one of them.
    backend
        ``onnxruntime``, ``openvino``, ``torch``, or ``auto``: ONNX Runtime, whose start is the
        fastest and which every installation has; OpenVINO when ``precision`` asks for what only it
        computes in; torch for ``.safetensors``. So the same call gives the same pixels anywhere.
    precision
        ``f32`` (default); with OpenVINO also ``bf16`` and ``int8``.
    threads
        Default: one per physical core that this process may use; never more than the machine has.
    self_ensemble
        Each picture is upscaled twice, as it is and in the mirror, and the mean is taken
        (``fsrst.runtime.self_ensemble``): better by 0.05 to 0.19 dB, in twice the time, with twice
        the memory for references.

    Raises
    ------
    FsrstError
        For an unknown name, a missing or damaged file, a backend that is not installed.
    """
    _one_of("backend", backend, BACKENDS)
    if precision is not None:
        _one_of("precision", precision, PRECISIONS["openvino"])
    if threads is not None and (not isinstance(threads, int | np.integer) or threads < 1):
        raise FsrstError(f"threads must be a whole number of 1 or more, got {threads!r}")
    if not isinstance(model, str | Path) or not str(model):
        raise FsrstError(f"model must be a name or a path, got {model!r}")
    name = str(model)
    stem, suffix = find(model, backend)
    backend = _choose(backend, suffix, precision)
    precision = precision or "f32"
    if precision not in PRECISIONS[backend]:
        raise FsrstError(
            f"backend {backend} computes in {' or '.join(PRECISIONS[backend])}, not {precision};"
            " use backend openvino"
        )
    threads = min(threads or physical_cores(), os.cpu_count() or sys.maxsize)
    runner = _open_backend(backend, stem, precision, threads)
    suffix = ".int8.xml" if precision == "int8" else GRAPH_SUFFIX
    graph = None if backend == "torch" else stem.parent / f"{stem.name}{suffix}"
    return Upscaler(name, SelfEnsemble(runner) if self_ensemble else runner, graph)


def _open_backend(backend: str, stem: Path, precision: str, threads: int) -> Backend:
    if backend == "torch":
        from fsrst.runtime.torch_backend import TorchBackend

        return TorchBackend(_beside(stem, TORCH_SUFFIX), threads=threads)
    if backend == "openvino":
        from fsrst.runtime.openvino_backend import OpenVinoBackend

        return OpenVinoBackend(stem, precision=precision, threads=threads)
    from fsrst.runtime.onnx_backend import OnnxBackend

    return OnnxBackend(stem, threads=threads)


def _choose(backend: str, suffix: str, precision: str | None) -> str:
    if suffix == TORCH_SUFFIX:
        if backend not in ("auto", "torch"):
            raise FsrstError(
                f"backend {backend} runs exported files, not {TORCH_SUFFIX}; write them with"
                " `fsrst export` or use backend torch"
            )
        return "torch"
    if backend != "auto":
        return backend
    return "openvino" if precision in ("bf16", "int8") else "onnxruntime"


def _beside(stem: Path, suffix: str) -> Path:
    path = stem.parent / f"{stem.name}{suffix}"
    if not path.is_file():
        raise FsrstError(f"backend torch needs {path}, which does not exist; use another backend")
    return path


def _one_of(what: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        hint = did_you_mean(value, allowed)
        raise FsrstError(f"unknown {what} {value!r}; there are {', '.join(allowed)}{hint}")
