"""Face detection, verification and kinship in the browser: ``make streamlit``.

Photos stay in the memory of one session: nothing is written to disk, and nothing that was computed
from a photo is kept where another visitor's session could see it. Only the networks are shared.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import matplotlib.pyplot as plt
import numpy as np
import streamlit as st
from PIL import Image

import apps  # noqa: F401  (the course's utils, before another one)
from utils import images, plots
from utils.answers import kinship, verification
from utils.answers.explanation import Regions
from utils.data import scenes
from utils.errors import CourseError
from utils.faces import alignment, backbones, detection
from utils.scoring import calibration
from utils.scoring.calibration import Rates, percent

Value = TypeVar("Value")

KEPT = 2  # results of each kind that a session keeps; a photo may take 190 MB


def main() -> None:
    """One page of the select box."""
    st.set_page_config("Faces", ":material/face:", layout="wide")
    st.title("Faces: found, cut out, compared")
    page = st.selectbox("What do you want to do?", list(PAGES))
    try:
        models()
        PAGES[page]()
    except CourseError as error:
        st.error(str(error), icon=":material/error:")
    st.caption(
        "Photos stay in the memory of this session and are gone when the page is closed. Use "
        "photos of people who agree to it. An answer is not a proof of who somebody is."
    )


@st.cache_resource(show_spinner="Loading the networks…")
def models() -> None:
    """Build the detector and the encoder at the first visit; later ones find them ready."""
    detection.detector()
    network = backbones.get()
    network.embed(np.zeros((2, network.input_size, network.input_size, 3), np.uint8))
    # Streamlit collects garbage after every run of a page, which takes a quarter of a second with
    # TensorFlow in memory; what is frozen is not searched again.
    gc.collect()
    gc.freeze()


@st.cache_resource(show_spinner="Loading the kinship model…")
def kinship_model() -> kinship.Kinship:
    """The shipped model, read when it is first asked for."""
    model = kinship.Kinship.load()
    gc.collect()
    gc.freeze()
    return model


# --- photos -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SessionPhoto:
    """A photo of this session.

    Attributes:
        key: a name that no other photo of the session has.
        photo: RGB uint8.
    """

    key: str
    photo: np.ndarray

    def faces(self) -> list[detection.Face]:
        """The faces in it, searched once."""
        with st.spinner("Looking for faces…"):
            return once("faces", self.key, lambda: detection.detect(self.photo))


Pair = tuple[SessionPhoto, SessionPhoto]


def uploaded(label: str, key: str) -> SessionPhoto | None:
    """What the visitor uploaded here.

    Args:
        label: what stands above the field.
        key: name of the field.

    Raises:
        ImageError: the file cannot be used.
    """
    # any file may be chosen: what it holds decides whether it is a photo, and not its ending
    file = st.file_uploader(label, key=key)
    if file is None:
        return None
    photo = once("photo", file.file_id, lambda: images.read(file.getvalue(), file.name))
    return SessionPhoto(file.file_id, photo)


def uploaded_or_example(label: str, key: str) -> SessionPhoto | None:
    """What the visitor uploaded, else the family wall once they asked for it.

    Args:
        label: what stands above the field.
        key: name of the field.
    """
    photo = uploaded(label, key)
    if photo is not None:
        return photo
    if st.button("No photo at hand? Take an example", key=f"{key} example"):
        st.session_state["wall"] = True
    return SessionPhoto("wall", wall()) if "wall" in st.session_state else None


def once(kind: str, key: object, compute: Callable[[], Value]) -> Value:
    """``compute()``, once for this key in this session: every click runs the whole page again.

    The last results are kept, so that a session's memory stays bounded.

    Args:
        kind: what is computed.
        key: what it is computed for.
        compute: gives the result.
    """
    results = st.session_state.setdefault(f"once {kind}", {})
    if key not in results:
        results[key] = compute()
        for old in list(results)[:-KEPT]:
            del results[old]
    return results[key]


def show(photo: np.ndarray, caption: str, side: int = 1280) -> None:
    """A photo, not larger than its column.

    Args:
        photo: RGB uint8.
        caption: what stands below it.
        side: the most pixels each way.
    """
    picture = Image.fromarray(photo)
    picture.thumbnail((side, side))
    st.image(picture, caption, output_format="JPEG")


def photo_with_faces(label: str, key: str) -> tuple[np.ndarray, list[detection.Face]] | None:
    """The photo of a page and its faces; None as long as there is no photo.

    Args:
        label: what stands above the field.
        key: name of the field.

    Raises:
        ImageError: the photo cannot be used.
        FaceError: there is no face in it.
    """
    source = uploaded_or_example(label, key)
    if source is None:
        return None
    faces = source.faces()
    detection.largest(faces, "this photo", source.photo)
    return source.photo, faces


@st.cache_data(show_spinner=False)
def wall() -> np.ndarray:
    """A picture of six people who do not exist."""
    return scenes.family_wall(seed=7)[0]


@st.cache_data(show_spinner=False)
def two_photos(example: str) -> tuple[np.ndarray, np.ndarray]:
    """Two photos of people who do not exist."""
    return scenes.two_photos(*scenes.EXAMPLES[example])


# --- pages --------------------------------------------------------------------------------------


def face_detection() -> None:
    """The photo, and the photo with boxes, landmarks and confidences."""
    source = photo_with_faces("A photo with one face or many", "detection")
    if source is None:
        return
    photo, faces = source
    # faces that MTCNN is not sure of can be hidden
    least = st.slider(
        "Show faces with a confidence of at least",
        0.8,
        1.0,
        0.9,
        0.01,
        help="MTCNN itself gives none below 0.8.",
    )
    confident = [face for face in faces if face.confidence >= least]

    # the photo, and beside it the same with the faces marked
    left, right = st.columns(2)
    with left:
        show(photo, f"{photo.shape[1]}×{photo.shape[0]} pixels")
    with right:
        caption = f"{len(confident)} of {len(faces)} faces: number and confidence"
        show(plots.faces(photo, confident), caption)

    # one row a face
    rows = [
        {
            "face": number,
            "confidence": round(face.confidence, 4),
            "width": round(face.box[2]),
            "height": round(face.box[3]),
        }
        for number, face in enumerate(confident, start=1)
    ]
    st.dataframe(rows, hide_index=True, width="content")


def face_detection_2() -> None:
    """Each face by itself: cut out with a margin, and aligned for the network."""
    source = photo_with_faces("A photo from which the faces are cut out", "faces")
    if source is None:
        return
    photo, faces = source
    show(plots.faces(photo, faces), "faces by size, the largest first")
    st.subheader("Cut out with a margin, and aligned")
    st.write(
        "In aligned faces, the eyes and the mouth lie at the same pixels: this is what a network "
        "takes."
    )

    # three faces a row
    network = backbones.get()
    columns = st.columns(3)
    for number, face in enumerate(faces):
        cut_out = alignment.crop(photo, face, network.input_size)
        aligned = alignment.align_face(network, photo, face)
        with columns[number % 3]:
            show(np.hstack([cut_out, aligned.crop]), f"face {number + 1}: cut out, aligned")


def face_verification() -> None:
    """Two photos, a verdict, and what it is worth."""
    example, pair = two_sides()
    policy = st.selectbox(
        "Threshold",
        calibration.POLICIES,
        help="A smaller distance accepts fewer pairs.",
        format_func=lambda name: f"{name}: {calibration.POLICIES[name]}",
    )
    if pair is None:
        return

    # another policy is another answer
    first, second = pair
    with st.spinner("Comparing…"):
        answer = once(
            "answer",
            (policy, first.key, second.key),
            lambda: verification.verify(first.photo, second.photo, threshold=policy),
        )
    show_answer(answer)
    tell_truth(example)


def kinship_page() -> None:
    """Two photos, a probability, what it is worth, and which regions carry it."""
    example, pair = two_sides()
    if pair is None:
        return

    # the model is loaded for the first pair, not for whoever looks at the page
    first, second = pair
    model = kinship_model()
    with st.spinner("Comparing…"):
        answer = once(
            "kinship",
            (first.key, second.key),
            lambda: model.predict(first.photo, second.photo),
        )
    show_kinship(answer)
    tell_truth(example)
    if example in scenes.EXAMPLES:
        st.caption(
            "The faces of the examples are drawn by a computer. The model learnt from "
            "photographs, and takes drawn strangers for kin more often than real ones. The error "
            "rates are those on real families."
        )


def two_sides() -> tuple[str, Pair | None]:
    """Which example is shown, and the photos; None as long as one is missing or has no face."""
    example = st.radio("Which photos?", ["my own", *scenes.EXAMPLES], horizontal=True)
    # an example brings both photos, else each side has a field for one
    sides: list[SessionPhoto | None] = [None, None]
    if example in scenes.EXAMPLES:
        first, second = two_photos(example)
        sides = [
            SessionPhoto(f"{example} first", first),
            SessionPhoto(f"{example} second", second),
        ]
    left, right = st.columns(2)
    with left:
        one = one_side("first", sides[0])
    with right:
        two = one_side("second", sides[1])
    return example, None if one is None or two is None else (one, two)


def one_side(name: str, example: SessionPhoto | None) -> SessionPhoto | None:
    """One of the two photos with the face that is compared, or what is wrong with it.

    Args:
        name: "first" or "second".
        example: what is shown; None: what the visitor uploads.
    """
    try:
        side = example or uploaded(f"The {name} photo", name)
        if side is None:
            return None
        faces = side.faces()
        several = f": {len(faces)} faces, the largest is compared" if len(faces) > 1 else ""
        show(plots.faces(side.photo, faces[:1]), f"the {name} photo{several}", side=420)
        detection.largest(faces, f"the {name} photo", side.photo)
    except CourseError as error:
        st.error(str(error), icon=":material/error:")
        return None
    return side


def tell_truth(example: str) -> None:
    """What an example shows in truth."""
    if example in scenes.EXAMPLES:
        st.info(f"In truth the example shows {example}.")


def show_answer(answer: verification.Verification) -> None:
    """Verdict, numbers, error rates, explanation, and what the network saw."""
    # the decision, and what it is worth in numbers
    (st.success if answer.same_person else st.warning)(answer.verdict)
    numbers = {
        "Distance": f"{answer.distance:.4f}",
        "Threshold": f"{answer.threshold:.4f}",
        "One person, not two strangers": share(answer.probability),
        "One person, not two relatives": share(answer.probability_in_family),
    }
    show_metrics(numbers)

    # what it rests on, and what it means
    left, right = st.columns([1, 2])
    with left:
        crops = np.hstack(list(answer.comparison.crops))
        show(crops, "the two faces, aligned: what the network compared")
    with right:
        for sentence in answer.explanation:
            st.write(sentence)
        if answer.rates is not None:
            show_rates(answer.rates)


def share(value: float | None) -> str:
    """A probability for people; None is one that nobody knows."""
    return "unknown" if value is None else percent(value)


def show_metrics(values: dict[str, str]) -> None:
    """Numbers side by side, each under its label."""
    for column, (label, value) in zip(st.columns(len(values)), values.items(), strict=True):
        column.metric(label, value)


def show_rates(rates: Rates) -> None:
    """How often a decision at this threshold is wrong, with intervals."""
    intervals = {
        "photo pairs of one person, rejected": rates.false_reject,
        "pairs of two strangers, accepted": rates.strangers_accepted,
        "pairs of two relatives, accepted": rates.relatives_accepted,
    }
    shares = [percent(rate.value) for rate in intervals.values()]
    bounds = [f"{percent(rate.low)} to {percent(rate.high)}" for rate in intervals.values()]
    st.table(
        {"wrong at this threshold": list(intervals), "share": shares, "95 % interval": bounds}
    )


def show_kinship(answer: kinship.KinshipAnswer) -> None:
    """Verdict, numbers, regions, error rates and explanation."""
    # the answer in one of three words, and what it is worth in numbers
    colours = {kinship.LIKELY: st.success, kinship.CANNOT_SAY: st.info}
    colours.get(answer.band, st.warning)(answer.verdict)
    numbers = {
        "Probability of kinship": percent(answer.probability),
        "Strangers among the likely": percent(answer.bands.strangers_among_likely),
        "Kin among the unlikely": percent(answer.bands.kin_among_unlikely),
        "Pairs without an answer": percent(answer.bands.cannot_say),
    }
    show_metrics(numbers)
    st.progress(answer.probability)

    # what it rests on, and what it means
    if answer.regions is not None:
        show_regions(answer.comparison.crops, answer.regions)
    for sentence in answer.explanation:
        st.write(sentence)
    st.caption(
        f"{answer.model}, version {answer.version}, {answer.seconds['total']:.1f} s. It must not "
        "be used to decide about anybody's family, residence or inheritance."
    )


def show_regions(crops: np.ndarray, regions: Regions) -> None:
    """The two faces coloured by what each region carries, and the same as bars.

    Args:
        crops: uint8 RGB ``(2, size, size, 3)``.
        regions: what they carry.
    """
    st.subheader("Whose nose is it?")
    figure = plots.regions(crops, regions)
    st.pyplot(figure, width="content")
    plt.close(figure)  # or pyplot keeps the faces, for all sessions, as long as the server runs
    st.caption(
        "Each region was exchanged for that of people who do not exist: orange ones speak for "
        "kinship, blue ones against it. The lines are twice the standard error."
    )


PAGES = {
    "Face Detection": face_detection,
    "Face Detection 2": face_detection_2,
    "Face Verification": face_verification,
    "Kinship": kinship_page,
}

main()
