"""Synthetic families: faces of nobody, with real kinship between them, in the competition's layout.

A parent is a vector of random eigenface coefficients. A child takes each coefficient from one of
its parents, shrunk and perturbed. A photograph perturbs everybody in it, and gives all of them the
same light. What goes wrong in real data (and a little more) is planted at known places and written
down in ``manifest.json``, so that an audit can be checked against it.
"""

import functools
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

import filelock
import numpy as np
import pandas as pd
from PIL import Image
from tqdm.auto import tqdm

from .. import images, settings
from ..errors import DatasetError
from ..faces import detection
from ..files import read_json, write_json
from . import datasets, eigenfaces
from .datasets import Dataset
from .eigenfaces import Eigenfaces

PHOTO_SIZE = 224  # as in the competition
MIN_FAMILIES = 20
MANIFEST = "manifest.json"
TRUTH = "truth/test_labels.csv"


@dataclass(frozen=True)
class Recipe:
    """How alike people are. All figures are in standard deviations of a coefficient.

    Attributes:
        adult: spread of people with no parents in the data.
        inherited, child: a child's coefficient is ``inherited`` × the chosen parent's + N(0, ``child``).
        kept, photo: a photo shows ``kept`` × the person's coefficient + N(0, ``photo``).
        light, light_components: a photograph shifts the first few coefficients (which are mostly
            light) of everyone in it by the same N(0, ``light``).
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
    """One person: name such as F0012/MID3, coefficients ``(k,)``, names of the parents."""

    name: str
    coefficients: np.ndarray
    parents: tuple[str, ...] = ()
    photos: list[tuple[str, bytes]] = field(default_factory=list)  # (file name, JPEG)


# --- people -------------------------------------------------------------------------------------


def make_family(name: str, size: int, children: int, grandparent: bool, rng: np.random.Generator,
                recipe: Recipe = Recipe()) -> list[Person]:
    """Two parents and their children; with ``grandparent``, a parent of the first parent as well.

    ``size`` is the number of coefficients. Member numbers say nothing about who is whose child.
    """
    count = 2 + children + grandparent
    names = [f"{name}/MID{number}" for number in rng.permutation(count) + 1]
    people = [Person(names.pop(), rng.normal(0, recipe.adult, size)) for _ in range(2)]
    if grandparent:
        elder, spouse = people[0], Person("", rng.normal(0, recipe.adult, size))
        people.append(Person(names.pop(), _child(elder, spouse, rng, recipe), (elder.name,)))
    parents = (people[-1], people[1]) if grandparent else (people[0], people[1])
    for _ in range(children):
        coefficients = _child(*parents, rng, recipe)
        people.append(Person(names.pop(), coefficients, tuple(p.name for p in parents)))
    return people


def _child(a: Person, b: Person, rng, recipe: Recipe) -> np.ndarray:
    from_a = rng.random(len(a.coefficients)) < 0.5
    chosen = np.where(from_a, a.coefficients, b.coefficients)
    return recipe.inherited * chosen + rng.normal(0, recipe.child, len(chosen))


def kin_pairs(people: list[Person]) -> list[tuple[str, str]]:
    """Who is kin by blood: parent and child, siblings, grandparent and grandchild. Never spouses."""
    parents = {person.name: set(person.parents) for person in people}
    pairs = []
    for i, a in enumerate(people):
        for b in people[i + 1:]:
            up_a, up_b = parents[a.name], parents[b.name]
            grand_a = set().union(*(parents[p] for p in up_a))
            grand_b = set().union(*(parents[p] for p in up_b))
            if a.name in up_b | grand_b or b.name in up_a | grand_a or up_a & up_b:
                pairs.append((a.name, b.name))
    return pairs


# --- photos -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shot:
    """One face in one photograph, not yet rendered: coefficients ``(k,)`` and how it is developed."""

    coefficients: np.ndarray
    cast: np.ndarray  # (3,) factors of red, green and blue
    angle: float  # radians
    zoom: float
    shift: np.ndarray  # (2,) pixels of the rendered face


def take_photograph(people: list[np.ndarray], rng: np.random.Generator,
                    recipe: Recipe = Recipe()) -> list[Shot]:
    """One photograph of people with these coefficients: everyone in the same light."""
    size = len(people[0])
    light = np.zeros(size)
    light[:recipe.light_components] = rng.normal(0, recipe.light, recipe.light_components)
    cast = rng.normal(1, 0.03, 3) * rng.normal(1, 0.06)
    return [Shot(recipe.kept * person + rng.normal(0, recipe.photo, size) + light, cast,
                 np.deg2rad(rng.normal(0, 4)), 1.04 * rng.normal(1, 0.03),
                 rng.normal(0, 0.015, 2) * eigenfaces.SIZE) for person in people]


def develop(shots: list[Shot], faces: Eigenfaces) -> list[np.ndarray]:
    """Render shots as crops like the competition's: uint8 RGB 224×224 each."""
    rendered = faces.render(np.array([shot.coefficients for shot in shots]))
    return list(images.map_threads(_crop, zip(rendered, shots, strict=True)))


def _crop(face_and_shot: tuple[np.ndarray, Shot]) -> np.ndarray:
    """Turn, scale and shift a rendered face a little, as a detector's boxes do, and colour it."""
    face, shot = face_and_shot
    margin = eigenfaces.SIZE // 4
    padded = Image.fromarray(np.pad(face, ((margin, margin), (margin, margin), (0, 0)), mode="edge"))
    cos, sin = np.cos(shot.angle), np.sin(shot.angle)
    turn = eigenfaces.SIZE / PHOTO_SIZE / shot.zoom * np.array([[cos, -sin], [sin, cos]])
    offset = padded.width / 2 + shot.shift - turn @ np.full(2, PHOTO_SIZE / 2)
    photo = padded.transform((PHOTO_SIZE, PHOTO_SIZE), Image.Transform.AFFINE,
                             np.column_stack([turn, offset]).ravel(), Image.Resampling.BILINEAR)
    levels = np.arange(256) * shot.cast[:, None]
    return np.asarray(photo.point(levels.clip(0, 255).astype(np.uint8).ravel().tolist()))


# --- the folder ---------------------------------------------------------------------------------


def generate(out: str | Path, families: int = 120, children: tuple[int, int] = (1, 4),
             photos: tuple[int, int] = (1, 7), seed: int = settings.SEED,
             recipe: Recipe = Recipe(), progress: bool = True) -> Path:
    """Write a dataset in the competition's layout; the same arguments give the same bytes.

    Beside the competition's files it holds ``truth/test_labels.csv`` (img_pair, is_related: the
    answers that Kaggle keeps) and ``manifest.json`` (the arguments, and every planted defect).

    Args:
        out: the folder to make; it must not exist yet.
        families: with photos, one in ten of them (at least 10) named F09…; a third as many more
            appear in the test photos only.
        children, photos: least and most for a family and for a person.

    Raises:
        DatasetError: the folder exists, or the numbers make no sense.
    """
    out = Path(out)
    _check_numbers(out, families, children, photos)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    try:
        maker = _Maker(families, children, photos, seed, recipe, progress)
        maker.write(temporary)
        temporary.chmod(0o755)
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def _check_numbers(out: Path, families: int, children: tuple[int, int], photos: tuple[int, int]) -> None:
    if out.exists():
        raise DatasetError(f"{out} exists already; delete it or name another folder.")
    if not MIN_FAMILIES <= families <= 900:
        raise DatasetError(f"{families} families cannot be made; ask for {MIN_FAMILIES} to 900.")
    for what, (least, most) in (("children", children), ("photos", photos)):
        if not 1 <= least <= most <= 99:
            raise DatasetError(f"{least} to {most} {what} make no sense; the least is 1, the most 99.")


class _Maker:
    """Everything of one dataset, in memory until it is written."""

    def __init__(self, families, children, photos, seed, recipe, progress):
        self.arguments = {"families": families, "children": list(children), "photos": list(photos),
                          "seed": seed, "recipe": asdict(recipe)}
        self.families, self.children, self.photos_range = families, children, photos
        self.recipe, self.progress = recipe, progress
        self.rng = np.random.default_rng(seed)
        self.faces = eigenfaces.load()
        self.photograph_number = 0
        self.defects: dict[str, list] = {}

    def write(self, root: Path) -> None:
        held_out = max(10, self.families // 10)
        names = [f"F{n:04d}" for n in range(1, self.families - held_out + 1)]
        names += [f"F09{n:02d}" for n in range(held_out)]
        hidden_names = [f"X{n:03d}" for n in range(max(8, self.families // 3))]
        made = [self.family(name) for name in tqdm(names + hidden_names, desc="Making families",
                                                   unit="family", disable=not self.progress)]
        groups, hidden = made[:len(names)], made[len(names):]
        kin = [kin_pairs(group) for group in groups]
        self.plant(groups, kin)
        self.write_train(root, groups, kin)
        self.write_test(root, groups, hidden)
        write_json(root / MANIFEST, {**self.arguments, "defects": self.defects})

    def family(self, name: str) -> list[Person]:
        least, most = self.children
        people = make_family(name, len(self.faces.components), int(self.rng.integers(least, most + 1)),
                             bool(self.rng.random() < 0.3), self.rng, self.recipe)
        self.photograph(people)
        return people

    def photograph(self, people: list[Person]) -> None:
        """Alone or with relatives, until everyone has the photos that were drawn for them."""
        least, most = self.photos_range
        wanted = {p.name: int(self.rng.integers(least, most + 1)) for p in people}
        shots: list[Shot] = []
        owners: list[tuple[Person, str]] = []
        while any(wanted.values()):
            waiting = [p for p in people if wanted[p.name]]
            number = 1 if self.rng.random() < 0.6 else int(self.rng.integers(1, len(waiting) + 1))
            chosen = [waiting[i] for i in self.rng.permutation(len(waiting))[:number]]
            self.photograph_number += 1
            shots += take_photograph([p.coefficients for p in chosen], self.rng, self.recipe)
            for face, person in enumerate(chosen, start=1):
                owners.append((person, f"P{self.photograph_number:05d}_face{face}.jpg"))
                wanted[person.name] -= 1
        pictures = images.map_threads(images.to_jpeg, develop(shots, self.faces))
        for (person, file), content in zip(owners, pictures, strict=True):
            person.photos.append((file, content))

    def plant(self, groups: list[list[Person]], kin: list[list[tuple[str, str]]]) -> None:
        """What the real data suffers from, in families that are not held out."""
        training = [g for g in groups if not g[0].name.startswith(datasets.TEST_PREFIX)]
        order = [training[i] for i in self.rng.permutation(len(training))]
        self.defects = {
            "people_without_photos": self._lose_people(order[0:4]),
            "truncated": [self._truncate(order[4])],
            "duplicate_across_families": [self._copy_across(order[5], order[6])],
            "near_duplicate": [self._save_again(order[7])],
            "greyscale": [self._grey(group) for group in order[8:12]],
            "kin_not_listed": self._unlist(training, kin[:len(training)]),
        }

    def _lose_people(self, groups: list[list[Person]]) -> list[str]:
        lost = [group[-1] for group in groups]
        for person in lost:
            person.photos.clear()
        return sorted(person.name for person in lost)

    def _truncate(self, group: list[Person]) -> str:
        person = group[0]
        file, content = person.photos[0]
        person.photos[0] = (file, content[:len(content) // 2])
        return f"train/{person.name}/{file}"

    def _copy_across(self, source: list[Person], target: list[Person]) -> list[str]:
        """The same bytes in two families: one photograph filed twice."""
        self.photograph_number += 1
        file, content = source[0].photos[0]
        copy = f"P{self.photograph_number:05d}_face1.jpg"
        target[0].photos.append((copy, content))
        return [f"train/{source[0].name}/{file}", f"train/{target[0].name}/{copy}"]

    def _save_again(self, group: list[Person]) -> list[str]:
        """The same picture of the same person, compressed harder and brighter: other bytes."""
        person = group[0]
        self.photograph_number += 1
        file, content = person.photos[0]
        brighter = (images.decode(content).astype(np.float32) * 1.08).clip(0, 255).astype(np.uint8)
        copy = f"P{self.photograph_number:05d}_face1.jpg"
        person.photos.append((copy, images.to_jpeg(brighter, quality=60)))
        return [f"train/{person.name}/{file}", f"train/{person.name}/{copy}"]

    def _grey(self, group: list[Person]) -> str:
        person = group[1]
        file, content = person.photos[0]
        grey = np.asarray(Image.fromarray(images.decode(content)).convert("L"))
        person.photos[0] = (file, images.to_jpeg(grey))
        return f"train/{person.name}/{file}"

    def _unlist(self, groups: list[list[Person]], kin: list[list[tuple[str, str]]]) -> list[list[str]]:
        """Take one row from each of a few large families: relatives that nobody wrote down."""
        unlisted = []
        for group, pairs in [both for both in zip(groups, kin, strict=True) if len(both[1]) >= 8][:3]:
            shown = {person.name for person in group if person.photos}
            usable = [pair for pair in pairs if shown.issuperset(pair)]
            unlisted.append(list(usable[int(self.rng.integers(len(usable)))]))
            pairs.remove(tuple(unlisted[-1]))
        return unlisted

    def write_train(self, root: Path, groups: list[list[Person]], kin: list[list[tuple[str, str]]]) -> None:
        for person in (person for group in groups for person in group):
            for file, content in person.photos:
                path = root / "train" / person.name / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        rows = [pair for pairs in kin for pair in pairs]
        pd.DataFrame(rows, columns=["p1", "p2"]).to_csv(root / datasets.RELATIONSHIPS, index=False)

    def write_test(self, root: Path, groups: list[list[Person]], hidden: list[list[Person]]) -> None:
        """Photos of families of their own, pairs to score, the answers; plus two unused copies."""
        faces = [(p, content) for group in hidden for p in group for _, content in p.photos]
        copies = self._whole_photos(groups)[:2]
        order = self.rng.permutation(len(faces) + len(copies))
        contents = [content for _, content in faces] + copies
        (root / "test").mkdir()
        names = {}
        for number, index in enumerate(order):
            names[int(index)] = f"face{number:05d}.jpg"
            (root / "test" / names[int(index)]).write_bytes(contents[index])
        self.defects["test_copies_of_training_photos"] = sorted(
            names[len(faces) + i] for i in range(len(copies)))
        self._write_pairs(root, hidden, [p.name for p, _ in faces], names)

    def _whole_photos(self, groups: list[list[Person]]) -> list[bytes]:
        """A training photo of each family, but not the truncated one."""
        last = [(person.name, *person.photos[-1]) for person in (group[0] for group in groups)]
        return [content for name, file, content in last
                if f"train/{name}/{file}" not in self.defects["truncated"]]

    def _write_pairs(self, root: Path, hidden: list[list[Person]], owners: list[str], names: dict) -> None:
        photos_of: dict[str, list[str]] = {}
        for index, owner in enumerate(owners):
            photos_of.setdefault(owner, []).append(names[index])
        kin = [pair for group in hidden for pair in kin_pairs(group)]
        rows = {}
        while len(rows) < 2 * len(kin):
            related = int(len(rows) % 2 == 0)
            if related:
                people = kin[self.rng.integers(len(kin))]
            else:
                i, j = self.rng.choice(len(hidden), 2, replace=False)
                people = [g[self.rng.integers(len(g))].name for g in (hidden[i], hidden[j])]
            pair = "-".join(photos_of[p][self.rng.integers(len(photos_of[p]))] for p in people)
            rows.setdefault(pair, related)
        table = pd.DataFrame(rows.items(), columns=["img_pair", "is_related"])
        table = table.iloc[self.rng.permutation(len(table))]
        (root / TRUTH).parent.mkdir()
        table.to_csv(root / TRUTH, index=False)
        table.assign(is_related=0).to_csv(root / datasets.SAMPLE, index=False)


def manifest(root: str | Path) -> dict:
    """How a synthetic dataset was made, and where its defects are."""
    return read_json(Path(root) / MANIFEST)


# --- the data that the course runs on -----------------------------------------------------------


def open_data(source: str | Path | None = None) -> Dataset:
    """``source``, else the real data that ``KIN_DATA`` names, else the synthetic families.

    The synthetic families are made at the first use (about ten seconds).
    """
    source = source or settings.data_source()
    if source is None:
        source = settings.families_dir()
        _generate_once(source)
    return datasets.load(source)


def _generate_once(out: Path) -> None:
    """Make the families unless they are there; of several programs at once, one makes them."""
    lock = settings.cache_dir() / "families.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(lock):
        if not out.exists():
            generate(out)


# --- building the eigenfaces --------------------------------------------------------------------

# Mean position of MTCNN's landmarks in the competition's 224×224 crops, made left-right symmetric.
CROP_LANDMARKS = np.array([(68.6, 63.2), (155.4, 63.2), (112.0, 116.0), (72.0, 154.0), (152.0, 154.0)])
MAX_MISFIT = 14.0  # pixels; beyond it lie profiles, which blur the components


def build_eigenfaces(dataset: Dataset, count: int = 200, progress: bool = True) -> tuple[Eigenfaces, dict]:
    """Fit eigenfaces to every training photo on which MTCNN finds a roughly frontal face.

    Returns:
        the model, and facts about it: photos, used, without_face, too_turned, variance_share.
    """
    paths = dataset.paths(dataset.photos["path"])
    template = CROP_LANDMARKS * eigenfaces.SIZE / PHOTO_SIZE
    facts = {"photos": len(paths), "without_face": 0, "too_turned": 0}
    aligned = []
    with tqdm(total=len(paths), desc="Aligning faces", unit="photo", disable=not progress) as bar:
        for start in range(0, len(paths), 128):
            crops = images.read_many(paths[start:start + 128], PHOTO_SIZE)
            found = detection.detect_in_crops(crops)
            misfit = [np.inf if face is None else _misfit(face.landmarks) for face in found]
            without = sum(face is None for face in found)
            facts["without_face"] += without
            usable = [i for i, error in enumerate(misfit) if error <= MAX_MISFIT]
            facts["too_turned"] += len(crops) - len(usable) - without
            cut = functools.partial(_align_crop, crops, found, template)
            aligned.extend(images.map_threads(cut, usable))
            bar.update(len(crops))
    model, share = eigenfaces.fit(aligned, template, count)
    return model, {**facts, "used": len(aligned), "components": count, "variance_share": round(share, 4)}


def _align_crop(crops, found, template, i: int) -> np.ndarray:
    return detection.align(crops[i], found[i].landmarks, template, eigenfaces.SIZE)


def _misfit(points: np.ndarray) -> float:
    """Root mean square distance in pixels of landmarks from the template after the best fit."""
    matrix = detection.similarity_transform(points, CROP_LANDMARKS)
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    return float(np.sqrt(((moved - CROP_LANDMARKS) ** 2).sum(1).mean()))
