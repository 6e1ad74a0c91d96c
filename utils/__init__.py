"""The module that every lesson, the apps and the command line share: a package for each topic.

A package imports only from those below it (a test holds this):

============  ===============================================================================
package       what it is about
============  ===============================================================================
commands      the command line: one file a topic, each verb beside the function that runs it
answers       photos in, an answer out: the same person? related? why? whole albums of people
training      networks, losses, how they are trained, and the files that keep them
scoring       metrics, reports with intervals over families, calibrated thresholds
data          families and their photos: real or synthetic, audited, paired, in folds
faces         faces in photos: found, aligned, embedded; encoders and their weights
ground        ``errors``, ``files``, ``settings``, ``images``, ``quiet``, ``surroundings``: they
              need no package
============  ===============================================================================

Beside these, ``plots`` and ``exercises`` serve the lessons. Importing ``utils`` takes no
TensorFlow and next to no time: each module imports what it needs.
"""

from . import quiet, surroundings

# what must be settled before another library is imported
quiet.install()
surroundings.settle_keras()
surroundings.watch_forks()

__version__ = "0.2.0"
