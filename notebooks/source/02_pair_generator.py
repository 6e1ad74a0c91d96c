# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Lesson 02: Drawing pairs
#
# A kinship model is never shown a face. It is shown a *question*: two photos, related or not? There
# are millions of such questions in the data and none is written down, so a generator has to draw
# them. The published one works, and it is slow, unrepeatable, and unfair in ways that do not show in
# a loss curve. We build it first, measure it, and then build a better one.
#
# **What you will learn** (about 45 minutes; the code runs in about a minute on a laptop)
#
# - how to draw balanced batches of relatives and strangers
# - how to find out by measurement what a generator does wrong
# - how to draw the same batches many times faster with arrays
# - how to feed a network with `tf.data`, with augmentation in the graph
# - why scores need a fixed list of pairs, and folds of whole families

# %%
# SETUP

# %%
import random
import time

import numpy as np
import pandas as pd

from utils import exercises, images, plots
from utils.data import datasets, open_data, pairs, protocols, synthetic
from utils.faces import backbones

# %% [markdown]
# A photo that cannot be decoded would stop the training; `open_data` leaves it out, with a warning.
# The held-out families are used for no training and no choice.

# %%
everything = open_data()
train_families, test_families = protocols.split_families(everything)
dataset = everything.of_families(train_families)
print(f"{len(dataset.photos)} photos, {len(dataset.kin)} kin pairs in {len(train_families)} families")

# %% [markdown]
# ## 1. The published generator
#
# Sixteen pairs a batch, half of them kin. For a kin pair: a random row of the list, and a random photo
# of each of the two. For strangers: two random people, again and again until they are not in the list.

# %%
kin_list = list(dataset.kin[["p1", "p2"]].itertuples(index=False, name=None))
person_to_paths = {person: list(paths) for person, paths in dataset.photos.groupby("person")["path"]}
people = list(person_to_paths)

# %%
def draw_people(batch_size=16):
    """The people of one batch: kin first, then strangers."""
    kin = random.sample(kin_list, batch_size // 2)
    strangers = []
    while len(strangers) < batch_size - len(kin):
        a, b = random.choice(people), random.choice(people)
        if a != b and (a, b) not in kin_list and (b, a) not in kin_list:
            strangers.append((a, b))
    return kin + strangers, [1] * len(kin) + [0] * len(strangers)


draw_people(4)

# %% [markdown]
# Then every photo is read from its file, resized and scaled, for every batch anew. The *backbone* is
# the pretrained encoder of lesson 03: it wants the mean colour of its own training photos subtracted
# and the rest divided by 256.

# %%
backbone = backbones.get()  # dlib-resnet: 150×150 in, 128 numbers out


def read_face(path):
    face = images.read_resized(dataset.root / path, backbone.input_size)  # uint8 RGB (150, 150, 3)
    return (face - np.float32([122.782, 117.001, 104.298])) / 256


def published_generator(batch_size=16):
    """Batches of ([a, b], labels) without end."""
    while True:
        drawn, labels = draw_people(batch_size)
        a = np.array([read_face(random.choice(person_to_paths[p])) for p, _ in drawn])
        b = np.array([read_face(random.choice(person_to_paths[p])) for _, p in drawn])
        yield [a, b], np.array(labels)


# %%
(a, b), labels = next(published_generator())
print(a.shape, a.dtype, labels)  # (16, 150, 150, 3) float32, values within about ±0.5

# %% [markdown]
# What does a question look like? Kin above, strangers below.

# %%
drawn, labels = draw_people(8)
shown = pd.DataFrame([[random.choice(person_to_paths[p]) for p in pair] for pair in drawn],
                     columns=["photo_a", "photo_b"])
plots.pair_gallery(dataset, shown, ["kin" if label else "strangers" for label in labels], columns=4);

# %% [markdown]
# ## 2. What is wrong with it? Four measurements
#
# **It is slow.** Every photo is decoded again for every pair, and a network that trains on photos waits
# for it.

# %%
def pairs_per_second(batches, count=12, batch_size=16):
    """Pairs a second over ``count`` batches, after one to warm up."""
    next(batches)
    start = time.perf_counter()
    for _ in range(count):
        next(batches)
    return count * batch_size / (time.perf_counter() - start)


published_speed = pairs_per_second(published_generator())
print(f"{published_speed:.0f} pairs a second")

# %% [markdown]
# **Strangers may be relatives.** *Not in the list* includes the two parents of a family, and every
# relative that nobody wrote down. How many of its strangers come from one family?

# %%
strangers = [pair for _ in range(500) for pair in draw_people()[0][8:]]
same_family = [pair for pair in strangers if pair[0].split("/")[0] == pair[1].split("/")[0]]
print(f"{len(same_family)} of {len(strangers)} strangers share a family, for example {same_family[:2]}")

# %% [markdown]
# **Kin are often shown by one photograph, strangers never.** The shortcut of lesson 01, as the
# network would meet it:

# %%
photo_id = dataset.photos.set_index("path")["photo_id"]
drawn = random.choices(kin_list, k=5000)
drawn_photos = [[random.choice(person_to_paths[p]) for p in pair] for pair in drawn]
same = np.mean([photo_id[a] == photo_id[b] for a, b in drawn_photos])
print(f"{100 * same:.1f} % of kin pairs are cut from one photograph")

# %% [markdown]
# **It cannot go on where it stopped.** `random` was not even seeded. With a seed a run repeats from its
# start, but the third batch cannot be had without the two before it.

# %%
random.seed(1)
run = [draw_people(8)[0] for _ in range(3)]
random.seed(1)
again = draw_people(8)[0]
print("the first batch again:", again == run[0], "- the third on its own:", again == run[2])

# %% [markdown]
# ## 3. The same with arrays
#
# A list of tuples makes Python do one thing at a time. Number the people, write each one's photos one
# after another, and a thousand pairs are drawn by three array operations.

# %%
person, names = pd.factorize(dataset.photos["person"], sort=True)  # (photos,) number of the person
rows = np.argsort(person, kind="stable")  # photo rows, person by person
count = np.bincount(person)  # (people,) photos of each
first = np.cumsum(count) - count  # (people,) where each one's photos begin in rows

# %%
def any_photo(who, rng):
    """A random photo row of each person in ``who``, any shape."""
    return rows[first[who] + (rng.random(who.shape) * count[who]).astype(int)]


rng = np.random.default_rng(0)
any_photo(np.array([[0, 1], [0, 1], [0, 1]]), rng)  # (3, 2)

# %% [markdown]
# Strangers must come from two families: draw people, and draw again where the families agree.

# %%
family = pd.factorize(pd.Series(names).str.partition("/")[0])[0]  # (people,)


def draw_strangers(how_many, rng):
    """Pairs of people of different families, (how_many, 2)."""
    drawn = rng.integers(len(family), size=(how_many, 2))
    while (same := family[drawn[:, 0]] == family[drawn[:, 1]]).any():
        drawn[same] = rng.integers(len(family), size=(same.sum(), 2))
    return drawn


drawn = draw_strangers(10_000, rng)
assert (family[drawn[:, 0]] != family[drawn[:, 1]]).all()

# %% [markdown]
# `pairs.PairSampler` is this and the kin half, with a random state made from a seed and the number of
# the step. So batch 7 is batch 7, whether or not batches 0 to 6 were drawn before it.

# %%
sampler = pairs.PairSampler(dataset, batch_size=16, seed=1)
batch = sampler.batch(7)
print("rows of a:", batch.a)
print("labels:   ", batch.labels.astype(int))

# %%
assert (pairs.PairSampler(dataset, batch_size=16, seed=1).batch(7).a == batch.a).all()
assert batch.labels.sum() == 8

# %% [markdown]
# ## 4. A pipeline
#
# Decoding is the slow part, and it gives the same pixels every time. So we decode each photo once,
# into one array on disk that is mapped into memory.

# %%
pixels = datasets.decoded(dataset, [backbone.input_size])[0]
print(pixels.shape, pixels.dtype, f"{pixels.nbytes / 2**20:.0f} MB")  # (photos, 150, 150, 3) uint8

# %% [markdown]
# `pairs.pipeline` gathers batches from it on a thread of its own while the network is busy. (The
# decoding, done once, is not counted below.)

# %%
ready = pairs.pipeline([pixels], sampler, steps=400, preprocess=[backbone.preprocess])
ready.element_spec

# %%
our_speed = pairs_per_second(iter(ready), count=300)
print(f"published {published_speed:.0f}, ours {our_speed:.0f} pairs a second")

# %% [markdown]
# The repository's `benchmarks/generator.py` makes this comparison with more care.
#
# **Four images a pair.** The article's model has two encoders, FaceNet for 160×160 pixels and VGGFace
# for 224×224, and each wants its photos standardised in its own way (lesson 04). So a batch is four
# arrays: both photos for the one, both photos for the other. The article decodes each photo twice for
# that. We decode it once for both sizes:

# %%
encoders = [backbones.get("facenet"), backbones.get("vggface-resnet50")]  # needs no weights yet
views = datasets.decoded(dataset, [encoder.input_size for encoder in encoders])
print([view.shape for view in views])

# %%
four = pairs.pipeline(views, sampler, steps=100, preprocess=[one.preprocess for one in encoders])
inputs, labels = next(iter(four))
for batch, name in zip(inputs, ["FaceNet a", "FaceNet b", "VGGFace a", "VGGFace b"], strict=True):
    low, high = batch.numpy().min(), batch.numpy().max()
    print(f"{name}: {batch.shape} {batch.dtype.name}, {low:.1f} to {high:.1f}")

# %% [markdown]
# What the networks get to see of the first pair, each array stretched to the range of a screen. VGGFace
# wants blue, green, red; shown as red, green, blue, the faces turn blue.

# %%
def shown(image):
    """A float image stretched to uint8."""
    return (255 * (image - image.min()) / (image.max() - image.min())).astype(np.uint8)


plots.photos([shown(batch[0].numpy()) for batch in inputs],
             ["FaceNet a", "FaceNet b", "VGGFace a", "VGGFace b"], columns=4);

# %%
print(f"{pairs_per_second(iter(four), count=60):.0f} pairs a second, four images each")

# %% [markdown]
# ## 5. Augmentation
#
# A face stays the same when it is mirrored, cropped a little, made grey or brighter. Changing the
# photos by chance shows the network more faces than we have. It happens inside TensorFlow's
# pipeline.

# %%
one = np.repeat(pixels[:1], 8, axis=0)  # uint8 (8, 150, 150, 3)
changed = pairs.augment(one, seed=(0, 0)).numpy()  # float32, 0-255
plots.photos(list(changed.astype(np.uint8)), columns=8);

# %%
augmented = pairs.pipeline([pixels], sampler, steps=200, preprocess=[backbone.preprocess],
                           augmentation_strength=1.0)
print(f"{pairs_per_second(iter(augmented), count=100):.0f} pairs a second with augmentation")

# %% [markdown]
# ## 6. Options, and what each is for
#
# `cross_photo_only` closes the shortcut: two faces are never cut from one photograph.

# %%
def same_photo_share(sampler, draws=4000):
    """Share of drawn kin pairs that come from one photograph."""
    drawn = sampler.draw(draws, np.random.default_rng(0))
    source = (dataset.photos["family"] + dataset.photos["photo_id"]).to_numpy()
    return (source[drawn.a] == source[drawn.b])[drawn.labels == 1].mean()


cross = pairs.PairSampler(dataset, cross_photo_only=True)
for name, drawn_by in (("any photos", sampler), ("cross-photo only", cross)):
    print(f"{name}: {100 * same_photo_share(drawn_by):.1f} % of kin pairs")

# %% [markdown]
# `one_pair_per_family` keeps a large family from filling a batch. Losses that pull relatives together
# and push everybody else in the batch apart need it.

# %%
apart = pairs.PairSampler(dataset, batch_size=16, one_pair_per_family=True).batch(0)
families = dataset.photos["family"].to_numpy()
print(sorted(zip(families[apart.a], families[apart.b], strict=True))[:4])

# %% [markdown]
# `within_family_negatives` takes a share of the strangers from unlisted pairs of one family. It is
# **off** by default, because some of them are relatives whom nobody listed. The synthetic families hide
# three on purpose; in the real data nobody can count them.

# %%
unlisted = {frozenset(pair) for pair in datasets.unlisted_pairs(dataset)}
if (dataset.root / synthetic.MANIFEST).is_file():
    left_out = synthetic.manifest(dataset.root)["defects"]["kin_not_listed"]
    really_kin = {frozenset(pair) for pair in left_out}
    print(f"{len(unlisted & really_kin)} of {len(unlisted)} such negatives are relatives")

# %% [markdown]
# ## 7. A fixed list to score on
#
# For training, new pairs in every batch are good. For a score they are not: another hundred pairs
# give another figure. The score is the **AUC**, how often a kin pair gets a higher score than a pair of
# strangers (lesson 04 returns to it). Pretend that strangers score N(0, 1) and kin N(0.9, 1), draw many
# lists of independent pairs, and see how far the AUC moves.

# %%
def spread(pair_count, draws=300, true_shift=0.9):
    """Standard deviation of the AUC of a fixed classifier over random validation sets."""
    rng = np.random.default_rng(0)
    half = pair_count // 2
    return np.std([(rng.normal(true_shift, 1, half)[:, None] > rng.normal(0, 1, half)[None]).mean()
                   for _ in range(draws)])


print(f"±{spread(100):.3f} with 100 pairs, ±{spread(2000):.3f} with 2,000")

# %% [markdown]
# So the course scores on a **protocol**: a file of photo pairs, their label, and a flag for pairs of
# one photograph. For the real data it is `data/protocols/f09_pairs.csv` (6,000 pairs of the held-out
# families), and here one is drawn in the same way from the synthetic ones.

# %%
protocol = protocols.protocol_for(everything)
protocol.groupby("is_related").agg(pairs=("same_photo", "size"), same_photo=("same_photo", "sum"))

# %% [markdown]
# Choices (when to stop, which threshold, which model) are made on **folds** of the other families. A
# family lies in exactly one fold, and folds have about equally many kin pairs.

# %%
folds = protocols.folds_for(everything)
kin_of_family = everything.kin["family"].value_counts()
by_fold = folds.assign(kin=folds["family"].map(kin_of_family).fillna(0).astype(int)).groupby("fold")
by_fold.agg(families=("family", "size"), kin_pairs=("kin", "sum"))

# %%
assert not set(folds["family"]) & set(test_families)
print(f"Key result: {our_speed / published_speed:.0f} times the published generator's pairs a second; "
      f"{100 * same:.0f} % of its kin pairs share a photograph")

# %% [markdown]
# ## What we saw
#
# - The published generator decodes every photo for every batch; decoding once and gathering from an
#   array is many times as fast.
# - A few of its strangers come from one family (about one in a thousand), and about a tenth of its kin
#   pairs from one photograph. Both can be measured in a few lines, and neither shows in a loss.
# - A random state made from (seed, step) makes every batch repeatable on its own.
# - Training draws new pairs; scoring uses a fixed list, and choices use folds of whole families.
#
# ## Exercises
#
# **1. Another rule for strangers.** People with many photos are rare; drawing *photos* instead of
# people would show them more often. Write `photo_strangers(how_many, rng)`: photo rows of shape
# (how_many, 2), each drawn uniformly from all photos, the two of different families.

# %%
family_of_photo = family[person]  # (photos,)


def photo_strangers(how_many, rng):
    """Pairs of photo rows of different families, (how_many, 2), uniform over photos."""
    # BEGIN SOLUTION
    drawn = rng.integers(len(family_of_photo), size=(how_many, 2))
    while (same := family_of_photo[drawn[:, 0]] == family_of_photo[drawn[:, 1]]).any():
        drawn[same] = rng.integers(len(family_of_photo), size=(same.sum(), 2))
    return drawn
    # END SOLUTION


# %%
answer = photo_strangers(20_000, np.random.default_rng(3))
if answer is None or np.shape(answer) != (20_000, 2):
    exercises.check((answer if answer is None else np.shape(answer), (20_000, 2), "one row a pair"))
else:
    most = person == count.argmax()  # the photos of the person who has most
    exercises.check(
        (bool((family_of_photo[answer[:, 0]] != family_of_photo[answer[:, 1]]).all()), True,
         "both photos of some pair are of one family"),
        (bool(abs(most[answer].mean() / most.mean() - 1) < 0.25), True,
         "each photo should be equally likely"))

# %% [markdown]
# **2. How unfair is uniform over rows?** A family with 30 kin pairs is drawn 30 times as often as a
# family with one. Write `family_weights(kin)`: for each row of the kin table a probability, so that
# every *family* is equally likely and the rows of one family share its chance. They sum to 1.

# %%
def family_weights(kin):
    """(rows,) probabilities; ``kin`` has a column family."""
    # BEGIN SOLUTION
    rows_of_family = kin.groupby("family")["family"].transform("size").to_numpy()
    return 1 / rows_of_family / kin["family"].nunique()
    # END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
toy = pd.DataFrame({"family": ["F1", "F2", "F1"]})
exercises.check((family_weights(toy), np.array([0.25, 0.5, 0.25]), "F1 and F2 get one half each"),
                (None if family_weights(toy) is None else sum(family_weights(dataset.kin)), 1.0,
                 "the probabilities must sum to 1"))

# %%
# SOLUTION CHECK
assert (family_of_photo[answer[:, 0]] != family_of_photo[answer[:, 1]]).all()
assert np.allclose(family_weights(toy), [0.25, 0.5, 0.25])

# %% [markdown]
# ## Where to go next
#
# - [Lesson 03](03_first_model.ipynb) trains a network on pairs from this sampler. It looks up
#   embeddings instead of pixels; the pixel pipeline is for training an encoder itself.
# - Schroff et al., *FaceNet*, CVPR 2015: how much depends on which pairs (there: triplets) are drawn.
# - The `tf.data` guide: <https://www.tensorflow.org/guide/data_performance>
