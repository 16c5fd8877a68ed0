//! Keys, tokens and passwords of the service. Each belongs somewhere, where it has to be found, or nowhere at all.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rusqlite::{Connection, OpenFlags};
use sealbridge_contract::{RootKey, Vault};
use serde_json::Value;

use super::stand::Stand;
use crate::search::Canary;

/// Where the inner key is locked into, by the service's own words.
const PLACE: &[u8] = b"sealbridge inner key v1";
/// What keys are derived from it for: those of stores that lie on the disk, and of marks that leave it.
const PURPOSES: [&str; 9] = [
    "journal payload v1",
    "journal row v1",
    "spool v1",
    "loop marks v1",
    "name tags v1",
    "account store a",
    "account store b",
    "account store family",
    "account store vault",
];

/// One of them; of an account's, the side of its homeserver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Root,
    Inner,
    /// By its purpose's place in the list.
    Derived(usize),
    Recovery(usize),
    Token(usize),
    /// The password of the bridge's user on Matrix.
    Login(usize),
    /// The password of its mailbox.
    Mail,
    /// What programs show that bring something in.
    Source,
    /// What is posted is signed with it.
    Signing,
}

#[derive(Debug)]
enum What {
    Text(String),
    Bytes(Vec<u8>),
}

/// All that there are at one moment.
pub(super) struct Keys(Vec<(Key, What)>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(key, _)| key)).finish()
    }
}

impl Keys {
    /// Those of a service that was set up. Tokens are renewed, so these are the ones of now.
    pub(super) fn of(stand: &Stand) -> Result<Self> {
        let mut all = at_rest(&stand.bridge.folder().join("state"))?;
        for (side, server) in [&stand.lab.a, &stand.lab.b].into_iter().enumerate() {
            let tokens = tokens(&server.data_dir().join("homeserver.db"), &stand.bots[side])?;
            ensure!(!tokens.is_empty(), "Homeserver {side} knows no token of the bridge");
            all.extend(tokens.into_iter().map(|token| (Key::Token(side), What::Text(token))));
            all.push((Key::Login(side), What::Text(stand.logins[side].clone())));
            let key = &stand.recovery_keys[side];
            all.push((Key::Recovery(side), What::Text(key.clone())));
            all.push((Key::Recovery(side), What::Text(key.replace(' ', ""))));
        }
        all.push((Key::Source, What::Text(stand.programs.secret.clone())));
        all.push((Key::Signing, What::Text(stand.programs.signing.clone())));
        all.push((Key::Mail, What::Text(stand.mail.mailbox("bridge")?.password)));
        Ok(Self(all))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (Key, Canary<'_>)> {
        self.0.iter().map(|(key, what)| match what {
            What::Text(text) => (*key, Canary::Text(text)),
            What::Bytes(bytes) => (*key, Canary::Bytes(bytes)),
        })
    }
}

/// The root key, and what it opens and is derived from that.
fn at_rest(state: &Path) -> Result<Vec<(Key, What)>> {
    let read = |name: &str| std::fs::read_to_string(state.join(name)).with_context(|| format!("Read {name}"));
    let key = |bytes: &[u8]| Ok::<_, anyhow::Error>(RootKey::new(bytes.try_into().context("A key has 32 bytes")?));
    let root = STANDARD.decode(read("root.key")?.trim())?;
    let vault = Vault::new(key(&root)?);
    let locked = read("journal.key")?;
    let (_, locked) = locked.trim().split_once(' ').context("The inner key is locked by one that has a number")?;
    let inner = vault.unlock(PLACE, &vault.from_row(STANDARD.decode(locked)?)).context("The root key opens it")?;
    let vault = Vault::new(key(inner.expose())?);
    let derived = PURPOSES.iter().enumerate();
    let derived = derived.map(|(number, of)| (Key::Derived(number), What::Bytes(vault.key_for(of).to_vec())));
    let first = [(Key::Root, What::Bytes(root)), (Key::Inner, What::Bytes(inner.expose().to_vec()))];
    Ok(first.into_iter().chain(derived).collect())
}

/// What a homeserver lets somebody in with.
fn tokens(database: &Path, user: &str) -> Result<Vec<String>> {
    let database = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut tokens = Vec::new();
    for table in ["access_tokens", "refresh_tokens"] {
        let mut asked = database.prepare(&format!("SELECT token FROM {table} WHERE user_id = ?1"))?;
        for token in asked.query_map([user], |row| row.get(0))? {
            tokens.push(token?);
        }
    }
    Ok(tokens)
}

/// The recovery keys that `init` kept in files, in the order of its accounts. The files are gone afterwards, as an operator
/// moves them elsewhere.
pub(super) fn kept_by_init(output: &str) -> Result<[String; 2]> {
    let steps = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let kept = steps.filter(|step| step["step"] == "kept").filter_map(|step| step["file"].as_str().map(str::to_owned));
    let taken = kept.filter(|file| file.ends_with(".shown-once")).map(|file| {
        let key = std::fs::read_to_string(&file)?.trim().to_owned();
        std::fs::remove_file(&file)?;
        Ok(key)
    });
    let taken = taken.collect::<Result<Vec<_>>>()?;
    <[String; 2]>::try_from(taken).ok().context("init keeps the recovery key of each account on Matrix, once")
}
