"""Gzip streams of bounded size, in a graph."""

from __future__ import annotations

import gzip

import tensorflow as tf

from keras_scgm.export.graph.refusals import require
from keras_scgm.messages import DAMAGED_GZIP

HEADROOM_BYTES = 2**29
"""Bytes beyond the permitted size that may be decompressed. With fewer, large files are decompressed more often."""

MAX_EXPANSION = 1032
"""Bytes that one byte of deflated data can become."""

# Follows the data into the decompressor: it comes out again only if the stream before it was whole.
_END_MARK = b"keras_scgm: end of file"

_END_MEMBER = gzip.compress(_END_MARK, mtime=0)


# The empty member that ends a file of bgzip; the decompressor stops at it, and must not before the mark.
BGZIP_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def unpacked(data: tf.Tensor, source: tf.Tensor, most_bytes: tf.Tensor) -> tf.Tensor:
    """The content of a gzip stream of one or more members, if it is no more than `most_bytes`."""
    body = tf.maximum(tf.strings.length(data) - len(BGZIP_END), 0)
    is_bgzip = tf.strings.substr(data, body, len(BGZIP_END)) == BGZIP_END
    data = tf.cond(is_bgzip, lambda: tf.strings.substr(data, 0, body), lambda: data)
    n_bytes = tf.strings.length(data)

    def look_further(size: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        _, content = _inflate(tf.strings.substr(data, 0, size))
        unpacked = tf.strings.length(content)
        harmless = (most_bytes + HEADROOM_BYTES - unpacked) // MAX_EXPANSION
        return size + tf.minimum(size, harmless), unpacked

    # The decompressor has no limit of its own; growing parts reveal very large content before all of it is in memory.
    # A part grows by no more than what fits in the headroom at the worst, whatever it held so far.
    _, unpacked = tf.while_loop(
        lambda size, unpacked: tf.logical_and(size < n_bytes, unpacked <= most_bytes),
        look_further,
        [most_bytes // MAX_EXPANSION, tf.constant(0)],
    )
    too_large = tf.strings.format(
        "unpacks to more than {} MiB; send it uncompressed or segment it with keras-scgm segment",
        [most_bytes // 2**20],
    )
    data = require(source, [(unpacked <= most_bytes, too_large)], data)
    is_whole, content = _inflate(data + _END_MEMBER)
    length = tf.strings.length(content) - len(_END_MARK)
    end = tf.strings.substr(content, tf.maximum(length, 0), len(_END_MARK))
    checks = [
        (tf.logical_and(is_whole, end == _END_MARK), DAMAGED_GZIP),
        (length <= most_bytes, too_large),
    ]
    return tf.strings.substr(require(source, checks, content), 0, tf.maximum(length, 0))


def _inflate(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether a gzip stream could be read, and what it holds.

    The decompressor's own error cannot be caught in a graph, but a data set can leave out an element that
    fails.
    """
    contents = tf.data.Dataset.from_tensors(data).map(lambda stream: tf.io.decode_compressed(stream, "GZIP"))
    return contents.ignore_errors().reduce(
        (tf.constant(False), tf.constant("")), lambda _, content: (tf.constant(True), content)
    )
