#!/usr/bin/env python3
"""Makes `tests/fixtures/pictures` again: a small picture file of every kind that is read, and the pixels it must give.

    python3 scripts/make_pictures.py [--out tests/fixtures/pictures]

`expected.npz` holds, by file name, what Pillow says the picture is: uint8, height x width x 3, turned upright by the EXIF
orientation, without its alpha channel. Two runs give the same bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from own_venv import ROOT, enter


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the small pictures again.")
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "fixtures" / "pictures", help="folder to write to")
    args = parser.parse_args()
    enter("pictures-venv", ROOT / "scripts" / "requirements-pictures.txt")
    import numpy
    from PIL import Image, ImageOps

    width, height = 24, 16
    x, y = numpy.meshgrid(numpy.linspace(0, 1, width), numpy.linspace(0, 1, height))
    planes = [255 * x, 255 * y, 255 * (1 - x) * y]
    rgb = numpy.stack(planes, axis=-1).round().astype("uint8")
    picture = Image.fromarray(rgb)
    gray = picture.convert("L")
    alpha = Image.fromarray((255 * (x + y) / 2).round().astype("uint8"))
    flipped = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)

    args.out.mkdir(parents=True, exist_ok=True)
    expected: dict[str, numpy.ndarray] = {}

    def save(name: str, image: Image.Image, upright: Image.Image | None = None, **options: object) -> None:
        image.save(args.out / name, **options)
        if upright is None:
            with Image.open(args.out / name) as stored:
                upright = ImageOps.exif_transpose(stored).convert("RGB")
        expected[name] = numpy.asarray(upright.convert("RGB"))

    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        save(f"orientation_{orientation}.jpg", picture, exif=exif, quality=100, subsampling=0)
    exif = Image.Exif()
    exif[0x0112] = 6
    save("orientation_6.png", picture, exif=exif)
    save("orientation_6.webp", picture, exif=exif, lossless=True)
    save("plain.png", picture)
    save("plain.bmp", picture)
    save("progressive.jpg", picture, quality=100, subsampling=0, progressive=True)
    save("gray.jpg", gray, quality=100)
    save("gray.png", gray)
    save("gray_alpha.png", Image.merge("LA", (gray, alpha)), upright=gray)
    with_alpha = picture.copy()
    with_alpha.putalpha(alpha)
    save("alpha.png", with_alpha, upright=picture)
    save("alpha.webp", with_alpha, upright=picture, lossless=True, exact=True)
    save("cmyk.jpg", picture.convert("CMYK"), quality=100)
    save("palette.png", picture.quantize(64))
    wide = numpy.asarray(gray).astype("uint16") * 257
    save("gray_16_bits.png", Image.fromarray(wide), upright=gray)
    save("animated.gif", picture.quantize(64), save_all=True, append_images=[flipped.quantize(64)])
    save("animated.png", picture, upright=picture, save_all=True, append_images=[flipped])
    save("animated.webp", picture, upright=picture, save_all=True, append_images=[flipped], lossless=True)
    numpy.savez_compressed(args.out / "expected.npz", **expected)


if __name__ == "__main__":
    main()
