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
# The encoder of lessons 02 to 04 was trained to tell people apart: a mother and her daughter are two
# people to it, as different as any two. [Fine-tuning](../docs/glossary.md#fine-tuning) continues its
# training with another aim: relatives get similar embeddings. No layers are added: the score of a
# pair is still the cosine of its two embeddings. You write the loss and the training step yourself,
# look at what they do to the embeddings, and then compare the encoder before and after, under the
# same conditions.
#
# **What you will learn** (about 60 minutes; the code runs in about a minute and a half on a laptop)
#
# - the contrastive loss by hand, and what InfoNCE, NT-Xent and SupCon have to do with it
# - what its temperature does
# - a training step in ten lines, with a `GradientTape`
# - why to average the weights over the steps
# - how a choice among many differs from a yes or no for each pair
# - how a cohort corrects for faces that are similar to everybody
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
from utils.scoring.metrics import cosine, normalise
from utils.training import ablation, losses
from utils.training.encoder import FinetuneSettings, family_means, fit_encoder
from utils.training.models import FaceEmbedder

# %% [markdown]
# Models are compared on the pairs of fold 0, as in lesson 03. Training sees the other four folds only.

# %%
dataset = open_data()
folds = protocols.folds_for(dataset)  # five folds of the families that are not held out
others = list(folds.loc[folds["fold"] != 0, "family"])  # the families to learn from
watched = protocols.fold_protocol(dataset, folds, fold=0, pairs_each=3000)
labels = watched["is_related"].to_numpy()

# %%
photos, places = np.unique(protocols.photo_rows(watched, dataset), return_inverse=True)
places = places.reshape(2, -1)  # where each pair's photos stand among those of the fold: (2, pairs)
[faces] = datasets.decoded(dataset, [150], progress=False)  # all photos, uint8 RGB (n, 150, 150, 3)
crops = faces[photos]
print(f"{len(others)} families to learn from; {len(photos)} photos in {len(labels)} pairs of fold 0")

# %% [markdown]
# ## 1. A batch of families
#
# *Why:* the article's loss looks at one pair at a time, and so learns little from a step. A batch of
# families holds many comparisons. It has n pairs of kin, each from a different family: photo i and
# photo n+i are relatives. So every photo has one relative in the batch, and the other 2n − 2 photos
# are strangers to it. Here is a batch of 16 pairs. Shown are the first six, with the relatives one
# above the other:

# %%
sampler = pairs.FamilyPairs(dataset, batch_size=16, families=others)
batch = sampler.batch(0)
shown = dataset.photos["path"].to_numpy()[np.concatenate([batch.a[:6], batch.b[:6]])]
plots.photos(dataset.paths(shown), [f"family {number:.0f}" for number in batch.labels[:6]] * 2);

# %%
backbone = backbones.get("dlib-resnet")
network = backbone.build()


def faces_of(batch):
    """What the network is fed: both photos of all pairs, (2 n, 150, 150, 3)."""
    return backbone.preprocess(faces[np.concatenate([batch.a, batch.b])])


# %% [markdown]
# The network turns the 32 photos into 32 embeddings, and we scale each to length 1. The product of
# their matrix with its transpose then holds the [cosine
# similarity](../docs/glossary.md#cosine-similarity) of every photo with every other:

# %%
vectors = ops.normalize(network(faces_of(batch), training=False))  # (32, 128), length 1
cosines = np.array(vectors @ ops.transpose(vectors))  # (32, 32)
plt.figure(figsize=(4, 3.4))
plt.imshow(cosines)
plt.colorbar(label="cosine")
plt.xlabel("photo"), plt.ylabel("photo");

# %% [markdown]
# On the diagonal each photo meets itself: cosine 1. Relatives are on two shorter diagonals, 16 photos
# to the right of it and 16 below. They hardly stand out. Fine-tuning is to change that.
#
# ## 2. A choice among 31: softmax and temperature
#
# *Why:* a loss needs one number for "how clearly does this photo prefer its relative?" Take photo 0.
# Its relative is photo 16.

# %%
of_zero = np.delete(cosines[0], 0)  # photo 0 with photos 1 to 31
relative = 15  # photo 16 stands here
stranger = np.argsort(np.where(np.arange(31) == relative, -1, of_zero))[-1]
plots.photos(list(faces[np.concatenate([batch.a, batch.b])[[0, 16, 1 + stranger]]]),
             ["photo 0", f"its relative: {of_zero[relative]:.3f}",
              f"most similar stranger: {of_zero[stranger]:.3f}"], size=2);

# %% [markdown]
# A [softmax](../docs/glossary.md#softmax) turns the 31 cosines into 31 shares that sum to 1. The
# share of photo j, whose cosine is c_j:
#
#     share of j  =  e^(c_j / T)  /  (e^(c_1 / T) + e^(c_2 / T) + … + e^(c_31 / T))
#
# T is the [temperature](../docs/glossary.md#temperature).
#
# **Exercise 1. The softmax.** Write `softmax(similarities, temperature)`: from an array `(n,)` to its
# shares `(n,)`. e to the power of 1000 is too large for a float. So divide by the temperature first,
# then subtract the largest exponent from all of them: the shares stay the same, and nothing
# overflows.

# %%
def softmax(similarities, temperature):
    """Shares (n,) that sum to 1."""
    # BEGIN SOLUTION
    exponents = similarities / temperature
    powers = np.exp(exponents - exponents.max())
    return powers / powers.sum()
    # END SOLUTION


# %% [markdown]
# **Guess first.** At temperature 1 the cosines go into the softmax as they are. Which share does the
# relative get: about 3 %, 30 % or 90 %?

# %%
if exercises.check(softmax):
    for temperature in (1, 0.5, 0.05, 0.01):
        share = softmax(of_zero, temperature)[relative]
        print(f"temperature {temperature}: the relative gets {100 * share:.1f} %")

# %% [markdown]
# <details><summary>Answer</summary> About 3 %, one of 31: the cosines differ by a few hundredths, and e
# to the power of a few hundredths is nearly 1. Without a temperature the loss would hardly see who is
# the relative.</details>
#
# All 31 shares at two temperatures, with the most similar photo first and the relative in orange:

# %%
def bars(axis, temperature):
    """The shares of photo 0's softmax."""
    order = np.argsort(-of_zero)
    shares = np.asarray(ops.softmax(of_zero / temperature))
    colours = [plots.KIN if photo == relative else plots.STRANGER for photo in order]
    axis.bar(range(31), shares[order], color=colours)
    axis.set(title=f"temperature {temperature}: the relative gets {100 * shares[relative]:.0f} %",
             xlabel="other photos, the most similar first", ylabel="share of the softmax")


figure, axes = plt.subplots(1, 2, figsize=(10, 2.6), sharey=True)
bars(axes[0], 0.5)
bars(axes[1], 0.05)


# %% [markdown]
# At 0.5 all strangers count nearly alike. At 0.05 the strangers who are nearly as similar as the
# relative, or more so, count most: the *hard* strangers. Move the slider (where a kernel runs): what
# happens to the bars at 0.005, and what would a single look-alike then do to a training step?
#
# <details><summary>Answer</summary> At 0.005 the most similar photo gets by far the largest share. If
# that is the relative, this photo has little left to teach. If it is a look-alike, the step pushes
# that one stranger away and hardly notices the other 29.</details>

# %%
def draw(temperature):
    """The figure for one temperature."""
    figure, axis = plt.subplots(figsize=(7, 2.6))
    bars(axis, temperature)
    return figure


plots.slider(draw, [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0], "temperature", start=0.02)

# %% [markdown]
# ## 3. The loss, by hand
#
# *Why:* the relative should get a share near 1, for every photo. So the [contrastive
# loss](../docs/glossary.md#contrastive-loss) is minus the logarithm of the relative's share, averaged
# over all photos of the batch: a cross-entropy whose classes are the other photos.
#
# Write s for a cosine divided by T. Minus the logarithm of the relative's share is the logarithm of
# the sum of all e^s, less the relative's own s. `logsumexp` computes the first part, without
# overflow.

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
# **Guess first.** What is the loss of an encoder that finds all photos equally similar? (Natural
# logarithms; each photo chooses among 31.)

# %%
theirs = losses.get("contrastive", families=len(others), temperature=0.05)
assert np.isclose(contrastive(vectors), theirs(vectors, np.tile(batch.labels, 2)), rtol=1e-4)
print(f"the published encoder: {float(contrastive(vectors)):.2f}; all alike: {np.log(31):.2f}")

# %% [markdown]
# Every share is then 1/31, and the loss is log 31, about 3.43. The published encoder is better than
# that, though kinship had no part in its training: relatives do look alike. The loss has several
# names:
#
# | name | what it is | paper |
# |---|---|---|
# | *InfoNCE* | the general form: pick the right one among many, with a softmax | [2018][cpc] |
# | *NT-Xent* | InfoNCE with cosines and a temperature; each of 2n photos chooses | [2020][simclr] |
# | *SupCon* | labels say who belongs together; a photo may have several relatives | [2020][supcon] |
# | CLIP's loss | n of one kind choose among n of another, and the other way round | [2021][clip] |
#
# The papers are van den Oord et al., *Contrastive Predictive Coding*; Chen et al., *SimCLR*; Khosla et
# al., *Supervised Contrastive Learning*; Radford et al., *CLIP*. The cell above is NT-Xent.
#
# [cpc]: https://arxiv.org/abs/1807.03748
# [simclr]: https://arxiv.org/abs/2002.05709
# [supcon]: https://arxiv.org/abs/2004.11362
# [clip]: https://arxiv.org/abs/2103.00020
#
# Where each photo has one relative, SupCon is the same as NT-Xent. A model that was trained with
# SupCon ranked first in the kinship challenge RFIW of 2021 ([Zhang et al., FG
# 2021](https://doi.org/10.1109/FG52635.2021.9666944)). Older papers call another loss "contrastive":
# single pairs with a margin (Hadsell et al., CVPR 2006).
#
# **Exercise 2. Both directions.** CLIP's loss for our pairs: each first photo chooses among the n
# *second* photos, and each second photo among the n first ones. Write `symmetric_loss(similarity)`.
# `similarity` is `(n, n)`: `similarity[i, j]` is the cosine of first photo i and second photo j,
# already divided by the temperature. Relatives are on the diagonal, so nothing is masked here. Return
# the mean of the two directions' mean losses.

# %%
def symmetric_loss(similarity):
    """One number."""
    # BEGIN SOLUTION
    of_relative = np.diag(similarity)
    largest = similarity.max()
    powers = np.exp(similarity - largest)
    first = np.log(powers.sum(1)) + largest - of_relative
    second = np.log(powers.sum(0)) + largest - of_relative
    return (first.mean() + second.mean()) / 2
    # END SOLUTION


# %%
if exercises.check(symmetric_loss):
    loss = symmetric_loss(cosines[:16, 16:] / 0.05)
    print(f"both directions: {loss:.2f}; all alike would be log 16 = {np.log(16):.2f}")

# %% [markdown]
# A choice among 16 is easier than one among 31, so the two losses cannot be compared as numbers. We go
# on with NT-Xent: it uses the strangers on the photo's own side, too.
#
# ## 4. A training step, by hand
#
# *Why:* `fit` hides the step that everything rests on: forward pass, loss,
# [gradients](../docs/glossary.md#gradient), one step of [Adam](../docs/glossary.md#adam). A
# `GradientTape` records what is computed inside its `with` block, and can then tell how the loss
# changes with each weight. `training=False` leaves the means and variances of [batch
# normalisation](../docs/glossary.md#batch-normalisation) as they are: a few faces would only disturb
# them.

# %%
optimizer = keras.optimizers.Adam(1e-5)


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
# It falls: these 16 pairs are being learned by heart. To learn something about *families*, every step
# takes another batch. Then each step pulls the weights in a somewhat different direction, and the last
# weights depend on the last few batches. A moving average over the steps is steadier ([weight
# averaging](../docs/glossary.md#weight-averaging)).
#
# **Exercise 3. The average of the weights.** Write `averaged_weights(average, weights, decay)`: one
# update of the moving average. Both are lists of arrays, one for each layer. The new average keeps
# `decay` of the old one and takes the rest from `weights`. Return a new list; leave the two given ones
# as they are.

# %%
def averaged_weights(average, weights, decay):
    """The new average, a list of arrays."""
    # BEGIN SOLUTION
    return [decay * old + (1 - decay) * new for old, new in zip(average, weights, strict=True)]
    # END SOLUTION


# %% [markdown]
# To see it at work, let us minimise w². The best w is 0, and the gradients are noisy, as those of
# small batches are.

# %%
if exercises.check(averaged_weights):
    rng, last, average, path = np.random.default_rng(0), [np.array(3.0)], [np.array(3.0)], []
    for _ in range(300):
        noisy_gradient = 2 * last[0] + rng.normal(scale=4)
        last = [last[0] - 0.1 * noisy_gradient]
        average = averaged_weights(average, last, 0.95)
        path.append((last[0], average[0]))
    lines = plt.plot(path)
    lines[0].set(color="lightgrey"), lines[1].set(color=plots.KIN)
    plt.legend(lines, ["weight", "its moving average"])
    plt.xlabel("step"), plt.ylabel("w (best: 0)");

# %% [markdown]
# `fit_encoder` puts it together: a new batch for each step, photos that are changed a little at random
# ([augmentation](../docs/glossary.md#augmentation)), a learning rate that rises to 3e-5 and then falls
# along a cosine, and the moving average of the weights, which is what is kept. A full training takes
# 400 steps of 64 pairs. Here are 36 steps of 16 pairs, to see it work.

# %%
short = FinetuneSettings(steps=36, warmup=6, check_every=12, pairs=16)
tuned, curve = fit_encoder(dataset, backbone, fold=0, settings=short, verbose=0)
kept = settings.cache_dir() / "lessons" / f"finetuned-{dataset.fingerprint}.keras"
tuned.save(kept)  # lesson 06 evaluates it

# %% [markdown]
# To compare, the published encoder as it was: the [frozen encoder](../docs/glossary.md#frozen-encoder).
# Each photo is embedded as it is, and as its mirror image. The mean of the two embeddings is steadier
# than one of them ([test-time augmentation](../docs/glossary.md#test-time-augmentation)); we keep both,
# to compare fairly.

# %%
def embedded(model):
    """Of the photos of fold 0, (photos, 128) each: without and with their mirror images."""
    plain = model.embed(crops, mirrored=False)
    mirror_images = model.embed(crops[:, :, ::-1], mirrored=False)
    return plain, normalise(plain + mirror_images)


def auc(vectors):
    """AUC of the cosines of fold 0's pairs, from the embeddings of its photos."""
    return metrics.roc_auc(labels, cosine(*vectors[places]))


# %%
frozen = FaceEmbedder(backbone.build(), backbone)
before, before_mirrored = embedded(frozen)
after, after_mirrored = embedded(tuned)

# %%
plots.history({"fine-tuned": curve["val_auc"]}, "AUC on fold 0", "dozens of steps")
plt.axhline(auc(before_mirrored), color="grey", linestyle=":", label="frozen")
plt.xticks([1, 2, 3])
plt.legend();

# %% [markdown]
# A few dozen steps are enough to see a gain on families that training never saw. On the real data,
# all 400 steps take about eleven minutes without a GPU (lesson 06 shows the table). Their curve, from
# the file that `kincourse train encoder --json` printed:

# %%
real = files.read_json(settings.RESULTS / "kaggle_finetune.json")
plots.history({"fold 0, real data": real["history"]["val_auc"]}, "AUC", "fifties of steps");

# %% [markdown]
# ## 5. What has moved?
#
# *Why:* an AUC says that something became better, not what. Look at the embeddings themselves. Six
# pairs of relatives from fold 0, whose families had no part in training: photos 0 and 1 are
# relatives, 2 and 3, and so on.

# %%
family = watched["photo_a"].str.split("/").str[1]
six = watched[labels == 1].groupby(family).head(1).head(6)  # pairs of six families
square = faces[np.stack(protocols.photo_rows(six, dataset), axis=1).ravel()]  # (12, 150, 150, 3)
plots.photos(list(square), [f"{number}" for number in range(12)], columns=12, size=0.9);

# %%
figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.6))
for axis, (name, model) in zip(axes, {"before": frozen, "after": tuned}.items(), strict=True):
    vectors = model.embed(square)  # (12, 128), length 1
    picture = axis.imshow(vectors @ vectors.T)
    axis.set(title=name, xticks=range(0, 12, 2), yticks=range(0, 12, 2))
    figure.colorbar(picture, ax=axis, label="cosine")
figure.tight_layout()

# %% [markdown]
# Relatives are the squares of 2 × 2 fields along the diagonal. Compare the two scales beside the
# pictures: before, all cosines lie in a narrow range near 1; after, the range is several times as
# wide. Twelve photos are too few to see whether relatives stand out more. So here are all pairs of
# the fold:

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 2.8), sharex=True)
for axis, (name, vectors) in zip(axes, {"before": before, "after": after}.items(), strict=True):
    plots.score_histogram(labels, cosine(*vectors[places]), xlabel="cosine", axis=axis)
    axis.set_title(f"{name}: AUC {auc(vectors):.3f}")

# %% [markdown]
# Both groups move to the left, strangers farther than kin. Fine-tuning has not pulled relatives
# together: it has pushed strangers apart. The two histograms still overlap.
#
# ## 6. A choice among all, or a yes or no for each pair?
#
# *Why:* the article asks of each pair "kin or not?" and uses the binary cross-entropy of lesson 03.
# Is the contrastive loss worth the change? Here is the article's question for all pairs of the same
# batch: a sigmoid of slope × cosine + shift, where kin and strangers weigh the same. (`softplus(-x)`
# is minus the logarithm of the sigmoid of x.)

# %%
def pair_loss(vectors, slope=10.0, shift=-9.0):
    """Mean of the cross-entropy of kin and that of strangers, of a batch (2 n, d)."""
    count = vectors.shape[0]
    logits = slope * ops.matmul(vectors, ops.transpose(vectors)) + shift  # (2 n, 2 n)
    relatives = np.roll(np.eye(count, dtype="float32"), count // 2, axis=1)
    strangers = 1 - relatives - np.eye(count, dtype="float32")
    missed = ops.sum(relatives * ops.softplus(-logits)) / relatives.sum()
    mistaken = ops.sum(strangers * ops.softplus(logits)) / strangers.sum()
    return (missed + mistaken) / 2


# %%
theirs = losses.get("pairs", families=len(others), temperature=0.1)  # slope and shift train as well
some = normalise(np.random.default_rng(0).normal(size=(32, 128))).astype("float32")
assert np.isclose(pair_loss(some), theirs(some, np.tile(batch.labels, 2)), rtol=1e-4)

# %% [markdown]
# The same batches, learning rate and number of steps, with the other loss:

# %%
by_pairs = replace(short, loss="pairs", temperature=0.1, check_every=36, fold_pairs=300)
pairwise, _ = fit_encoder(dataset, backbone, fold=0, settings=by_pairs, verbose=0)

# %%
of_pairs = auc(pairwise.embed(crops, mirrored=False))
aucs = {"frozen": auc(before), "pair by pair": of_pairs, "contrastive": auc(after)}
pd.Series(aucs, name="AUC on fold 0").round(3).to_frame()

# %% [markdown]
# The pair loss asks each cosine to be above or below one threshold, the same for all photos. The
# contrastive loss asks of each photo only that its relative comes before the strangers, and it looks
# at the hard strangers most. This is one short run with one seed, and lesson 06 shows how far such
# numbers scatter. An *ablation* changes one choice at a time and trains again.
# `data/results/ablation.json` is ours on the real data: each row was trained three times, each time
# with another fold and seed. The table has `ours`, the contrastive loss at temperature 0.05, and the
# rows with another loss or temperature:

# %%
measured = ablation.table(files.read_json(settings.RESULTS / "ablation.json"))
of_losses = ["ours", "temperature 0.1", "pair classification", "family classification"]
measured.loc[measured.index.isin(of_losses), ["AUC", "against ours", "runs"]]

# %% [markdown]
# On three folds of real families, the contrastive loss is ahead of the pair loss by about 0.02. To
# name the family of each photo, as a classifier does, is hardly better than the frozen encoder: the
# network learns the families by heart, and others come in the test. Twice the temperature costs
# next to nothing.
#
# ## 7. Faces that are similar to everybody
#
# *Why:* there is one thing that the contrastive loss does not correct. Every photo has its own
# softmax, so it may be similar to all strangers, as long as its relative is more similar still. A
# common kind of face *is* similar to many strangers, so a cosine of 0.6 with such a face says less
# than a cosine of 0.6 with a rare one.
#
# To measure that, compare each photo with a [cohort](../docs/glossary.md#cohort): the mean embeddings
# of the training families. A photo's *crowding* is its mean cosine with the ten nearest of them.

# %%
def crowding(vectors, cohort, nearest=10):
    """Mean cosine (n,) of vectors (n, d) with the nearest of a cohort (families, d)."""
    return np.sort(vectors @ cohort.T, axis=1)[:, -nearest:].mean(1)


# %%
crowded = crowding(after_mirrored, tuned.cohort)  # (photos,)
ends = np.argsort(crowded)[[-1, -2, -3, 2, 1, 0]]
plots.photos(list(crops[ends]), [f"{'common' if rank < 3 else 'rare'}: {crowded[photo]:.2f}"
                                 for rank, photo in enumerate(ends)]);

# %% [markdown]
# Left the three photos with the highest crowding, right the three with the lowest. Rare may mean a rare
# face, or only a rare pose or light: the encoder does not say.
#
# **Exercise 4. The score against a cohort.** Write `cohort_score(a, b, cohort, nearest=10)`: the cosine
# of each pair, minus the mean of the two sides' crowding. `a` and `b` are `(pairs, d)`, `cohort` is
# `(families, d)`, all of length 1. Return `(pairs,)`. Conneau et al. (ICLR 2018) call it *cross-domain
# similarity local scaling* (CSLS; theirs is twice this score).

# %%
def cohort_score(a, b, cohort, nearest=10):
    """(pairs,)."""
    # BEGIN SOLUTION
    sides = []
    for vectors in (a, b):
        sides.append(np.sort(vectors @ cohort.T, axis=1)[:, -nearest:].mean(1))
    return (a * b).sum(1) - (sides[0] + sides[1]) / 2
    # END SOLUTION


# %%
if exercises.check(cohort_score):
    scores = cohort_score(*after_mirrored[places], tuned.cohort)
    assert np.allclose(scores, tuned.similarity(*after_mirrored[places]), atol=1e-5)
    print(f"AUC: cosine {auc(after_mirrored):.3f}, "
          f"against the cohort {metrics.roc_auc(labels, scores):.3f}")

# %% [markdown]
# ## 8. Like for like
#
# *Why:* a comparison must differ in one thing only. The mirror image and the cohort need no training,
# so the frozen encoder may have them as well.
#
# **Guess first.** "The frozen cosine has this AUC, our fine-tuned encoder with mirror image and
# cohort has that one." How much of the gain comes from fine-tuning: all of it, most of it, or less
# than half?

# %%
cohort = family_means(frozen, faces, dataset, others)
frozen_score = metrics.csls(*before_mirrored[places], cohort)  # the cohort score, from the module
tuned_score = tuned.similarity(*after_mirrored[places])

# %%
aucs = pd.DataFrame({
    "cosine alone": [auc(before), auc(after)],
    "mirror image": [auc(before_mirrored), auc(after_mirrored)],
    "mirror image and cohort": [metrics.roc_auc(labels, frozen_score),
                                metrics.roc_auc(labels, tuned_score)],
}, index=["frozen", "fine-tuned"])
aucs.round(3)

# %%
frozen_auc, tuned_auc = aucs["mirror image and cohort"]
whole = tuned_auc - aucs.loc["frozen", "cosine alone"]
print(f"Key result: AUC on fold 0 {frozen_auc:.3f} frozen, {tuned_auc:.3f} after {short.steps} steps, "
      f"both with mirror image and cohort: {tuned_auc - frozen_auc:.3f} of the {whole:.3f} "
      "that an unfair comparison would claim")

# %% [markdown]
# Compare within a column, never from the first row's first column to the second row's last. On the
# synthetic families less than half of that difference comes from the short fine-tuning; the rest is
# the mirror image and the cohort, which anybody can have. On the real data, with all 400 steps, the
# file of the ablation has a pair of rows that may be compared: both with the cohort, neither with the
# mirror image. Below them a pair that is not like for like.

# %%
runs = files.read_json(settings.RESULTS / "ablation.json")["rows"]
comparisons = {
    "like for like": ("frozen encoder, cosine against a cohort", "ours without the mirror image"),
    "not like for like": ("frozen encoder, cosine", "ours")}
table = {}
for name, (first, second) in comparisons.items():
    for fold, run in runs[first].items():
        both = {"frozen": run["auc"], "fine-tuned": runs[second][fold]["auc"]}
        table[name, f"fold {fold}"] = both
real_aucs = pd.DataFrame(table).T
real_aucs.assign(gain=real_aucs["fine-tuned"] - real_aucs["frozen"]).round(3)

# %% [markdown]
# There most of the gain is real, on each of the three folds: the training was long, and the faces are
# photographs. What the other choices are worth stands in [a
# table](../docs/real_data.md#what-each-choice-is-worth).
#
# ## What we saw
#
# - In a contrastive step every photo chooses its relative among all others of the batch: InfoNCE in
#   general, NT-Xent with one relative each, SupCon with several.
# - The temperature says how much the hardest strangers count. Without it the loss sees hardly anything.
# - A training step is a forward pass, a loss, its gradients and a step of the optimizer: ten lines.
# - An average of the weights over the steps is steadier than the last weights.
# - Fine-tuning did not pull relatives together. It pushed strangers farther apart than relatives.
# - A face that is similar to everybody misleads a cosine. A cohort of other families corrects that.
# - Compare like for like: what helps one model may help the other as well.
#
# ## A larger exercise
#
# **Exercise 5. The whole loss.** Write `supervised_contrastive(embeddings, families, temperature)`, the
# SupCon loss from the start, with NumPy alone. `embeddings` is `(n, d)`, of *any* length: scale them
# first. `families` is `(n,)`, in any order; a photo may have several relatives in the batch, or none.
#
# For each photo: the log-softmax of its similarities (cosine divided by temperature) to the *other*
# photos, averaged over its relatives, with a minus. The loss is the mean over the photos that have a
# relative. A photo without one is still a stranger to the others. Large exponents must not overflow.

# %%
def supervised_contrastive(embeddings, families, temperature):
    """One number."""
    # BEGIN SOLUTION
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    vectors = embeddings / lengths
    itself = np.eye(len(vectors), dtype=bool)

    # log-softmax over all others; exp(-inf) is 0
    similarity = np.where(itself, -np.inf, vectors @ vectors.T / temperature)
    largest = similarity.max(axis=1, keepdims=True)
    powers = np.exp(similarity - largest)
    log_shares = similarity - largest - np.log(powers.sum(axis=1, keepdims=True))

    # mean over the relatives of each photo, then over the photos that have some
    relatives = (families[:, None] == families[None]) & ~itself
    counts = relatives.sum(axis=1)
    sums = np.where(relatives, log_shares, 0).sum(axis=1)
    return -(sums[counts > 0] / counts[counts > 0]).mean()
    # END SOLUTION


# %%
if exercises.check(supervised_contrastive):
    unseen = list(folds.loc[folds["fold"] == 0, "family"])
    sampler = pairs.FamilyPairs(dataset, batch_size=16, families=unseen)
    for name, model in {"frozen": frozen, "fine-tuned": tuned}.items():
        batch_losses = []
        for batch in (sampler.batch(step) for step in range(5)):
            vectors = model.embed(faces[np.concatenate([batch.a, batch.b])])
            batch_losses.append(supervised_contrastive(vectors, np.tile(batch.labels, 2), 0.05))
        print(f"{name}: {np.mean(batch_losses):.2f} on five batches of families never trained on")

# %%
exercises.report();

# %%
# SOLUTION CHECK
assert exercises.report()
vectors = tuned.embed(crops[:64], mirrored=False)
ours = supervised_contrastive(vectors, np.arange(64) // 4, 0.05)
assert np.isclose(ours, losses.Contrastive(temperature=0.05)(vectors, np.arange(64) // 4), rtol=1e-4)

# %% [markdown]
# ## Where to go next
#
# - [Lesson 06](06_kaggle_evaluation.ipynb) asks the families that were held out.
# - Chen et al., [*A Simple Framework for Contrastive Learning*](https://arxiv.org/abs/2002.05709), ICML
#   2020: NT-Xent, and what large batches do.
# - Khosla et al., [*Supervised Contrastive Learning*](https://arxiv.org/abs/2004.11362), NeurIPS 2020;
#   why the mean stands outside the logarithm.
# - Zhang et al., [*Supervised Contrastive Learning for Facial Kinship
#   Recognition*](https://doi.org/10.1109/FG52635.2021.9666944), FG 2021.
# - Conneau et al., [*Word Translation Without Parallel Data*](https://arxiv.org/abs/1710.04087), ICLR
#   2018: local scaling, there for words.
# - Polyak and Juditsky, *Acceleration of Stochastic Approximation by Averaging*, 1992, and Izmailov et
#   al., [*Averaging Weights Leads to Wider Optima*](https://arxiv.org/abs/1803.05407), UAI 2018.
