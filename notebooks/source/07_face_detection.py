# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Lesson 07: Finding faces with MTCNN
#
# The networks of this course look at faces, but people have photographs. The step in between is [face
# detection](../docs/glossary.md#face-detection): where are the faces, how sure is the detector, and
# where are the eyes, the nose and the mouth? [MTCNN](../docs/glossary.md#mtcnn) ([Zhang et al.
# 2016](https://arxiv.org/abs/1604.02878)) is small, comes with its weights inside a package, and
# consists of three networks. In this lesson you open them one by one, and write the code that
# connects them.
#
# **What you will learn** (about 60 minutes; the code runs in about a minute on a laptop)
#
# - boxes, confidences and landmarks, drawn with matplotlib
# - IoU: when does a box count as right?
# - why three networks are faster than one: the pyramid, P-Net's heat map, R-Net and O-Net
# - non-maximum suppression, and what precision and recall say about a confidence
# - from five landmarks to an aligned face, by least squares
# - what breaks a detector, measured as curves, and what a large photo costs

# %%
# SETUP

# %%
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.patches import Circle, Rectangle
from mtcnn.utils.images import build_scale_pyramid
from PIL import Image, ImageFilter
from skimage import data

from utils import exercises, images, plots
from utils.data import eigenfaces, scenes, synthetic
from utils.faces import alignment, backbones, detection

# %% [markdown]
# ## 1. What a detector gives
#
# First we look at what comes out of a detector. Our picture: portraits on a wall, of people who do
# not exist. The first call builds the three networks; from then on the process keeps them. (The
# published app, which lesson 09 examines, builds them anew at every click.)

# %%
photo, places = scenes.family_wall(seed=7)  # uint8 RGB, (720, 1280, 3)
start = time.perf_counter()
faces = detection.detect(photo)
first, start = time.perf_counter() - start, time.perf_counter()
detection.detect(photo)
print(f"{len(faces)} faces; first call {first:.1f} s, second {time.perf_counter() - start:.2f} s")
faces[0].to_dict()

# %% [markdown]
# The largest face comes first; this is its description. A face is three things. A [bounding
# box](../docs/glossary.md#bounding-box): (x, y, width, height), in pixels, where (x, y) is the upper
# left corner and y grows downwards. A confidence between 0 and 1. And five
# [landmarks](../docs/glossary.md#landmarks): the eye on the left of the picture, the eye on the
# right, the nose, the left and the right corner of the mouth. We draw a `Rectangle` for the box and a
# `Circle` for each landmark.

# %%
def draw(axis, photo, faces):
    """The photo with boxes, confidences and landmarks."""
    axis.imshow(photo)
    for face in faces:
        x, y, width, height = face.box
        axis.add_patch(Rectangle((x, y), width, height, fill=False, color="red", linewidth=2))
        label = {"color": "white", "backgroundcolor": "red", "fontsize": 7}
        axis.text(x + 3, y - 3, f"{face.confidence:.3f}", va="bottom", **label)
        for point in face.landmarks:
            axis.add_patch(Circle(point, width / 40, color="white", ec="red"))
    axis.axis("off")


# %%
figure, axis = plt.subplots(figsize=(8, 4.6))
draw(axis, photo, faces)

# %% [markdown]
# MTCNN was trained on photographs of people. Now we show it a drawing: a face made of ellipses and
# lines.
#
# **Guess first.** Does the detector find the drawing? And if we leave out one part, the hair, the
# brows, the eyes, the nose or the mouth: without which of them is the face lost?

# %%
drawing = scenes.drawn_face()  # uint8 RGB, (400, 400, 3)
figure, axis = plt.subplots(figsize=(4, 4))
draw(axis, drawing, detection.detect(drawing))

# %%
figure, axes = plt.subplots(1, len(scenes.FACE_PARTS), figsize=(11, 2.4))
for axis, part in zip(axes, scenes.FACE_PARTS, strict=True):
    picture = scenes.drawn_face([other for other in scenes.FACE_PARTS if other != part])
    found = detection.detect(picture)
    draw(axis, picture, found)
    axis.set_title(f"without {part}: " + ("found" if found else "not found"), fontsize=9)

# %% [markdown]
# The drawing is found, with landmarks that sit where they should. It is found even without eyes:
# MTCNN takes the brows for them. Only without a mouth is it lost. A detector does not know what a
# person is: it reacts to an arrangement of light and dark that its training photos had in common. So
# a high confidence says "this looks like my training faces", and not "this is a person".
#
# ## 2. When does a box count as right?
#
# To measure a detector, each of its boxes must be compared with the place where a face really is. No
# box fits to the pixel, so we need a number for "about the same place": [intersection over
# union](../docs/glossary.md#iou) (IoU) is the area that both boxes cover, divided by the area that at
# least one of them covers. 1 is the same box, 0 is no overlap. By custom a face counts as found when
# the IoU is at least 0.5.
#
# **Exercise 1. Intersection over union.** Write `box_iou(a, b)` for two boxes as the detector gives
# them, each (x, y, width, height). Boxes that only touch, or lie apart, have IoU 0. Return a number.

# %%
def box_iou(a, b):
    """IoU of two boxes (x, y, width, height), in [0, 1]."""
    # BEGIN SOLUTION
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    both = max(0, width) * max(0, height)
    return both / (a[2] * a[3] + b[2] * b[3] - both)
    # END SOLUTION


# %%
if exercises.check(box_iou):
    for place in places:  # where the portraits hang: centre and side
        truth = (place.x - place.side / 2, place.y - place.side / 2, place.side, place.side)
        best = max(box_iou(face.box, truth) for face in faces)
        print(f"portrait of {place.side} pixels: IoU {best:.2f} with the nearest box")

# %% [markdown]
# Once `box_iou` is correct, the cell above compares MTCNN's boxes with the photos inside the frames.
# All six IoUs are above 0.7, so all six faces count as found. None is near 1: MTCNN's box is narrower
# than the photo, and cuts off the ears.
#
# ## 3. The image pyramid
#
# A face can be anywhere and of any size. MTCNN's first network, P-Net, looks at windows of 12×12
# pixels only, so it knows faces of about 12 pixels only. To find larger ones the *photo* is made
# smaller, step by step: an [image pyramid](../docs/glossary.md#image-pyramid).
#
# At the first level, the smallest face that we look for must be 12 pixels wide: for faces of 20
# pixels, the photo is shrunk to 12/20 of its width and height. Each next level has 70.9 % of the
# width and height of the one before. That is about 1/√2, so half the pixels. The pyramid ends where a
# window of 12 pixels no longer fits in.
#
# **Exercise 2. Levels of a pyramid.** Write `pyramid_scales(width, height, smallest_face, factor)`:
# the list of scales, the largest first. The first is 12 / smallest_face, each next one is the one
# before times `factor`. Stop before the shorter side of the shrunk photo has fewer than 12 pixels.

# %%
def pyramid_scales(width, height, smallest_face, factor):
    """Scales by which the photo is shrunk, a list of floats."""
    # BEGIN SOLUTION
    scales, scale = [], 12 / smallest_face
    while min(width, height) * scale >= 12:
        scales.append(scale)
        scale *= factor
    return scales
    # END SOLUTION


# %%
if exercises.check(pyramid_scales):
    for smallest in (20, 40, 80):
        scales = pyramid_scales(1280, 720, smallest, 0.709)
        pixels = sum(round(1280 * scale) * round(720 * scale) for scale in scales)
        print(f"faces from {smallest} pixels up: {len(scales)} levels, {pixels:,} pixels")

# %% [markdown]
# A correct answer prints the price of small faces: if the smallest face that you look for is twice as
# large, only a quarter of the pixels is left to search. The package computes the same scales. Here
# are the levels in their true proportions, each with half the pixels of the one before:

# %%
levels = {}  # scale: photo
for scale in build_scale_pyramid(1280, 720, min_face_size=20, scale_factor=0.709):
    size = round(1280 * scale), round(720 * scale)
    levels[scale] = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BOX))

# %%
widths = [level.shape[1] for level in levels.values()]
figure, axes = plt.subplots(1, len(levels), figsize=(13, 2.6), width_ratios=widths)
for axis, level in zip(axes, levels.values(), strict=True):
    axis.imshow(level)
    axis.set_anchor("S")  # all stand on one line
    axis.axis("off")

# %% [markdown]
# How many windows does P-Net have to look at? They lie two pixels apart, in both directions. (In the
# code, `-(-n // 2)` is n/2 rounded up.)

# %%
def window_count(level):
    """Windows of 12×12 pixels, two pixels apart, in a level."""
    rows, columns = (-(-(side - 12) // 2) + 1 for side in level.shape[:2])
    return rows * columns


# %%
windows = sum(window_count(level) for level in levels.values())
print(f"{windows:,} windows, {len(faces)} faces")

# %% [markdown]
# ## 4. P-Net's heat map
#
# Nearly all of these windows show wall. P-Net has to look at every one of them and throw most away,
# so it must be cheap. The trick: it has no dense layer, only convolutions. So it takes a picture of
# any size and gives two maps, with one entry for each window: the probability of a face, and four
# numbers (the *offsets*) that say how to move the window's corners.

# %%
pnet = detection.detector().stages[0].model
level = list(levels.values())[5]
inputs = (level[None].astype(np.float32) - 127.5) / 128  # (1, rows, columns, 3), in about ±1
offsets, probability = (output[0].numpy() for output in pnet(inputs))
assert probability.shape[0] * probability.shape[1] == window_count(level)
level.shape, offsets.shape, probability.shape  # (rows, columns, 4) and (rows, columns, 2)

# %%
figure, axes = plt.subplots(1, 4, figsize=(13, 2))
axes[0].imshow(photo)
for axis, number in zip(axes[1:], (3, 5, 7), strict=True):
    map_scale, map_level = list(levels.items())[number]
    scaled = (map_level[None].astype(np.float32) - 127.5) / 128
    heat = axis.imshow(pnet(scaled)[1][0, ..., 1], vmin=0, vmax=1, cmap="inferno")
    axis.set_title(f"scale {map_scale:.3f}", fontsize=9)
figure.colorbar(heat, ax=axes, label="probability of a face");

# %% [markdown]
# The finest of these three levels shows only specks: there the portraits are much wider than 12
# pixels. In the middle level the small portraits are brightest. In the coarsest all are bright, even
# those narrower than 12 pixels, because P-Net is not exact about size. That does no harm: the next
# networks look again.
#
# From the map back to the photo: the entry at (row, column) belongs to the window whose upper left
# pixel is (2·row, 2·column) of the level, because P-Net halves the picture once. The four offsets are
# shares of the window's width. (The package counts a window's pixels from 1 to 12 and takes 12 − 1 =
# 11 as its width.) Of the two probabilities, the second is that of a face.

# %%
def boxes_from_map(probability, offsets, scale, threshold=0.6):
    """Boxes (x1, y1, x2, y2, probability) in pixels of the photo, of the windows above a threshold."""
    rows, columns = np.nonzero(probability[..., 1] > threshold)
    corner = np.stack([columns, rows], axis=1) * 2
    boxes = np.hstack([corner + 1, corner + 12]) + offsets[rows, columns] * 11
    return np.column_stack([boxes / scale, probability[rows, columns, 1]])


# %%
by_level = []
for scale, level in levels.items():
    offsets, probability = pnet((level[None].astype(np.float32) - 127.5) / 128)
    by_level.append(boxes_from_map(probability.numpy()[0], offsets.numpy()[0], scale))
candidates = np.concatenate(by_level)  # (n, 5)
print(f"{windows:,} windows, {len(candidates):,} candidates")

# %% [markdown]
# ## 5. Non-maximum suppression
#
# One face gives many candidates, because neighbouring windows see it too. One of them is enough:
# [non-maximum suppression](../docs/glossary.md#non-maximum-suppression) takes the most probable box,
# removes all that overlap it by much, and goes on with the rest. For that we need the IoU of one box
# with many. Careful: P-Net's boxes are two corners (x1, y1, x2, y2), not (x, y, width, height). It is
# easy to mix up the two.

# %%
def overlaps(box, boxes):
    """IoU of one box (x1, y1, x2, y2) with each of many, (n,), in [0, 1]."""
    left_top = np.maximum(box[:2], boxes[:, :2])
    right_bottom = np.minimum(box[2:4], boxes[:, 2:4])
    both = np.prod(np.clip(right_bottom - left_top, 0, None), axis=1)
    areas = np.prod(boxes[:, 2:4] - boxes[:, :2], axis=1)
    return both / (np.prod(box[2:4] - box[:2]) + areas - both)


# %% [markdown]
# The first three rounds by hand:

# %%
left = candidates[np.argsort(-candidates[:, 4])]
for number in range(1, 4):
    best, overlap = left[0], overlaps(left[0], left)
    print(f"round {number}: probability {best[4]:.4f}, {int((overlap > 0.5).sum()) - 1} others removed")
    left = left[overlap <= 0.5]

# %% [markdown]
# **Exercise 3. Suppression.** Write the loop: `nms(boxes, threshold)` takes rows (x1, y1, x2, y2,
# probability) in any order and returns the numbers of the rows that stay, the most probable first. A
# box goes when it overlaps one *that stays* by more than `threshold`. Use `overlaps`.

# %%
def nms(boxes, threshold):
    """List of row numbers."""
    # BEGIN SOLUTION
    order, kept = np.argsort(-boxes[:, 4]), []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(int(best))
        order = order[overlaps(boxes[best], boxes[order]) <= threshold]
    return kept
    # END SOLUTION


# %%
if exercises.check(nms):
    figure, axes = plt.subplots(1, 2, figsize=(9, 2.7))
    for axis, rows in zip(axes, (candidates, candidates[nms(candidates, 0.5)]), strict=True):
        axis.imshow(photo)
        for x1, y1, x2, y2, _ in rows:
            box = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color="red", linewidth=0.6)
            axis.add_patch(box)
        axis.set_title(f"{len(rows)} boxes", fontsize=9)
        axis.axis("off")

# %% [markdown]
# Once `nms` is correct, the figure shows the boxes before (left) and after (right). More than one box
# stays on a face: these are boxes of another size or place that P-Net took for a face, and that do
# not overlap by more than 0.5. (The package does this twice: within each level, where an overlap
# above 0.5 is too much, and then over all levels, above 0.7. And there a box that is already removed
# still removes others.)
#
# ## 6. R-Net and O-Net: what does the cascade save?
#
# A network that makes fewer mistakes is larger and slower than P-Net. So the large networks only see
# what the smaller ones let through: a [cascade](../docs/glossary.md#cascade). We run the package's
# three stages one after the other, as its own function `detect_faces` does. Each stage takes the
# boxes of the stage before (`bboxes_batch`; the first has none). It cuts them out of the photo,
# resizes them, judges them again, moves them a little and suppresses once more. `images_oshapes` is
# the size of each photo.

# %%
mtcnn, batch = detection.detector(), (photo[None].astype(np.float32) - 127.5) / 128
boxes, survivors, rows = None, {}, []
for stage, side in zip(mtcnn.stages, (12, 24, 48), strict=True):
    variables = stage.model.get_concrete_function().variables  # of the compiled network
    weights = sum(np.prod(variable.shape) for variable in variables)
    looks_at, start = windows if boxes is None else len(boxes), time.perf_counter()
    boxes = stage(bboxes_batch=boxes, images_normalized=batch, images_oshapes=np.array([photo.shape]))
    rows.append((stage.name, side, weights, looks_at, len(boxes), time.perf_counter() - start))
    survivors[stage.name] = boxes  # rows: photo number, x1, y1, x2, y2, confidence, ...
stages = pd.DataFrame(
    rows, columns=["network", "window (pixels)", "weights", "windows in", "boxes out", "seconds"])
stages.round(3)

# %%
figure, axes = plt.subplots(1, 3, figsize=(13, 2.9))
for axis, (name, boxes) in zip(axes, survivors.items(), strict=True):
    axis.imshow(photo)
    for x1, y1, x2, y2 in boxes[:, 1:5]:
        axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color="red", linewidth=0.8))
    axis.set(title=f"after {name}: {len(boxes)} boxes", xticks=[], yticks=[])

# %% [markdown]
# From more than a hundred thousand windows to one box per face. P-Net lets many wrong boxes through
# on purpose: what it throws away, no later network can bring back.
#
# **Guess first.** O-Net is the most exact of the three, and only it finds landmarks. Why not show it
# every window? How many times as long as the whole cascade would that take: 5, 20 or more than 100
# times?
#
# We do not have to wait for it: we time O-Net on a sample of the windows and multiply.

# %%
sample, onet = 2000, mtcnn.stages[2].model
crops = np.random.default_rng(0).uniform(-1, 1, (sample, 48, 48, 3)).astype(np.float32)
onet(crops)  # the first call of this shape is slower
start = time.perf_counter()
onet(crops)
each = (time.perf_counter() - start) / sample
start = time.perf_counter()
detection.detect(photo)
cascade = time.perf_counter() - start
print(f"O-Net on all {windows:,} windows: {each * windows:.0f} s ({1e6 * each:.0f} microseconds each)")
print(f"the cascade: {cascade:.2f} s, {each * windows / cascade:.0f} times faster")

# %% [markdown]
# More than a hundred times, on a CPU: O-Net alone would need tens of seconds or even minutes for one
# photo, and the cascade needs a fraction of a second or little more. (The time of a network does not
# depend on what is in the windows, so random pixels will do. Cutting the windows out would come on
# top.) The idea is older than neural networks: Viola and Jones (2001) built a cascade of simple
# features that was fast enough for cameras.
#
# ## 7. How sure is sure enough?
#
# A confidence becomes a decision by a [threshold](../docs/glossary.md#threshold). If it is too low,
# the detector reports faces in gravel; if it is too high, it misses people. To see both errors, we
# lower MTCNN's own thresholds and show it two kinds of pictures: three strongly blurred walls with
# six portraits each (it gives six boxes on each wall, one on every portrait), and gravel, grass,
# stars, a cup and a motorcycle, where there is no face.

# %%
lax = {"threshold_pnet": 0.5, "threshold_rnet": 0.3, "threshold_onet": 0.1}
grounds = [data.gravel(), data.grass(), data.hubble_deep_field(), data.coffee(),
           data.stereo_motorcycle()[0]]
grounds = [np.stack([g] * 3, axis=-1) if g.ndim == 2 else g for g in grounds]
walls = [Image.fromarray(scenes.family_wall(seed=seed)[0]) for seed in range(3)]
blurred = [np.asarray(wall.filter(ImageFilter.GaussianBlur(10))) for wall in walls]
found = [[face["confidence"] for face in mtcnn.detect_faces(picture, **lax)]
         for picture in [*blurred, *grounds]]
confidence = np.concatenate([np.array(c, float) for c in found])
is_face = np.repeat([True] * 3 + [False] * len(grounds), [len(c) for c in found])

figure, axis = plt.subplots(figsize=(6, 2.4))
axis.hist([confidence[is_face], confidence[~is_face]], np.linspace(0, 1, 21),
          color=[plots.KIN, plots.STRANGER], label=["blurred faces on walls", "no faces"])
axis.set(xlabel="confidence", ylabel="boxes")
axis.legend(fontsize=8)
print(f"{is_face.sum()} boxes on {3 * 6} faces, {(~is_face).sum()} boxes where no face is")

# %% [markdown]
# The two colours overlap, so no threshold separates them without an error. Two numbers describe what
# a threshold does: [precision and recall](../docs/glossary.md#precision-and-recall). Precision: of
# the boxes that are reported, what share are faces? Recall: of the faces in the pictures, what share
# are reported? (A face that got no box at all is one of these faces, too, and lowers the recall.)
#
# **Exercise 4. Precision and recall.** Write `precision_recall(confidence, is_face, faces,
# threshold)`. `confidence` and `is_face` are arrays with one entry a box; `faces` is the number of
# faces that there are in the pictures. A box is reported when its confidence is at or above the
# threshold. Return (precision, recall); when nothing is reported, the precision is 1.

# %%
def precision_recall(confidence, is_face, faces, threshold):
    """(precision, recall), each in [0, 1]."""
    # BEGIN SOLUTION
    reported = confidence >= threshold
    right = (reported & is_face).sum()
    precision = right / reported.sum() if reported.any() else 1.0
    return precision, right / faces
    # END SOLUTION


# %%
if exercises.check(precision_recall):
    tried = np.linspace(0.1, 1, 91)
    shares = np.array([precision_recall(confidence, is_face, 3 * 6, value) for value in tried])
    figure, axis = plt.subplots(figsize=(5.5, 2.8))
    axis.plot(tried, 100 * shares, label=["precision", "recall"])
    axis.axvline(0.8, color="black", linestyle=":", label="MTCNN's own threshold")
    axis.set(xlabel="threshold", ylabel="%", ylim=(0, 103))
    axis.legend(fontsize=8)

# %% [markdown]
# A higher threshold trades recall for precision. Where to stop depends on the use. To count visitors
# you need both. To blur all faces before you publish a photo you need recall. To compare faces, as
# this course does, you need precision: what is compared should be a face.
#
# ## 8. From landmarks to an aligned face
#
# What happens to a face once it is found? An [encoder](../docs/glossary.md#encoder) turns it into an
# [embedding](../docs/glossary.md#embedding) (lesson 03). It does best when the eyes, the nose and the
# mouth lie where they lay in the faces of its training. Published tutorials cut out the box with a
# margin and resize it: the face stays as tilted as it was.
# [Alignment](../docs/glossary.md#alignment) uses the landmarks instead: it finds the rotation, scale
# and shift that carry them to a *template*, the five places where the encoder expects them.
#
# A rotation by an angle φ with a scale s has two numbers, a = s·cos φ and b = s·sin φ. The shift has
# two more, tx and ty. Each landmark (x, y) with its place (u, v) in the template gives two equations:
#
# ```text
# a·x − b·y + tx = u
# b·x + a·y + ty = v
# ```
#
# Four unknowns, ten equations: in general nothing solves them all. *Least squares* takes the unknowns
# with the smallest sum of squared errors. We write the equations as A·p = t, where p = (a, b, tx,
# ty), A is a matrix of ten rows and four columns, and t holds the ten places. Then the best p solves
# the *normal equations* AᵀA·p = Aᵀt.

# %%
def equations(source, target):
    """A (2n, 4) and t (2n,) of the landmarks ``source`` (n, 2) and their places ``target`` (n, 2)."""
    x, y = source.T
    one, zero = np.ones_like(x), np.zeros_like(x)
    rows_of_u = np.column_stack([x, -y, one, zero])
    rows_of_v = np.column_stack([y, x, zero, one])
    return np.vstack([rows_of_u, rows_of_v]), target.T.ravel()


# %%
def similarity(source, target):
    """(2, 3) matrix [[a, -b, tx], [b, a, ty]] that best carries ``source`` onto ``target``."""
    a, b, tx, ty = np.linalg.lstsq(*equations(source, target), rcond=None)[0]
    return np.array([[a, -b, tx], [b, a, ty]])


# %%
encoder = backbones.get()
A, t = equations(faces[0].landmarks, encoder.template)  # (10, 4) and (10,)
a, b, tx, ty = np.linalg.solve(A.T @ A, A.T @ t)  # the normal equations
matrix = np.array([[a, -b, tx], [b, a, ty]])
print(f"turned by {np.degrees(np.arctan2(b, a)):.1f} degrees, scaled by {np.hypot(a, b):.2f}")

# %% [markdown]
# `lstsq`, the normal equations and the course's `utils` agree:

# %%
assert np.allclose(matrix, similarity(faces[0].landmarks, encoder.template))
assert np.allclose(matrix, alignment.similarity_transform(faces[0].landmarks, encoder.template))

# %% [markdown]
# In the upper row are plain crops, in the lower row aligned ones. The white line is the height at
# which the template has the eyes.

# %%
figure, axes = plt.subplots(2, len(faces), figsize=(10, 3.6))
for (top, below), face in zip(axes.T, faces, strict=True):
    top.imshow(alignment.crop(photo, face, 150, margin=0.2))
    below.imshow(alignment.align(photo, face.landmarks, encoder.template, 150))
    for axis in (top, below):
        axis.axhline(encoder.template[:2, 1].mean(), color="white", linewidth=0.7)
        axis.axis("off")

# %% [markdown]
# Tilted faces come out straight, with their eyes at one height. The first face hung straight, and now
# it is turned by three degrees: in a blurred face the landmarks are a few pixels off, and the
# alignment follows them.
#
# ## 9. What breaks it
#
# People take photos in the dark, out of focus, from far away, with the phone held sideways. How much
# of that can the detector take? We make 24 portraits and turn, shrink, blur or darken them more and
# more. A face counts as found when a box covers the middle of the picture.

# %%
rng, model = np.random.default_rng(5), eigenfaces.load()
people = rng.normal(0, 0.8, (24, len(model.components)))
crops = synthetic.develop([synthetic.take_photograph([p], rng)[0] for p in people], model)
room = ((60, 60), (60, 60), (0, 0))
# 240×240 each, the face about 100 pixels wide
portraits = [Image.fromarray(np.pad(images.resize(c, 120), room, mode="edge")) for c in crops]

# %%
GREY = (127, 127, 127)


def shrunk(picture, pixels):
    """The face about this wide, in a picture of the same size."""
    side = round(240 * pixels / 100)
    ground = Image.new("RGB", picture.size, GREY)
    ground.paste(picture.resize((side, side), Image.Resampling.BOX), ((240 - side) // 2,) * 2)
    return ground


ways = {  # what is changed: how, and by how much
    "rotation (degrees)": (lambda p, v: p.rotate(v, fillcolor=GREY), range(0, 181, 20)),
    "face width (pixels)": (shrunk, (8, 10, 12, 15, 20, 30, 50, 100)),
    "blur (radius in pixels)": (lambda p, v: p.filter(ImageFilter.GaussianBlur(v)), range(0, 17, 2)),
    "brightness (%)": (lambda p, v: p.point(lambda x: x * v / 100), (1, 2, 3, 5, 8, 12, 25, 50, 100)),
}

# %% [markdown]
# **Guess first.** At which angle does the detector lose half of the faces? And in the dark, which
# gives up first, your eyes or the detector?

# %%
def share_found(pictures):
    """Share of pictures in which a box covers the middle."""
    found = detection.detect_many([np.asarray(picture) for picture in pictures])
    middle = pictures[0].width / 2
    return np.mean([any(x < middle < x + w and y < middle < y + h for x, y, w, h in
                        (face.box for face in faces)) for faces in found])


curves = {name: [100 * share_found([change(p, v) for p in portraits]) for v in values]
          for name, (change, values) in ways.items()}

# %%
shown = [(20, 40, 60, 80), (30, 15, 12, 8), (2, 6, 10, 14), (25, 12, 8, 5)]
figure, axes = plt.subplots(4, 5, figsize=(12, 9), width_ratios=[1, 1, 1, 1, 2])
for row, examples, (name, (change, values)) in zip(axes, shown, ways.items(), strict=True):
    for axis, value in zip(row, examples, strict=False):
        picture = np.asarray(change(portraits[0], value))
        draw(axis, picture, detection.detect(picture))
        axis.set_title(f"{name.split(' (')[0]} {value}", fontsize=9)
    row[4].plot(values, curves[name], marker="o", color=plots.KIN)
    row[4].set(xlabel=name, ylabel="faces found (%)", ylim=(-3, 103))
for row in (1, 3):
    axes[row, 4].set_xscale("log")
figure.tight_layout()

# %% [markdown]
# At 40 degrees all faces are found, at 60 fewer than half, at 80 almost none, although a person still
# sees them at once. A phone photo that lies on its side is such a case. That is why `images.read`,
# with which the course reads photos, turns a photo as the phone noted in the file (EXIF). Some files
# have no such note; before an answer, `detection.upright` turns a photo that shows a face only so.
# Shrinking and blurring do the same harm: too few details are left that look like an eye or a mouth.
# Darkness does no harm down to a quarter of the light. At an eighth about a fifth of the faces are
# lost, at a twentieth all. On most screens your eyes give up first: the picture "brightness 12" looks
# almost black, and four fifths of such faces are found (not this one).
#
# Now the whole wall, blurred. Move the slider (where a kernel runs): does a falling confidence warn
# you before a face is lost?

# %%
def blurred_wall(radius):
    """The wall under a blur, with what the detector finds."""
    picture = np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(radius)))
    found = detection.detect(picture)
    figure, axis = plt.subplots(figsize=(7, 4.1))
    draw(axis, picture, found)
    axis.set_title(f"blur of {radius} pixels: {len(found)} of {len(places)} faces", fontsize=9)
    return figure


plots.slider(blurred_wall, range(0, 21, 2), "blur (pixels)")

# %% [markdown]
# Hardly. Most of the faces that are still found have a confidence above 0.9. The others are gone, and
# no number says that they were there. So a detector that reports nothing has not proved that there is
# nobody.
#
# ## 10. Large photos, and a real one
#
# In large photos the time grows with the number of pixels. But a face that is 200 pixels wide is
# found just as well when it is half as wide. So the course shrinks a larger photo to a long side of
# 1,280 pixels before the search, and scales the coordinates back. Here is what that saves on a photo
# of 8 megapixels.

# %%
large, rows = np.asarray(Image.fromarray(photo).resize((3840, 2160))), []
for long_side in (320, 640, 1280, 2560, 3840):
    start = time.perf_counter()
    found = detection.detect(large, long_side=long_side)
    rows.append((long_side, len(found), time.perf_counter() - start))
pd.DataFrame(rows, columns=["long side", "faces", "seconds"]).round(2)

# %% [markdown]
# All six faces are found at every size, because these portraits are large. Small faces pay the price:
# a face 40 pixels wide in a photo 3,840 wide has 13 pixels left at 1,280, and may be missed. Where
# such faces matter, ask for them: with `min_face=20`, `detect` searches larger copies too, in tiles.
#
# Where one face is meant, as in a portrait, it is the other way round: most of the search is spent on
# small faces that nobody asked for. So `detection.prominent` goes from large to small. It begins with
# a copy of 256 pixels, then one of 640. If there is one face, and it is wide enough that any face of
# a third of its width would have been seen too, the search ends. The face is then looked for once
# more in a window of the photo in which it is about 80 pixels wide. There its landmarks are even a
# little steadier than in the whole photo: O-Net takes a face to pieces of 48 pixels without smoothing
# it first, and of a face that is much larger it sees only every tenth pixel or so.
#
# Our synthetic faces are blurred, and all look into the camera. The package scikit-image contains a
# public-domain photograph of the astronaut Eileen Collins (NASA). Run the cell to see it: the
# course's repository keeps no picture of a real person, so the stored notebook shows only the
# numbers.

# %%
# REAL PHOTO: its picture is not kept in the repository
astronaut = data.astronaut()  # uint8 RGB, (512, 512, 3)
found = detection.detect(astronaut)
figure, axis = plt.subplots(figsize=(4, 4))
draw(axis, astronaut, found)
print([(tuple(round(n) for n in face.box), round(face.confidence, 4)) for face in found])

# %%
print(f"Key result: {len(faces)} of {len(places)} portraits found; {windows:,} windows, "
      f"{len(candidates):,} candidates of P-Net, {len(survivors[mtcnn.stages[1].name])} boxes of R-Net")

# %% [markdown]
# ## What we saw
#
# - A face is a box, a confidence and five landmarks, in pixels of the photo. A drawing can be one,
#   too.
# - IoU measures how well two boxes agree; non-maximum suppression uses it to remove boxes that show
#   the same face.
# - P-Net is a convolution over the whole picture: a heat map, at each level of a pyramid.
# - Cheap networks throw away what is surely not a face; expensive ones judge the rest: a cascade,
#   more than a hundred times faster than the last network alone.
# - A threshold trades precision for recall.
# - Aligned by their landmarks, all faces are upright and of one size; cut out by their boxes, they
#   stay tilted.
# - Faces turned by 60 degrees and more are mostly lost, and so are tiny, very blurred and very dark
#   ones.
#
# ## A larger exercise
#
# **Exercise 5. Align a face yourself.** Between the detector and the encoder stands one function: it
# takes the photo and five landmarks, and gives the square crop in which the landmarks lie on the
# template. Write `aligned_crop(photo, landmarks, template, size)` with NumPy alone:
#
# 1. the transform from photo to crop, by least squares over all landmarks (`similarity` above);
# 2. its inverse: for each pixel of the crop, at (x, y) = (column, row), where in the photo does it
#    lie?
# 3. the nearest pixel of the photo there (round the coordinates); outside the photo, its nearest
#    border pixel.
#
# `photo` is uint8 (height, width, 3). `landmarks` (in pixels of the photo) and `template` (in pixels
# of the crop) are (5, 2) with x first. Return uint8 (size, size, 3). Step 2 goes backwards, from the
# crop to the photo, for a reason: forwards, some pixels of the crop would be hit twice and others
# never.

# %%
def aligned_crop(photo, landmarks, template, size):
    """The face with its landmarks on the template, uint8 (size, size, 3)."""
    # BEGIN SOLUTION
    matrix = similarity(landmarks, template)  # from the photo to the crop
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]  # from the crop to the photo
    y, x = np.mgrid[:size, :size]
    points = np.stack([x, y, np.ones_like(x)], axis=-1)  # (size, size, 3): x, y, 1
    places = np.rint(points @ inverse.T).astype(int)  # (size, size, 2)
    columns = places[..., 0].clip(0, photo.shape[1] - 1)
    rows = places[..., 1].clip(0, photo.shape[0] - 1)
    return photo[rows, columns]
    # END SOLUTION


# %%
if exercises.check(aligned_crop):
    template = 112 * alignment.ARCFACE_LANDMARKS  # of ArcFace's crops of 112 pixels
    own = [aligned_crop(photo, face.landmarks, template, 112) for face in faces]
    course = [alignment.align(photo, face.landmarks, template, 112) for face in faces]
    difference = np.abs(np.array(own, float) - course).mean()
    print(f"on average {difference:.1f} of 255 grey levels apart")
    plots.photos([*own, *course], ["yours"] * len(own) + ["the course's"] * len(own), len(faces))

# %%
exercises.report();

# %%
# SOLUTION CHECK
assert exercises.report()

# %% [markdown]
# The course's version first shrinks a photo in which the face is large, and then mixes four by four
# pixels instead of taking the nearest one. That makes smoother edges.
#
# ## Where to go next
#
# - Zhang et al., [*Joint Face Detection and Alignment using Multi-task Cascaded Convolutional
#   Networks*](https://arxiv.org/abs/1604.02878), IEEE Signal Processing Letters 2016: MTCNN.
# - Viola and Jones, *Rapid object detection using a boosted cascade of simple features*, CVPR 2001:
#   the cascade before neural networks.
# - Umeyama, *Least-squares estimation of transformation parameters*, IEEE TPAMI 1991: the same fit in
#   closed form.
# - Deng et al., [*RetinaFace*](https://arxiv.org/abs/1905.00641), CVPR 2020: one network, five
#   landmarks, for faces in crowds.
# - [Lesson 08](08_face_verification.ipynb): are two aligned faces the same person?
