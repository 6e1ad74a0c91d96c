# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Lesson 06: How good is it, really?
#
# Families that no model was trained or tuned on, a list of pairs that does not change, and one number
# on Kaggle's leaderboard. The number is easy to compute. What it is worth is the subject of this
# lesson: how sure we are of it, what a threshold means for the people behind the photos, whether a
# probability can be taken at its word, and what an answer rests on. On the way you write the
# submission file.
#
# **What you will learn** (about 60 minutes; the code runs in about a minute on a laptop)
#
# - the ROC curve and its area, written out
# - why a confidence interval must resample families, not pairs
# - thresholds, error rates, and what they mean when relatives are rare
# - calibration: how to read a reliability diagram
# - writing a submission that Kaggle accepts
# - what each choice in fine-tuning is worth, and what the model that ships with this course is worth
# - *whose nose is it?* How to test an explanation before believing it

# %%
# SETUP

# %%
import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from utils import exercises, files, plots, settings
from utils.answers import explanation, kinship
from utils.data import datasets, open_data, protocols, synthetic
from utils.faces import backbones
from utils.faces.embeddings import embed_photos
from utils.scoring import evaluation, metrics
from utils.scoring.metrics import cosine
from utils.training import ablation, models, out_of_fold
from utils.training.encoder import FinetuneSettings, fit_encoder
from utils.training.head import cached_head

# %% [markdown]
# Three models: the cosine of the published encoder, the head of lesson 03, and the encoder that you
# fine-tuned in lesson 05. What is not in the cache is trained now, with the settings of those lessons.

# %%
dataset = open_data()
backbone = backbones.get()
embeddings = embed_photos(backbone, dataset.paths(dataset.photos["path"]))  # (photos, 128)
head = cached_head(dataset, embeddings, backbone)
kept = settings.cache_dir() / "lessons" / f"finetuned-{dataset.fingerprint}.keras"
if not kept.is_file():
    short = FinetuneSettings(steps=36, warmup=6, check_every=12, pairs=16)
    fit_encoder(dataset, backbone, fold=0, settings=short, verbose=0)[0].save(kept)
tuned = models.load_encoder(kept)
pd.DataFrame([head.facts, tuned.facts])[["kind", "data", "families", "val_auc"]]

# %% [markdown]
# ## 1. Families that nobody has used
#
# *Why:* a model that was trained or chosen on a family looks better there than it is on new families.
# So nothing in lessons 02 to 05 was trained or chosen on the `F09` families: the [held-out
# families](../docs/glossary.md#held-out-families). Their list of pairs, the
# [protocol](../docs/glossary.md#protocol), is fixed.

# %%
protocol = protocols.protocol_for(dataset)
labels = protocol["is_related"].to_numpy()
protocol.groupby("is_related").agg(pairs=("same_photo", "size"), same_photo=("same_photo", "sum"))

# %%
rows = np.stack(protocols.photo_rows(protocol, dataset))  # (2, pairs), in the table of photos
a, b = embeddings[rows]  # (pairs, 128) each
frozen, by_head = cosine(a, b), head.score(a, b)  # (pairs,) each

# the fine-tuned encoder embeds each photo once
photos, places = np.unique(rows, return_inverse=True)
places = places.reshape(rows.shape)  # (2, pairs), in `photos`
[faces] = datasets.decoded(dataset, [150], progress=False)  # all photos, uint8 RGB (n, 150, 150, 3)
plain = tuned.embed(faces[photos], mirrored=False)[places]  # (2, pairs, 128)
mirrored = tuned.embed(faces[photos])[places]
tuned_cosine, scores = cosine(*plain), tuned.score(*mirrored)  # alone; with mirror image and cohort

# %% [markdown]
# **Guess first.** Six pairs of the protocol. Three are kin. Which?

# %%
cross_photo = protocol.assign(score=scores).query("same_photo == 0")
six = cross_photo.groupby("is_related").sample(3, random_state=4).sample(frac=1, random_state=1)
plots.pair_gallery(dataset, six, [f"pair {number}" for number in range(1, 7)], columns=2);

# %%
six.assign(pair=range(1, 7)).set_index("pair")[["is_related", "score"]].round(2)

# %% [markdown]
# 1 is kin, 0 are strangers; the score is the probability that the fine-tuned encoder gives. In a
# study with photos of *Families in the Wild*, people were right on 57.5 % of the pairs (Robinson et
# al., IEEE TPAMI 2018).
#
# ## 2. The ROC curve, written out
#
# *Why:* "how good" must not depend on where somebody puts the threshold. Choose a
# [threshold](../docs/glossary.md#threshold), and call every pair at or above it kin. Two things can go
# wrong: strangers are accepted, kin are rejected.
#
# **Exercise 1. One point of the curve.** Write `roc_point(labels, scores, threshold)`: return the share
# of strangers that are accepted, and the share of kin that are accepted. A pair is accepted when its
# score is at or above the threshold. Labels are 1 for kin and 0 for strangers.

# %%
def roc_point(labels, scores, threshold):
    """(share of strangers accepted, share of kin accepted)."""
    # BEGIN SOLUTION
    accepted = scores >= threshold
    return accepted[labels == 0].mean(), accepted[labels == 1].mean()
    # END SOLUTION


# %%
if exercises.check(roc_point):
    for threshold in (0.3, 0.5, 0.7):
        strangers_share, kin_share = roc_point(labels, scores, threshold)
        print(f"at {threshold}: {strangers_share:.2f} of strangers, {kin_share:.2f} of kin accepted")

# %% [markdown]
# Every threshold gives one point, and the points make the [ROC curve](../docs/glossary.md#roc-curve).
# Sorted by score, all of them come from two running sums:

# %%
def roc_points(labels, scores):
    """Shares of strangers and of kin accepted, each score as the threshold, from strict to lax."""
    order = np.argsort(-scores, kind="stable")
    kin = labels[order]
    return np.cumsum(1 - kin) / (1 - kin).sum(), np.cumsum(kin) / kin.sum()


strangers_accepted, kin_accepted = roc_points(labels, scores)
area = np.trapezoid(kin_accepted, strangers_accepted)
print(f"area under the curve: {area:.4f}")

# %% [markdown]
# The area, [AUC](../docs/glossary.md#auc), has a second meaning, and needs no curve: how often a kin
# pair outscores a stranger pair.

# %%
def auc_by_counting(labels, scores):
    """Share of (kin, stranger) couples in which the kin pair scores higher; ties count half."""
    kin, strangers = scores[labels == 1], scores[labels == 0]
    higher = (kin[:, None] > strangers[None]).mean()
    return higher + (kin[:, None] == strangers[None]).mean() / 2


counted, by_ranks = auc_by_counting(labels, scores), metrics.roc_auc(labels, scores)
print(f"counted: {counted:.4f}, `metrics.roc_auc`: {by_ranks:.4f}")
assert np.isclose(counted, by_ranks) and abs(area - by_ranks) < 1e-3

# %%
plots.roc({"frozen cosine": (labels, frozen), "head": (labels, by_head),
           "fine-tuned encoder": (labels, scores)});


# %% [markdown]
# Left the ROC curve. Right the curve of [precision and
# recall](../docs/glossary.md#precision-and-recall): the share of accepted pairs that are kin, against
# the share of kin that are accepted.
#
# Move the threshold (where a kernel runs): what you gain on one side, you lose on the other.

# %%
def draw(threshold):
    """The scores with a threshold, and its point of the curve."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2))
    plots.score_histogram(labels, scores, threshold, "probability", left)
    errors = metrics.error_rates(labels, scores, threshold)
    right.plot(strangers_accepted, kin_accepted, color=plots.NEUTRAL)
    right.plot(errors[0], 1 - errors[1], "o", color=plots.KIN)
    accept, reject = 100 * errors[0], 100 * errors[1]
    right.set(title=f"strangers accepted {accept:.0f} %, kin rejected {reject:.0f} %",
              xlabel="strangers accepted (share)", ylabel="kin accepted (share)")
    return figure


plots.slider(draw, [round(step / 20, 2) for step in range(2, 19)], "threshold", start=0.5)

# %% [markdown]
# ## 3. How sure are we?
#
# *Why:* with other families the number would be a different one. The
# [bootstrap](../docs/glossary.md#bootstrap-over-families) asks how far the number would vary: draw as
# many data as there are from the data themselves, with replacement, and compute the number again. Do
# it a thousand times, and take the middle 95 %. But draw *what*: pairs, or families? Both ways, for
# the share of kin pairs that are accepted:

# %%
def over_pairs(accepted, families, resamples=1000):
    """Shares (resamples,) when pairs are drawn, as if each were independent of all others."""
    rng = np.random.default_rng(0)
    return [rng.choice(accepted, len(accepted)).mean() for _ in range(resamples)]


def over_families(accepted, families, resamples=1000):
    """Shares (resamples,) when families are drawn, each with all of its pairs."""
    rng = np.random.default_rng(0)
    groups = [accepted[families == family] for family in np.unique(families)]
    shares = []
    for _ in range(resamples):
        drawn = rng.integers(len(groups), size=len(groups))
        shares.append(np.concatenate([groups[number] for number in drawn]).mean())
    return shares


# %% [markdown]
# **Guess first.** Which of the two intervals is wider, and by how much: a tenth, twice, more?

# %%
is_kin, first_families = labels == 1, protocols.pair_families(protocol)[0]
accepted, of_family = scores[is_kin] >= tuned.facts["threshold"], first_families[is_kin]
for name, draws in {"pairs": over_pairs, "families": over_families}.items():
    shares = draws(accepted, of_family)
    low, high = np.percentile(shares, [2.5, 97.5])
    plt.hist(shares, np.arange(0, 1.01, 0.01), alpha=0.6, label=f"{name} drawn: {high - low:.3f} wide")
plt.xlabel("share of kin pairs accepted"), plt.ylabel("resamples")
plt.xlim(accepted.mean() - 0.25, accepted.mean() + 0.25)
plt.legend(loc="upper left", fontsize="small");

# %% [markdown]
# <details><summary>Answer</summary> The interval over families is far wider (the legend has both
# widths), and it is the honest one. Pairs of one family show the same few faces: they are right
# together or wrong together. A hundred pairs of one family say little more than a few. What varies from
# one data set to the next is the families.</details>
#
# `metrics.rate_interval` is this bootstrap, `metrics.auc_interval` the one of the AUC. There a pair
# of strangers has two families. It counts as often as the one was drawn times the other (Owen, 2007).
# You will write it at the end of the lesson.

# %%
families = protocols.pair_families(protocol)
models_scores = {"frozen cosine": frozen, "fine-tuned, cosine alone": tuned_cosine, "head": by_head,
                 "fine-tuned, mirror image and cohort": scores}
pd.Series({name: str(metrics.auc_interval(labels, score, *families))
           for name, score in models_scores.items()}, name="AUC [95 %]").to_frame()

# %% [markdown]
# Where intervals overlap, the models may still be told apart. Two models are compared on the *same*
# resampled families, so that what makes a family hard for both cancels. If the interval of the
# difference holds 0, these pairs cannot tell which model is better.

# %%
for name, first, second in (("head minus frozen cosine", by_head, frozen),
                            ("fine-tuned minus frozen, both cosine alone", tuned_cosine, frozen)):
    gain = metrics.auc_gain(labels, first, second, *families)
    print(f"{name}: {gain}{'  (holds 0)' if gain.low <= 0 <= gain.high else ''}")

# %% [markdown]
# ## 4. Without the shortcut
#
# *Why:* two faces cut from one photograph share its light and its colours, and no two strangers of
# this list do (lesson 01). A model may rely on that [same-photo
# shortcut](../docs/glossary.md#same-photo-shortcut). In the second row of the table, those pairs are
# left out. No threshold was chosen on these families: that of the cosine was chosen on all other
# families, the other two on fold 0. *Average precision* is the area under the precision–recall curve;
# the *calibration error* is explained in section 6.

# %%
threshold = evaluation.cosine_threshold(dataset, embeddings)
reports = [evaluation.evaluate("frozen cosine", protocol, frozen, threshold)]
for name, score, facts in (("head", by_head, head.facts), ("fine-tuned encoder", scores, tuned.facts)):
    reports.append(evaluation.evaluate(name, protocol, score, facts["threshold"], probabilities=True))
evaluation.table(reports).T

# %% [markdown]
# And on the real data: the 6,000 pairs of `data/protocols/f09_pairs.csv`, from the file that `kincourse
# evaluate` wrote.

# %%
on_real_data = files.read_json(settings.RESULTS / "kaggle_f09.json")
print("trained head minus frozen cosine:", metrics.Interval(**on_real_data["gain"]))
evaluation.table(evaluation.read_reports(settings.RESULTS / "kaggle_f09.json")).T

# %% [markdown]
# There the shortcut is worth little to either model, and the whole interval of the head's gain lies
# above zero. (That is this one head. The interval does not say what another seed or fold would
# change.) The published two-network model reports 0.887 on the private part of Kaggle's own test.
# Those are other pairs, so the numbers cannot be compared.
#
# ## 5. A threshold has consequences
#
# *Why:* an AUC accuses nobody. A threshold does: some strangers are taken for kin, and some kin for
# strangers.
#
# Half of the protocol's pairs are kin; in a crowd almost none are. At the threshold from fold 0 we
# measure the two error rates. Bayes' rule turns the two rates into what a user wants to know: *the
# model says kin; is it true?*
#
# **Guess first.** One pair in a hundred is kin, and the model accepts a pair. How likely is it kin:
# 70 %, 30 %, or less than 5 %?

# %%
def precision_at(share_of_kin, false_accept, false_reject):
    """Chance that an accepted pair is kin, when this share of all pairs is kin."""
    accepted_kin = share_of_kin * (1 - false_reject)
    return accepted_kin / (accepted_kin + (1 - share_of_kin) * false_accept)


false_accept, false_reject = metrics.error_rates(labels, scores, tuned.facts["threshold"])
print(f"strangers accepted: {100 * false_accept:.1f} %, kin rejected: {100 * false_reject:.1f} %")
for share in (0.5, 0.1, 0.01, 0.001):
    print(f"{100 * share:>5} % of pairs are kin: an accepted pair is kin in "
          f"{100 * precision_at(share, false_accept, false_reject):.1f} % of cases")

# %% [markdown]
# Less than 5 %. A model that is right on most pairs of a balanced test is wrong nearly always when it
# searches a crowd for relatives. It must not be used for that. Where to put a threshold depends on
# what an error costs.
#
# **Exercise 2. The price of an error.** In a game at a family reunion, accepting strangers costs 1 and
# rejecting kin costs 3. Write `cheapest_threshold(labels, scores, accept_cost, reject_cost)`: the value
# in `scores` at which the total cost of all pairs is lowest. A pair is accepted when its score is at or
# above it.

# %%
def cheapest_threshold(labels, scores, accept_cost, reject_cost):
    """One of the values in ``scores``."""
    # BEGIN SOLUTION
    candidates = np.unique(scores)
    costs = []
    for threshold in candidates:
        false_accepts = ((scores >= threshold) & (labels == 0)).sum()
        false_rejects = ((scores < threshold) & (labels == 1)).sum()
        costs.append(accept_cost * false_accepts + reject_cost * false_rejects)
    return candidates[np.argmin(costs)]
    # END SOLUTION


# %%
if exercises.check(cheapest_threshold):
    for costs in ((1, 1), (1, 3), (3, 1)):
        best = cheapest_threshold(labels, scores, *costs)
        accept, reject = metrics.error_rates(labels, scores, best)
        print(f"costs {costs}: threshold {best:.2f}; "
              f"strangers accepted {100 * accept:.0f} %, kin rejected {100 * reject:.0f} %")

# %% [markdown]
# (On these very pairs, to see how the price moves it. A threshold that is to be used is chosen on other
# families.)
#
# ## 6. Is the probability a probability?
#
# *Why:* the web page of lesson 10 shows people a percentage. Of all pairs with about 80 %, eight in ten
# should be kin: [calibration](../docs/glossary.md#calibration). The [reliability
# diagram](../docs/glossary.md#reliability-diagram) sorts the pairs into ten bins by their probability
# and shows, for each bin, how many are kin.

# %%
plots.reliability({"head": (labels, by_head), "fine-tuned encoder": (labels, scores)});

# %% [markdown]
# **Guess first.** A point above the dotted line: does that bin claim too much, or too little?
#
# <details><summary>Answer</summary> Too little: more of its pairs are kin than it says. A point below
# the line claims too much. Points above on the right and below on the left are a model that is too
# cautious; the other way round, one that is too sure.</details>
#
# The table has the bins of the head, and reads each one out:

# %%
bins = pd.DataFrame(metrics.reliability(labels, by_head), columns=["claimed", "kin", "pairs"])
gap = bins["claimed"] - bins["kin"]
bins["claims"] = np.select([gap > 0.05, gap < -0.05], ["too much", "too little"], "about right")
bins.round(2).astype({"pairs": int})

# %% [markdown]
# A bin with few pairs says little, so the *expected calibration error* weighs each bin's gap by its
# pairs.
#
# **Exercise 3. The calibration error.** Write `expected_calibration_error(labels, probabilities,
# bins=10)`. The bins are equally wide over [0, 1]; a probability on an edge belongs to the upper bin,
# and 1 to the last one. For each bin that is not empty: the absolute difference of the mean probability
# and the share of kin. Return the mean of these, weighted by the number of pairs.

# %%
def expected_calibration_error(labels, probabilities, bins=10):
    """One number in [0, 1]."""
    # BEGIN SOLUTION
    numbers = np.minimum((probabilities * bins).astype(int), bins - 1)
    error = 0.0
    for number in np.unique(numbers):
        inside = numbers == number
        gap = probabilities[inside].mean() - labels[inside].mean()
        error += abs(gap) * inside.mean()
    return error
    # END SOLUTION


# %%
if exercises.check(expected_calibration_error):
    for name, score in {"head": by_head, "fine-tuned encoder": scores}.items():
        error = expected_calibration_error(labels, score)
        assert np.isclose(error, metrics.calibration_error(labels, score))
        print(f"{name}: {error:.3f}")

# %% [markdown]
# The encoder's probability comes from two numbers that were fitted for that on fold 0, a shift and a
# slope: log-odds = shift + slope × score. That is [Platt scaling](../docs/glossary.md#platt-scaling).
# The [log-odds](../docs/glossary.md#log-odds) of a probability p are log(p / (1 − p)): 0 for 50 %,
# positive above, negative below. Evidence adds up in log-odds, which is why section 10 counts in them.
#
# **Exercise 4. Moving a probability.** Write `moved_probability(probability, change)`: go to log-odds,
# add the change, and come back to a probability.

# %%
def moved_probability(probability, change):
    """A probability in (0, 1)."""
    # BEGIN SOLUTION
    log_odds = np.log(probability / (1 - probability)) + change
    return 1 / (1 + np.exp(-log_odds))
    # END SOLUTION


# %%
if exercises.check(moved_probability):
    for share in (0.5, 0.1, 0.01):
        prior = np.log(share / (1 - share))  # log-odds before anybody looks at a face
        moved = 100 * moved_probability(0.8, prior)
        print(f"80 % by the model, and {100 * share:.0f} % of pairs are kin: {moved:.1f} %")

# %% [markdown]
# ## 7. Where it is most wrong
#
# *Why:* a number hides its errors. Look at them: first the six pairs of strangers with the highest
# scores, then the six of kin with the lowest.

# %%
strangers, kin = evaluation.hardest(protocol, scores, count=6)
worst = pd.concat([strangers, kin])
captions = [f"{'kin' if related else 'strangers'}, {100 * score:.0f} %"
            for related, score in zip(worst["is_related"], worst["score"], strict=True)]
plots.pair_gallery(dataset, worst, captions, columns=3);

# %% [markdown]
# Some faces come back several times: one face that misleads the model spoils many pairs. Is it the
# same for every family? A mean over all pairs can hide families for which the model does not work at
# all.

# %%
by_family = pd.Series(accepted).groupby(of_family).mean().sort_values()
axis = (100 * by_family).plot.bar(figsize=(8, 2.8), color=plots.KIN)
axis.set(xlabel="held-out family", ylabel="kin pairs accepted (%)", ylim=(0, 100));

# %% [markdown]
# The families differ a lot, which is why section 3 draws families and not pairs.
#
# ## 8. The submission
#
# *Why:* on Kaggle's test pairs only Kaggle knows the answers. `sample_submission.csv` lists the
# pairs; each gets a probability, in the same order, under the same header. The head scores them here,
# because its embeddings come from the cache; `kincourse submit --model models/kinship.npz` does the
# same with the model that ships. (Lesson 01 shows what the list gives away. It is not used here.) The
# synthetic families keep their answers in a separate file that no model has seen. With the real data,
# upload the file as a late submission to see its score.

# %%
wanted = evaluation.submission_pairs(dataset)  # refuses a malformed pair or a missing photo by name
test_a, test_b = (embed_photos(backbone, dataset.paths(wanted[column])) for column in wanted)
answers = head.score(test_a, test_b)
submission = settings.cache_dir() / "lessons" / evaluation.SUBMISSION
evaluation.write_submission(dataset, answers, submission)
truth = dataset.root / synthetic.TRUTH
if truth.is_file():
    print(f"AUC as Kaggle would compute it: {evaluation.score_submission(submission, truth):.3f}")
pd.read_csv(submission).head(3)

# %% [markdown]
# ## 9. The model that ships
#
# *Why:* the drawn families are for practice. What holds for people was measured on the real data, and
# stands in `data/results`.
#
# First, the choices in the fine-tuning of lesson 05, tried on folds of the training families. `ours`
# is that recipe in full; each other row changes one thing. A row is trained three times, with another
# fold and seed each, the same three in every row: so rows can be compared run by run. `kincourse
# ablation` writes the file. The `F09` families had no part.

# %%
ablation.table(files.read_json(settings.RESULTS / "ablation.json"))

# %% [markdown]
# Training the encoder itself is what counts: about 0.1 over the frozen cosine (less, like for like:
# lesson 05), 0.04 over the head. The mirror image and the cohort cost nothing in training and bring a
# little more. A head on top of the fine-tuned encoder, or a mean with the head on the frozen one,
# brings nothing more. Half the steps, or half the pairs a step, cost little and take half the time.
# Another loss costs most, then a learning rate that is too high. Without the augmentation or the
# averaging of the weights, or with the upper half of the layers alone, it is as good as the whole
# recipe, within what three runs can tell. (Minutes are missing where the machine did other work, too.)
# *Against ours* is the mean difference to `ours`, with its standard deviation over the runs: a
# difference smaller than that is not known to be one.
#
# The model that ships has three kinds of encoder: the one of this course, EdgeFace and MobileFaceNet,
# all fine-tuned in this way. Other networks, trained on other photos, make other mistakes, so the mean
# of their cosines is better than each of them. (The article's FaceNet, fine-tuned alike, is weaker than
# either of the two small ones, and larger than all three.) Of each kind the file holds the mean of the
# *weights* of five encoders, each trained without another fold (of the two small ones ten, two without
# each): a *model soup* (Wortsman et al., ICML 2022), as small and as fast as one of them. How much each
# kind weighs is fitted by logistic regression. The `F09` families had no part in it, so they say what
# it is worth:

# %%
model = kinship.Kinship.load()
facts = model.encoder.facts
shipped = evaluation.Report.from_dict(facts["report"])
evaluation.table([*evaluation.read_reports(settings.RESULTS / "kaggle_f09.json"), shipped]).T

# %% [markdown]
# Fifty families are few: look at the width of the interval. The encoders of a kind can say more. Each
# left one fold out, so it can score that fold, whose families it never saw. Together they score every
# family [out of fold](../docs/glossary.md#out-of-fold). The weights of the kinds, the threshold
# and the probabilities of a fold are fitted on the others. `kincourse crossvalidate --frozen` prints
# this table:

# %%
out_of_fold.table(files.read_json(settings.RESULTS / "out_of_fold.json"))

# %% [markdown]
# *All encoders* over *all families* is the number to quote: it rests on 470 families instead of 50.
# *Held out* are the `F09` families alone. They are in no fold, so the soups score them. This table
# has a list of pairs of its own, so its numbers differ from those of the table above. For the
# fine-tuned encoders this column is higher than the first one: soups are a little better than each of
# their encoders alone, and some families are easier than others. The *frozen* rows are the cosines of
# the encoders as they were published: fine-tuning is worth more than a second kind of encoder, and
# both together are worth most.
#
# - *All photos of a person*: each embedding is the mean over all photos of the person. Several photos
#   say more than one.
# - *Near photos*: the mean is taken over photos that look like one person's to the encoders, EdgeFace
#   as it was published among them. That needs no names, but it looks at all photos of the list.
# - *Cannot say*: the share of pairs whose probability is neither so high nor so low that at most one
#   answer in ten is wrong. Two photos often do not decide.
#
# Whom does it take for kin? Each row is 1,500 pairs of `data/protocols/f09_identity.csv`, with its 95 %
# interval. *Same* are two photos of one person:

# %%
(100 * pd.DataFrame(facts["taken_for_kin"]).T).round(1).add_suffix(" %")

# %% [markdown]
# Nobody looks more like somebody than that person on another photo. A kinship model cannot tell the two
# apart: it was never asked. So `kinship.Kinship` also asks the verification of lesson 08, and warns.
#
# And other families, in other photos? KinFaceW-I has 533 photos of parents and 533 of their children,
# in as many pairs of kin as of strangers. None of them was used in training. Its protocol chooses the
# threshold on four folds and measures on the fifth; the mean accuracy of five is what papers report.
# (In the last row, `pairs` is the sum.)

# %%
by_relation = pd.DataFrame(files.read_json(settings.RESULTS / "kinfacew.json")["by the folds"]).T
by_relation.astype({"pairs": int})

# %% [markdown]
# ## 10. Whose nose is it?
#
# *Why:* people do not ask for a probability only. They ask what it rests on.
#
# The synthetic families are drawn, and the shipped model has learned from photographs. Before it
# explains an answer, look at how often it is wrong on this lesson's families:

# %%
picked = protocol.groupby("is_related").sample(30, random_state=0)
sides = [dataset.paths(picked[column]) for column in ("photo_a", "photo_b")]
probabilities = model.encoder.score_photos(*sides, progress=False)
here = metrics.error_rates(picked["is_related"], probabilities, facts["threshold"])
pd.DataFrame({"these 60 pairs": here, "real families": (shipped.false_accept, shipped.false_reject)},
             index=["strangers taken for kin (%)", "kin taken for strangers (%)"]).mul(100).round()

# %% [markdown]
# On the drawn families it takes strangers for kin far more often than on real ones, so "likely related"
# means little here. What follows shows the *method*; the numbers of section 9 are the ones that hold
# for people.
#
# **The rule.** Exchange one region of one face, say the nose, for that of faces that belong to nobody.
# The region *carries* the log-odds before minus the mean of the log-odds after, averaged over both
# faces. A positive number speaks for kinship. This is [explanation by
# occlusion](../docs/glossary.md#explanation-by-occlusion) (Zeiler and Fergus, ECCV 2014), with
# something that looks like a face in place of a grey patch.

# %%
kin_photos = picked[(picked["is_related"] == 1) & (probabilities >= facts["threshold"])]
answer = model.predict(*dataset.paths(kin_photos[["photo_a", "photo_b"]].iloc[0]))
print(answer.verdict, answer.explanation[-1], sep="\n")
plots.regions(answer.comparison.crops, answer.regions);


# %% [markdown]
# The first line names a threshold: on the real families, of the pairs above it at most one in ten
# were strangers. In the picture, orange regions speak for kinship and blue ones against it. The thin
# lines are twice the standard error over the faces that were put in.
#
# A picture with colours always convinces, so an explanation needs a test whose answer is known
# (Adebayo et al., NeurIPS 2018). Ours: take two strangers, and give one of them the other's nose. Now
# a nose *is* shared, and must carry more than before. One pair proves nothing; we take twelve, and
# your fine-tuned encoder, which is fast. The rule, written out:

# %%
def carried(encoder, pair, mask, donors):
    """Log-odds of kinship that a region carries; pair (2, size, size, 3), mask (size, size)."""
    exchanged = [explanation.exchange(face, donor, mask) for face in pair for donor in donors]
    first, second, *others = encoder.embed(np.stack([*pair, *exchanged]), mirrored=False)
    count = len(donors)
    partners = [second] * count + [first] * count  # each exchanged face meets the other, as it was
    before = encoder.log_odds(encoder.similarity(first, second))
    after = encoder.log_odds(encoder.similarity(np.stack(others), np.stack(partners)))
    return before - after.mean()


# %%
masks = dict(zip(explanation.REGIONS, explanation.region_masks(tuned.template, 150), strict=True))
twelve = rows[:, protocol[labels == 0].sample(12, random_state=0).index]  # strangers: (2, 12)
couples = faces[twelve.T]  # (12, 2, 150, 150, 3)
donors = explanation.donor_faces(150)
expected = explanation.explain(tuned, couples[0], np.stack([tuned.template] * 2)).carried["nose"]
assert np.isclose(carried(tuned, couples[0], masks["nose"], donors), expected, atol=1e-4)


def with_region_of(pair, mask):
    """The pair, but the first face has the second one's region."""
    return np.stack([explanation.exchange(pair[0], pair[1], mask), pair[1]])


changed = with_region_of(couples[0], masks["nose"])
plots.photos([*couples[0], changed[0]], ["a", "b, a stranger", "a, with b's nose"], size=2);

# %% [markdown]
# We say *before* we look: the test is passed for a region if it carries more (by 0.05 or more) in at
# least 10 of the 12 pairs. Chance alone, heads or tails, would do that in 2 % of cases. As a control,
# the same with a network of random weights, which knows nothing.

# %%
def own_and_other(encoder, mask):
    """What a region carries in each of the twelve pairs, before and after the exchange: (12, 2)."""
    values = []
    for pair in couples:
        versions = (pair, with_region_of(pair, mask))
        values.append([carried(encoder, faces_of, mask, donors[:3]) for faces_of in versions])
    return np.array(values)


untrained = dataclasses.replace(tuned, model=backbone.build(None))
runs = {"nose, random weights": (untrained, "nose")} | {name: (tuned, name) for name in masks}
lines = {}
for name, (encoder, region) in runs.items():
    own, other = own_and_other(encoder, masks[region]).T
    lines[name] = {"own": own.mean(), "the other's": other.mean(),
                   "carries more, of 12": (other >= own + 0.05).sum()}
pd.DataFrame(lines).T.round(2).astype({"carries more, of 12": int})

# %% [markdown]
# Read the last column by the rule: 10 or more is a pass. Where a region passes, its numbers follow
# what the encoder looks at. Where it fails, the encoder makes little use of that region, or twelve
# pairs are too few to show it. Random weights give next to nothing, as they must. Even a passed test
# does not say that a nose *was* inherited: it says what this model's answer rests on.

# %%
print(f"Key result: AUC {reports[-1].auc} on the held-out families, frozen cosine {reports[0].auc}; "
      f"{len(answers)} pairs in {submission.name}; on the real families, the model that ships has "
      f"{shipped.auc}")

# %% [markdown]
# ## What we saw
#
# - The AUC is a curve's area and a simple count, and both agree with the module.
# - Resampling pairs gives an interval that is far too narrow; families are what varies.
# - Whether one model beats another is asked of their difference, on the same families. A dozen families
#   are often too few to tell, and then the honest answer is that we do not know.
# - A threshold is chosen on training families. When relatives are rare, most accepted pairs are not
#   kin.
# - A reliability diagram says in which bins a model claims too much or too little; log-odds add up,
#   probabilities do not.
# - Choices are made on folds of the training families, and the held-out families are asked once.
# - An explanation is worth what it shows where the answer is known, and one example proves nothing.
#
# ## A larger exercise
#
# **Exercise 5. The bootstrap of the AUC.** Write `resampled_aucs(labels, scores, families_a,
# families_b, draws)`: the AUC for each draw of families, `(draws,)`. A draw is a list of names, in
# which a family may stand several times, or not at all. A pair within one family counts as often as its
# family was drawn; a pair of two families counts as often as the *product* of theirs. The AUC of pairs
# that count differently: of all (kin, stranger) couples, each counting as the product of its pairs'
# counts, the share in which the kin pair scores higher; ties count half. In each draw there are kin and
# strangers.

# %%
def resampled_aucs(labels, scores, families_a, families_b, draws):
    """AUC (draws,) of each resampling of the families."""
    # BEGIN SOLUTION
    kin, strangers = labels == 1, labels == 0
    # 1 where a kin pair outscores a stranger pair, 1/2 at a tie: (kin, strangers)
    wins = (scores[kin][:, None] > scores[strangers][None]).astype(float)
    wins += 0.5 * (scores[kin][:, None] == scores[strangers][None])

    aucs = []
    for draw in draws:
        names, times = np.unique(draw, return_counts=True)
        count_of = dict(zip(names, times, strict=True))
        first = np.array([count_of.get(family, 0) for family in families_a])
        second = np.array([count_of.get(family, 0) for family in families_b])
        counts = np.where(families_a == families_b, first, first * second)
        total = counts[kin].sum() * counts[strangers].sum()
        aucs.append(counts[kin] @ wins @ counts[strangers] / total)
    return np.array(aucs)
    # END SOLUTION


# %%
if exercises.check(resampled_aucs):
    rng, names = np.random.default_rng(0), np.unique(families)
    draws = [rng.choice(names, len(names)) for _ in range(300)]
    low, high = np.percentile(resampled_aucs(labels, scores, *families, draws), [2.5, 97.5])
    print(f"yours, 300 draws: [{low:.3f}, {high:.3f}]; the module's, 1,000: {reports[-1].auc}")

# %%
exercises.report();

# %%
# SOLUTION CHECK
assert exercises.report()

# %% [markdown]
# ## Where to go next
#
# - [Lesson 07](07_face_detection.ipynb) starts where a photo has more than one face.
# - Hanley and McNeil, *The meaning and use of the area under a ROC curve*, Radiology 1982.
# - Owen, [*The pigeonhole bootstrap*](https://arxiv.org/abs/0712.1111), Annals of Applied Statistics
#   2007: resampling two-sided data.
# - Guo et al., [*On Calibration of Modern Neural Networks*](https://arxiv.org/abs/1706.04599), ICML
#   2017.
# - Wortsman et al., [*Model soups*](https://arxiv.org/abs/2203.05482), ICML 2022; Lu et al.,
#   *Neighborhood Repulsed Metric Learning for Kinship Verification*, IEEE TPAMI 2014: KinFaceW.
# - Adebayo et al., [*Sanity Checks for Saliency Maps*](https://arxiv.org/abs/1810.03292), NeurIPS 2018.
