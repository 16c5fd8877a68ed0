//! Files: streamed, checked, uploaded once.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use sealbridge_contract::{
    Cleartext, Destination, EndToEnd as _, Kind, Media, Message, Origin, Receipt, Rule, SecretBytes, SenderTrust, Slip,
    Spool, SpoolError, SpoolId, Spooled, Timestamp, Verdict,
    delivery::DeliveryError,
    gate::Encryption,
    judge,
    message::{Absence, FileName, MediaType, Sort},
    spool::{Pass, SpoolReader, SpoolWriter},
};
use sealbridge_lab::{
    Lab, Person, Synapse,
    proxy::{Fault, Rule as Broken},
};
use sealbridge_matrix::Matrix;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{
    bot::{Bot, Running, SOON, ann, slip, until},
    losses::Scene,
};

const MIB: u64 = 1 << 20;
const PIECE: u64 = 64 * 1024;

/// The size and the hash of a file.
type Written = (u64, [u8; 32]);

/// A spool that keeps nothing: what it reads is made as it is read, of what it writes it keeps the hash.
#[derive(Clone, Default)]
struct Stream {
    size: Arc<AtomicU64>,
    written: Arc<Mutex<Vec<Written>>>,
}

struct Reading {
    at: u64,
    size: u64,
}

struct Writing {
    stream: Stream,
    size: u64,
    hash: Sha256,
}

fn piece(at: u64, size: u64) -> Vec<u8> {
    let length = PIECE.min(size - at);
    (0..length).map(|byte| ((at / PIECE) as u8).wrapping_mul(31).wrapping_add(byte as u8)).collect()
}

impl Stream {
    /// A file of so many bytes, which are made as they are read.
    fn file(&self, size: u64) -> Spooled {
        self.size.store(size, Ordering::SeqCst);
        let mut hash = Sha256::new();
        (0..size.div_ceil(PIECE)).for_each(|number| hash.update(piece(number * PIECE, size)));
        Spooled::new(SpoolId::random(), size, hash.finalize().into(), None)
    }
}

#[async_trait]
impl Spool for Stream {
    async fn create(&self, _most: u64) -> Result<Box<dyn SpoolWriter>, SpoolError> {
        Ok(Box::new(Writing { stream: self.clone(), size: 0, hash: Sha256::new() }))
    }

    async fn open(&self, _pass: &Pass<'_>, from: u64) -> Result<Box<dyn SpoolReader>, SpoolError> {
        Ok(Box::new(Reading { at: from, size: self.size.load(Ordering::SeqCst) }))
    }
}

#[async_trait]
impl SpoolReader for Reading {
    async fn next(&mut self) -> Result<Option<SecretBytes>, SpoolError> {
        if self.at >= self.size {
            return Ok(None);
        }
        let piece = piece(self.at, self.size);
        self.at += piece.len() as u64;
        Ok(Some(SecretBytes::new(piece)))
    }
}

#[async_trait]
impl SpoolWriter for Writing {
    async fn write(&mut self, piece: &[u8]) -> Result<(), SpoolError> {
        self.size += piece.len() as u64;
        self.hash.update(piece);
        Ok(())
    }

    async fn finish(self: Box<Self>, _expected: Option<[u8; 32]>) -> Result<Spooled, SpoolError> {
        let hash: [u8; 32] = self.hash.finalize().into();
        self.stream.written.lock().unwrap_or_else(PoisonError::into_inner).push((self.size, hash));
        Ok(Spooled::new(SpoolId::random(), self.size, hash, None))
    }
}

async fn deliver_file(running: &Running, slip: &Slip, content: &Spooled) -> Result<Receipt, DeliveryError> {
    deliver_file_by(&running.matrix, slip, content).await
}

async fn deliver_file_by(matrix: &Matrix, slip: &Slip, content: &Spooled) -> Result<Receipt, DeliveryError> {
    let media = Media::new(Sort::File, FileName::new("large.bin"), MediaType::new("application/x-y"), content.clone());
    let message = Cleartext::new(Message::of(ann(), Timestamp(0), Kind::File(Box::new(media))));
    let rule = Rule { most_file: u64::MAX, ..Rule::default() };
    let to = Destination::EndToEnd(Encryption::Pinned);
    let Verdict::Speak(cleared) = judge(&message, Origin { sender: SenderTrust::Local, said: &message }, &to, &rule)
    else {
        return Err(DeliveryError::give_up("the gate refuses"));
    };
    matrix.deliver(cleared, slip).await
}

/// The memory of this process, in KiB.
fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("It is told")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_megabytes_cross_in_bounded_memory() -> Result<()> {
    if Lab::shared().await?.is_none() {
        return Ok(());
    }
    let extra = json!({ "max_upload_size": "300M" }).as_object().cloned().unwrap_or_default();
    let server = Synapse::start("large.test", sealbridge_lab::synapse::Options { extra, ..Default::default() }).await?;
    let bob = Person::new_on(&server, "bob").await?;
    let from_bob = json!({ "invites": { "from": [bob.user_id()] } });
    let (here, there) = (Stream::default(), Stream::default());
    let mut sender = Bot::new(&server, server.url(), from_bob.clone()).await?;
    sender.spool = Arc::new(here.clone());
    let mut receiver = Bot::new(&server, server.url(), from_bob).await?;
    receiver.spool = Arc::new(there.clone());
    let (sending, receiving) = (sender.start().await?, receiver.start().await?);
    let room = bob.create_encrypted_room("large", &[&sender.user.id, &receiver.user.id]).await?;
    sending.joins(&room, 3).await?;
    receiving.joins(&room, 3).await?;
    sending.says(&room, "first words").await?;
    receiver.hears("first words").await?;

    let file = here.file(200 * MIB);
    let before = resident()?;
    let peak = Arc::new(AtomicU64::new(before));
    let (watching, most) = (Arc::clone(&peak), tokio_util::sync::CancellationToken::new());
    let stop = most.clone();
    let watch = tokio::spawn(async move {
        while !stop.is_cancelled() {
            watching.fetch_max(resident().unwrap_or_default(), Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    deliver_file(&sending, &slip(&room), &file).await.map_err(|error| anyhow::anyhow!("{error}"))?;
    let written = || there.written.lock().unwrap_or_else(PoisonError::into_inner).first().copied();
    let (size, hash) = tokio::time::timeout(SOON * 4, async {
        loop {
            if let Some(written) = written() {
                break written;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .context("The file did not come")?;
    most.cancel();
    watch.await?;
    assert_eq!((size, hash), (file.size, file.sha256));
    let grown = peak.load(Ordering::SeqCst).saturating_sub(before);
    // Other tests run in the same process meanwhile.
    assert!(grown < 100 * 1024, "memory grew by {grown} KiB");
    sending.stop().await?;
    receiving.stop().await
}

#[tokio::test]
async fn finished_upload_is_not_made_again_after_a_kill() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, proxy, bot, running, room } = Scene::set(lab, json!({})).await?;
    let content = bot.intake.spool().put(&b"canary".repeat(1000));
    let (slip, failing) = (slip(&room), Fault::Answer { status: 502, body: json!({}) });
    proxy.record();
    proxy.add(Broken::new("PUT", "/send/m.room.encrypted/", failing)?.times(1));
    assert!(deliver_file(&running, &slip, &content).await.is_err());
    running.kill().await;

    let again = bot.start().await?;
    again.joins(&room, 2).await?;
    let tried = until_delivered(&again, &slip, &content).await?;
    let heard = bob.wait_for(|it| it.msgtype == "m.file", SOON).await?;
    assert_eq!(heard.event_id, tried.id.as_str());
    assert_eq!(heard.content["filename"], "large.bin");
    assert!(heard.content.get("url").is_none());
    assert_eq!(bob.download(&heard.content).await?, b"canary".repeat(1000));
    let uploads = proxy.take_seen().into_iter().filter(|seen| seen.path.contains("/media/v3/upload")).count();
    assert_eq!(uploads, 1);
    again.stop().await
}

#[tokio::test]
async fn upload_that_is_cut_goes_on_as_the_same() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, proxy, bot, mut running, room } = Scene::set(lab, json!({})).await?;
    let whole = b"canary".repeat(50_000);
    proxy.record();
    // Cut in the middle; cut after the homeserver had all of it; and in the hands of a process that dies.
    for fault in [Fault::CutRequest, Fault::DropAfter, Fault::Hang] {
        let content = bot.intake.spool().put(&whole);
        let slip = slip(&room);
        let hangs = matches!(fault, Fault::Hang);
        let broken = proxy.add(Broken::new("PUT", "/media/v3/upload/", fault)?.times(1));
        if hangs {
            let (matrix, slip, content) = (Arc::clone(&running.matrix), slip.clone(), content.clone());
            let attempt = tokio::spawn(async move { deliver_file_by(&matrix, &slip, &content).await });
            broken.wait_struck(1, SOON).await?;
            attempt.abort();
            assert!(attempt.await.is_err());
        } else {
            let error = deliver_file(&running, &slip, &content).await.expect_err("it was cut");
            assert!(!matches!(error.fate, sealbridge_contract::Fate::GiveUp), "{error}");
        }
        running.kill().await;
        broken.remove();
        running = bot.start().await?;
        running.joins(&room, 2).await?;
        let receipt = until_delivered(&running, &slip, &content).await?;
        let heard = bob.wait_for(|it| it.event_id == receipt.id.as_str(), SOON).await?;
        assert_eq!(bob.download(&heard.content).await?, whole);
        let seen = proxy.take_seen();
        let reserved = seen.iter().filter(|seen| seen.path.contains("/media/v1/create")).count();
        let mut uploads: Vec<_> = seen.iter().filter(|seen| seen.path.contains("/media/v3/upload")).collect();
        assert_eq!((reserved, uploads.len()), (1, 2), "one place, and twice to it");
        uploads.dedup_by(|one, other| (&one.path, &one.body) == (&other.path, &other.body));
        assert_eq!(uploads.len(), 1, "the same bytes to the same place");
        assert!(bot.context().store.read_all("uploaded/").await?.is_empty(), "nothing is remembered of it any more");
    }
    let files: Vec<_> = bob.messages_in(&room).into_iter().filter(|it| it.msgtype == "m.file").collect();
    assert_eq!(files.len(), 3);
    running.stop().await
}

#[tokio::test]
async fn homeserver_that_reserves_no_places_gets_the_file_as_a_whole() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, proxy, bot, running, room } = Scene::set(lab, json!({})).await?;
    let unknown = Fault::Answer { status: 404, body: json!({ "errcode": "M_UNRECOGNIZED", "error": "no" }) };
    proxy.add(Broken::new("POST", "/media/v1/create", unknown)?);
    let cut = proxy.add(Broken::new("POST", "/media/v3/upload", Fault::CutRequest)?.times(1));
    let (slip, content) = (slip(&room), bot.intake.spool().put(&b"canary".repeat(50_000)));
    let receipt = until_delivered(&running, &slip, &content).await?;
    assert_eq!(cut.struck(), 1);
    let heard = bob.wait_for(|it| it.event_id == receipt.id.as_str(), SOON).await?;
    assert_eq!(bob.download(&heard.content).await?, b"canary".repeat(50_000));
    running.stop().await
}

#[tokio::test]
async fn place_that_was_given_up_is_reserved_anew() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, proxy, bot, running, room } = Scene::set(lab, json!({})).await?;
    let gone = Fault::Answer { status: 404, body: json!({ "errcode": "M_NOT_FOUND", "error": "expired" }) };
    proxy.add(Broken::new("PUT", "/media/v3/upload/", gone)?.times(1));
    proxy.record();
    let (slip, content) = (slip(&room), bot.intake.spool().put(b"canary"));
    let receipt = until_delivered(&running, &slip, &content).await?;
    let heard = bob.wait_for(|it| it.event_id == receipt.id.as_str(), SOON).await?;
    assert_eq!(bob.download(&heard.content).await?, b"canary");
    let reserved = proxy.take_seen().into_iter().filter(|seen| seen.path.contains("/media/v1/create")).count();
    assert_eq!(reserved, 2);
    running.stop().await
}

async fn until_delivered(running: &Running, slip: &Slip, content: &Spooled) -> Result<Receipt> {
    let mut tries = 0;
    loop {
        match deliver_file(running, slip, content).await {
            Ok(receipt) => return Ok(receipt),
            Err(error) if tries > 20 => anyhow::bail!("{error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
        tries += 1;
    }
}

#[tokio::test]
async fn file_that_is_open_or_too_large_stays_behind_with_the_reason() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Scene { bob, bot, running, room, proxy: _proxy } = Scene::set(lab, json!({ "most_file_mib": 1 })).await?;
    let open = json!({ "msgtype": "m.image", "body": "cat.png", "url": "mxc://example.org/abc" });
    let open = bob.send_event(&room, "m.room.message", open).await?;
    let claims = json!({ "size": 4_u64 << 30 });
    let file = json!({ "room": room, "name": "x", "mimetype": "a/b", "data": "AAAA", "info": claims });
    let claims = bob.call("send_file", file).await?;
    let large = bob.send_file(&room, "large.bin", "a/b", &vec![7; 1_500_000]).await?;
    for (event, why) in [
        (open.as_str(), Absence::NotEncrypted),
        (claims["event_id"].as_str().unwrap_or_default(), Absence::TooLarge { most: Some(MIB) }),
        (large.as_str(), Absence::TooLarge { most: Some(MIB) }),
    ] {
        let accepted = until(|| bot.intake.accepted().into_iter().find(|it| it.id.as_str() == event)).await?;
        assert_eq!((accepted.absence, accepted.details.file.is_none()), (Some(why), true));
    }
    running.stop().await
}
