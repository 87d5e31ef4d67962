"""Pictures as Pillow decodes them: pictures.py FOLDER [FILE...]

Writes some pictures of unusual kinds into FOLDER (seeded), and for each of them and each FILE its raw RGB bytes
(NAME.rgb, NAME.size with "width height"), NAME being the running number. The list of files goes to FOLDER/list.txt.
"""
import sys

import numpy as np
from PIL import Image

folder, files = sys.argv[1], sys.argv[2:]
rng = np.random.default_rng(5)
small = rng.integers(0, 256, (12, 17, 4), dtype=np.uint8)
rgba = np.asarray(Image.fromarray(small, "RGBA").resize((153, 101), Image.BICUBIC))
rgb = Image.fromarray(np.ascontiguousarray(rgba[..., :3]), "RGB")


def save(name, image, **options):
    path = f"{folder}/{name}"
    image.save(path, **options)
    files.append(path)


for subsampling in (0, 1, 2):
    save(f"subsampling{subsampling}.jpg", rgb, quality=80, subsampling=subsampling)
save("progressive.jpg", rgb, quality=70, progressive=True)
save("grey.jpg", rgb.convert("L"), quality=90)
save("cmyk.jpg", Image.fromarray(rgba, "CMYK"), quality=90)
rotated = Image.Exif()
rotated[0x0112] = 6
save("exif.jpg", rgb, quality=90, exif=rotated)
save("plain.png", rgb)
save("exif.png", rgb, exif=rotated)
save("exif.webp", rgb, lossless=True, exif=rotated)
save("alpha.png", Image.fromarray(rgba, "RGBA"))
save("grey.png", rgb.convert("L"))
save("grey-alpha.png", Image.fromarray(rgba, "RGBA").convert("LA"))
save("palette.png", rgb.convert("P", palette=Image.ADAPTIVE, colors=200))
save("bits.png", rgb.convert("1"))
save("plain.bmp", rgb)
save("plain.tif", rgb)
save("plain.webp", rgb, lossless=True)
save("plain.ppm", rgb)
save("grey.pgm", rgb.convert("L"))

for index, path in enumerate(files):
    image = Image.open(path).convert("RGB")
    with open(f"{folder}/{index}.rgb", "wb") as out:
        out.write(image.tobytes())
    with open(f"{folder}/{index}.size", "w") as out:
        out.write(f"{image.width} {image.height}")
with open(f"{folder}/list.txt", "w") as out:
    out.write("\n".join(files))
