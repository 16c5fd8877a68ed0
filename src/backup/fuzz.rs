//! A fuzz target of backup files; `tests/fuzz` says how it is run.

use std::io::{Read as _, Write as _};

use sealbridge_contract::RootKey;

use super::{
    parts::{self, Part},
    sealed::{BackupKey, Opener, Sealer, Unopened},
};

/// More parts than an input can have.
const MANY: usize = 20_000;

fn opened(file: &[u8], key: &BackupKey) -> Result<Vec<u8>, Unopened> {
    let mut all = Vec::new();
    Opener::begin(file, key)?.read_to_end(&mut all).map_err(|_| Unopened::Damaged)?;
    Ok(all)
}

/// Reads what opened as parts, to the first that is none; what was read is written again the same.
fn read_all(input: &[u8]) {
    let mut from = input;
    for _ in 0..MANY {
        let before = from.len();
        let Ok((part, content)) = parts::read(&mut from) else { return };
        let size = content.limit();
        let Ok(bytes) = parts::whole(content) else { return };
        assert!(bytes.len() as u64 <= size && bytes.len() < before, "it has more than there was");
        if let Part::File { id } = &part {
            let name = String::from(*id);
            assert!(!name.contains(['/', '.', '\0']), "it would become another path: {name:?}");
        }
        if bytes.len() as u64 == size {
            let copy: Part = serde_json::from_value(serde_json::to_value(&part).expect("a part is JSON"))
                .expect("what we write is a part");
            let mut again = Vec::new();
            parts::write(&mut again, copy, size, bytes.as_slice()).expect("memory takes it");
            let mut again = again.as_slice();
            let (same, content) = parts::read(&mut again).expect("what we write is read");
            assert_eq!(same, part);
            assert_eq!(parts::whole(content).expect("memory gives it"), bytes);
        }
        if part == Part::End {
            return;
        }
    }
    panic!("it has no end");
}

#[test]
fn backup_files() {
    let key = || BackupKey::new(RootKey::new([7; 32]));
    sealbridge_fuzz::target("backups", |input| {
        read_all(input);
        // Whatever stands there was not sealed with this key.
        assert!(opened(input, &key()).is_err(), "it opens");
        let head = format!("sealbridge backup 1 {}\n", key().number());
        assert!(matches!(opened(&[head.as_bytes(), input].concat(), &key()), Err(Unopened::Damaged)), "it opens");

        let mut sealer = Sealer::begin(Vec::new(), &key()).expect("memory takes it");
        sealer.write_all(input).expect("memory takes it");
        let mut file = sealer.finish().expect("memory takes it");
        assert_eq!(opened(&file, &key()).expect("it is whole"), input);
        let at = input.iter().fold(input.len(), |at, byte| at.wrapping_mul(31).wrapping_add(usize::from(*byte)));
        let at = at % file.len();
        file[at] ^= 1;
        assert!(opened(&file, &key()).is_err(), "byte {at} was changed");
        file[at] ^= 1;
        assert!(opened(&file[..at], &key()).is_err(), "it was cut at {at}");
    });
}
