"""Training options: one typed class, read from YAML; unknown keys are named with their nearest."""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fsrst.data.augmentation import Augmentation
from fsrst.errors import FsrstError, did_you_mean


class TrainOptions(BaseModel):
    """Everything a training run depends on. Amounts are counted in samples, so that batch size and
    number of processes can change without touching the rest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str  # a name of fsrst.models.MODELS
    model_options: dict[str, Any] = {}  # e.g. {scale: 8}
    init_from: str | None = None  # weights file to start from (same model); None: random
    data: list[str] = Field(min_length=1)  # prepared data sets
    large_data: list[str] = []  # sets of larger pictures, for large inputs
    # share of the batches that show them, a quarter as many; each counts as a usual one
    large_batches: float = Field(0.0, ge=0, le=1)
    split: str = "train"
    out: str  # folder of the run: checkpoint, metrics, weights
    n_references: int = Field(3, ge=0)
    targets_per_set: int = Field(1, gt=0)  # targets in a row that share a reference set (faster)
    samples: int = Field(gt=0)  # length of the run [samples]
    loss: Literal["l1", "log-l1"] = "l1"  # fsrst.models.interface.PICTURE_ERRORS
    batch_size: int = Field(8, gt=0)  # over all processes
    optimizer: Literal["adam", "muon"] = "adam"  # fsrst.muon
    learning_rate: float = Field(1e-4, gt=0)
    alignment_learning_rate: float = Field(1e-5, gt=0)  # of parameters under `alignment`
    schedule: Literal["cosine", "steps"] = "cosine"
    warmup_samples: int = Field(0, ge=0)  # linear, from batch_size / (warmup_samples + batch_size)
    milestones: list[float] = []  # "steps": fractions of the run at which the rate is halved
    ema: float = Field(0.0, ge=0, lt=1)  # decay per step of the averaged weights; 0: none
    clip_norm: float | None = Field(None, gt=0)  # largest gradient norm
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    channels_last: bool = False
    augmentation: Augmentation = Augmentation()
    holdout_identities: int = Field(
        0, ge=0
    )  # per data set: not trained on, PSNR at each checkpoint
    checkpoint_samples: int = Field(10_000, gt=0)
    log_samples: int = Field(1_000, gt=0)
    seed: int = Field(13, ge=0, lt=2**32)  # what NumPy takes
    accelerator: str = "auto"  # Lightning Fabric's: cpu, cuda, mps, auto
    devices: int | Literal["auto"] = "auto"
    nodes: int = Field(1, gt=0)
    threads: int | None = Field(None, gt=0)  # of torch per process; None: torch's choice

    @field_validator("augmentation", mode="before")
    @classmethod
    def _augmentation(cls, value: Any) -> Any:
        if isinstance(value, dict):
            check_keys(value, list(Augmentation.__dataclass_fields__), "augmentation: ")
            return Augmentation(**value)
        return value

    @model_validator(mode="after")
    def _large_together(self) -> "TrainOptions":
        if bool(self.large_data) != bool(self.large_batches):
            raise ValueError("large_data and large_batches go together; give both or none")
        return self

    @classmethod
    def from_yaml(cls, path: str | Path, changes: dict[str, Any] | None = None) -> "TrainOptions":
        """Read a config file; ``changes`` ({"key": value}, dots for nested) override it.

        Raises
        ------
        FsrstError
            If the file is missing, not YAML, or has an unknown key or a bad value (named).
        """
        path = Path(path)
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise FsrstError(f"cannot read config {path}: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())
            raise FsrstError(f"config {path} is not YAML: {reason}") from error
        if not isinstance(loaded, dict):
            raise FsrstError(f"config {path}: expected `key: value` lines")
        for key, value in (changes or {}).items():
            inner = loaded
            *parents, last = key.split(".")
            for parent in parents:
                inner = inner.setdefault(parent, {})
                if not isinstance(inner, dict):
                    raise FsrstError(f"--set {key}: {parent} is not a group of options")
            inner[last] = value
        try:
            check_keys(loaded, list(cls.model_fields), "")
            return cls(**loaded)
        except FsrstError as error:
            raise FsrstError(f"config {path}: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise FsrstError(f"config {path}: {where}: {first['msg']}") from error


def check_keys(given: dict[str, Any], known: list[str], where: str) -> None:
    """Refuse the first key of ``given`` that is not in ``known``, naming the nearest that is."""
    for key in given:
        if key not in known:
            hint = did_you_mean(key, known) or f"; known: {', '.join(known)}"
            raise FsrstError(f"{where}unknown key {key!r}{hint}")
