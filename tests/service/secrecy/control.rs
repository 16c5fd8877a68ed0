//! The control: the same people say everything once more where nothing is encrypted, and the search finds it all.

use anyhow::{Context as _, Result, ensure};
use sealbridge_lab::{
    MailServer, Synapse,
    delta::{Attachment, Saying},
};
use serde_json::json;

use super::{
    canaries::{self, ANN, BEN, GROUP, picture_of},
    found, until,
};
use crate::phones::Family;

/// The service does not run, and neither do the servers.
pub(super) async fn run(family: &Family, mail: &MailServer, server: &Synapse) -> Result<()> {
    tokio::try_join!(server.restart(), mail.restart())?;
    let all: std::collections::BTreeSet<_> = canaries::all().into_iter().collect();
    mail.hold(true).await?;
    on_delta_chat(family).await?;
    until("the queue has all of it", || Ok(found(&[mail.queue()])? == all)).await?;
    mail.hold(false).await?;
    until("the archive has all of it", || Ok(found(&[mail.archive_folder()])? == all)).await?;
    on_matrix(family).await?;
    tokio::try_join!(server.stop(), mail.stop())?;

    let of = |name: &str| server.data_dir().join(name);
    ensure!(found(&[of("homeserver.db")])? == all, "the search does not find everything in the homeserver's database");
    let media = found(&[of("media")])?;
    let files = [ANN, BEN].into_iter().flat_map(|side| [&[side.content][..], &side.drawn()].concat());
    let missing: Vec<_> = files.filter(|canary| !media.contains(canary)).collect();
    ensure!(missing.is_empty(), "nor in its media store, which lacks {missing:?}");
    let log = found(&[of("homeserver.log")])?;
    ensure!(log.contains(ANN.file_name) && log.contains(BEN.file_name), "nor in its log: {log:?}");
    let log = found(&mail.logs())?;
    ensure!(log.contains(ANN.words), "nor in the mail server's logs: {log:?}");
    let mailboxes = std::fs::read_dir(mail.mailboxes())?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let theirs = mailboxes.iter().find(|path| path.to_string_lossy().contains(ANN.words));
    ensure!(found(&[theirs.context("nobody got the mail")?])? == all, "nor in a mailbox");
    Ok(())
}

/// Into a room without encryption.
async fn on_matrix(family: &Family) -> Result<()> {
    let ann = &family.ann;
    let room = ann.create_plain_room(BEN.place, &[]).await?;
    for words in canaries::all() {
        ann.send(&room, words).await?;
    }
    for side in [ANN, BEN] {
        let shown = ann.send_open_file(&room, side.file_name, "text/plain", &side.file()).await?;
        for canary in side.drawn() {
            ann.send_open_file(&room, "picture.png", "image/png", &picture_of(canary)).await?;
        }
        for emoji in side.reactions {
            let relation = json!({ "rel_type": "m.annotation", "event_id": shown, "key": emoji });
            ann.send_raw_plain(&room, "m.reaction", json!({ "m.relates_to": relation })).await?;
        }
    }
    Ok(())
}

/// To a mailbox that nobody reads, in ordinary mail, as Delta Chat writes it to those who have something else. The
/// mailbox's address has a canary in it, since addresses are all that a mail server logs.
async fn on_delta_chat(family: &Family) -> Result<()> {
    let ben = &family.ben;
    ben.rpc("set_config", json!(["force_encryption", "0"])).await?;
    let number = |value: serde_json::Value| value.as_u64().context("it is a number");
    let contact = number(ben.rpc("create_contact", json!([format!("{}@example.org", ANN.words), "nobody"])).await?)?;
    let chat = number(ben.rpc("create_group_chat_unencrypted", json!([GROUP])).await?)?;
    ben.rpc("add_contact_to_chat", json!([chat, contact])).await?;
    let chat = u32::try_from(chat)?;
    for words in canaries::all() {
        ben.send(chat, words).await?;
    }
    for side in [ANN, BEN] {
        let content = side.file();
        let file = Some(Attachment { view: "File", name: side.file_name, content: &content });
        let sent = ben.say(chat, Saying { text: side.caption, file, ..Saying::default() }).await?;
        for canary in side.drawn() {
            let content = picture_of(canary);
            let file = Some(Attachment { view: "File", name: "picture.png", content: &content });
            ben.say(chat, Saying { file, ..Saying::default() }).await?;
        }
        for emoji in side.reactions {
            ben.react(&sent.id, &[emoji]).await?;
        }
    }
    Ok(())
}
