#!/bin/sh
# Fetches the jars of the Apache Kafka broker that the tests run against (43 MB) into target/kafka-libs.
# Idempotent: does nothing when the jars of this very kafka-pom.xml are there. Needs Maven and a JDK of 17 or later.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
libs=$here/../../target/kafka-libs

if cmp -s "$here/kafka-pom.xml" "$libs/pom.xml"; then
    exit 0
fi
for tool in mvn java; do
    if ! command -v "$tool" >/dev/null; then
        echo "fetch-kafka: $tool is missing; on Debian: apt-get install maven openjdk-17-jdk-headless" >&2
        exit 1
    fi
done
echo "fetch-kafka: 43 MB of jars for the Kafka broker of the tests, into target/kafka-libs" >&2
rm -rf "$libs"
mkdir -p "$libs"
mvn --batch-mode --quiet --file "$here/kafka-pom.xml" dependency:copy-dependencies -DoutputDirectory="$libs"
# Written last: it marks the folder as complete.
cp "$here/kafka-pom.xml" "$libs/pom.xml"
