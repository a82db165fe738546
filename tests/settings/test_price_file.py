"""The file of prices."""

from __future__ import annotations

from pathlib import Path

import pytest

from air_executor.core.price import FREE, PriceRule, Prices
from air_executor.errors import BadInputError
from air_executor.model.times import from_text
from air_executor.settings.price_file import with_price_file

HEADER = "valid_from,backend,label,node_label,currency,cpu_hour"


def read(tmp_path: Path, text: str, backend: str = "local") -> Prices:
    """Return prices with the rules of a file."""
    path = tmp_path / "prices.csv"
    path.write_text(text)
    return with_price_file(FREE, backend, str(path))


def test_a_row_is_a_rule(tmp_path: Path) -> None:
    """Those of other backends are left out; empty cells are no condition."""
    text = f"{HEADER}\n2026-01-31,,team=data,,EUR,0.04\n\n,docker,,,EUR,1\n,local,,zone=b,USD,\n"
    assert read(tmp_path, text).rules == (
        PriceRule(Prices("EUR", cpu_hour=0.04, valid_from=from_text("2026-01-31T00:00:00Z")), ("team", "data")),
        PriceRule(Prices("USD"), node_label=("zone", "b")),
    )


def test_a_spreadsheet_writes_it(tmp_path: Path) -> None:
    """With a byte order mark, CRLF, quotes and spaces."""
    path = tmp_path / "prices.csv"
    path.write_bytes(b'\xef\xbb\xbf"currency", "runner_hour"\r\n"EUR", "0.5"\r\n')
    assert with_price_file(FREE, "local", str(path)).rules == (PriceRule(Prices("EUR", 0.5)),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "prices.csv:1: each column must stand once, and currency is required"),
        ("currency,cpu\nEUR,1\n", 'prices.csv:1: column "cpu": unknown; did you mean cpu_hour?'),
        ("currency,currency\n", "prices.csv:1: each column must stand once"),
        (
            f"{HEADER}\n,,,,EUR,-1\n",
            'prices.csv:2: cpu_hour: must be a number that is not negative, like 0.12, got "-1"',
        ),
        (f"{HEADER}\n,,,,EUR,1\nsoon,,,,EUR,1\n", "prices.csv:3: valid_from: must be a day, like 2026-01-31"),
        (f"{HEADER}\n,,spot,,EUR,1\n", "prices.csv:2: label: must be a name and a value, like team=data"),
        (f"{HEADER}\n,,,,,1\n", "prices.csv:2: currency"),
        (f"{HEADER}\n,,,,EUR,1,2\n", "prices.csv:2: has 7 cells for 6 columns"),
        (f'{HEADER}\n,,,,"EUR,1\n', "is no CSV"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    """One line."""
    with pytest.raises(BadInputError) as error:
        read(tmp_path, text)
    assert message in str(error.value)


@pytest.mark.parametrize(("data", "message"), [(None, "cannot be read"), (b"\xff\xfe", "is not UTF-8")])
def test_what_is_no_text_is_refused(tmp_path: Path, data: bytes | None, message: str) -> None:
    """As is a file that is not there."""
    path = tmp_path / "prices.csv"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(BadInputError, match=message):
        with_price_file(FREE, "local", str(path))
