"""Small pictures inside a page."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from PIL.Image import Image


def thumbnail(picture: Image, pixels: int, *, form: Literal["png", "jpeg"] = "png") -> str:
    """Return a picture as data URI, made smaller where its longer side has more than so many pixels."""
    small = picture.copy()
    small.thumbnail((pixels, pixels))
    file = io.BytesIO()
    small.save(file, format=form, optimize=True)
    return f"data:image/{form};base64," + base64.b64encode(file.getvalue()).decode()
