"""Face detection, verification and kinship in the browser: ``make streamlit``.

Photos stay in the memory of one session: nothing is written to disk, and nothing that was computed
from a photo is kept where another visitor's session could see it. Only the networks are shared.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import streamlit as st
from PIL import Image

from utils import images, plots
from utils.answers import kinship, verification
from utils.data import scenes
from utils.errors import CourseError
from utils.faces import backbones, detection, embeddings
from utils.scoring import calibration

TYPES = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"]
KEPT = 2  # results of each kind that a session keeps; a photo may take 190 MB


def main() -> None:
    """One page of the select box."""
    st.set_page_config("Faces", ":material/face:", layout="wide")
    st.title("Faces: found, cut out, compared")
    page = st.selectbox("What shall be done?", list(PAGES))
    try:
        models()
        PAGES[page]()
    except CourseError as error:
        st.error(str(error), icon=":material/error:")
    st.caption("Photos stay in the memory of this session and are gone when the page is closed. Use photos of "
               "people who agree to it. An answer is no proof of who somebody is.")


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
class Chosen:
    """A photo, RGB uint8, and a name that no other photo of this session has."""

    key: str
    photo: np.ndarray

    def faces(self) -> list[detection.Face]:
        """The faces in it, searched once."""
        with st.spinner("Looking for faces…"):
            return once("faces", self.key, lambda: detection.detect(self.photo))


def uploaded(label: str, key: str) -> Chosen | None:
    """What the visitor uploaded here. Raises ImageError."""
    file = st.file_uploader(label, TYPES, key=key)
    if file is None:
        return None
    return Chosen(file.file_id, once("photo", file.file_id, lambda: images.read(file.getvalue(), file.name)))


def uploaded_or_example(label: str, key: str) -> Chosen | None:
    """What the visitor uploaded, else the family wall once they asked for it."""
    photo = uploaded(label, key)
    if photo is None and st.button("No photo at hand? Take an example", key=f"{key} example"):
        st.session_state["wall"] = True
    return Chosen("wall", wall()) if photo is None and "wall" in st.session_state else photo


def once(what: str, key: object, compute: Callable[[], object]) -> object:
    """``compute()``, once for this key in this session: every click runs the whole page again.

    The last few results are kept, so that a session's memory stays bounded.
    """
    kept = st.session_state.setdefault(f"once {what}", {})
    if key not in kept:
        kept[key] = compute()
        for old in list(kept)[:-KEPT]:
            del kept[old]
    return kept[key]


def show(photo: np.ndarray, caption: str, side: int = 1280) -> None:
    """A photo, not larger than its column nor than ``side`` pixels."""
    picture = Image.fromarray(photo)
    picture.thumbnail((side, side))
    st.image(picture, caption, output_format="JPEG")


def searched(label: str, key: str) -> tuple[Chosen, list[detection.Face]] | None:
    """The photo of a page and its faces; None as long as none is chosen. Raises FaceError: no face."""
    chosen = uploaded_or_example(label, key)
    if chosen is None:
        return None
    faces = chosen.faces()
    detection.largest(faces, "this photo")
    return chosen, faces


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
    if (given := searched("A photo with one face or many", "detection")) is None:
        return
    chosen, faces = given
    least = st.slider("Show faces with a confidence of at least", 0.8, 1.0, 0.9, 0.01,
                      help="MTCNN itself gives none below 0.8.")
    found = [face for face in faces if face.confidence >= least]
    left, right = st.columns(2)
    with left:
        show(chosen.photo, f"{chosen.photo.shape[1]}×{chosen.photo.shape[0]} pixels")
    with right:
        show(plots.faces(chosen.photo, found), f"{len(found)} of {len(faces)} faces: number and confidence")
    st.dataframe([{"face": number, "confidence": round(face.confidence, 4), "width": round(face.box[2]),
                   "height": round(face.box[3])} for number, face in enumerate(found, start=1)],
                 hide_index=True, width="content")


def face_detection_2() -> None:
    """Each face by itself: cut out with a margin, and aligned for the network."""
    if (given := searched("A photo whose faces shall be cut out", "faces")) is None:
        return
    chosen, faces = given
    show(plots.faces(chosen.photo, faces), "faces by size, the largest first")
    st.subheader("Cut out with a margin, and aligned")
    st.write("Aligned, the eyes and the mouth of every face lie at the same pixels: so a network sees it.")
    network, columns = backbones.get(), st.columns(3)
    for number, face in enumerate(faces):
        pair = [detection.crop(chosen.photo, face, network.input_size),
                embeddings.align(network, chosen.photo, face)]
        with columns[number % 3]:
            show(np.hstack(pair), f"face {number + 1}: cut out, aligned")


def two_sides() -> tuple[str, list[Chosen] | None]:
    """Which example is shown, and the two photos; None as long as one lacks or has no face."""
    example = st.radio("Which photos?", ["my own", *scenes.EXAMPLES], horizontal=True)
    photos = two_photos(example) if example in scenes.EXAMPLES else (None, None)
    chosen = []
    for name, photo, column in zip(("first", "second"), photos, st.columns(2), strict=True):
        with column:
            chosen.append(one_side(name, photo if photo is None else Chosen(f"{example} {name}", photo)))
    return example, None if None in chosen else chosen


def face_verification() -> None:
    """Two photos, a verdict, and what it is worth."""
    example, chosen = two_sides()
    policy = st.selectbox("Threshold", calibration.POLICIES, help="A smaller distance accepts fewer pairs.",
                          format_func=lambda name: f"{name}: {calibration.POLICIES[name]}")
    if chosen:
        with st.spinner("Comparing…"):
            answer = once("answer", (policy, *(side.key for side in chosen)),
                          lambda: verification.verify(*(side.photo for side in chosen), threshold=policy))
        show_answer(answer)
        tell_truth(example)


def kinship_page() -> None:
    """Two photos, a probability, what it is worth, and which regions carry it."""
    example, chosen = two_sides()
    if chosen:
        model = kinship_model()
        with st.spinner("Comparing…"):
            answer = once("kinship", tuple(side.key for side in chosen),
                          lambda: model.predict(*(side.photo for side in chosen)))
        show_kinship(answer)
        tell_truth(example)
        if example in scenes.EXAMPLES:
            st.caption("The faces of the examples are drawn by a computer. The model learnt from photographs, "
                       "and takes drawn strangers for kin more often than real ones. The error rates are those on "
                       "real families.")


def tell_truth(example: str) -> None:
    """What an example shows in truth."""
    if example in scenes.EXAMPLES:
        st.info(f"In truth the example shows {example}.")


def one_side(name: str, example: Chosen | None) -> Chosen | None:
    """One of the two photos with the face that is compared, or what is wrong with it."""
    try:
        chosen = example or uploaded(f"The {name} photo", name)
        if chosen is None:
            return None
        faces = chosen.faces()
        several = f": {len(faces)} faces, the largest is compared" if len(faces) > 1 else ""
        show(plots.faces(chosen.photo, faces[:1]), f"the {name} photo{several}", side=420)
        detection.largest(faces, f"the {name} photo")
    except CourseError as error:
        st.error(str(error), icon=":material/error:")
        return None
    return chosen


def show_answer(answer: verification.Verification) -> None:
    """Verdict, figures, error rates, explanation, and what the network saw."""
    (st.success if answer.same_person else st.warning)(answer.verdict)
    figures = st.columns(4)
    figures[0].metric("Distance", f"{answer.distance:.4f}")
    figures[1].metric("Threshold", f"{answer.threshold:.4f}")
    figures[2].metric("One person, not two strangers", f"{100 * answer.probability:.1f} %")
    figures[3].metric("One person, not two relatives", f"{100 * answer.probability_in_family:.1f} %")
    left, right = st.columns([1, 2])
    with left:
        show(np.hstack(answer.crops), "the two faces, aligned: what the network compared")
    with right:
        for sentence in answer.explanation:
            st.write(sentence)
        rates = {"photo pairs of one person, rejected": answer.rates.false_reject,
                 "pairs of two strangers, accepted": answer.rates.strangers_accepted,
                 "pairs of two relatives, accepted": answer.rates.relatives_accepted}
        st.table({"wrong at this threshold": list(rates),
                  "share": [f"{100 * rate.value:.1f} %" for rate in rates.values()],
                  "95 % interval": [f"{100 * rate.low:.1f} % to {100 * rate.high:.1f} %"
                                    for rate in rates.values()]})


def show_kinship(answer: kinship.KinshipAnswer) -> None:
    """Verdict, figures, regions, error rates and explanation."""
    (st.success if answer.related else st.warning)(answer.verdict)
    figures = st.columns(4)
    figures[0].metric("Probability of kinship", f"{100 * answer.probability:.1f} %")
    figures[1].metric("Threshold", f"{100 * answer.threshold:.1f} %")
    figures[2].metric("Relatives rejected at it", f"{100 * answer.kin_rejected.value:.1f} %")
    figures[3].metric("Strangers accepted at it", f"{100 * answer.strangers_accepted.value:.1f} %")
    st.progress(answer.probability)
    st.subheader("Whose nose is it?")
    figure = plots.regions(answer.crops, answer.regions)
    st.pyplot(figure, width="content")
    plt.close(figure)  # or pyplot keeps the faces, for all sessions, as long as the server runs
    st.caption("Each region was exchanged for that of people who do not exist: orange ones speak for kinship, "
               "blue ones against it. The lines are twice the standard error.")
    for sentence in answer.explanation:
        st.write(sentence)
    st.caption(f"{answer.model}, version {answer.version}, {answer.seconds['total']:.1f} s. It must not be used "
               "to decide about anybody's family, residence or inheritance.")


PAGES = {
    "Face Detection": face_detection,
    "Face Detection 2": face_detection_2,
    "Face Verification": face_verification,
    "Kinship": kinship_page,
}

main()
