"""Verbs on families and their photos: families, audit, triples, protocol, eigenfaces, quality."""

import argparse
import time
from pathlib import Path

from .. import settings
from .shared import BACKBONE
from .values import JPEG, new_file, new_folder, seed, span, whole
from .verbs import DATA, Result, option, output, verb


@verb(
    "families",
    "make a dataset of synthetic families",
    ["families --families 40 --seed 1 --out my_families"],
    [
        output("--out", type=Path, help="folder to make (default: data/families, kept if there)"),
        option(
            "--families",
            type=whole(20, 900),
            default=120,
            help="number of families, 20 to 900 (default: 120)",
        ),
        option(
            "--children",
            type=span(1, 99),
            default=(1, 4),
            metavar="LEAST-MOST",
            help="children of a family (default: 1-4)",
        ),
        option(
            "--photos",
            type=span(1, 99),
            default=(1, 7),
            metavar="LEAST-MOST",
            help="photos of a person (default: 1-7)",
        ),
        option(
            "--seed", type=seed, default=settings.SEED, help="the same seed gives the same bytes"
        ),
    ],
)
def families(options: argparse.Namespace) -> Result:
    """Make synthetic families; the default folder is left alone when it is there."""
    from ..data import datasets, synthetic

    # a folder that is named must be new; the default one may be there already
    out = options.out or settings.families_dir()
    start = time.perf_counter()
    arguments = {name: vars(options)[name] for name in ("families", "children", "photos", "seed")}
    if options.out:
        synthetic.generate(out, **arguments)
        is_new = True
    else:
        is_new = synthetic.generate_once(out, **arguments)
    # what it holds is counted in the folder, not taken from what was asked for
    dataset = datasets.load(out)
    facts = {
        "folder": str(out),
        "families": len(dataset.families),
        "people": len(dataset.people),
        "photos": len(dataset.photos),
        "kin_pairs": len(dataset.kin),
        "test_pairs": len(dataset.sample),
    }
    note = f"made in {time.perf_counter() - start:.1f} s" if is_new else "there already"
    text = (
        f"{out}: {facts['families']} families, {facts['people']} people, "
        f"{facts['photos']} photos, {facts['kin_pairs']} kin pairs ({note})"
    )
    return Result(facts, text)


@verb(
    "audit",
    "say what the data really holds",
    ["audit --data recognizing-faces-in-the-wild.zip --json"],
    [
        DATA,
        output("--figures", type=new_folder, metavar="DIR", help="also write the figures as PNG"),
    ],
)
def audit(options: argparse.Namespace) -> Result:
    """Count what the data holds."""
    from tqdm import tqdm

    from .. import plots
    from ..data import audit, open_data

    dataset = open_data(options.data, readable=False)
    photos = len(dataset.photos) + len(dataset.test_photos)
    with tqdm(total=photos, desc="Scanning", unit="photo") as bar:
        report = audit.audit(dataset, advance=bar.update)
    # pictures: the distributions, and the graph of the largest family
    if options.figures:
        plots.save(plots.audit_overview(report, dataset), options.figures / "audit.png")
        largest = dataset.kin["family"].value_counts().index[0]
        plots.save(plots.family(dataset, largest), options.figures / "family.png")
    return Result(report.to_dict(), report.table().to_string(index=False))


@verb(
    "triples",
    "list who may be two parents and their child, as far as a list of kin shows it",
    ["triples --data recognizing-faces-in-the-wild.zip --out triples.csv"],
    [
        DATA,
        output("--out", type=new_file(".csv"), help="write the clear ones to this CSV file"),
    ],
)
def list_triples(options: argparse.Namespace) -> Result:
    """Count the triples; on synthetic families also how many are right."""
    import pandas as pd

    from .. import files
    from ..data import open_data, synthetic, triples

    dataset = open_data(options.data, readable=False)
    lists = {"candidates": triples.candidates(dataset), "clear": triples.clear(dataset)}
    facts: dict[str, object] = {name: len(rows) for name, rows in lists.items()}
    text = f"{facts['candidates']} candidates, {facts['clear']} that nothing competes with"
    # the truth is known of families that were made by this version
    has_truth = (dataset.root / synthetic.MANIFEST).is_file()
    parents = synthetic.manifest(dataset.root).get("parents") if has_truth else None
    if parents:
        right = {name: triples.precision(rows, parents) for name, rows in lists.items()}
        facts["precision"] = {name: round(share, 4) for name, share in right.items()}
        text += "; parents with their child are {candidates:.1%} and {clear:.1%}".format(**right)
    if options.out:
        table = pd.DataFrame(lists["clear"], columns=triples.Triple._fields)
        files.write_text(options.out, table.to_csv(index=False, lineterminator="\n"))
    return Result(facts, text)


@verb(
    "protocol",
    "draw the evaluation pairs and the folds anew",
    ["protocol --data recognizing-faces-in-the-wild.zip --out data/protocols"],
    [
        DATA,
        output(
            "--out",
            type=new_folder,
            required=True,
            metavar="DIR",
            help="folder for the four CSV files",
        ),
    ],
)
def protocol(options: argparse.Namespace) -> Result:
    """Draw the committed evaluation files."""
    from ..data import open_data, protocols

    dataset = open_data(options.data)
    training_families, test_families = protocols.split_families(dataset)
    # pairs and identity come from held-out families, folds from the others
    pairs = protocols.make_protocol(dataset, test_families)
    folds = protocols.make_folds(dataset, training_families)
    identity = protocols.make_identity_protocol(dataset, test_families)
    protocols.write_csv(pairs, options.out / protocols.F09_PAIRS.name)
    protocols.write_csv(folds, options.out / protocols.FOLDS.name)
    protocols.write_csv(identity, options.out / protocols.F09_IDENTITY.name)
    # pairs from every family, in these folds
    every = protocols.make_out_of_fold(dataset, folds)
    protocols.write_csv(every, options.out / protocols.OUT_OF_FOLD.name)
    # how many of each there are
    facts = {
        "pairs": len(pairs),
        "same_photo_pairs": int(pairs["same_photo"].sum()),
        "families": len(folds),
        "identity_pairs": len(identity),
        "out_of_fold_pairs": len(every),
    }
    text = (
        f"{options.out}: {len(pairs)} pairs ({facts['same_photo_pairs']} of one photograph), "
        f"{len(folds)} families in folds, {len(identity)} pairs to verify identity on, "
        f"{len(every)} pairs of every family"
    )
    return Result(facts, text)


@verb(
    "eigenfaces",
    "build the face model of the synthetic families from real photos",
    ["eigenfaces --data recognizing-faces-in-the-wild.zip --out eigenfaces.npz"],
    [
        DATA,
        output(
            "--out",
            type=new_file(".npz"),
            default=settings.EIGENFACES,
            help="default: data/eigenfaces.npz",
        ),
        option("--components", type=whole(1), default=200, help="default: 200"),
    ],
)
def build_eigenfaces(options: argparse.Namespace) -> Result:
    """Fit and write the face model."""
    from ..data import eigenfaces, open_data

    dataset = open_data(options.data)
    model, facts = eigenfaces.build(dataset, options.components)
    eigenfaces.save(model, options.out)
    share = 100 * facts["variance_share"]
    text = (
        f"{options.out}: {facts['components']} components of {facts['used']} faces, "
        f"{share:.1f} % of the variance"
    )
    return Result({**facts, "out": str(options.out)}, text)


@verb(
    "quality",
    "measure the synthetic families, and how private they are",
    ["quality --real recognizing-faces-in-the-wild.zip"],
    [
        DATA,
        BACKBONE,
        option(
            "--real",
            type=Path,
            help="real data to compare with (privacy, expected figures)",
        ),
        output(
            "--picture", type=new_file(*JPEG), help="also write a picture of five families (JPEG)"
        ),
    ],
)
def quality(options: argparse.Namespace) -> Result:
    """Figures for the synthetic families, and for the real data beside them."""
    import pandas as pd

    from .. import files, images, plots
    from ..data import datasets
    from ..scoring import quality
    from .shared import open_with_backbone

    dataset, backbone = open_with_backbone(options)
    # the same figures on both, and how near synthetic people come to real ones
    facts = {"synthetic": quality.measure(dataset, backbone)}
    columns = dict(facts)  # one a dataset
    if options.real:
        real = datasets.readable(datasets.load(options.real))
        columns["real"] = quality.measure(real, backbone)
        facts = {**columns, "privacy": quality.privacy(dataset, real, backbone)}
    # five families, a row each
    if options.picture:
        names = dataset.families[20:25] or dataset.families[:5]
        picture = images.to_jpeg(plots.families(dataset, names))
        files.write_bytes(options.picture, picture)
    lines = [f"{name}: {value}" for name, value in facts.get("privacy", {}).items()]
    return Result(facts, "\n".join([pd.DataFrame(columns).to_string(), *lines]))
