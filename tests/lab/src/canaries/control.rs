//! The control: a text and a key in every form are laid into every place, and the search that found nothing has to find
//! each.
//!
//! The forms are made by Python's own library, which shares nothing with the search.

use std::{
    collections::BTreeSet,
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rusqlite::Connection;
use serde::Deserialize;

use super::{
    Eyes, Word, Words, lines,
    places::{Place, files},
    stand::Stand,
};
use crate::{demo::Stage, search::Canary, venv::script};

/// A text or a key in one form. Each form has one of its own.
#[derive(Debug, Deserialize)]
pub(super) struct Form {
    pub(super) name: String,
    #[serde(flatten)]
    of: Of,
    bytes: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Of {
    Text(String),
    #[serde(deserialize_with = "decoded")]
    Key(Vec<u8>),
}

fn decoded<'de, D: serde::Deserializer<'de>>(text: D) -> Result<Vec<u8>, D::Error> {
    STANDARD.decode(String::deserialize(text)?).map_err(serde::de::Error::custom)
}

impl Form {
    pub(super) fn canary(&self) -> Canary<'_> {
        match &self.of {
            Of::Text(text) => Canary::Text(text),
            Of::Key(key) => Canary::Bytes(key),
        }
    }

    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        Ok(STANDARD.decode(&self.bytes)?)
    }
}

/// `text` in every form, its `NN` the form's number, and a key in every form.
pub(super) fn forms(text: &str) -> Result<Vec<Form>> {
    let made = std::process::Command::new("python3").arg("-I").arg(script("forms.py")?).arg(text).output()?;
    ensure!(made.status.success(), "No forms: {}", String::from_utf8_lossy(&made.stderr));
    Ok(serde_json::from_slice(&made.stdout)?)
}

/// What has been laid and found so far.
pub(super) struct Count<'a> {
    pub(super) eyes: &'a Eyes,
    pub(super) forms: &'a [Form],
    stage: &'a Stage,
    laid: usize,
    blind: usize,
}

impl Count<'_> {
    pub(super) fn found(&self, paths: &[PathBuf]) -> Result<Vec<(usize, PathBuf)>> {
        let hits = self.eyes.search.paths(paths)?.into_iter();
        let control = |word| if let Word::Control(number) = word { Some(number) } else { None };
        Ok(hits.filter_map(|hit| Some((control(self.eyes.words[hit.canary])?, hit.file))).collect())
    }

    /// These forms were laid somewhere, and those are seen there.
    pub(super) fn judge(&mut self, place: &str, seen: &BTreeSet<usize>, laid: &[usize]) {
        for form in laid {
            self.laid += 1;
            if !seen.contains(form) {
                self.blind += 1;
                self.stage.line(&format!("NOT SEEN: {} in {place}", self.forms[*form].name));
            }
        }
    }

    fn judge_file(&mut self, found: &[(usize, PathBuf)], file: &Path, laid: &[usize]) {
        let seen = found.iter().filter(|(_, at)| at == file).map(|(form, _)| *form).collect();
        self.judge(&file.display().to_string(), &seen, laid);
    }

    pub(super) fn all(&self) -> Vec<usize> {
        (0..self.forms.len()).collect()
    }
}

/// How much was laid, and how much of it was not found.
pub(super) async fn run(eyes: &Eyes, words: &Words, stand: &Stand, stage: &Stage) -> Result<[usize; 2]> {
    let mut count = Count { eyes, forms: &words.forms, stage, laid: 0, blind: 0 };
    for (number, place) in stand.places(true)?.iter().enumerate() {
        // What is laid there may make a file of its own, and whoever searches lists files anew.
        in_place(&mut count, place, || Ok(stand.places(true)?.swap_remove(number).paths))?;
    }
    lines::run(&mut count, stand).await?;
    Ok([count.laid, count.blind])
}

/// Into a folder of it, at the end of its logs and into its databases.
fn in_place(count: &mut Count<'_>, place: &Place, paths: impl Fn() -> Result<Vec<PathBuf>>) -> Result<()> {
    let (mut logs, mut databases) = (Vec::new(), Vec::new());
    for path in &place.paths {
        files(path, &mut |file| {
            if file.extension().is_some_and(|kind| kind == "log") || file.file_name() == path.file_name() {
                logs.push(file.to_owned());
            }
            if is_database(file) {
                databases.push(Database::open(file, count.forms)?);
            }
            Ok(())
        })?;
    }
    let all = count.all();
    let folder = place.paths.iter().find(|path| path.is_dir());
    let folder = folder.map(|within| tempfile::Builder::new().prefix("sealbridge-lab-control-").tempdir_in(within));
    let folder = folder.transpose()?;
    for form in count.forms {
        let bytes = form.bytes()?;
        if let Some(folder) = &folder {
            std::fs::write(folder.path().join(form.name.replace(' ', "-")), &bytes)?;
        }
    }
    logs.retain(|log| !is_database(log));
    for log in &logs {
        let mut log = File::options().append(true).open(log)?;
        for form in count.forms {
            // A blank line, as there is before a body: deflate has no head of its own.
            log.write_all(&[b"\n\n", &form.bytes()?[..], b"\n"].concat())?;
        }
    }

    let found = count.found(&paths()?)?;
    for log in &logs {
        count.judge_file(&found, log, &all);
    }
    for (number, form) in count.forms.iter().enumerate() {
        if let Some(folder) = &folder {
            count.judge_file(&found, &folder.path().join(form.name.replace(' ', "-")), &[number]);
        }
    }
    // In the middle of a page nothing says where bare deflate begins.
    let marked: Vec<_> = all.iter().copied().filter(|number| count.forms[*number].name != "deflate").collect();
    for database in &databases {
        count.judge_file(&found, &database.ahead(), &marked);
    }
    for database in &databases {
        database.delete()?;
    }
    let found = count.found(&paths()?)?;
    for database in &databases {
        count.judge_file(&found, &database.file, &marked);
    }
    Ok(())
}

fn is_database(file: &Path) -> bool {
    let mut head = [0; 16];
    let read = File::open(file).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut head));
    read.is_ok() && &head == b"SQLite format 3\0"
}

/// A database with the forms in its log written ahead and nowhere else.
struct Database {
    file: PathBuf,
    connection: Connection,
}

impl Database {
    fn open(file: &Path, forms: &[Form]) -> Result<Self> {
        let connection = Connection::open(file).with_context(|| format!("Open {}", file.display()))?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "secure_delete", "off")?;
        connection.execute_batch("CREATE TABLE lab_control (form BLOB)")?;
        for form in forms {
            connection.execute("INSERT INTO lab_control VALUES (?1)", [form.bytes()?])?;
        }
        Ok(Self { file: file.to_owned(), connection })
    }

    /// The log written ahead.
    fn ahead(&self) -> PathBuf {
        let mut name = self.file.clone().into_os_string();
        name.push("-wal");
        name.into()
    }

    /// From now on the forms are in pages that the database no longer uses, and nowhere else.
    fn delete(&self) -> Result<()> {
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        self.connection.query_row(checkpoint, [], |_| Ok(()))?;
        self.connection.execute_batch("DROP TABLE lab_control")?;
        self.connection.query_row(checkpoint, [], |_| Ok(()))?;
        let free: u32 = self.connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
        ensure!(free > 0 && self.ahead().metadata()?.len() == 0, "{} has no page free", self.file.display());
        Ok(())
    }
}
