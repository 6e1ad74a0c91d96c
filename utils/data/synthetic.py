"""Synthetic families: faces of nobody, in the competition's layout, with kinship between them.

A parent is a vector of random eigenface coefficients. A child takes each coefficient from one of
its parents, shrunk and perturbed. A photograph perturbs everybody in it, and gives all of them the
same light. What goes wrong in real data (and a little more) is planted at known places and written
down in ``manifest.json``, so that an audit can be checked against it; so are everybody's parents.
The list of test pairs gives answers away in the way in which the competition's does.
"""

import itertools
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from tqdm.auto import tqdm

from .. import files, images
from ..errors import DatasetError
from ..files import read_json, write_json
from ..settings import SEED
from . import datasets, eigenfaces
from .eigenfaces import Eigenfaces

MIN_FAMILIES = 20
MANIFEST = "manifest.json"
TRUTH = "truth/test_labels.csv"
PAIRS_STREAM = 1  # beside the seed, it starts the random state that draws the test pairs
BYTES_A_PHOTO = 10_000  # a little below the mean, so that nobody is refused who has room
WORK = "making the families"


@dataclass(frozen=True)
class Recipe:
    """How alike people are. All numbers are in standard deviations of a coefficient.

    Attributes:
        adult: spread of people with no parents in the data.
        inherited: share of the parent's coefficient that a child takes.
        child: spread of what is added to it: N(0, ``child``).
        kept: share of the person's coefficient that a photo shows.
        photo: spread of what is added to it: N(0, ``photo``).
        light: spread of the light, which is the same for everyone in a photograph.
        light_components: how many of the first coefficients, which are mostly light, it shifts.
    """

    adult: float = 0.8
    inherited: float = 0.9
    child: float = 0.25
    kept: float = 0.9
    photo: float = 0.28
    light: float = 0.25
    light_components: int = 6


@dataclass
class Person:
    """One person.

    Attributes:
        name: such as F0012/MID3.
        coefficients: how the face differs from the mean face, ``(k,)``.
        parents: names of the parents in the data.
        photos: file name and JPEG of each photo, in the order in which they are taken.
    """

    name: str
    coefficients: np.ndarray
    parents: tuple[str, ...] = ()
    photos: list[tuple[str, bytes]] = field(default_factory=list)


# --- people -------------------------------------------------------------------------------------


def make_family(
    name: str,
    size: int,
    children: int,
    grandparent: bool,
    rng: np.random.Generator,
    recipe: Recipe = Recipe(),
) -> list[Person]:
    """Two parents and their children; member numbers say nothing about who is whose child.

    Args:
        name: of the family, such as F0012.
        size: number of coefficients.
        children: number of children.
        grandparent: whether a parent of the first parent belongs to the family.
        rng: random state.
        recipe: how alike they are.

    Returns:
        The first parent (or the grandparent), the second parent, (the first parent,) the children.
    """
    count = 2 + children + grandparent
    names = [f"{name}/MID{number}" for number in rng.permutation(count) + 1]
    # two people who have no parents in the data
    people = [Person(names.pop(), rng.normal(0, recipe.adult, size)) for _ in range(2)]
    parents = (people[0], people[1])
    if grandparent:
        # the first one is the grandparent, whose child with somebody outside becomes a parent
        elder, outsider = people[0], Person("", rng.normal(0, recipe.adult, size))
        parent = Person(names.pop(), _child(elder, outsider, rng, recipe), (elder.name,))
        people.append(parent)
        parents = (parent, people[1])
    parent_names = (parents[0].name, parents[1].name)
    for _ in range(children):
        people.append(Person(names.pop(), _child(*parents, rng, recipe), parent_names))
    return people


def _child(a: Person, b: Person, rng: np.random.Generator, recipe: Recipe) -> np.ndarray:
    """Coefficients of a child: each of one parent or the other, and a little of its own."""
    from_a = rng.random(len(a.coefficients)) < 0.5
    inherited = np.where(from_a, a.coefficients, b.coefficients)
    return recipe.inherited * inherited + rng.normal(0, recipe.child, len(inherited))


def kin_pairs(people: list[Person]) -> list[tuple[str, str]]:
    """Who is kin by blood: parent and child, siblings, grandparent and grandchild; no spouses."""
    # names of the parents and grandparents of each person
    parents = {person.name: set(person.parents) for person in people}
    grandparents = {}
    for name, names in parents.items():
        grandparents[name] = set().union(*(parents[parent] for parent in names))
    pairs = []
    for a, b in itertools.combinations(parents, 2):
        # one descends from the other, or they have a parent in common
        a_is_older = a in parents[b] | grandparents[b]
        b_is_older = b in parents[a] | grandparents[a]
        if a_is_older or b_is_older or parents[a] & parents[b]:
            pairs.append((a, b))
    return pairs


def parents_of(families: list[list[Person]]) -> dict[str, list[str]]:
    """The parents in the data of each person, sorted: none, one or two."""
    people = itertools.chain.from_iterable(families)
    return {person.name: sorted(person.parents) for person in people}


# --- photos -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shot:
    """One face in one photograph, not yet rendered.

    Attributes:
        coefficients: of the face as it looks in this photograph, ``(k,)``.
        cast: factors of red, green and blue, ``(3,)``.
        angle: how far the face is turned in the picture, in radians.
        zoom: factor by which the face is larger than usual.
        shift: how far the face is moved, in pixels of the rendered face, ``(2,)``.
    """

    coefficients: np.ndarray
    cast: np.ndarray
    angle: float
    zoom: float
    shift: np.ndarray


def take_photograph(
    people: list[np.ndarray], rng: np.random.Generator, recipe: Recipe = Recipe()
) -> list[Shot]:
    """One photograph of people with these coefficients: everyone in the same light.

    Args:
        people: coefficients of each person, ``(k,)``.
        rng: random state.
        recipe: how much a photograph changes a face.
    """
    # the same shift of the first coefficients for everyone, and the same cast of colour
    size = len(people[0])
    light = np.zeros(size)
    light[: recipe.light_components] = rng.normal(0, recipe.light, recipe.light_components)
    cast = rng.normal(1, 0.03, 3) * rng.normal(1, 0.06)
    return [_shot(person, light, cast, rng, recipe) for person in people]


def _shot(
    person: np.ndarray,
    light: np.ndarray,
    cast: np.ndarray,
    rng: np.random.Generator,
    recipe: Recipe,
) -> Shot:
    """One person in a photograph with this light and this cast of colour."""
    return Shot(
        coefficients=recipe.kept * person + rng.normal(0, recipe.photo, len(person)) + light,
        cast=cast,
        angle=np.deg2rad(rng.normal(0, 4)),
        zoom=1.04 * rng.normal(1, 0.03),
        shift=rng.normal(0, 0.015, 2) * eigenfaces.SIZE,
    )


def develop(shots: list[Shot], faces: Eigenfaces) -> list[np.ndarray]:
    """Render shots as crops like the competition's: uint8 RGB 224×224 each."""
    rendered = faces.render(np.array([shot.coefficients for shot in shots]))  # (n, 128, 128, 3)
    return list(images.map_threads(_crop, zip(rendered, shots, strict=True)))


def _crop(face_and_shot: tuple[np.ndarray, Shot]) -> np.ndarray:
    """Turn, scale and shift a rendered face a little, as a detector's boxes do, and colour it."""
    face, shot = face_and_shot
    # room around the face, so that no corner of the crop is empty
    margin = (eigenfaces.SIZE // 4, eigenfaces.SIZE // 4)
    padded = Image.fromarray(np.pad(face, (margin, margin, (0, 0)), mode="edge"))
    # where in the padded face each pixel of the crop comes from: turned around the centre
    side = datasets.PHOTO_SIZE
    cos, sin = np.cos(shot.angle), np.sin(shot.angle)
    turn = eigenfaces.SIZE / side / shot.zoom * np.array([[cos, -sin], [sin, cos]])
    offset = padded.width / 2 + shot.shift - turn @ np.full(2, side / 2)
    matrix = np.column_stack([turn, offset]).ravel().tolist()
    photo = padded.transform(
        (side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    # a table of 256 levels for each channel
    levels = np.arange(256) * shot.cast[:, None]
    return np.asarray(photo.point(levels.clip(0, 255).astype(np.uint8).ravel().tolist()))


# --- the folder ---------------------------------------------------------------------------------


def generate(
    out: str | Path,
    families: int = 120,
    children: tuple[int, int] = (1, 4),
    photos: tuple[int, int] = (1, 7),
    seed: int = SEED,
    recipe: Recipe = Recipe(),
    progress: bool = True,
) -> Path:
    """Write a dataset in the competition's layout; the same arguments give the same bytes.

    Beside the competition's files it holds ``truth/test_labels.csv`` (img_pair, is_related: the
    answers that Kaggle keeps) and ``manifest.json`` (the arguments, everybody's parents, and every
    planted defect).

    Args:
        out: the folder to make; it must not exist yet.
        families: with photos, one in ten of them (at least 10) named F09…; a third as many more
            appear in the test photos only.
        children: least and most children of a family.
        photos: least and most photos of a person.
        seed: of everything that is drawn.
        recipe: how alike people are.
        progress: show a bar.

    Returns:
        The folder.

    Raises:
        DatasetError: the folder exists, or the numbers make no sense.
        NoRoomError: the disk is full.
    """
    out = Path(out)
    _check_numbers(out, families, children, photos)
    maker = _Maker(families, children, photos, seed, recipe)
    # of several programs at once, one writes and the others wait; then it is there
    with files.lock(out, work=WORK):
        _check_absent(out)
        with files.atomic_folder(out, maker.expected_size()) as temporary:
            maker.write(temporary, progress)
    return out


def _check_numbers(
    out: Path, families: int, children: tuple[int, int], photos: tuple[int, int]
) -> None:
    _check_absent(out)
    if not MIN_FAMILIES <= families <= 900:
        raise DatasetError(f"{families} families cannot be made; ask for {MIN_FAMILIES} to 900.")
    for name, (least, most) in (("children", children), ("photos", photos)):
        if not 1 <= least <= most <= 99:
            raise DatasetError(
                f"{least} to {most} {name} make no sense; the least is 1, the most 99."
            )


def _check_absent(out: Path) -> None:
    if out.exists():
        raise DatasetError(f"{out} exists already; delete it or name another folder.")


class _Maker:
    """Draws the families of one dataset and writes them; the arguments are those of `generate`.

    Everything but the list of test pairs comes from one random state, so the order of the steps
    belongs to the result.
    """

    def __init__(
        self,
        families: int,
        children: tuple[int, int],
        photos: tuple[int, int],
        seed: int,
        recipe: Recipe,
    ):
        self.arguments = {
            "families": families,
            "children": list(children),
            "photos": list(photos),
            "seed": seed,
            "recipe": asdict(recipe),
        }
        self.families, self.children, self.photos = families, children, photos
        self.hidden = max(8, families // 3)  # families in the test photos only
        self.recipe = recipe
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        self.faces = eigenfaces.load()
        self.photograph_numbers = itertools.count(1)

    def expected_size(self) -> int:
        """About how many bytes will be written: the photos, as many as there are on average."""
        families = self.families + self.hidden
        people = 2.6 + sum(self.children) / 2  # parents, perhaps grandparents, children
        return int(families * people * sum(self.photos) / 2 * BYTES_A_PHOTO)

    def write(self, root: Path, progress: bool) -> None:
        """Make everything and write it to an empty folder."""
        # families for training, held-out ones, and hidden ones in the test photos
        held_out = max(10, self.families // 10)
        names = [f"F{number:04d}" for number in range(1, self.families - held_out + 1)]
        names += [f"F09{number:02d}" for number in range(held_out)]
        hidden_names = [f"X{number:03d}" for number in range(self.hidden)]
        bar = tqdm(
            names + hidden_names, desc="Making families", unit="family", disable=not progress
        )
        families = [self.family(name) for name in bar]
        shown, hidden = families[: len(names)], families[len(names) :]
        # defects change photos and the list of kin before they are written
        kin = [kin_pairs(family) for family in shown]
        defects = self.plant(shown, kin)
        self.write_train(root, shown, kin)
        copies = self.write_test(root, hidden, self.whole_photos(shown, defects["truncated"])[:2])
        defects["test_copies_of_training_photos"] = copies
        parents = parents_of(shown)
        write_json(root / MANIFEST, {**self.arguments, "parents": parents, "defects": defects})

    # families and their photos

    def family(self, name: str) -> list[Person]:
        """A family with its photos."""
        least, most = self.children
        people = make_family(
            name,
            size=len(self.faces.components),
            children=int(self.rng.integers(least, most + 1)),
            grandparent=bool(self.rng.random() < 0.3),
            rng=self.rng,
            recipe=self.recipe,
        )
        self.photograph(people)
        return people

    def photograph(self, people: list[Person]) -> None:
        """Alone or with relatives, until everyone has the photos that were drawn for them."""
        least, most = self.photos
        missing = {person.name: int(self.rng.integers(least, most + 1)) for person in people}
        shots: list[Shot] = []
        owners: list[tuple[Person, str]] = []
        while any(missing.values()):
            together = self.draw_together([person for person in people if missing[person.name]])
            coefficients = [person.coefficients for person in together]
            shots += take_photograph(coefficients, self.rng, self.recipe)
            photo_id = self.new_photo_id()
            for face, person in enumerate(together, start=1):
                owners.append((person, f"{photo_id}_face{face}.jpg"))
                missing[person.name] -= 1
        # all faces of the family at once, which is quicker
        pictures = images.map_threads(images.to_jpeg, develop(shots, self.faces))
        for (person, file), content in zip(owners, pictures, strict=True):
            person.photos.append((file, content))

    def draw_together(self, people: list[Person]) -> list[Person]:
        """Who is in the next photograph: one person in most cases, or some of them."""
        count = 1 if self.rng.random() < 0.6 else int(self.rng.integers(1, len(people) + 1))
        return [people[i] for i in self.rng.permutation(len(people))[:count]]

    def new_photo_id(self) -> str:
        """The id of a photograph that no other has."""
        return f"P{next(self.photograph_numbers):05d}"

    # defects

    def plant(self, families: list[list[Person]], kin: list[list[tuple[str, str]]]) -> dict:
        """What the real data suffers from, in families that are not held out.

        Args:
            families: their photos are changed.
            kin: the pairs of each family, of which some are removed.

        Returns:
            The places of each kind of defect.
        """
        training = [f for f in families if not f[0].name.startswith(datasets.TEST_PREFIX)]
        # every family has one defect at most
        order = [training[i] for i in self.rng.permutation(len(training))]
        return {
            "people_without_photos": self.lose_people(order[0:4]),
            "truncated": [self.truncate(order[4])],
            "duplicate_across_families": [self.copy_across(order[5], order[6])],
            "near_duplicate": [self.save_again(order[7])],
            "greyscale": [self.turn_grey(family) for family in order[8:12]],
            "kin_not_listed": self.unlist(training, kin[: len(training)]),
        }

    def lose_people(self, families: list[list[Person]]) -> list[str]:
        """Nobody has a photo of the last one of each family."""
        lost = [family[-1] for family in families]
        for person in lost:
            person.photos.clear()
        return sorted(person.name for person in lost)

    def truncate(self, family: list[Person]) -> str:
        """Half of a photo's bytes, as after a broken download."""
        person = family[0]
        file, content = person.photos[0]
        person.photos[0] = (file, content[: len(content) // 2])
        return _photo_path(person, file)

    def copy_across(self, source: list[Person], target: list[Person]) -> list[str]:
        """The same bytes in two families: one photograph filed twice."""
        file, content = source[0].photos[0]
        copy = f"{self.new_photo_id()}_face1.jpg"
        target[0].photos.append((copy, content))
        return [_photo_path(source[0], file), _photo_path(target[0], copy)]

    def save_again(self, family: list[Person]) -> list[str]:
        """The same picture of the same person, compressed harder and brighter: other bytes."""
        person = family[0]
        file, content = person.photos[0]
        brighter = (images.decode(content).astype(np.float32) * 1.08).clip(0, 255).astype(np.uint8)
        copy = f"{self.new_photo_id()}_face1.jpg"
        person.photos.append((copy, images.to_jpeg(brighter, quality=60)))
        return [_photo_path(person, file), _photo_path(person, copy)]

    def turn_grey(self, family: list[Person]) -> str:
        """A photo without colour."""
        person = family[1]
        file, content = person.photos[0]
        grey = np.asarray(Image.fromarray(images.decode(content)).convert("L"))
        person.photos[0] = (file, images.to_jpeg(grey))
        return _photo_path(person, file)

    def unlist(
        self, families: list[list[Person]], kin: list[list[tuple[str, str]]]
    ) -> list[list[str]]:
        """Remove a pair of each of three large families: relatives that nobody wrote down."""
        large = [
            (family, pairs) for family, pairs in zip(families, kin, strict=True) if len(pairs) >= 8
        ]
        unlisted = []
        for family, pairs in large[:3]:
            # a pair of people without photos would not be missed
            with_photos = {person.name for person in family if person.photos}
            usable = [pair for pair in pairs if with_photos.issuperset(pair)]
            pair = usable[int(self.rng.integers(len(usable)))]
            pairs.remove(pair)
            unlisted.append(list(pair))
        return unlisted

    # files

    def write_train(
        self, root: Path, families: list[list[Person]], kin: list[list[tuple[str, str]]]
    ) -> None:
        """The training photos and the list of kin."""
        for person in itertools.chain.from_iterable(families):
            for file, content in person.photos:
                path = root / _photo_path(person, file)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        rows = pd.DataFrame(itertools.chain.from_iterable(kin), columns=["p1", "p2"])
        rows.to_csv(root / datasets.RELATIONSHIPS, index=False)

    def whole_photos(self, families: list[list[Person]], truncated: list[str]) -> list[bytes]:
        """A training photo of each family, but not the truncated one."""
        photos = []
        for person in (family[0] for family in families):
            file, content = person.photos[-1]
            if _photo_path(person, file) not in truncated:
                photos.append(content)
        return photos

    def write_test(self, root: Path, hidden: list[list[Person]], copies: list[bytes]) -> list[str]:
        """Photos of families of their own, pairs to score, the answers; plus unused copies.

        Args:
            root: the folder.
            hidden: families whose photos are in the test alone.
            copies: training photos that are among the test photos too.

        Returns:
            Names of the copies, sorted.
        """
        owners, contents = [], []
        for person in itertools.chain.from_iterable(hidden):
            for _, content in person.photos:
                owners.append(person.name)
                contents.append(content)
        contents += copies
        # numbers at random, so that a name says nothing about the person
        (root / "test").mkdir()
        names = {}
        for number, index in enumerate(self.rng.permutation(len(contents)).tolist()):
            names[index] = f"face{number:05d}.jpg"
            (root / "test" / names[index]).write_bytes(contents[index])
        photos_of: dict[str, list[str]] = {}
        for index, owner in enumerate(owners):
            photos_of.setdefault(owner, []).append(names[index])
        self.write_pairs(root, hidden, photos_of)
        return sorted(names[index] for index in range(len(owners), len(contents)))

    def write_pairs(
        self, root: Path, hidden: list[list[Person]], photos_of: dict[str, list[str]]
    ) -> None:
        """Pairs to score, and the answers in another file.

        The list gives answers away, as the competition's does: each photo of these families is in
        a pair of kin, and strangers are drawn from photos that stand first in a pair of kin.

        Args:
            root: the folder.
            hidden: families whose photos are in the test alone.
            photos_of: names of the test photos of each person.
        """
        # a random state of its own: what else is made does not depend on the list
        rng = np.random.default_rng((self.seed, PAIRS_STREAM))
        family_of = {}
        for number, family in enumerate(hidden):
            for person in family:
                family_of.update(dict.fromkeys(photos_of[person.name], number))
        kin = _kin_photos(hidden, photos_of, rng)
        strangers = _stranger_photos(kin, family_of, rng)

        # in another order: kin come first
        names = [f"{a}-{b}" for a, b in kin + strangers]
        labels = np.repeat([1, 0], [len(kin), len(strangers)])
        table = pd.DataFrame({"img_pair": names, "is_related": labels})
        table = table.iloc[rng.permutation(len(table))]
        (root / TRUTH).parent.mkdir()
        table.to_csv(root / TRUTH, index=False)
        table.assign(is_related=0).to_csv(root / datasets.SAMPLE, index=False)


def _kin_photos(
    families: list[list[Person]], photos_of: dict[str, list[str]], rng: np.random.Generator
) -> list[tuple[str, str]]:
    """Pairs of photos of relatives, such that each photo is in at least one.

    Args:
        families: people and their kin.
        photos_of: names of the photos of each person.
        rng: random state.
    """
    relatives: dict[str, list[str]] = {}
    for a, b in itertools.chain.from_iterable(map(kin_pairs, families)):
        relatives.setdefault(a, []).append(b)
        relatives.setdefault(b, []).append(a)
    owners = [(photo, person) for person in relatives for photo in photos_of[person]]

    # each photo that is in no pair yet gets one of a relative; either stands first
    pairs: list[tuple[str, str]] = []
    shown: set[str] = set()
    for index in rng.permutation(len(owners)):
        photo, person = owners[index]
        if photo not in shown:
            relative = relatives[person][rng.integers(len(relatives[person]))]
            other = photos_of[relative][rng.integers(len(photos_of[relative]))]
            pairs.append((photo, other) if rng.random() < 0.5 else (other, photo))
            shown.update((photo, other))
    return pairs


def _stranger_photos(
    kin: list[tuple[str, str]], family_of: dict[str, int], rng: np.random.Generator
) -> list[tuple[str, str]]:
    """As many pairs of photos of different families, drawn from those that stand first.

    Args:
        kin: pairs of photos of relatives.
        family_of: the number of each photo's family.
        rng: random state.
    """
    first = sorted({a for a, _ in kin})
    pairs: dict[frozenset[str], tuple[str, str]] = {}  # no pair twice, in whichever order
    while len(pairs) < len(kin):
        a, b = (first[i] for i in rng.integers(len(first), size=2))
        if family_of[a] != family_of[b]:
            pairs.setdefault(frozenset((a, b)), (a, b))
    return list(pairs.values())


def _photo_path(person: Person, file: str) -> str:
    return f"train/{person.name}/{file}"


def manifest(root: str | Path) -> dict:
    """How a synthetic dataset was made, and where its defects are."""
    return read_json(Path(root) / MANIFEST)


def generate_once(out: Path, **arguments: Any) -> bool:
    """Make the families unless they are there; of several programs at once, one makes them.

    Args:
        out: the folder of the families.
        arguments: the others of :func:`generate`.

    Returns:
        Whether they were made by this call.
    """
    # a folder that is there may lie where nothing can be written
    if out.exists():
        return False
    # a lock of its own, since `generate` takes the one on the folder
    with files.lock(out.with_name(f"{out.name}-once"), work=WORK):
        if out.exists():
            return False
        generate(out, **arguments)
        return True
