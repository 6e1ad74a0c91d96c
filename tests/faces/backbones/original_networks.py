"""The packages' own networks under Keras 2, in a process of their own: saved and run.

Usage: python original_networks.py FOLDER

FOLDER holds ``faces.npz`` (uint8 RGB crops by input size). For each network, ``NAME.h5`` (random
weights as Keras 2 writes them) and ``NAME.npy`` (its outputs on the crops) are written there.
"""

import gc
import os
import sys
import types
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # read when TensorFlow is imported

import numpy as np
import tf_keras

NETWORKS = {
    "facenet": 160,
    "facenet512": 160,
    "vggface-resnet50": 224,
    "vggface-senet50": 224,
    "vggface-vgg16": 224,
}


def pretend_old_keras():
    """Give the packages the modules that they import, as far as Keras 2 has lost them."""
    modules = {
        "keras": tf_keras,
        "keras.layers": tf_keras.layers,
        "keras.models": tf_keras.models,
        "keras.utils": tf_keras.utils,
        "keras.engine": types.ModuleType("keras.engine"),
        "keras.engine.topology": types.SimpleNamespace(
            get_source_inputs=tf_keras.utils.get_source_inputs
        ),
        "keras.utils.data_utils": types.SimpleNamespace(get_file=tf_keras.utils.get_file),
        "keras.utils.layer_utils": types.ModuleType("layer_utils"),
        "keras_applications": types.ModuleType("keras_applications"),
        "keras_applications.imagenet_utils": types.SimpleNamespace(
            _obtain_input_shape=lambda shape, **_: shape
        ),
        "cv2": types.ModuleType("cv2"),
    }
    tf_keras.utils.layer_utils = modules["keras.utils.layer_utils"]
    sys.modules.update(modules)


def original(name):
    """The network as its package builds it."""
    if name.startswith("facenet"):
        from keras_facenet.inception_resnet_v1 import InceptionResNetV1

        return InceptionResNetV1((160, 160, 3), classes=512 if name == "facenet512" else 128)
    from keras_vggface.vggface import VGGFace

    return VGGFace(
        model=name.partition("-")[2],
        include_top=False,
        weights=None,
        input_shape=(224, 224, 3),
        pooling="avg",
    )


def standardised(name, faces):
    """The packages' own preprocessing of uint8 RGB."""
    if name.startswith("facenet"):
        from keras_facenet import FaceNet

        fixed = types.SimpleNamespace(
            metadata={"fixed_image_standardization": name == "facenet512"}
        )
        return np.float32([FaceNet._normalize(fixed, face) for face in faces])
    from keras_vggface.utils import preprocess_input

    return preprocess_input(faces.astype(np.float64), version=1 if name.endswith("vgg16") else 2)


def randomise(model, seed):
    """Weights of which each matters: nothing is left at 0 or 1 as batch normalisation begins."""
    rng = np.random.default_rng(seed)
    tf_keras.utils.set_random_seed(seed)
    for weight in model.weights:
        kind = weight.name.rpartition("/")[2].partition(":")[0]
        if kind in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif kind in ("beta", "moving_mean", "bias"):
            weight.assign(rng.normal(0, 0.1, weight.shape))


def main(folder):
    gc.disable()  # networks are made of many objects, which are soon gone with the process
    faces = np.load(folder / "faces.npz")
    pretend_old_keras()
    for seed, (name, size) in enumerate(NETWORKS.items()):
        tf_keras.backend.clear_session()
        model = original(name)
        randomise(model, seed)
        model.save_weights(folder / f"{name}.h5")
        crops = np.float32(standardised(name, faces[str(size)]))
        np.save(folder / f"{name}.npy", model(crops, training=False))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
