"""Answers to the exercises of lesson 07."""

import numpy as np
from PIL import Image

from utils.faces.alignment import similarity_transform

# --- box_iou ------------------------------------------------------------------------------------


def shapes(a, b):
    corners = [np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]]) for box in (a, b)]
    size = np.minimum(corners[0][2:], corners[1][2:]) - np.maximum(corners[0][:2], corners[1][:2])
    both = np.clip(size, 0, None).prod()
    return np.float32(both / (a[2] * a[3] + b[2] * b[3] - both))


def early_return(a, b):
    ax, ay, aw, ah = a
    bx, by, bw, bh = b
    left, right = max(ax, bx), min(ax + aw, bx + bw)
    top, bottom = max(ay, by), min(ay + ah, by + bh)
    if right <= left or bottom <= top:
        return 0
    both = (right - left) * (bottom - top)
    return both / (aw * ah + bw * bh - both)


def per_axis(a, b):
    both = 1.0
    for axis in (0, 1):
        end = min(a[axis] + a[axis + 2], b[axis] + b[axis + 2])
        both *= max(end - max(a[axis], b[axis]), 0.0)
    union = a[2] * a[3] + b[2] * b[3] - both
    return both / union


def as_corners(a, b):
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    area_a, area_b = ((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b))
    return width * height / max(1e-9, area_a + area_b - width * height)


def over_sum(a, b):
    both = _both(a, b)
    return both / (a[2] * a[3] + b[2] * b[3])


def over_smaller(a, b):
    return _both(a, b) / min(a[2] * a[3], b[2] * b[3])


def not_clipped(a, b):
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    both = max(0, width * height)
    return both / (a[2] * a[3] + b[2] * b[3] - both)


def over_first(a, b):
    both = _both(a, b)
    return both / max(a[2] * a[3], both)


def _both(a, b):
    width = max(0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
    height = max(0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]))
    return width * height


# --- pyramid_scales -----------------------------------------------------------------------------


def loop(width, height, smallest_face, factor):
    scales = [12 / smallest_face]
    while scales[-1] * min(width, height) >= 12:
        scales.append(scales[-1] * factor)
    return scales[:-1]


def powers(width, height, smallest_face, factor):
    scales = 12 / smallest_face * factor ** np.arange(50)
    return scales[scales * min(width, height) >= 12]


def generator(width, height, smallest_face, factor):
    def steps():
        scale = 12 / smallest_face
        while min(width * scale, height * scale) >= 12:
            yield scale
            scale *= factor

    return tuple(steps())


def starts_at_one(width, height, smallest_face, factor):
    return [s * smallest_face / 12 for s in loop(width, height, smallest_face, factor)]


def upside_down(width, height, smallest_face, factor):
    scales, scale = [], smallest_face / 12
    while min(width, height) * scale >= 12:
        scales.append(scale)
        scale *= factor
    return scales


def too_strict(width, height, smallest_face, factor):
    scales, scale = [], 12 / smallest_face
    while min(width, height) * scale > 12:
        scales.append(scale)
        scale *= factor
    return scales


def longer_side(width, height, smallest_face, factor):
    scales, scale = [], 12 / smallest_face
    while max(width, height) * scale >= 12:
        scales.append(scale)
        scale *= factor
    return scales


def one_too_many(width, height, smallest_face, factor):
    scales = [12 / smallest_face]
    while scales[-1] * min(width, height) >= 12:
        scales.append(scales[-1] * factor)
    return scales


def own_factor(width, height, smallest_face, factor):
    return loop(width, height, smallest_face, 0.709)


def height_only(width, height, smallest_face, factor):
    return loop(height, height, smallest_face, factor)


# --- nms ----------------------------------------------------------------------------------------


def _overlaps(box, boxes):
    left_top = np.maximum(box[:2], boxes[:, :2])
    right_bottom = np.minimum(box[2:4], boxes[:, 2:4])
    both = np.prod(np.clip(right_bottom - left_top, 0, None), axis=1)
    areas = np.prod(boxes[:, 2:4] - boxes[:, :2], axis=1)
    return both / (np.prod(box[2:4] - box[:2]) + areas - both)


def mask_of_alive(boxes, threshold):
    alive, kept = np.ones(len(boxes), bool), []
    while alive.any():
        best = np.argmax(np.where(alive, boxes[:, 4], -1))
        kept.append(best)
        alive &= _overlaps(boxes[best], boxes) <= threshold
        alive[best] = False
    return np.array(kept)


def against_kept(boxes, threshold):
    kept = []
    for row in sorted(range(len(boxes)), key=lambda number: -boxes[number][4]):
        if all(_overlaps(boxes[row], boxes[[other]])[0] <= threshold for other in kept):
            kept.append(row)
    return kept


def popping(boxes, threshold):
    order, kept = list(np.argsort(boxes[:, 4])), []
    while order:
        best = order.pop()
        kept.append(int(best))
        values = _overlaps(boxes[best], boxes[order]) if order else []
        order = [row for row, value in zip(order, values, strict=True) if not value > threshold]
    return tuple(kept)


def takes_others_with_it(boxes, threshold):
    order = np.argsort(-boxes[:, 4])
    return [
        int(row)
        for place, row in enumerate(order)
        if not (_overlaps(boxes[row], boxes[order[:place]]) > threshold).any()
    ]


def half_always(boxes, threshold):
    return against_kept(boxes, 0.5)


def not_sorted(boxes, threshold):
    kept = []
    for row in range(len(boxes)):
        if all(_overlaps(boxes[row], boxes[[other]])[0] <= threshold for other in kept):
            kept.append(row)
    return kept


def numbers_after_sorting(boxes, threshold):
    return against_kept(boxes[np.argsort(-boxes[:, 4])], threshold)


def equal_goes(boxes, threshold):
    return against_kept(boxes, threshold - 1e-9)


def least_first(boxes, threshold):
    return against_kept(boxes * np.array([1, 1, 1, 1, -1]), threshold)


# --- precision_recall ---------------------------------------------------------------------------


def counted(confidence, is_face, faces, threshold):
    reported = [
        face for value, face in zip(confidence, is_face, strict=True) if value >= threshold
    ]
    right = sum(reported)
    return [right / len(reported) if reported else 1, right / faces]


def selected(confidence, is_face, faces, threshold):
    faces_reported = is_face[confidence >= threshold]
    precision = faces_reported.mean() if len(faces_reported) else 1.0
    return np.array([precision, faces_reported.sum() / faces])


def true_and_false(confidence, is_face, faces, threshold):
    true = np.sum((confidence >= threshold) & is_face)
    false = np.sum((confidence >= threshold) & ~is_face)
    return true / max(true + false, 1) if true + false else 1, true / faces


def above_only(confidence, is_face, faces, threshold):
    return counted(confidence, is_face, faces, threshold + 1e-9)


def recall_of_boxes(confidence, is_face, faces, threshold):
    return counted(confidence, is_face, is_face.sum(), threshold)


def swapped(confidence, is_face, faces, threshold):
    return counted(confidence, is_face, faces, threshold)[::-1]


def divides_by_zero(confidence, is_face, faces, threshold):
    reported = confidence >= threshold
    right = int((reported & is_face).sum())
    return right / int(reported.sum()), right / faces


def accuracy(confidence, is_face, faces, threshold):
    return ((confidence >= threshold) == is_face).mean(), counted(
        confidence, is_face, faces, threshold
    )[1]


# --- aligned_crop -------------------------------------------------------------------------------


def vectorised(photo, landmarks, template, size):
    return _sampled(photo, similarity_transform(landmarks, template), size)


def pixel_by_pixel(photo, landmarks, template, size):
    height, width = photo.shape[:2]
    matrix = similarity_transform(landmarks, template)
    turn, shift = matrix[:, :2], matrix[:, 2]
    crop = np.zeros((size, size, 3), np.uint8)
    for row in range(size):
        for column in range(size):
            x, y = np.linalg.solve(turn, np.array([column, row]) - shift)
            x, y = min(max(round(x), 0), width - 1), min(max(round(y), 0), height - 1)
            crop[row, column] = photo[y, x]
    return crop


def by_pillow(photo, landmarks, template, size):
    border = 60
    padded = np.pad(photo, ((border, border), (border, border), (0, 0)), mode="edge")
    matrix = similarity_transform(landmarks + border, template)
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    inverse[:, 2] += 0.5 - inverse[:, :2] @ (0.5, 0.5)  # Pillow means the middle of a pixel
    image = Image.fromarray(padded)
    return np.asarray(image.transform((size, size), Image.Transform.AFFINE, inverse.ravel()))


def _sampled(photo, matrix, size, whole=np.rint, clip=True):
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    y, x = np.mgrid[:size, :size]
    places = whole(np.stack([x, y, np.ones_like(x)], -1) @ inverse.T).astype(int)
    columns, rows = places[..., 0], places[..., 1]
    if clip:
        columns, rows = columns.clip(0, photo.shape[1] - 1), rows.clip(0, photo.shape[0] - 1)
    return photo[rows, columns]


def not_inverted(photo, landmarks, template, size):
    return _sampled(photo, similarity_transform(template, landmarks), size)


def rows_for_x(photo, landmarks, template, size):
    turned = vectorised(photo.transpose(1, 0, 2), landmarks, template, size)
    return turned.transpose(1, 0, 2)


def cut_off(photo, landmarks, template, size):
    return _sampled(
        photo, similarity_transform(landmarks, template), size, lambda x: np.trunc(x + 1e-6)
    )


def two_eyes(photo, landmarks, template, size):
    return _sampled(photo, similarity_transform(landmarks[:2], template[:2]), size)


def stretches(photo, landmarks, template, size):
    points = np.column_stack([landmarks, np.ones(5)])
    return _sampled(photo, np.linalg.lstsq(points, template, rcond=None)[0].T, size)


def no_border(photo, landmarks, template, size):
    matrix = similarity_transform(landmarks, template)
    return _sampled(np.pad(photo, ((0, 90), (0, 90), (0, 0))), matrix, size, clip=False)


def fitted_backwards(photo, landmarks, template, size):
    inverse = similarity_transform(template, landmarks)  # only where the fit is exact
    matrix = np.linalg.inv(np.vstack([inverse, [0, 0, 1]]))[:2]
    return _sampled(photo, matrix, size)


def negative_rows(photo, landmarks, template, size):
    height, width = photo.shape[:2]
    matrix = similarity_transform(landmarks, template)
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    y, x = np.mgrid[:size, :size]
    places = np.rint(np.stack([x, y, np.ones_like(x)], -1) @ inverse.T).astype(int)
    return photo[np.minimum(places[..., 1], height - 1), np.minimum(places[..., 0], width - 1)]


def of_floats(photo, landmarks, template, size):
    return vectorised(photo, landmarks, template, size) / 1.0


def no_rotation(photo, landmarks, template, size):
    scale = np.std(template - template.mean(0)) / np.std(landmarks - landmarks.mean(0))
    shift = template.mean(0) - scale * landmarks.mean(0)
    return _sampled(photo, np.column_stack([scale * np.eye(2), shift]), size)


RIGHT = {
    "box_iou": [shapes, early_return, per_axis],
    "pyramid_scales": [loop, powers, generator],
    "nms": [mask_of_alive, against_kept, popping],
    "precision_recall": [counted, selected, true_and_false],
    "aligned_crop": [vectorised, pixel_by_pixel, by_pillow],
}
WRONG = {
    "box_iou": [
        (as_corners, "(x, y, width, height)"),
        (over_sum, "150 in either"),
        (over_smaller, "counts once below the line"),
        (not_clipped, "two negative lengths"),
        (over_first, "150 in either"),
    ],
    "pyramid_scales": [
        (starts_at_one, "24×30 with 12/20"),
        (upside_down, "24×30 with 12/20"),
        (too_strict, "exactly 12 pixels"),
        (longer_side, "exactly 12 pixels, which is enough"),
        (own_factor, "with a factor of 0.5"),
        (one_too_many, "at 0.125 it has 6"),
        (height_only, "also the width"),
    ],
    "nms": [
        (takes_others_with_it, "takes none with it"),
        (half_always, "with a threshold of 0.4"),
        (not_sorted, "the most probable first"),
        (numbers_after_sorting, "as they were given"),
        (equal_goes, "exactly the threshold"),
        (least_first, "the most probable first"),
    ],
    "precision_recall": [
        (above_only, "the one at 0.7 among them"),
        (recall_of_boxes, "one face got no box"),
        (swapped, "three boxes are reported"),
        (divides_by_zero, "ZeroDivisionError"),
        (accuracy, "three boxes are reported"),
    ],
    "aligned_crop": [
        (not_inverted, "50 pixels to the right"),
        (rows_for_x, "[row, column]"),
        (cut_off, "`np.rint` rounds"),
        (two_eyes, "Two are not enough"),
        (fitted_backwards, "not from the template to them"),
        (stretches, "deforms the face"),
        (no_border, "border"),
        (negative_rows, "count from the other end"),
        (no_rotation, "signs of the rotation"),
        (of_floats, "not float"),
    ],
}
