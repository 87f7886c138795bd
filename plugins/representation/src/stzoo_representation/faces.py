"""Data of verification: pairs of pictures. Splits are of people: nobody is in two of them.

An example is two pictures, ``first`` and ``second``, whether they show the ``same``, and, where it is known, the numbers of
the people in them, ``first_person`` and ``second_person``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stzoo.errors import DatasetError
from stzoo.files import IMAGES, files_in, natural
from stzoo.layout import split_folders
from stzoo.media import read_image, to_uint8

SHARES = (("train", 2 / 3), ("validation", 2 / 15), ("test", 1 / 5))
"""Parts of the people that the splits get; of 30: 20, 4 and 6."""
FEWEST = 2
"""People without whom a split has no different pairs."""
PICTURES = (*IMAGES, ".pgm")
People = Mapping[str, Sequence[Any]]
"""Name of a person -> pictures: arrays, or paths."""


class Pairs(Sequence[dict[str, Any]]):
    """Pairs of pictures, made when they are asked for.

    Args:
        pictures: arrays, or paths.
        people: the person of each.
        places: (N,2), which two pictures a pair is of.
    """

    def __init__(self, pictures: Sequence[Any], people: Sequence[int], places: np.ndarray) -> None:
        self.pictures, self.people, self.places = pictures, people, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Pairs(self.pictures, self.people, self.places[index])
        first, second = map(int, self.places[index])
        persons = self.people[first], self.people[second]
        return {
            "first": _opened(self.pictures[first]),
            "second": _opened(self.pictures[second]),
            "same": persons[0] == persons[1],
            "first_person": persons[0],
            "second_person": persons[1],
        }


def pairs(people: People, seed: int, different: float, who: str, start: int = 0) -> Pairs:
    """All pairs of pictures of one person, and ``different`` times as many of two people, drawn by ``seed``.

    ``start``: the number of the first person. Raises DatasetError: there are no pairs of one of the kinds.
    """
    if len(people) < FEWEST:
        names = ", ".join(people) or "nobody"
        raise DatasetError(
            f"{who} has pictures of {names} alone, so no two are different", "Give pictures of at least two people"
        )
    pictures = [picture for own in people.values() for picture in own]
    numbers = np.repeat(np.arange(start, start + len(people)), [len(own) for own in people.values()])
    first, second = np.triu_indices(len(pictures), 1)
    alike = numbers[first] == numbers[second]
    if not alike.any():
        raise DatasetError(
            f"{who} has one picture of each person, so no two show the same", "Give several pictures of some of them"
        )
    others = np.flatnonzero(~alike)
    count = min(len(others), math.ceil(different * alike.sum()))
    drawn = np.sort(np.random.default_rng(seed).choice(others, count, replace=False))
    chosen = np.concatenate((np.flatnonzero(alike), drawn))
    return Pairs(pictures, numbers.tolist(), np.stack((first, second), 1)[chosen])


def divided(people: People, seed: int, who: str) -> dict[str, dict[str, Sequence[Any]]]:
    """The people of each split, drawn by ``seed``. Raises DatasetError: there are too few for that."""
    names = sorted(people, key=natural)
    order = [names[index] for index in np.random.default_rng(seed).permutation(len(names))]
    ends = [round(len(names) * share) for share in itertools.accumulate(share for _, share in SHARES)]
    parts = [order[first:last] for first, last in zip((0, *ends), ends, strict=False)]
    if min(map(len, parts)) < FEWEST:
        raise DatasetError(
            f"{who} has {len(names)} people, too few to divide so that nobody is in two splits",
            "Give at least 14, or folders train/, validation/ and test/",
        )
    return {split: {name: people[name] for name in part} for (split, _), part in zip(SHARES, parts, strict=True)}


def _opened(picture: Any) -> Any:
    """A picture as its field reads it: arrays, and files that it does not know, are made pictures here."""
    from PIL import Image

    if isinstance(picture, np.ndarray):
        return Image.fromarray(picture)
    if not isinstance(picture, Path):
        return picture
    if picture.suffix.lower() != ".pgm":
        return str(picture)
    try:
        with Image.open(picture) as image:
            return image.copy()
    except OSError as problem:
        raise DatasetError(f"{picture} cannot be read ({problem})", "Is the file complete?") from problem


def _folders(root: Path) -> dict[str, list[Path]]:
    """Pictures in a folder for each person; a folder without pictures is nobody."""
    found = {}
    for folder in sorted(root.iterdir(), key=lambda path: natural(path.name)):
        if folder.is_dir() and not folder.name.startswith(".") and (own := files_in(folder, PICTURES)):
            found[folder.name] = own
    return found


# --- layouts ----------------------------------------------------------------------------------------------------------


def read_people(path: Path, seed: int = 0, different: float = 1.0) -> dict[str, Pairs] | None:
    """Or a folder for each person: FOLDER/NAME/1.jpg ..., of at least 14 people, who are divided into train, validation and
    test (?seed=0); or FOLDER/train/NAME/1.jpg ... and so on, where nobody may be in two splits. Examples are all pairs of pictures
    of one person, and ?different=1 times as many of two.
    """
    if not path.is_dir() or (path / "metadata.csv").exists():
        return None
    parts = split_folders(path)
    roots = list(parts.values()) or [path]
    if any((root / name).exists() for root in roots for name in ("first", "firsts", "metadata.csv")):
        return None
    people = {root: _folders(root) for root in roots}
    if not any(people.values()):
        return None
    if not parts:
        return _all(divided(people[path], seed, str(path)), seed, different, str(path))
    if "train" in parts and "validation" not in parts:
        raise DatasetError(
            f"{path} has train/ and no validation/: held-out pairs of people that are learnt from would say nothing of others",
            "Put some of the people into validation/",
        )
    taken: dict[str, str] = {}
    for split, root in parts.items():
        for name in people[root]:
            if name in taken:
                raise DatasetError(
                    f"{path}: {name} is in {taken[name]} and in {split}: what is measured on people that were learnt from "
                    "says nothing about others",
                    "Keep each person in one split",
                )
            taken[name] = split
    return _all({split: people[root] for split, root in parts.items()}, seed, different, str(path))


def _all(parts: Mapping[str, People], seed: int, different: float, who: str) -> dict[str, Pairs]:
    """The pairs of each split; people are numbered through."""
    found, start = {}, 0
    for split, people in parts.items():
        found[split] = pairs(people, seed, different, f"{who} ({split})", start)
        start += len(people)
    return found


def orl(split: str, root: str = "", seed: int = 0, different: float = 1.0, top: int = 0) -> Pairs:
    """The faces of the Olivetti Research Laboratory (AT&T): ten pictures of each person, 112x92, divided by people.

    Args:
        root: the folder with s1, s2 ... (``.pgm``), or a ``.npz`` with pictures ``x`` (N,112,92) and people ``y`` (N,).
            Without it, two pictures of one person to test on, which come with the plugin.
        seed: of the division, and of which pairs of two people are drawn.
        different: how many of these for each pair of one person.
        top: rows left off at the top, not of a folder's: 28 leave about what networks for aligned faces were trained on.

    Raises:
        DatasetError: there is nothing of this kind at ``root``.
    """
    path, people = Path(root).expanduser(), dict[str, Sequence[Any]]()
    if not root and split == "test":
        own = [read_image(Path(__file__).parent / f"data/face-{number}.png", "first", 1) for number in (1, 2)]
        return Pairs([to_uint8(face)[0, top:] for face in own], (0, 0), np.array([(0, 1)]))
    if root and path.is_dir():
        people = dict(_folders(path))
    elif root and path.suffix == ".npz":
        try:
            with np.load(path) as archive:
                pictures, numbers = archive["x"], archive["y"]
            people = {
                f"s{number + 1}": list(pictures[numbers == number, top:]) for number in np.unique(numbers).tolist()
            }
        except (OSError, ValueError, KeyError, IndexError) as problem:
            raise DatasetError(
                f"{root} is no archive of x and y ({problem})", "Give the folder with s1, s2 ..."
            ) from None
    if not people:
        raise DatasetError(
            f"there are no faces at {root!r}", "Add ?root=FOLDER with s1/1.pgm ..., or ?root=FILE.npz with x and y"
        )
    return pairs(divided(people, seed, root)[split], seed, different, f"{root} ({split})")


def lfw(split: str, root: str = "", pairs: str = "pairs.txt") -> Pairs:
    """The 6000 pairs of Labeled Faces in the Wild, view 2, in the order of their ten folds.

    Args:
        root: the folder with NAME/NAME_0001.jpg ...
        pairs: the list, in that folder, beside it, or anywhere.

    Raises:
        DatasetError: the list or a picture it names is not there, or a line is none of a pair.
    """
    folder = Path(root).expanduser()
    places = (folder / pairs, folder.parent / pairs, Path(pairs).expanduser())
    listed = next((path for path in places if path.is_file()), None)
    if not root or listed is None:
        raise DatasetError(
            f"there is no {pairs} in {root or 'no folder'}", "Add ?root=FOLDER&pairs=FILE, from the site of LFW"
        )
    lines = [line.split() for line in listed.read_text().splitlines() if line.strip()]
    pictures, numbers, known = [], [], dict[str, int]()
    for line in lines[1:] if len(lines[0]) < 3 else lines:
        if len(line) not in (3, 4) or not all(item.isdigit() for item in (line[1], line[-1])):
            raise DatasetError(f"{listed}: {' '.join(line)!r} is no pair", "NAME 1 2, or NAME 1 OTHER 2")
        for name, number in ((line[0], line[1]), (line[-2] if len(line) == 4 else line[0], line[-1])):
            path = folder / name / f"{name}_{int(number):04}.jpg"
            if not path.is_file():
                raise DatasetError(f"{listed} names {path}, which is not there", "Is ?root= the folder of the people?")
            pictures.append(path)
            numbers.append(known.setdefault(name, len(known)))
    return Pairs(pictures, numbers, np.arange(len(pictures)).reshape(-1, 2))
