# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Lesson 03: Embeddings and a first model
#
# A network that was trained to tell *people* apart already knows a lot about faces. Relatives lie a
# little closer in its space than strangers do. In this lesson you measure how much that is worth, build
# a small network on top of it in Keras, and train it. You write the features, the loss and the choice
# of the threshold yourself; at the end you train a model without Keras.
#
# **What you will learn** (about 60 minutes; the code runs in about a minute on a laptop)
#
# - what an embedding is, and what its cosine says about kin and strangers
# - pair features whose score does not depend on which photo comes first
# - how to define a network with two inputs in Keras
# - log loss and the Adam optimizer, by hand, checked against Keras
# - why the published notebook's AUC rose while its model got worse
# - how to choose a threshold that is not a coin toss

# %%
# SETUP

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from utils import exercises, files, plots, settings
from utils.data import open_data, protocols
from utils.faces import backbones
from utils.faces.embeddings import embed_photos
from utils.scoring import metrics
from utils.training import models, networks
from utils.training.head import EmbeddingPairs, fit_head

# %% [markdown]
# ## 1. A face as 128 numbers
#
# Two photos of one person differ in nearly every pixel, so pixels are a poor way to compare faces. An
# [encoder](../docs/glossary.md#encoder) turns a photo into a few numbers, its
# [embedding](../docs/glossary.md#embedding), which are nearly the same for every photo of a person.
# Ours is dlib's face recognition network, rebuilt in Keras. It came with a package, so nothing is
# downloaded.

# %%
dataset = open_data()
backbone = backbones.get("dlib-resnet")
encoder = backbone.build()
print(f"{encoder.name}: {encoder.input_shape[1:]} to {encoder.output_shape[1:]}, "
      f"{encoder.count_params():,} weights, {len(encoder.layers)} layers")

# %% [markdown]
# Two photos of one person, and one of a stranger:

# %%
folds = protocols.folds_for(dataset)  # five folds of the families that are not held out
several = dataset.photos[dataset.photos.duplicated("person", keep=False)]
one_person = several[several["person"] == several["person"].iloc[0]]["path"].iloc[:2].tolist()
stranger = dataset.photos.loc[dataset.photos["family"].isin(folds["family"]), "path"].iloc[-1]
trio, names = dataset.paths([*one_person, stranger]), ["A", "A again", "a stranger"]
plots.photos(trio, names);

# %%
vectors = embed_photos(backbone, trio)  # (3, 128) float32
figure, axis = plt.subplots(figsize=(9, 1.8))
axis.imshow(vectors, aspect="auto", cmap="coolwarm", vmin=-0.3, vmax=0.3)
axis.set(xlabel="number 0 to 127 of the embedding")
axis.set_yticks(range(3), names);

# %% [markdown]
# Each row is a face, each stripe one number of its embedding: red above 0, blue below. The angle
# between two rows says how alike they are:
# [cosine similarity](../docs/glossary.md#cosine-similarity) is the sum of the products of two vectors,
# divided by both their lengths. It is 1 for the same direction, 0 at a right angle, and −1 for
# opposite directions.
#
# **Exercise 1. The cosine of each pair.** Write `row_cosines(a, b)` for two batches of vectors, arrays
# of shape `(n, d)`. Return `(n,)`: the cosine of row 0 of `a` with row 0 of `b`, of row 1 with row 1,
# and so on.

# %%
def row_cosines(a, b):
    """Two arrays (n, d) to (n,) cosines."""
    # BEGIN SOLUTION
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(1) / lengths
    # END SOLUTION


# %%
if exercises.check(row_cosines):
    difference = row_cosines(vectors, vectors[::-1]) - metrics.cosine(vectors, vectors[::-1])
    print(f"largest difference to the course's cosine: {np.abs(difference).max():.7f}")

# %% [markdown]
# **Guess first.** What is the cosine of A with *A again*? And that of A with the stranger: near 0?

# %%
to_first = metrics.cosine(vectors[[0, 0, 0]], vectors)
plots.photos(trio, [f"{name}: {value:.3f}" for name, value in zip(names, to_first, strict=True)]);

# %% [markdown]
# The stranger's cosine is not near 0: all faces point in about the same direction of this space. What
# counts is how much *higher* the cosine of A with A again is.
#
# ## 2. All pairs of a fold
#
# Three photos prove nothing, so now we take all photos of the data set. In this lesson nothing
# changes the encoder, which is called a [frozen encoder](../docs/glossary.md#frozen-encoder). So each
# photo is embedded only once, and its numbers are kept in a cache.
#
# A fixed list of pairs from [fold](../docs/glossary.md#fold) 0 is our yardstick. The families of the
# other four folds are for training; the
# [held-out](../docs/glossary.md#held-out-families) `F09` families wait for lesson 06.

# %%
embeddings = embed_photos(backbone, dataset.paths(dataset.photos["path"]))  # (photos, 128)
watched = protocols.fold_protocol(dataset, folds, fold=0, pairs_each=3000)
rows_a, rows_b = protocols.photo_rows(watched, dataset)  # of each pair, in the table of photos
a, b = embeddings[rows_a], embeddings[rows_b]  # (pairs, 128) each
labels = watched["is_related"].to_numpy()
print(f"{len(embeddings):,} photos; {len(labels):,} pairs of fold 0, half of them kin")

# %%
frozen = metrics.cosine(a, b)
plots.score_histogram(labels, frozen, xlabel="cosine of the frozen embeddings");

# %% [markdown]
# The two groups overlap, but the kin lie further to the right. Here are the pairs that the cosine gets
# most wrong: relatives with the lowest cosine, and strangers with the highest.

# %%
order = np.argsort(frozen)
worst = [*order[labels[order] == 1][:3], *order[labels[order] == 0][-3:]]
titles = [f"{'kin' if labels[row] else 'strangers'}: {frozen[row]:.3f}" for row in worst]
plots.pair_gallery(dataset, watched.iloc[worst], titles).tight_layout(h_pad=1.5)

# %% [markdown]
# One number for the whole histogram: how often does a kin pair score higher than a pair of strangers?
# Compare every kin pair with every pair of strangers; a tie counts one half. That share is the
# [AUC](../docs/glossary.md#auc), the area under the ROC curve. 0.5 is guessing.

# %%
kin, strangers = frozen[labels == 1], frozen[labels == 0]
higher = (kin[:, None] > strangers).mean()  # of millions of comparisons
tied = (kin[:, None] == strangers).mean()
print(f"frozen cosine: AUC {higher + tied / 2:.3f}")
assert np.isclose(higher + tied / 2, metrics.roc_auc(labels, frozen))

# %% [markdown]
# ## 3. Features of a pair
#
# The cosine weighs all 128 numbers alike. A trained network could give more weight to those that run
# in families. It needs one vector for two photos, the
# [pair features](../docs/glossary.md#pair-features). The obvious choice is to put the two embeddings
# side by side.
#
# **Guess first.** Take random weights for the 256 numbers of `[a, b]`, and score each pair both ways
# round. Will the two scores of a pair be nearly the same?

# %%
side_by_side = [np.concatenate(pair, axis=1) for pair in ((a, b), (b, a))]  # (pairs, 256)
weights = np.random.default_rng(0).normal(size=256)
one_way, other_way = (features @ weights for features in side_by_side)
figure, axis = plt.subplots(figsize=(3.6, 3.4))
axis.scatter(one_way[:1000], other_way[:1000], s=3, color=plots.STRANGER)
axis.set(xlabel="score of (a, b)", ylabel="score of (b, a)");

# %% [markdown]
# No: if they were the same, all points would lie on the diagonal. For such a model (a, b) and (b, a)
# are two different questions. Training would have to teach it that they are the same question. It is
# better to build that in.
#
# **Exercise 2. Features without an order.** Write `pair_features(a, b)`: for two arrays `(n, d)` five
# features side by side, `(n, 5 d)`, in this order: the sum, the absolute difference, the product, the
# sum of the squares, and the square of the difference. The cell below then says what each of them
# tells by itself. An AUC far below 0.5 is as good as one far above 0.5: differences are *smaller* for
# kin.

# %%
def pair_features(a, b):
    """(n, d) and (n, d) to (n, 5 d), the same when a and b change places."""
    # BEGIN SOLUTION
    return np.concatenate([a + b, np.abs(a - b), a * b, a**2 + b**2, (a - b) ** 2], axis=1)
    # END SOLUTION


# %%
if exercises.check(pair_features):
    blocks = np.split(np.asarray(pair_features(a, b)), 5, axis=1)  # five times (pairs, 128)
    kinds = ["a + b", "|a − b|", "a · b", "a² + b²", "(a − b)²"]
    for kind, block in zip(kinds, blocks, strict=True):
        print(f"{kind:9} summed over the 128 numbers: AUC {metrics.roc_auc(labels, block.sum(1)):.3f}")

# %% [markdown]
# ## 4. A network with two inputs
#
# In Keras you write a network as you would draw it: first the inputs, then layers that are called on
# them like functions. Ours does this:
#
# - Each embedding is scaled to length 1, and the five features of the pair are computed.
# - [Batch normalisation](../docs/glossary.md#batch-normalisation) brings the features to mean 0 and
#   variance 1.
# - [Dropout](../docs/glossary.md#dropout) leaves out half of the features at random in each step of
#   training. With few families, a network that always sees all features learns the families by heart.
# - A hidden layer of 64 units learns which features count. `Dense` is a weighted sum for each unit, and
#   `relu` turns negative results into 0.
# - A last unit with a [sigmoid](../docs/glossary.md#sigmoid) gives a number from 0 to 1, the
#   probability of kin.
#
# Such a network on top of an encoder is called a [head](../docs/glossary.md#head).

# %%
def first_model():
    """Two embeddings (batch, 128) to the probability of kin (batch, 1)."""
    first, second = keras.Input((128,)), keras.Input((128,))
    unit = keras.layers.UnitNormalization()
    x, y = unit(first), unit(second)
    difference = keras.ops.abs(x - y)
    features = keras.layers.Concatenate()(
        [x + y, difference, x * y, x**2 + y**2, difference**2])  # (batch, 640)
    z = keras.layers.BatchNormalization()(features)
    z = keras.layers.Dropout(0.5)(z)
    z = keras.layers.Dense(64, activation="relu")(z)
    z = keras.layers.Dropout(0.5)(z)
    kin = keras.layers.Dense(1, activation="sigmoid")(z)
    return keras.Model([first, second], kin)


# %%
keras.utils.set_random_seed(0)
model = first_model()
pd.DataFrame([(layer.name, layer.output.shape[1:], layer.count_params()) for layer in model.layers],
             columns=["layer", "output", "weights"]).set_index("layer").tail(6)

# %% [markdown]
# **Guess first.** These weights are random, too. How much does the network's answer change when the two
# photos change places?

# %%
untrained = [np.asarray(model(pair))[:, 0] for pair in ([a, b], [b, a])]  # (pairs,) each
print("largest change when the photos change places:", np.abs(untrained[0] - untrained[1]).max())

# %% [markdown]
# Not at all: with symmetric features the order cannot matter, even before any training. The course has
# this network ready as `networks.kinship_head`. With the same weights it gives the same answers (the
# cell would stop with an error otherwise):

# %%
ours = networks.kinship_head(embedding_size=128, units=(64,))
ours.set_weights(model.get_weights())
assert np.allclose(ours([a, b]), model([a, b]), atol=1e-6)

# %% [markdown]
# ## 5. The loss, by hand
#
# To train, we need a number that says how wrong an answer is. The network claims a probability p. If
# the pair is kin it pays −log p, otherwise −log(1 − p): nothing for a confident right answer, a lot
# for a confident wrong one. The mean over the pairs is the [log loss](../docs/glossary.md#log-loss),
# or binary cross-entropy.

# %%
p = np.linspace(0.001, 0.999, 999)
figure, axis = plt.subplots(figsize=(6, 2.6))
axis.plot(p, -np.log(p), color=plots.KIN, label="kin pays −log p")
axis.plot(p, -np.log(1 - p), color=plots.STRANGER, label="strangers pay −log(1 − p)")
axis.set(xlabel="claimed probability of kin, p", ylabel="loss")
axis.legend();

# %% [markdown]
# At the edges the loss is infinite: a single pair that is wrong with p = 0 or p = 1 would make the mean
# of a million pairs infinite. So p is clipped first.
#
# **Exercise 3. Log loss.** Write `log_loss(labels, probabilities)`, both `(n,)`, labels 1 for kin and 0
# for strangers. Clip the probabilities to the range from 1e-7 to 1 − 1e-7, then return the mean loss.

# %%
def log_loss(labels, probabilities):
    """Mean binary cross-entropy, one number."""
    # BEGIN SOLUTION
    p = np.clip(probabilities, 1e-7, 1 - 1e-7)
    return -np.mean(labels * np.log(p) + (1 - labels) * np.log(1 - p))
    # END SOLUTION


# %%
if exercises.check(log_loss):
    claimed = untrained[0].astype(float)
    by_keras = float(keras.losses.BinaryCrossentropy()(labels[:, None], claimed[:, None]))
    print(f"the untrained network: by hand {log_loss(labels, claimed):.6f}, Keras {by_keras:.6f}")
    print(f"always saying 0.5:     {log_loss(labels, np.full(len(labels), 0.5)):.6f}")

# %% [markdown]
# With your function, the cell above shows it: the untrained network pays about as much as one that
# always says 0.5, which is log 2, or 0.693.
#
# ## 6. Adam, by hand
#
# Training moves each weight against the [gradient](../docs/glossary.md#gradient), the slope of the
# loss. But how far? The optimizer [Adam](../docs/glossary.md#adam) keeps two running means, one of the
# gradient and one of its square. Both start at 0, so in the first steps they are too small, and Adam
# corrects for that. A step is the first mean divided by the root of the second, times the
# [learning rate](../docs/glossary.md#learning-rate).
#
# **Guess first.** Four gradients: 0.5, 0.4, −0.1, and then 30. How far does the last one move the
# weight?

# %%
# NBVAL_CHECK_OUTPUT
def adam(gradients, rate=1e-5, beta1=0.9, beta2=0.999, tiny=1e-7):
    """The path of a weight that starts at 1, one step for each gradient."""
    weight, mean, square, path = 1.0, 0.0, 0.0, []
    for step, gradient in enumerate(gradients, start=1):
        mean = beta1 * mean + (1 - beta1) * gradient
        square = beta2 * square + (1 - beta2) * gradient**2
        weight -= rate * (mean / (1 - beta1**step)) / (np.sqrt(square / (1 - beta2**step)) + tiny)
        path.append(weight)
    return np.array(path)


gradients = [0.5, 0.4, -0.1, 30.0]
print("moved, in learning rates:", np.round((1 - adam(gradients)) / 1e-5, 2))

# %% [markdown]
# The gradient of 30 moved the weight by 3.24 − 2.64 = 0.6 learning rates, and no step was longer than
# one. So the learning rate says about how far a weight moves in a step, however large the gradient.
# The article's is 1e-5, because a pretrained network should be moved very gently. Keras takes the same
# path:

# %%
weight, optimizer, path = keras.Variable(1.0), keras.optimizers.Adam(1e-5), []
for gradient in gradients:
    optimizer.apply([keras.ops.convert_to_tensor(gradient)], [weight])
    path.append(float(weight))
assert np.allclose(path, adam(gradients), atol=2e-7)

# %% [markdown]
# ## 7. Training as the article does
#
# An *epoch* is a round of training steps, with a look at other families at its end. Training goes on
# until the model stops getting better on those, so everything depends on the number that says so.
# The published code has three *callbacks*, objects that Keras calls after every epoch:
# one keeps the best model, one lowers the learning rate when nothing gets better, and one stops
# early. All three watch `val_auc`, the AUC on one batch of 100 pairs. Their `patience` is how many
# epochs without a gain they wait. (We train for few epochs, so they are less patient here than in the
# published code.)

# %%
kept = settings.cache_dir() / "lessons" / "facenet_vgg.keras"
kept.parent.mkdir(parents=True, exist_ok=True)
published_callbacks = [
    keras.callbacks.ModelCheckpoint(kept, monitor="val_auc", mode="max", save_best_only=True),
    keras.callbacks.ReduceLROnPlateau(monitor="val_auc", mode="max", factor=0.1, patience=3),
    keras.callbacks.EarlyStopping(monitor="val_auc", mode="max", patience=5),
]

# %% [markdown]
# Now to the defect in its `train.py`. There `val_auc` is a
# [streaming metric](../docs/glossary.md#streaming-metric) of TensorFlow 1: it keeps counts of all
# pairs that it has seen, and these counts are never set back to 0. Keras 3 resets its metrics by
# itself; we bring the defect back by overriding that one method. Beside it we compute the truth:
# after every epoch, afresh, over all pairs of the fold.

# %%
class StreamingAUC(keras.metrics.AUC):
    """An AUC that goes on counting: over epochs, and over training and validation alike."""

    def reset_state(self):
        """Do nothing, which is the defect."""


# %%
class Truth(keras.callbacks.Callback):
    """Records the AUC and the log loss over the whole fold."""

    def on_epoch_end(self, epoch, logs=None):
        """Add both to what fit() returns."""
        scores = self.model([a, b], training=False)  # (pairs, 1)
        logs["true_auc"] = metrics.roc_auc(labels, np.asarray(scores)[:, 0])
        logs["true_loss"] = float(keras.losses.BinaryCrossentropy()(labels[:, None], scores))


# %% [markdown]
# We train on sixteen families only, and without dropout, so that the network soon knows them by heart.
# The learning rate is 1e-4, ten times the article's, so that 12 epochs are enough to see it.

# %%
few = list(folds.loc[folds["fold"] != 0, "family"])[:16]
batches = EmbeddingPairs(dataset, embeddings, few, steps=100, batch_size=64, seed=1)
hundred = np.random.default_rng(0).permutation(len(labels))[:100]
keras.utils.set_random_seed(1)
overfitting = networks.kinship_head(128, units=(256, 64), dropout=0, feature_dropout=0)
overfitting.compile(keras.optimizers.Adam(1e-4), "binary_crossentropy",
                    metrics=[StreamingAUC(name="auc")])

# %% [markdown]
# **Guess first.** The model will get worse on other families after a few epochs. What will the reported
# `val_auc` do then: fall, stay, or rise?

# %%
curves = overfitting.fit(batches, epochs=12, shuffle=False, verbose=0,
                         validation_data=([a[hundred], b[hundred]], labels[hundred]),
                         callbacks=[Truth(), *published_callbacks]).history
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
plots.history({"training": curves["loss"], "fold 0": curves["true_loss"]}, "log loss", axis=axes[0])
plots.history({"val_auc as reported": curves["val_auc"], "true AUC on fold 0": curves["true_auc"]},
              "AUC", axis=axes[1]);

# %%
best = int(np.argmax(curves["true_auc"]))
checkpoint = keras.models.load_model(kept, compile=False)
kept_auc = metrics.roc_auc(labels, np.asarray(checkpoint([a, b]))[:, 0])
print(f"reported at the end: {curves['val_auc'][-1]:.3f}; the model that was kept: {kept_auc:.3f}; "
      f"the best, after epoch {best + 1}: {curves['true_auc'][best]:.3f}")

# %% [markdown]
# On the left, the loss on fold 0 turns and climbs: the model gets worse. On the right, the reported
# `val_auc` **rises at every epoch** all the same. It counts the training pairs too, which the network
# knows by heart, and the pairs of all earlier epochs. So training never stops early, the learning rate
# is never lowered, and the checkpoint keeps the last model as the best. To mend it, delete the
# overridden method, and score all pairs of the fold.
#
# ## 8. Training it properly
#
# `fit_head` does that. In each epoch it draws about 15,000 fresh pairs from the families of four folds,
# and then computes the AUC anew over all pairs of the fifth. It keeps the best weights, and stops when
# six epochs in a row brought nothing better.

# %%
head, history = fit_head(dataset, embeddings, backbone, fold=0, verbose=0)
best = int(np.argmax(history["val_auc"]))
print(f"stopped after {len(history['loss'])} epochs; the best was number {best + 1}, "
      f"with AUC {history['val_auc'][best]:.3f}")

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
plots.history({"training": history["loss"], "fold 0": history["val_loss"]}, "log loss", axis=axes[0])
plots.history({"fold 0": history["val_auc"]}, "AUC", axis=axes[1])
axes[1].axhline(metrics.roc_auc(labels, frozen), color="grey", linestyle=":", label="frozen cosine")
axes[1].legend();

# %% [markdown]
# On synthetic families the gain over the cosine is small. And the best epoch was chosen on this very
# fold, which makes the figure look better than it is. How much is left on families that had no part in
# any choice? That is the question of lesson 06. On the real photos of the
# [competition](https://www.kaggle.com/c/recognizing-faces-in-the-wild) the gain is larger. Here is the
# AUC on its held-out families, with 95 % [intervals](../docs/glossary.md#confidence-interval):

# %%
for report in files.read_json(settings.RESULTS / "kaggle_f09.json")["reports"]:
    print(report["name"], "{value:.3f} [{low:.3f}, {high:.3f}]".format(**report["auc"]))

# %% [markdown]
# A head works only with the encoder that it was trained on. With another one that also gives 128
# numbers it would answer nonsense without any error. So the name of the encoder (here called backbone)
# and other facts are saved inside the `.keras` file, and loading it with another encoder is refused.
# (`kincourse train head` does what this section did, from the command line.)

# %%
path = settings.cache_dir() / "lessons" / "head.keras"
head.save(path)
loaded = models.load_head(path, backbone)
assert np.array_equal(loaded.score(a[:100], b[:100]), head.score(a[:100], b[:100]))
{name: loaded.facts[name] for name in ("backbone", "families", "pairs", "val_auc", "threshold")}

# %% [markdown]
# ## 9. A threshold that is not a coin toss
#
# A web page has to say something about *one* pair, and for that a probability needs a
# [threshold](../docs/glossary.md#threshold): a pair at or above it counts as kin. Move the slider.
# There are two kinds of error, strangers that are accepted and kin that are rejected, and where one
# gets rarer, the other gets more frequent.

# %%
scores = head.score(a, b)  # (pairs,) probabilities of kin


def decide(threshold):
    """The scores of kin and strangers, and what a threshold makes of them."""
    accepted, rejected = metrics.error_rates(labels, scores, threshold)
    figure = plots.score_histogram(labels, scores, threshold, xlabel="probability of kin")
    figure.axes[0].set_title(f"accuracy {metrics.accuracy(labels, scores, threshold):.1%}: strangers "
                             f"accepted {accepted:.1%}, kin rejected {rejected:.1%}", fontsize=10)
    return figure


plots.slider(decide, [step / 20 for step in range(1, 20)], "threshold", start=0.4)

# %% [markdown]
# **Guess first.** Which threshold has the highest accuracy, and how sharp is that peak?

# %%
thresholds = np.linspace(0.05, 0.95, 181)
accuracies = np.array([metrics.accuracy(labels, scores, threshold) for threshold in thresholds])
figure, axis = plt.subplots(figsize=(7, 2.8))
axis.plot(thresholds, 100 * accuracies)
axis.axvline(head.facts["threshold"], color=plots.KIN, label="the threshold of the model")
axis.set(xlabel="threshold", ylabel="pairs decided rightly (%)")
axis.legend();

# %%
near_best = thresholds[accuracies > accuracies.max() - 0.002]
print(f"best accuracy {100 * accuracies.max():.1f} %; within 0.2 points of it from a threshold of "
      f"{near_best.min():.2f} to {near_best.max():.2f}")

# %% [markdown]
# There is no sharp peak. The top is a plateau with small teeth, and on other pairs its highest tooth
# would lie elsewhere. Where several thresholds are equally good, take the middle one: it is farthest
# from where accuracy falls.
#
# **Exercise 4. The middle of the plateau.** Write `middle_threshold(labels, scores, thresholds)`. A
# score at or above a threshold means kin. Of the given thresholds (in any order), find those with the
# highest accuracy, and return the middle one of them: their median.

# %%
def middle_threshold(labels, scores, thresholds):
    """One threshold: the median of those that decide most pairs rightly."""
    # BEGIN SOLUTION
    accuracy = np.array([np.mean((scores >= threshold) == labels) for threshold in thresholds])
    return np.median(thresholds[accuracy == accuracy.max()])
    # END SOLUTION


# %%
if exercises.check(middle_threshold):
    rng, chosen = np.random.default_rng(0), []
    for _ in range(200):  # other pairs each time, 40 of them
        rows = rng.choice(len(labels), 40, replace=False)
        chosen.append(middle_threshold(labels[rows], scores[rows], thresholds))
    print(f"200 samples of 40 pairs: thresholds from {min(chosen):.2f} to {max(chosen):.2f}")

# %% [markdown]
# With your function, the cell above says how far apart the thresholds of 200 small samples lie. The
# fewer the pairs, the more the choice is chance, the coin toss of the heading. So the course chooses on
# thousands of pairs. Its `metrics.best_threshold` also gives kin and strangers the same weight, however
# many there are of each.

# %%
print(f"Key result: AUC on fold 0 {metrics.roc_auc(labels, frozen):.3f} with the frozen cosine, "
      f"{metrics.roc_auc(labels, scores):.3f} with a trained head")

# %% [markdown]
# ## What we saw
#
# - An encoder trained to recognise people separates kin from strangers better than chance, with no
#   training on kinship at all.
# - Symmetric features make the order of the photos irrelevant by construction, not by training.
# - A network in Keras is inputs, and layers that are called on them.
# - Log loss and Adam are a few lines each, and agree with Keras.
# - A metric that is never reset reports progress that is not there. Compute the number that you decide
#   by over the whole fold, from scratch, every epoch.
# - Accuracy is flat around its best threshold, so the exact number means little.
#
# ## A larger exercise
#
# Everything in this lesson fits into twenty lines of NumPy: features, a sigmoid, log loss, its
# gradient, and Adam.
#
# **Exercise 5. A model without Keras.** Write `train_by_hand(features, labels, steps, rate)`: logistic
# regression on features `(n, d)`. Weights `(d,)` and bias start at 0. In each step, over *all* pairs:
#
# - z = features · weights + bias, and p = 1 / (1 + exp(−z));
# - the gradient of the log loss is the mean over the pairs of (p − label) times the feature, and for
#   the bias the mean of (p − label);
# - one step of Adam, with the numbers of section 6, for every weight and for the bias. Count steps
#   from 1.
#
# Return `(weights, bias)`. A hint: with a column of ones beside the features, the bias becomes one more
# weight.

# %%
def train_by_hand(features, labels, steps, rate):
    """Features (n, d) and labels (n,) to weights (d,) and a bias."""
    # BEGIN SOLUTION
    inputs = np.column_stack([features, np.ones(len(features))])  # (n, d + 1)
    weights = np.zeros(inputs.shape[1])
    mean, square = np.zeros_like(weights), np.zeros_like(weights)
    for step in range(1, steps + 1):
        p = 1 / (1 + np.exp(-inputs @ weights))
        gradient = inputs.T @ (p - labels) / len(labels)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        root = np.sqrt(square / (1 - 0.999**step)) + 1e-7
        weights = weights - rate * mean / (1 - 0.9**step) / root
    return weights[:-1], weights[-1]
    # END SOLUTION


# %%
def standard_features(a, b, like=None):
    """Pair features (n, 640), with mean 0 and variance 1 over ``like``, or over themselves."""
    features = np.asarray(networks.pair_features(metrics.normalise(a), metrics.normalise(b)))
    like = features if like is None else like
    return (features - like.mean(0)) / like.std(0), features


# %%
if exercises.check(train_by_hand):
    others = list(folds.loc[folds["fold"] != 0, "family"])
    [(first, second), kin_or_not] = EmbeddingPairs(dataset, embeddings, others, 1, 20_000, seed=0)[0]
    inputs, raw = standard_features(first, second)
    for steps in (1, 10, 100):
        weights, bias = train_by_hand(inputs, kin_or_not, steps, rate=0.003)
        auc = metrics.roc_auc(labels, standard_features(a, b, raw)[0] @ weights + bias)
        print(f"{steps:4} steps: AUC {auc:.3f} on fold 0")

# %%
exercises.report();

# %%
# SOLUTION CHECK
assert exercises.report()

# %% [markdown]
# ## Where to go next
#
# - [Lesson 04](04_article_model.ipynb) builds the article's model: two encoders and four inputs.
# - He et al., [*Deep Residual Learning for Image Recognition*](https://arxiv.org/abs/1512.03385), CVPR
#   2016: the blocks of the encoder.
# - Kingma and Ba, [*Adam: A Method for Stochastic Optimization*](https://arxiv.org/abs/1412.6980), ICLR
#   2015.
# - Robinson et al., *Survey on the Analysis and Modeling of Visual Kinship*, IEEE TPAMI 2022.
