//! The root key in the desktop's keyring: there and nowhere else, for every command; and what is said when it can't be had.

use std::{fs, os::unix::fs::PermissionsExt as _, os::unix::process::ExitStatusExt as _, path::Path};

use anyhow::{Context as _, Result, ensure};
use sealbridge::config::root_key::FAILPOINTS;
use sealbridge_lab::{keyring::Keyring, search::Search};

use super::bench::{ANSWERS, Bench};

const SECTION: &str = "[service]\nroot_key_in_keyring = true\n";

/// The keyring, a folder in which it is used, and where each call of its tool is written down.
struct Desk {
    keyring: Keyring,
    bench: Bench,
}

impl Desk {
    async fn new() -> Result<Option<Self>> {
        let Some(keyring) = Keyring::start().await? else { return Ok(None) };
        let mut bench = Bench::new();
        for (name, value) in keyring.env() {
            bench.set_env(name, &value);
        }
        bench.write("answers.toml", &format!("{SECTION}{ANSWERS}"));
        Ok(Some(Self { keyring, bench }))
    }

    /// With the accounts set up.
    async fn set_up() -> Result<Option<Self>> {
        let Some(desk) = Self::new().await? else { return Ok(None) };
        let said = desk.bench.run(&["init", "--answers", "answers.toml"]);
        ensure!(said.exit == 0 && said.err.contains("the entry in the desktop's keyring"), "{said:?}");
        Ok(Some(desk))
    }

    fn attributes(&self, which: &str) -> Vec<String> {
        let state = self.bench.path("sealbridge-state").display().to_string();
        ["application", "sealbridge", "key", which, "state", &state].map(str::to_owned).to_vec()
    }

    fn tool(&self, verb: &[&str], which: &str, typed: &str) -> Result<(String, bool)> {
        let attributes = self.attributes(which);
        let all: Vec<_> = verb.iter().copied().chain(attributes.iter().map(String::as_str)).collect();
        self.keyring.tool(&all, typed)
    }

    /// What the keyring has.
    fn key(&self, which: &str) -> Result<Option<String>> {
        let (said, found) = self.tool(&["lookup"], which, "")?;
        Ok(Some(said).filter(|said| found && !said.is_empty()))
    }

    fn keep(&self, text: &str) -> Result<()> {
        let (said, kept) = self.tool(&["store", "--label=test"], "root", text)?;
        ensure!(kept, "it is not kept: {said}");
        Ok(())
    }

    /// Asserts how a command that needs the key fails.
    fn refused(&self, exit: i32, words: &str) -> Result<()> {
        for command in [&["links", "list"][..], &["run"], &["config", "check"], &["key", "rotate"]] {
            let said = self.bench.run(command);
            ensure!(said.exit == exit && said.err.contains(words), "{command:?}: {said:?}");
        }
        let doctor = self.bench.json(&["doctor"]);
        let key = doctor.lines().into_iter().find(|line| line["topic"] == "root key").context("It looks at the key")?;
        ensure!(key["state"] == "bad" && key["words"].as_str().is_some_and(|said| said.contains(words)), "{key}");
        Ok(())
    }
}

/// A tool that writes down what it is called with, and then is the real one.
fn noting_tool(folder: &Path) -> Result<()> {
    fs::create_dir(folder)?;
    let tool = folder.join("secret-tool");
    let noted = folder.join("noted");
    let script =
        format!("#!/bin/sh\n{{ echo \"$*\"; env; }} >> {}\nexec /usr/bin/secret-tool \"$@\"\n", noted.display());
    fs::write(&tool, script)?;
    Ok(fs::set_permissions(&tool, fs::Permissions::from_mode(0o755))?)
}

#[tokio::test(flavor = "multi_thread")]
async fn root_key_in_the_keyring_opens_the_journal_for_every_command_and_is_in_no_file_argument_or_log() -> Result<()> {
    let Some(mut desk) = Desk::new().await? else { return Ok(()) };
    noting_tool(&desk.bench.path("bin"))?;
    let path = format!("{}:/usr/bin:/bin", desk.bench.path("bin").display());
    desk.bench.set_env("PATH", &path);
    desk.bench.set_env("SEALBRIDGE_LOG__LEVEL", "trace");
    let said = desk.bench.run(&["init", "--answers", "answers.toml"]);
    ensure!(said.exit == 0, "{said:?}");
    let again = desk.bench.run(&["init"]);
    ensure!(again.exit == 0, "it goes on with the key that is there: {again:?}");
    let key = desk.key("root")?.context("The keyring has the key")?;
    let bench = &desk.bench;
    let checked = bench.json(&["config", "check"]);
    ensure!(checked.exit == 0 && checked.line()["set_up"] == true, "{checked:?}");
    ensure!(bench.run(&["links", "list"]).exit == 0);
    let running = bench.start(&[]);
    ensure!(bench.run(&["links", "add", "lounge", "a/room", "b/room"]).exit == 0);
    let doctor = bench.json(&["doctor"]);
    let checks = doctor.lines();
    let fine = |check: &&serde_json::Value| check["topic"] == "root key" && check["state"] == "ok";
    ensure!(checks.iter().any(|check| fine(&check)), "{doctor:?}");
    ensure!(running.stop() == 0);
    let rotated = bench.json(&["key", "rotate"]);
    ensure!(rotated.exit == 0 && rotated.line()["file"].is_null(), "{rotated:?}");
    let new = desk.key("root")?.context("The keyring has the new key")?;
    ensure!(new != key && desk.key("next-root")?.is_none(), "it is in the place of the old one, and nothing is left");
    ensure!(bench.run(&["links", "list"]).exit == 0);

    ensure!(!bench.path("sealbridge-state/root.key").exists());
    ensure!(bench.read("bin/noted").lines().filter(|line| line.starts_with("lookup ")).count() > 5, "it was noted");
    let search = Search::new(&[key.as_str(), new.as_str()])?;
    let [everything, keyrings] = [bench.path(""), desk.keyring.folder().to_owned()];
    let hits = search.paths(&[everything.clone(), keyrings])?;
    ensure!(hits.is_empty(), "{:?}", hits.iter().map(|hit| &hit.file).collect::<Vec<_>>());
    // Else this would say nothing.
    bench.write("control", &format!("a {new}."));
    ensure!(!search.paths(&[everything])?.is_empty());

    // The old key opens nothing any more.
    desk.keep(&key)?;
    desk.refused(3, "the entry in the desktop's keyring is not the root key of this journal: it has the number")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_keyring_is_said_with_the_way_out_and_nothing_is_made_anew() -> Result<()> {
    let Some(mut desk) = Desk::set_up().await? else { return Ok(()) };
    let key = desk.key("root")?.context("The keyring has the key")?;
    desk.keyring.lock().await?;
    desk.refused(75, "the desktop's keyring is locked: unlock it")?;
    let init = desk.bench.run(&["init"]);
    ensure!(init.exit == 75 && init.err.contains("is locked"), "{init:?}");
    desk.keyring.unlock().await?;
    ensure!(desk.bench.run(&["links", "list"]).exit == 0);

    let (said, cleared) = desk.tool(&["clear"], "root", "")?;
    ensure!(cleared, "{said}");
    desk.refused(3, "has no root key for")?;
    ensure!(desk.bench.run(&["links", "list"]).err.contains("secret-tool store"), "the way out is said");
    ensure!(desk.bench.run(&["init"]).exit == 3 && desk.key("root")?.is_none(), "no second key is made");
    desk.keep("what is no key")?;
    desk.refused(3, "the entry in the desktop's keyring does not hold a root key")?;
    desk.keep(&format!("{key}\n"))?;
    ensure!(desk.bench.run(&["links", "list"]).exit == 0, "as a file of it ends");

    desk.bench.set_env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/bus");
    desk.refused(75, "the desktop's keyring can't be read: ")?;
    desk.bench.set_env("PATH", "/nonexistent");
    desk.refused(3, "secret-tool is not there: install it")?;
    desk.bench.set_env("SEALBRIDGE_SERVICE__ROOT_KEY_FILE", "root.key");
    let both = desk.bench.run(&["config", "check"]);
    ensure!(both.exit == 3 && both.err.contains("take `root_key_file` away"), "{both:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn change_of_the_key_in_the_keyring_that_is_killed_is_finished_by_whoever_comes_next() -> Result<()> {
    let Some(desk) = Desk::set_up().await? else { return Ok(()) };
    for (place, name) in FAILPOINTS.iter().enumerate() {
        let old = desk.key("root")?.context("The keyring has a key")?;
        let kill = ("FAILPOINT_KILL_AT", format!("{name}=1"));
        let killed = desk.bench.command(&["key", "rotate"]).env(kill.0, kill.1).output()?;
        ensure!(killed.status.signal() == Some(9), "{name}: {killed:?}");
        let in_force = place >= FAILPOINTS.iter().position(|name| *name == "key::unwiped").context("It is one")?;
        let said = desk.bench.run(&["links", "list"]);
        ensure!(said.exit == 0, "{name}: {said:?}");
        let now = desk.key("root")?.context("The keyring has a key")?;
        ensure!((now != old) == in_force, "{name}: the new key is in force from that moment on");
        let whole = desk.bench.run(&["key", "rotate"]);
        ensure!(whole.exit == 0 && desk.key("next-root")?.is_none(), "{name}: {whole:?}");
    }
    Ok(())
}
