//! The mail server of the lab.

use std::time::Duration;

use anyhow::Result;
use sealbridge_lab::{
    DeltaPerson,
    mail::{self, MailServer},
};
use tokio::net::TcpStream;

use crate::SOON;

#[tokio::test]
async fn mail_server_survives_a_stop_and_a_kill_with_its_mail_and_leaves_nothing() -> Result<()> {
    if !mail::available().await {
        return Ok(());
    }
    let server = MailServer::start().await?;
    let mailbox = server.mailbox("ann")?;
    let dir = server.data_dir().to_owned();
    let new = dir.join("mail").join(&mailbox.address).join("new");
    let count = || std::fs::read_dir(&new).map(Iterator::count).unwrap_or_default();
    server.inject(&mailbox.address, "Subject: one\n\nwords").await?;
    server.stop().await?;
    assert!(TcpStream::connect(("127.0.0.1", server.imaps())).await.is_err(), "it listens after a stop");
    server.restart().await?;
    server.inject(&mailbox.address, "Subject: two\n\nwords").await?;
    server.kill().await?;
    assert!(TcpStream::connect(("127.0.0.1", server.smtps())).await.is_err(), "it listens after a kill");
    server.restart().await?;
    server.inject(&mailbox.address, "Subject: three\n\nwords").await?;
    assert_eq!(count(), 3, "{}", server.log_tail(10));
    assert!(server.archive()?.is_empty(), "what never passed Postfix is not in the archive");

    drop(server);
    let deadline = std::time::Instant::now() + SOON;
    while dir.exists() {
        assert!(std::time::Instant::now() < deadline, "it leaves {} behind", dir.display());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[tokio::test]
async fn mail_server_killed_while_it_lays_mail_down_takes_mail_at_once_when_it_is_back() -> Result<()> {
    if !mail::available().await {
        return Ok(());
    }
    let server = MailServer::start().await?;
    let (ann, ben) = (DeltaPerson::new_on(&server, "ann").await?, DeltaPerson::new_on(&server, "ben").await?);
    let chat = ann.join(ben.link()).await?;
    ann.send(chat, "before").await?;
    ben.hears("before", SOON).await?;
    // What a Dovecot leaves that is killed with a mail for several mailboxes in its hands. It would wait for two minutes.
    std::fs::write(server.archive_folder().join("dovecot-uidlist.lock"), "")?;
    server.kill().await?;
    ann.send(chat, "afterwards").await?;
    server.restart().await?;
    for person in [&ann, &ben] {
        person.network_is_back().await?;
    }
    ben.hears("afterwards", SOON).await?;
    Ok(())
}
