"""What a user can cause. Every message says what was wrong, with which file, and what to do."""

import sys
import types
import warnings


class CourseError(Exception):
    """Base of every named error: the command line prints its sentence and exits with status 2."""


class ImageError(CourseError):
    """A photo that cannot be used: missing, empty, broken, too small, too large, not an image."""


class FaceError(CourseError):
    """A photo in which no usable face was found."""


class WeightsError(CourseError):
    """A weights file that is missing, truncated, altered or meant for another network."""


class DatasetError(CourseError):
    """A folder or archive that is not laid out as the competition's data."""


class ProtocolError(CourseError):
    """A file of evaluation pairs with wrong columns or values, or photos that are not there."""


class BackboneError(CourseError):
    """An unknown backbone, or a batch of faces that it cannot take."""


class ModelError(CourseError):
    """A saved model that cannot be read, or that was trained on another backbone."""


class CalibrationError(CourseError):
    """A threshold that does not exist, or a backbone whose distances were never calibrated."""


class SubmissionError(CourseError):
    """Scores that cannot be written as a Kaggle submission."""


class OutputError(CourseError):
    """An output that cannot be written: a full disk behind ``>``, a device that failed."""


class StorageError(CourseError):
    """A file that the machine does not let us read or write, whatever its content."""


class NoRoomError(StorageError):
    """A disk, or a user's share of it, without room for what must be written."""


class BusyError(CourseError):
    """Something that another program is writing at this moment."""


class TrainingError(CourseError):
    """A training that came to nothing, because its loss was not a number."""


class AlbumError(CourseError):
    """A folder that is no album, or corrections of one that contradict each other."""


class WorkerError(CourseError):
    """Work that several programs share, and one of them has stopped or does not fit."""


class SurroundingsError(CourseError):
    """What lies around the course keeps it from working, as another backend of Keras."""


class OptionsError(CourseError):
    """Options of a command that do not go together."""


class GalleryError(CourseError):
    """A gallery that is missing, half written or of another encoder, or without a face."""


class CourseWarning(UserWarning):
    """What was left out or passed over while the work goes on, in one sentence."""


def warn(sentence: str) -> None:
    """Give a CourseWarning that names the line from which this package was called."""
    # 2 is the line that calls this function
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_of_course(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(sentence, CourseWarning, stacklevel=level)


def _is_of_course(frame: types.FrameType) -> bool:
    """Whether a line of this package is running in a frame."""
    return str(frame.f_globals.get("__name__")).startswith(f"{__package__}.")
