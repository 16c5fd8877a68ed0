"""A text, and 32 bytes as keys are, in every form in which they may lie somewhere, made by Python's own library.

The text on the command line has NN where the number of the form goes; the bytes are made of it. The search for such forms is written in another
language and shares nothing with this.
"""

import base64
import gzip
import hashlib
import html
import json
import quopri
import sys
import urllib.parse
import zlib


def raw_deflate(data):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def folded(text):
    """Quoted-printable with a soft line break in the middle of the text."""
    middle = len(text) // 2
    return b"=\r\n".join(quopri.encodestring(part.encode()) for part in (text[:middle], text[middle:]))


def base64_at(lead, encode):
    """What stands before the text moves it against the groups of three bytes."""
    return lambda text: encode(b"-" * lead + text.encode() + b"--")


FORMS = [
    ("raw", str.encode),
    ("lower case", lambda text: text.lower().encode()),
    *((f"base64, alignment {lead}", base64_at(lead, base64.b64encode)) for lead in range(3)),
    *((f"base64, URL-safe, alignment {lead}", base64_at(lead, base64.urlsafe_b64encode)) for lead in range(3)),
    ("hex", lambda text: text.encode().hex().encode()),
    ("hex, upper case", lambda text: text.encode().hex().upper().encode()),
    ("percent", lambda text: urllib.parse.quote(text).encode()),
    ("percent, form", lambda text: urllib.parse.quote_plus(text).encode()),
    ("percent, all", lambda text: "".join(f"%{byte:02X}" for byte in text.encode()).encode()),
    ("HTML", lambda text: html.escape(text, quote=True).encode()),
    ("HTML, decimal", lambda text: "".join(f"&#{ord(one)};" for one in text).encode()),
    ("HTML, hexadecimal", lambda text: "".join(f"&#x{ord(one):x};" for one in text).encode()),
    ("quoted-printable", lambda text: quopri.encodestring(text.encode())),
    ("quoted-printable, soft line break", folded),
    ("quoted-printable, all", lambda text: "".join(f"={byte:02X}" for byte in text.encode()).encode()),
    ("UTF-16 LE", lambda text: text.encode("utf-16-le")),
    ("UTF-16 BE", lambda text: text.encode("utf-16-be")),
    ("JSON", lambda text: json.dumps(text, ensure_ascii=False).encode()),
    ("JSON, ASCII only", lambda text: json.dumps(text).encode()),
    ("JSON, all escaped", lambda text: "".join(f"\\u{ord(one):04x}" for one in text).encode()),
    ("zlib", lambda text: zlib.compress(text.encode())),
    ("gzip", lambda text: gzip.compress(text.encode())),
    ("deflate", lambda text: raw_deflate(text.encode())),
    ("gzip of base64", lambda text: gzip.compress(base64.b64encode(text.encode()))),
]

BYTE_FORMS = [
    ("raw", bytes),
    *((f"base64, alignment {lead}", lambda key, lead=lead: base64.b64encode(b"-" * lead + key + b"--")) for lead in range(3)),
    *(
        (f"base64, URL-safe, alignment {lead}", lambda key, lead=lead: base64.urlsafe_b64encode(b"-" * lead + key + b"--"))
        for lead in range(3)
    ),
    ("hex", lambda key: key.hex().encode()),
    ("hex, upper case", lambda key: key.hex().upper().encode()),
    ("percent, all", lambda key: "".join(f"%{byte:02x}" for byte in key).encode()),
    ("quoted-printable, all", lambda key: "".join(f"={byte:02X}" for byte in key).encode()),
    ("numbers", lambda key: json.dumps(list(key), separators=(",", ":")).encode()),
    ("numbers, spaced", lambda key: json.dumps(list(key)).encode()),
    ("gzip", gzip.compress),
]

made = []
for number, (name, form) in enumerate(FORMS):
    # Each form has a text of its own, so that whoever finds it knows which form was found.
    text = sys.argv[1].replace("NN", f"{number:02}")
    made.append({"name": name, "text": text, "bytes": base64.b64encode(form(text)).decode()})
for number, (name, form) in enumerate(BYTE_FORMS):
    key = hashlib.sha256(f"{number} {sys.argv[1]}".encode()).digest()
    key, laid = base64.b64encode(key).decode(), base64.b64encode(form(key)).decode()
    made.append({"name": f"bytes, {name}", "key": key, "bytes": laid})
json.dump(made, sys.stdout)
