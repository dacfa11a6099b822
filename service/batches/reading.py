"""Find out what an uploaded file is, and how to read it.

Formats and encodings are told by the content: what people call a file, or declare it to be, is often
wrong. Errors say where in the file they are, and what to do.
"""

import codecs
import gzip
import zlib
from typing import Any, BinaryIO

from backports import zstd

from service.batches.files import BLOCK, Reader, UnreadableFile
from service.batches.parquet_files import ParquetReader
from service.batches.records import MAX_UPLOAD, Format, Options
from service.batches.spreadsheets import XlsxReader
from service.batches.texts import CsvReader, LinesReader, start_of


def reader_of(raw: BinaryIO, spare: BinaryIO, options: Options) -> Reader:
    """Return the reader of an uploaded file. Raises `UnreadableFile`.

    An empty file is needed for what is decompressed. Both have to stay open while it is read.
    """
    file = _decompressed(raw, spare)
    head = file.read(8)
    file.seek(0)
    if not head:
        raise UnreadableFile("empty_file", "the file is empty")
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        raise UnreadableFile(
            "unreadable_file",
            "the file has a password, or is an old .xls: save it as .xlsx without a password",
        )
    if head.startswith(b"PAR1"):
        return _read_as("parquet", options, lambda: ParquetReader(file, options))
    if head.startswith(b"PK\x03\x04"):
        return _read_as("xlsx", options, lambda: XlsxReader(file, options))
    if options.format in ("parquet", "xlsx"):
        raise UnreadableFile("unreadable_file", f"the file is not {_CALLED[options.format]}")
    encoding, is_marked = _encoding_of(file)
    start = start_of(file, encoding).lstrip()
    if options.format == "ndjson" or (options.format is None and start.startswith("{")):
        if encoding != "utf-8-sig":
            raise UnreadableFile("unreadable_file", "newline-delimited JSON must be in UTF-8")
        return LinesReader(file, options)
    if options.format is None and start.startswith("["):
        raise UnreadableFile(
            "unreadable_file", "this is a JSON array: send one object per line instead"
        )
    return CsvReader(file, encoding, options, is_marked=is_marked)


_CALLED: dict[Format, str] = {
    "csv": "CSV",
    "ndjson": "newline-delimited JSON",
    "parquet": "Parquet",
    "xlsx": "an .xlsx spreadsheet",
}


def _read_as(is_a: Format, options: Options, read: Any) -> Reader:
    if options.format is not None and options.format != is_a:
        raise UnreadableFile(
            "unreadable_file",
            f"the file is {_CALLED[is_a]}, not {_CALLED[options.format]}",
        )
    return read()


def _decompressed(raw: BinaryIO, plain: BinaryIO) -> BinaryIO:
    head = raw.read(4)
    raw.seek(0)
    opened: Any
    if head.startswith(b"\x1f\x8b"):
        opened = gzip.GzipFile(fileobj=raw)
    elif head == b"\x28\xb5\x2f\xfd":
        opened = zstd.ZstdFile(raw)
    else:
        return raw
    try:
        while block := opened.read(BLOCK):
            plain.write(block)
            if plain.tell() > MAX_UPLOAD:
                raise UnreadableFile("too_large", "the file has more than 2 GB once decompressed")
    except EOFError:
        raise UnreadableFile(
            "unreadable_file", "the compressed file is cut off: upload it again as a whole"
        ) from None
    except (OSError, zlib.error, zstd.ZstdError) as error:
        raise UnreadableFile(
            "unreadable_file", f"the file can't be decompressed: {error}"
        ) from None
    plain.seek(0)
    return plain


def _encoding_of(file: BinaryIO) -> tuple[str, bool]:
    """Return the encoding of a text, and whether a copy needs a mark to be taken for UTF-8."""
    head = file.read(4096)
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if head.startswith(mark):
            _check_decodes(file, encoding)
            return encoding, True
    # Most of what tables hold is ASCII, which has a NUL in each pair of bytes in UTF-16.
    for encoding, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[::2])):
        if len(zeros) > 1 and zeros.count(0) > 0.7 * len(zeros):
            _check_decodes(file, encoding)
            return encoding, True
    if b"\0" in head:
        raise UnreadableFile(
            "unreadable_file",
            "this is no text: upload CSV, newline-delimited JSON, Parquet, or .xlsx",
        )
    if _is_in_utf_8(file):
        return "utf-8-sig", False
    _check_decodes(file, "cp1252")
    return "cp1252", True


def _is_in_utf_8(file: BinaryIO) -> bool:
    """Return whether a whole text is in UTF-8; leave it at its start.

    Raises `UnreadableFile` if it is only up to some character: in Windows-1252, what came before
    would be other characters than meant, without anybody noticing.
    """
    file.seek(0)
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    line, is_ascii = 1, True
    try:
        while block := file.read(BLOCK):
            text = decoder.decode(block)
            is_ascii = is_ascii and text.isascii()
            line += block.count(b"\n")
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        line += before.count(b"\n")
        if is_ascii and before.isascii():
            return False
        raise UnreadableFile(
            "unreadable_file",
            f"line {line} is not in UTF-8, but the text before it is: save the whole file as UTF-8",
        ) from None
    finally:
        file.seek(0)
    return True


def _check_decodes(file: BinaryIO, encoding: str) -> None:
    """Read a whole text, and leave it at its start. Raises `UnreadableFile`."""
    file.seek(0)
    decoder = codecs.getincrementaldecoder(encoding)()
    read = 0
    try:
        while block := file.read(BLOCK):
            decoder.decode(block)
            read += len(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise UnreadableFile(
            "unreadable_file",
            f"the text is neither UTF-8, UTF-16, nor Windows-1252: see byte {read + error.start}",
        ) from None
    finally:
        file.seek(0)
