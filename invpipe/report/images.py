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

import vl_convert

from invpipe.report.charts import COLOURS, Chart

#: A PNG in metadata stays below this, bytes, as far as the smallest scale allows.
PNG_BYTES = 60_000
#: Scales tried for it, largest first.
SCALES = (1.5, 1.25, 1.0, 0.75, 0.5)

_ID = re.compile(r'id="([^"]+)"')


def _config(ink: str, ground: str) -> dict[str, Any]:
    """Return the Vega configuration of a drawing in one colour of text and ground."""
    text = {"labelColor": ink, "titleColor": ink, "labelFontSize": 12, "labelLimit": 220}
    lines = {"domainColor": ink, "domainOpacity": 0.4, "tickColor": ink, "tickOpacity": 0.4, "gridColor": ink, "gridOpacity": 0.12}
    return {
        "aria": False,  # the picture as a whole has a text, see svg()
        "background": ground,
        "font": "Liberation Sans, Arial, Helvetica, sans-serif",
        "range": {"category": list(COLOURS)},
        "view": {"stroke": None},
        "axis": {**text, **lines, "titleFontSize": 12, "titleFontWeight": "normal"},
        "legend": {**text, "orient": "top", "columns": 3, "title": None},
        "title": {"color": ink, "anchor": "start", "fontSize": 13},
        "text": {"color": ink},
        "rule": {"color": ink},
    }


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
    drawn = vl_convert.vegalite_to_svg(chart.to_dict(), config=_config("currentColor", "transparent"), allowed_base_urls=[])
    for number, old in enumerate(dict.fromkeys(_ID.findall(drawn))):  # the converter counts ids on from picture to picture
        drawn = drawn.replace(f'id="{old}"', f'id="{name}-{number}"').replace(f"url(#{old})", f"url(#{name}-{number})")
    return drawn.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)


def packed(image: bytes) -> bytes:
    """Return the PNG with its pixels packed as well as zlib can: the converter packs them in haste, into three times the bytes."""
    out, packed, at = bytearray(image[:8]), bytearray(), 8
    while at < len(image):
        (length,) = struct.unpack_from(">I", image, at)
        kind, body = image[at + 4 : at + 8], image[at + 8 : at + 8 + length]
        at += 12 + length
        if kind == b"IDAT":
            packed += body
            continue
        if kind == b"IEND":
            out += _chunk(b"IDAT", zlib.compress(zlib.decompress(packed), 9))
        out += _chunk(kind, body)
    return bytes(out)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_markdown(chart: Chart, label: str = "chart") -> str:
    """Return the chart as a Markdown image, a PNG on white that carries its data, for Dagster's metadata.

    It is drawn at the largest of :data:`SCALES` that keeps it below :data:`PNG_BYTES`, at the smallest where none does.

    Parameters
    ----------
    chart
        What to draw.
    label
        Text for those who do not see it.
    """
    drawn = vl_convert.vegalite_to_svg(chart.to_dict(), config=_config("#1b1f24", "white"), allowed_base_urls=[])
    for scale in SCALES:
        image = packed(vl_convert.svg_to_png(drawn, scale=scale))
        if len(image) < PNG_BYTES:
            break
    plain = re.sub(r"[\[\]\\]", " ", label)
    return f"![{plain}](data:image/png;base64,{base64.b64encode(image).decode()})"
