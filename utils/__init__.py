"""The module that every lesson, the apps and the command line share.

Data flows upward; a room imports only from floors below its own (a test holds this):

======  ==========================================================================
floor   rooms
======  ==========================================================================
6       ``__main__``: the command line
5       ``kinship``, ``verification``: two photos in, an answer out; ``ablation``
4       ``training``, ``evaluation``, ``calibration``, ``explanation``, ``quality``,
        ``scenes``
3       ``audit``, ``synthetic``, ``embeddings``, ``pairs``, ``losses``, ``models``
2       ``backbones``, ``datasets``, ``detection``, ``eigenfaces``
1       ``images``, ``isolation``, ``metrics``, ``weights``, ``settings``
0       ``errors``, ``files``; ``exercises``: the check cells of the lessons
side    ``plots``: figures that more than one lesson draws
======  ==========================================================================

Importing ``utils`` takes no TensorFlow and next to no time: each room imports what it needs.
"""

__version__ = "0.1.0"
