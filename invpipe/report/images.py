"""Charts as SVG for the report and as PNG for Dagster's metadata, drawn in this process: no browser, no network, no stored fonts.

One SVG serves light and dark pages: its ground is transparent, text and axes take the colour of the text around it (`currentColor`),
series have middle tones. A PNG is black on white.
"""

from __future__ import annotations

import base64
import re
import struct
import zlib
from html import escape
from typing import Any

import numpy as np
import vl_convert

from invpipe.report.charts import COLOURS, Chart

#: A PNG in metadata stays below this, bytes, as far as the smallest scale allows.
PNG_BYTES = 20_000
#: Scales tried for it, largest first.
SCALES = (1.5, 1.25, 1.0, 0.75, 0.5)
#: Distances between the shades of a colour that a palette of 256 may have, finest first; all hit black and white, the last one always fits.
STEPS = (1, 3, 5, 15, 17, 51)
#: First bytes of every PNG.
SIGNATURE = b"\x89PNG\r\n\x1a\n"

#: Fonts of a drawing. It is measured in the first, which the converter has; the next two are as wide. The fourth is made by the page, for
#: machines that have none of them: their usual font, a fifth wider, drawn as wide as the others.
FONTS = "Liberation Sans, Arial, Helvetica, Narrowed DejaVu Sans, sans-serif"

_ID = re.compile(r'id="([^"]+)"')


def _config(ink: str, ground: str) -> dict[str, Any]:
    """Return the Vega configuration of a drawing in one colour of text and ground."""
    text = {"labelColor": ink, "titleColor": ink, "labelFontSize": 12, "labelLimit": 145}
    lines = {"domainColor": ink, "domainOpacity": 0.4, "tickColor": ink, "tickOpacity": 0.4, "gridColor": ink, "gridOpacity": 0.12}
    return {
        "aria": False,  # the picture as a whole has a text, see svg()
        "background": ground,
        "font": FONTS,
        "range": {"category": list(COLOURS)},
        "view": {"stroke": None},
        "axis": {**text, **lines, "titleFontSize": 12, "titleFontWeight": "normal"},
        "legend": {**text, "orient": "top", "columns": 2, "title": None},
        "title": {"color": ink, "anchor": "start", "fontSize": 13},
        "text": {"color": ink, "fontSize": 12},
        "rule": {"color": ink},
    }


def _drawn(chart: Chart, ink: str, ground: str) -> str:
    """Return the chart as SVG; it is not held against Vega-Lite's schema, which takes longer than to draw it: the tests do that."""
    return vl_convert.vegalite_to_svg(chart.to_dict(validate=False), config=_config(ink, ground), allowed_base_urls=[])


def svg(chart: Chart, label: str, name: str) -> str:
    """Return the chart as an SVG element to be put into a page.

    Parameters
    ----------
    chart
        What to draw.
    label
        Text for those who do not see it.
    name
        Prefix of the ids within, so that the pictures of one page do not share any; letters, digits and hyphens.
    """
    drawn = _drawn(chart, "currentColor", "transparent")
    for number, old in enumerate(dict.fromkeys(_ID.findall(drawn))):  # the converter counts ids on from picture to picture
        drawn = drawn.replace(f'id="{old}"', f'id="{name}-{number}"').replace(f"url(#{old})", f"url(#{name}-{number})")
    return drawn.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)


def packed(image: bytes) -> bytes:
    """Return the PNG with its pixels packed as well as zlib can: browser and converter pack them in haste, into up to thrice the bytes."""
    chunks = _chunks(image)
    others = [(kind, body) for kind, body in chunks if kind not in {b"IDAT", b"IEND"}]
    return _png(*others, (b"IDAT", zlib.compress(_pixel_data(chunks), 9)))


def indexed(image: bytes) -> bytes:
    """Return an opaque PNG of the converter with one byte per pixel and a palette: a chart has few colours, and needs a third of the bytes.

    No pixel changes where a picture has 256 colours or fewer; of more, each is rounded to the finest of :data:`STEPS` that leaves so many.
    Lines that are filtered in another way than the converter of today does it are left as they are, and packed.
    """
    chunks = _chunks(image)
    width, height, *kind = struct.unpack(">IIBBBBB", chunks[0][1])
    lines = np.frombuffer(_pixel_data(chunks), dtype=np.uint8).reshape(height, -1)
    if kind != [8, 6, 0, 0, 0] or (lines[:, 0] != 1).any():  # 8 bit RGBA, each byte less that of the pixel to the left
        return packed(image)
    rgb = np.cumsum(lines[:, 1:].reshape(height, width, 4)[..., :3], axis=1, dtype=np.uint8).astype(np.uint32)
    for step in STEPS:
        rounded = (rgb + step // 2) // step * step
        colours, index = np.unique(rounded[..., 0] << 16 | rounded[..., 1] << 8 | rounded[..., 2], return_inverse=True)
        if len(colours) <= 256:
            break
    palette = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1).astype(np.uint8)
    unfiltered = np.zeros((height, 1 + width), dtype=np.uint8)
    unfiltered[:, 1:] = index.reshape(height, width)
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    return _png((b"IHDR", header), (b"PLTE", palette.tobytes()), (b"IDAT", zlib.compress(unfiltered.tobytes(), 9)))


def _chunks(image: bytes) -> list[tuple[bytes, bytes]]:
    """Return kind and content of each chunk of a PNG."""
    chunks, at = [], len(SIGNATURE)
    while at < len(image):
        (length,) = struct.unpack_from(">I", image, at)
        chunks.append((image[at + 4 : at + 8], image[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def _pixel_data(chunks: list[tuple[bytes, bytes]]) -> bytes:
    return zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"))


def _png(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG of these chunks and the end."""
    return SIGNATURE + b"".join(_chunk(kind, body) for kind, body in (*chunks, (b"IEND", b"")))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_markdown(chart: Chart, label: str = "chart") -> str:
    """Return the chart as a Markdown image, a PNG on white that carries its data, for Dagster's metadata.

    It is drawn at the largest of :data:`SCALES` that keeps it below :data:`PNG_BYTES`, at the smallest where none does: the page of an
    asset's plots asks for the pictures of a hundred events.

    Parameters
    ----------
    chart
        What to draw.
    label
        Text for those who do not see it.
    """
    drawn = _drawn(chart, "#1b1f24", "white")
    for scale in SCALES:
        image = indexed(vl_convert.svg_to_png(drawn, scale=scale))
        if len(image) < PNG_BYTES:
            break
    plain = re.sub(r"[\[\]\\]", " ", label)
    return f"![{plain}](data:image/png;base64,{base64.b64encode(image).decode()})"
