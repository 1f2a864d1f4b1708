"""The paper's network in TensorFlow's own library, called from C, without its Python package.

Importing the Python package takes longer than segmenting a usual volume. The graph is that of
`keras_scgm.runtimes.tensorflow_network`, and so are its results but for rounding.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from keras_scgm.runtimes.folding import FoldedNetwork, PredictCrops

FILES = ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2")
"""Of TensorFlow's package, in load order."""

AS_IT_STANDS = b"R\x05R\x03\x98\x01\x01"
"""ConfigProto of graph_options.rewrite_options.disable_meta_optimizer: TensorFlow would rewrite the graphs for a tenth
of a second, and in float32 they are no faster for it."""

_FLOAT, _INT32, _BFLOAT16 = 1, 3, 14
_NUMBERS = {np.dtype(np.float32): _FLOAT, np.dtype(np.int32): _INT32}


class _Output(ctypes.Structure):
    """TF_Output: one result of an operation."""

    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


_HANDLE, _TEXT, _SIZE = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
_INT, _INT64S = ctypes.c_int, ctypes.POINTER(ctypes.c_int64)
_OUTPUTS, _HANDLES = ctypes.POINTER(_Output), ctypes.POINTER(_HANDLE)

# Result and arguments, as in tensorflow/c/c_api.h.
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "TF_Version": (_TEXT, []),
    "TF_NewStatus": (_HANDLE, []),
    "TF_DeleteStatus": (None, [_HANDLE]),
    "TF_GetCode": (_INT, [_HANDLE]),
    "TF_Message": (_TEXT, [_HANDLE]),
    "TF_NewGraph": (_HANDLE, []),
    "TF_DeleteGraph": (None, [_HANDLE]),
    "TF_NewOperation": (_HANDLE, [_HANDLE, _TEXT, _TEXT]),
    "TF_AddInput": (None, [_HANDLE, _Output]),
    "TF_AddInputList": (None, [_HANDLE, _OUTPUTS, _INT]),
    "TF_SetAttrType": (None, [_HANDLE, _TEXT, _INT]),
    "TF_SetAttrBool": (None, [_HANDLE, _TEXT, ctypes.c_ubyte]),
    "TF_SetAttrString": (None, [_HANDLE, _TEXT, _TEXT, _SIZE]),
    "TF_SetAttrIntList": (None, [_HANDLE, _TEXT, _INT64S, _INT]),
    "TF_SetAttrTensor": (None, [_HANDLE, _TEXT, _HANDLE, _HANDLE]),
    "TF_FinishOperation": (_HANDLE, [_HANDLE, _HANDLE]),
    "TF_AllocateTensor": (_HANDLE, [_INT, _INT64S, _INT, _SIZE]),
    "TF_DeleteTensor": (None, [_HANDLE]),
    "TF_TensorData": (_HANDLE, [_HANDLE]),
    "TF_NumDims": (_INT, [_HANDLE]),
    "TF_Dim": (ctypes.c_int64, [_HANDLE, _INT]),
    "TF_NewSessionOptions": (_HANDLE, []),
    "TF_DeleteSessionOptions": (None, [_HANDLE]),
    "TF_SetConfig": (None, [_HANDLE, _TEXT, _SIZE, _HANDLE]),
    "TF_NewSession": (_HANDLE, [_HANDLE, _HANDLE, _HANDLE]),
    "TF_DeleteSession": (None, [_HANDLE, _HANDLE]),
    "TF_SessionRun": (
        None,
        [_HANDLE, _HANDLE] + [_OUTPUTS, _HANDLES, _INT] * 2 + [_HANDLES, _INT, _HANDLE, _HANDLE],
    ),
}


def find_library() -> list[Path]:
    """The files of the library; none where it is packed in another way."""
    package = find_spec("tensorflow")
    for folder in (package.submodule_search_locations or []) if package else []:
        paths = [Path(folder) / name for name in FILES]
        if all(path.exists() for path in paths):
            return paths
    return []


def tensorflow_version() -> str:
    """Of TensorFlow."""
    return str(_open_library().TF_Version().decode())


def predictor(network: FoldedNetwork, precision: str) -> PredictCrops:
    """Prediction on the processor, in "float32" or "bfloat16"."""
    graph = _Graph(_open_library())
    slices, crops = (graph.operation("Placeholder", types={"dtype": _FLOAT}) for _ in range(2))
    dtype = {"float32": _FLOAT, "bfloat16": _BFLOAT16}[precision]
    operations = _Operations(graph, dtype)
    given = [operations.cast(each, dtype) for each in (slices, crops)]
    in_slices, in_crops = network(operations, given[0]), network(operations, *given)
    run = graph.compiled(AS_IT_STANDS if precision == "float32" else b"")
    # The feature maps of one slice stay in the processor's cache, those of many do not. Two at once keep every core
    # busy where the parts of one wait for each other.
    pool = ThreadPoolExecutor(2)

    def predict(all_slices: np.ndarray, all_crops: np.ndarray | None = None) -> np.ndarray:
        one_by_one = [np.split(each, len(each)) for each in (all_slices, all_crops) if each is not None]
        wanted = in_slices if all_crops is None else in_crops
        maps = pool.map(lambda *one: run(zip((slices, crops), one, strict=False), wanted), *one_by_one)
        return np.concatenate([*maps])[..., 0]

    return predict


def _open_library() -> Any:
    system = ctypes.CDLL(None)
    system.dlopen.restype, system.dlopen.argtypes = _HANDLE, [_TEXT, _INT]
    for path in find_library():
        # Only what is called gets bound; ctypes would bind every name at once, which takes twice as long.
        handle = system.dlopen(os.fsencode(path), os.RTLD_LAZY)
        library = ctypes.CDLL(str(path), handle=handle)
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class _Graph:
    """A graph under construction."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._handle = library.TF_NewGraph()
        self._count = 0

    def operation(
        self,
        kind: str,
        *inputs: _Output | Sequence[_Output],
        types: dict[str, int] | None = None,
        integers: dict[str, Sequence[int]] | None = None,
        padding: str | None = None,
        keep_dims: bool = False,
        value: np.ndarray | None = None,
    ) -> _Output:
        """Adds an operation and gives its first result; several outputs in one input are a list of tensors."""
        library = self._library
        self._count += 1
        under_way = library.TF_NewOperation(self._handle, kind.encode(), f"{kind}_{self._count}".encode())
        for given in inputs:
            if isinstance(given, _Output):
                library.TF_AddInput(under_way, given)
            else:
                library.TF_AddInputList(under_way, (_Output * len(given))(*given), len(given))
        for name, number in (types or {}).items():
            library.TF_SetAttrType(under_way, name.encode(), number)
        for name, numbers in (integers or {}).items():
            library.TF_SetAttrIntList(under_way, name.encode(), _int64s(numbers), len(numbers))
        if padding:
            library.TF_SetAttrString(under_way, b"padding", padding.encode(), len(padding))
        if keep_dims:
            library.TF_SetAttrBool(under_way, b"keep_dims", 1)
        if value is not None:
            tensor = self._tensor(value)
            _checked(library, library.TF_SetAttrTensor, under_way, b"value", tensor)
            library.TF_DeleteTensor(tensor)
        return _Output(_checked(library, library.TF_FinishOperation, under_way), 0)

    def constant(self, value: np.ndarray) -> _Output:
        return self.operation("Const", types={"dtype": _NUMBERS[value.dtype]}, value=value)

    def compiled(
        self, settings: bytes
    ) -> Callable[[Iterable[tuple[_Output, np.ndarray]], _Output], np.ndarray]:
        """A function of what is given and what is wanted, float32 arrays of four axes.

        Args:
            settings: a ConfigProto.
        """
        library = self._library
        options = library.TF_NewSessionOptions()
        _checked(library, library.TF_SetConfig, options, settings, len(settings))
        session = _checked(library, library.TF_NewSession, self._handle, options)
        library.TF_DeleteSessionOptions(options)

        def run(given: Iterable[tuple[_Output, np.ndarray]], wanted: _Output) -> np.ndarray:
            places, arrays = zip(*given, strict=True)
            tensors, result = (
                [self._tensor(array.astype(np.float32, copy=False)) for array in arrays],
                _HANDLE(),
            )
            n = len(tensors)
            try:
                _checked(
                    library,
                    library.TF_SessionRun,
                    session,
                    None,
                    *((_Output * n)(*places), (_HANDLE * n)(*tensors), n),
                    *((_Output * 1)(wanted), ctypes.pointer(result), 1),
                    *(None, 0),
                    None,
                )
            finally:
                for tensor in tensors:
                    library.TF_DeleteTensor(tensor)
            shape = [library.TF_Dim(result, axis) for axis in range(library.TF_NumDims(result))]
            numbers = ctypes.cast(library.TF_TensorData(result), ctypes.POINTER(ctypes.c_float))
            copy = np.ctypeslib.as_array(numbers, shape).copy()
            library.TF_DeleteTensor(result)
            return copy

        weakref.finalize(run, _delete, library, session, self._handle)
        return run

    def _tensor(self, array: np.ndarray) -> int:
        array = np.asarray(array, order="C")
        shape, number = _int64s(array.shape), _NUMBERS[array.dtype]
        tensor = self._library.TF_AllocateTensor(number, shape, array.ndim, array.nbytes)
        ctypes.memmove(self._library.TF_TensorData(tensor), array.ctypes.data, array.nbytes)
        return tensor


def _checked(library: Any, function: Any, *arguments: Any) -> Any:
    """Calls a function whose last argument is the status that says whether it worked."""
    status = library.TF_NewStatus()
    try:
        result = function(*arguments, status)
        if library.TF_GetCode(status):
            raise RuntimeError(f"TensorFlow: {library.TF_Message(status).decode()}")
        return result
    finally:
        library.TF_DeleteStatus(status)


def _delete(library: Any, session: int, graph: int) -> None:
    _checked(library, library.TF_DeleteSession, session)
    library.TF_DeleteGraph(graph)


def _int64s(numbers: Sequence[int]) -> Any:
    return (ctypes.c_int64 * len(numbers))(*numbers)


class _Operations:
    def __init__(self, graph: _Graph, dtype: int) -> None:
        self._graph = graph
        self._dtype = dtype

    def cast(self, x: _Output, dtype: int) -> _Output:
        return self._graph.operation("Cast", x, types={"DstT": dtype})

    def _constant(self, array: np.ndarray) -> _Output:
        return self.cast(self._graph.constant(array.astype(np.float32)), self._dtype)

    def convolve(self, x: _Output, kernel: np.ndarray, bias: np.ndarray, rate: int) -> _Output:
        x = self._graph.operation(
            "Conv2D",
            x,
            self._constant(kernel),
            integers={"strides": (1, 1, 1, 1), "dilations": (1, rate, rate, 1)},
            padding="SAME",
        )
        return self._graph.operation("BiasAdd", x, self._constant(bias))

    def relu(self, x: _Output) -> _Output:
        return self._graph.operation("Relu", x)

    def shift(self, x: _Output, constants: np.ndarray) -> _Output:
        return self.add(x, self._constant(constants))

    def concatenate(self, maps: list[_Output]) -> _Output:
        return self._graph.operation("ConcatV2", maps, self._graph.constant(np.array(-1, np.int32)))

    def average(self, x: _Output) -> _Output:
        rows_and_columns = self._graph.constant(np.array([1, 2], np.int32))
        return self._graph.operation("Mean", x, rows_and_columns, keep_dims=True)

    def add(self, x: _Output, y: _Output) -> _Output:
        return self._graph.operation("AddV2", x, y)

    def sigmoid(self, x: _Output) -> _Output:
        return self._graph.operation("Sigmoid", self.cast(x, _FLOAT))
