//! The layer against a real child that misbehaves.

mod ends;
mod speaks;
mod supervised;

use std::{path::Path, time::Duration};

use sealbridge_child::{Child, Limits, Program};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(20);

fn program(folder: &TempDir) -> Program {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/child/engine.py");
    let limits = Limits { line: 64 << 10, answer: SOON, notifications: 4 };
    Program { limits, ..Program::new("python3", folder.path()).argument("-I").argument(script) }
}

fn start() -> (Child, TempDir) {
    let folder = TempDir::new().expect("a folder can be made");
    (Child::start(&program(&folder)).expect("python3 runs"), folder)
}

/// Whether a process is there, a zombie included.
fn is_there(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}
