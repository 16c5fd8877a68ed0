//! Large files on their whole way, and what they cost the service and the engine in memory: as large as Delta Chat takes,
//! and larger from Matrix to Matrix.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use sealbridge_contract::conformance::{Details, How, Sample, Say};
use sealbridge_lab::{
    Lab, Person,
    bridge::{AccountPlan, Binary, Bridge, Plan},
    demo,
    processes::peak_memory,
};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::phones::{Family, Who};

const MIB: u64 = 1 << 20;
/// What an operator may count on: the service takes no more than this whatever crosses.
const MOST: u64 = 200 * MIB;
/// Larger than what the service may take in memory.
const LARGEST: u64 = 200 * MIB;
/// For a whole upload or download by an unoptimised build, on a machine that does other work, too.
const PATIENCE: Duration = Duration::from_secs(600);

fn file(words: &str, size: u64) -> Say {
    // Nothing that could be compressed.
    let blocks = (0..size.div_ceil(32)).flat_map(|at| <[u8; 32]>::from(Sha256::digest(at.to_le_bytes())));
    let content = blocks.take(usize::try_from(size).expect("it fits into memory")).collect();
    let file = Sample { name: "large.bin".into(), mime: "application/x-large".into(), content, ..Sample::default() };
    let details = Details { file: Some(file), ..Details::default() };
    Say { how: How::File, words: words.to_owned(), details, ..Say::default() }
}

/// Sends a file from one side, and waits until it is whole at the other.
async fn crosses(family: &Family, from: Who, words: &str, size: u64) -> Result<()> {
    let say = file(words, size);
    let sent = say.details.file.as_ref().context("it has a file")?.content.clone();
    family.says(from, say).await?;
    let is = |heard: &sealbridge_contract::conformance::Overheard| heard.words.ends_with(words);
    let heard = family.hears(from.other(), words, is).await?;
    let got = heard.details.file.context("the file is gone")?.content;
    // The content is not to be shown by a failure.
    ensure!(got == sent, "{words}: {} bytes of {} came, or others", got.len(), sent.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn largest_file_crosses_between_matrix_and_delta_chat_while_the_service_stays_small() -> Result<()> {
    let binary = Binary::at(env!("CARGO_BIN_EXE_sealbridge"));
    let Some(family) = Family::set(&binary).await? else { return Ok(()) };
    let recommended = family.ben.rpc("get_config", json!(["sys.msgsize_max_recommended"])).await?;
    let recommended: u64 = recommended.as_str().context("the engine says what it recommends")?.parse()?;
    let limit = sealbridge_deltachat::ABILITIES.most_file;
    assert_eq!(limit, recommended / MIB * MIB, "the engine recommends another limit now");
    // The first words bring keys and caches that stay.
    family.said(Who::Ann, "first words of ann").await?;
    family.said(Who::Ben, "first words of ben").await?;
    let service = family.bridge.pid().context("the service runs")?;
    let engine = family.engine()?.context("the engine runs")?;
    let peaks = || anyhow::Ok([peak_memory(service)?, peak_memory(engine)?]);
    let before = peaks()?;
    crosses(&family, Who::Ann, "the largest of ann", limit).await?;
    let there = peaks()?;
    crosses(&family, Who::Ben, "the largest of ben", limit).await?;
    let back = peaks()?;
    ensure!(family.engine()? == Some(engine), "the engine was started again, and its peak is lost");

    family.says(Who::Ann, file("too large", limit + 1)).await?;
    let told = family.hears(Who::Ann, "that it is too large", |heard| heard.words.contains("did not cross")).await?;
    ensure!(told.words.contains("21 MiB"), "nobody is told how much crosses: {}", told.words);

    let line = |what: &str, at: usize| {
        let [before, there, back] = [before, there, back].map(|peaks| peaks[at] as f64 / MIB as f64);
        format!(
            "{what} {before:.1} MiB at most before, {there:.1} after Matrix to Delta Chat, {back:.1} after the way back"
        )
    };
    writeln!(std::io::stdout(), "{} MiB: {}; {}", limit / MIB, line("service", 0), line("engine", 1))?;
    ensure!(back[0] < MOST && back[0] - before[0] < MOST, "the service took {} MiB", back[0] / MIB);
    family.bridge.stop().await
}

/// The service between a Matrix room and another on a homeserver that knows nothing of the first, with a person in each.
struct Rooms {
    bridge: Bridge,
    people: [Person; 2],
    rooms: [String; 2],
}

impl Rooms {
    /// Linked, with these further lines of the link.
    async fn linked(lab: &Lab, lines: &str) -> Result<Self> {
        let binary = Binary::at(env!("CARGO_BIN_EXE_sealbridge"));
        let (ann, bob) = tokio::try_join!(Person::new_on(&lab.a, "ann"), Person::new_on(&lab.b, "bob"))?;
        let (a, b) = tokio::try_join!(AccountPlan::on(&lab.a, "a"), AccountPlan::on(&lab.b, "b"))?;
        let bots = [a.user.id.clone(), b.user.id.clone()];
        let mut bridge = Bridge::set_up(&binary, &Plan { accounts: vec![a, b], ..Plan::default() }).await?;
        bridge.start().await?;
        let rooms =
            [demo::invited(&ann, "large", &bots[0], None).await?, demo::invited(&bob, "large", &bots[1], None).await?];
        let ends = [format!("a/{}", rooms[0]), format!("b/{}", rooms[1])];
        for end in &ends {
            bridge.wait_conversation(end, PATIENCE).await?;
        }
        bridge.stop().await?;
        let link = format!("\n[links.large]\nends = {ends:?}\n{lines}\n");
        let config = std::fs::read_to_string(bridge.config())?;
        std::fs::write(bridge.config(), config + link.as_str())?;
        bridge.start().await?;
        Ok(Self { bridge, people: [ann, bob], rooms })
    }
}

/// Writes so many random bytes, and gives their hash.
fn write_random(path: &Path, size: u64) -> Result<[u8; 32]> {
    let (mut file, mut hash) = (File::create(path)?, Sha256::new());
    let mut piece = vec![0; usize::try_from(MIB)?];
    for _ in 0..size / MIB {
        getrandom::fill(&mut piece).map_err(|error| anyhow::anyhow!("Read random bytes: {error}"))?;
        hash.update(&piece);
        file.write_all(&piece)?;
    }
    Ok(hash.finalize().into())
}

/// How long a file is, and its hash.
fn measured(path: &Path) -> Result<(u64, [u8; 32])> {
    let (mut file, mut hash, mut size) = (File::open(path)?, Sha256::new(), 0);
    let mut piece = vec![0; usize::try_from(MIB)?];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok((size, hash.finalize().into()));
        }
        hash.update(&piece[..read]);
        size += read as u64;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_megabytes_cross_from_matrix_to_matrix_while_the_service_stays_small() -> Result<()> {
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let Rooms { bridge, people: [ann, bob], rooms } = Rooms::linked(lab, "most_file = \"200MiB\"").await?;
    // The first words bring keys and caches that stay.
    ann.send(&rooms[0], "first words").await?;
    bob.wait_for(|heard| heard.body.ends_with("first words"), PATIENCE).await?;
    let service = bridge.pid().context("the service runs")?;
    let folder = tempfile::tempdir()?;
    let (sent, got) = (folder.path().join("sent"), folder.path().join("got"));
    let hash = write_random(&sent, LARGEST)?;

    let before = peak_memory(service)?;
    let begun = Instant::now();
    ann.send_file_at(&rooms[0], "large.bin", "application/x-large", &sent).await?;
    let said = begun.elapsed();
    let heard = bob.wait_for(|heard| heard.msgtype == "m.file", PATIENCE).await.context(bridge.tail())?;
    let crossed = begun.elapsed() - said;
    bob.download_to(&heard.content, &got).await?;
    ensure!(heard.encrypted && heard.content["filename"] == "large.bin", "the far end sees another file");
    ensure!(measured(&got)? == (LARGEST, hash), "another content came than was sent");

    let after = peak_memory(service)?;
    ensure!(bridge.pid() == Some(service), "the service was started again, and its peak is lost");
    let [before, after] = [before, after].map(|bytes| bytes as f64 / MIB as f64);
    writeln!(
        std::io::stdout(),
        "{} MiB from Matrix to Matrix: {:.1} s to upload it, {:.1} s to cross; service {before:.1} MiB at most before, \
         {after:.1} after",
        LARGEST / MIB,
        said.as_secs_f64(),
        crossed.as_secs_f64(),
    )?;
    ensure!(after < (MOST / MIB) as f64, "the service took {after:.1} MiB");
    bridge.stop().await
}
