"""What is said of references: which are left out, and when they give nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsrst.cli.output import note

if TYPE_CHECKING:
    from fsrst.image import Pixels

HARDLY = 0.01  # share of all references under which it is said that they gave nothing


def note_left_out(
    too_little: list[tuple[Path, Pixels]], size: tuple[int, int], results: list[dict[str, Any]]
) -> None:
    """Name references that show too little for inputs of ``size`` (width, height) [px], once each:
    ``results`` are those before."""
    named = {path for result in results for path in result["references_left_out"]}
    width, height = size
    for path, picture in too_little:
        if str(path) not in named:
            large = min(picture.shape[0] / height, picture.shape[1] / width) >= 2
            why = " (was it enlarged, or is it blurred?)" if large else ""
            note(
                f"{path}: {picture.shape[1]}x{picture.shape[0]} shows hardly more than the input of"
                f" {width}x{height}{why}; left out"
            )


def note_if_all_too_small(
    references: list[tuple[Path, Pixels]], results: list[dict[str, Any]]
) -> None:
    """Say how large the inputs may be where not one reference shows more than they do."""
    sides = [min(picture.shape[:2]) for _, picture in references]
    asked = [r for r in results if r["references"]]  # an input is no reference of its own
    if not asked or any(len(r["references_left_out"]) < r["references"] for r in asked):
        return
    helped, least = max(sides) // 2, min(max(r["size_in"]) for r in results)
    if 32 <= helped < least:
        note(
            f"no reference was used. Larger ones would help, or --max-side {helped}, if the input"
            " is no sharper than that"
        )


def note_if_hardly_used(results: list[dict[str, Any]], heads: bool) -> None:
    """Say it where less than ``HARDLY`` of any result's detail came from the references."""
    used = [r for r in results if len(r["references_left_out"]) < len(r["reference_shares"])]
    if used and max(sum(result["reference_shares"]) for result in used) < HARDLY:
        note(
            "hardly anything of the references was used: they show another pose, another background"
            " or another day than the input"
            f"{'' if heads else ', or not the head alone as it does (--find-face)'}."
            " Pictures taken with it, as in one call or one series, help most"
        )
