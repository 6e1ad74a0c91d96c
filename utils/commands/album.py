"""Verbs about whole albums: album, albums."""

import argparse
from pathlib import Path

from .values import new_file, new_folder
from .verbs import DATA, Result, option, output, verb

STORE_BYTES = 20_000_000  # of some thousand faces with their pictures


@verb(
    "album",
    "group the faces of a folder into people, and say who may be related",
    ["album photos/ --out album/", "album photos/ --out album/ --json"],
    [
        option("folder", type=Path, metavar="FOLDER", help="photos, also in folders in it"),
        output(
            "--out",
            type=new_folder,
            required=True,
            metavar="DIR",
            help="page, tables and graph; after corrections in the tables, run it again",
        ),
    ],
    room=STORE_BYTES,
)
def album(options: argparse.Namespace) -> Result:
    """Faces, people and relations of a folder."""
    from ..answers.album.album import Album

    made = Album.of(options.folder, options.out, progress=not options.json)
    return Result(made.to_dict(), made.summary)


@verb(
    "albums",
    "measure grouping and kinship in albums of families that the encoders never saw",
    ["albums models/folds/*.keras --data recognizing-faces-in-the-wild.zip"],
    [
        DATA,
        option("encoders", nargs="+", type=Path, metavar="ENCODER", help="files of: train folds"),
        output("--out", type=new_file(".json"), help="write what albums decide by to this file"),
    ],
)
def albums(options: argparse.Namespace) -> Result:
    """Fit what albums decide by on the folds, and measure it on the held-out families."""
    from ..answers.album import measuring
    from ..answers.album import settings as album_settings
    from ..data import open_data
    from ..faces import backbones
    from ..files import write_json
    from ..training import models, out_of_fold

    # what is wrong with the encoders is told before the photos are read
    encoders = [models.load_encoder(path) for path in options.encoders]
    groups = out_of_fold.by_backbone(encoders)
    identities = backbones.at_hand()
    dataset = open_data(options.data)
    folds = out_of_fold.embed_folds(dataset, encoders, identities)
    facts = album_settings.to_file(
        measuring.measure(dataset, folds, identities),
        [backbones.get(name).fingerprint for name in groups],
    )
    if options.out:
        write_json(options.out, facts)
    return Result(facts, album_settings.report(facts))
