"""The systems that FSRST is compared with, behind the same interface.

Each file says its source, the licence of the original, and every deviation from it. No line of
anyone's code: all is written from the papers and from published facts.
"""

from collections.abc import Callable
from functools import partial

from fsrst.models.baselines.bicubic import Bicubic
from fsrst.models.baselines.hime import HIME, HIMESmall
from fsrst.models.baselines.resnet import ResNet
from fsrst.models.baselines.span import SPAN
from fsrst.models.interface import ReferenceSR

__all__ = ["BASELINES"]

BASELINES: dict[str, Callable[..., ReferenceSR]] = {
    "bicubic": Bicubic,
    "resnet": partial(ResNet, name="resnet", width=64, blocks=34),
    "resnet-small": partial(ResNet, name="resnet-small", width=32, blocks=46),
    "span": SPAN,
    "hime-small": HIMESmall,
    "hime": HIME,
}
