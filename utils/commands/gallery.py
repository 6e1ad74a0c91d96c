"""Verbs on a gallery of people: gallery build, gallery search."""

import argparse
from pathlib import Path

from .values import new_folder, whole
from .verbs import Result, option, output, verb

MODEL = option("--model", type=Path, help="file of: ship (default: models/kinship.npz)")


@verb(
    "gallery build",
    "make a gallery of a folder of photos, to search for relatives in it",
    ["gallery build photos --out my_gallery"],
    [
        option(
            "folder",
            type=Path,
            metavar="FOLDER",
            help="photos as person/photo.jpg, or one photo of each person",
        ),
        output(
            "--out",
            type=new_folder,
            required=True,
            metavar="DIR",
            help="folder to make; it holds names and numbers, and no photo",
        ),
        MODEL,
    ],
)
def build(options: argparse.Namespace) -> Result:
    """Embed the photos and write the gallery."""
    from ..answers import gallery
    from ..answers.kinship import Kinship

    facts = gallery.build(options.folder, options.out, Kinship.load(options.model))
    left_out, people = len(facts["left_out"]), len(facts["people"])
    text = f"{options.out}: {people} people, {facts['photos']} photos"
    text += f", {left_out} left out" if left_out else ""
    return Result({"out": str(options.out), **facts}, text)


@verb(
    "gallery search",
    "rank the people of a gallery: relatives, and by themselves the same person",
    ["gallery search child.jpg --gallery my_gallery --top 5 --json"],
    [
        option("photo", type=Path, metavar="PHOTO"),
        option("--gallery", type=Path, required=True, metavar="DIR", help="of: gallery build"),
        option("--top", type=whole(1, 1000), default=10, help="people of each list (default: 10)"),
        option(
            "--face",
            type=whole(1),
            default=1,
            metavar="N",
            help="which face of the photo, where there are several (default: 1, the largest)",
        ),
        MODEL,
    ],
)
def search(options: argparse.Namespace) -> Result:
    """Two lists of people, and what they are worth."""
    from ..answers import gallery
    from ..answers.kinship import Kinship

    people = gallery.Gallery.load(options.gallery, Kinship.load(options.model))
    answer = people.search(options.photo, options.top, options.face)
    return Result(answer.to_dict(), "\n".join(gallery.lines_of(answer)))
