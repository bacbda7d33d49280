"""A prepared data set: pictures of one size, and a manifest that says who is in them.

On disk::

    <root>/manifest.jsonl    one Sample per line
    <root>/dataset.json      name, size [px], split counts, how it was made
    <root>/images/...        8-bit PNG, all size x size

No identity may be in two splits: a network that has seen the person would be scored too well.
"""

import dataclasses
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from fsrst.errors import FsrstError
from fsrst.files import write_json, write_text

MANIFEST = "manifest.jsonl"
DATASET = "dataset.json"
Item = TypeVar("Item")


@dataclass(frozen=True)
class Sample:
    """One target picture and pictures of the same person, best first.

    ``references`` may hold more than are used: scoring takes the first n, training draws n of them.
    Paths are relative to the data set's root, with forward slashes.
    """

    id: str  # unique in the data set, fit for a file name
    identity: str
    split: str
    target: str
    references: tuple[str, ...]
    source: str  # where the target came from: file, or clip and frame


@dataclass(frozen=True)
class Manifest:
    """All samples under ``root``; ``info`` is the content of dataset.json."""

    root: Path
    samples: tuple[Sample, ...]
    info: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.info.get("name", self.root.name))

    @cached_property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the samples: names the exact set in results."""
        text = "\n".join(_to_line(sample) for sample in self.samples)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def pictures_hash(self, split: str) -> str:
        """First 16 hex digits of the SHA-256 of a split's files: ``hash`` tells who and which, this
        tells whether they are the same pictures, however they were made.

        Raises
        ------
        FsrstError
            If there is no such split.
        """
        digest = hashlib.sha256()
        for file in sorted({f for s in self.split(split) for f in (s.target, *s.references)}):
            content = hashlib.sha256((self.root / file).read_bytes()).hexdigest()
            digest.update(f"{file} {content}\n".encode())
        return digest.hexdigest()[:16]

    @property
    def scored(self) -> str:
        """The split that experiments score: val, or test in the paper's sets, which have no val."""
        names = {sample.split for sample in self.samples}
        return "test" if "test" in names and "val" not in names else "val"

    def split(self, name: str) -> list[Sample]:
        """Samples of one split, in order.

        Raises
        ------
        FsrstError
            If there is none.
        """
        found = [sample for sample in self.samples if sample.split == name]
        if not found:
            have = ", ".join(sorted({sample.split for sample in self.samples})) or "none"
            raise FsrstError(
                f"{self.root} has no split {name!r}; it has: {have}; prepare again or name another"
            )
        return found


def _to_line(sample: Sample) -> str:
    return json.dumps(dataclasses.asdict(sample), ensure_ascii=False, sort_keys=True)


def _from_line(line: str) -> Sample:
    fields = json.loads(line)
    if not isinstance(fields, dict):
        raise TypeError(f"{fields!r} is no object")
    references = fields.pop("references")
    if not isinstance(references, list):
        raise TypeError("references is no list")
    sample = Sample(**fields, references=tuple(references))
    values = [*fields.values(), *references]
    if not_text := [value for value in values if not isinstance(value, str)]:
        raise TypeError(f"{not_text[0]!r} is no text")
    return sample


def check(root: Path, samples: Sequence[Sample]) -> None:
    """Refuse identity leaks, samples without identity, double ids, names that lead out of the set,
    targets that are their own references, and missing files.

    Raises
    ------
    FsrstError
        That names the first offender.
    """
    split_of: dict[str, str] = {}
    seen: set[str] = set()
    files: set[str] = set()
    for sample in samples:
        if not sample.identity.strip():
            raise FsrstError(f"{root}: sample {sample.id!r} has an empty identity")
        first = split_of.setdefault(sample.identity, sample.split)
        if first != sample.split:
            raise FsrstError(
                f"{root}: identity {sample.identity!r} is in split {first!r} and in"
                f" {sample.split!r}; a person may be in one split only"
            )
        if sample.id in seen:
            raise FsrstError(f"{root}: sample id {sample.id!r} occurs twice")
        seen.add(sample.id)
        require_file_name(sample.id, root)
        if sample.target in sample.references:
            raise FsrstError(f"{root}: sample {sample.id!r} has its target among its references")
        files.update((sample.target, *sample.references))
    for file in sorted(files):
        if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
            raise FsrstError(f"{root}: {file} leads out of the data set")
        if not (root / file).is_file():
            raise FsrstError(f"{root}: {file} is in the manifest but not on disk; prepare again")


def load_manifest(root: str | Path) -> Manifest:
    """Read and check a prepared data set.

    Raises
    ------
    FsrstError
        If it is missing, damaged, or fails ``check``.
    """
    manifest = read_unchecked(Path(root))
    check(manifest.root, manifest.samples)
    return manifest


def read_unchecked(root: Path) -> Manifest:
    """A data set's samples as they were written, whatever is on disk now.

    Raises
    ------
    FsrstError
        If the manifest is missing or damaged.
    """
    path = root / MANIFEST
    if not path.is_file():
        raise FsrstError(f"no {MANIFEST} in {root}; make one with `fsrst prepare ...`")
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise FsrstError(f"{path} is not UTF-8 ({error}); prepare again") from error
    samples = []
    for number, line in enumerate(lines, start=1):
        try:
            samples.append(_from_line(line))
        except (ValueError, TypeError, KeyError) as error:
            raise FsrstError(f"{path}, line {number}: not a sample ({error})") from error
    try:
        info = json.loads((root / DATASET).read_text(encoding="utf-8"))
        int(info["size"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise FsrstError(f"{root / DATASET} is missing or damaged; prepare again") from error
    return Manifest(root, tuple(samples), info)


def write_manifest(
    root: str | Path, samples: Iterable[Sample], info: dict[str, Any], *, split: str | None = None
) -> Manifest:
    """Check and write a prepared data set; counts per split are added to ``info``.

    With ``split``, only that split is replaced and the others of an existing set stay, in
    made_by too: there a part of a split has a key of its own, ``<split>:<prefix>``.
    """
    root = Path(root)
    kept: list[Sample] = []
    if split is not None and (root / MANIFEST).is_file():
        before = load_manifest(root)
        _check_size(before, info.get("size"))
        kept = [sample for sample in before.samples if sample.split != split]
        made_by = before.info.get("made_by", {})
        if split in info.get("made_by", {}):  # then no other source's part of it is left
            made_by = {k: how for k, how in made_by.items() if not k.startswith(f"{split}:")}
        info = {**info, "made_by": {**made_by, **info.get("made_by", {})}}
    merged = sorted([*kept, *samples], key=lambda sample: (sample.split, sample.id))
    check(root, merged)
    counts: dict[str, dict[str, int]] = {}
    for name in sorted({sample.split for sample in merged}):
        members = [sample for sample in merged if sample.split == name]
        counts[name] = {
            "samples": len(members),
            "identities": len({sample.identity for sample in members}),
        }
    manifest = Manifest(root, tuple(merged), {**info, "counts": counts})
    write_json(root / DATASET, manifest.info)
    write_text(root / MANIFEST, "".join(_to_line(sample) + "\n" for sample in merged))
    return manifest


def check_place(out: Path, *, split: str, size: int, identities: Iterable[str] = ()) -> None:
    """Refuse before the first picture is written what ``write_manifest`` would refuse after the
    last, when pictures of the set have been replaced.

    Raises
    ------
    FsrstError
        If ``split`` is not a plain name, or ``out`` holds a set of another size, somebody of
        ``identities`` in another split, or another split whose pictures are missing.
    """
    require_plain_name("--split", split)
    if not (out / MANIFEST).is_file():
        return
    # pictures of this split may be missing: preparing again is the remedy
    before = read_unchecked(out)
    _check_size(before, size)
    check(out, [sample for sample in before.samples if sample.split != split])
    split_of = {sample.identity: sample.split for sample in before.samples}
    for identity in identities:
        if split_of.get(identity, split) != split:
            raise FsrstError(
                f"{out}: identity {identity!r} is in split {split_of[identity]!r} already and would"
                f" be in {split!r} too; a person may be in one split only: first part the people"
                " into a source folder for each split"
            )


def refuse_another_set(
    out: Path, kind: str, *, size: int | None = None, quality: str | None = None
) -> None:
    """A data set made as a whole replaces its own earlier version only: another's manifest would be
    lost, and an interrupted run would leave both kinds of pictures.

    Raises
    ------
    FsrstError
        If ``out`` holds a data set that was made in another way, or of another ``size`` [px] or
        ``quality``; None: any.
    """
    if not (out / MANIFEST).is_file():
        return
    try:
        info = json.loads((out / DATASET).read_text(encoding="utf-8"))
        kinds = {str(how["prepare"]) for how in info["made_by"].values()}
        qualities = {how.get("quality") for how in info["made_by"].values()}
        before = info["size"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        kinds, qualities, before = {"another program"}, {quality}, size
    if kinds != {kind}:
        makers = " and ".join(sorted(kinds)) or "another program"
        raise FsrstError(
            f"{out} holds a data set made by {makers}, not by {kind}; choose another folder"
        )
    for what, there, now in (("px", {before}, size), ("compression", qualities, quality)):
        if now is not None and there != {now}:
            raise FsrstError(
                f"{out} holds pictures of {' and '.join(sorted(map(str, there)))} {what}, not"
                f" {now}; choose another folder"
            )


def take_out(root: Path, split: str, prefix: str = "") -> None:
    """Take a split, or its people whose names begin with ``prefix``, out of a set at ``root``.

    For what is about to replace their pictures: if it is stopped, no manifest vouches for a set
    that is half of each. Of a set without another person no manifest is left.
    """
    if not (root / MANIFEST).is_file():
        return
    before = read_unchecked(root)
    kept = [s for s in before.samples if s.split != split or not s.identity.startswith(prefix)]
    if len(kept) == len(before.samples):
        return
    if not kept:
        (root / MANIFEST).unlink()
        return
    made_by = before.info.get("made_by", {})
    gone = f"{split}:{prefix}"  # as it begins: without a prefix all sources of the split
    made_by = {key: how for key, how in made_by.items() if not f"{key}:".startswith(gone)}
    write_manifest(root, kept, {**before.info, "made_by": made_by})


def withdraw(root: Path) -> None:
    """Take the manifest off a set that is made as a whole, before the first picture is replaced: if
    that is stopped, none vouches for a set that is half of each."""
    (root / MANIFEST).unlink(missing_ok=True)


def require_file_name(sample_id: str, where: Path) -> None:
    """Refuse a sample id that cannot be a file's name: pictures are written under it.

    Raises
    ------
    FsrstError
        That names ``where`` it comes from.
    """
    if not sample_id or set(sample_id) & set("/\\") or sample_id.startswith("."):
        raise FsrstError(f"{where}: {sample_id!r} is no file name; without / and \\ and dot before")
    try:
        sample_id.encode()
    except UnicodeEncodeError as error:
        raise FsrstError(f"the name of {str(where)!r} is not UTF-8; rename it") from error


def require_plain_name(option: str, name: str) -> None:
    """Refuse a name that cannot be part of a file's."""
    if not name or name != name.strip() or set(name) & set('/\\:*?"<>|') or name.startswith("."):
        raise FsrstError(f"{option} {name!r} is not a plain name; letters and digits, such as val")


def _check_size(before: Manifest, size: Any) -> None:
    if before.info.get("size") != size:
        raise FsrstError(
            f"{before.root} holds pictures of {before.info.get('size')} px, not {size};"
            " choose another folder"
        )


def by_identity(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """Samples grouped by identity, identities sorted."""
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.identity].append(sample)
    return dict(sorted(groups.items()))


def evenly_spread(items: Sequence[Item], count: int) -> list[Item]:
    """``count`` of ``items`` in order, from the first on at equal distances; all if there are not
    so many."""
    count = min(count, len(items))
    return [items[number * len(items) // count] for number in range(count)]


def wrong_person(samples: Sequence[Sample], sample: Sample) -> Sample:
    """The sample whose pictures serve as references of a wrong person: the first of the next
    identity, in sorted order and around the end. Same list, same answer.

    Raises
    ------
    FsrstError
        If the list holds one identity only.
    """
    names = sorted({other.identity for other in samples})
    if len(names) < 2:
        raise FsrstError(
            "references of a wrong person need at least two identities in the split; add people"
        )
    wanted = names[(names.index(sample.identity) + 1) % len(names)]
    return next(other for other in samples if other.identity == wanted)
