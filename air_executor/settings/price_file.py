"""The file of prices: a table that grows by a row for each new price, of which the last row that fits a run holds."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

from pydantic import BaseModel, ConfigDict, ValidationError

from air_executor.core.price import PriceRule, Prices
from air_executor.errors import BadInputError
from air_executor.model.problems import did_you_mean
from air_executor.model.quote import quoted
from air_executor.model.times import from_text
from air_executor.settings import setting_types as t
from air_executor.settings.setting_errors import bad_settings

MOST_BYTES = 1 << 20
MOST_ROWS = 10_000


def _label(text: object) -> object:
    """Accept `name=value`."""
    name, equals, value = str(text).partition("=")
    if not name or not equals or not value:
        msg = f"must be a name and a value, like team=data, got {quoted(text)}"
        raise BadInputError(msg)
    return name, value


_Label = Annotated[tuple[str, str] | None, t.parsed(_label)]


class _Row(BaseModel):
    """One row; an empty cell has the default."""

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    valid_from: t.Day | None = None
    backend: t.Identifier | None = None
    label: _Label = None
    node_label: _Label = None
    currency: t.Currency
    runner_hour: t.Price = 0.0
    cpu_hour: t.Price = 0.0
    memory_hour: t.Price = 0.0
    gpu_hour: t.Price = 0.0

    def rule(self) -> PriceRule:
        start = None if self.valid_from is None else from_text(f"{self.valid_from}T00:00:00Z")
        prices = Prices(self.currency, self.runner_hour, self.cpu_hour, self.memory_hour, self.gpu_hour, start)
        return PriceRule(prices, self.label, self.node_label)


def with_price_file(prices: Prices, backend: str, path: str | None) -> Prices:
    """Return the prices of a backend with the rules of a file.

    Raises:
        BadInputError: the file is wrong, with the line, or cannot be read.
    """
    if path is None:
        return prices
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            msg = f"{path}: larger than {MOST_BYTES} bytes, the maximum for prices"
            raise BadInputError(msg)
        text = data.decode("utf-8-sig")
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise BadInputError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"{path}: is not UTF-8"
        raise BadInputError(msg) from error
    return replace(prices, rules=tuple(row.rule() for row in _rows(path, text) if row.backend in {None, backend}))


def _rows(path: str, text: str) -> Iterator[_Row]:
    table = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    try:
        header = [name.strip() for name in next(table, [])]
        _check_header(path, header)
        for number, cells in enumerate(table):
            if number >= MOST_ROWS:
                msg = f"{path}: more than {MOST_ROWS} rows"
                raise BadInputError(msg)
            if any(cell.strip() for cell in cells):
                yield _row(f"{path}:{table.line_num}", header, [cell.strip() for cell in cells])
    except csv.Error as error:
        msg = f"{path}:{table.line_num}: is no CSV: {error}"
        raise BadInputError(msg) from error


def _check_header(path: str, header: list[str]) -> None:
    for name in header:
        if name not in _Row.model_fields:
            hint = did_you_mean(name, _Row.model_fields) or f"; the columns are {', '.join(_Row.model_fields)}"
            msg = f"{path}:1: column {quoted(name)}: unknown{hint}"
            raise BadInputError(msg)
    if len(set(header)) < len(header) or "currency" not in header:
        msg = f"{path}:1: each column must stand once, and currency is required"
        raise BadInputError(msg)


def _row(where: str, header: list[str], cells: list[str]) -> _Row:
    if len(cells) > len(header):
        msg = f"{where}: has {len(cells)} cells for {len(header)} columns"
        raise BadInputError(msg)
    found = {name: cell for name, cell in zip(header, cells, strict=False) if cell}
    try:
        return _Row.model_validate(found)
    except ValidationError as error:
        text = str(bad_settings(error, _Row, {}))
        msg = f"{where}: {text}"
        raise BadInputError(msg) from None
