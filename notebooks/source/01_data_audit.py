# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Lesson 01: What is in the data?
#
# Before a model sees a single face, we count. The Kaggle competition *Recognizing Faces in the
# Wild* gives photographs of families and a list of who is related to whom. A published solution with
# two large networks and a Flask page is what this course rebuilds and repairs; the lessons call it
# *the article*. Most models that were
# trained on it never asked whether the list and the photographs agree, which people share a
# photograph, or whether a face turns up twice. We ask first.
#
# **What you will learn** (about 40 minutes; the code runs in under a minute on a laptop)
#
# - how the competition's folder is laid out, and how to turn it into a table
# - who is kin in the list, who is not, and why *not listed* does not mean *not related*
# - how one photograph cut into several faces becomes a shortcut for a model
# - how to find broken, identical and nearly identical photographs
# - how to hold families out, so that no family, person or identical photo lies on both sides
#
# You need no download: the lesson runs on **synthetic families**. Their faces belong to nobody, their
# layout is that of the real data, and so are most of their defects. A truncated photo and a copy in
# another family are planted as well, so that every check has something to find. Set `KIN_DATA` to the
# Kaggle archive and every cell runs on the real thing.

# %%
# SETUP

# %%
from collections import Counter

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from PIL import Image

from utils import exercises, files, images, plots, settings
from utils.data import audit, datasets, open_data, protocols, synthetic

# %% [markdown]
# ## 1. From a folder to a table
#
# The folder says everything by its names: `train/F0123/MID1/P00009_face3.jpg` is the third face in
# photograph 9, and it belongs to member 1 of family 123.

# %%
dataset = open_data(readable=False)
sorted(path.name for path in dataset.root.glob("*") if path.stem[:5] in ("train", "test", "sampl"))

# %% [markdown]
# The smallest loader that works splits each path at its slashes.

# %%
# NBVAL_CHECK_OUTPUT
def photo_row(path):
    """(family, person, photo id) of a photo's path inside train/."""
    family, member, file = path.split("/")
    return family, f"{family}/{member}", file.partition("_")[0]


photo_row("F0123/MID1/P00009_face3.jpg")

# %%
train = dataset.root / "train"
paths = sorted(path.relative_to(train).as_posix() for path in train.glob("F*/MID*/*.jpg"))
photos = pd.DataFrame([photo_row(path) for path in paths], columns=["family", "person", "photo_id"])
photos.assign(path=paths).head()

# %% [markdown]
# `datasets.load` does the same, and also takes the archive as Kaggle serves it (a zip with zips
# inside), checks the columns of the CSV files, and says by name what is missing. From here on we
# use it.

# %%
dataset.photos.head()

# %%
assert (dataset.photos[["family", "person", "photo_id"]].to_numpy() == photos.to_numpy()).all()
print(f"{len(dataset.photos)} photos, {len(dataset.people)} people, {len(dataset.families)} families")

# %% [markdown]
# Look before you count. One family, one row of faces for each person:

# %%
first_family = dataset.of_families([dataset.families[2]])
shown = first_family.photos.groupby("person").head(4)
plots.photos(dataset.paths(shown["path"]), shown["person"].tolist(), columns=8);

# %% [markdown]
# ## 2. How many photos of how many people?
#
# A model learns a person from several photos. Someone with a single photo can teach it little, and
# a family with forty people would dominate a batch that is drawn carelessly.

# %%
per_person = dataset.photos["person"].value_counts()
per_family = dataset.photos.groupby("family")["person"].nunique()
both = {"photos of a person": per_person, "people in a family": per_family}
pd.DataFrame({name: counts.describe() for name, counts in both.items()}).round(1)

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.2))
for axis, (name, counts), what in zip(axes, both.items(), ("people", "families"), strict=True):
    sns.histplot(counts, discrete=True, ax=axis).set(xlabel=name, ylabel=what)

# %%
print(f"{(per_person == 1).sum()} of {len(per_person)} people have a single photo")

# %% [markdown]
# ## 3. The list of relatives
#
# `train_relationships.csv` has two columns, p1 and p2. Does everybody in it have a photo?

# %%
dataset.relationships.head()

# %%
listed = set(dataset.relationships["p1"]) | set(dataset.relationships["p2"])
absent = sorted(listed - dataset.people)
print(f"{len(absent)} of {len(listed)} people in the list have no photo: {', '.join(absent[:4])}")

# %% [markdown]
# A row with such a person cannot be used. The published generator crashed on them until somebody
# filtered the list; we count what the filter costs.

# %%
usable = dataset.relationships[dataset.relationships.isin(dataset.people).all(axis=1)]
dropped = len(dataset.relationships) - len(usable)
print(f"{dropped} of {len(dataset.relationships)} rows are dropped, {len(usable)} are left")

# %% [markdown]
# ## 4. Who is kin, and who is only not listed?
#
# In the graph of a family, a line joins two people who are listed as kin.

# %%
sizes = dataset.kin["family"].value_counts()
name = sizes[sizes.between(5, 9)].index[0]
plots.family(dataset, name);

# %% [markdown]
# Some people of the same family are **not** joined. Parents are not blood relatives of each other:
# they share children, not genes. In the graph they are the two who are joined to the same children
# but not to one another.

# %%
part = dataset.of_families([name])
neighbours = {person: set() for person in part.people}
for a, b in part.kin[["p1", "p2"]].itertuples(index=False):
    neighbours[a].add(b)
    neighbours[b].add(a)
for a, b in datasets.unlisted_pairs(part):
    shared = sorted(neighbours[a] & neighbours[b])
    print(f"{a} and {b} are not listed, but share the relatives", *shared)

# %% [markdown]
# How common is that?

# %%
within, unlisted = datasets.within_family_pairs(dataset), datasets.unlisted_pairs(dataset)
print(f"{len(unlisted)} of {len(within)} pairs inside a family are not listed as kin")

# %% [markdown]
# They may be spouses or in-laws. They may also be relatives whom nobody wrote down: in the synthetic
# families we know, because the generator keeps a manifest of what it left out.

# %%
if (dataset.root / synthetic.MANIFEST).is_file():
    defects = synthetic.manifest(dataset.root)["defects"]
    print("kin that the list leaves out:", defects["kin_not_listed"])

# %% [markdown]
# So two people of one family who are not listed are **not a safe negative example**. Strangers must
# come from different families.
#
# ## 5. One photograph, several faces
#
# `P00009_face1.jpg` and `P00009_face3.jpg` were cut from the same photograph: same camera, same
# light, same day. Two relatives are often photographed together, two strangers never are. A model
# that notices the light needs no faces at all.

# %%
together = dataset.photos[dataset.photos.duplicated(["family", "photo_id"], keep=False)]
group = next(rows for _, rows in together.groupby("photo_id") if rows["person"].nunique() > 2)
plots.photos(dataset.paths(group["path"]), group["person"].tolist());

# %% [markdown]
# For one pair of relatives: of all ways to pick a photo of each, how many pick the same photograph?

# %%
def same_photo_chance(ids_a, ids_b):
    """Chance that a random photo of A and a random photo of B come from one photograph."""
    in_a, in_b = Counter(ids_a), Counter(ids_b)
    return sum(in_a[photo] * in_b[photo] for photo in in_a) / (len(ids_a) * len(ids_b))


same_photo_chance(["P1", "P2", "P3"], ["P3", "P4"])

# %%
share = audit.same_photo_share(dataset)
print(f"{100 * (share > 0).mean():.0f} % of {len(share)} kin pairs share a photograph; "
      f"{100 * share.mean():.1f} % of their photo pairs are cut from one")

# %% [markdown]
# This shortcut has inflated published results on kinship data before (Lopez et al., *Comments on the
# "Kinship Face in the Wild" data sets*, IEEE TPAMI 2016). We keep the photograph's number in the
# table, so that every score in this course can be given with and without such pairs.
#
# ## 6. Broken photographs
#
# A truncated download opens without complaint and fails only when its pixels are decoded, deep
# inside training. So we decode every photo once, now.

# %%
broken = datasets.unreadable_photos(dataset)
for path, problem in broken.items():
    print(path, "->", problem.replace(str(dataset.root), "…"))
print(len(broken), "photos cannot be decoded")

# %% [markdown]
# ## 7. The same photograph twice
#
# Identical files are easy: equal bytes have equal SHA-256. The interesting question is *where* the
# copies lie: in two families, a label is wrong; in training and in the test, the test leaks.

# %%
scanned, _ = audit.scan(dataset)
exact = audit.exact_duplicates(scanned)
exact.groupby("where").size().rename("groups of identical files").to_frame()

# %%
across = exact[exact["families"] > 1]
for row in across["photos"]:
    print("the same file in two families:", *row)

# %% [markdown]
# A copy that was saved again, brightened or shrunk has other bytes but looks the same. A
# **difference hash** shrinks the picture to 17×16 grey pixels and keeps one bit for each pixel: is it
# brighter than its right-hand neighbour?

# %%
def difference_hash(image):
    """256 bits, as booleans (16, 16)."""
    grey = Image.fromarray(image).convert("L").resize((17, 16), Image.Resampling.BOX)
    values = np.asarray(grey, np.int16)  # (16, 17)
    return values[:, :-1] > values[:, 1:]


one = images.read(dataset.root / dataset.photos["path"][0])  # uint8 RGB (224, 224, 3)
brighter = np.clip(one * 1.1, 0, 255).astype(np.uint8)
other = images.read(dataset.root / dataset.photos["path"][40])
for name, image in (("brightened copy", brighter), ("another person", other)):
    print(f"{name}: {(difference_hash(one) != difference_hash(image)).sum()} of 256 bits differ")

# %% [markdown]
# `audit.near_duplicates` compares all pairs of photos this way, and keeps those within 12 bits.

# %%
near = audit.near_duplicates(scanned)
near[["where", "people", "families", "bits"]].head()

# %%
pairs_found = pd.DataFrame(near["photos"].tolist(), columns=["photo_a", "photo_b"]).head(3)
plots.pair_gallery(dataset, pairs_found, [f"{bits} bits apart" for bits in near["bits"].head(3)]);

# %% [markdown]
# ## 8. Holding families out
#
# The course tests on the families whose name starts with `F09`, as the published notebook did. It
# held out every photo whose *path* contains the letters F09. Here is what that does in a folder
# that happens to be called so:

# %%
unlucky = ["/home/ada/F09-backup/train/" + path for path in paths]
by_substring = [path for path in unlucky if "F09" in path]
print(f"{len(by_substring)} of {len(unlucky)} photos held out: nothing is left to train on")

# %% [markdown]
# `protocols.split_families` looks at the family's name and at nothing else. Then we check that no
# family, no person and no identical photo lies on both sides.

# %%
train_families, test_families = protocols.split_families(dataset)
kept, held = dataset.of_families(train_families), dataset.of_families(test_families)
print(f"{len(train_families)} families to train on; {len(test_families)} held out, "
      f"with {len(held.kin)} kin pairs and {len(held.photos)} photos")

# %%
in_training = set(scanned.loc[scanned["family"].isin(train_families), "sha256"])
in_test = set(scanned.loc[scanned["family"].isin(test_families), "sha256"])
assert not set(train_families) & set(test_families)
assert not kept.people & held.people
assert not in_training & in_test

# %% [markdown]
# ## 9. The whole audit
#
# All of this, and the test photos, in one call (on the command line: `kincourse audit`).

# %%
found = audit.audit(dataset)
table = found.table().set_index("section")
table.loc[["split", "test"]]

# %%
plots.audit_overview(found, dataset);

# %% [markdown]
# And on the real data? The same command wrote these figures; the file is part of the course.

# %%
real = files.read_json(settings.RESULTS / "kaggle_audit.json")
counts = [real[section][finding.replace(" ", "_")] for section, finding in table["finding"].items()]
table.rename(columns={"count": "here"}).assign(real=counts)

# %%
print(f"Key result: {found.sections['relationships']['rows_dropped']} rows dropped, "
      f"{found.sections['same_source_photo']['percent_of_kin_rows']} % of kin pairs share a photograph")

# %% [markdown]
# ## What we saw
#
# - The list and the folders disagree: in the real data 96 of 2,412 listed people have no photo, and
#   236 of 3,598 rows go with them.
# - Being in one family is not being kin: 2,875 of the 6,237 pairs inside real families are not
#   listed. Spouses are among them, and so are missing labels. Negatives must cross families.
# - Three quarters of the real kin pairs share a photograph somewhere. Scores have to be reported with
#   and without such pairs.
# - 77 real test photos are byte-identical to training photos. None is in a scored pair, so they do not
#   change the score, but you only know after looking.
# - The split goes by the exact name of the family, and it can be checked in three lines.
#
# ## Exercises
#
# **1. The siblings in a list of relatives.** Two people who have a common parent are siblings.
# `parents` maps each person to the set of their parents. Write `siblings(a, b, parents)`.

# %%
def siblings(a, b, parents):
    """True or False: have two different people a parent in common?"""
    # BEGIN SOLUTION
    return a != b and bool(parents[a] & parents[b])
    # END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
example = {"Ada": {"Grace", "Alan"}, "Kurt": {"Alan"}, "Grace": set(), "Alan": set()}
exercises.check(
    (siblings("Ada", "Kurt", example), True, "one parent in common is enough"),
    (siblings("Grace", "Alan", example), False, "two people without known parents are not siblings"),
    (siblings("Ada", "Grace", example), False, "a parent and a child are not siblings"),
    (siblings("Ada", "Ada", example), False, "nobody is their own sibling"))

# %% [markdown]
# **2. Does the split leak?** Write `leaks(table, train_families, test_families)`: how many different
# values of `sha256` occur on both sides? `table` has the columns family and sha256.

# %%
def leaks(table, train_families, test_families):
    """Number of distinct file contents that lie on both sides of a split."""
    # BEGIN SOLUTION
    on_train = set(table.loc[table["family"].isin(train_families), "sha256"])
    on_test = set(table.loc[table["family"].isin(test_families), "sha256"])
    return len(on_train & on_test)
    # END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
toy = pd.DataFrame({"family": ["F1", "F1", "F2", "F3", "F3"], "sha256": ["a", "b", "b", "b", "c"]})
exercises.check(
    (leaks(toy, ["F1"], ["F2"]), 1, "'b' lies in F1 and in F2"),
    (leaks(toy, ["F1"], ["F2", "F3"]), 1, "count contents, not files: 'b' lies twice in the test"),
    (leaks(toy, ["F2", "F3"], ["F1"]), 1, "count contents, not files: 'b' lies twice in the training"),
    (leaks(toy, ["F2"], ["F2"]), 1, "a family on both sides leaks everything it has"),
    (leaks(scanned, train_families, test_families), 0, "the split of this lesson does not leak"))

# %% [markdown]
# **3. Safer photographs.** Some kin pairs can only be shown by photos of one photograph: every photo
# pair of theirs is cut from the same picture. Use `audit.same_photo_share(dataset)` to count them.

# %%
# STUB: only_together = ...  # your code here
# BEGIN SOLUTION
only_together = int((audit.same_photo_share(dataset) == 1).sum())
# END SOLUTION
only_together

# %%
photo_ids = dataset.photos.groupby("person")["photo_id"].apply(list)
expected = sum(same_photo_chance(photo_ids[a], photo_ids[b]) == 1
               for a, b in dataset.kin[["p1", "p2"]].itertuples(index=False))
exercises.check((only_together, expected, "a share of 1 means: always one photograph"))

# %%
# SOLUTION CHECK
assert siblings("Ada", "Kurt", example) and not siblings("Ada", "Ada", example)
assert leaks(toy, ["F1"], ["F2", "F3"]) == 1
assert only_together == (share == 1).sum()

# %% [markdown]
# ## Where to go next
#
# - [Lesson 02](02_pair_generator.ipynb) draws pairs from this data, fast and without the traps.
# - Robinson et al., *Visual Kinship Recognition of Families in the Wild*, IEEE TPAMI 2018: the data.
# - Gebru et al., *Datasheets for Datasets*, CACM 2021: what to ask of any dataset.
