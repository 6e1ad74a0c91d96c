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
# Before a model sees a single face, we count. The Kaggle competition
# [*Recognizing Faces in the Wild*](https://www.kaggle.com/c/recognizing-faces-in-the-wild) gives
# photographs of families and a list of who is related to whom. This course rebuilds and repairs a
# published solution with two large networks and a Flask page, [*End to End solution of detecting
# kin-relationship from Faces*](https://mc.ai/end-to-end-solution-of-detecting-kin-relationship-from-faces/);
# the lessons call it *the article*. Most models that were trained on this data never asked whether the
# list and the photographs agree, which people share a photograph, or whether a face turns up twice.
# We ask first.
#
# **What you will learn** (about 50 minutes; the code runs in under a minute on a laptop)
#
# - how the competition's folder is laid out, and how to turn it into a table
# - who is kin in the list, who is not, and why *not listed* does not mean *not related*
# - how one photograph cut into several faces becomes a shortcut for a model
# - how to find broken, identical and nearly identical photographs
# - how to hold families out, so that no family, person or identical photo lies on both sides
# - how a list of test pairs can give its answers away, and what that is worth
#
# You write six short functions on the way. Each is checked, and a correct one shows you something
# about the data. Comments such as `# NBVAL_CHECK_OUTPUT` are for the course's own tests; skip them.
#
# You need no download: the lesson runs on **synthetic families**. Their faces belong to nobody. Their
# folder is laid out like the real one, and has most of its defects. A truncated photo and a copy in
# another family are planted as well, so that every check has something to find. Set the environment
# variable `KIN_DATA` to the path of the Kaggle archive, and every cell runs on the real data.

# %%
# SETUP

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from PIL import Image

from utils import exercises, files, images, plots, settings
from utils.data import audit, datasets, open_data, pairs, protocols, synthetic
from utils.scoring import metrics

# %% [markdown]
# ## 1. From a folder to a table
#
# "How many photos does each person have?" takes one line with a table, and many lines with a folder.
# The paths hold all that the table needs: `train/F0123/MID1/P00009_face3.jpg` is the third face in
# photograph 9, and it belongs to member 1 of family 123. (`readable=False` keeps the photos that
# cannot be decoded; section 5 looks for them.)

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
photos.assign(path=paths).head(3)

# %% [markdown]
# `open_data` has already made the same table. It also takes the archive as Kaggle serves it (a zip
# with zips inside), checks the columns of the CSV files, and names what is missing. From here on we
# use its table.

# %%
assert (dataset.photos[["family", "person", "photo_id"]].to_numpy() == photos.to_numpy()).all()
print(f"{len(dataset.photos)} photos, {len(dataset.people)} people, {len(dataset.families)} families")

# %% [markdown]
# Look before you count. One family, one row of photos for each person, and who is listed as whose kin:

# %%
sizes = dataset.kin["family"].value_counts()
name = sizes[sizes.between(5, 9)].index[0]
plots.family_rows(dataset, name);

# %% [markdown]
# ## 2. How many photos of how many people?
#
# A model learns a person from several photos, so someone with a single photo can teach it little. And
# where relatives are drawn at random, a family with forty people is drawn far too often.
#
# **Guess first.** What share of the people has only one photo? And what would you expect in the data
# of a competition, where somebody has chosen the photos?

# %%
per_person = dataset.photos["person"].value_counts()
per_family = dataset.photos.groupby("family")["person"].nunique()
figure, axes = plt.subplots(1, 2, figsize=(10, 3.2))
sns.histplot(per_person, discrete=True, ax=axes[0]).set(xlabel="photos of a person", ylabel="people")
sns.histplot(per_family, discrete=True, ax=axes[1]).set(xlabel="people in a family", ylabel="families")
print(f"{(per_person == 1).sum()} of {len(per_person)} people have a single photo")

# %% [markdown]
# About one person in seven here. In the real data it is about one in six (409 of 2,316 people; section
# 10 shows the counts), and one person has 95 photos.
#
# ## 3. The list of relatives
#
# `train_relationships.csv` has two columns, p1 and p2: each row names two people who are kin. Does
# everybody in it have a folder with photos?

# %%
dataset.relationships.head(3)

# %% [markdown]
# **Exercise 1. Who is in the list without a photo?** Write `absent_people(rows, people)`. `rows` is a
# list of tuples such as `("F0001/MID5", "F0001/MID2")`, `people` the set of everybody who has a photo.
# Return the set of people who stand in the list, on either side, and have no photo.

# %%
def absent_people(rows, people):
    """The set of people in a list of pairs who have no photo."""
    # BEGIN SOLUTION
    listed = {person for pair in rows for person in pair}
    return listed - people
    # END SOLUTION


# %%
if exercises.check(absent_people):
    listed_rows = list(dataset.relationships.itertuples(index=False, name=None))
    absent = absent_people(listed_rows, dataset.people)
    print(f"{len(absent)} people in the list have no photo, such as {', '.join(sorted(absent)[:4])}")

# %% [markdown]
# A row with such a person cannot be used: there is no photo to show. The article's code crashed on such
# rows until somebody filtered the list. How many rows does the filter cost?

# %%
usable = dataset.relationships[dataset.relationships.isin(dataset.people).all(axis=1)]
dropped = len(dataset.relationships) - len(usable)
print(f"{dropped} of {len(dataset.relationships)} rows are dropped, {len(usable)} are left")

# %% [markdown]
# ## 4. Who is kin, and who is only not listed?
#
# A model needs examples of both answers: a [kin pair](../docs/glossary.md#kin-pair) and a
# [negative pair](../docs/glossary.md#negative-pair). The list names the first. Where do the others come
# from? Look at the graph of a family, in which a line joins two people who are listed as kin.

# %%
plots.family(dataset, name);

# %% [markdown]
# Some people of the same family are **not** joined. Parents are not blood relatives of each other:
# they share children, not genes. In the graph they are the two who are joined to the same children
# but not to one another.
#
# **Exercise 2. The pairs that are not listed.** Write `not_listed(people, rows)`. `people` is a set:
# the members of *one* family. `rows` is a list of tuples of two names; (a, b) and (b, a) mean the same,
# and only one of them is in the list. Return a list of all pairs of two different people who stand in
# no row together, each pair once (in whichever order).

# %%
def not_listed(people, rows):
    """Pairs of people that no row of the list names, each once."""
    # BEGIN SOLUTION
    kin = {frozenset(row) for row in rows}
    ordered = sorted(people)
    every = [(a, b) for i, a in enumerate(ordered) for b in ordered[i + 1 :]]
    return [pair for pair in every if frozenset(pair) not in kin]
    # END SOLUTION


# %%
if exercises.check(not_listed):
    part = dataset.of_families([name])
    kin_rows = list(part.kin[["p1", "p2"]].itertuples(index=False, name=None))
    print("not listed:", not_listed(part.people, kin_rows))

# %% [markdown]
# **Guess first.** Think of your own family and of everybody who would be in its album. What share of
# all pairs of these people are *not* blood relatives, such as spouses and in-laws?

# %%
within, unlisted = datasets.within_family_pairs(dataset), datasets.unlisted_pairs(dataset)
print(f"{len(unlisted)} of {len(within)} pairs inside a family are not listed as kin")

# %% [markdown]
# That is 13 % in the synthetic families. In the real ones it is 46 % (2,875 of 6,237 pairs). They may
# be spouses or in-laws. They may also be relatives whom nobody wrote down. In the synthetic families we
# know, because the program that made them left some out on purpose and wrote down which.

# %%
if (dataset.root / synthetic.MANIFEST).is_file():
    defects = synthetic.manifest(dataset.root)["defects"]
    print("kin that the list leaves out:", defects["kin_not_listed"])

# %% [markdown]
# So two people of one family who are not listed are **not a safe negative pair**. Strangers must come
# from different families.
#
# ## 5. Broken photographs
#
# A photo whose download broke off opens without complaint. It fails only when its pixels are decoded,
# hours later, in the middle of a training. So we decode every photo once, now.

# %%
broken = datasets.unreadable_photos(dataset)
for path, problem in broken.items():
    print(path, "->", problem.replace(str(dataset.root), "…"))
whole = dataset.without_photos(broken)
print(len(broken), "photos cannot be decoded,", len(whole.photos), "are left")

# %% [markdown]
# ## 6. One photograph, several faces
#
# `P00009_face1.jpg` and `P00009_face3.jpg` were cut from the same photograph: same camera, same
# light, same day. Two relatives are often photographed together, two strangers never are. A model
# that notices the light needs no faces at all. This is the
# [same-photo shortcut](../docs/glossary.md#same-photo-shortcut). Here are all the faces that were cut
# from one photograph:

# %%
together = dataset.photos[dataset.photos.duplicated(["family", "photo_id"], keep=False)]
group = next(rows for _, rows in together.groupby("photo_id") if rows["person"].nunique() > 2)
plots.photos(dataset.paths(group["path"]), group["person"].tolist());

# %% [markdown]
# **Exercise 3. How often is it one photograph?** A pair of relatives is shown by one photo of A and
# one of B, each drawn at random. `ids_a` and `ids_b` are the photo ids of their photos; an id can
# come twice, when a person was cut from the same photograph twice. Write
# `same_photo_chance(ids_a, ids_b)`: of all ways to pick a photo of each, which share picks the same
# photograph?

# %%
def same_photo_chance(ids_a, ids_b):
    """Chance that a random photo of A and a random photo of B come from one photograph."""
    # BEGIN SOLUTION
    together = sum(a == b for a in ids_a for b in ids_b)
    return together / (len(ids_a) * len(ids_b))
    # END SOLUTION


# %%
if exercises.check(same_photo_chance):
    ids = dataset.photos.groupby("person")["photo_id"].apply(list)
    chances = [same_photo_chance(ids[a], ids[b]) for a, b in dataset.kin[["p1", "p2"]].to_numpy()]
    assert np.allclose(chances, audit.same_photo_share(dataset))
    print(f"{100 * np.mean(chances):.1f} % of the photo pairs of kin are cut from one photograph")

# %% [markdown]
# The same from the module, with the share of kin pairs that share a photograph at all:

# %%
share = audit.same_photo_share(dataset)
print(f"{100 * (share > 0).mean():.0f} % of {len(share)} kin pairs share a photograph")

# %% [markdown]
# What is the shortcut worth? Take a score that cannot see a face: the mean colour of each photo, three
# numbers. The nearer two mean colours are, the higher the score. `PairSampler` draws pairs; lesson 02
# builds it. The [AUC](../docs/glossary.md#auc) is how often a kin pair gets a higher score than a pair
# of strangers: 0.5 is guessing, 1 is perfect.
#
# **Guess first.** What AUC do you expect for kin from one photograph? And for the other kin, where
# nothing but inherited skin and hair colour can help?

# %%
colour = np.array([images.read(path).mean(axis=(0, 1)) for path in whole.paths(whole.photos["path"])])
drawn = pairs.PairSampler(whole).draw(20_000, np.random.default_rng(0))
score = -np.linalg.norm(colour[drawn.a] - colour[drawn.b], axis=1)  # (20000,)
kin, photograph = drawn.labels == 1, (whole.photos["family"] + whole.photos["photo_id"]).to_numpy()
same = photograph[drawn.a] == photograph[drawn.b]
for what, group in (("one photograph", kin & same), ("two photographs", kin & ~same)):
    print(f"kin from {what}: AUC {metrics.roc_auc(kin[group | ~kin], score[group | ~kin]):.2f}")

# %% [markdown]
# Three numbers a photo, no face, and still better than guessing: clearly so where both faces come from
# one photograph, and less where they do not. On the real photographs (this cell with `KIN_DATA` set)
# the two AUCs are 0.72 and 0.54. A network can see more of the light than a mean colour. Dawson et al.,
# [*From Same Photo: Cheating on Visual Kinship Challenges*](https://arxiv.org/abs/1809.06200) (ACCV
# 2018), trained a network to say whether two faces come from one photograph. With that answer alone
# they came near the best published results on five kinship data sets. Lopez et al., *Comments on the
# "Kinship Face in the Wild" data sets* (IEEE TPAMI 2016), had warned of it. We keep the photograph's
# number in the table, so that every score in this course can also be given on
# [cross-photo pairs](../docs/glossary.md#cross-photo-pair) alone.
#
# ## 7. The same photograph twice
#
# Identical files are easy to find. SHA-256 turns the bytes of a file into a short fingerprint, and
# equal files have equal fingerprints; `audit.scan` reads every file once and notes its own. The
# interesting question is *where* the copies lie. In two families: a label is wrong. In training and in
# the test: the test leaks.

# %%
scanned, _ = audit.scan(dataset)
exact = audit.exact_duplicates(scanned)
for row in exact.loc[exact["families"] > 1, "photos"]:
    print("the same file in two families:", *row)
exact.groupby("where").size().rename("groups of identical files").to_frame()

# %% [markdown]
# A copy that was saved again, brightened or shrunk has other bytes but looks the same. A
# [difference hash](../docs/glossary.md#difference-hash) shrinks the picture to 17×16 grey pixels and
# keeps one bit for each pixel: is it brighter than its right-hand neighbour?

# %%
def difference_hash(image):
    """256 bits, as booleans (16, 16)."""
    grey = Image.fromarray(image).convert("L").resize((17, 16), Image.Resampling.BOX)
    values = np.asarray(grey, np.int16)  # (16, 17)
    return values[:, :-1] > values[:, 1:]


one = images.read(dataset.root / dataset.photos["path"][0])  # uint8 RGB (224, 224, 3)
brighter = np.clip(one * 1.1, 0, 255).astype(np.uint8)
other = images.read(dataset.root / dataset.photos["path"][40])
for what, image in (("brightened", brighter), ("another person", other)):
    print(f"{what}: {(difference_hash(one) != difference_hash(image)).sum()} of 256 bits differ")

# %% [markdown]
# The three photos, and their bits below them:

# %%
def as_picture(bits):
    """Bits (16, 16) as a uint8 RGB picture of 112×112 pixels, white where a bit is set."""
    return 255 * np.repeat(bits.repeat(7, 0).repeat(7, 1)[..., None], 3, 2).astype(np.uint8)


three = [one, brighter, other]
plots.photos([*three, *[as_picture(difference_hash(image)) for image in three]],
             ["a photo", "the same, brightened", "another person"], columns=3);

# %% [markdown]
# The other person's photo differs in nearly half of the bits, the brightened copy in very few.
# `audit.near_duplicates` compares all pairs of photos this way, and keeps those that differ in at most
# 12 bits:

# %%
near = audit.near_duplicates(scanned)
pairs_found = pd.DataFrame(near["photos"].tolist(), columns=["photo_a", "photo_b"]).head(3)
plots.pair_gallery(dataset, pairs_found, [f"{bits} bits apart" for bits in near["bits"].head(3)]);

# %% [markdown]
# ## 8. Holding families out
#
# A score must be made on people whom the model has never met. The people of a family share genes, and
# often a home and a camera, so we hold out **whole families**
# ([held-out families](../docs/glossary.md#held-out-families)). The course tests on those whose name
# starts with `F09`, as the published notebook did. It held out every photo whose *path* contains the
# letters F09. Here is what that does in a folder that happens to be called so:

# %%
unlucky = ["/home/ada/F09-backup/train/" + path for path in paths]
by_substring = [path for path in unlucky if "F09" in path]
print(f"{len(by_substring)} of {len(unlucky)} photos held out: nothing is left to train on")

# %% [markdown]
# `protocols.split_families` looks at the family's name and at nothing else.

# %%
train_families, test_families = protocols.split_families(dataset)
held = dataset.of_families(test_families)
assert not dataset.of_families(train_families).people & held.people
print(f"{len(train_families)} families to train on; {len(test_families)} held out, "
      f"with {len(held.kin)} kin pairs and {len(held.photos)} photos")

# %% [markdown]
# No family and no person lies on both sides. But a photo may, when it was filed twice. That would be
# a [data leak](../docs/glossary.md#data-leak).
#
# **Exercise 4. Does the split leak?** Write `leaks(table, train_families, test_families)`: how many
# different values of `sha256` occur on both sides? `table` has the columns family and sha256, one row
# a photo; there may be families on neither side.

# %%
def leaks(table, train_families, test_families):
    """Number of distinct file contents that lie on both sides of a split."""
    # BEGIN SOLUTION
    on_train = set(table.loc[table["family"].isin(train_families), "sha256"])
    on_test = set(table.loc[table["family"].isin(test_families), "sha256"])
    return len(on_train & on_test)
    # END SOLUTION


# %%
if exercises.check(leaks):
    print("leaks of the F09 split:", leaks(scanned, train_families, test_families))
    fifth = dataset.families[::5]
    others = set(dataset.families) - set(fifth)
    print("leaks when every fifth family is held out:", leaks(scanned, others, fifth))

# %% [markdown]
# ## 9. Does the list of test pairs give its answers away?
#
# For the score on Kaggle, `sample_submission.csv` lists pairs of test photos. Their names are numbers
# drawn at random, so a name says nothing about a person. Nobody knows the families of these photos.
#
# **Guess first.** Can you tell kin from strangers by this list alone, without opening one photo?

# %%
test_pairs = dataset.sample["img_pair"]
table = test_pairs.str.split("-", expand=True).set_axis(["first", "second"], axis=1)
times_first = table["first"].value_counts()  # how often each photo stands first
print(f"{len(table)} pairs; {len(times_first)} photos stand first in a pair, "
      f"{table['second'].nunique()} photos stand second")
table.head(3)

# %% [markdown]
# If the order inside a pair were a coin flip, about as many photos would stand first as second. They do
# not, so some program has treated the two sides differently. Count, for each pair, how many of its two
# photos stand first in *another* pair. The synthetic list follows the pattern of the real one, and it
# comes with the answers that Kaggle keeps. What share of each group is kin?

# %%
first_elsewhere = (table["first"].map(times_first) > 1).astype(int)
second_elsewhere = table["second"].isin(times_first.index).astype(int)
elsewhere = (first_elsewhere + second_elsewhere).rename("photos that stand first elsewhere")
truth_file = dataset.root / synthetic.TRUTH
truth = pd.Series(np.nan, table.index)  # nobody but Kaggle has those of the real data
if truth_file.is_file():
    truth = pd.read_csv(truth_file)["is_related"]
groups = pd.DataFrame({"pairs": 1, "share of kin": truth}).groupby(elsewhere)
groups.agg({"pairs": "sum", "share of kin": "mean"}).round(2)

# %% [markdown]
# The list puts each photo into a pair of kin, and draws strangers only from the photos that *stand
# first* in a pair of kin. So both photos of a pair of strangers stand first somewhere else. Turn it
# round: **where a photo of a pair stands first nowhere else, the pair must be kin.** No face is
# needed. You turn this into a score below, in the larger exercise. Here are six such pairs. Would you
# have said so by the faces?

# %%
must = table[elsewhere < 2].head(6).map(lambda file: f"test/{file}")
plots.pair_gallery(dataset, must.set_axis(["photo_a", "photo_b"], axis=1), columns=3);

# %% [markdown]
# In the real list that is so of 3,585 of the 5,310 pairs (the table of section 10). Is the rule right
# there? The course does not have the real answers. **Outside the course**, 3,523 of the pairs were
# labelled by matching test photos with public copies of the data: all 2,490 of them that the rule calls
# kin are kin, and the rule alone has an AUC of **0.945**. The model that won the competition had 0.923.
# We found no public write-up that mentions the rule.
#
# `kincourse submit` does not use it. A family that uploads two photos has no list, so a score made
# with the rule would say nothing about what a model is worth to them.
#
# ## 10. The whole audit
#
# One call does all of this (on the command line: `kincourse audit`). The column *here* is what it finds
# in the photos of this lesson. The column *real* is what it found in the competition's: the result is
# kept in `data/results/kaggle_audit.json`.

# %%
found = audit.audit(dataset)
real = files.read_json(settings.RESULTS / "kaggle_audit.json")
findings = found.table().rename(columns={"count": "here"})
keys = findings["finding"].str.replace(" ", "_")
findings["real"] = [real[section][key] for section, key in zip(findings["section"], keys, strict=True)]
findings.set_index("section")

# %%
print(f"Key result: {dropped} rows dropped, {100 * (share > 0).mean():.1f} % of kin pairs share a "
      f"photograph, {(elsewhere < 2).sum()} of {len(table)} test pairs are kin by their place")

# %% [markdown]
# ## What we saw
#
# - The list and the folders disagree: in the real data 96 of 2,412 listed people have no photo, and
#   236 of 3,598 rows go with them.
# - Being in one family is not being kin: 2,875 of the 6,237 pairs inside real families are not
#   listed. Spouses are among them, and so are missing labels. Negatives must cross families.
# - Three quarters of the real kin pairs share a photograph somewhere, and the mean colour of a photo is
#   enough to profit from it. Scores have to be reported with and without such pairs.
# - 77 real test photos are byte-identical to training photos. None is in a scored pair, so they do not
#   change the score, but you only know after looking.
# - The split goes by the exact name of the family, and it can be checked in three lines.
# - A list of questions can hold its answers. Draw the negatives by another rule than the positives, and
#   a model, or a person, can learn the rule instead of the faces.
#
# ## A larger exercise
#
# **Exercise 5. Kin by their place in the list.** Write `must_be_kin(pairs)`. `pairs` is a list of texts
# such as `face00001.jpg-face00002.jpg`. Return a list with True for each pair of which at least one
# photo stands first in no *other* pair, else False. Mind the two sides: the first photo of a pair
# stands first at least once, in this very pair; the second photo does not.

# %%
def must_be_kin(pairs):
    """For each pair, whether one of its photos stands first in no other pair."""
    # BEGIN SOLUTION
    split = [pair.split("-") for pair in pairs]
    times_first = {}
    for first, _ in split:
        times_first[first] = times_first.get(first, 0) + 1

    answers = []
    for first, second in split:
        first_elsewhere = times_first[first] > 1  # once is this pair itself
        second_elsewhere = second in times_first
        answers.append(not (first_elsewhere and second_elsewhere))
    return answers
    # END SOLUTION


# %%
if exercises.check(must_be_kin):
    rule = np.array(must_be_kin(test_pairs.tolist()))
    assert (rule == audit.first_nowhere_else(test_pairs)).all()
    print(f"{rule.sum()} of {len(rule)} pairs must be kin")
    if truth.notna().all():
        print(f"of those, {100 * truth[rule].mean():.0f} % are; the rule's AUC is "
              f"{metrics.roc_auc(truth, rule):.3f}")

# %% [markdown]
# When you make a test of your own, draw both kinds of pairs from the same photos with the same chances;
# `protocols.make_protocol` of lesson 02 does.
#
# **Exercise 6. A split of your own.** `F09` is 50 of the 470 real families, chosen by a name. Write
# `family_split(families, share, rng)`. `families` is a list with the family of each *photo*. Put the
# different families into a random order (`rng.permutation`), and hold out one after the other until at
# least `share` of the photos is held out, and no more families than needed. Return the two sets
# (training families, held-out families).

# %%
def family_split(families, share, rng):
    """(training families, held-out families), two sets; at least ``share`` of the photos held out."""
    # BEGIN SOLUTION
    count = pd.Series(families).value_counts()
    order = rng.permutation(sorted(count.index))
    held_out, photos_held_out = set(), 0
    for family in order:
        if photos_held_out >= share * len(families):
            break
        held_out.add(str(family))
        photos_held_out += count[family]
    return set(count.index) - held_out, held_out
    # END SOLUTION


# %%
if exercises.check(family_split):
    photo_families = dataset.photos["family"].tolist()
    for seed in range(3):
        my_train, my_test = family_split(photo_families, 0.1, np.random.default_rng(seed))
        photos_held = dataset.photos["family"].isin(my_test).sum()
        print(f"split {seed}: {len(my_test)} families with {photos_held} photos held out")

# %%
exercises.report();

# %%
# SOLUTION CHECK
assert exercises.report()

# %% [markdown]
# ## Where to go next
#
# - [Lesson 02](02_pair_generator.ipynb) draws pairs from this data, fast and without the traps.
# - Robinson et al., *Visual Kinship Recognition of Families in the Wild*, IEEE TPAMI 2018: the data.
# - Gebru et al., [*Datasheets for Datasets*](https://arxiv.org/abs/1803.09010), CACM 2021: what to
#   ask of any dataset.
# - Kaufman et al., *Leakage in Data Mining*, ACM TKDD 2012: how competitions gave answers away before.
