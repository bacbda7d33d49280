"""What a training run tells: metrics.csv, TensorBoard, and a line of progress."""

import csv
import io
import time
from pathlib import Path
from typing import Any

from fsrst.progress import Progress

COLUMNS = ("samples", "loss", "learning_rate", "gradient_norm", "holdout_psnr", "samples_per_s")


class RunLog:
    """What a run tells: rows of metrics.csv, TensorBoard, a line of progress.

    Every process has its losses and rows; one ``speaks``, to TensorBoard and to the caller.
    """

    def __init__(
        self, out: Path, done: int, rows: list[str], progress: Progress | None, *, speaks: bool
    ) -> None:
        self.rows = rows  # of metrics.csv, the title first
        self.losses: list[float] = []  # since the last row
        self._progress = progress if speaks else None
        self._board: Any = None
        if speaks:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(out), purge_step=done)
        self.start(done)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        if self._board is not None:
            self._board.close()

    def start(self, done: int) -> None:
        """Samples are timed from here on."""
        self._since, self._clock = done, time.perf_counter()

    def samples_per_s(self, done: int) -> float:
        return (done - self._since) / (time.perf_counter() - self._clock)

    def write(
        self,
        done: int,
        total: int,
        learning_rate: float,
        gradient_norm: float,
        holdout_psnr: float | None,
        samples_per_s: float,
    ) -> None:
        row = {
            "samples": done,
            "loss": sum(self.losses) / len(self.losses),
            "learning_rate": learning_rate,
            "gradient_norm": gradient_norm,
            "holdout_psnr": holdout_psnr,
            "samples_per_s": samples_per_s,
        }
        self.losses = []
        self.rows.append(_csv_row(row))
        for key in COLUMNS[1:] if self._board is not None else ():
            if row[key] is not None:
                self._board.add_scalar(key, row[key], done)
        if self._progress:
            self._progress(done, total, _describe(row))


def _csv_row(row: dict[str, float | None]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(
        [row["samples"], *("" if row[k] is None else format(row[k], ".6g") for k in COLUMNS[1:])]
    )
    return line.getvalue().strip()


def _describe(row: dict[str, float | None]) -> str:
    text = f"loss {row['loss']:.5f}, {row['samples_per_s']:.0f} samples/s"
    return text if row["holdout_psnr"] is None else f"{text}, holdout {row['holdout_psnr']:.2f} dB"
