"""Wrong values of arguments, and the check that each is refused in one line."""

import numpy as np
import pytest

from keras_scgm import InputError

NO_NUMBERS = (
    None,
    "1",
    "",
    b"1",
    [1],
    {},
    np.ones(2),
    True,
    np.True_,
    float("nan"),
    float("inf"),
    1j,
    object(),
)
NO_INTEGERS = (*NO_NUMBERS, 1.5, 2.0, np.float64(2))
NO_FLAGS = (None, "yes", 1, 0, 1.0, np.ones(2), [])
NO_TEXTS = (None, 3, True, b"text", [], {}, np.ones(2), float("nan"))
NO_PATHS = (None, 3, True, b"text", [], {}, np.ones(2), "")
NO_PAIRS = (
    3,
    "ab",
    b"ab",
    (1,),
    (1, 2, 3),
    (1, None),
    ("1", "2"),
    (float("nan"), 1),
    {1: 2, 2: 3},
    np.ones((2, 2)),
)
NO_OBJECTS = (3, "text", b"text", [1], {}, np.ones(2), float("nan"))


def but(values, *allowed):
    """The values without those that an argument does take."""
    return [value for value in values if not any(value is item for item in allowed)]


def config_cases(kind, given, **wrong):
    return [(kind, given, name, values) for name, values in wrong.items()]


def negative(values):
    return (*values, -1, np.int64(-1), -0.5)


INTEGERS, NUMBERS = negative(NO_INTEGERS), negative(NO_NUMBERS)


def case_id(case):
    call, _, name, _ = case
    return f"{call.__qualname__}-{name}"


def check_refused(call, given, name, values):
    """Each value of an argument is an `InputError` of one line."""
    for value in values:
        with pytest.raises(ValueError) as raised:  # noqa: PT011
            call(**{**given, name: value})
        # Keras checks a loss's reduction by itself.
        assert isinstance(raised.value, InputError) or name == "reduction", repr(value)
        assert "\n" not in str(raised.value), repr(value)
