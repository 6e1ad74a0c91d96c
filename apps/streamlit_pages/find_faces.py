"""The page on which faces are found and cut out: "Face Detection" and "Face Detection 2"."""

import io
import zipfile

import numpy as np
import streamlit as st

from apps.streamlit_pages import appearance, drawing, photos
from apps.streamlit_pages.photos import Photo, View
from utils import images
from utils.faces import alignment, backbones, detection
from utils.faces.detection import Face

SLOT, CUT_OUT = "photo", 200  # pixels of a face that is cut out


def page() -> None:
    """A photo in; its faces numbered in it, and cut out."""
    appearance.show_title(
        "Find faces",
        "Give a photo: every face in it is found, numbered, and cut out.",
        "Face Detection” and “Face Detection 2",
        "07_face_detection",
    )
    # a photo that is refused makes room for another one
    photo = photos.photo_in(SLOT)
    view = photos.look(photo, "this photo") if photo is not None else None
    if photo is not None and view is not None:
        show_faces(photo, view)
    else:
        if photo is not None:
            appearance.show_problem(photo.problem)
        photos.ask(SLOT, "A photo with one face or many")
        show_example()


def show_example() -> None:
    """A picture of people who do not exist, to click."""
    st.header("No photo at hand? Try this one", anchor=False)
    st.markdown("These faces belong to nobody; a computer drew them.")
    wall = images.read(photos.example_wall())
    appearance.picture_button(wall, "Six portraits on a wall", "wall", take_example, width=320)


def take_example() -> None:
    """The wall, in place of the photo that was there."""
    photos.put(SLOT, Photo("the wall", photos.example_wall()))


def show_faces(photo: Photo, view: View) -> None:
    """How many faces, the photo beside the faces, and what can be saved."""
    # the toggle for doubtful faces stands below what it changes
    doubtful = st.session_state.get(f"doubtful {photo.key}", False)
    faces, cut_outs, aligned = photos.once(
        "faces", (photo.key, doubtful), lambda: faces_of(photo, doubtful)
    )
    count = len(faces)
    appearance.show_answer(appearance.FOUND, f"{appearance.counted(count, 'face')} found", [])
    marked = images.to_jpeg(drawing.numbered(view.picture, faces, view.scale))
    left, right = st.columns([3, 2], gap="medium")
    with left:
        appearance.show_picture(marked, f"The photo with {count} faces marked")
        with st.expander("Exchange the photo", key=f"other {photo.key}"):
            photos.ask(SLOT, "Another photo")
    with right, st.container(horizontal=True, gap="small", key="cut-outs"):
        for number, cut_out in enumerate(cut_outs, start=1):
            appearance.show_picture(images.to_jpeg(cut_out), "", f"Face {number}", 104)

    facts = {"size": view.size, "faces": [face.to_dict() for face in faces]}
    appearance.show_downloads(
        {
            "Save the picture": ("faces.jpg", marked, "image/jpeg"),
            "Save the faces": ("faces.zip", zipped(cut_outs), "application/zip"),
            "Save the numbers": ("faces.json", appearance.as_json(facts), "application/json"),
        }
    )
    with st.expander("Numbers and technical terms", key=f"numbers {photo.key}"):
        show_numbers(photo, view, faces, aligned)


def faces_of(photo: Photo, doubtful: bool) -> tuple[list[Face], list[np.ndarray], np.ndarray]:
    """The faces of a photo, each cut out, and each aligned for a network.

    Args:
        photo: of this session.
        doubtful: small faces and those that the detector is not sure of, too.
    """
    whole = photos.pixels(photo)
    quarter_turns, faces = detection.upright(whole)
    upright = detection.turned(whole, quarter_turns)
    if doubtful:
        faces = detection.detect(upright)
    network = backbones.get()
    cut_outs = [alignment.crop(upright, face, CUT_OUT, 0.4) for face in faces]
    aligned = [alignment.align_face(network, upright, face).crop for face in faces]
    return faces, cut_outs, np.stack(aligned)  # (faces, size, size, 3)


def show_numbers(photo: Photo, view: View, faces: list[Face], aligned: np.ndarray) -> None:
    """What the detector says in numbers, and what a network takes.

    Args:
        photo: of this session.
        view: what is shown of it.
        faces: that are numbered.
        aligned: uint8 RGB ``(faces, size, size, 3)``.
    """
    # the photo and the detector
    width, height = view.size
    st.markdown(
        f"The photo has {width:,} × {height:,} pixels. The detector is MTCNN; its confidence is "
        "between 0 and 1. Boxes are in pixels of the photo."
    )
    st.toggle("Show small and doubtful faces, too", key=f"doubtful {photo.key}")
    # a row for each face
    rows = []
    for number, face in enumerate(faces, start=1):
        size = {"width": round(face.box[2]), "height": round(face.box[3])}
        rows.append({"face": number, "confidence": f"{face.confidence:.4f}", **size})
    st.table(rows)
    st.markdown(
        "**Aligned:** eyes and mouth lie at the same pixels in each of these. This is what a "
        "network takes."
    )
    with st.container(horizontal=True, gap="small"):
        for number, crop in enumerate(aligned, start=1):
            name = f"face {number}"
            appearance.show_picture(images.to_jpeg(crop), name, name, 96)


def zipped(pictures: list[np.ndarray]) -> bytes:
    """Pictures as JPEG files in an archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, picture in enumerate(pictures, start=1):
            archive.writestr(f"face{number}.jpg", images.to_jpeg(picture))
    return buffer.getvalue()


page()
