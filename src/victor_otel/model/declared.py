"""What declarations are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar, dataclass_transform

Declaration = TypeVar("Declaration", bound=type[Any])


@dataclass_transform(eq_default=False, frozen_default=True)
def declared(cls: Declaration) -> Declaration:
    """A dataclass that is never changed, and equal to none but itself.

    Type checkers see to it. That Python does so as well, and writes a comparison and a text for
    each class, is paid by each start of Victor: 0.4 % of `victor --version`.
    """
    return dataclass(eq=False, repr=False)(cls)
