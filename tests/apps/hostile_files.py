"""Makers of hostile and broken files, for whatever takes files from strangers."""

import io
import os
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image

from utils import images
from utils.data import scenes

FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"]
GREY = images.to_jpeg(np.full((60, 80, 3), 128, np.uint8))


def encoded(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width, height, *chunks):
    """A PNG of this header, with any chunks after it."""
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in (header, *chunks, (b"IEND", b""))
    )


def many_scans(count):
    """A progressive JPEG whose last scan is repeated: few bytes, long work (a known attack)."""
    plain = encoded(Image.new("L", (4800, 4800), 128), "JPEG", progressive=True)
    last = plain.rindex(b"\xff\xda")
    return plain[:last] + plain[last:-2] * count + plain[-2:]


def broken_photos():
    """Name to bytes: photos cut short, with bits turned, or only the beginning of one."""
    rng = np.random.default_rng(0)
    face = Image.fromarray(scenes.two_photos("same", 3)[0])
    for kind in FORMATS:
        whole = encoded(face, kind)
        for share in (0.0005, 0.01, 0.1, 0.5, 0.9, 0.999):
            yield f"{kind} cut at {share}", whole[: max(1, int(share * len(whole)))]
        for number in range(6):
            turned = np.frombuffer(whole, np.uint8).copy()
            places = rng.integers(0, len(turned) if number % 2 else 200, 20)
            turned[places] ^= rng.integers(1, 256, 20, dtype=np.uint8)
            yield f"{kind} turned {number}", turned.tobytes()
    starts = {
        "JPEG": b"\xff\xd8\xff\xe0",
        "PNG": b"\x89PNG\r\n\x1a\n",
        "GIF": b"GIF89a",
        "BMP": b"BM",
        "TIFF": b"II*\0",
        "big TIFF": b"MM\0+",
        "WebP": b"RIFF\xff\xff\xff\xffWEBPVP8L",
        "HEIC": b"\0\0\0 ftypheic",
        "PDF": b"%PDF-1.7",
        "ZIP": b"PK\3\4",
        "EXE": b"MZ\x90",
        "ELF": b"\x7fELF",
        "EPS": b"%!PS-Adobe-3.0 EPSF",
        "PPM": b"P6 9 9 255\n",
        "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n",
        "icon": b"\0\0\1\0",
        "PSD": b"8BPS",
        "nothing": b"",
        "gzip": b"\x1f\x8b",
        "zeros": bytes(9),
    }
    for name, start in starts.items():
        for size in (0, 40, 5000):
            yield f"{name} and {size} random bytes", start + rng.bytes(size)
    for name, text in {
        "SVG": "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        "HTML": "<script>alert(1)</script>",
        "PHP": "<?php system('id'); ?>",
        "XML": "<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>",
        "template": "{{ 7 * 7 }}",
        "format": "%s%n%x",
        "SQL": "'; DROP TABLE photos; --",
        "shell": "#!/bin/sh\nid",
        "emoji": "🙂" * 100,
    }.items():
        yield name, text.encode()


def bombs():
    """Name to bytes: small files that ask for much memory or time."""
    yield "PNG of 2.5 gigapixels", png(50_000, 50_000, (b"IDAT", zlib.compress(bytes(1000))))
    yield (
        "PNG of 30 megapixels",
        png(6000, 5000, (b"IDAT", zlib.compress(bytes(5000 * 18_001)))),
    )
    yield "PNG of no size", png(0, 0)
    yield "PNG of the largest size", png(2**31 - 1, 2**31 - 1)
    yield "PNG of text", png(60, 60, (b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000))))
    yield "PNG of a profile", png(60, 60, (b"iCCP", b"a\0\0" + zlib.compress(bytes(50_000_000))))
    yield "PNG of 24 megapixels", encoded(Image.new("RGB", (6000, 4000), "white"), "PNG")
    yield "PNG of one long line", encoded(Image.new("L", (1_000_000, 20), 9), "PNG")
    yield "JPEG of many scans", many_scans(4000)
    yield (
        "JPEG of 65500 pixels a side",
        (b"\xff\xd8\xff\xc0\0\x11\x08\xff\xdc\xff\xdc\3\1\x11\0\2\x11\1\3\x11\1" + bytes(500)),
    )
    yield "GIF of 4 gigapixels", b"GIF89a\xff\xff\xff\xff\x80\0\0" + bytes(500)
    yield (
        "GIF of many frames",
        encoded(
            Image.new("P", (30, 30)),
            "GIF",
            save_all=True,
            append_images=[Image.new("P", (30, 30), n % 256) for n in range(500)],
        ),
    )
    header = (99, 0, 0, 54, 40, 65_000, 65_000, 1, 24, 0, 0, 0, 0, 0, 0)
    yield "BMP of 4 gigapixels", b"BM" + struct.pack("<IHHIIiiHHIIiiII", *header)
    yield (
        "TIFF of deflated zeros",
        encoded(Image.new("L", (4900, 4900)), "TIFF", compression="tiff_deflate"),
    )
    yield "TIFF whose directory is its own next", struct.pack("<2sHIHI", b"II", 42, 8, 0, 8)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jpg", bytes(50_000_000))
    yield "ZIP of zeros", buffer.getvalue()


def polyglots():
    """Name to bytes: images that are something else as well."""
    for kind in ("JPEG", "PNG", "GIF"):
        whole = encoded(Image.new("RGB", (80, 60), (128, 128, 128)), kind)
        for name, tail in {
            "HTML": b"<script>alert(1)</script>",
            "PHP": b"<?php system('id'); ?>",
            "JavaScript": b"*/=1;alert(1)//",
            "ZIP": b"PK\5\6" + bytes(18),
        }.items():
            yield f"{kind} and {name}", whole + tail
    yield "GIF that is JavaScript", b"GIF89a/*" + bytes(60) + b"*/=1;alert(1)"
    script = b"<script>alert(1)</script>"
    comment = b"\xff\xfe" + struct.pack(">H", len(script) + 2) + script
    yield "JPEG with a script in it", GREY[:2] + comment + GREY[2:]


def odd_images():
    """Name to bytes: images of every mode, size and orientation."""
    for mode in ("1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "LAB", "I", "I;16", "F"):
        yield f"mode {mode}", encoded(Image.new(mode, (80, 60)), "TIFF")
    for size in ((1, 1), (1, 5000), (5000, 1), (19, 19), (20, 20), (20, 3000)):
        yield f"size {size}", encoded(Image.new("RGB", size), "PNG")
    for orientation in (0, 3, 6, 9, 65535):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield f"orientation {orientation}", encoded(Image.new("RGB", (80, 60)), "JPEG", exif=exif)
    yield (
        "EXIF of nonsense",
        encoded(Image.new("RGB", (80, 60)), "JPEG", exif=b"Exif\0\0" + os.urandom(200)),
    )


def all_files():
    """(name, bytes) of every file."""
    for source in (broken_photos, bombs, polyglots, odd_images):
        yield from source()
