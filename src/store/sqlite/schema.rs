//! The form of the file. It only ever goes forward; a file from a newer version is refused.

use rusqlite::{Connection, TransactionBehavior};

/// Each step brings the schema to the version that is its place in this list, counted from one.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_journal.sql"),
    include_str!("../migrations/0002_series.sql"),
    include_str!("../migrations/0003_bounds.sql"),
    include_str!("../migrations/0004_link_ends.sql"),
    include_str!("../migrations/0005_kinds.sql"),
    include_str!("../migrations/0006_ages.sql"),
    include_str!("../migrations/0007_said.sql"),
    include_str!("../migrations/0008_commands.sql"),
    include_str!("../migrations/0009_commits.sql"),
    include_str!("../migrations/0010_shares.sql"),
];

/// The version that is found.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// The newest version that `migrations` lead to.
pub(super) fn newest(migrations: &[&str]) -> i64 {
    i64::try_from(migrations.len()).unwrap_or(i64::MAX)
}

/// Takes the steps that are missing, each in its own transaction; `first` joins the one that makes the file.
pub(super) fn migrate(
    connection: &mut Connection,
    migrations: &[&str],
    first: impl Fn(&Connection) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    for (place, step) in (0_i64..).zip(migrations) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if version(&transaction)? != place {
            continue;
        }
        transaction.execute_batch(step)?;
        if place == 0 {
            first(&transaction)?;
        }
        transaction.pragma_update(None, "user_version", place + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

/// The schema's own text, to notice a byte that changed in it.
pub(super) fn text(connection: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    let mut statement =
        connection.prepare("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// What [`text`] is where nothing changed.
pub(super) fn expected_text(migrations: &[&str]) -> rusqlite::Result<Vec<(String, String)>> {
    let mut fresh = Connection::open_in_memory()?;
    migrate(&mut fresh, migrations, |_| Ok(()))?;
    text(&fresh)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_taken_once_and_only_those_that_are_missing() {
        let first = "CREATE TABLE a (x INTEGER) STRICT; INSERT INTO a VALUES (1)";
        let second = "ALTER TABLE a ADD COLUMN y INTEGER; UPDATE a SET y = x + 1";
        let mut connection = Connection::open_in_memory().expect("memory is there");
        migrate(&mut connection, &[first], |_| Ok(())).expect("the first step is sound");
        migrate(&mut connection, &[first, second], |_| Ok(())).expect("the second step is sound");
        migrate(&mut connection, &[first, second], |_| Ok(())).expect("nothing is left to do");
        assert_eq!(version(&connection).expect("there is a version"), 2);
        let row = connection.query_row("SELECT x, y FROM a", [], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?)));
        assert_eq!(row.expect("one row, no more"), (1, 2));
    }

    #[test]
    fn step_that_fails_leaves_the_file_as_it_was() {
        let first = "CREATE TABLE a (x INTEGER) STRICT";
        let mut connection = Connection::open_in_memory().expect("memory is there");
        migrate(&mut connection, &[first], |_| Ok(())).expect("the first step is sound");
        let broken = "CREATE TABLE b (x INTEGER) STRICT; INSERT INTO nothing VALUES (1)";
        assert!(migrate(&mut connection, &[first, broken], |_| Ok(())).is_err());
        assert_eq!(version(&connection).expect("there is a version"), 1);
        assert!(connection.prepare("SELECT * FROM b").is_err(), "half a step is no step");
    }
}
