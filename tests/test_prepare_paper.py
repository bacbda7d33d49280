"""CelebAMask-HQ, and what the preparation of the paper's three data sets shares.

Trees are generated in the true layout; counts come from the genuine index files.
"""

import json
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fsrst.cli import run
from fsrst.data.manifest import Manifest, load_manifest
from fsrst.data.prepare import celebamask_hq, paper
from fsrst.data.prepare.celebamask_hq import people_of, prepare_celebamask_hq, with_enough
from fsrst.data.prepare.dfd import prepare_dfd
from fsrst.data.prepare.voxceleb2 import prepare_voxceleb2
from fsrst.errors import FsrstError
from fsrst.image import Pixels, read_image, write_image

FORMS: dict[str, Callable[[str, str], str]] = {
    "rows only": lambda header, rows: rows,
    "header": lambda header, rows: header + rows,
    "CRLF": lambda header, rows: (header + rows).replace("\n", "\r\n"),
    "byte order mark": lambda header, rows: "\ufeff" + header + rows,
    "mark without header": lambda header, rows: "\ufeff" + rows,
    "trailing spaces": lambda header, rows: (header + rows).replace("\n", " \t\n"),
    "blank lines": lambda header, rows: header + "\n" + rows + "\n\n",
    "no last line end": lambda header, rows: (header + rows).rstrip("\n"),
    "a count first": lambda header, rows: f"{len(rows.splitlines())}\n{header}{rows}",
}


def write_index(path: Path, form: str, header: str, rows: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(FORMS[form](header, "".join(row + "\n" for row in rows)).encode())


def against_paper(manifest: Manifest) -> dict[str, tuple[int | None, int]]:
    rows = load_manifest(manifest.root).info["against_paper"]
    return {row["what"]: (row["paper"], row["here"]) for row in rows}


def reasons(manifest: Manifest) -> dict[str, str]:
    return {row["what"]: row["why"] for row in manifest.info["against_paper"] if row["why"]}


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def grey(path: Path) -> float:
    return float(read_image(path).mean())


# --- what they share ------------------------------------------------------------------------------


def test_work_in_parallel_keeps_the_order() -> None:
    reports: list[tuple[int, int, str]] = []

    def slow_for_the_first(item: int) -> int:
        time.sleep(0.02 if item == 0 else 0)
        return item * item

    def note(done: int, total: int, what: str) -> None:
        reports.append((done, total, what))

    made = paper.in_parallel(slow_for_the_first, range(6), name=str, workers=3, progress=note)
    assert made == [0, 1, 4, 9, 16, 25]
    assert [report[:2] for report in reports] == [(i, 6) for i in range(1, 7)]
    assert {report[2] for report in reports} == set("012345")


def test_work_in_parallel_stops_at_the_first_error() -> None:
    begun: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        time.sleep(0.002)
        if item == 3:
            raise FsrstError("item 3")

    with pytest.raises(FsrstError, match="item 3"):
        paper.in_parallel(work, range(200), name=str, workers=1, progress=None)
    assert len(begun) < 100


def test_counts_give_a_reason_only_where_they_differ() -> None:
    counts = [paper.Count("a", 3, 3, "x"), paper.Count("b", 3, 1, "x"), paper.Count("c", None, 1)]
    rows = paper.beside_paper(counts)
    assert [(row["difference"], row["why"]) for row in rows] == [(0, ""), (-2, "x"), (None, "")]


def test_a_data_set_of_another_kind_is_not_replaced(
    drawn_data: Manifest, tmp_path: Path, celeba: Path
) -> None:
    before = (drawn_data.root / "manifest.jsonl").read_bytes()
    for prepare in (prepare_celebamask_hq, prepare_dfd, prepare_voxceleb2):
        with pytest.raises(FsrstError, match="made by synthetic, not by .*; choose another folder"):
            prepare(celeba, drawn_data.root, partial=True)
    assert (drawn_data.root / "manifest.jsonl").read_bytes() == before


# --- CelebAMask-HQ --------------------------------------------------------------------------------

WHO = [7] * 5 + [12] * 4 + [30] * 4 + [4] * 3 + [9]  # identity of each picture
MAPPING_HEADER = "idx        orig_idx   orig_file\n"


def celeba_indices(root: Path, form: str = "rows only") -> tuple[Path, Path]:
    """Picture n is CelebA's file 1001 + 3n."""
    mapping, identities = root / celebamask_hq.MAPPING, root / celebamask_hq.IDENTITIES
    rows = [f"{n:<11}{1000 + 3 * n:<11}{1001 + 3 * n:06d}.jpg" for n in range(len(WHO))]
    write_index(mapping, form, MAPPING_HEADER, rows)
    owners = [f"{1001 + 3 * n:06d}.jpg {who}" for n, who in enumerate(WHO)]
    others = [f"{n:06d}.jpg {n % 40}" for n in range(1, 30)]
    write_index(identities, form, "image_id identity\n", others + owners)
    return mapping, identities


@pytest.fixture
def celeba(tmp_path: Path) -> Path:
    """A CelebAMask-HQ of 17 pictures; picture n has the value 10 n everywhere."""
    root = tmp_path / "CelebAMask-HQ"
    celeba_indices(root)
    for n in range(len(WHO)):
        path = root / celebamask_hq.IMAGES / f"{n}.jpg"
        write_image(path, np.full((40, 40, 3), 10 * n, np.uint8))
    return root


prepare_celeba = partial(prepare_celebamask_hq, size=16, workers=2, partial=True)


@pytest.mark.parametrize("form", FORMS)
def test_celeba_index_files_of_every_form(tmp_path: Path, form: str) -> None:
    people = people_of(*celeba_indices(tmp_path, form))
    assert people == {
        "4": [13, 14, 15],
        "7": [0, 1, 2, 3, 4],
        "9": [16],
        "12": [5, 6, 7, 8],
        "30": [9, 10, 11, 12],
    }
    assert list(with_enough(people)) == ["7", "12", "30"]


def test_celeba_index_files_separated_by_commas(tmp_path: Path) -> None:
    plain = people_of(*celeba_indices(tmp_path / "a"))
    files = celeba_indices(tmp_path / "b")
    for file in files:
        file.write_text(re.sub(" +", ",", file.read_text()))
    assert people_of(*files) == plain


def test_celeba(celeba: Path, tmp_path: Path) -> None:
    manifest = prepare_celeba(celeba, tmp_path / "out")
    assert manifest == load_manifest(tmp_path / "out")
    assert {s.identity for s in manifest.samples} == {"celeba-7", "celeba-12", "celeba-30"}
    assert len(manifest.samples) == 3
    for sample in manifest.samples:
        who = int(sample.identity.removeprefix("celeba-"))
        files = (sample.target, *sample.references)
        numbers = [int(Path(file).stem) for file in files]
        assert len(set(numbers)) == 4
        assert all(WHO[number] == who for number in numbers)
        assert sample.source == f"CelebA-HQ-img/{numbers[0]}.jpg"
        for file, number in zip(files, numbers, strict=True):
            assert read_image(manifest.root / file).shape == (16, 16, 3)
            assert grey(manifest.root / file) == pytest.approx(10 * number, abs=1)
    assert against_paper(manifest) == {
        "pictures in the mapping": (30_000, 17),
        "identities": (None, 5),
        "identities with 4 pictures or more": (2887, 3),
        "pictures of these": (24_364, 13),
        "train samples": (2600, 2),
        "test samples": (287, 1),
    }
    assert set(reasons(manifest).values()) == {"CelebA-HQ-to-CelebA-mapping.txt has 17 rows"}


def test_celeba_choice_depends_on_the_seed_alone(celeba: Path, tmp_path: Path) -> None:
    first = prepare_celeba(celeba, tmp_path / "a", workers=1)
    again = prepare_celeba(
        celeba.parent, tmp_path / "b", workers=4
    )  # the folder it was unzipped in
    assert first.samples == again.samples
    sets = {prepare_celeba(celeba, tmp_path / "a", seed=seed).samples for seed in range(6)}
    assert len(sets) == 6
    tested = {s.identity for samples in sets for s in samples if s.split == "test"}
    assert len(tested) > 1


def test_celeba_missing_pictures(
    celeba: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(celebamask_hq, "PICTURES", len(WHO))
    images = celeba / celebamask_hq.IMAGES
    (images / "16.jpg").unlink()  # of an identity that is not used
    whole = prepare_celeba(celeba, tmp_path / "out", partial=False)
    for n in (2, 6):
        (images / f"{n}.jpg").unlink()
    with pytest.raises(FsrstError) as caught:
        prepare_celeba(celeba, tmp_path / "out", partial=False)
    message = str(caught.value)
    assert message.startswith(f"2 of 13 pictures are missing, the first is {images / '2.jpg'};")
    assert "expected <source>/CelebA-HQ-img/{0..29999}.jpg" in message
    assert load_manifest(tmp_path / "out") == whole
    part = prepare_celeba(celeba, tmp_path / "part")
    assert {s.identity for s in part.samples} == {"celeba-7", "celeba-30"}
    assert against_paper(part)["pictures of these"] == (24_364, 8)
    assert reasons(part)["train samples"] == "2 pictures are missing, the first is 2.jpg"


def counted_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    read: list[str] = []

    def reading(path: Path) -> Pixels:
        read.append(Path(path).name)
        return read_image(path)

    monkeypatch.setattr(celebamask_hq, "read_image", reading)
    return read


def test_celeba_goes_on_where_it_was_interrupted(
    celeba: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = counted_reads(monkeypatch)

    def interrupt(done: int, total: int, what: str) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_celeba(celeba, tmp_path / "out", workers=1, progress=interrupt)
    assert not (tmp_path / "out" / "manifest.jsonl").exists()
    assert len(read) >= 5
    manifest = prepare_celeba(celeba, tmp_path / "out")
    assert len(read) == len(set(read)) == 12  # nothing twice
    assert prepare_celeba(celeba, tmp_path / "out") == manifest
    assert len(read) == 12
    changed = Path(manifest.samples[0].target).with_suffix(".jpg").name
    write_image(celeba / celebamask_hq.IMAGES / changed, np.full((50, 40, 3), 250, np.uint8))
    prepare_celeba(celeba, tmp_path / "out")
    assert read[12:] == [changed]
    assert grey(manifest.root / manifest.samples[0].target) == pytest.approx(250, abs=1)
    with pytest.raises(FsrstError, match="out holds pictures of 16 px, not 20; choose another"):
        prepare_celeba(celeba, tmp_path / "out", size=20)
    assert len(read) == 13


def test_celeba_with_a_damaged_picture(
    celeba: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of half a set the others are taken; of a whole one nothing vouches for what is half made."""
    monkeypatch.setattr(celebamask_hq, "PICTURES", len(WHO))
    prepare_celeba(celeba, tmp_path / "out", partial=False)
    for n in range(4):
        changed = np.full((50, 40, 3), 20 * n, np.uint8)
        write_image(celeba / celebamask_hq.IMAGES / f"{n}.jpg", changed)
    for n in range(9, 13):
        path = celeba / celebamask_hq.IMAGES / f"{n}.jpg"
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(FsrstError, match=r"CelebA-HQ-img/(9|1[012])\.jpg: damaged or truncated"):
        prepare_celeba(celeba, tmp_path / "out", partial=False)
    assert not (tmp_path / "out" / "manifest.jsonl").exists()
    manifest = prepare_celeba(celeba, tmp_path / "out")
    assert {sample.identity for sample in manifest.samples} == {"celeba-7", "celeba-12"}
    unreadable = manifest.info["made_by"]["train"]["unreadable"]
    assert unreadable
    for name, why in unreadable.items():
        assert f"CelebA-HQ-img/{name}: damaged or truncated" in why
    rows = {row["what"]: row for row in manifest.info["against_paper"]}
    assert "are damaged: " in rows["test samples"]["why"]


BAD_INDEX = {
    "an image list with checksums": (
        "mapping",
        lambda text: re.sub(r"\.jpg", ".jpg  0a1b", "idx orig_idx orig_file md5\n" + text),
        r"mapping\.txt, line 3: .* expected lines such as '0  119613  119614\.jpg'",
    ),
    "a table of attributes": (
        "identities",
        lambda text: text.replace("000003.jpg 3", "000003.jpg -1 1 1"),
        r"identity_CelebA\.txt, line 3: .* expected lines such as '000001\.jpg 2880'",
    ),
    "no row": ("mapping", lambda text: MAPPING_HEADER, "has no row"),
    "a picture twice": ("mapping", lambda text: text + text.splitlines()[4], "4 occurs twice"),
    "a number that is shifted": (
        "mapping",
        lambda text: text.replace("1003 ", "1004 "),
        r"orig_idx 1004 does not belong to 001004\.jpg",
    ),
    "half of the identities": (
        "identities",
        lambda text: "\n".join(text.splitlines()[:-4]),
        r"lacks 4 of the 17 files in .*mapping\.txt, the first is 001040\.jpg",
    ),
    "no text": ("mapping", lambda text: "\xff\xfe\x00", "is not a text"),
}


@pytest.mark.parametrize("kind", BAD_INDEX)
def test_celeba_with_another_index_file(celeba: Path, tmp_path: Path, kind: str) -> None:
    which, change, message = BAD_INDEX[kind]
    name = celebamask_hq.MAPPING if which == "mapping" else celebamask_hq.IDENTITIES
    path = celeba / name
    path.write_bytes(change(path.read_text()).encode("latin-1"))
    with pytest.raises(FsrstError, match=message) as caught:
        prepare_celeba(celeba, tmp_path / "out")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_celeba_of_another_layout(celeba: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(FsrstError, match=r"nowhere is not a folder; expected <source>/CelebA-HQ"):
        prepare_celeba(tmp_path / "nowhere", out)
    identities = celeba / celebamask_hq.IDENTITIES
    identities.rename(tmp_path / "elsewhere.txt")
    with pytest.raises(FsrstError, match=r"identity_CelebA\.txt is missing; it comes with CelebA,"):
        prepare_celeba(celeba, out)
    with pytest.raises(FsrstError, match=r"no\.txt is missing; expected lines such as"):
        prepare_celeba(celeba, out, identities=tmp_path / "no.txt")
    prepare_celeba(celeba, tmp_path / "named", identities=tmp_path / "elsewhere.txt")
    (tmp_path / "elsewhere.txt").rename(tmp_path / identities.name)  # beside it
    prepare_celeba(celeba, tmp_path / "beside")
    for name in (celebamask_hq.MAPPING, celebamask_hq.IMAGES):
        (celeba / name).rename(tmp_path / name)
        missing = re.escape(str(celeba / name)) + " is missing; expected <source>"
        with pytest.raises(FsrstError, match=missing):
            prepare_celeba(celeba, out)
    assert not out.exists()


def test_celeba_genuine_index_files(real_data: Path) -> None:
    layout = real_data / "layouts" / "celebamask_hq"
    people = people_of(layout / celebamask_hq.MAPPING, layout / celebamask_hq.IDENTITIES)
    enough = with_enough(people)
    assert len(people) == 6217
    assert len(enough) == 2887
    assert sum(map(len, enough.values())) == 24_364
    assert len(celebamask_hq.drawn_for_testing(enough, 13)) == 287


def test_celeba_genuine_index_files_with_stand_in_pictures(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = real_data / "layouts" / "celebamask_hq"
    source = tmp_path / "in"
    (source / celebamask_hq.IMAGES).mkdir(parents=True)
    for name in (celebamask_hq.MAPPING, celebamask_hq.IDENTITIES):
        (source / name).symlink_to(layout / name)
    made: list[Path] = []
    names = {f"{n}.jpg" for n in range(30_000)}
    monkeypatch.setattr(celebamask_hq, "_names_in", lambda folder: names)
    monkeypatch.setattr(celebamask_hq, "made_of", lambda path, size: path.name)
    monkeypatch.setattr(celebamask_hq, "read_image", lambda path: np.zeros((16, 16, 3), np.uint8))
    monkeypatch.setattr(celebamask_hq, "write_made_of", lambda path, *_: made.append(path))
    monkeypatch.setattr("fsrst.data.manifest.check", lambda root, samples: None)
    manifest = prepare_celebamask_hq(source, tmp_path / "out", size=16)
    assert reasons(manifest) == {}
    assert len(made) == len(set(made)) == 4 * 2887
    counts = manifest.info["counts"]
    assert counts["train"] == {"samples": 2600, "identities": 2600}
    assert counts["test"] == {"samples": 287, "identities": 287}


def test_celeba_genuine_folder_is_a_part(real_data: Path, tmp_path: Path) -> None:
    layout = real_data / "layouts" / "celebamask_hq"
    with pytest.raises(FsrstError, match=r"24,361 of 24,364 pictures .*CelebA-HQ-img/4\.jpg;"):
        prepare_celebamask_hq(layout, tmp_path / "out")


def test_command_prints_counts_beside_the_papers(
    celeba: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["prepare", "celebamask-hq", str(celeba), str(tmp_path / "out"), "--size", "32"]
    assert run(command) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "mapping.txt has 17 of 30,000 rows; fetch the file again" in said.err
    assert len(said.err.splitlines()) == 1
    assert run([*command, "--partial", "--workers", "2", "--seed", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.endswith("split train, 2 samples of 2 people, 32 px") for line in lines)
    row = next(line for line in lines if line.startswith("pictures of these"))
    assert row.split()[3:6] == ["24,364", "13", "-24,351:"]
    assert row.endswith("as above")
    assert "CelebA-HQ-to-CelebA-mapping.txt has 17 rows" in "\n".join(lines)
    assert run([*command, "--partial", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["root"] == str(tmp_path / "out")
    assert result["counts"]["train"] == {"samples": 2, "identities": 2}
    assert result["against_paper"][3] == {
        "what": "pictures of these",
        "paper": 24_364,
        "here": 13,
        "difference": -24_351,
        "why": "CelebA-HQ-to-CelebA-mapping.txt has 17 rows",
    }
