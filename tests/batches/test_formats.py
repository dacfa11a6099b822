"""Files of every format, encoding, and compression are answered, and come back as they were."""

import asyncio
import codecs
import gzip
import io
import json
import os
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from backports import zstd
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.batches.files import (
    ADDED,
    csv_of,
    ndjson_of,
    parquet_of,
    parquet_table,
    read_csv,
    read_ndjson,
    read_parquet,
    read_xlsx,
    sheet_of,
    xlsx_of,
)
from tests.batches.parts import answered, do_jobs, results, rows
from tests.builders import NO_VERIFIED, Company, World, web_id

# `make explore` tries more.
EXAMPLES = int(os.environ.get("EXAMPLES", "3"))

FORMULAS = [
    "=1+1",
    "+1",
    "-2",
    "@x",
    "\tx",
    "\rx",
    "\nx",
    "\uff1d1",
    "\uff0b1",
    "\uff0d1",
    "\uff20x",
]

# What no format may change. Excel's own escapes and characters that XML lacks are among them.
TEXTS = [
    *FORMULAS,
    "",
    " two spaces ",
    "a,b;c|d\te",
    'say "hi"',
    '"',
    '""',
    "'apostrophe",
    "'=1",
    "two\r\nlines",
    "three\rmore\nlines",
    "\u2028\u2029\u0085\x0b\x0c\x1c",
    "_x0041_",
    "007",
    "1e5",
    "1.10",
    "TRUE",
    "null",
    "NaN",
    "2026-01-02",
    "#N/A",
    "é € 漢 🙂 e\u0301",
    "\u202eabc",
    "{}",
    "[1]",
    "\\",
    "\\n",
    "x" * 5000,
]


@pytest.fixture
async def buyer(world: World) -> Company:
    return await world.company()


def guarded(text: str) -> str:
    """A text as CSV has it."""
    return f"'{text}" if text[:1] and text[0] in "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20" else text


async def test_every_encoding_comes_back_as_utf_8(world: World, buyer: Company) -> None:
    table = [["id", "certificate", "note"], ["1", web_id(), "é"], ["2", web_id(), "€"]]
    text = csv_of(table).decode()
    uploads = {
        "utf-8": text.encode(),
        "utf-8-sig": text.encode("utf-8-sig"),
        "utf-16": text.encode("utf-16"),
        "utf-16-le": text.encode("utf-16-le"),
        "utf-16-be": text.encode("utf-16-be"),
        "utf-16 with a mark": codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
        "utf-32": text.encode("utf-32"),
        "cp1252": text.encode("cp1252"),
    }
    for name, content in uploads.items():
        batch = await answered(world, buyer, content)
        assert (batch["state"], batch["column"]) == ("finished", "certificate"), name
        told = await results(world, buyer, batch)
        assert [row[:3] for row in read_csv(told)] == table, name
        # A spreadsheet takes text without the mark for Windows-1252.
        assert told.startswith(codecs.BOM_UTF8) == (name != "utf-8"), name


async def test_every_delimiter_and_end_of_line_is_found_and_delimiters_are_kept(
    world: World, buyer: Company
) -> None:
    table = [["id", "certificate", "note"], ["1", web_id(), "a,b;c"], ["2", web_id(), "d\te|f"]]
    for delimiter, end in zip(",;\t|", ("\n", "\r\n", "\r", "\n"), strict=True):
        content = csv_of(table, delimiter).replace(b"\r\n", end.encode())
        batch = await answered(world, buyer, content)
        assert batch["state"] == "finished", (delimiter, end)
        told = read_csv(await results(world, buyer, batch), delimiter)
        assert [row[:3] for row in told] == table


async def test_compressed_files_are_read_also_in_several_parts(
    world: World, buyer: Company
) -> None:
    first, second = [csv_of([["certificate"], [web_id()]]), csv_of([[web_id()]])]
    sheet = xlsx_of([["certificate"], [web_id()], [web_id()]])
    for content in (
        gzip.compress(first + second),
        gzip.compress(first) + gzip.compress(second),
        zstd.compress(first + second),
        zstd.compress(first) + zstd.compress(second),
        gzip.compress(sheet),
        zstd.compress(parquet_of({"certificate": [web_id(), web_id()]})),
        gzip.compress(ndjson_of([["certificate"], [web_id()], [web_id()]])),
    ):
        batch = await answered(world, buyer, content)
        assert (batch["state"], batch["rows"]) == ("finished", 2), batch


async def test_text_comes_back_unchanged_from_every_format_in_every_format(
    world: World, buyer: Company
) -> None:
    ids = [web_id() for _ in TEXTS]
    table = [
        ["certificate", "=note"],
        *([cert_id, text] for cert_id, text in zip(ids, TEXTS, strict=True)),
    ]
    uploads = {
        "csv": csv_of(table),
        "ndjson": ndjson_of(table),
        "parquet": parquet_of({"certificate": ids, "=note": TEXTS}),
        "xlsx": xlsx_of(table),
    }
    for name, content in uploads.items():
        batch = await answered(world, buyer, content)
        assert (batch["state"], batch["format"]) == ("finished", name)
        for form, read in (("ndjson", read_ndjson), ("parquet", read_parquet), ("xlsx", read_xlsx)):
            header, *told = read(await results(world, buyer, batch, format=form))
            assert header == ["certificate", "=note", *ADDED], (name, form)
            # An empty cell of a sheet is no text, and neither are line ends of XML any other ones.
            expected = (
                [text.replace("\r\n", "\n") for text in TEXTS] if "xlsx" in (name, form) else TEXTS
            )
            texts = [
                (row[1] or "").replace("\r\n", "\n") if "xlsx" in (name, form) else row[1]
                for row in told
            ]
            assert texts == expected, (name, form)
        header, *told = read_csv(await results(world, buyer, batch, format="csv"))
        assert header[:2] == ["certificate", "'=note"]
        if name != "xlsx":
            assert [row[1] for row in told] == list(map(guarded, TEXTS)), name


async def test_cells_of_a_sheet_that_look_like_formulas_are_text(
    world: World, buyer: Company
) -> None:
    table = [["certificate", "note"], *([web_id(), text] for text in FORMULAS)]
    batch = await answered(world, buyer, csv_of(table))
    content = await results(world, buyer, batch, format="xlsx")
    import zipfile

    book = zipfile.ZipFile(io.BytesIO(content))
    assert b"<f>" not in book.read("xl/worksheets/sheet1.xml")
    assert b'quotePrefix="1"' in book.read("xl/styles.xml")


names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
cells = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
        st.sampled_from("\"',;|\t\r\n=+-@ \uff1d\u2028{[\\"),
    ),
    max_size=12,
)


@st.composite
def tables(draw: st.DrawFn) -> list[list[str]]:
    """A table of text without the column that is asked about."""
    header = draw(
        st.lists(
            names.filter(lambda name: name == name.strip()), min_size=1, max_size=4, unique=True
        )
    )
    width = len(header)
    return [
        header,
        *draw(st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=6)),
    ]


async def test_any_table_of_text_comes_back_unchanged(world: World) -> None:
    """Hypothesis runs in its own thread, because it blocks until this loop has done each step."""
    loop = asyncio.get_running_loop()

    async def check(table: list[list[str]]) -> None:
        # Each account keeps only so many batches.
        caller = await world.company()
        table = [["The certificate", *table[0]], *([web_id(), *row] for row in table[1:])]
        columns = {name: [row[at] for row in table[1:]] for at, name in enumerate(table[0])}
        width = len(table[0])
        for content in (csv_of(table), ndjson_of(table), parquet_of(columns)):
            batch = await answered(world, caller, content, column="The certificate")
            assert batch["state"] == "finished", batch["error"]
            for form, read in (("ndjson", read_ndjson), ("parquet", read_parquet)):
                told = read(await results(world, caller, batch, format=form))
                assert [row[:width] for row in told] == table
            told = read_csv(await results(world, caller, batch, format="csv"))
            expected = [list(map(guarded, row)) for row in table]
            assert [row[:width] for row in told] == expected

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        # A failure is clear as it is; shrinking it takes minutes.
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(tables())
    def run(table: list[list[str]]) -> None:
        asyncio.run_coroutine_threadsafe(check(table), loop).result()

    await asyncio.to_thread(run)


async def test_lines_of_json_come_back_as_they_were_with_names_at_the_end(
    world: World, buyer: Company
) -> None:
    lines = [
        '{"c":"%s","n":1.10,"big":1180591620717411303424,"nested":{"x":[1, null]},"b":true}',
        '{ "c" : "%s" , "z" : null, "c2":"\\u00e9\\ud83d\\ude42", "n": 1E5, "t": -0.0 }',
        '{"c":"%s","n":12345678901234567890.123456789,"huge":1e400}',
    ]
    content = "\n".join(line % web_id() for line in lines)
    batch = await answered(world, buyer, content.encode())
    told = (await results(world, buyer, batch)).decode().splitlines()
    for line, result in zip(content.splitlines(), told, strict=True):
        assert result.startswith(line[:-1].rstrip())
        assert json.loads(result)["confirmed_owner"] is None
    csv_rows = await rows(world, buyer, batch)
    assert [row["n"] for row in csv_rows] == ["1.10", "1E5", "12345678901234567890.123456789"]
    assert csv_rows[0]["nested"] == '{"x":[1, null]}'
    assert (csv_rows[0]["b"], csv_rows[1]["z"], csv_rows[1]["c2"]) == ("true", "", "é🙂")


async def test_numbers_of_json_are_exact_in_parquet_and_sheets(
    world: World, buyer: Company
) -> None:
    """Those that no double holds become text there."""
    columns: dict[str, list[str]] = {
        "int": ["1", "-7"],
        "long": ["9007199254740993", "1"],
        "mixed": ["9007199254740993", "0.5"],
        "big": ["1180591620717411303424", "0"],
        "float": ["1.5", "0.30000000000000004"],
        "exponent": ["1e5", "-2.5E-3"],
        "huge": ["1e400", "1e999999999999999999999999"],
        "exact": ["12345678901234567890.123456789", "1"],
    }
    lines = [
        ", ".join(f'"{name}": {values[at]}' for name, values in columns.items()) for at in range(2)
    ]
    content = "".join(f'{{"c": "{web_id()}", {line}}}\n' for line in lines)
    batch = await answered(world, buyer, content.encode())
    assert batch["state"] == "finished"
    table = parquet_table(await results(world, buyer, batch, format="parquet"))
    assert {name: table.column(name).to_pylist() for name in columns} == {
        "int": [1, -7],
        "long": [9007199254740993, 1],
        "mixed": ["9007199254740993", "0.5"],
        "big": ["1180591620717411303424", "0"],
        "float": [1.5, 0.30000000000000004],
        "exponent": [100000, -0.0025],
        "huge": columns["huge"],
        "exact": ["12345678901234567890.123456789", "1"],
    }
    header, first, _ = read_xlsx(await results(world, buyer, batch, format="xlsx"))
    sheet = dict(zip(header, first, strict=True))
    assert sheet["int"] == 1
    assert sheet["long"] == "9007199254740993"
    assert sheet["big"] == "1180591620717411303424"
    assert sheet["huge"] == "1e400"


KINDS: dict[str, tuple[Any, Any, str]] = {
    "int": (pa.int64(), 1, "1"),
    "unsigned": (pa.uint64(), 2**64 - 1, "18446744073709551615"),
    "float": (pa.float64(), 0.1, "0.1"),
    "nan": (pa.float64(), float("nan"), "nan"),
    "infinite": (pa.float64(), float("-inf"), "'-inf"),
    "bool": (pa.bool_(), True, "true"),
    "decimal": (pa.decimal128(38, 2), Decimal("1.10"), "1.10"),
    "date": (pa.date32(), date(2026, 1, 2), "2026-01-02"),
    "old": (pa.date32(), date(1066, 10, 14), "1066-10-14"),
    "time": (pa.time64("us"), time(1, 2, 3, 4), "01:02:03.000004"),
    "instant": (
        pa.timestamp("us", "UTC"), datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "2026-01-02T03:04:00+00:00",
    ),
    "local": (pa.timestamp("ms"), datetime(1600, 1, 2, 3, 4), "1600-01-02T03:04:00"),  # noqa: DTZ001
    "exact": (pa.timestamp("ns"), 1, "1970-01-01 00:00:00.000000001"),
    "far": (pa.timestamp("s"), 10**12, "<value out of range: 1000000000000000>"),
    "moment": (pa.time64("ns"), 1, "00:00:00.000000001"),
    "duration": (pa.duration("s"), timedelta(seconds=90), "PT90S"),
    "bytes": (pa.binary(), b"\xff\0", "/wA="),
    "text": (pa.binary(), "é".encode(), "é"),
    "fixed": (pa.binary(2), b"ab", "ab"),
    "large": (pa.large_string(), "x", "x"),
    "list": (pa.list_(pa.int64()), [1, None], "[1,null]"),
    "struct": (pa.struct({"x": pa.string()}), {"x": "y"}, '{"x":"y"}'),
    "map": (pa.map_(pa.string(), pa.int64()), [("k", 1)], '[["k",1]]'),
    "times": (pa.list_(pa.timestamp("ns")), [1], '["1970-01-01 00:00:00.000000001"]'),
    "decimals": (pa.list_(pa.decimal128(5, 2)), [Decimal("1.10")], '["1.10"]'),
    "null": (pa.null(), None, ""),
}  # fmt: skip


async def test_every_kind_of_parquet_stays_in_parquet_and_is_told_as_text(
    world: World, buyer: Company
) -> None:
    arrays = {name: pa.array([value, None], kind) for name, (kind, value, _) in KINDS.items()}
    arrays["choice"] = pa.array(["x", None]).dictionary_encode()
    table = pa.table({"certificate": [web_id(), web_id()], **arrays})
    content = parquet_of({name: table.column(name) for name in table.column_names})
    given = parquet_table(content)
    batch = await answered(world, buyer, content)
    assert batch["state"] == "finished", batch["error"]
    told = parquet_table(await results(world, buyer, batch)).select(table.column_names)
    assert told.schema.types == given.schema.types
    assert told.drop_columns("nan").equals(given.drop_columns("nan"))
    full, empty = await rows(world, buyer, batch)
    assert {name: full[name] for name in KINDS} == {
        name: text for name, (_, _, text) in KINDS.items()
    }
    assert {empty[name] for name in arrays} == {""}
    for form, read in (("ndjson", read_ndjson), ("xlsx", read_xlsx)):
        header, first, _ = read(await results(world, buyer, batch, format=form))
        row = dict(zip(header, first, strict=True))
        assert row["bool"] is True
        assert (row["decimal"], row["exact"], row["text"]) == ("1.10", KINDS["exact"][2], "é"), form
        assert row["old"] == "1066-10-14"
    assert row["date"] == date(2026, 1, 2)


async def test_cells_of_a_sheet_keep_their_kinds(world: World, buyer: Company) -> None:
    def fill(book: Any, sheet: Any) -> None:
        sheet.write_row(0, 0, ["certificate", "zip", "day", "at", "hour", "amount", "bool", "sum"])
        formats = [
            book.add_format({"num_format": form})
            for form in ("yyyy-mm-dd", "yyyy-mm-dd hh:mm", "hh:mm")
        ]
        for row in (1, 3):
            sheet.write_row(row, 0, [web_id()])
            sheet.write_string(row, 1, "00501")
            sheet.write_datetime(row, 2, date(2026, 1, 2), formats[0])
            sheet.write_datetime(row, 3, datetime(2026, 1, 2, 3, 4), formats[1])  # noqa: DTZ001
            sheet.write_datetime(row, 4, time(5, 6), formats[2])
            sheet.write_number(row, 5, 1.5)
            sheet.write_boolean(row, 6, False)
            sheet.write_formula(row, 7, "=1+1", None, 2)

    batch = await answered(world, buyer, sheet_of(fill, sheets=2))
    assert (batch["column"], batch["rows"]) == ("certificate", 2), batch
    when = datetime(2026, 1, 2, 3, 4)  # noqa: DTZ001
    expected = ["00501", date(2026, 1, 2), when, time(5, 6), 1.5, False, 2]
    for form, read in (("xlsx", read_xlsx), ("parquet", read_parquet)):
        told = read(await results(world, buyer, batch, format=form))
        assert [row[1:8] for row in told[1:]] == [expected, expected], form
    (first, _) = await rows(world, buyer, batch)
    assert list(first.values())[1:8] == [
        "00501", "2026-01-02", "2026-01-02T03:04:00", "05:06:00", "1.5", "false", "2",
    ]  # fmt: skip


async def test_sheet_that_is_named_is_read(world: World, buyer: Company) -> None:
    def fill(book: Any, sheet: Any) -> None:
        sheet.write_row(0, 0, ["notes"])
        sheet.write_row(1, 0, ["none"])
        other = book.add_worksheet("Leads & more")
        # Tables don't always begin at the first cell.
        other.write_row(3, 2, ["lead", "certificate"])
        other.write_row(4, 2, [1, web_id()])

    content = sheet_of(fill)
    batch = await answered(world, buyer, content, sheet="Leads & more")
    assert (batch["state"], batch["column"], batch["rows"]) == ("finished", "certificate", 1)
    failed = await answered(world, buyer, content, sheet="leads")
    assert failed["error"]["code"] == "no_such_sheet"
    assert "Leads & more" in failed["error"]["detail"]


# Headers and tables below them, with the column that is found and what it asks about.
FOUND: list[tuple[list[str], list[list[str]], str, str]] = [
    # Names of columns that are top-level domains, too.
    (["id", "name", "ID"], [["1", "Ann", "CERT"], ["2", "Bob", "CERT"]], "ID", "certificates"),
    (["host"], [["a.example"], ["www.b.example"]], "host", "hosts"),
    (["page"], [["https://a.example/x?y"], ["http://b.example"]], "page", "pages"),
    (["zip", "state", "site"], [["00501", "CA", "a.example"]], "site", "hosts"),
    # Names that could be hosts.
    (["lead.host", "c"], [["a.example", "CERT"]], "c", "certificates"),
    (["lead.name", "lead.cert"], [["Ann", "CERT"], ["Bob", "CERT"]], "lead.cert", "certificates"),
    (["Email", "lead.email", "x"], [["a@b.com", "c@d.com", "CERT"]], "x", "certificates"),
    # Scores, amounts, phones and dates are no ids.
    (["score", "certificate"], [["0.87", "CERT"], ["0.5", "CERT"]], "certificate", "certificates"),
    (["a", "b", "c", "d"], [["5.00", "5125550101", "2026-01-02", "URL"]], "d", "certificates"),
    # Certificates come before pages, and those before hosts.
    (["h", "p", "c"], [["a.example", "https://a.example/", "CERT"]], "c", "certificates"),
    (["h", "p"], [["a.example", "https://a.example/"]], "p", "pages"),
    # A few bad values don't matter.
    (["n", "c"], [["x", "CERT"]] * 8 + [["y", "?"], ["z", ""]], "c", "certificates"),
    (["Cert  URL ", "n"], [["HTTPS://CERT.TRUSTEDFORM.COM/UPPER", "1"]], "Cert  URL", "certificates"),
    (["n", "c"], [["1", "cert.trustedform.com/LOWER"]], "c", "certificates"),
]  # fmt: skip


async def test_column_is_found_by_its_content(world: World, buyer: Company) -> None:
    def filled(cell: str) -> str:
        return (
            cell.replace("CERT", web_id())
            .replace("URL", f"https://cert.trustedform.com/{web_id()}")
            .replace("LOWER", web_id())
        )

    for header, lines, column, kind in FOUND:
        body = [
            [
                filled(cell)
                if cell in ("CERT", "URL") or cell.endswith("LOWER")
                else cell.replace("UPPER", web_id().upper())
                for cell in line
            ]
            for line in lines
        ]
        batch = await answered(world, buyer, csv_of([header, *body]))
        assert batch["state"] == "finished", (header, batch["error"])
        assert (batch["column"], batch["asks_about"]) == (column, kind), header
        assert batch["rows"] == len(body), header


async def test_one_value_a_line_needs_no_header(world: World, buyer: Company) -> None:
    ids = [await world.certificate(domain="a.example") for _ in range(2)]
    values = {
        "certificates": [ids[0], f"https://cert.trustedform.com/{ids[1]}", ids[0]],
        "pages": ["https://a.example/b,c", "http://b.example/"],
        "hosts": ["a.example", "WWW.B.EXAMPLE"],
    }
    for kind, some in values.items():
        batch = await answered(world, buyer, "\n".join([*some, "", ""]).encode())
        assert (batch["asks_about"], batch["rows"]) == (kind, len(some)), batch
        told = await rows(world, buyer, batch)
        assert [row["confirmed_owner"] for row in told] == [NO_VERIFIED] * len(some)
        assert {row["error"] for row in told} == {""}


async def test_named_column_is_asked_about_whatever_it_has(world: World, buyer: Company) -> None:
    one, two = [await world.certificate(domain=f"{name}.example") for name in ("one", "two")]
    content = csv_of([["first", "second", "lead.host"], [one, two, "three.example"]])
    failed = await answered(world, buyer, content)
    assert failed["error"]["code"] == "no_such_column"
    assert "“first”, “second”" in failed["error"]["detail"]
    for column, domain in (("first", "one"), ("second", "two"), ("lead.host", "three")):
        batch = await answered(world, buyer, content, column=column)
        (row,) = await rows(world, buyer, batch)
        assert (batch["column"], row["domain"]) == (column, f"{domain}.example")
    hosts = await answered(world, buyer, b"lead.host\na.example\n", column="lead.host")
    assert (hosts["column"], hosts["rows"]) == ("lead.host", 1)
    bad = await answered(world, buyer, csv_of([["first", "n"], ["nothing", "1"]]), column="first")
    (row,) = await rows(world, buyer, bad)
    assert row["error"].startswith("invalid_certificate_id: ")


async def test_headers_that_are_missing_blank_or_twice_come_back_as_they_were(
    world: World, buyer: Company
) -> None:
    row = [web_id(), "1", "2", "3"]
    for header, names in (
        (["c", "n", "n", "n"], ["c", "n", "n_2", "n_3"]),
        (["c", "", " ", "n"], ["c", "column_2", "column_3", "n"]),
        (["c", "n" * 300, "n_2", "N"], ["c", "n" * 300, "n_2", "N"]),
        (None, ["column_1", "column_2", "column_3", "column_4"]),
    ):
        batch = await answered(world, buyer, csv_of([header, row] if header else [row]))
        told = read_csv(await results(world, buyer, batch))
        assert [line[:4] for line in told] == [header or names, row]
        told = read_ndjson(await results(world, buyer, batch, format="ndjson"))
        assert [line[:4] for line in told] == [names, row]


async def test_checked_file_is_checked_again_beside_what_it_was_told(
    world: World, buyer: Company
) -> None:
    certificate = await world.certificate(domain="a.example")
    batch = await answered(world, buyer, csv_of([["certificate", "n"], [certificate, "x"]]))
    first = await results(world, buyer, batch)
    again = await answered(world, buyer, first)
    assert again["column"] == "certificate"
    for form, read in (("csv", read_csv), ("ndjson", read_ndjson), ("parquet", read_parquet)):
        header, row = read(await results(world, buyer, again, format=form))
        assert header == ["certificate", "n", *ADDED, *(f"{name}_2" for name in ADDED)]
        assert row[:8] == read_csv(first)[1], form
        assert row[8:11] == [NO_VERIFIED, "none", "a.example"]


async def test_batch_of_what_is_retained_has_those_with_a_label_since_an_instant(
    world: World, buyer: Company
) -> None:
    ids = [await world.certificate(domain="a.example") for _ in range(3)]
    since = None
    for cert_id, vendor in zip(ids, ("Acme", "Acme", "Other"), strict=True):
        if cert_id == ids[1]:
            since = (await world.instant()).isoformat()
        await world.fetch(
            "INSERT INTO retained_certificate (account_id, cert_id, retained_at, vendor, answer_id) "
            "VALUES ($1, $2, clock_timestamp(), $3, gen_random_uuid())",
            buyer.id,
            cert_id,
            vendor,
        )
    for asked, expected in (({}, ids), ({"vendor": "Acme"}, ids[:2]), ({"since": since}, ids[1:])):
        response = await world.client.post(
            "/v1/batches", headers=buyer.headers, json={"of": "retained", **asked}
        )
        await do_jobs(world)
        told = await rows(world, buyer, response.json())
        assert [row["cert_id"] for row in told] == expected, asked
        assert {row["domain"] for row in told} == {"a.example"}


async def test_rows_keep_their_order_over_many_groups_and_repeated_certificates(
    world: World, buyer: Company
) -> None:
    ids = [await world.certificate(domain=f"{name}.example") for name in "abc"]
    expected = [(str(n), f"{'abc'[n % 3]}.example") for n in range(11_000)]
    lines = (f"{n},{ids[n % 3]}\n" for n in range(11_000))
    batch = await answered(world, buyer, ("n,certificate\n" + "".join(lines)).encode())
    assert (batch["rows"], batch["counts"]["none"]) == (11_000, 11_000)
    told = await rows(world, buyer, batch)
    assert [(row["n"], row["domain"]) for row in told] == expected
    assert len({row["answer_id"] for row in told}) == 11_000


async def test_download_continues_where_it_was_cut_off(world: World, buyer: Company) -> None:
    lines = "".join(f"{web_id()},{n}\n" for n in range(200))
    batch = await answered(world, buyer, f"certificate,n\n{lines}".encode())
    path = f"/v1/batches/{batch['id']}/results"

    async def ranged(asked: str, **headers: str) -> Any:
        return await world.client.get(path, headers={**buyer.headers, "Range": asked, **headers})

    whole = await world.client.get(path, headers=buyer.headers)
    size = len(whole.content)
    assert (whole.headers["accept-ranges"], whole.headers["content-length"]) == ("bytes", str(size))
    for asked, start, end in (
        ("bytes=0-0", 0, 1),
        ("bytes=100-", 100, size),
        ("bytes=10-99", 10, 100),
        (f"bytes=5-{size * 9}", 5, size),
        ("bytes=-7", size - 7, size),
        (f"bytes=-{size * 9}", 0, size),
    ):
        part = await ranged(asked)
        assert (part.status_code, part.content) == (206, whole.content[start:end]), asked
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
    for asked in (f"bytes={size}-", "bytes=9-5", "bytes=-0"):
        part = await ranged(asked)
        assert (part.status_code, part.headers["content-range"]) == (416, f"bytes */{size}"), asked
    for asked in ("bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,4-5"):
        assert (await ranged(asked)).content == whole.content, asked
    tag = whole.headers["etag"]
    assert (await ranged("bytes=1-", **{"If-Range": tag})).status_code == 206
    assert (await ranged("bytes=1-", **{"If-Range": '"other"'})).content == whole.content


def test_texts_are_of_every_kind_that_a_spreadsheet_would_compute() -> None:
    assert all(guarded(text) != text for text in FORMULAS)
