"""The real networks on synthetic people, drawn into pictures: once, as they take seconds."""

import numpy as np

from utils import images
from utils.answers.album.album import Album
from utils.data import eigenfaces, scenes, synthetic


def test_people_in_pictures_are_found_and_grouped(tmp_path):
    rng = np.random.default_rng(3)
    model = eigenfaces.load()
    family = synthetic.make_family("F0001", len(model.components), 1, False, rng)
    two = [person.coefficients for person in family[:2]]
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        shots = synthetic.take_photograph(two, rng)
        hung = [scenes.Portrait(x, 180, 170, 0.0) for x in (160, 480)]
        wall = scenes.hang(synthetic.develop(shots, model), hung, 640, 360)
        (folder / f"{number}.jpg").write_bytes(images.to_jpeg(wall))
    album = Album.of(folder, tmp_path / "album", progress=False)
    assert (album.photos, album.searched, album.problems) == (3, 3, [])
    # two people, the one on the left and the one on the right of each picture
    assert [len(person.faces) for person in album.people] == [3, 3]
    for person in album.people:
        sides = {face.box[0] > 300 for face in person.faces}
        assert len(sides) == 1 and len({face.photo for face in person.faces}) == 3
