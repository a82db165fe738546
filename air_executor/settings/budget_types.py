"""Type of the setting with the budgets of pools, DAGs and labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from air_executor.core.cost_query import PERIODS, parse_filter
from air_executor.core.spending_limits import ALL, SpendingLimit
from air_executor.errors import BadInputError
from air_executor.model.quote import quoted
from air_executor.settings.setting_types import Shown, parsed

_MOST = 100
_MOST_MONEY = 1e12
_STOPS = "+stop"
_EXAMPLE = "pool=gpu:500/month,label=team=ml:200/week+stop,all:2000/month"


def _budgets(value: object) -> tuple[SpendingLimit, ...]:
    """Accept a table of amounts, or text like `pool=gpu:500/month`; return the limits."""
    if isinstance(value, tuple):
        return value
    if isinstance(value, str):
        found = (one if ":" in one else f"{one}:" for one in value.split(","))
        pairs = [(name.strip(), amount.strip()) for name, _, amount in (one.rpartition(":") for one in found)]
    elif isinstance(value, Mapping):
        pairs = [(str(name), str(amount)) for name, amount in value.items()]
    else:
        msg = f"must be budgets like {_EXAMPLE}, got {quoted(value)}"
        raise BadInputError(msg)
    limits = tuple(_limit(name, amount) for name, amount in pairs)
    if len({(one.name, one.period) for one in limits}) < len(limits):
        raise BadInputError("names the same runs twice for the same period")
    return limits


def _limit(name: str, text: str) -> SpendingLimit:
    amount, _, period = text.removesuffix(_STOPS).partition("/")
    try:
        money = float(amount)
    except ValueError:
        money = math.nan
    if period not in PERIODS or not 0 <= money <= _MOST_MONEY:
        msg = f"{name}: must be an amount per {', '.join(PERIODS)}, as in {_EXAMPLE}, got {quoted(text)}"
        raise BadInputError(msg)
    return SpendingLimit(None if name == ALL else parse_filter(name), money, period, stops=text.endswith(_STOPS))


def _text(value: tuple[SpendingLimit, ...]) -> str:
    texts = (f"{one.name}:{one.amount:g}/{one.period}{_STOPS if one.stops else ''}" for one in value)
    return ",".join(texts) or "none"


Budgets = Annotated[tuple[SpendingLimit, ...], Field(max_length=_MOST), parsed(_budgets), Shown(_text)]
