"""Prepared data sets -> batches ``{lr, refs, present, hr}``, decoded once.

Which samples a batch holds and how they are augmented is a pure function of (seed, position in the
run). So a resumed run continues bit for bit, and two processes that halve a batch see what one saw.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from queue import Queue
from threading import Event, Thread

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from fsrst.data.augmentation import (
    HEAD_HEIGHT,
    HEAD_WIDTH,
    Augmentation,
    compose,
    cut_out,
    damage,
    draw_affine,
    draw_tones,
    move,
    relight,
)
from fsrst.data.degradation import degrade, degrade_poorly
from fsrst.data.manifest import Manifest, Sample, by_identity, evenly_spread
from fsrst.errors import FsrstError
from fsrst.files import fingerprint, written_whole
from fsrst.image import Pixels, read_image, resize_bicubic, to_planes

Batch = dict[str, Tensor]


class Store:
    """All pictures of some samples as one uint8 array (M, size, size, 3), decoded once.

    The array is a memory-mapped file ``pixels-<hash>.npy`` beside the manifest, made at the first
    use; when that folder cannot be written, it is kept in memory. The hash is of each picture's
    name, length and time of change: a picture replaced by an older one is seen too.
    """

    def __init__(self, manifest: Manifest, samples: Sequence[Sample]) -> None:
        files = sorted({file for s in samples for file in (s.target, *s.references)})
        self.row = {file: i for i, file in enumerate(files)}
        self.size = size = int(manifest.info["size"])
        lines = (f"{file} {fingerprint(manifest.root / file)}" for file in files)
        key = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
        path = manifest.root / f"pixels-{key}.npy"
        if not path.is_file():
            pixels = np.empty((len(files), size, size, 3), np.uint8)
            for i, file in enumerate(files):
                picture = read_image(manifest.root / file)
                if picture.shape != pixels.shape[1:]:
                    raise FsrstError(
                        f"{manifest.root / file} is {picture.shape[1]}x{picture.shape[0]} px,"
                        f" dataset.json says {size}; prepare again"
                    )
                pixels[i] = picture
            if not os.access(manifest.root, os.W_OK):
                self.pixels = pixels
                return
            with written_whole(path) as temporary:
                np.save(temporary, pixels)
        self.pixels = np.load(path, mmap_mode="r")

    def __getitem__(self, file: str) -> Pixels:
        picture: Pixels = self.pixels[self.row[file]]
        return picture


class TrainingSet:
    """Samples of several prepared sets as batches.

    Parameters
    ----------
    manifests, split
        Where the samples come from. Pictures larger than the smallest set's are cropped to that
        size, target and references at one random place: a nearer face, or a part of one; with
        ``augmentation.reduced`` also to a larger part, which is reduced.
    scale, n_references
        Enlargement, and references per sample: drawn at random from those the sample lists, with
        gaps marked in ``present`` when it lists fewer.
    targets_per_set
        Number of consecutive targets of one person that share one set of references (it is encoded
        once): the sample's own, and others drawn from the pictures that are not among the
        references, or where none is left, the own again.
    holdout_identities
        Number of identities per set, drawn by ``seed``, that are kept out of all sets and given by
        ``holdout``: the same people may lie in two sets.
    kept_out
        Further identities that are kept out.
    """

    def __init__(
        self,
        manifests: Sequence[Manifest],
        split: str,
        *,
        scale: int,
        n_references: int,
        augmentation: Augmentation,
        seed: int,
        targets_per_set: int = 1,
        holdout_identities: int = 0,
        kept_out: Collection[str] = (),
    ) -> None:
        self.size = min(int(manifest.info["size"]) for manifest in manifests)
        self.scale = scale
        self.n_references = n_references
        self.targets_per_set = targets_per_set
        self.augmentation = augmentation
        self.seed = seed
        self._shuffled = (-1, np.empty(0, int))  # epoch and its order
        self.samples: list[tuple[Store, Sample]] = []
        self.holdout: list[tuple[Store, Sample]] = []
        people = [list(by_identity(manifest.split(split))) for manifest in manifests]
        self.kept_out = set(kept_out)
        for names in people:
            drawn = np.random.default_rng([seed, 7]).permutation(names)
            self.kept_out.update(drawn[:holdout_identities])
        for manifest, names in zip(manifests, people, strict=True):
            if self.kept_out.issuperset(names):
                raise FsrstError(
                    f"{manifest.root}: holdout_identities {holdout_identities} leaves none of"
                    f" {len(names)} identities to train on"
                )
            members = manifest.split(split)
            store = Store(manifest, members)
            for sample in members:
                group = self.holdout if sample.identity in self.kept_out else self.samples
                group.append((store, sample))
        self._of_set: dict[Store, list[Sample]] = defaultdict(list)
        for store, sample in self.samples:
            self._of_set[store].append(sample)

    def __len__(self) -> int:
        return len(self.samples)

    def batch(self, start: int, count: int) -> Batch:
        """Targets ``start`` to ``start + count`` of the endless, shuffled run.

        Keys and shapes: ``lr`` (B, 3, h, w), ``hr`` (B, 3, s*h, s*w), ``refs``
        (B / K, N, 3, s*h, s*w), ``present`` (B / K, N) of 0 and 1, where K is ``targets_per_set``;
        both arguments are multiples of it.
        """
        items = []
        for position in range(start, start + count, self.targets_per_set):
            epoch, within = divmod(position // self.targets_per_set, len(self.samples))
            store, sample = self.samples[self._order(epoch)[within]]
            rng = np.random.default_rng([self.seed, 2, position])
            items.append(self._item(store, sample, rng))
        return _stack(items)

    def _order(self, epoch: int) -> np.ndarray:
        if self._shuffled[0] != epoch:
            rng = np.random.default_rng([self.seed, 1, epoch])
            self._shuffled = (epoch, rng.permutation(len(self.samples)))
        return self._shuffled[1]

    def holdout_batches(self, batch_size: int, limit: int) -> Iterator[Batch]:
        """At most ``limit`` samples that are never trained on, evenly spread, as they are."""
        chosen = evenly_spread(self.holdout, limit)
        for start in range(0, len(chosen), batch_size):
            yield _stack(
                [
                    self._tensors(
                        [self._taken(store, sample.target, self._cut(store))],
                        [
                            self._taken(store, file, self._cut(store))
                            for file in sample.references[: self.n_references]
                        ],
                    )
                    for store, sample in chosen[start : start + batch_size]
                ]
            )

    def _item(self, store: Store, sample: Sample, rng: Generator) -> Batch:
        options = self.augmentation
        shown = sample
        if rng.random() < options.wrong_person:
            others = self._of_set[store]
            if any(other.identity != sample.identity for other in others):
                while shown.identity == sample.identity:
                    shown = others[rng.integers(len(others))]
        pool = shown.references
        if shown.identity != sample.identity:
            pool = (shown.target, *pool)
        count = min(self.n_references, len(pool))
        if options.one_reference and rng.random() < options.one_reference:
            count = min(count, 1)
        elif rng.random() < options.reference_dropout:
            count = int(rng.integers(count)) if count else 0
        chosen = rng.permutation(len(pool))[:count]

        shared = draw_affine(rng, options.degrees, options.translate, options.zoom)
        files = [sample.target]
        if self.targets_per_set > 1:
            kept = {pool[i] for i in chosen}
            free = [file for file in sample.references if file not in kept] or files
            files += list(rng.choice(free, self.targets_per_set - 1))
        cut = self._cut(store, rng)
        tones = draw_tones(rng, options.light, options.colour)
        hrs = [relight(move(self._taken(store, file, cut), shared), tones) for file in files]
        change = not (options.refs_as_found and rng.random() < options.refs_as_found)
        background = self._background(store, rng) if change and options.refs_background else None
        refs = []
        for i in chosen:
            own = own_tones = None
            if change:
                own = draw_affine(
                    rng, options.refs_degrees, options.refs_translate, options.refs_zoom
                )
                own_tones = draw_tones(rng, options.refs_light, options.refs_colour)
            reference = store[pool[i]]
            if background is not None:
                head = rng.uniform(*HEAD_WIDTH), rng.uniform(*HEAD_HEIGHT)
                reference = cut_out(reference, background, *head)
            reference = move(self._sized(reference[cut]), compose(shared, own))
            reference = relight(relight(reference, tones), own_tones)
            refs.append(damage(reference, rng, options.refs_damage if change else 0))
        if options.flip and rng.random() < 0.5:
            hrs, refs = [hr[:, ::-1] for hr in hrs], [ref[:, ::-1] for ref in refs]
        if options.quarter_turns:
            turns = int(rng.integers(4))
            hrs, refs = [np.rot90(hr, turns) for hr in hrs], [np.rot90(r, turns) for r in refs]
        poor = options.lr_damage > 0 and rng.random() < options.lr_damage
        lrs = [degrade_poorly(hr, self.scale, rng) for hr in hrs] if poor else None
        return self._tensors(hrs, refs, lrs)

    def _cut(self, store: Store, rng: Generator | None = None) -> tuple[slice, slice]:
        """Where pictures of ``store`` are cropped: anywhere, or without ``rng`` in the middle."""
        spare = store.size - self.size
        if spare == 0:
            return slice(None), slice(None)
        side = self.size
        if rng is None:
            top = left = spare // 2
        else:
            reduced = self.augmentation.reduced
            if reduced and rng.random() < reduced:
                side += int(rng.integers(1, spare + 1))
            top, left = rng.integers(store.size - side + 1, size=2)
        return slice(top, top + side), slice(left, left + side)

    def _background(self, store: Store, rng: Generator) -> Pixels | None:
        """By ``refs_background`` a tone or a picture of ``store``, or else None."""
        if rng.random() >= self.augmentation.refs_background:
            return None
        if rng.random() < 0.5:
            return rng.integers(256, size=3, dtype=np.uint8)
        others = self._of_set[store]
        return store[others[rng.integers(len(others))].target]

    def _taken(self, store: Store, file: str, cut: tuple[slice, slice]) -> Pixels:
        """That part of a picture of ``store``, in the samples' size."""
        return self._sized(store[file][cut])

    def _sized(self, picture: Pixels) -> Pixels:
        return resize_bicubic(picture, self.size, self.size)

    def _tensors(
        self, hrs: Sequence[Pixels], refs: Sequence[Pixels], lrs: Sequence[Pixels] | None = None
    ) -> Batch:
        """Without ``lrs`` the inputs are the reduced ``hrs``."""
        if lrs is None:
            lrs = [degrade(hr, self.scale) for hr in hrs]
        all_refs = np.zeros((1, self.n_references, 3, self.size, self.size), np.float32)
        present = np.zeros((1, self.n_references), np.float32)
        for i, ref in enumerate(refs):
            all_refs[0, i], present[0, i] = to_planes(ref), 1
        return {
            "lr": torch.from_numpy(np.stack([to_planes(lr) for lr in lrs])),
            "refs": torch.from_numpy(all_refs),
            "present": torch.from_numpy(present),
            "hr": torch.from_numpy(np.stack([to_planes(hr) for hr in hrs])),
        }


class SeveralSizes:
    """Batches of ``usual``, and a share of them of ``large`` instead, whose pictures are larger.

    Those hold a ``FEWER``-th of the samples, so that they take no longer where pictures have twice
    the side. Which they are is drawn by the seed for every ``batch_size`` targets of the run: all
    processes that share a batch draw the same. What is held out is that of ``usual``.

    Raises
    ------
    FsrstError
        If ``large`` is no larger.
    """

    FEWER = 4

    def __init__(
        self, usual: TrainingSet, large: TrainingSet, share: float, batch_size: int
    ) -> None:
        if large.size <= usual.size:
            raise FsrstError(
                f"large_data holds pictures of {large.size} px, data of {usual.size}: they must be"
                " larger"
            )
        self.usual, self.large, self.share, self.batch_size = usual, large, share, batch_size
        self.holdout, self.holdout_batches = usual.holdout, usual.holdout_batches

    def batch(self, start: int, count: int) -> Batch:
        """As that of ``TrainingSet``: ``count`` targets, or a ``FEWER``-th of it.

        Both arguments are multiples of ``FEWER`` times ``targets_per_set``.
        """
        rng = np.random.default_rng([self.usual.seed, 3, start // self.batch_size])
        if rng.random() >= self.share:
            return self.usual.batch(start, count)
        return self.large.batch(start // self.FEWER, count // self.FEWER)


Data = TrainingSet | SeveralSizes


def prefetched(dataset: Data, spans: Iterator[tuple[int, int]]) -> Iterator[Batch]:
    """Batches of the given (start, count) spans, two made ahead in a thread.

    Decoding and resampling release the interpreter, so the network and the loader share the cores.
    """
    queue: Queue[Batch | BaseException | None] = Queue(maxsize=2)
    stop = Event()

    def produce() -> None:
        try:
            for start, count in spans:
                if stop.is_set():
                    return
                queue.put(dataset.batch(start, count))
            queue.put(None)
        except BaseException as error:  # handed to the consumer, which raises it
            queue.put(error)

    thread = Thread(target=produce, daemon=True)
    thread.start()
    try:
        while (batch := queue.get()) is not None:
            if isinstance(batch, BaseException):
                raise batch
            yield batch
    finally:
        stop.set()
        while thread.is_alive():  # unblock a producer that waits for room
            while not queue.empty():
                queue.get_nowait()
            thread.join(timeout=0.05)


def _stack(items: Sequence[Batch]) -> Batch:
    return {key: torch.cat([item[key] for item in items]) for key in items[0]}
