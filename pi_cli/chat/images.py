"""Images in a prompt: files of this machine, sent as data URLs to models that see."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pi_cli.errors import BadUsage

MAX_IMAGE = 20_000_000  # bytes; the servers of vLLM read more, but a photograph has less
# The first bytes of the formats that vLLM's own decoder (Pillow) reads and that browsers show.
SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
)


@dataclass(frozen=True, slots=True)
class Image:
    """An image as a data URL."""

    url: str


def read(path: str) -> Image:
    """Return an image file. Raises `BadUsage` if it cannot be read, is too large, or is not an image."""
    try:
        with Path(path).expanduser().open("rb") as file:
            data = file.read(MAX_IMAGE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadUsage(
            f"cannot read `{path}`: {reason}", hint="`--image` takes a PNG, JPEG, GIF, WebP or BMP"
        ) from error
    if len(data) > MAX_IMAGE:
        raise BadUsage(
            f"`{path}` has more than {MAX_IMAGE // 1_000_000} MB", hint="make it smaller: models see few pixels anyway"
        )
    kind = media_type(data)
    if kind is None:
        raise BadUsage(f"`{path}` is not an image that pi knows", hint="`--image` takes a PNG, JPEG, GIF, WebP or BMP")
    return Image(f"data:{kind};base64,{base64.b64encode(data).decode()}")


def media_type(data: bytes) -> str | None:
    """Return the media type of an image by its first bytes; None if it is not one of these.

    >>> media_type(b"RIFF....WEBPVP8 ")
    'image/webp'
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for signature, kind in SIGNATURES if data.startswith(signature)), None)


def with_images(prompt: str, images: Sequence[Image]) -> str | list[dict[str, Any]]:
    """Return the content of a message: the text alone, or the images and then the text, as vision models expect."""
    if not images:
        return prompt
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": image.url}} for image in images]
    return [*parts, {"type": "text", "text": prompt}]
