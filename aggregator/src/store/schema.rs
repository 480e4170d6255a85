//! The database file's version: checked before SQLite touches it, brought up to date by numbered migrations.

use std::{fs::File, io::Read, path::Path};

use sqlx::{
    ConnectOptions, Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};

use super::{StoreError, cannot};

/// Each brings the version before it to its own: version 1 is the first. Never changed once released.
const MIGRATIONS: [&str; 8] = [
    include_str!("../../migrations/0001_first.sql"),
    include_str!("../../migrations/0002_nodes.sql"),
    include_str!("../../migrations/0003_cross_checks.sql"),
    include_str!("../../migrations/0011_baselines.sql"),
    include_str!("../../migrations/0012_policy.sql"),
    include_str!("../../migrations/0013_notified.sql"),
    include_str!("../../migrations/0014_models.sql"),
    include_str!("../../migrations/0016_handlings.sql"),
];
/// What this program writes.
pub(super) const VERSION: u32 = MIGRATIONS.len() as u32;
/// "VDTT" in the file's header: tells our databases from others.
const APPLICATION_ID: u32 = 0x5644_5454;
/// SQLite's header: magic at 0, user_version at 60, application_id at 68, both big-endian.
const HEADER_BYTES: usize = 100;

/// The version in the header of a database file; `None` where there is no file, or an empty one.
///
/// Read from the bytes, because SQLite itself makes files beside a database that it opens, even for reading.
fn version_of(path: &Path) -> Result<Option<u32>, StoreError> {
    let mut header = [0; HEADER_BYTES];
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StoreError::Read { path: path.to_owned(), source }),
    };
    let length = file.metadata().map_err(|source| StoreError::Read { path: path.to_owned(), source })?.len();
    if length == 0 {
        return Ok(None);
    }
    let not_ours = || StoreError::NotOurs { path: path.to_owned() };
    file.read_exact(&mut header).map_err(|_| not_ours())?;
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if !header.starts_with(b"SQLite format 3\0") || number(68) != APPLICATION_ID {
        return Err(not_ours());
    }
    Ok(Some(number(60)))
}

/// Leaves a database of [`VERSION`] at `path`, or an error and the file as it was.
pub(super) async fn prepare(path: &Path) -> Result<(), StoreError> {
    let found = version_of(path)?.unwrap_or(0);
    if found > VERSION {
        return Err(StoreError::Version { path: path.to_owned(), found, known: VERSION });
    }
    if found == VERSION {
        return Ok(());
    }
    // A rollback journal, so that the header on disk has the new version once this returns, whatever is killed later.
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true).journal_mode(SqliteJournalMode::Delete);
    let mut connection = options.connect().await.map_err(cannot("open the database"))?;
    migrate(&mut connection, found).await.map_err(cannot("bring the database up to date"))?;
    connection.close().await.map_err(cannot("close the database"))
}

async fn migrate(connection: &mut SqliteConnection, from: u32) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    for migration in &MIGRATIONS[from as usize..] {
        sqlx::raw_sql(*migration).execute(&mut *transaction).await?;
    }
    // PRAGMA takes no bound parameters; both are constants of this file.
    let marks = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};");
    sqlx::raw_sql(sqlx::AssertSqlSafe(marks)).execute(&mut *transaction).await?;
    transaction.commit().await
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::*;

    #[tokio::test]
    async fn a_database_of_another_version_is_named_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta.db");
        Store::open(&path).await.unwrap().close().await;
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[63] = 99;
        std::fs::write(&path, &bytes).unwrap();
        let files = || std::fs::read_dir(dir.path()).unwrap().count();
        let before = files();

        let error = Store::open(&path).await.unwrap_err();

        assert!(error.to_string().contains(&format!("has version 99, this aggregator knows version {VERSION}")), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        assert_eq!(files(), before, "nothing was put beside it");
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_of_ours_is_refused_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        for content in [&b"not a database"[..], &[b"SQLite format 3\0".as_slice(), &[0; 200]].concat()] {
            let path = dir.path().join("meta.db");
            std::fs::write(&path, content).unwrap();

            let error = Store::open(&path).await.unwrap_err();

            assert!(matches!(error, StoreError::NotOurs { .. }), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), content);
        }
    }

    #[tokio::test]
    async fn a_database_of_the_version_before_is_brought_up_to_date_with_what_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let mut first = options.connect().await.unwrap();
        let marks = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1;");
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("{} {marks}", MIGRATIONS[0]))).execute(&mut first).await.unwrap();
        sqlx::query("INSERT INTO audit (unix_ms, who, what, detail) VALUES (7, 'a', 'query', 'x')").execute(&mut first).await.unwrap();
        first.close().await.unwrap();

        let store = Store::open(&path).await.unwrap();

        assert_eq!(store.audit_rows(10).await.unwrap()[0].unix_ms, 7);
        assert_eq!(store.nodes("own").await.unwrap(), []);
        assert_eq!(version_of(&path).unwrap(), Some(VERSION));
    }

    #[tokio::test]
    async fn opening_again_finds_the_same_version() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta.db");
        Store::open(&path).await.unwrap().close().await;

        assert_eq!(version_of(&path).unwrap(), Some(VERSION));
        Store::open(&path).await.unwrap().close().await;
    }
}
