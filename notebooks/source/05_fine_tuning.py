# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Lesson 05: Fine-tuning an encoder
#
# Until here an encoder was asked to see a likeness that it was trained to overlook: for it, a mother
# and her daughter are two people. *Fine-tuning* continues its training, so that relatives come near
# each other. It needs no layers on top: the cosine is the score. We write the loss and the training
# step ourselves, look at what they do to the embeddings, and then compare the encoder before and
# after under the same conditions.
#
# **What you will learn** (about 60 minutes; the code runs in about two minutes on a laptop)
#
# - the contrastive loss (NT-Xent, InfoNCE, SupCon: one idea under three names), by hand
# - what its temperature does
# - a training step in ten lines, with a `GradientTape`
# - why a loss over a whole batch teaches more than one over single pairs
# - how a cohort corrects for faces that are near everybody
# - how to compare two models like for like

# %%
# SETUP

# %%
from dataclasses import replace

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import ops

from utils import exercises, files, plots, settings
from utils.data import datasets, open_data, pairs, protocols
from utils.faces import backbones
from utils.scoring import metrics
from utils.scoring.metrics import cosine
from utils.training import losses
from utils.training.encoder import FinetuneSettings, family_means, fit_encoder
from utils.training.models import FaceEmbedder

# %% [markdown]
# The yardstick is that of lesson 03: pairs of fold 0. Each of its photos is read once.

# %%
dataset = open_data()
folds = protocols.folds_for(dataset)  # five folds of the families that are not held out
others = list(folds.loc[folds["fold"] != 0, "family"])  # the families to learn from
watched = protocols.fold_protocol(dataset, folds, fold=0, pairs_each=3000)
labels = watched["is_related"].to_numpy()

# %%
rows_a, rows_b = protocols.photo_rows(watched, dataset)  # of each pair, in the table of photos
photos, places = np.unique([rows_a, rows_b], return_inverse=True)  # (photos,), (2, pairs)
[faces] = datasets.decoded(dataset, [150], progress=False)  # all photos, uint8 RGB (n, 150, 150, 3)
crops = faces[photos]
print(f"{len(others)} families to learn from; {len(photos)} photos in {len(labels)} pairs of fold 0")

# %% [markdown]
# ## 1. A batch of families
#
# The article's loss looks at one pair at a time. A **contrastive** loss gets more out of a step. A
# batch holds pairs of kin, each of another family: photo i and photo n + i are relatives. So every
# photo has one relative in the batch, and all others are strangers to it.

# %%
sampler = pairs.FamilyPairs(dataset, batch_size=16, families=others)
batch = sampler.batch(0)
shown = dataset.photos["path"].to_numpy()[np.concatenate([batch.a[:6], batch.b[:6]])]
plots.photos(dataset.paths(shown), [f"family {number:.0f}" for number in batch.labels[:6]] * 2);

# %%
backbone = backbones.get("dlib-resnet")
network = backbone.build()


# %%
def faces_of(batch):
    """What the network is fed: both photos of all pairs, (2 n, 150, 150, 3)."""
    return backbone.preprocess(faces[np.concatenate([batch.a, batch.b])])


# %%
vectors = ops.normalize(network(faces_of(batch), training=False))  # (32, 128), length 1
vectors.shape

# %% [markdown]
# ## 2. The loss, by hand
#
# Each photo is to pick its relative among the other 31. The cosines, divided by a **temperature**, go
# through a softmax; the loss is minus the logarithm of what the relative gets. That is a cross-entropy
# whose classes are the photos of the batch. It is known as *InfoNCE*, as *NT-Xent* where it comes from
# pairs as here, and as the *supervised contrastive* loss (SupCon) where a photo may have several
# relatives.

# %%
def contrastive(vectors, temperature=0.05):
    """Mean loss of a batch (2 n, d) of length 1 each."""
    count = vectors.shape[0]
    similarity = ops.matmul(vectors, ops.transpose(vectors)) / temperature  # (2 n, 2 n)
    similarity -= 1e9 * ops.eye(count)  # nobody is a relative of themselves
    relative = (np.arange(count) + count // 2) % count
    of_relative = ops.take_along_axis(similarity, relative[:, None], axis=1)[:, 0]
    return ops.mean(ops.logsumexp(similarity, axis=1) - of_relative)


# %% [markdown]
# Guess first: what is the loss of an encoder that finds all photos equally alike?

# %%
theirs = losses.get("contrastive", families=len(others), temperature=0.05)
assert np.isclose(contrastive(vectors), theirs(vectors, np.tile(batch.labels, 2)), rtol=1e-4)
print(f"the published encoder: {float(contrastive(vectors)):.2f}; guessing among 31: {np.log(31):.2f}")

# %% [markdown]
# What does the temperature do? One photo's softmax over the other 31, its relative in colour:

# %%
similarities = np.asarray(vectors @ ops.transpose(vectors))[0, 1:]  # of photo 0 to photos 1 to 31
order, relative = np.argsort(-similarities), 15  # photo 16 is the relative
print(f"the relative: {similarities[relative]:.3f}; the nearest stranger: "
      f"{np.delete(similarities, relative).max():.3f}")

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 2.6), sharey=True)
for axis, temperature in zip(axes, (0.5, 0.05), strict=True):
    share = np.asarray(ops.softmax(similarities / temperature))[order]
    colours = [plots.KIN if photo == relative else plots.STRANGER for photo in order]
    axis.bar(range(31), share, color=colours)
    axis.set(title=f"temperature {temperature}", xlabel="other photos, the most alike first")
axes[0].set_ylabel("share of the softmax");

# %% [markdown]
# At 0.5 all strangers count nearly alike. At 0.05 the loss looks at those who are as much alike as the
# relative: the hard ones. Much smaller, and a single look-alike would decide the step.
#
# ## 3. A training step, by hand
#
# Forward, loss, gradients, one step of Adam. `training=False` keeps the statistics of batch
# normalisation, which a few faces would only disturb.

# %%
optimizer = keras.optimizers.Adam(1e-5)


# %%
def train_step(faces):
    """One step on both photos of a batch; the loss before it."""
    with tf.GradientTape() as tape:
        vectors = ops.normalize(network(faces, training=False))
        loss = contrastive(vectors)
    weights = network.trainable_variables
    gradients = tape.gradient(loss, [weight.value for weight in weights])
    optimizer.apply(gradients, weights)
    return float(loss)


# %%
same_batch = faces_of(batch)
print("loss of one batch, step by step:", [round(train_step(same_batch), 2) for _ in range(5)])

# %% [markdown]
# It falls: these 16 pairs are being learnt by heart. To learn something about *families*, every step
# takes another batch. `fit_encoder` does that with a learning rate of 3e-5 that rises at first and then
# falls along a cosine, and changes the photos a little at random. It keeps a moving average of the
# weights, which is steadier than any single step's. Here are a few steps of 16 pairs, to see it work; a
# training takes 400 steps of 64 pairs.

# %%
short = FinetuneSettings(steps=36, warmup=6, check_every=12, pairs=16)
tuned, curve = fit_encoder(dataset, backbone, fold=0, settings=short, verbose=0)
frozen = FaceEmbedder(backbone.build(), backbone)  # the published encoder, as it was

# %%
mirrored = frozen.embed(crops)[places]  # (2, pairs, 128): mean of a photo's and its mirror image's
plots.history({"fold 0": curve["val_auc"]}, "AUC", "dozens of steps")
plt.axhline(metrics.roc_auc(labels, cosine(*mirrored)), color="grey", linestyle=":", label="frozen")
plt.xticks([1, 2, 3])
plt.legend();

# %% [markdown]
# On the real data all 400 steps take about eleven minutes on one CPU core. Their curve,
# from the file that `kincourse train encoder --json` printed:

# %%
real = files.read_json(settings.RESULTS / "kaggle_finetune.json")
plots.history({"fold 0, real data": real["history"]["val_auc"]}, "AUC", "fifties of steps");

# %% [markdown]
# ## 4. What has moved?
#
# The cosines of six pairs of relatives of fold 0, one pair after the other. Relatives are the squares
# of four fields along the diagonal.

# %%
family = watched["photo_a"].str.split("/").str[1]
six = watched[labels == 1].groupby(family).head(1).head(6)  # pairs of six families
rows = protocols.photo_rows(six, dataset)
square = faces[np.stack(rows, axis=1).ravel()]  # (12, 150, 150, 3)

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3.6))
for axis, (name, model) in zip(axes, {"before": frozen, "after": tuned.embedder}.items(), strict=True):
    vectors = model.embed(square)  # (12, 128), length 1
    axis.imshow(vectors @ vectors.T, cmap="viridis")
    axis.set(title=name, xticks=range(0, 12, 2), yticks=range(0, 12, 2))
figure.tight_layout()

# %%
before, after = (model.embed(crops, mirrored=False)[places] for model in (frozen, tuned.embedder))
figure, axes = plt.subplots(1, 2, figsize=(10, 2.8))
for axis, (name, sides) in zip(axes, {"before": before, "after": after}.items(), strict=True):
    scores = cosine(*sides)
    plots.score_histogram(labels, scores, xlabel="cosine", axis=axis)
    axis.set_title(f"{name}: AUC {metrics.roc_auc(labels, scores):.3f}")

# %% [markdown]
# The published encoder puts all faces into one narrow cone, with cosines around 0.9. Fine-tuning opens
# the cone, most for strangers.
#
# ## 5. One pair at a time, or all at once?
#
# The course also has the article's way: is this pair kin? `loss="pairs"` is the cross-entropy of that
# question, over the same batches, for as many steps.

# %%
one_at_a_time = replace(short, loss="pairs", temperature=0.1)
pairwise, _ = fit_encoder(dataset, backbone, fold=0, settings=one_at_a_time, verbose=0)

# %%
by_pairs = pairwise.embedder.embed(crops, mirrored=False)[places]
sides = {"frozen": before, "pairs": by_pairs, "contrastive": after}
pd.Series({name: metrics.roc_auc(labels, cosine(*both)) for name, both in sides.items()},
          name="AUC on fold 0").round(3).to_frame()

# %% [markdown]
# For as many steps, all at once teaches more. (One run with one seed: lesson 06 shows how far such
# figures scatter.)
#
# ## 6. Faces that are near everybody
#
# One thing a contrastive loss does not correct. Every photo has its own softmax, so it may be near all
# strangers, as long as its relative is nearer. A common kind of face *is* near many strangers, and a
# cosine of 0.6 says less of it than of a rare one. So the score subtracts what either photo has on
# average with its ten nearest among the families of training, a **cohort**: half the *cross-domain
# similarity local scaling* (CSLS).

# %%
def crowd(vectors, cohort, nearest=10):
    """Mean cosine (n,) of vectors (n, d) with the nearest of a cohort (families, d)."""
    return np.sort(vectors @ cohort.T, axis=1)[:, -nearest:].mean(1)


# %%
def against_cohort(a, b, cohort):
    """Cosines (pairs,) minus what either side has with the cohort."""
    return (a * b).sum(1) - (crowd(a, cohort) + crowd(b, cohort)) / 2


# %%
embedded = tuned.embed(crops)  # (photos, 128): the mean of each photo's and its mirror image's
crowded = crowd(embedded, tuned.cohort)
first, second = embedded[places]

# %%
by_hand = against_cohort(first, second, tuned.cohort)
assert np.allclose(tuned.similarity(first, second), by_hand, atol=1e-5)

# %%
ends = np.argsort(crowded)[[-1, -2, -3, 2, 1, 0]]
plots.photos(list(crops[ends]), [f"{'common' if rank < 3 else 'rare'}: {crowded[photo]:.2f}"
                                 for rank, photo in enumerate(ends)]);

# %% [markdown]
# ## 7. Like for like
#
# Is fine-tuning worth it? A comparison must differ in one thing. The mirror image and the cohort help
# the published encoder as well, so both encoders get both, or neither:

# %%
cohort = family_means(frozen, faces, dataset, others)

# %%
plain = {"frozen": metrics.roc_auc(labels, cosine(*before)),
         "fine-tuned": metrics.roc_auc(labels, cosine(*after))}
both = {"frozen": metrics.roc_auc(labels, against_cohort(*mirrored, cohort)),
        "fine-tuned": metrics.roc_auc(labels, tuned.similarity(first, second))}
pd.DataFrame({"cosine alone": plain, "mirror image and cohort": both}).round(3)

# %%
gain = both["fine-tuned"] - both["frozen"]
print(f"Key result: AUC on fold 0 {both['frozen']:.3f} frozen, {both['fine-tuned']:.3f} after half a "
      f"minute of fine-tuning, both with mirror image and cohort: a gain of {gain:.3f}")

# %% [markdown]
# Set beside the frozen cosine alone, fine-tuning would seem worth more than it is. On the real data,
# with all 400 steps, it is worth 0.09 in AUC, like for like
# ([the table](../docs/real_data.md#what-each-choice-is-worth)).
#
# ## What we saw
#
# - In a contrastive step every photo picks its relative among all others of the batch, so one step
#   compares hundreds of pairs, and a small encoder can be fine-tuned on a laptop.
# - The temperature says how much the hardest strangers count.
# - A training step is a forward pass, a loss, its gradients and a step of the optimizer: ten lines.
# - Fine-tuning opens the narrow cone in which the published encoder puts all faces.
# - What the loss leaves to each photo, a cohort of other families corrects.
# - Compare like for like: what helps one model may help the other as well.
#
# ## Exercises
#
# **1. Several relatives.** Write `supervised(vectors, families, temperature)`: for each photo, the mean
# over *all* its relatives in the batch of minus the log-softmax of their similarity; then the mean over
# the photos. `vectors` is `(n, d)`, `families` is `(n,)`, and a photo is no relative of itself.

# %%
def supervised(vectors, families, temperature=0.05):
    """One number."""
    # BEGIN SOLUTION
    itself = np.eye(len(vectors))
    similarity = vectors @ vectors.T / temperature - 1e9 * itself
    relatives = (families[:, None] == families[None]) - itself
    log_share = similarity - np.log(np.exp(similarity).sum(1, keepdims=True))
    return -np.mean((relatives * log_share).sum(1) / relatives.sum(1))
    # END SOLUTION


# %%
rng = np.random.default_rng(0)
some = metrics.normalise(rng.normal(size=(10, 8))).astype(np.float32)
twos, several = np.tile(range(5), 2), np.array([0, 0, 0, 1, 1, 2, 2, 2, 1, 0])

# %%
exercises.check(
    (supervised(some, twos, 0.5), float(losses.Contrastive(temperature=0.5)(some, twos)),
     "one relative each: the loss of section 2"),
    (supervised(some, several, 0.5), float(losses.Contrastive(temperature=0.5)(some, several)),
     "several: the mean over the relatives of a photo, then over the photos"))

# %% [markdown]
# **2. A moving average.** Write `moving_average(values, decay)`: the average after each value, which
# starts at the first one and then keeps `decay` of itself and takes the rest from the new value.

# %%
def moving_average(values, decay=0.9):
    """A list as long as ``values``."""
    # BEGIN SOLUTION
    averages = [values[0]]
    for value in values[1:]:
        averages.append(decay * averages[-1] + (1 - decay) * value)
    return averages
    # END SOLUTION


# %%
# NBVAL_CHECK_OUTPUT
averages = moving_average([1.0, 0.0, 0.0, 2.0], 0.5)
exercises.check((averages and np.array(averages), np.array([1.0, 0.5, 0.25, 1.125]),
                 "half of what it was, half of the new value"))

# %%
# SOLUTION CHECK
expected = float(losses.Contrastive(temperature=0.5)(some, several))
assert np.isclose(supervised(some, several, 0.5), expected, rtol=1e-5)
assert moving_average([1.0, 0.0], 0.9) == [1.0, 0.9]

# %% [markdown]
# ## Where to go next
#
# - [Lesson 06](06_kaggle_evaluation.ipynb) meets the held-out families.
# - Chen et al., *A Simple Framework for Contrastive Learning* (NT-Xent), ICML 2020.
# - Khosla et al., *Supervised Contrastive Learning*, NeurIPS 2020.
# - Conneau et al., *Word Translation Without Parallel Data*, ICLR 2018: local scaling, there for words.
# - Wortsman et al., *Model soups*, ICML 2022: averages of weights.
