"""The page that says whether two people are related."""

import gc
import io

import matplotlib.pyplot as plt
import streamlit as st

from apps.streamlit_pages import appearance, pairs, photos
from apps.streamlit_pages.appearance import of_100
from apps.streamlit_pages.pairs import Pair
from utils import images, plots
from utils.answers import explanation, kinship
from utils.answers.explanation import Regions
from utils.answers.kinship import KinshipAnswer
from utils.scoring.calibration import percent, rounded

TONES = {kinship.LIKELY: appearance.RELATED, kinship.UNLIKELY: appearance.NOT}


def page() -> None:
    """Two photos in; a verdict, what it is worth, and which parts of the faces carry it."""
    appearance.show_title(
        "Are they related?",
        "Give a photo of each of two people: do their faces look like those of relatives?",
        "",
        "05_fine_tuning",
    )
    # the answer stands above the photos that it is about
    top = st.container()
    pair = pairs.two_photos()
    if pair is not None:
        # the model is loaded for the first pair, not for whoever looks at the page
        model = kinship_model()
        with top:
            answer = compared(model, pair)
            show_verdict(answer, pair)
        show_more(model, answer, pair)
    pairs.show_examples()


@st.cache_resource(show_spinner="Loading the model…")
def kinship_model() -> kinship.Kinship:
    """The shipped model, read when it is first asked for."""
    model = kinship.Kinship.load()
    gc.collect()
    gc.freeze()
    return model


def compared(model: kinship.Kinship, pair: Pair) -> KinshipAnswer:
    """The answer without its explanation, computed once."""

    def compute() -> KinshipAnswer:
        return model.predict(*pair.decoded(), explain=False, faces=pair.faces)

    with st.spinner("Comparing…"):
        return photos.once("kinship", pair.key, compute)


def show_verdict(answer: KinshipAnswer, pair: Pair) -> None:
    """The answer in plain words, and how often such a one is wrong."""
    tone = TONES.get(answer.band, appearance.UNDECIDED)
    sentences = [meaning(answer)]
    if answer.same_person.warning:
        # one person twice is not a question of kinship
        tone = appearance.ONE_PERSON
        sentences = [
            "If so, the question of kinship has no answer. The chance that it is one person, and "
            f"not two relatives, is {rounded(answer.same_person.probability)}. If they are two "
            f"people all the same: {answer.band_in_words.lower()} ({rounded(answer.probability)})."
        ]
    if answer.unlike.in_words:
        sentences.append(answer.unlike.in_words)
    for truth in pairs.truth_of(pair):
        sentences.append(
            f"{truth} The model learnt from photographs, and takes drawn strangers for relatives "
            "more often than real ones."
        )
    line = appearance.gauge(answer.probability, answer.bands.unlikely, answer.bands.likely)
    appearance.show_answer(tone, answer.headline, sentences, answer.comparison.crops, line)


def meaning(answer: KinshipAnswer) -> str:
    """What the answer says and how often it is wrong, in plain words."""
    bands = answer.bands
    if answer.band == kinship.LIKELY:
        worth = f"But {of_100(bands.strangers_among_likely)} pairs with this answer are strangers."
    elif answer.band == kinship.UNLIKELY:
        worth = f"But {of_100(bands.kin_among_unlikely)} pairs with this answer are relatives."
    else:
        worth = f"For {of_100(bands.cannot_say)} pairs, one photo of each is not enough."
    return f"The probability is **{rounded(answer.probability)}**. {worth}"


def show_more(model: kinship.Kinship, answer: KinshipAnswer, pair: Pair) -> None:
    """Which parts of the faces carry the answer, what can be saved, and the numbers."""
    # this takes longer than the answer, which is shown already
    crops, landmarks = answer.comparison.crops, answer.comparison.landmarks
    with st.spinner("Which parts of the faces speak for it?"):
        regions = photos.once(
            "regions", pair.key, lambda: explanation.explain(model.encoder, crops, landmarks)
        )
    show_regions(answer, regions)
    st.markdown(
        "The number holds where relatives and strangers are as likely beforehand; of two people "
        "picked from a crowd, far fewer are related.\n\n"
        "It is no paternity test: faces resemble each other by chance, and relatives may look "
        "nothing alike. It must not be used to decide about anybody’s family, residence, "
        "inheritance or child."
    )
    # the whole answer, to keep
    told = [answer.headline, answer.verdict, *answer.explanation, regions.sentence]
    facts = answer.to_dict() | {"regions": regions.to_dict()}
    pairs.show_ways_on(told, facts, pair, "same_person", "the same person?")
    with st.expander("Numbers and technical terms", key="numbers of kinship"):
        show_numbers(answer, regions)


def show_regions(answer: KinshipAnswer, regions: Regions) -> None:
    """The two faces coloured by what each part carries."""
    title = "If they are two people: whose nose is it?"
    st.header(title if answer.same_person.warning else "Whose nose is it?", anchor=False)
    # the faces, and beside them what the colours mean
    left, right = st.columns([2, 3], gap="medium", vertical_alignment="center")
    # a colour for what the sentence names, and for nothing else
    pictures = plots.region_pictures(answer.comparison.crops, regions.without_doubtful)
    names = ["The first face, coloured", "The second face, coloured"]
    with left, st.container(horizontal=True, gap="small", key="coloured"):
        for picture, name in zip(pictures, names, strict=True):
            appearance.show_picture(images.to_jpeg(picture), name, width=140)
    with right:
        st.markdown(f"**{regions.in_words}**")
        st.markdown(
            "Each part was exchanged for that of people who do not exist, and the faces were "
            "compared again. **Orange** parts speak for kinship, **blue** ones against it; the "
            "stronger the colour, the more."
        )


def show_numbers(answer: KinshipAnswer, regions: Regions) -> None:
    """Probability, bands and error rates, and what each region carries as bars.

    Args:
        answer: of the model.
        regions: what each carries.
    """
    # side by side where there is room
    numbers = {
        "Probability of kinship": percent(answer.probability),
        "Strangers among the likely": percent(answer.bands.strangers_among_likely),
        "Kin among the unlikely": percent(answer.bands.kin_among_unlikely),
        "Pairs without an answer": percent(answer.bands.cannot_say),
    }
    for column, (label, value) in zip(st.columns(4), numbers.items(), strict=True):
        column.metric(label, value)
    for sentence in [answer.verdict, *answer.explanation]:
        st.markdown(sentence)
    told = "What each region carries: faces and bars"
    appearance.show_picture(bars(answer, regions), told, kind="png")
    st.caption(
        "Log-odds of kinship that each region carries; the lines are twice the standard error. "
        f"{answer.model}, version {answer.version}; {answer.seconds['total']:.1f} seconds."
    )


def bars(answer: KinshipAnswer, regions: Regions) -> bytes:
    """The regions in colour and as bars, as PNG.

    Args:
        answer: of the model.
        regions: what each carries.
    """
    figure = plots.regions(answer.comparison.crops, regions)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    plt.close(figure)  # or pyplot keeps the faces, for all sessions, as long as the server runs
    return buffer.getvalue()


page()
