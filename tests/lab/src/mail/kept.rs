//! What the server keeps of mail that passes.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{ARCHIVE, MailServer, config};

impl MailServer {
    /// Every mail that passed, as it was sent, oldest first.
    pub fn archive(&self) -> Result<Vec<Vec<u8>>> {
        let mut mails = Vec::new();
        for folder in ["new", "cur"] {
            let Ok(entries) = std::fs::read_dir(self.archive_folder().join(folder)) else { continue };
            for entry in entries {
                let entry = entry?;
                mails.push((entry.metadata()?.modified()?, entry.file_name(), std::fs::read(entry.path())?));
            }
        }
        mails.sort();
        Ok(mails.into_iter().map(|(_, _, mail)| mail).collect())
    }

    /// Where the archive lies, among the mailboxes.
    pub fn archive_folder(&self) -> PathBuf {
        self.mailboxes().join(format!("{ARCHIVE}@{}", config::DOMAIN))
    }

    /// Where all mailboxes lie.
    pub fn mailboxes(&self) -> PathBuf {
        self.layout.mail()
    }

    /// Where mail waits that nobody has taken yet.
    pub fn queue(&self) -> PathBuf {
        self.layout.queue()
    }

    /// How many mails wait there.
    pub fn queued(&self) -> Result<usize> {
        let folders = ["maildrop", "incoming", "active", "deferred"];
        folders.iter().map(|folder| files_below(&self.queue().join(folder))).sum()
    }

    /// The ids of the mails that were laid into the mailbox whose address begins so, in that order.
    pub fn laid_into(&self, mailbox: &str) -> Result<Vec<String>> {
        let log = std::fs::read(self.data_dir().join("dovecot.log"))?;
        let whose = format!("lmtp({mailbox}");
        let id = |line: &str| Some(line.split_once("msgid=<")?.1.split_once('>')?.0.to_owned());
        let log = String::from_utf8_lossy(&log);
        Ok(log.lines().filter(|line| line.contains(&whose) && line.contains("saved mail")).filter_map(id).collect())
    }

    /// What both servers log.
    pub fn logs(&self) -> Vec<PathBuf> {
        ["output.log", "postfix.log", "dovecot.log"].map(|name| self.data_dir().join(name)).into()
    }
}

/// A mail that moves on while it is counted may be counted twice or not at all.
fn files_below(folder: &Path) -> Result<usize> {
    let mut count = 0;
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(0) };
    for entry in entries {
        let path = entry?.path();
        count += if path.is_dir() { files_below(&path)? } else { 1 };
    }
    Ok(count)
}

/// Whether a mail says of itself that all of it is encrypted: in its own header, wherever else the words may stand.
pub fn is_encrypted(mail: &[u8]) -> bool {
    let mail = String::from_utf8_lossy(mail);
    let header = mail.lines().take_while(|line| !line.is_empty());
    let kinds: Vec<_> = header.filter_map(kind).collect();
    matches!(kinds.as_slice(), [kind] if kind == "multipart/encrypted")
}

/// The content type, if the line of a header names it.
fn kind(line: &str) -> Option<String> {
    let (name, value) = line.split_once(':')?;
    let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    name.eq_ignore_ascii_case("content-type").then_some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_mails_own_header_says_that_it_is_encrypted() {
        let sealed =
            "From: <a@b>\r\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"\r\n\r\nx";
        assert!(is_encrypted(sealed.as_bytes()));
        assert!(is_encrypted(b"content-type:\tMultipart/Encrypted;\n\tboundary=x\n\nx"));
        for open in [
            "From: <a@b>\n\nContent-Type: multipart/encrypted\n",
            "Content-Type: text/plain; x=multipart/encrypted\n\nx",
            "Content-Type: text/plain\nContent-Type: multipart/encrypted\n\nx",
            "",
        ] {
            assert!(!is_encrypted(open.as_bytes()), "{open}");
        }
    }
}
