"""Random mutations of NIfTI files: headers, bytes, packing, storage, content and shape."""

import bz2
import gzip
import itertools
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import nibabel as nib
import numpy as np

ORIENTATIONS = [
    "".join(codes)
    for order in itertools.permutations(["LR", "AP", "SI"])
    for codes in itertools.product(*order)
]
VOXEL_TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]
FIELDS = {
    "sizeof_hdr": (0, "i"),
    "intent_p1": (56, "f"),
    "intent_code": (68, "h"),
    "datatype": (70, "h"),
    "bitpix": (72, "h"),
    "vox_offset": (108, "f"),
    "scl_slope": (112, "f"),
    "scl_inter": (116, "f"),
    "xyzt_units": (123, "B"),
    "cal_max": (124, "f"),
    "qform_code": (252, "h"),
    "sform_code": (254, "h"),
    "magic": (344, "4s"),
    **{f"dim[{k}]": (40 + 2 * k, "h") for k in range(8)},
    **{f"pixdim[{k}]": (76 + 4 * k, "f") for k in range(8)},
    **{f"quatern[{k}]": (256 + 4 * k, "f") for k in range(3)},
    **{f"qoffset[{k}]": (268 + 4 * k, "f") for k in range(3)},
    **{f"srow[{k}]": (280 + 4 * k, "f") for k in range(12)},
}
"""Name -> offset and type in the header."""
NUMBERS = {
    "f": [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        0.012,
        4.9,
        5.1,
        352.0,
        353.7,
        1e-30,
        1e-40,
        3e38,
        -3e38,
        float("nan"),
        float("inf"),
    ],
    "h": [0, 1, 2, 3, 4, 7, 8, 16, 64, 128, 256, 512, 1280, 1536, 2304, 32767, -1, -32768],
    "i": [0, 348, 540, 1543569408, -1],
    "B": [0, 2, 3, 10, 255],
}
MAGIC = [b"n+1\0", b"ni1\0", b"n+2\0", b"n+1 ", b"\0\0\0\0"]


def turned(image: nib.Nifti1Image, codes: str) -> nib.Nifti1Image:
    """The same image, stored in another orientation."""
    return image.as_reoriented(
        nib.orientations.ornt_transform(
            nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes)
        )
    )


@dataclass(frozen=True)
class Mutation:
    """A file and how it was made."""

    name: str
    data: bytes


class Mutator:
    """Draws mutations of given images.

    Args:
        images: Images that the mutations start from.
        seed: Seed of all draws.
    """

    def __init__(self, images: list[nib.Nifti1Image], seed: int) -> None:
        self.images = images
        self.rng = np.random.default_rng(seed)
        self.ways: list[Callable[[], Mutation]] = [
            self.of_the_header,
            self.of_the_header,
            self.of_bytes,
            self.of_packing,
            self.of_storage,
            self.of_content,
            self.of_shape,
        ]

    def draw(self) -> Mutation:
        return self._one(self.ways)()

    def of_the_header(self) -> Mutation:
        order = self._one("<>")
        data = bytearray(self._stored(self._image(), "i2", order))
        names = [self._one(list(FIELDS)) for _ in range(self.rng.integers(1, 4))]
        for name in names:
            offset, kind = FIELDS[name]
            if kind == "4s":
                value = self._one(MAGIC)
            else:
                value = self._one(NUMBERS[kind])
                if kind == "f" and self.rng.random() < 0.5:
                    value = float(np.float32(10.0 ** self.rng.uniform(-3, 3) * self._one([-1, 1])))
            struct.pack_into(order + kind, data, offset, value)
        return Mutation(" ".join(names), self._maybe_packed(bytes(data)))

    def of_bytes(self) -> Mutation:
        data = self._maybe_packed(self._stored(self._image(), self._one(VOXEL_TYPES), self._one("<>")))
        way = self._one(["flip in the header", "flip", "cut", "append", "insert", "empty", "text"])
        if way == "cut":
            data = data[: self.rng.integers(0, len(data))]
        elif way == "append":
            data += self._one([bytes(9), self.rng.bytes(200), gzip.compress(b""), b"\x1f\x8b", data])
        elif way == "insert":
            place = self.rng.integers(0, len(data))
            data = data[:place] + self.rng.bytes(3) + data[place:]
        elif way == "empty":
            data = b""
        elif way == "text":
            data = self._one(
                [b"a", b"not an image\n" * 40, bz2.compress(data), zlib.compress(data), b"n+1\0" * 99]
            )
        else:
            changed = bytearray(data)
            end = 348 if way.endswith("header") else len(data)
            for _ in range(self.rng.integers(1, 9)):
                changed[self.rng.integers(0, min(end, len(data)))] ^= 1 << self.rng.integers(0, 8)
            data = bytes(changed)
        return Mutation(way, data)

    def of_packing(self) -> Mutation:
        data = self._stored(self._image(), "i2")
        way = self._one(
            ["level", "members", "many members", "bgzip", "zeros after", "cut", "twice", "vast end", "named"]
        )
        if way == "level":
            packed = gzip.compress(data, int(self.rng.integers(0, 10)))
        elif way in ("members", "many members", "bgzip"):
            step = {"members": len(data) // 3 + 1, "many members": 301, "bgzip": 65280}[way]
            packed = b"".join(gzip.compress(data[k : k + step]) for k in range(0, len(data), step))
            packed += (
                bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
                if way == "bgzip"
                else b""
            )
        elif way == "zeros after":
            packed = gzip.compress(data) + bytes(int(self.rng.integers(1, 600)))
        elif way == "cut":
            packed = gzip.compress(data)
            packed = packed[: -int(self.rng.integers(1, 12))]
        elif way == "twice":
            packed = gzip.compress(gzip.compress(data))
        elif way == "vast end":
            packed = gzip.compress(data) + gzip.compress(bytes(2**20)) * int(self.rng.integers(1, 200))
        else:
            packed = gzip.compress(data)
            packed = packed[:3] + b"\x08" + packed[4:10] + b"image.nii\0" + packed[10:]
        return Mutation("gzip: " + way, packed)

    def of_storage(self) -> Mutation:
        image = self._image()
        codes, dtype, order = self._one(ORIENTATIONS), self._one(VOXEL_TYPES), self._one("<>")
        image = turned(image, codes)
        affine = image.affine.copy()
        if self.rng.random() < 0.5:
            turn = np.linalg.qr(np.eye(3) + self.rng.normal(0, 0.15, (3, 3)))[0]
            affine[:3, :3] = turn * np.sign(np.diag(turn)) @ affine[:3, :3]
        image = nib.Nifti1Image(np.asarray(image.dataobj), affine)
        data = bytearray(self._stored(image, dtype, order))
        if self.rng.random() < 0.3:
            struct.pack_into(order + "2f", data, 112, self.rng.uniform(-2, 2), self.rng.uniform(-100, 100))
        return Mutation(f"{codes} {order}{dtype}", self._maybe_packed(bytes(data)))

    def of_content(self) -> Mutation:
        image = self._image()
        shape = image.shape
        values = np.array(image.dataobj, np.float64)
        way = self._one(
            [
                "noise",
                "constant",
                "zeros",
                "dots",
                "periodic",
                "ramp",
                "moved",
                "two cords",
                "inverted",
                "not finite",
                "one slice",
                "vast",
                "labels",
            ]
        )
        dtype = "i2"
        if way == "noise":
            values = self.rng.uniform(0, 200, shape)
        elif way == "constant":
            values = np.full(shape, self.rng.uniform(0, 200))
        elif way == "zeros":
            values = np.zeros(shape)
        elif way == "dots":
            values = (self.rng.random(shape) > 0.999) * 200.0
        elif way == "periodic":
            values = np.resize(self.rng.uniform(0, 200, 64), shape)
        elif way == "ramp":
            values = np.arange(values.size).reshape(shape) * (200 / values.size)
        elif way == "moved":
            values = np.roll(values, self.rng.integers(0, 99, 2), (0, 1))
        elif way == "two cords":
            values = np.maximum(
                values, np.roll(values, int(self.rng.integers(20, 40)), int(self.rng.integers(0, 2)))
            )
        elif way == "inverted":
            values = values.max() - values
        elif way == "not finite":
            dtype = "f4"
            values[self.rng.random(shape) < self._one([0.0001, 0.1, 1.0])] = self._one(
                [np.nan, np.inf, -np.inf]
            )
        elif way == "one slice":
            values[..., : shape[2] - 1] = 0
        elif way == "vast":
            dtype, values = "f8", values * 10.0 ** self.rng.uniform(10, 300)
        else:
            dtype, values = "u1", (values > np.percentile(values, 95)) * float(self._one([1, 7, 255]))
        return Mutation(
            "content: " + way, self._maybe_packed(self._stored(nib.Nifti1Image(values, image.affine), dtype))
        )

    def of_shape(self) -> Mutation:
        way = self._one(
            ["thin", "coarse", "fine", "wide", "long", "single", "tiny", "frames", "two dimensions"]
        )
        x, y, z, mm = 60, 60, 2, 0.5
        if way == "thin":
            x, y = (int(n) for n in self.rng.permutation([1, int(self.rng.integers(1, 400))]))
        elif way == "coarse":
            x, y, mm = *self.rng.integers(10, 60, 2), self.rng.uniform(1.2, 5.2)
        elif way == "fine":
            x, y, z, mm = *self.rng.integers(500, 1300, 2), 1, self.rng.uniform(0.009, 0.05)
        elif way == "wide":
            x, y, z, mm = *self.rng.integers(200, 460, 2), 1, self.rng.uniform(0.4, 1.4)
        elif way == "long":
            z = int(self.rng.integers(5, 24))
        elif way == "single":
            z = 1
        elif way == "tiny":
            x, y, z = self.rng.integers(1, 6, 3)
        values = self.rng.uniform(0, 30, (int(x), int(y), int(z)))
        cord = np.asarray(self._image().dataobj)[:, :, 0]
        rows, columns = (slice(0, min(a, b)) for a, b in zip(values.shape, cord.shape, strict=False))
        values[rows, columns] += cord[rows, columns, np.newaxis]
        shape = {
            "frames": (*values.shape, int(self.rng.integers(1, 3))),
            "two dimensions": values.shape[:2],
        }.get(way)
        if shape:
            values = np.resize(values, shape)
        affine = np.diag([-mm, mm * self._one([1, 1, 0.7]), self._one([0.5, 5, 20]), 1])
        return Mutation(
            "shape: " + way, self._maybe_packed(self._stored(nib.Nifti1Image(values, affine), "i2"))
        )

    def _image(self) -> nib.Nifti1Image:
        return self._one(self.images)

    def _stored(self, image: nib.Nifti1Image, dtype: str, order: str = "<") -> bytes:
        values = np.asarray(image.dataobj, np.float64)
        largest = np.abs(values[np.isfinite(values)]).max(initial=0)
        if np.dtype(dtype).kind != "f":
            values = np.rint(values / max(largest, 1e-300) * 127) if largest > 127 else values
            values = values if np.dtype(dtype).kind == "i" else np.abs(values)
        header = nib.Nifti1Header(endianness=order)
        wanted = np.dtype(dtype).newbyteorder(order)
        header.set_data_dtype(wanted)
        with np.errstate(over="ignore"):
            return nib.Nifti1Image(values.astype(wanted), image.affine, header).to_bytes()

    def _maybe_packed(self, data: bytes) -> bytes:
        return gzip.compress(data, 1) if self.rng.random() < 0.4 else data

    def _one(self, choices):  # type: ignore[no-untyped-def]
        return choices[self.rng.integers(0, len(choices))]
