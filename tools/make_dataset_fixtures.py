#!/usr/bin/env python3
"""Small parquet files in every form that is read, and what they hold, one JSON object a line.

usage: make_dataset_fixtures.py OUT [--speed MIB]

OUT/<table>.<form>.parquet is written by pyarrow, or by `datasets` where the form is called so; OUT/<table>.jsonl is
`to_pylist` of the table. Everything is drawn from a fixed seed, so a second run gives the same bytes.
With --speed only OUT/speed.parquet is written: chats of MIB mebibytes, by `datasets`.
"""
import argparse
import datetime
import decimal
import json
import os
import random
import struct

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

CODECS = {"snappy": "snappy", "zstd": "zstd", "gzip": "gzip", "none": "none"}
PAGES = {"v1": "1.0", "v2": "2.0"}
WORDS = ("layer expert router weight the of a to and in token model scale group Übergröße naïve 量化 模型 слой вес "
         "🙂 👩‍🚀 e\u0301 \u00e9 \"quoted\" back\\slash tab\there line\nbreak").split(" ")


def sentence(rng, words):
    return " ".join(rng.choice(WORDS) for _ in range(words))


def chat(rng, turns, words):
    """A row as ultrachat_200k has it: the prompt is the first message."""
    messages = [{"content": sentence(rng, rng.randrange(0, words)), "role": ("user", "assistant")[i % 2]}
                for i in range(turns)]
    return {"prompt": messages[0]["content"] if messages else "", "prompt_id": f"{rng.getrandbits(256):064x}",
            "messages": messages}


def chats(rng, rows, words=12):
    return pa.Table.from_pylist([chat(rng, rng.randrange(0, 5), words) for _ in range(rows)], schema=pa.schema([
        ("prompt", pa.string()), ("prompt_id", pa.string()),
        ("messages", pa.list_(pa.struct([("content", pa.string()), ("role", pa.string())])))]))


def texts(rng, rows):
    values = [rng.choice([None, "", "twice", sentence(rng, rng.randrange(1, 30))]) for _ in range(rows)]
    return pa.table({"text": pa.array(values, pa.string())})


def numbers(rng, rows):
    def some(value, chance=0.2):
        return None if rng.random() < chance else value

    def ints(bits, count):
        return [rng.choice([0, 1, -1, 2 ** (bits - 1) - 1, -2 ** (bits - 1), rng.randrange(-2 ** 20, 2 ** 20)])
                for _ in range(count)]

    def lists(bits):
        return [some(ints(bits, rng.randrange(0, 9)), 0.1) for _ in range(rows)]

    return pa.table({
        "input_ids": pa.array([[rng.randrange(0, 150_000) for _ in range(rng.randrange(0, 60))] for _ in range(rows)],
                              pa.list_(pa.int32())),
        "labels": pa.array(lists(64), pa.list_(pa.int64())),
        "attention_mask": pa.array([some([some(rng.randrange(2)) for _ in range(rng.randrange(0, 5))])
                                    for _ in range(rows)], pa.list_(pa.int8())),
        "count": pa.array([some(v) for v in ints(64, rows)], pa.int64()),
        "unsigned": pa.array([rng.choice([0, 2 ** 64 - 1, 2 ** 63, 5]) for _ in range(rows)], pa.uint64()),
        "unsigned_32": pa.array([rng.choice([0, 2 ** 32 - 1, 7]) for _ in range(rows)], pa.uint32()),
        "single": pa.array([some(rng.choice([0.1, -1.5, 3e38, 1e-45, 16777216.0])) for _ in range(rows)], pa.float32()),
        "score": pa.array([some(rng.choice([0.1, -0.0, 1e300, 5e-324, 1e16, 123456.789])) for _ in range(rows)],
                          pa.float64()),
        "flag": pa.array([some(rng.random() < 0.5) for _ in range(rows)], pa.bool_()),
        "nothing": pa.nulls(rows),
    })


def nested(rng, rows):
    """Calls of tools, lists of lists, and a null wherever there may be one."""
    function = pa.struct([("name", pa.string()), ("arguments", pa.string())])
    call = pa.struct([("id", pa.string()), ("function", function), ("scores", pa.list_(pa.list_(pa.int64())))])
    message = pa.struct([("role", pa.string()), ("content", pa.string()), ("tool_calls", pa.list_(call))])

    def maybe(make):
        return None if rng.random() < 0.2 else make()

    def many(make, most=4):
        return [maybe(make) for _ in range(rng.randrange(0, most))]

    def make_call():
        return {"id": maybe(lambda: f"call-{rng.randrange(1000)}"),
                "function": maybe(lambda: {"name": maybe(lambda: rng.choice(["search", "add"])),
                                           "arguments": maybe(lambda: json.dumps({"q": sentence(rng, 3)}))}),
                "scores": maybe(lambda: many(lambda: many(lambda: rng.randrange(100))))}

    def make_message():
        return {"role": maybe(lambda: rng.choice(["user", "assistant", "tool"])),
                "content": maybe(lambda: sentence(rng, rng.randrange(0, 8))),
                "tool_calls": maybe(lambda: many(make_call, 3))}

    return pa.Table.from_pylist(
        [{"messages": maybe(lambda: many(make_message)),
          "meta": maybe(lambda: {"source": maybe(lambda: "web"), "at": maybe(lambda: {"page": rng.randrange(9)})}),
          "tags": maybe(lambda: many(lambda: sentence(rng, 1)))} for _ in range(rows)],
        schema=pa.schema([
            ("messages", pa.list_(message)),
            ("meta", pa.struct([("source", pa.string()), ("at", pa.struct([("page", pa.int32())]))])),
            ("tags", pa.list_(pa.string()))]))


def required(rng, rows):
    """Nothing may be null: no definition levels but those of lists."""
    def field(name, kind):
        return pa.field(name, kind, nullable=False)

    ids = pa.list_(field("element", pa.int32()))
    message = pa.struct([field("content", pa.string()), field("ids", ids)])
    return pa.Table.from_pylist(
        [{"text": sentence(rng, 4), "number": rng.randrange(10),
          "messages": [{"content": sentence(rng, 2), "ids": [rng.randrange(9) for _ in range(rng.randrange(3))]}
                       for _ in range(rng.randrange(3))]} for _ in range(rows)],
        schema=pa.schema([field("text", pa.string()), field("number", pa.int64()),
                          field("messages", pa.list_(field("element", message)))]))


def leaf_paths(table):
    """Column paths and types as parquet's options name them, lists as list.element."""
    def walk(path, kind):
        if pa.types.is_list(kind):
            yield from walk(f"{path}.list.element", kind.value_type)
        elif pa.types.is_struct(kind):
            for field in kind:
                yield from walk(f"{path}.{field.name}", field.type)
        else:
            yield path, kind
    for field in table.schema:
        yield from walk(field.name, field.type)


def delta_encodings(table, texts_as):
    encodings = {}
    for path, kind in leaf_paths(table):
        if pa.types.is_string(kind):
            encodings[path] = texts_as
        elif pa.types.is_integer(kind):
            encodings[path] = "DELTA_BINARY_PACKED"
        elif pa.types.is_boolean(kind):
            encodings[path] = "RLE"
    return encodings


def write(out, name, form, table, **options):
    options = {"write_statistics": True, "compression": "snappy", **options}
    pq.write_table(table, os.path.join(out, f"{name}.{form}.parquet"), **options)


def write_golden(out, name, table):
    with open(os.path.join(out, f"{name}.jsonl"), "w", encoding="utf-8") as file:
        for row in table.to_pylist():
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_forms(out, name, table):
    """Every codec with both versions of pages and every encoding."""
    for codec in CODECS:
        for version, number in PAGES.items():
            options = {"compression": CODECS[codec], "data_page_version": number}
            write(out, name, f"{codec}-{version}-dictionary", table, **options)
            write(out, name, f"{codec}-{version}-plain", table, use_dictionary=False, **options)
            texts_as = "DELTA_BYTE_ARRAY" if codec in ("zstd", "none") else "DELTA_LENGTH_BYTE_ARRAY"
            write(out, name, f"{codec}-{version}-delta", table, use_dictionary=False,
                  column_encoding=delta_encodings(table, texts_as), **options)


# ---- Lists as other writers built them, by hand: pyarrow reads these but does not write them.

def varint(value):
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + bytes([value]))


def thrift(fields):
    """A structure of the compact protocol; fields are (number, value) in rising order."""
    def encoded(value):
        if isinstance(value, int):
            return 6 if isinstance(value, Long) else 5, varint(value << 1 if value >= 0 else (-value << 1) - 1)
        if isinstance(value, (bytes, str)):
            data = value.encode() if isinstance(value, str) else value
            return 8, varint(len(data)) + data
        if isinstance(value, dict):
            return 12, thrift(sorted(value.items()))
        kinds = {encoded(element)[0] for element in value} or {5}
        header = bytes([len(value) << 4 | min(kinds)]) if len(value) < 15 else bytes([0xF0 | min(kinds)]) + varint(
            len(value))
        return 9, header + b"".join(encoded(element)[1] for element in value)

    out, last = b"", 0
    for number, value in fields:
        kind, data = encoded(value)
        out, last = out + bytes([number - last << 4 | kind]) + data, number
    return out + b"\0"


class Long(int):
    """A number of a field that is declared with 64 bits."""


INT32, BYTES = 1, 6
REQUIRED, OPTIONAL, REPEATED = 0, 1, 2
UTF8, LIST = 0, 3


def field(name, repetition, content, meaning=None):
    """content: a physical type, or the fields of a group."""
    return {"name": name, "repetition": repetition, "content": content, "meaning": meaning}


def schema_elements(node):
    element = {3: node["repetition"], 4: node["name"]}
    children = [] if isinstance(node["content"], int) else node["content"]
    element[5 if children else 1] = len(children) if children else node["content"]
    if node["meaning"] is not None:
        element[6] = node["meaning"]
    return [element] + [e for child in children for e in schema_elements(child)]


def shred(node, value, columns, path=(), repeated=0, depth=0, defined=0):
    """Melnik et al., Dremel, section 4.2: appends (repetition, definition, value) to the columns of the leaves."""
    path = path + (node["name"],)

    def descend(value, repeated, depth, defined):
        if isinstance(node["content"], int):
            columns.setdefault(path, []).append((repeated, defined, value))
            return
        for child in node["content"]:
            shred(child, None if value is None else value[child["name"]], columns, path, repeated, depth, defined)

    if node["repetition"] == REPEATED:
        for index, item in enumerate(value or [None]):
            descend(item, repeated if index == 0 else depth + 1, depth + 1, defined + bool(value))
    else:
        present = node["repetition"] == OPTIONAL and value is not None
        descend(value, repeated, depth, defined + present)


def leaves(node, path=(), repetition=0, definition=0):
    path = path + (node["name"],)
    repetition += node["repetition"] == REPEATED
    definition += node["repetition"] != REQUIRED
    if isinstance(node["content"], int):
        return [(path, node["content"], repetition, definition)]
    return [leaf for child in node["content"] for leaf in leaves(child, path, repetition, definition)]


def levels(values, maximum):
    if maximum == 0:
        return b""
    runs = b"".join(varint(1 << 1) + bytes([value]) for value in values)
    return struct.pack("<I", len(runs)) + runs


def write_by_hand(path, fields, rows):
    columns, data, chunks = {}, b"PAR1", []
    for row in rows:
        for node in fields:
            shred(node, row[node["name"]], columns)
    for path_in_schema, kind, repetition, definition in [leaf for node in fields for leaf in leaves(node)]:
        entries = columns[path_in_schema]
        page = levels([e[0] for e in entries], repetition) + levels([e[1] for e in entries], definition)
        for _, level, value in entries:
            if level == definition:
                page += struct.pack("<i", value) if kind == INT32 else struct.pack("<I", len(value)) + value.encode()
        header = thrift([(1, 0), (2, len(page)), (3, len(page)), (5, {1: len(entries), 2: 0, 3: 3, 4: 3})])
        size, offset = len(header) + len(page), len(data)
        data += header + page
        chunks.append({2: Long(offset), 3: {1: kind, 2: [0, 3], 3: list(path_in_schema), 4: 0, 5: Long(len(entries)),
                                            6: Long(size), 7: Long(size), 9: Long(offset)}})
    root = {4: "schema", 5: len(fields)}
    footer = thrift([(1, 1), (2, [root] + [e for node in fields for e in schema_elements(node)]),
                     (3, Long(len(rows))), (4, [{1: chunks, 2: Long(len(data)), 3: Long(len(rows))}])])
    with open(path, "wb") as file:
        file.write(data + footer + struct.pack("<I", len(footer)) + b"PAR1")


def write_legacy(out):
    text = {"content": BYTES, "meaning": UTF8}
    fields = [
        field("bare", REPEATED, INT32),
        field("protobuf", REPEATED, [field("role", OPTIONAL, **text), field("n", REQUIRED, INT32)]),
        field("two_levels", OPTIONAL, [field("array", REPEATED, INT32)], LIST),
        field("of_arrays", OPTIONAL, [field("array", REPEATED, [field("content", REQUIRED, **text)])], LIST),
        field("of_tuples", REQUIRED, [field("of_tuples_tuple", REPEATED, [field("content", OPTIONAL, **text)])], LIST),
        field("of_pairs", OPTIONAL, [field("bag", REPEATED, [field("role", OPTIONAL, **text),
                                                            field("n", OPTIONAL, INT32)])], LIST),
        field("three_levels", OPTIONAL, [field("strange", REPEATED, [field("names", OPTIONAL, **text)])], LIST),
        field("lists", OPTIONAL, [field("array", REPEATED, [field("array", REPEATED, INT32)], LIST)], LIST),
    ]
    rows = [
        {"bare": [1, 2, 3], "protobuf": [{"role": "user", "n": 1}, {"role": None, "n": 2}],
         "two_levels": {"array": [4, 5]}, "of_arrays": {"array": [{"content": "a"}, {"content": ""}]},
         "of_tuples": {"of_tuples_tuple": [{"content": None}, {"content": "b"}]},
         "of_pairs": {"bag": [{"role": "x", "n": None}, {"role": None, "n": 7}]},
         "three_levels": {"strange": [{"names": "c"}, {"names": None}]},
         "lists": {"array": [{"array": [1, 2]}, {"array": []}, {"array": [3]}]}},
        {"bare": [], "protobuf": [], "two_levels": {"array": []}, "of_arrays": None,
         "of_tuples": {"of_tuples_tuple": []}, "of_pairs": None, "three_levels": None, "lists": {"array": []}},
        {"bare": [6], "protobuf": [{"role": "assistant", "n": 3}], "two_levels": None, "of_arrays": {"array": []},
         "of_tuples": {"of_tuples_tuple": [{"content": "d"}]}, "of_pairs": {"bag": []},
         "three_levels": {"strange": []}, "lists": None},
    ]
    path = os.path.join(out, "legacy.by-hand.parquet")
    write_by_hand(path, fields, rows)
    write_golden(out, "legacy", pq.read_table(path))


def write_fixtures(out):
    rng = random.Random(20260907)
    tables = {"chats": chats(rng, 24), "text": texts(rng, 40), "numbers": numbers(rng, 40),
              "nested": nested(rng, 40), "required": required(rng, 20)}
    for name, table in tables.items():
        write_golden(out, name, table)
    for name in ("chats", "nested", "numbers"):
        write_forms(out, name, tables[name])
    for version, number in PAGES.items():
        for name in ("text", "required"):
            write(out, name, f"snappy-{version}-dictionary", tables[name], data_page_version=number)
            write(out, name, f"zstd-{version}-delta", tables[name], data_page_version=number, compression="zstd",
                  use_dictionary=False, column_encoding=delta_encodings(tables[name], "DELTA_BYTE_ARRAY"))
    # Row groups of 7, pages of a few values, a check sum and an index for each page.
    write(out, "nested", "groups", tables["nested"], row_group_size=7, data_page_size=64, write_batch_size=4,
          write_page_checksum=True, write_page_index=True)
    write(out, "text", "groups", tables["text"], row_group_size=7, data_page_version="2.0", compression="zstd",
          write_page_checksum=True)
    # Row groups without rows, as writers leave that flush by time or had nothing to write.
    with pq.ParquetWriter(os.path.join(out, "text.empty-groups.parquet"), tables["text"].schema) as writer:
        for start, end in ((0, 0), (0, 5), (5, 5), (5, 5), (5, tables["text"].num_rows), (0, 0)):
            writer.write_table(tables["text"].slice(start, end - start))
    # The dictionary is full after some pages; the rest of the chunk is plain.
    for version, number in PAGES.items():
        write(out, "chats", f"fallback-{version}", tables["chats"], dictionary_pagesize_limit=256, data_page_size=128,
              write_batch_size=4, data_page_version=number)
    # Lists named and built as older writers did.
    write(out, "nested", "item", tables["nested"], use_compliant_nested_type=False)
    write(out, "chats", "format-1.0", tables["chats"], version="1.0")
    dataset = datasets.Dataset.from_list(tables["chats"].to_pylist())
    dataset.to_parquet(os.path.join(out, "chats.datasets.parquet"), batch_size=10)
    write_legacy(out)
    # Refused.
    one = tables["text"].slice(0, 4)
    for codec in ("brotli", "lz4"):
        write(out, "refused", codec, one, compression=codec)
    write(out, "refused", "byte-stream-split", pa.table({"score": [0.5, 1.5]}), use_dictionary=False,
          column_encoding={"score": "BYTE_STREAM_SPLIT"})
    write(out, "refused", "types", pa.table({
        "text": ["a"], "at": [datetime.datetime(2026, 9, 7)], "day": [datetime.date(2026, 9, 7)],
        "price": pa.array([decimal.Decimal("1.5")]), "bytes": pa.array([b"abcd"], pa.binary(4)),
        "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int32())),
        "half": pa.array([1.5], pa.float16())}))
    write(out, "damaged", "not-utf8", pa.table({"text": pa.array([b"a", b"\xff", b"c"], pa.binary())}))


def write_speed(out, mebibytes):
    rng = random.Random(1)
    texts = [sentence(rng, 400) for _ in range(500)]
    rows = []
    while sum(len(m["content"].encode()) for r in rows[-1:] for m in r["messages"]) * len(rows) < mebibytes << 20:
        rows += [{"prompt_id": str(i), "messages": [{"content": rng.choice(texts) + str(i), "role": role}
                 for role in ("user", "assistant", "user", "assistant")]} for i in range(len(rows), len(rows) + 100)]
    datasets.Dataset.from_list(rows).to_parquet(os.path.join(out, "speed.parquet"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--speed", type=int)
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    datasets.disable_progress_bars()
    print(f"pyarrow {pa.__version__}, datasets {datasets.__version__}")
    if args.speed:
        write_speed(args.out, args.speed)
    else:
        write_fixtures(args.out)


if __name__ == "__main__":
    main()
