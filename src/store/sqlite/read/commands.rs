//! What was said to the bridge itself and is not answered yet.

use sealbridge_contract::{Address, RemoteId, Timestamp};

use super::{
    super::{
        Outcome, command,
        keys::{self, Place},
    },
    Reader,
};
use crate::store::{Command, Said};

/// The oldest of them, and the numbers of those that do not open.
pub(in crate::store::sqlite) fn commands(reader: &Reader, limit: usize) -> Outcome<(Vec<Command>, Vec<i64>)> {
    let rows = reader.all(
        "SELECT w.number, c.account, c.name, w.remote, w.state, w.since, w.content
         FROM command w JOIN conversation c ON c.id = w.conversation WHERE w.state < 2 ORDER BY w.number LIMIT ?1",
        [limit],
        |row| {
            let at = keys::address(&row.get::<_, String>(1)?, row.get(2)?);
            let (id, begun) = (row.get::<_, String>(3)?, row.get::<_, i64>(4)? == command::BEGUN);
            Ok((row.get::<_, i64>(0)?, at, id, begun, Timestamp(row.get(5)?), row.get::<_, Vec<u8>>(6).ok()))
        },
    )?;
    let (mut found, mut broken) = (Vec::new(), Vec::new());
    for (number, at, id, begun, since, content) in rows {
        let opened = at.zip(content).and_then(|(at, content)| Some((open(reader, &at, &id, content)?, at)));
        match opened {
            Some((said, at)) => found.push(Command { number, at, id: RemoteId::new(id), said, since, begun }),
            None => broken.push(number),
        }
    }
    Ok((found, broken))
}

fn open(reader: &Reader, at: &Address, id: &str, content: Vec<u8>) -> Option<Said> {
    let locked = reader.keys.vault.from_row(content);
    let bytes = reader.keys.vault.unlock(Place::command(at, id).bytes(), &locked).ok()?;
    Said::from_bytes(bytes.expose())
}
