//! Brings the database to the schema of `schemas/clickhouse/`: idempotent, versioned, each file applied once.

use super::{ClickHouseError, Client};

/// One schema file, embedded in the binary.
struct Migration {
    version: u32,
    name: &'static str,
    sql: &'static str,
}

macro_rules! migrations {
    ($($version:literal $name:literal,)+) => {
        &[$(Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../../schemas/clickhouse/", $name, ".sql")),
        }),+]
    };
}

/// In order; a file that was ever released is never changed again, only followed by another.
const MIGRATIONS: &[Migration] = migrations! {
    1 "0001_events",
    2 "0002_findings",
    3 "0003_accounts",
    4 "0004_triage",
    5 "0005_events_per_minute",
    6 "0006_findings_alike",
};

/// Creates the database and applies the schema files that are missing. Returns the names of those it applied.
///
/// Two that run at once do no harm: every statement may be run again, and a version noted twice is one version.
pub(crate) async fn migrate(client: &Client) -> Result<Vec<&'static str>, ClickHouseError> {
    client.execute_outside(&format!("CREATE DATABASE IF NOT EXISTS `{}`", client.database())).await?;
    client
        .execute(
            "CREATE TABLE IF NOT EXISTS schema_versions (\
                 version UInt32, name String, checksum String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3)\
             ) ENGINE = ReplacingMergeTree ORDER BY version \
             COMMENT 'Which schema files were applied, each with the SHA-256 of its text'",
        )
        .await?;
    let noted = client.query("SELECT version, checksum FROM schema_versions FINAL ORDER BY version");
    let applied: Vec<(u32, String)> = client.answered(noted.fetch_all()).await?;
    let known = MIGRATIONS.last().map_or(0, |last| last.version);
    if let Some(&(found, _)) = applied.iter().find(|(version, _)| *version > known) {
        return Err(ClickHouseError::SchemaNewer { found, known });
    }
    let mut done = Vec::new();
    for migration in MIGRATIONS {
        let checksum = checksum(migration.sql);
        match applied.iter().find(|(version, _)| *version == migration.version) {
            Some((_, noted)) if *noted == checksum => {}
            Some(_) => return Err(ClickHouseError::SchemaChanged { name: migration.name }),
            None => {
                apply(client, migration, &checksum).await?;
                done.push(migration.name);
            }
        }
    }
    Ok(done)
}

async fn apply(client: &Client, migration: &Migration, checksum: &str) -> Result<(), ClickHouseError> {
    for statement in statements(migration.sql) {
        client.execute(statement).await?;
    }
    let note = "INSERT INTO schema_versions (version, name, checksum) VALUES (?, ?, ?)";
    let note = client.query(note).bind(migration.version).bind(migration.name).bind(checksum);
    client.answered(note.execute()).await
}

/// The statements of a schema file. The files keep to one rule: a statement ends with `;` at a line's end, and no
/// comment's or text's line does.
fn statements(sql: &str) -> impl Iterator<Item = &str> {
    sql.split(";\n").map(str::trim).filter(|statement| !statement.is_empty())
}

fn checksum(sql: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, sql.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clickhouse::testing::Database;

    #[test]
    fn the_files_are_numbered_without_a_gap() {
        for (index, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(migration.version as usize, index + 1);
            assert!(migration.name.starts_with(&format!("{:04}_", migration.version)), "{}", migration.name);
            assert!(statements(migration.sql).count() > 0, "{}", migration.name);
        }
    }

    #[tokio::test]
    async fn each_file_is_applied_once() {
        let database = Database::without_schema();
        let all: Vec<_> = MIGRATIONS.iter().map(|migration| migration.name).collect();
        assert_eq!(migrate(&database.client).await.unwrap(), all);
        assert!(migrate(&database.client).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_file_whose_note_was_lost_is_applied_again() {
        let database = Database::new().await;
        let lose = "ALTER TABLE schema_versions DELETE WHERE version >= 2 SETTINGS mutations_sync = 1";
        database.client.execute(lose).await.unwrap();
        assert_eq!(migrate(&database.client).await.unwrap().len(), MIGRATIONS.len() - 1);
    }

    #[tokio::test]
    async fn a_changed_file_and_a_later_version_are_refused() {
        let database = Database::new().await;
        let note = |version: u32| {
            format!(
                "INSERT INTO schema_versions (version, name, checksum) VALUES ({version}, 'other', 'other')"
            )
        };
        database.client.execute(&note(2)).await.unwrap();
        let changed = migrate(&database.client).await.unwrap_err();
        assert_eq!(changed.code(), "clickhouse_schema_changed");
        database.client.execute(&note(99)).await.unwrap();
        let newer = migrate(&database.client).await.unwrap_err();
        assert_eq!(newer.code(), "clickhouse_schema_newer");
    }
}
