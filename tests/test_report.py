"""What a person reads and looks at: tables with the paper's numbers, strips, sheets."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fsrst.errors import FsrstError
from fsrst.evaluate.explanation import COLOURS, NONE, colours_of, explanation
from fsrst.evaluate.report import paper, report, report_data
from fsrst.evaluate.strips import Panel, sheet, strip
from fsrst.image import Pixels

MEANS = {
    "psnr_mean": 25.0, "psnr_pooled": 24.6, "psnr_y": 26.1, "ssim": 0.7812, "ssim_y": 0.7931,
    "psnr_spread": 1.2, "psnr_standard_error": 0.25, "n": 40, "identities": 5,
}  # fmt: skip
SUMMARY: dict[str, Any] = {
    "format": 1, "model": "fsrst-photo", "network": "fsrst", "weights_hash": "ab12ab12ab12ab12",
    "parameters": 2552576, "options": {"scale": 4}, "backend": "onnxruntime", "precision": "f32",
    "scale": 4, "data": {"name": "stills", "hash": "feed" * 4, "split": "val"},
    "n_references": 3, "seed": 13, "training_samples": 40000, "version": "0.1.0",
    "commit": "abc123",
    "command": "fsrst evaluate --data stills --model fsrst-photo -o results/photo",
    "conditions": {
        "bicubic": MEANS,
        "right": {**MEANS, "psnr_mean": 27.312},
        "none": {**MEANS, "psnr_mean": 27.001},
        "wrong": {**MEANS, "psnr_mean": 26.951},
    },
    "worth_of_references_db": 0.311, "worth_of_references_standard_error_db": 0.021,
    "harm_of_wrong_db": 0.05, "harm_of_wrong_standard_error_db": 0.012,
}  # fmt: skip


def written(folder: Path, **changes: Any) -> Path:
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps({**copy.deepcopy(SUMMARY), **changes}))
    return folder


def other_data(name: str) -> dict[str, str]:
    return {"name": name, "hash": "0" * 16, "split": "val"}


def rows_of(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_three_columns_beside_bicubic(tmp_path: Path) -> None:
    text = report([written(tmp_path / "a")])
    title, _, row, *_ = rows_of(text)
    assert title[2:] == [
        "bicubic", "right references", "no references", "wrong person's",
        "references are worth", "wrong ones harm",
    ]  # fmt: skip
    assert row == [
        "fsrst-photo (onnxruntime f32)", "3", "25.00", "27.31", "27.00", "26.95",
        "+0.311 ± 0.021", "+0.050 ± 0.012",
    ]  # fmt: skip
    assert "stills, val, 4x: 40 pictures of 5 people" in text
    assert "`fsrst evaluate --data stills --model fsrst-photo -o results/photo`" in text
    assert "weights ab12ab12ab12ab12, training seed 13, fsrst 0.1.0, commit abc123" in text


def test_every_measure_is_named(tmp_path: Path) -> None:
    text = report([written(tmp_path / "a")])
    titles = ["PSNR pooled [dB]", "PSNR of luma [dB]", "SSIM", "SSIM of luma"]
    assert "PSNR [dB], mean of pictures" in text
    assert [cell for row in rows_of(text) for cell in row if cell in titles] == titles
    assert "identity distance" not in text
    assert "ST-LPIPS" not in text
    more = {**MEANS, "identity_distance": 0.4567, "st_lpips": 0.3214}
    conditions = dict.fromkeys(SUMMARY["conditions"], more)
    out = written(tmp_path / "b", conditions=conditions, identity_without_detection=2)
    text = report([out])
    assert "0.457" in text
    assert "0.321" in text
    assert "on 2 of 40 truths no face was detected" in text
    assert not re.search(r"(?<!ST-)LPIPS", text)


def test_tables_are_whole(tmp_path: Path) -> None:
    text = report([written(tmp_path / "a"), written(tmp_path / "b", model="other")])
    width = 0
    for line in text.splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        width = width or line.count("|")
        assert line.count("|") == width, line


def test_results_on_one_data_set_share_a_table(tmp_path: Path) -> None:
    folders = [
        written(tmp_path / "a"),
        written(tmp_path / "b", model="fsrst-small-photo"),
        written(tmp_path / "c", data=other_data("video")),
    ]
    text = report(folders)
    assert text.count("PSNR [dB], mean of pictures") == 2
    first = text[: text.index("### video")]
    assert "fsrst-photo" in first
    assert "fsrst-small-photo" in first


def test_other_pictures_have_a_table_of_their_own(tmp_path: Path) -> None:
    """Older summaries name the manifest alone: they stay with the set of that name."""
    data = other_data("photo")
    folders = [
        written(tmp_path / "old", data=data),
        written(tmp_path / "a", data={**data, "pictures": "1"}),
        written(tmp_path / "b", data={**data, "pictures": "1"}),
    ]
    assert report(folders).count("PSNR [dB], mean of pictures") == 1
    folders.append(written(tmp_path / "other", data={**data, "pictures": "2"}))
    assert report(folders).count("PSNR [dB], mean of pictures") == 2


def test_missing_conditions_are_dashes(tmp_path: Path) -> None:
    conditions = dict.fromkeys(("bicubic", "right"), MEANS)
    out = written(
        tmp_path / "a", conditions=conditions, worth_of_references_db=None, harm_of_wrong_db=None
    )
    assert rows_of(report([out]))[2][3:] == ["25.00", "-", "-", "-", "-"]


def test_the_papers_numbers_are_marked_as_other_data(tmp_path: Path) -> None:
    text = report([written(tmp_path / "a")])
    assert "DFD, other data" in text
    assert "not comparable" in text
    assert "32.08 / 0.9308" in text


PREPARED = {"prepare": "celebamask-hq", "partial": False, "size": 128}


@pytest.mark.parametrize(
    "changes",
    [
        {"prepared": {**PREPARED, "prepare": "synthetic"}},
        {"prepared": {**PREPARED, "partial": True}},
        {"prepared": {**PREPARED, "size": 64}},
        {"prepared": {}},
        {"scale": 8},
        {"data": {**other_data("celebamask-hq"), "split": "train"}},
    ],
)
def test_the_papers_numbers_do_not_apply(tmp_path: Path, changes: dict[str, Any]) -> None:
    data = {**other_data("celebamask-hq"), "split": "test"}
    out = written(tmp_path / "a", **{"data": data, "prepared": PREPARED, **changes})
    assert "CelebAMask-HQ, other data" in report([out])


def test_fewer_references_than_asked_are_said(tmp_path: Path) -> None:
    assert rows_of(report([written(tmp_path / "a", references_listed=1.75)]))[2][1] == "1.8 of 3"
    assert rows_of(report([written(tmp_path / "b", references_listed=3)]))[2][1] == "3"


def test_rows_of_one_model_with_several_numbers_of_references_are_told_apart(
    tmp_path: Path,
) -> None:
    folders = [
        written(tmp_path / "a", n_references=1),
        written(tmp_path / "b", n_references=3, references_listed=1.75),
        written(tmp_path / "c", model="other"),
    ]
    labels = [row[0] for row in rows_of(report(folders)) if row[1] == "SSIM"]
    alike = "fsrst-photo (onnxruntime f32), references: "
    assert labels == [f"{alike}1", f"{alike}1.8 of 3", "other (onnxruntime f32)"]


def test_the_papers_numbers_apply_on_its_data(tmp_path: Path) -> None:
    data = {**other_data("anything"), "split": "test"}
    out = written(tmp_path / "a", data=data, prepared=PREPARED)
    assert report_data([out])["paper"]["applies"] == ["CelebAMask-HQ"]
    text = report([out])
    assert "other data" not in text
    assert "29.28 / 0.8739" in text
    assert "32.08" not in text  # DFD was not tested


def test_paper_json_holds_the_printed_numbers() -> None:
    numbers = paper()
    table1 = {row["model"]: row for row in numbers["table1"]["rows"]}
    assert set(table1) == {"TTSR", "MRefSR", "C2-Matching", "HIME", "FSRST-small", "FSRST"}
    for row in table1.values():
        assert set(numbers["data"]) < set(row)
    assert table1["FSRST-small"]["VoxCeleb2"] == [31.6064, 0.9174]
    # Table 2's last row is Table 1's
    assert numbers["table2"]["rows"][-1]["DFD"] == table1["FSRST"]["DFD"]
    assert [row["references"] for row in numbers["table2"]["rows"]] == [0, 1, 3]


def test_report_as_data_is_json(tmp_path: Path) -> None:
    data = json.loads(json.dumps(report_data([written(tmp_path / "a")])))
    assert data["results"][0]["worth_of_references_db"] == 0.311
    assert data["paper"]["table1"]["source"] == "Table 1"


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_a_folder_without_scores(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    with pytest.raises(FsrstError, match="score it"):
        report([tmp_path])
    with pytest.raises(FsrstError, match="at least one"):
        report([])


def grey(height: int, width: int, value: int = 100) -> Pixels:
    return np.full((height, width, 3), value, np.uint8)


def test_strip_sizes() -> None:
    plain = strip([Panel("", grey(32, 32)), Panel("", grey(128, 128))], height=128)
    assert plain.dtype == np.uint8
    assert plain.shape == (128 + 2 * 4, 4 + 2 * (128 + 4), 3)
    titled = strip([Panel("a", grey(32, 32), "1\n2")], height=128)
    assert titled.shape[0] == 128 + 2 * 4 + 3 * 16  # a title line, two caption lines
    wide = strip([Panel("", grey(50, 100))], height=200)
    assert wide.shape[1] == 2 * 6 + 400


def test_small_pictures_are_enlarged_by_nearest_neighbour() -> None:
    lr = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    whole = strip([Panel("", lr)], height=128)
    assert np.array_equal(whole[4:132:8, 4:132:8], lr)
    assert np.array_equal(whole[11:132:8, 11:132:8], lr)


def test_a_map_has_the_colours_of_the_references() -> None:
    """The left half comes from the first, the right half from the second, below from none."""
    black = grey(256, 256, 0)
    shares = np.zeros((2, 256, 256), np.float32)
    shares[0, :128, :128] = shares[1, :128, 128:] = 1
    shown = explanation(black[::4, ::4], black, [black, black], shares)
    line, gap = 26, 8  # of a title, and between panels
    painted, tinted = (shown[gap + line :][:256, gap + n * (256 + gap) :][:, :256] for n in (2, 3))
    assert np.array_equal(painted[64, [0, 127]], COLOURS[[0, 0]])
    assert np.array_equal(painted[64, [128, 255]], COLOURS[[1, 1]])
    assert (painted[128:] == NONE).all()
    assert np.abs(tinted - painted / 4).max() < 1  # a black face
    first, second = ((shown[320:] == colour).all(axis=2) for colour in COLOURS[:2])  # frames
    assert np.flatnonzero(first.any(axis=0)).max() < 270 < np.flatnonzero(second.any(axis=0)).min()


def test_references_that_were_left_out_are_called_so() -> None:
    black, shares = grey(256, 256, 0), np.zeros((2, 256, 256), np.float32)
    given = black[::4, ::4], black, [black, black], shares
    said, before = explanation(*given, [1]), explanation(*given)
    changed = np.flatnonzero((said != before).any(axis=(0, 2)))
    assert changed.size and changed.min() > 256  # the second reference's line alone


def test_every_reference_has_a_colour_of_its_own() -> None:
    """Also beyond the eight that have names: as far apart as those are from each other."""
    count = 24
    colours = colours_of(count)
    assert np.array_equal(colours[:8], COLOURS) and colours_of(0).shape == (0, 3)
    taken = [*colours, np.full(3, NONE)]
    apart = [np.abs(a - b).sum() for i, a in enumerate(taken) for b in taken[:i]]
    assert min(apart) > 70  # the first eight's: 82
    assert len(np.unique(colours_of(500), axis=0)) == 500
    black, shares = grey(256, 256, 0), np.zeros((count, 256, 256), np.float32)
    shares[count - 1] = 1
    shown = explanation(black[::4, ::4], black, [black] * count, shares)
    assert (shown == colours[-1].round()).all(axis=2).sum() > 256 * 256  # map and frame


def test_text_stays_over_its_own_picture() -> None:
    long = "a title that is much too long for a picture of this width by any measure"
    whole = strip([Panel(long, grey(64, 64, 255)), Panel("", grey(64, 64, 255))], height=96)
    dark = np.flatnonzero((whole < 128).any(axis=(0, 2)))
    assert dark.size
    assert dark.min() >= 4
    assert dark.max() < 4 + 96


def test_sheet_pads_shorter_strips_with_white() -> None:
    whole = sheet([grey(10, 30), grey(20, 50)])
    assert whole.shape == (30, 50, 3)
    assert (whole[:10, 30:] == 255).all()
    assert (whole[:10, :30] == 100).all()


def test_nothing_to_show() -> None:
    with pytest.raises(FsrstError, match="at least one picture"):
        strip([])
    with pytest.raises(FsrstError, match="at least one strip"):
        sheet([])
