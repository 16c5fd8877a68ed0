//! Whether a config is its owner's alone to write: whoever can write it says what the service runs and whom it obeys.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Every group that a user may have besides root's stands in these; one that does not is taken for others'.
const USERS: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";

const WRITABLE_BY_ALL: u32 = 0o002;
const WRITABLE_BY_GROUP: u32 = 0o020;
const STICKY: u32 = 0o1000;

/// Reads a config, if nobody but its owner and root can write it. What is judged is what is read: the file is opened once.
///
/// # Errors
/// Why not, in words.
pub(super) fn read(file: &Path) -> Result<String, String> {
    let failed = |error: io::Error| format!("can't be read: {error}");
    let mut opened = File::open(file).map_err(failed)?;
    let meta = opened.metadata().map_err(failed)?;
    let me = rustix::process::geteuid().as_raw();
    if let Some(words) = is_others(file, Facts::of(&meta), me, &is_private) {
        return Err(words);
    }
    // A pipe has no place in which somebody could put another.
    if meta.is_file() {
        for folder in folders(file).map_err(failed)? {
            let meta = fs::metadata(&folder).map_err(failed)?;
            if let Some(words) = is_open(&folder, Facts::of(&meta), me, &is_private) {
                return Err(words);
            }
        }
    }
    let mut text = String::new();
    opened.read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// Where it lies by its name, and where it really does if that is a link.
fn folders(file: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut folders = vec![folder.canonicalize()?];
    folders.extend(file.canonicalize()?.parent().map(Path::to_owned));
    folders.dedup();
    Ok(folders)
}

/// What the system says of a file or folder.
#[derive(Clone, Copy, Debug)]
struct Facts {
    mode: u32,
    user: u32,
    group: u32,
    is_pipe: bool,
}

impl Facts {
    fn of(meta: &Metadata) -> Self {
        Self { mode: meta.mode(), user: meta.uid(), group: meta.gid(), is_pipe: !meta.is_file() && !meta.is_dir() }
    }

    fn belongs_to_others(self, me: u32) -> bool {
        ![0, me].contains(&self.user)
    }

    fn is_writable_by_a_group(self, is_private: &dyn Fn(u32, u32) -> bool) -> bool {
        self.mode & WRITABLE_BY_GROUP != 0 && self.group != 0 && !is_private(self.group, self.user)
    }
}

/// Why a file is not to be believed.
fn is_others(file: &Path, facts: Facts, me: u32, is_private: &dyn Fn(u32, u32) -> bool) -> Option<String> {
    let path = file.display();
    if facts.belongs_to_others(me) {
        return Some(match me {
            // What the service's own user writes, root must not run.
            0 => format!(
                "it belongs to another user, who could tell root what to run: say the command as that user (`sudo -u`), or \
                 chown root {path}"
            ),
            _ => {
                format!("it belongs to another user, who could tell the service what to run: chown root {path}")
            }
        });
    }
    if facts.is_pipe {
        return None;
    }
    if facts.mode & WRITABLE_BY_ALL != 0 {
        return Some(format!("everybody can write it, and so tell the service what to run: chmod o-w {path}"));
    }
    facts
        .is_writable_by_a_group(is_private)
        .then(|| format!("a group of users can write it, and so tell the service what to run: chmod g-w {path}"))
}

/// Why a folder lets somebody put another file in the place of a config.
fn is_open(folder: &Path, facts: Facts, me: u32, is_private: &dyn Fn(u32, u32) -> bool) -> Option<String> {
    let path = folder.display();
    if facts.belongs_to_others(me) {
        return Some(format!("its folder belongs to another user, who could put another config there: {path}"));
    }
    // There nobody removes what is another's.
    if facts.mode & STICKY != 0 {
        return None;
    }
    if facts.mode & WRITABLE_BY_ALL != 0 {
        return Some(format!("everybody can write its folder, and so put another config there: chmod o-w {path}"));
    }
    facts
        .is_writable_by_a_group(is_private)
        .then(|| format!("a group of users can write its folder, and so put another config there: chmod g-w {path}"))
}

/// Whether a group is a user's own, as many systems make one for each: called like them, and with nobody else in it.
fn is_private(group: u32, user: u32) -> bool {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    is_private_by(&read(USERS), &read(GROUPS), group, user)
}

fn is_private_by(users: &str, groups: &str, group: u32, user: u32) -> bool {
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let (users, groups): (Vec<_>, Vec<_>) = (users.lines().map(fields).collect(), groups.lines().map(fields).collect());
    let (group, user) = (group.to_string(), user.to_string());
    let is_theirs = |row: &&Vec<String>| row.get(2) == Some(&user) && row.get(3) == Some(&group);
    let Some(name) = users.iter().find(is_theirs).and_then(|row| row.first()) else { return false };
    let is_anothers = |row: &Vec<String>| row.get(3) == Some(&group) && row.first() != Some(name);
    let mut named = groups.iter().filter(|row| row.get(2) == Some(&group));
    let is_alone = |row: &Vec<String>| {
        let members = row.get(3).map_or("", String::as_str);
        row.first() == Some(name) && members.split(',').all(|member| member.is_empty() || member == name)
    };
    let known = named.next().is_some_and(is_alone) && named.next().is_none();
    known && !users.iter().any(is_anothers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: u32 = 1000;
    const OURS: u32 = 1000;
    const STAFF: u32 = 50;

    fn facts(mode: u32, user: u32, group: u32) -> Facts {
        Facts { mode, user, group, is_pipe: false }
    }

    fn file(facts: Facts, me: u32) -> String {
        let only_ours = |group: u32, user: u32| (group, user) == (OURS, ME);
        is_others(Path::new("/c"), facts, me, &only_ours).unwrap_or_default()
    }

    fn folder(facts: Facts) -> String {
        let only_ours = |group: u32, user: u32| (group, user) == (OURS, ME);
        is_open(Path::new("/f"), facts, ME, &only_ours).unwrap_or_default()
    }

    #[test]
    fn config_is_believed_that_nobody_but_its_owner_and_root_can_write() {
        for good in [facts(0o100_644, ME, STAFF), facts(0o100_664, ME, OURS), facts(0o100_664, 0, 0)] {
            assert_eq!(file(good, ME), "", "{good:?}");
        }
        for (bad, word) in [
            (facts(0o100_646, ME, OURS), "chmod o-w /c"),
            (facts(0o100_664, ME, STAFF), "chmod g-w /c"),
            (facts(0o100_664, 0, OURS), "chmod g-w /c"),
            (facts(0o100_600, ME + 1, OURS), "another user"),
        ] {
            assert!(file(bad, ME).contains(word), "{bad:?}: {}", file(bad, ME));
        }
        assert_eq!(file(facts(0o100_600, 0, 0), 0), "");
        assert!(file(facts(0o100_600, ME, OURS), 0).contains("sudo -u"), "what a service's user writes is not root's");
        let pipe = Facts { is_pipe: true, ..facts(0o010_666, ME, STAFF) };
        assert_eq!(file(pipe, ME), "");
    }

    #[test]
    fn config_is_not_believed_in_whose_place_others_can_put_another() {
        for good in [facts(0o40_755, ME, OURS), facts(0o40_775, ME, OURS), facts(0o41_777, 0, 0), facts(0o40_755, 0, 0)]
        {
            assert_eq!(folder(good), "", "{good:?}");
        }
        for (bad, word) in [
            (facts(0o40_777, ME, OURS), "chmod o-w /f"),
            (facts(0o40_775, ME, STAFF), "chmod g-w /f"),
            (facts(0o40_755, ME + 1, OURS), "another user"),
        ] {
            assert!(folder(bad).contains(word), "{bad:?}: {}", folder(bad));
        }
    }

    #[test]
    fn group_is_somebodys_own_if_it_is_called_like_them_and_nobody_else_is_in_it() {
        let users = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/:/bin/sh\nben:x:1001:100::/:/bin/sh\n";
        let own = |groups: &str| is_private_by(users, groups, 1000, 1000);
        assert!(own("users:x:100:\nann:x:1000:\n") && own("ann:x:1000:ann\n"));
        for others in
            ["ann:x:1000:ben\n", "ann:x:1000:ann,ben\n", "team:x:1000:\n", "", "ann:x:1000:\nteam:x:1000:ben\n"]
        {
            assert!(!own(others), "{others:?}");
        }
        assert!(!is_private_by(users, "users:x:100:\n", 100, 1001), "not called like them");
        let shared = format!("{users}cleo:x:1002:1000::/:/bin/sh\n");
        assert!(!is_private_by(&shared, "ann:x:1000:\n", 1000, 1000), "it is somebody else's first group too");
    }
}
