"""The systems that FSRST is compared with, behind the same interface.

Each file says its source, the licence of the original, and every deviation from it. No line of
anyone's code: all is written from the papers and from published facts.
"""

from collections.abc import Callable
from functools import partial

from fsrst.models.baselines.bicubic import Bicubic
from fsrst.models.baselines.c2_extractors import C2Student, C2Teacher
from fsrst.models.baselines.c2_matching import C2Matching
from fsrst.models.baselines.hime import HIME, HIMESmall
from fsrst.models.baselines.mrefsr import MRefSR
from fsrst.models.baselines.resnet import ResNet
from fsrst.models.baselines.span import SPAN
from fsrst.models.baselines.ttsr import TTSR
from fsrst.models.interface import ReferenceSR

__all__ = ["BASELINES", "TEXTURE_BASELINES"]

BASELINES: dict[str, Callable[..., ReferenceSR]] = {
    "bicubic": Bicubic,
    "resnet": partial(ResNet, name="resnet", width=64, blocks=34),
    "resnet-small": partial(ResNet, name="resnet-small", width=32, blocks=46),
    "span": SPAN,
    "hime-small": HIMESmall,
    "hime": HIME,
}

TEXTURE_BASELINES: dict[str, Callable[..., ReferenceSR]] = {  # those that match VGG features
    "ttsr": TTSR,
    "c2-teacher": C2Teacher,
    "c2-student": C2Student,
    "c2-matching": C2Matching,
    "mrefsr": MRefSR,
}
