//! Which files the kernel runs when a program is run.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::Read as _,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

/// A script's interpreter may be a script; the kernel goes no further than this either.
const DEEPEST: usize = 4;
/// As much of a file is looked at.
const HEAD: u64 = 64 * 1024;

/// The program itself, by its path or by a name in `PATH`, and what runs it: the interpreter of a script and the loader
/// of a binary that needs one. A script starts others, so the folder that it is installed in is one of programs too.
pub(super) fn of(program: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut next = look_up(program);
    while let Some(file) = next.take().filter(|_| found.len() < 3 * DEEPEST) {
        let head = head(&file);
        next = interpreter(&head).or_else(|| loader(&head));
        if head.starts_with(b"#!") {
            // .../bin/script belongs to what lies in ....
            let whole = fs::canonicalize(&file).unwrap_or_else(|_| file.clone());
            let installed = whole.parent().filter(|folder| folder.ends_with("bin")).and_then(Path::parent);
            found.extend(installed.map(Path::to_owned));
        }
        found.push(file);
    }
    found
}

fn look_up(program: &Path) -> Option<PathBuf> {
    if program.as_os_str().as_bytes().contains(&b'/') {
        return Some(program.to_owned());
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn head(file: &Path) -> Vec<u8> {
    let mut head = Vec::new();
    let read = fs::File::open(file).and_then(|file| file.take(HEAD).read_to_end(&mut head));
    read.map(|_| head).unwrap_or_default()
}

/// What a script's first line names: with `env`, what that looks up.
fn interpreter(head: &[u8]) -> Option<PathBuf> {
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let first = Path::new(OsStr::from_bytes(words.next()?));
    if first.file_name() != Some(OsStr::new("env")) {
        return Some(first.to_owned());
    }
    words.find(|word| !word.starts_with(b"-")).and_then(|name| look_up(Path::new(OsStr::from_bytes(name))))
}

/// What a binary of 64 bits names to load it. One that is linked statically names nothing.
fn loader(head: &[u8]) -> Option<PathBuf> {
    const INTERPRETER: u32 = 3;
    let number = |at: usize| usize::try_from(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?)).ok();
    let short = |at: usize| Some(usize::from(u16::from_le_bytes(head.get(at..at + 2)?.try_into().ok()?)));
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size, count) = (number(32)?, short(54)?, short(56)?);
    let mut entries = (0..count).filter_map(|entry| table.checked_add(entry * size));
    let is_interpreter = |at: &usize| {
        head.get(*at..at.saturating_add(4)).is_some_and(|kind| kind == INTERPRETER.to_le_bytes().as_slice())
    };
    let entry = entries.find(is_interpreter)?;
    let (from, length) = (number(entry + 8)?, number(entry + 32)?);
    let name = head.get(from..from.checked_add(length)?)?.split(|byte| *byte == 0).next()?;
    Some(PathBuf::from(OsStr::from_bytes(name)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn everything_that_the_kernel_runs_for_a_program_is_found_and_nothing_more() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let bin = folder.path().join("tool/bin");
        fs::create_dir_all(&bin).expect("a folder can be made");
        let script = bin.join("engine");
        fs::write(&script, "#! /bin/sh -e\nexit 0\n").expect("a file can be written");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is our own file");
        let shell = of(Path::new("/bin/sh"));
        assert_eq!(shell[0], Path::new("/bin/sh"));
        let whole = fs::canonicalize(folder.path().join("tool")).expect("it is there");
        assert_eq!(of(&script), [vec![whole, script.clone()], shell].concat());
        assert_eq!(interpreter(b"#!/usr/bin/env -S sh -c\n"), look_up(Path::new("sh")));
        assert_eq!(of(Path::new("/nowhere/at/all")), [Path::new("/nowhere/at/all")]);
        for odd in
            [&b""[..], b"#!", b"\x7fELF\x02\x01", &[0xff; 100], &[b"\x7fELF\x02\x01".as_slice(), &[0xff; 100]].concat()]
        {
            assert_eq!((loader(odd), interpreter(odd)), (None, None));
        }
    }

    #[test]
    fn binary_of_this_machine_names_its_loader() {
        let this = env::current_exe().expect("it runs");
        let loader = loader(&head(&this)).expect("a test is linked dynamically");
        assert!(loader.is_file(), "{}", loader.display());
    }
}
