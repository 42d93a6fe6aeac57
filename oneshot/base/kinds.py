"""Types of single settings: numbers that count something, a text, a range. The description of a type says in words what
it takes, if its limits do not say so (see `meanings`)."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

MOST = 2**31 - 1  # the greatest value of any number that counts something
Positive = Annotated[int, Field(ge=1, le=MOST)]
Natural = Annotated[int, Field(ge=0, le=MOST)]
Several = Annotated[int, Field(ge=2, le=MOST)]
Width = Annotated[int, Field(ge=4, le=512)]  # channels
Depth = Annotated[int, Field(ge=1, le=16)]  # residual blocks of a stage
RANGE = re.compile(r"\d{1,10}\.\.\d{1,10}")


def _plain(value: Any) -> Any:
    if isinstance(value, str) or (isinstance(value, int | float) and abs(value) <= MOST):
        return value
    raise PydanticCustomError("plain", "Input should be a string, true, false or a number")


Plain = Annotated[
    Any, AfterValidator(_plain), Field(description="a string, true, false or a number")
]  # what any single setting is


def _number_or_range(value: Any) -> Any:
    ends = [int(end) for end in value.split("..")] if isinstance(value, str) and RANGE.fullmatch(value) else [value]
    if not all(type(end) is int and 1 <= end <= MOST for end in ends) or ends != sorted(ends):
        raise PydanticCustomError("range", "Input should be a number of at least 1, or a range of them as '1..4'")
    return value


NumberOrRange = Annotated[
    Any, AfterValidator(_number_or_range), Field(description="a number of at least 1, or a range of them as '1..4'")
]


def _views(value: int) -> int:
    if value not in (1, 4, 8):
        raise PydanticCustomError("views", "Input should be 1, 4 or 8")
    return value


# The number of positions that a network looks in. A Literal would accept true as 1.
Views = Annotated[int, AfterValidator(_views), Field(description="1, 4 or 8")]
