//! Whether a config is its owner's alone to write: whoever can write it says what the service runs and whom it obeys.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::io::Errno;

/// Every group that a user may have besides root's stands in these; one that does not is taken for others'.
const USERS: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";

const WRITABLE_BY_ALL: u32 = 0o002;
const WRITABLE_BY_GROUP: u32 = 0o020;
const STICKY: u32 = 0o1000;

/// Where Linux keeps a list of further users and groups that may read or write a file (acl(5)).
const LIST: &str = "system.posix_acl_access";

/// Reads a config, if nobody but its owner and root can write it. What is judged is what is read: the file is opened once.
///
/// # Errors
/// Why not, in words.
pub(super) fn read(file: &Path) -> Result<String, String> {
    let failed = |error: io::Error| format!("can't be read: {error}");
    let mut opened = File::open(file).map_err(failed)?;
    let meta = opened.metadata().map_err(failed)?;
    let me = rustix::process::geteuid().as_raw();
    let mut list = [0; 1024];
    let is_listed = is_list(rustix::fs::fgetxattr(&opened, LIST, &mut list));
    if let Some(words) = is_others(file, Facts::of(&meta, is_listed), me, &is_private) {
        return Err(words);
    }
    // A pipe has no place in which somebody could put another.
    if meta.is_file() {
        for folder in folders(file).map_err(failed)? {
            let meta = fs::metadata(&folder).map_err(failed)?;
            let is_listed = is_list(rustix::fs::getxattr(&folder, LIST, &mut list));
            if let Some(words) = is_open(&folder, Facts::of(&meta, is_listed), me, &is_private) {
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

/// Whether there is such a list. Most files have none, and some file systems know none.
fn is_list(found: rustix::io::Result<usize>) -> bool {
    !matches!(found, Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS))
}

/// What the system says of a file or folder.
#[derive(Clone, Copy, Debug)]
struct Facts {
    mode: u32,
    user: u32,
    group: u32,
    is_pipe: bool,
    /// Others may be listed. What all of them may do at most, the mode says of the group.
    is_listed: bool,
}

impl Facts {
    fn of(meta: &Metadata, is_listed: bool) -> Self {
        let is_pipe = !meta.is_file() && !meta.is_dir();
        Self { mode: meta.mode(), user: meta.uid(), group: meta.gid(), is_pipe, is_listed }
    }

    fn belongs_to_others(self, me: u32) -> bool {
        ![0, me].contains(&self.user)
    }

    fn is_writable_by_a_group(self, is_private: &dyn Fn(u32, u32) -> bool) -> bool {
        self.mode & WRITABLE_BY_GROUP != 0 && self.group != 0 && !is_private(self.group, self.user)
    }

    fn is_writable_by_a_list(self) -> bool {
        self.mode & WRITABLE_BY_GROUP != 0 && self.is_listed
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
    if facts.is_writable_by_a_list() {
        return Some(format!(
            "users whom a list names can write it, and so tell the service what to run: setfacl -b {path}"
        ));
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
    if facts.is_writable_by_a_list() {
        return Some(format!(
            "users whom a list names can write its folder, and so put another config there: setfacl -b {path}"
        ));
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
        Facts { mode, user, group, is_pipe: false, is_listed: false }
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
            (Facts { is_listed: true, ..facts(0o100_664, ME, OURS) }, "setfacl -b /c"),
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
            (Facts { is_listed: true, ..facts(0o40_775, ME, OURS) }, "setfacl -b /f"),
        ] {
            assert!(folder(bad).contains(word), "{bad:?}: {}", folder(bad));
        }
    }

    #[test]
    fn config_that_a_list_lets_another_user_write_is_not_believed() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("config.toml");
        fs::write(&file, "x = 1").expect("it is written");
        assert_eq!(read(&file).as_deref(), Ok("x = 1"));
        // acl(5): the owner, another user, the group, what those may do at most, everybody else.
        let entries =
            [(0x01, 6, u32::MAX), (0x02, 6, 12_345), (0x04, 4, u32::MAX), (0x10, 6, u32::MAX), (0x20, 4, u32::MAX)];
        let mut list = 2_u32.to_le_bytes().to_vec();
        for (whom, may, id) in entries {
            list.extend([u16::to_le_bytes(whom), u16::to_le_bytes(may)].concat());
            list.extend(id.to_le_bytes());
        }
        let set = rustix::fs::setxattr(&file, LIST, &list, rustix::fs::XattrFlags::empty());
        let found = read(&file).err().unwrap_or_default();
        // Where the file system has no lists, there is none to be found.
        assert_eq!(set.is_ok(), found.contains("setfacl -b"), "{set:?} {found}");
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
