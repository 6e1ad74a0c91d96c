"""Hundreds of malformed and hostile requests: each gets a sentence, and memory does not grow."""

import base64
import gc
import io
import itertools
import json
import os
import re
import struct
import zipfile
import zlib
from html import unescape

import numpy as np
import psutil
import pytest
from PIL import Image

from utils import images
from utils.data import scenes

FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"]
UPLOAD, KINSHIP, VERIFY = "/upload", "/api/v1/kinship", "/api/v1/verify"
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


NAMES = [
    "../../etc/passwd",
    "..\\..\\windows\\win.ini",
    "/etc/passwd",
    "C:\\a.jpg",
    "a\0.jpg",
    "a.jpg\r\nX-Evil: 1",
    "con",
    "a" * 5000,
    "." * 300,
    "",
    " ",
    "'; rm -rf /",
    "$(id).jpg",
    "`id`",
    "{{ 7*7 }}.jpg",
    "<img src=x onerror=alert(1)>",
    "%2e%2e%2f",
    "..%c0%af",
    "\u202egpj.exe",
    "🙂.jpg",
    "a/b/c.jpg",
    "file:///etc/passwd",
    "~/.ssh/id_rsa",
    "nul.jpg:x",
    "static/style.css",
    "templates/index.html",
    "photo.php",
    "photo.svg",
    "photo.html",
    "\\\\server\\share",
]
FACES = [
    "",
    "0",
    "-1",
    "7",
    "1.5",
    "nan",
    "inf,inf",
    "1e999,1",
    "1,2,3",
    ",",
    "0x1",
    "١",
    "9" * 5000,
    "a",
    "None",
    "[1]",
    "{}",
    "1;2",
    "-5000,-5000",
    "true",
]
VALUES = [
    None,
    True,
    0,
    -1,
    1.5,
    1e308,
    "",
    "a",
    "ä",
    "\ud800",
    [],
    [[]],
    {},
    {"a": 1},
    "data:",
    "data:,",
    "aGk=",
    "=" * 9,
    "A" * 100_001,
]


def multipart(body, boundary="x"):
    return {"data": body, "content_type": f"multipart/form-data; boundary={boundary}"}


def requests():
    """(name, path, arguments of the test client's ``open``) of every request."""

    def form(content, name="a.jpg", **fields):
        return {
            "data": {
                "file1": (io.BytesIO(content), name),
                "file2": (io.BytesIO(GREY), "b.jpg"),
                **fields,
            },
            "content_type": "multipart/form-data",
        }

    grey = base64.b64encode(GREY).decode()
    for source in (broken_photos, bombs, polyglots, odd_images):
        for name, content in source():
            yield name, UPLOAD, form(content)
    for name in NAMES:
        yield f"name {name[:20]!r}", UPLOAD, form(GREY, name)
    for face in FACES:
        yield f"face {face[:20]!r}", UPLOAD, form(GREY, face1=face)
        yield (
            f"kept face {face[:20]!r}",
            UPLOAD,
            {"data": {"kept1": grey, "kept2": grey, "kept_face2": face}},
        )
    for number, value in enumerate(VALUES):
        for path, field in (
            (KINSHIP, "file1"),
            (VERIFY, "face2"),
            (KINSHIP, "explain"),
            (VERIFY, "threshold"),
        ):
            fields = {"file1": grey, "file2": grey, field: value}
            yield (
                f"JSON {field} {number}",
                path,
                {"data": json.dumps(fields), "content_type": "application/json"},
            )
        yield (
            f"JSON {number}",
            KINSHIP,
            {"data": json.dumps(value), "content_type": "application/json"},
        )
        if isinstance(value, str) and value != "\ud800":
            yield f"kept {number}", UPLOAD, {"data": {"kept1": value, "kept2": grey}}
    for name, text in {
        "nothing": b"",
        "half": b'{"file1": "',
        "deep": b"[" * 100_000,
        "nines": b"9" * 5000,
        "NaN": b"NaN",
        "UTF-16": '{"file1": ""}'.encode("utf-16"),
        "no UTF-8": b'{"file1": "\xff"}',
        "twice": b'{"file1": "a", "file1": "b"}',
        "deep objects": b'{"a":' * 50_000,
    }.items():
        yield f"JSON of {name}", VERIFY, {"data": text, "content_type": "application/json"}
    part = b'--x\r\nContent-Disposition: form-data; name="file1"; filename="a"\r\n\r\n'
    for name, body in {
        "nothing": b"",
        "no end": part + GREY,
        "no part": b"--x--\r\n",
        "no header": b"--x\r\n\r\nhello\r\n--x--",
        "noise": os.urandom(3000),
        "no name": b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n",
        "a long header": b"--x\r\n" + b"a" * 200_000,
        "many parts": part * 500 + b"--x--",
        "file2 alone": part.replace(b"file1", b"file2") + b"a\r\n--x--",
        "file1 twice": part + b"a\r\n" + part + b"b\r\n--x--\r\n",
    }.items():
        for path in (UPLOAD, KINSHIP):
            yield f"multipart of {name} to {path}", path, multipart(body)
    yield (
        "multipart without a boundary",
        UPLOAD,
        {"data": part, "content_type": "multipart/form-data"},
    )
    yield "a boundary of quotes", UPLOAD, multipart(part, '"""')
    yield "an origin that is none", UPLOAD, {"headers": {"Origin": "http://["}}
    for name, text in {
        "point": b'"face1": [1%s, 1]',
        "face": b'"face1": 1%s',
        "threshold": b'"threshold": 1%s',
    }.items():
        fields = b'{"file1": "%s", "file2": "%s", %s}' % (
            grey.encode(),
            grey.encode(),
            text % (b"0" * 400),
        )
        yield (
            f"JSON of a long {name}",
            VERIFY,
            {"data": fields, "content_type": "application/json"},
        )
    yield "too much", UPLOAD, form(bytes(21 * 2**20))
    for kind in (
        "text/plain",
        "application/xml",
        "image/jpeg",
        "application/octet-stream",
        "",
        "a/b/c",
        "application/json; x",
    ):
        yield f"body of {kind!r}", KINSHIP, {"data": GREY, "content_type": kind}
        yield f"body of {kind!r} to the page", UPLOAD, {"data": GREY, "content_type": kind}
    for method in ("PUT", "DELETE", "PATCH", "GET", "TRACE"):
        yield f"{method} to the API", VERIFY, {"method": method}
    for path in (
        "/../../etc/passwd",
        "/static/../service.py",
        "/static/%2e%2e/service.py",
        "/uploads/a.jpg",
        "/static/..%2f..%2fREADME.md",
        "/example/../..",
        "/example/%00",
        "/console",
        "/.git/config",
        "/api/v1/",
        "/api/v2/kinship",
    ):
        yield f"path {path}", path, {"method": "GET"}


def sentence_of(response):
    """What an answer says is wrong; of a whole answer, its verdict."""
    if response.mimetype in ("application/json", "application/problem+json"):
        return response.json.get("detail") or response.json.get("verdict")
    pattern = r'role="alert">(.*?)</p>|class="meaning">(.*?)</p>'
    match = re.search(pattern, response.text, re.DOTALL)
    return unescape(match[1] or match[2])


def is_told_in_a_sentence(response):
    """Whether a request was answered or refused in words, with nothing of the inside."""
    inside = r"Traceback|File \"|\.py\b|site-packages|<script>alert"
    if response.status_code >= 500 or re.search(inside, response.text):
        return False
    sentence = sentence_of(response) if response.status_code != 302 else "Elsewhere."
    return bool(sentence) and sentence.endswith(".") and len(sentence) <= 300


def memory():
    """Bytes that this process and its decoders hold."""
    gc.collect()
    process = psutil.Process()
    processes = (process, *process.children(recursive=True))
    return sum(process.memory_info().rss for process in processes)


@pytest.fixture(scope="module")
def client(make_app):
    return make_app(DECODE_SECONDS=2).test_client()


def test_hostile_requests_are_answered_with_a_sentence_and_leave_no_memory_behind(
    client, post, photos
):
    def send(path, arguments):
        return client.open(path, **{"method": "POST", **arguments})

    # what is compiled at the first use, and what every kind of search allocates once
    assert post(client, photos["wall"], photos["same1"]).status_code == 200
    for _, path, arguments in itertools.islice(requests(), 60):
        send(path, arguments)

    before, count, odd = memory(), 0, {}
    for name, path, arguments in requests():
        response, count = send(path, arguments), count + 1
        if not is_told_in_a_sentence(response):
            odd[name] = (response.status_code, response.text[:500])
    grown = memory() - before
    assert not odd
    assert count == 445 and grown < 100e6
    assert post(client, photos["wall"], photos["same1"]).status_code == 200


def test_work_without_end_is_cut_off(client, post, alert):
    page = post(client, many_scans(40_000), GREY)
    assert page.status_code == 422
    sentence = "The first photo took more than 2 seconds to decode; save it anew as a plain JPEG."
    assert alert(page) == sentence
