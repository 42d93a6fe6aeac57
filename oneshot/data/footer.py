"""Checks of the footer of drawings.parquet when it is read: a person or a broken disk may have changed it."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator


class _Known(BaseModel):
    """The footer's entry for an alphabet."""

    name: str
    origin: Literal["background", "evaluation", "own"]
    drawings: Annotated[int, Field(ge=1)]
    characters: list[str]
    drawers: list[Annotated[int, Field(ge=1, le=2**31 - 1)]]


class _Own(BaseModel):
    """The footer's entry for a set of the user's own images."""

    polarity: Literal["dark", "light", "photo"]
    flat: bool
    by: Literal["group", "class", "file"]
    split: dict[Literal["train", "validation", "test"], list[str]]

    @model_validator(mode="after")
    def _check(self) -> "_Own":
        if len(self.split) < 3:
            raise ValueError("its split lacks a part")
        return self


class Facts(BaseModel):
    """The content of the footer of drawings.parquet, as `store.write` put it there."""

    name: Annotated[str, Field(pattern=r"\S")]
    source: str
    digests: dict[str, str]
    height: Annotated[int, Field(ge=1, le=4096)]
    width: Annotated[int, Field(ge=1, le=4096)]
    bits: Literal[1, 8]
    trial_alphabets: list[str]
    alphabets: list[_Known]
    own: _Own | None = None

    @model_validator(mode="after")
    def _check(self) -> "Facts":
        for names in ([one.name for one in self.alphabets], *(one.characters for one in self.alphabets)):
            if len(set(names)) < len(names):
                raise ValueError("a name occurs twice among its alphabets or an alphabet's characters")
        known = {f"{one.name}/{character}" for one in self.alphabets for character in one.characters}
        if self.own and not known.issuperset(name for names in self.own.split.values() for name in names):
            raise ValueError("its split names a class that it does not hold")
        return self
