"""The page that says whether two photos show one person: "Face Verification"."""

import numpy as np
import streamlit as st

from apps.streamlit_pages import appearance, pairs, photos
from apps.streamlit_pages.appearance import of_100
from apps.streamlit_pages.pairs import Pair
from utils import images
from utils.answers import verification
from utils.answers.verification import Verification
from utils.scoring import calibration
from utils.scoring.calibration import Rates, percent

POLICY = "same person: threshold"


def page() -> None:
    """Two photos in; a verdict, and what it is worth."""
    appearance.show_title(
        "The same person?",
        "Give two photos: do they show one person, or two?",
        "Face Verification",
        "08_face_verification",
    )
    # the answer stands above the photos that it is about
    top = st.container()
    pair = pairs.two_photos()
    if pair is not None:
        with top:
            answer = compared(pair)
            show_verdict(answer, pair)
        show_more(answer, pair)
    pairs.show_examples()


def compared(pair: Pair) -> Verification:
    """The answer, computed once; another threshold is another answer."""
    policy = st.session_state.get(POLICY, calibration.DEFAULT)

    def compute() -> Verification:
        return verification.verify(*pair.decoded(), threshold=policy, faces=pair.faces)

    with st.spinner("Comparing…"):
        return photos.once("answer", (policy, *pair.key), compute)


def show_verdict(answer: Verification, pair: Pair) -> None:
    """The decision in plain words, and how often such a one is wrong."""
    if answer.same_person:
        tone, headline = appearance.ONE_PERSON, "Probably the same person"
        meaning = "The two faces are as much alike as two photos of one person."
    else:
        tone, headline = appearance.NOT, "Probably two people"
        meaning = "The two faces are less alike than two photos of one person usually are."
    sentences = [f"{meaning} {worth(answer)}", *pairs.truth_of(pair)]
    appearance.show_answer(tone, headline, sentences, answer.comparison.crops)


def worth(answer: Verification) -> str:
    """How often such a decision is wrong, in plain words."""
    rates = answer.rates
    if rates is None:
        return "Nobody has measured how often this is wrong."
    if answer.same_person:
        return (
            f"But so are {of_100(rates.strangers_accepted.value)} pairs of strangers, and "
            f"{of_100(rates.relatives_accepted.value)} pairs of relatives."
        )
    return f"But so are {of_100(rates.false_reject.value)} pairs of photos of one person."


def show_more(answer: Verification, pair: Pair) -> None:
    """What can be saved, the other question, and the numbers."""
    # the whole answer, to keep
    told = [answer.verdict, *answer.explanation]
    pairs.show_ways_on(told, answer.to_dict(), pair, "related", "are they related?")
    with st.expander("Numbers and technical terms", key="numbers of verification"):
        show_numbers(answer)


def show_numbers(answer: Verification) -> None:
    """Distance and threshold, which can be exchanged, and error rates with their intervals."""
    # another threshold is another answer
    st.selectbox(
        "How strict should it be?",
        list(calibration.POLICIES),
        key=POLICY,
        index=list(calibration.POLICIES).index(calibration.DEFAULT),
        help="A smaller distance accepts fewer pairs.",
        format_func=lambda name: f"{name}: {calibration.POLICIES[name]}",
    )
    numbers = {
        "Distance": f"{answer.distance:.4f}",
        "Threshold": f"{answer.threshold:.4f}",
        "One person, not two strangers": share(answer.probability),
        "One person, not two relatives": share(answer.probability_in_family),
    }
    for column, (label, value) in zip(st.columns(4), numbers.items(), strict=True):
        column.metric(label, value)
    # what they are worth
    for sentence in answer.explanation:
        st.markdown(sentence)
    if answer.rates is not None:
        show_rates(answer.rates)
    appearance.show_picture(
        images.to_jpeg(np.hstack(list(answer.comparison.crops))),
        "The two faces, aligned",
        "the two faces, aligned: what the network compared",
    )


def share(value: float | None) -> str:
    """A probability for people; None is one that nobody knows."""
    return "unknown" if value is None else percent(value)


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


page()
