//! The control on the lines: every form goes to the servers and comes back through what keeps what passes.

use std::{
    collections::BTreeSet,
    fs::File,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{control::Count, stand::Stand};
use crate::mail::Wire;

/// So long something may take until it was kept.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn run(count: &mut Count<'_>, stand: &Stand) -> Result<()> {
    tokio::try_join!(stand.lab.a.restart(), stand.lab.b.restart(), stand.mail.restart())?;
    for side in [0, 1] {
        homeserver(count, stand, side).await?;
    }
    imap_answers(count, stand).await?;
    for wire in &stand.wires {
        mail_is_asked(count, stand, wire).await?;
    }
    stand.close().await
}

/// In the bodies of answers and of requests, in heads, and in paths.
async fn homeserver(count: &mut Count<'_>, stand: &Stand, side: usize) -> Result<()> {
    let server = [&stand.lab.a, &stand.lab.b][side];
    let (direct, through) = (server.url(), stand.proxies[side].url());
    let (client, token) = (reqwest::Client::builder().no_proxy().build()?, stand.people[side].access_token());
    let upload = async |to: &str, body: Vec<u8>| -> Result<String> {
        let url = format!("{to}/_matrix/media/v3/upload");
        let answer = client.post(url).bearer_auth(token).body(body).send().await?.error_for_status()?;
        let answer: serde_json::Value = answer.json().await?;
        let uri = answer["content_uri"].as_str().and_then(|uri| uri.strip_prefix("mxc://"));
        uri.map(str::to_owned).context("No address of a file")
    };
    let kept = stand.kept_of(side);
    let all = count.all();

    forget(&kept)?;
    for form in count.forms {
        let file = upload(direct, form.bytes()?).await?;
        let url = format!("{through}/_matrix/client/v1/media/download/{file}");
        client.get(url).bearer_auth(token).send().await?.error_for_status()?.bytes().await?;
    }
    seen(count, &kept, &all).await?;
    forget(&kept)?;
    for form in count.forms {
        upload(through, form.bytes()?).await?;
    }
    seen(count, &kept, &all).await?;

    forget(&kept)?;
    let mut fit = Vec::new();
    for (number, form) in count.forms.iter().enumerate() {
        // A head holds no line ends and nothing that is no text.
        let Ok(value) = HeaderValue::from_bytes(&form.bytes()?) else { continue };
        client.get(format!("{through}/_matrix/client/versions")).header("x-control", value).send().await?;
        fit.push(number);
    }
    ensure!(fit.len() > 10, "Only {} forms fit into a head", fit.len());
    seen(count, &kept, &fit).await?;

    forget(&kept)?;
    let mut fit = Vec::new();
    for (number, form) in count.forms.iter().enumerate() {
        if form.name.starts_with("percent") || form.name.starts_with("hex") || form.name.contains("URL-safe") {
            let form = String::from_utf8(form.bytes()?)?;
            client.get(format!("{through}/_matrix/{form}?q={form}")).send().await?;
            fit.push(number);
        }
    }
    seen(count, &kept, &fit).await
}

/// In what a mailbox gives out. Mail holds no byte zero, and no line end but its own.
async fn imap_answers(count: &mut Count<'_>, stand: &Stand) -> Result<()> {
    let mailbox = stand.mail.mailbox("control")?;
    let mut stream = stand.wires[0].dial().await?;
    let (mut mail, mut fit) = (b"Subject: control\r\n".to_vec(), Vec::new());
    for (number, form) in count.forms.iter().enumerate() {
        let bytes = form.bytes()?;
        let is_mail = |bytes: &[u8]| {
            let before = |at: usize| at.checked_sub(1).and_then(|at| bytes.get(at)) == Some(&b'\r');
            bytes.iter().enumerate().all(|(at, byte)| match byte {
                b'\n' => before(at),
                b'\r' => bytes.get(at + 1) == Some(&b'\n'),
                byte => *byte != 0,
            })
        };
        if is_mail(&bytes) {
            // Behind blank lines, as a body is.
            mail.extend([b"\r\n\r\n", &bytes[..], b"\r\n"].concat());
            fit.push(number);
        }
    }
    let login = format!("a LOGIN {} {}\r\n", mailbox.address, mailbox.password);
    said(&mut stream, login.as_bytes(), "a OK").await?;
    let append = format!("b APPEND INBOX {{{}}}\r\n", mail.len());
    said(&mut stream, append.as_bytes(), "+ ").await?;
    said(&mut stream, &[&mail[..], b"\r\n"].concat(), "b OK").await?;
    said(&mut stream, b"c SELECT INBOX\r\n", "c OK").await?;
    said(&mut stream, b"d FETCH 1 BODY[]\r\n", "d OK").await?;
    let answered = last_of(&stand.mail_line(), &format!("{}-", stand.mail.imaps()), "answered")?;
    seen(count, &answered, &fit).await
}

/// In what goes to the mail server, whatever it thinks of it: it may end the connection, so each form has its own.
async fn mail_is_asked(count: &mut Count<'_>, stand: &Stand, wire: &Wire) -> Result<()> {
    let (folder, begins) = (stand.mail_line(), format!("{}-", wire.leads_to()));
    let mut streams = Vec::new();
    for form in count.forms {
        let mut stream = wire.dial().await?;
        stream.write_all(&[b"\r\n\r\n", &form.bytes()?[..], b"\r\n"].concat()).await?;
        stream.flush().await?;
        streams.push(stream);
    }
    let give_up = Instant::now() + PATIENCE;
    loop {
        let mut found = count.found(std::slice::from_ref(&folder))?;
        found.retain(|(_, file)| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&begins) && name.ends_with("-asked")
        });
        let forms: BTreeSet<_> = found.iter().map(|(form, _)| *form).collect();
        if forms.len() == count.forms.len() || Instant::now() > give_up {
            count.judge(&format!("what went to {}", wire.leads_to()), &forms, &count.all());
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn said(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), words: &[u8], until: &str) -> Result<()> {
    stream.write_all(words).await?;
    stream.flush().await?;
    let (mut heard, mut piece) = (Vec::new(), vec![0; 16 * 1024]);
    while !String::from_utf8_lossy(&heard).contains(until) {
        let length = tokio::time::timeout(PATIENCE, stream.read(&mut piece)).await.context("No answer")??;
        ensure!(length > 0, "It broke off: {}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&piece[..length]);
    }
    Ok(())
}

fn forget(kept: &Path) -> Result<()> {
    Ok(File::options().write(true).open(kept)?.set_len(0)?)
}

/// Looks until all of it was kept: a moment may pass between an answer's end and its being written.
async fn seen(count: &mut Count<'_>, kept: &Path, forms: &[usize]) -> Result<()> {
    let give_up = Instant::now() + PATIENCE;
    let paths = [kept.to_owned()];
    loop {
        let found: BTreeSet<_> = count.found(&paths)?.into_iter().map(|(form, _)| form).collect();
        if forms.iter().all(|form| found.contains(form)) || Instant::now() > give_up {
            count.judge(&kept.display().to_string(), &found, forms);
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The file of the newest connection.
fn last_of(folder: &Path, begins: &str, ends: &str) -> Result<std::path::PathBuf> {
    let mut last = None;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = name.strip_prefix(begins).and_then(|rest| rest.strip_suffix(&format!("-{ends}")));
        last = last.max(number.and_then(|number| number.parse::<usize>().ok()).map(|number| (number, path)));
    }
    Ok(last.context("No connection went over this wire")?.1)
}
