"""Images as odd as people hand them over: each gives exactly its faces, or one sentence."""

import functools
import hashlib
import io
import json
import re
import struct
import zipfile
import zlib

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageFilter

from utils import images
from utils.data import scenes
from utils.errors import ImageError
from utils.faces import detection

GREY = 127
NO_IMAGE = r"the photo is not an image that can be read; use JPEG or PNG\."
DAMAGED = r"the photo is truncated or damaged; copy or download it again\."
KIND = r"the photo is {}, which cannot be read; save it as JPEG\."
AGAIN = r"the photo is {}, which cannot be read; copy or download it again, or save it as JPEG\."
FROM_IT = r"the photo is {}, which cannot be read; save a picture from it as JPEG\."
ARCHIVE = r"the photo is an archive, which cannot be read; unpack it first\."
RAW = (
    r"the photo is a raw file of a camera, of which only a small copy can be read; save it as "
    r"JPEG\."
)
TOO_LARGE = r"the photo has (too many|\d+×\d+) pixels; the limit is 64 million\. Save it smaller\."
DEEP = (
    r"the photo has 32 bits a channel, and nobody knows which value is white; save it as JPEG or "
    r"PNG\."
)
TOO_SMALL = r"the photo has {}×{} pixels; at least 20 each way are needed to show a face\."


# --- pictures -----------------------------------------------------------------------------------


@functools.cache
def face(side=160):
    """A synthetic face and nothing else."""
    return np.asarray(
        Image.fromarray(scenes.two_photos()[0]).resize((side, side), Image.Resampling.BICUBIC)
    )


def portrait(side=160, left=70, right=50, top=60, bottom=40):
    """A face with room around it: 260×280 pixels, no symmetry. Negative room cuts the face."""
    room = [max(0, pixels) for pixels in (top, bottom, left, right)]
    whole = np.pad(face(side), (room[:2], room[2:], (0, 0)), mode="edge")
    cut = [max(0, -pixels) for pixels in (top, bottom, left, right)]
    return np.ascontiguousarray(
        whole[cut[0] : len(whole) - cut[1], cut[2] : whole.shape[1] - cut[3]]
    )


def inside(width, height, side):
    """A face of this size somewhere on grey."""
    picture = np.full((height, width, 3), GREY, np.uint8)
    picture[height // 3 : height // 3 + side, width // 4 : width // 4 + side] = face(side)
    return picture


def picture(array=None):
    """An array, by default the portrait, as Pillow has it."""
    return Image.fromarray(portrait() if array is None else array)


def with_alpha(mode="RGBA"):
    """The portrait, more transparent towards the top."""
    image = picture().convert(mode)
    image.putalpha(
        Image.linear_gradient("L").resize(image.size).point(lambda level: max(level, 180))
    )
    return image


def landscape():
    """Sky over grass, with a sun."""
    y, x = np.mgrid[:240, :320]
    sky = np.stack([90 + y / 3, 140 + y / 3, 220 + 0 * y], axis=-1)
    grass = np.stack([60 + 0 * y, 150 - y / 4, 50 + 0 * y], axis=-1)
    scene = np.where((y < 140)[..., None], sky, grass)
    scene[np.hypot(x - 250, y - 50) < 22] = (255, 240, 150)
    return scene.astype(np.uint8)


def noise():
    """Every pixel by chance."""
    return np.random.default_rng(0).integers(0, 256, (200, 240, 3), dtype=np.uint8)


# --- files --------------------------------------------------------------------------------------


def encode(image=None, fmt="PNG", **options):
    image = image if isinstance(image, Image.Image) else picture(image)
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def jpeg(image=None, **options):
    return encode(image, "JPEG", **{"quality": 92, **options})


def turned(orientation, fmt="JPEG"):
    """A file that says how its camera was held; turned back, the face is upright."""
    back = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(np.ascontiguousarray(back(portrait())), fmt, exif=exif)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, rows=b"", before=b""):
    """A PNG chunk by chunk; ``rows`` each begin with their filter."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + before
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def rows_of(array):
    """Pixels as PNG stores them, unfiltered."""
    return b"".join(b"\0" + row.tobytes() for row in array)


def deep():
    """The portrait with 16 bits a channel, the high byte first."""
    return (portrait().astype(np.uint16) * 257).astype(">u2")


def heic_of_ten_bits():
    """A photo as cameras write it that have more than 8 bits."""
    buffer, size = io.BytesIO(), portrait().shape[1::-1]
    levels = (portrait().astype(np.uint16) << 8).tobytes()
    pillow_heif.encode("RGB;16", size, levels, buffer)
    return buffer.getvalue()


def heic_that_claims(width, height):
    """A photo of 280×260 pixels whose header says something else."""
    content = encode(None, "HEIF")
    start = content.index(b"ispe") + 8
    return content[:start] + struct.pack(">II", width, height) + content[start + 8 :]


def png_of_64_bits(alpha):
    """What Pillow does not write: 16 bits of red, green, blue and alpha."""
    height, width, _ = portrait().shape
    return png(
        width,
        height,
        16,
        6,
        rows_of(np.dstack([deep(), np.full((height, width), alpha)]).astype(">u2")),
    )


def png_with_text_of_many_megabytes():
    """A small file whose comment unpacks to what would fill the memory of a small server."""
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50 * 2**20), 1))
    return png(280, 260, 8, 2, rows_of(portrait()), text)


def png_with_a_wrong_checksum():
    """One byte of its pixels is another."""
    content = bytearray(encode())
    place = content.index(b"IDAT")
    content[place + 40] ^= 255
    return bytes(content)


def animation(fmt):
    """The portrait, then black."""
    others = [picture(np.zeros_like(portrait()))] * 2
    return encode(None, fmt, save_all=True, append_images=others, duration=100)


def archive():
    """A zip file with a photo in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.jpg", jpeg())
    return buffer.getvalue()


def cut_off(content, share):
    return content[: int(len(content) * share)]


def container(brand):
    """The first bytes of a phone's photo or of a video."""
    return struct.pack(">I", 24) + b"ftyp" + brand + bytes(4) + b"mif1" + brand + bytes(2000)


def blurred(radius):
    """The portrait out of focus."""
    return picture().filter(ImageFilter.GaussianBlur(radius))


def rotated(angle):
    """The portrait turned against the clock, by degrees."""
    return np.asarray(
        Image.fromarray(np.pad(portrait(), ((60, 60), (60, 60), (0, 0)), mode="edge")).rotate(
            angle, Image.Resampling.BICUBIC, fillcolor=(GREY,) * 3
        )
    )


def levels(function):
    """The portrait with each level of grey mapped to another."""
    return picture().point(lambda level: int(function(level)))


# Name: what comes of it (a number of faces, or the sentence of an ImageError), and the file.
ODD = {
    **{
        f"turned phone, EXIF orientation {number}": (1, lambda number=number: turned(number))
        for number in range(1, 9)
    },
    **{
        f"turned phone, {fmt}": (1, lambda fmt=fmt: turned(6, fmt))
        for fmt in ("PNG", "WEBP", "TIFF")
    },
    "EXIF orientation 0, which there is not": (
        1,
        lambda: jpeg(exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\0\0\0\0\0\0\0"),
    ),
    "EXIF of garbage": (1, lambda: jpeg(exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05garbage")),
    "colour profile of garbage": (1, lambda: jpeg(icc_profile=b"no profile" * 30)),
    # channels and depths
    "transparent PNG": (1, lambda: encode(with_alpha())),
    "wholly transparent PNG": (0, lambda: encode(Image.new("RGBA", (200, 200), (90, 60, 50, 0)))),
    "palette PNG": (1, lambda: encode(picture().quantize(64))),
    "palette PNG with a transparent colour": (
        1,
        lambda: encode(picture().quantize(64), transparency=3),
    ),
    "palette GIF": (1, lambda: encode(None, "GIF")),
    "grey PNG": (1, lambda: encode(picture().convert("L"))),
    "grey PNG with transparency": (1, lambda: encode(with_alpha("LA"))),
    "grey JPEG": (1, lambda: jpeg(picture().convert("L"))),
    "one bit a pixel": (1, lambda: encode(picture().resize((2080, 2240)).convert("1"))),
    "16-bit grey PNG": (
        1,
        lambda: encode(Image.fromarray(portrait()[..., 1].astype(np.uint16) * 257)),
    ),
    "16-bit colour PNG": (1, lambda: png(280, 260, 16, 2, rows_of(deep()))),
    "16-bit PNG with transparency": (1, lambda: png_of_64_bits(60_000)),
    "16-bit PNG, wholly transparent": (0, lambda: png_of_64_bits(0)),
    "16-bit grey PNG with a transparent colour": (
        1,
        lambda: png(
            280, 260, 16, 0, rows_of(deep()[..., 1]), chunk(b"tRNS", struct.pack(">H", 3))
        ),
    ),
    "16-bit PPM": (1, lambda: b"P6 280 260 65535\n" + deep().tobytes()),
    "10-bit PGM": (
        1,
        lambda: b"P5 280 260 1023\n" + (deep()[..., 1] >> 6).astype(">u2").tobytes(),
    ),
    "16-bit TIFF": (
        1,
        lambda: encode(Image.fromarray(portrait()[..., 1].astype(np.uint16) * 257), "TIFF"),
    ),
    "float TIFF of 0 to 255": (
        DEEP,
        lambda: encode(Image.fromarray(np.float32(portrait()[..., 1])), "TIFF"),
    ),
    "float TIFF of 0 to 1": (
        DEEP,
        lambda: encode(Image.fromarray(np.float32(portrait()[..., 1] / 255)), "TIFF"),
    ),
    "32-bit TIFF": (
        DEEP,
        lambda: encode(Image.fromarray(portrait()[..., 1].astype(np.int32)), "TIFF"),
    ),
    "CMYK JPEG": (1, lambda: jpeg(picture().convert("CMYK"))),
    "CMYK TIFF": (1, lambda: encode(picture().convert("CMYK"), "TIFF")),
    "Lab TIFF": (1, lambda: encode(picture().convert("LAB"), "TIFF")),
    # formats
    "progressive JPEG": (1, lambda: jpeg(progressive=True)),
    "JPEG of the worst quality": (1, lambda: jpeg(quality=1)),
    "JPEG of two pictures in one": (
        1,
        lambda: encode(None, "MPO", save_all=True, append_images=[picture()]),
    ),
    "WebP": (1, lambda: encode(None, "WEBP")),
    "AVIF": (1, lambda: encode(None, "AVIF")),
    "AVIF with transparency": (1, lambda: encode(with_alpha(), "AVIF")),
    "lossless WebP with transparency": (1, lambda: encode(with_alpha(), "WEBP", lossless=True)),
    "HEIC": (1, lambda: encode(None, "HEIF")),
    "HEIC in tiles, as phones write it": (1, lambda: encode(None, "HEIF", tile_size=64)),
    "HEIC with transparency": (1, lambda: encode(with_alpha(), "HEIF")),
    "HEIC of 10 bits": (1, heic_of_ten_bits),
    "BMP": (1, lambda: encode(None, "BMP")),
    "PPM": (1, lambda: encode(None, "PPM")),
    "PPM of decimal numbers": (
        1,
        lambda: b"P3 280 260 255\n" + " ".join(map(str, portrait().ravel())).encode(),
    ),
    "PGM": (1, lambda: encode(picture().convert("L"), "PPM")),
    "TIFF packed with LZW": (1, lambda: encode(None, "TIFF", compression="tiff_lzw")),
    "TIFF packed with JPEG": (1, lambda: encode(None, "TIFF", compression="jpeg")),
    "TIFF of two pages": (
        1,
        lambda: encode(None, "TIFF", save_all=True, append_images=[picture(noise())]),
    ),
    "animated GIF": (1, lambda: animation("GIF")),
    "animated PNG": (1, lambda: animation("PNG")),
    "animated AVIF": (1, lambda: animation("AVIF")),
    "animated WebP": (1, lambda: animation("WEBP")),
    "JPEG with an archive behind it": (1, lambda: jpeg() + archive()),
    "PNG with text behind it": (1, lambda: encode() + b"and so on"),
    "PNG with 50 MB of packed text": (NO_IMAGE, png_with_text_of_many_megabytes),
    # sizes
    "PNG that claims 50,000×50,000": (TOO_LARGE, lambda: png(50_000, 50_000, 8, 2)),
    "PPM that claims 90,000×90,000": (TOO_LARGE, lambda: b"P6 90000 90000 255\n" + bytes(100)),
    "GIF that claims 65,535×65,535": (
        TOO_LARGE,
        lambda: struct.pack(
            "<6sHH3xB4xHHxBB2s2x", b"GIF89a", 65535, 65535, 0x2C, 65535, 65535, 2, 2, b"\x4c\1"
        ),
    ),
    "PNG of no width": (NO_IMAGE, lambda: png(0, 50, 8, 2)),
    "24 million white pixels": (0, lambda: encode(Image.new("1", (6000, 4000), 1))),
    "65 million white pixels": (TOO_LARGE, lambda: encode(Image.new("1", (8125, 8000), 1))),
    "strip of 4000×30": (0, lambda: encode(np.full((30, 4000, 3), GREY, np.uint8))),
    "strip of 25×4000": (0, lambda: encode(np.full((4000, 25, 3), GREY, np.uint8))),
    "one pixel": (TOO_SMALL.format(1, 1), lambda: encode(Image.new("RGB", (1, 1)))),
    "19 pixels high": (TOO_SMALL.format(400, 19), lambda: encode(Image.new("RGB", (400, 19)))),
    "20 grey pixels": (0, lambda: encode(Image.new("RGB", (20, 20), (GREY,) * 3))),
    "face of 20 pixels and nothing else": (0, lambda: encode(face(20))),
    "face of 32 pixels and nothing else": (1, lambda: encode(face(32))),
    # no image
    "empty": (r"the photo is empty; copy or download it again\.", lambda: b""),
    "one byte": (NO_IMAGE, lambda: b"\xff"),
    "text": (NO_IMAGE, lambda: b"Dear Sir or Madam, please find my photo enclosed."),
    "web page": (NO_IMAGE, lambda: b"<!DOCTYPE html><html><body>404 Not Found</body></html>"),
    "drawing, SVG": (
        NO_IMAGE,
        lambda: b"<svg xmlns='http://www.w3.org/2000/svg' width='90' height='90'/>",
    ),
    "JSON": (NO_IMAGE, lambda: json.dumps({"photo": "a.jpg"}).encode()),
    "PDF": (FROM_IT.format("a PDF"), lambda: encode(None, "PDF")),
    "PostScript": (NO_IMAGE, lambda: encode(None, "EPS")),
    "icon": (NO_IMAGE, lambda: encode(None, "ICO")),
    "Targa": (NO_IMAGE, lambda: encode(None, "TGA")),
    "archive with a photo in it": (ARCHIVE, archive),
    "7z": (ARCHIVE, lambda: b"7z\xbc\xaf\x27\x1c" + bytes(200)),
    "program": (NO_IMAGE, lambda: b"\x7fELF\2\1\1" + bytes(200)),
    "random bytes": (NO_IMAGE, lambda: np.random.default_rng(1).bytes(5000)),
    "HEIC without a picture": (AGAIN.format("a HEIC photo"), lambda: container(b"heic")),
    "HEIC of another phone": (AGAIN.format("a HEIC photo"), lambda: container(b"mif1")),
    "AVIF without a picture": (AGAIN.format("an AVIF photo"), lambda: container(b"avif")),
    "JPEG XL": (KIND.format("a JPEG XL photo"), lambda: b"\xff\x0a" + bytes(500)),
    "JPEG XL in a container": (
        KIND.format("a JPEG XL photo"),
        lambda: b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(500),
    ),
    "JPEG 2000": (KIND.format("a JPEG 2000 photo"), lambda: encode(None, "JPEG2000")),
    "Photoshop": (KIND.format("a file of Photoshop"), lambda: b"8BPS\0\1" + bytes(500)),
    "raw of a camera": (KIND.format("a raw file of a camera"), lambda: container(b"crx ")),
    "raw of a camera, TIFF": (RAW, lambda: encode(None, "TIFF", tiffinfo={254: 1})),
    "DNG": (RAW, lambda: encode(None, "TIFF", tiffinfo={50706: b"\1\4\0\0"})),
    "video": (FROM_IT.format("a video"), lambda: container(b"mp42")),
    "video of the web": (FROM_IT.format("a video"), lambda: b"\x1aE\xdf\xa3" + bytes(200)),
    "old video": (FROM_IT.format("a video"), lambda: b"RIFF\0\1\0\0AVI LIST" + bytes(200)),
    # damage
    "JPEG cut off in its header": (NO_IMAGE, lambda: jpeg()[:20]),
    **{
        f"JPEG cut off at {share:.0%}": (DAMAGED, lambda share=share: cut_off(jpeg(), share))
        for share in (0.2, 0.5, 0.9)
    },
    **{
        f"PNG cut off at {share:.0%}": (DAMAGED, lambda share=share: cut_off(encode(), share))
        for share in (0.1, 0.5, 0.99)
    },
    "AVIF cut off at 50%": (
        "|".join([DAMAGED, AGAIN.format("an AVIF photo")]),
        lambda: cut_off(encode(None, "AVIF"), 0.5),
    ),
    "HEIC cut off at 50%": (DAMAGED, lambda: cut_off(encode(None, "HEIF"), 0.5)),
    "HEIC cut off in its header": (
        AGAIN.format("a HEIC photo"),
        lambda: cut_off(encode(None, "HEIF"), 0.05),
    ),
    "HEIC that claims 10,000×10,000": (TOO_LARGE, lambda: heic_that_claims(10_000, 10_000)),
    "HEIC that claims 60,000×60,000": (TOO_LARGE, lambda: heic_that_claims(60_000, 60_000)),
    "HEIC with more pixels than it claims": (DAMAGED, lambda: heic_that_claims(40, 30)),
    "HEIC with fewer pixels than it claims": (DAMAGED, lambda: heic_that_claims(4000, 3000)),
    "WebP cut off at 50%": (NO_IMAGE, lambda: cut_off(encode(None, "WEBP"), 0.5)),
    "TIFF cut off at 50%": (DAMAGED, lambda: cut_off(encode(None, "TIFF"), 0.5)),
    "GIF cut off at 50%": (DAMAGED, lambda: cut_off(encode(None, "GIF"), 0.5)),
    "BMP cut off at 50%": (DAMAGED, lambda: cut_off(encode(None, "BMP"), 0.5)),
    "PNG without pixels": (DAMAGED, lambda: png(280, 260, 8, 2)),
    "PNG with a wrong checksum": (DAMAGED, png_with_a_wrong_checksum),
    "JPEG with a word before it": (NO_IMAGE, lambda: b"photo " + jpeg()),
    # no face
    "noise": (0, lambda: encode(noise())),
    "black": (0, lambda: jpeg(np.zeros((200, 300, 3), np.uint8))),
    "white": (0, lambda: jpeg(np.full((300, 200, 3), 255, np.uint8))),
    "landscape": (0, lambda: jpeg(landscape())),
    # faces that are hard to see
    "six portraits on a wall": (6, lambda: jpeg(scenes.family_wall(6, 1, 640, 360)[0])),
    "the same face twice": (2, lambda: jpeg(np.hstack([portrait()] * 2))),
    "face that fills the picture": (1, lambda: jpeg(face(224))),
    "face cut by the left border": (1, lambda: jpeg(portrait(left=-30))),
    "face cut by the right border": (1, lambda: jpeg(portrait(right=-30))),
    "face cut by the upper border": (1, lambda: jpeg(portrait(top=-25))),
    "face cut by the lower border": (1, lambda: jpeg(portrait(bottom=-20))),
    "half a face": (0, lambda: jpeg(portrait(left=-80))),
    "face upside down": (0, lambda: jpeg(rotated(180))),
    "face lying on its side": (0, lambda: jpeg(rotated(90))),
    "face turned by 45 degrees": (1, lambda: jpeg(rotated(45))),
    "face turned by 20 degrees": (1, lambda: jpeg(rotated(20))),
    "face in the dark": (1, lambda: encode(levels(lambda level: level * 0.12))),
    "face in too much light": (1, lambda: encode(levels(lambda level: min(255, 130 + level)))),
    "face of next to no contrast": (0, lambda: encode(levels(lambda level: 120 + level * 0.1))),
    "negative": (0, lambda: encode(levels(lambda level: 255 - level))),
    "face out of focus": (1, lambda: jpeg(blurred(6))),
    "face lost in blur": (0, lambda: jpeg(blurred(40))),
    "face of 40 pixels": (1, lambda: encode(inside(300, 240, 40))),
    "face of 6 pixels": (0, lambda: encode(inside(300, 240, 6))),
    "face of 500 pixels in 4000": (1, lambda: jpeg(inside(4000, 1600, 500))),
    "face of 20 pixels in 4000": (0, lambda: jpeg(inside(4000, 1000, 20))),
}


@pytest.fixture(scope="module")
def faces_in():
    """What is found in a photo; many odd files hold the same pixels, which are searched once."""
    searched = {}

    def faces_in(photo):
        key = photo.shape, hashlib.sha256(photo).digest()
        if key not in searched:
            searched[key] = detection.detect(photo)
        return searched[key]

    return faces_in


@pytest.mark.parametrize("name", ODD)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's own remarks on damaged EXIF
def test_odd_image_gives_its_faces_or_one_sentence(faces_in, name):
    expected, make = ODD[name]
    content = make()
    if isinstance(expected, str):
        with pytest.raises(ImageError) as caught:
            images.read(content)
        assert re.fullmatch(expected, str(caught.value))
        return
    photo = images.read(content)
    faces = faces_in(photo)
    assert len(faces) == expected
    for face in faces:
        x, y, width, height = face.box
        assert 0 <= x < x + width <= photo.shape[1] and 0 <= y < y + height <= photo.shape[0]
        assert np.isfinite(face.landmarks).all() and 0 <= face.confidence <= 1
