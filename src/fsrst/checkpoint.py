"""What an interrupted run goes on from, and whether the run that goes on is the same."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fsrst.errors import FsrstError
from fsrst.files import written_whole
from fsrst.models import ReferenceSR
from fsrst.options import TrainOptions

MACHINE = ("threads", "devices", "nodes", "accelerator", "out")  # may change when a run goes on


@dataclass(frozen=True)
class Checkpoint:
    """A run's state in the file ``path``.

    ``pictures``: hashes of what is trained on, in the order of ``data`` and ``large_data``.
    ``start``: hash of the weights that the run began from, None: random ones.
    """

    path: Path
    options: TrainOptions
    pictures: list[str]
    start: str | None
    model: ReferenceSR
    averaged: ReferenceSR | None
    optimizer: Any

    def save(self, done: int, rows: list[str]) -> None:
        """Write the state after ``done`` samples, with the lines of metrics.csv so far."""
        state = {
            "options": self.options.model_dump_json(),
            "pictures": self.pictures,
            "started_from": self.start,
            "done": done,
            "rows": rows,
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged is not None else None,
            "optimizer": self.optimizer.state_dict(),
        }
        with written_whole(self.path) as temporary:
            torch.save(state, temporary)

    def load(self) -> tuple[int, list[str]]:
        """Put the state back into networks and optimiser; (samples done, lines of metrics.csv).

        Raises
        ------
        FsrstError
            If the file is damaged, or of other options, pictures, first weights or network.
        """
        path = self.path
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            what = f"checkpoint {path} is damaged ({type(error).__name__})"
            raise FsrstError(what) from error
        other = f"{path} was made by another version of fsrst; choose another `out`"
        try:
            saved = TrainOptions.model_validate_json(state["options"])
        except (KeyError, TypeError, ValueError) as error:
            raise FsrstError(other) from error
        self._check(state, saved)
        try:
            self.model.load_state_dict(state["model"])
            if self.averaged is not None:
                self.averaged.load_state_dict(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (KeyError, RuntimeError, ValueError) as error:  # another network's
            raise FsrstError(other) from error
        return int(state["done"]), list(state["rows"])

    def _check(self, state: dict[str, Any], saved: TrainOptions) -> None:
        """Refuse to go on with what would be another run."""
        path, options = self.path, self.options
        for field in TrainOptions.model_fields:
            before, now = getattr(saved, field), getattr(options, field)
            if field not in MACHINE and before != now:
                raise FsrstError(
                    f"{path} was made with {field} = {before!r}, the config says {now!r}; restore"
                    " it or choose another `out`"
                )
        pictures = state.get("pictures", self.pictures)  # earlier versions did not keep these
        roots = (*options.data, *options.large_data)
        for root, before, now in zip(roots, pictures, self.pictures, strict=True):
            if before != now:
                raise FsrstError(
                    f"{root} has other pictures than when {path} was made: going on would be"
                    " another run; prepare it as it was, or choose another `out`"
                )
        start = state.get("started_from", self.start)
        if start != self.start:
            raise FsrstError(
                f"{options.init_from} holds weights {self.start}, {path} began from {start}: put"
                " them back there, or choose another `out`"
            )
