"""What Python's clickhouse-connect needs of the embedded engine. Arguments: port, password of jwtrail, of analyst."""

import datetime
import ipaddress
import sys
import uuid

import clickhouse_connect
from clickhouse_connect.driver.exceptions import DatabaseError

PORT, FULL, READ = sys.argv[1:]


def client(user="jwtrail", **options):
    password = FULL if user == "jwtrail" else READ
    return clickhouse_connect.get_client(
        host="127.0.0.1", port=int(PORT), username=user, password=password, database="jwtrail", **options
    )


def refused(code, action):
    try:
        action()
    except DatabaseError as error:
        assert f"Code: {code}." in str(error) or f"code: {code}" in str(error), str(error)
    else:
        raise AssertionError(f"code {code} was expected")


full = client()
columns = ["id", "text", "time", "tags", "score", "kind", "ip", "uuid"]
full.command(
    "CREATE TABLE typed (id UInt32, text String, time DateTime64(3, 'UTC'), tags Array(String),"
    " score Nullable(Float64), kind LowCardinality(String), ip IPv6, uuid UUID) ENGINE = MergeTree ORDER BY id"
)
rows = [
    (
        number,
        f"line\n\n{number} \\ '",
        datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
        ["a", str(number)],
        None if number % 2 else 1.5,
        f"kind {number % 3}",
        ipaddress.ip_address("2001:db8::1"),
        uuid.UUID(int=number),
    )
    for number in range(5_000)
]
for compression in (True, False, "lz4", "zstd", "gzip"):
    packed = client(compress=compression)
    summary = packed.insert("typed", rows, column_names=columns)
    assert summary.written_rows == len(rows), summary.summary
    found = packed.query("SELECT * FROM typed ORDER BY id", column_formats={"time": "native"}).result_rows
    plain = [(row[0], row[1], row[3], row[4], row[5], row[6], row[7]) for row in rows]
    assert [(r[0], r[1], r[3], r[4], r[5], r[6], r[7]) for r in found] == plain, compression
    packed.command("TRUNCATE TABLE typed")

full.insert("typed", rows, column_names=columns)
with full.query_row_block_stream("SELECT id FROM typed") as blocks:
    assert sum(len(block) for block in blocks) == len(rows)
query = "SELECT id FROM typed WHERE text = {text:String} AND id < {most:UInt32}"
found = full.query(query, parameters={"text": rows[7][1], "most": 100}, settings={"max_threads": 1})
assert found.result_rows == [(7,)], found.result_rows
assert full.raw_query("SELECT 1 AS a, 2 AS b", fmt="CSVWithNames") == b'"a","b"\n1,2\n'

full.command("CREATE TEMPORARY TABLE mine (a UInt8)")
full.command("INSERT INTO mine VALUES (1), (2)")
assert full.command("SELECT sum(a) FROM mine") == 3

refused(47, lambda: full.query("SELECT nope"))
refused(395, lambda: full.query("SELECT throwIf(number = 900000) FROM numbers(1000000)"))

analyst = client("analyst")
assert analyst.command("SELECT count() FROM typed") == len(rows)
assert analyst.query("SHOW TABLES").result_rows == [("typed",)]
refused(164, lambda: analyst.command("DROP TABLE typed"))
refused(164, lambda: analyst.insert("typed", rows[:1], column_names=columns))
refused(
    516,
    lambda: clickhouse_connect.get_client(host="127.0.0.1", port=int(PORT), username="analyst", password="wrong"),
)
print("all is well")
