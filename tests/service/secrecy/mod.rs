//! Nothing that people say, show and send is in clear anywhere on its way, on either network's servers or here.
//!
//! A whole talk between a Matrix room and a Delta Chat group, with all of it also caught where it waits: in the mail
//! server's queue, and in the service while either server is away. Then every folder is searched. In the control the
//! same people say the same where nothing is encrypted, and the same search finds all of it.

mod canaries;
mod control;
mod wide;

use std::{
    collections::BTreeSet,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealbridge_contract::conformance::{Details, How, Overheard, Sample, Say};
use sealbridge_lab::{
    MailServer, Synapse,
    bridge::{Binary, Bridge},
    family::of_the_service,
    mail::{self, is_encrypted},
    person::Message,
    search::Search,
    servers, synapse,
};
use serde_json::json;

use crate::phones::{Family, Said, Setting, Who, matrix::PROFILE};
use canaries::{ANN, BEN, GROUP, Side, picture_of};

const PATIENCE: Duration = Duration::from_secs(60);
/// Reactions as such, and in words.
const NATIVE: &str = "reactions = \"native\"";
const TOLD: &str = "reactions = \"text\"";

fn side(who: Who) -> &'static Side {
    if who == Who::Ann { &ANN } else { &BEN }
}

/// Which canaries are there, each once.
fn found<P: AsRef<Path>>(paths: &[P]) -> Result<BTreeSet<&'static str>> {
    let all = canaries::all();
    let hits = Search::new(&all)?.paths(paths)?;
    Ok(hits.into_iter().map(|hit| all[hit.canary]).collect())
}

/// Asserts that these and no others are there.
fn assert_found<P: AsRef<Path>>(what: &str, paths: &[P], expected: &[&'static str]) -> Result<()> {
    let found = found(paths)?;
    let expected: BTreeSet<_> = expected.iter().copied().collect();
    ensure!(found == expected, "{what}: there is {found:?}, and was to be {expected:?}");
    Ok(())
}

async fn until(what: &str, is: impl Fn() -> Result<bool>) -> Result<()> {
    let give_up = Instant::now() + PATIENCE;
    while !is()? {
        ensure!(Instant::now() < give_up, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// The service's own folder and everything in it, but for the engine's, of which SECURITY.md speaks, and for what the
/// operator wrote.
fn ours(bridge: &Bridge) -> Result<Vec<PathBuf>> {
    let places = of_the_service(bridge)?;
    for part in ["output.log", "journal.db", "spool", "handover"] {
        ensure!(places.iter().any(|place| place.ends_with(part)), "{part} is not among {places:?}");
    }
    Ok(places)
}

/// The engine's own folder.
fn engines(bridge: &Bridge) -> PathBuf {
    bridge.folder().join("state/accounts/family/accounts")
}

/// How many files are on their way through the service.
fn spooled(bridge: &Bridge) -> Result<usize> {
    Ok(std::fs::read_dir(bridge.folder().join("state/spool"))?.count())
}

impl Family {
    async fn hears_words(&self, who: Who, words: &str) -> Result<()> {
        let heard = self.hears(who, words, |heard| heard.words.contains(words)).await?;
        let name = side(who.other()).name;
        ensure!(heard.author.as_deref().is_none_or(|author| author.contains(name)), "{words}: {:?}", heard.author);
        Ok(())
    }

    async fn reacts(&self, who: Who, to: &Said, emoji: &str) -> Result<()> {
        let details = Details { about: Some(to.to(who).clone()), emoji: vec![emoji.to_owned()], ..Details::default() };
        self.says(who, Say { how: How::Reaction, details, ..Say::default() }).await.map(drop)
    }

    /// Says words with a file.
    async fn shows(&self, who: Who, words: &str) -> Result<()> {
        let side = side(who);
        let file = Sample {
            name: side.file_name.to_owned(),
            mime: "text/plain".to_owned(),
            content: side.file(),
            ..Sample::default()
        };
        let details = Details { file: Some(file), ..Details::default() };
        self.says(who, Say { how: How::File, words: words.to_owned(), details, ..Say::default() }).await.map(drop)
    }

    async fn sees_file(&self, who: Who, words: &str) -> Result<()> {
        let heard = self.hears(who, words, |heard| heard.words.contains(words) && heard.details.file.is_some()).await?;
        let (file, side) = (heard.details.file.context("it has a file")?, side(who.other()));
        ensure!(file.content == side.file() && file.name == side.file_name, "the file is another: {}", file.name);
        Ok(())
    }

    /// Says of a place where it is.
    async fn points(&self, who: Who) -> Result<()> {
        let Side { spot, at: [latitude, longitude], .. } = *side(who);
        let details = Details { place: Some(format!("geo:{latitude},{longitude}")), ..Details::default() };
        self.says(who, Say { how: How::Location, words: spot.to_owned(), details, ..Say::default() }).await?;
        let heard = self.hears(who.other(), spot, |heard| heard.words.contains(spot)).await?;
        let place = heard.details.place.unwrap_or(heard.words);
        ensure!(place.contains(latitude) && place.contains(longitude), "another place crossed");
        Ok(())
    }

    async fn asks(&self, who: Who) -> Result<()> {
        let [question, answers @ ..] = side(who).poll else { return Ok(()) };
        let details = Details { answers: answers.iter().map(|one| (*one).to_owned()).collect(), ..Details::default() };
        self.says(who, Say { how: How::Poll, words: (*question).to_owned(), details, ..Say::default() }).await?;
        let all = |words: &str| side(who).poll.iter().all(|part| words.contains(part));
        self.hears(who.other(), question, |heard| all(&heard.words)).await.map(drop)
    }

    async fn sticks(&self, who: Who) -> Result<()> {
        let content = picture_of(side(who).sticker);
        let (name, mime) = ("sticker.png".to_owned(), "image/png".to_owned());
        let details = Details {
            file: Some(Sample { name, mime, content: content.clone(), dimensions: Some((8, 8)), ..Sample::default() }),
            ..Details::default()
        };
        self.says(who, Say { how: How::Sticker, details, ..Say::default() }).await?;
        let is = |heard: &Overheard| {
            heard.how == How::Sticker && heard.details.file.as_ref().is_some_and(|file| file.content == content)
        };
        self.hears(who.other(), "the sticker", is).await.map(drop)
    }

    /// Everybody and both conversations get a picture. Ben's own is shown on Matrix; of the others nothing crosses but
    /// that they were changed.
    async fn look(&self) -> Result<()> {
        let (ann, ben) = (&self.ann, &self.ben);
        let upload = async |canary: &str| {
            let picture = json!({ "data": STANDARD.encode(picture_of(canary)), "mimetype": "image/png" });
            ann.call("set_picture", picture).await.map(|mut url| url["avatar_url"].take())
        };
        let rooms = upload(ANN.picture).await?;
        upload(ANN.portrait).await?;
        ann.send_state(&self.room, "m.room.avatar", "", json!({ "url": rooms })).await?;
        self.hears_words(Who::Ben, "changed the picture").await?;
        let groups = tempfile::Builder::new().suffix(".png").tempfile()?;
        std::fs::write(groups.path(), picture_of(BEN.picture))?;
        ben.rpc("set_chat_profile_image", json!([self.chat, groups.path()])).await?;
        self.hears_words(Who::Ann, "changed the picture").await?;
        ben.has_picture(&picture_of(BEN.portrait)).await
    }

    /// What Ben says is shown with his picture, which is his.
    async fn sees_ben(&self) -> Result<()> {
        let shown = |message: &Message| message.content[PROFILE]["avatar_file"].is_object();
        let heard = self.ann.wait_for(shown, PATIENCE).await.context("nobody sees how Ben looks")?;
        let file = json!({ "file": heard.content[PROFILE]["avatar_file"] });
        let content = self.ann.download(&file).await?;
        ensure!(!Search::new(&[BEN.portrait])?.bytes(&content).is_empty(), "Ben's picture is another");
        Ok(())
    }

    /// Everything that one does, and what the other has of it.
    async fn talk(&self, who: Who) -> Result<Said> {
        let (side, far) = (side(who), who.other());
        let said = self.said(who, side.words).await?;
        let about = Details { about: Some(said.to(who).clone()), ..Details::default() };
        // Delta Chat has no formatting; what it has instead is tried all the same.
        let html = (who == Who::Ann).then(|| format!("<b>{}</b>", side.formatted));
        self.says(who, Say { words: side.formatted.to_owned(), html, ..Say::default() }).await?;
        self.hears_words(far, side.formatted).await?;
        let reply_to = Some(said.to(who).clone());
        self.says(who, Say { words: side.answer.to_owned(), reply_to, ..Say::default() }).await?;
        self.hears_words(far, side.answer).await?;
        self.says(who, Say { how: How::Edit, words: side.edit.to_owned(), details: about, ..Say::default() }).await?;
        self.hears_words(far, side.edit).await?;
        self.shows(who, side.caption).await?;
        self.sees_file(far, side.caption).await?;
        self.points(who).await?;
        self.asks(who).await?;
        self.sticks(who).await?;
        let gone = self.said(who, side.deleted).await?;
        let about = Details { about: Some(gone.to(who).clone()), ..Details::default() };
        self.says(who, Say { how: How::Redaction, details: about, ..Say::default() }).await?;
        self.hears(far, "the deletion", |heard| heard.how == How::Redaction).await?;
        self.reacts(who, &said, side.reactions[0]).await?;
        let shown = |emoji: &[String]| emoji.iter().any(|one| one == side.reactions[0]);
        self.hears(far, "the reaction", |heard| heard.how == How::Reaction && shown(&heard.details.emoji)).await?;
        Ok(said)
    }

    /// Each gives the conversation another name, which the other is told in words.
    async fn rename(&self) -> Result<()> {
        self.ann.send_state(&self.room, "m.room.name", "", json!({ "name": ANN.place })).await?;
        self.hears_words(Who::Ben, ANN.place).await?;
        self.ben.rpc("set_chat_name", json!([self.chat, BEN.place])).await?;
        self.hears_words(Who::Ann, BEN.place).await
    }
}

/// Shows a file while the other side's server is away: it is caught in the service, and nothing of it can be read there.
async fn caught_here(family: &Family, who: Who, what: &str) -> Result<()> {
    family.shows(who, side(who).waiting).await?;
    until("the file waits in the service", || Ok(spooled(&family.bridge)? > 0)).await?;
    assert_found(what, &ours(&family.bridge)?, &[])
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_what_people_say_show_and_send_is_in_clear_on_its_way() -> Result<()> {
    if !(mail::available().await && servers::available().await) {
        return Ok(());
    }
    let (server, mail) =
        tokio::try_join!(Synapse::start("alpha.test", synapse::Options::default()), MailServer::start())?;
    let binary = Binary::at(env!("CARGO_BIN_EXE_sealbridge"));
    let names = Some([ANN.name, BEN.name]);
    let setting = Setting { names, group: GROUP, link: Some(NATIVE), log: Some("trace") };
    let mut family = Family::on(&binary, &mail, &server, &setting).await?;

    family.look().await?;
    let (anns, bens) = (family.talk(Who::Ann).await?, family.talk(Who::Ben).await?);
    family.sees_ben().await?;
    family.rename().await?;
    family.bridge.stop().await?;
    let config = std::fs::read_to_string(family.bridge.config())?;
    std::fs::write(family.bridge.config(), config.replace(NATIVE, TOLD))?;
    family.bridge.start().await?;
    for (who, to) in [(Who::Ann, &anns), (Who::Ben, &bens)] {
        let emoji = side(who).reactions[1];
        family.reacts(who, to, emoji).await?;
        family.hears_words(who.other(), emoji).await?;
    }

    // Caught in the mail server's queue, from both directions.
    mail.hold(true).await?;
    for who in [Who::Ann, Who::Ben] {
        family.says(who, Say { words: side(who).queued.to_owned(), ..Say::default() }).await?;
    }
    until("the mail server has both", || Ok(mail.queued()? >= 2)).await?;
    assert_found("the queue", &[mail.queue()], &[])?;
    mail.hold(false).await?;
    for who in [Who::Ann, Who::Ben] {
        family.hears_words(who.other(), side(who).queued).await?;
    }
    // Caught in the service, from both directions.
    mail.kill().await?;
    caught_here(&family, Who::Ann, "the service while the mail server is away").await?;
    mail.restart().await?;
    family.sees_file(Who::Ben, ANN.waiting).await?;
    until("nothing waits", || Ok(spooled(&family.bridge)? == 0)).await?;
    server.stop().await?;
    caught_here(&family, Who::Ben, "the service while the homeserver is away").await?;
    server.restart().await?;
    family.sees_file(Who::Ann, BEN.waiting).await?;

    family.bridge.stop().await?;
    tokio::try_join!(server.stop(), mail.stop())?;
    let mails = mail.archive()?;
    let open = mails.iter().filter(|mail| !is_encrypted(mail)).count();
    ensure!(open == 0 && mails.len() > 20, "{open} of {} mails are not encrypted", mails.len());
    assert_found("the mail server", &[mail.data_dir()], &[])?;
    // Matrix has no encryption for these, and SECURITY.md says so: how Ann and her room are called and look, and what
    // reactions are.
    let [named, shown] = [[ANN.name, ANN.place], [ANN.portrait, ANN.picture]];
    let told_by_matrix = [&named[..], &shown, &ANN.reactions, &BEN.reactions[..1]].concat();
    assert_found("the homeserver", &[server.data_dir()], &told_by_matrix)?;
    assert_found("the service", &ours(&family.bridge)?, &[])?;
    let log = family.bridge.log_text();
    ensure!(log.contains("TRACE") || log.contains("DEBUG"), "it did not log at that level");
    // The config says what the operator wrote, and nothing that was said later.
    assert_found("the config", &[family.bridge.config()], &[GROUP])?;
    engine_keeps_its_own(&family, &mail)?;

    control::run(&family, &mail, &server).await
}

/// What SECURITY.md says of the engine's own folder: what was said, shown and sent is in it as it is, and the mail
/// password; and nobody but the service's user gets there. Files that were handed over are gone.
fn engine_keeps_its_own(family: &Family, mail: &MailServer) -> Result<()> {
    let folder = engines(&family.bridge);
    let found = found(&[&folder])?;
    // Where Ben is it keeps as numbers, and how Ann and her room look it never gets.
    let gone = [ANN.deleted, BEN.deleted, BEN.at[0], BEN.at[1], ANN.portrait, ANN.picture];
    let missing: Vec<_> =
        canaries::all().into_iter().filter(|one| !found.contains(one) && !gone.contains(one)).collect();
    ensure!(missing.is_empty(), "the engine does not keep {missing:?}: SECURITY.md says too much");
    let password = mail.mailbox("any")?.password;
    ensure!(!Search::new(&[password])?.paths(&[&folder])?.is_empty(), "the engine does not keep the password in clear");
    let account = folder.parent().context("it lies in the account's folder")?;
    let mode = std::fs::metadata(account)?.permissions().mode() & 0o777;
    ensure!(mode == 0o700, "others get there: {mode:o}");
    ensure!(std::fs::read_dir(account.join("handover"))?.count() == 0, "something lies where files are handed over");
    Ok(())
}
