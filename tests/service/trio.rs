//! A link with three ends: a room on each of two homeservers and a Delta Chat group, with a person in each.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use sealbridge_contract::{
    PersonId, RemoteId,
    conformance::{Details, How, Overheard, Sample, Say},
};
use sealbridge_lab::{
    DeltaPerson, Lab, MailServer, Person, Synapse,
    bridge::{AccountPlan, Binary, Bridge, Plan},
    demo,
};

use crate::phones::{PATIENCE, delta, founded, mail_account, matrix, nothing_is_there_twice};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// On the first homeserver.
    Ann,
    /// On the second.
    Bob,
    /// On Delta Chat.
    Ben,
}

impl Whom {
    pub(crate) const ALL: [Self; 3] = [Self::Ann, Self::Bob, Self::Ben];

    pub(crate) fn others(self) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |other| *other != self)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ann => "ann",
            Self::Bob => "bob",
            Self::Ben => "ben",
        }
    }
}

/// How a trio is set up.
#[derive(Default)]
pub(crate) struct Setting<'a> {
    /// What the bridge takes for the second homeserver, if that is something before it.
    pub(crate) before_b: Option<&'a str>,
    /// The same for the first.
    pub(crate) before_a: Option<&'a str>,
    /// Further lines of each account.
    pub(crate) lines: &'a str,
    /// Further lines of the link, which is then a fixed one; otherwise `links add` makes it.
    pub(crate) link: Option<&'a str>,
}

/// Everything that is on stage.
pub(crate) struct Trio {
    pub(crate) bridge: Bridge,
    pub(crate) ann: Person,
    pub(crate) bob: Person,
    pub(crate) ben: DeltaPerson,
    pub(crate) rooms: [String; 2],
    pub(crate) chat: u32,
    /// The bridge's own users on the homeservers.
    pub(crate) bots: [String; 2],
}

impl Trio {
    pub(crate) async fn on(servers: [&Synapse; 2], mail: &MailServer, setting: &Setting<'_>) -> Result<Self> {
        let binary = Binary::at(env!("CARGO_BIN_EXE_sealbridge"));
        let (account, _secret) = mail_account(mail, "Family").await?;
        let [mut a, mut b] = [AccountPlan::on(servers[0], "a").await?, AccountPlan::on(servers[1], "b").await?];
        for (account, before) in [(&mut a, setting.before_a), (&mut b, setting.before_b)] {
            account.homeserver = before.map_or_else(|| account.homeserver.clone(), str::to_owned);
            account.extra = setting.lines.to_owned();
        }
        let bots = [a.user.id.clone(), b.user.id.clone()];
        let extra = format!("{account}{}\n", setting.lines);
        let mut bridge = Bridge::prepare(&binary, &Plan { accounts: vec![a, b], admin: None, extra })?;
        let output = bridge.init().await?.ok()?.stdout;
        let (group, link) = founded(&output)?;
        bridge.start().await?;
        let (ann, bob, ben) = tokio::try_join!(
            Person::new_on(servers[0], "ann"),
            Person::new_on(servers[1], "bob"),
            DeltaPerson::new_on(mail, "ben")
        )?;
        let rooms =
            [demo::invited(&ann, "here", &bots[0], None).await?, demo::invited(&bob, "there", &bots[1], None).await?];
        let chat = ben.join(&link).await?;
        let ends = [format!("a/{}", rooms[0]), format!("b/{}", rooms[1]), format!("family/{group}")];
        for end in &ends {
            bridge.wait_conversation(end, PATIENCE).await?;
        }
        match setting.link {
            None => bridge.link("three", &ends.each_ref().map(String::as_str)).await?,
            Some(lines) => {
                bridge.stop().await?;
                let config = std::fs::read_to_string(bridge.config())?;
                std::fs::write(bridge.config(), format!("{config}\n[links.three]\nends = {ends:?}\n{lines}\n"))?;
                bridge.start().await?;
            }
        }
        Ok(Self { bridge, ann, bob, ben, rooms, chat, bots })
    }

    /// The person on Matrix, and their room.
    pub(crate) fn seat(&self, who: Whom) -> Option<(&Person, &str)> {
        match who {
            Whom::Ann => Some((&self.ann, &self.rooms[0])),
            Whom::Bob => Some((&self.bob, &self.rooms[1])),
            Whom::Ben => None,
        }
    }

    pub(crate) async fn says(&self, who: Whom, say: Say) -> Result<RemoteId> {
        match self.seat(who) {
            Some((person, room)) => matrix::say(person, room, say).await,
            None => delta::say(&self.ben, self.chat, say).await.map_err(|stop| anyhow::anyhow!("{stop:?}")),
        }
    }

    /// Everything that others said to somebody.
    pub(crate) async fn heard(&self, who: Whom) -> Result<Vec<Overheard>> {
        let Some((person, _)) = self.seat(who) else {
            return delta::heard(&self.ben, self.chat, &PersonId::new("bridge")).await;
        };
        let received = person.received();
        let mut heard = matrix::heard(received.clone());
        for one in &mut heard {
            if let (Some(file), Some(content)) = (&mut one.details.file, matrix::content(&received, &one.id)) {
                file.content = person.download(content).await?;
            }
        }
        Ok(heard)
    }

    /// Ends the scenario: everything that was said before has come by now, and none of it twice.
    pub(crate) async fn ends(&self) -> Result<()> {
        for who in Whom::ALL {
            said(self, who, &format!("the last words of {who:?}")).await?;
        }
        for who in Whom::ALL {
            nothing_is_there_twice(&format!("{who:?}"), &self.heard(who).await?)?;
        }
        self.bridge.stop().await
    }

    /// What somebody hears first that is so.
    pub(crate) async fn hears(&self, who: Whom, what: &str, is: impl Fn(&Overheard) -> bool) -> Result<Overheard> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = self.heard(who).await?.into_iter().find(|heard| is(heard)) {
                return Ok(found);
            }
            ensure!(Instant::now() < give_up, "{who:?} waits in vain for {what}\n{}", self.bridge.tail());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

/// One message, as each end names it, in the order of [`Whom::ALL`].
pub(crate) struct Named([RemoteId; 3]);

impl Named {
    pub(crate) fn to(&self, who: Whom) -> &RemoteId {
        &self.0[Whom::ALL.iter().position(|one| *one == who).unwrap_or_default()]
    }
}

/// Says words, and waits until both others heard them under the name of whoever said them.
pub(crate) async fn said(trio: &Trio, who: Whom, words: &str) -> Result<Named> {
    let own = trio.says(who, Say { words: words.to_owned(), ..Say::default() }).await?;
    let mut names = [own.clone(), own.clone(), own];
    for other in who.others() {
        let heard = trio.hears(other, words, |heard| heard.words == words).await?;
        let author = heard.author.clone().unwrap_or_default().to_lowercase();
        ensure!(heard.how == How::Text && author.starts_with(who.name()), "{other:?} hears {heard:?}");
        names[Whom::ALL.iter().position(|one| *one == other).context("it is one of three")?] = heard.id;
    }
    Ok(Named(names))
}

fn about(of: &Named, who: Whom) -> Details {
    Details { about: Some(of.to(who).clone()), ..Details::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn words_files_and_what_is_done_to_them_cross_from_each_of_three_ends_to_both_others() -> Result<()> {
    let Some(mail) = MailServer::shared().await? else { return Ok(()) };
    let Some(lab) = Lab::shared().await? else { return Ok(()) };
    let trio = Trio::on([&lab.a, &lab.b], mail, &Setting::default()).await?;
    for (turn, who) in Whom::ALL.into_iter().enumerate() {
        let own = said(&trio, who, &format!("words of {who:?}")).await?;
        let doomed = said(&trio, who, &format!("to be deleted by {who:?}")).await?;
        let next = Whom::ALL[(turn + 1) % 3];
        let others = said(&trio, next, &format!("{next:?} speaks to {who:?}")).await?;

        let content: Vec<u8> = (0..60_000_u32).map(|at| (at % 251) as u8 ^ turn as u8).collect();
        let file = Sample {
            name: format!("paper-{turn}.pdf"),
            mime: "application/pdf".into(),
            content: content.clone(),
            ..Sample::default()
        };
        let words = format!("a file of {who:?}");
        let details = Details { file: Some(file), ..Details::default() };
        trio.says(who, Say { how: How::File, words: words.clone(), details, ..Say::default() }).await?;
        for other in who.others() {
            let heard = trio.hears(other, &words, |heard| heard.words == words).await?;
            let file = heard.details.file.context("the file is gone")?;
            ensure!(heard.how == How::File && file.content == content, "{other:?} gets another content");
            assert_eq!((file.name, file.mime), (format!("paper-{turn}.pdf"), "application/pdf".to_owned()));
        }

        // On a message of somebody else, since each account shows one emoji for all on Delta Chat.
        let details = Details { emoji: vec!["🎉".to_owned()], ..about(&others, who) };
        trio.says(who, Say { how: How::Reaction, details, ..Say::default() }).await?;
        for other in who.others() {
            let is = |heard: &Overheard| {
                heard.how == How::Reaction
                    && heard.details.about.as_ref() == Some(others.to(other))
                    && heard.details.emoji == ["🎉"]
            };
            trio.hears(other, &format!("the reaction of {who:?}"), is).await?;
        }

        let words = format!("edited by {who:?}");
        let edit = Say { how: How::Edit, words: words.clone(), details: about(&own, who), ..Say::default() };
        trio.says(who, edit).await?;
        for other in who.others() {
            let is = |heard: &Overheard| heard.how == How::Edit && heard.words.ends_with(&words);
            let heard = trio.hears(other, &words, is).await?;
            assert_eq!(heard.details.about.as_ref(), Some(own.to(other)), "{other:?}");
        }

        trio.says(who, Say { how: How::Redaction, details: about(&doomed, who), ..Say::default() }).await?;
        for other in who.others() {
            let gone = doomed.to(other);
            let is = |heard: &Overheard| heard.how == How::Redaction && heard.details.about.as_ref() == Some(gone);
            trio.hears(other, &format!("the deletion by {who:?}"), is).await?;
        }
    }
    // Nothing goes round: each heard the words of the two others once.
    for who in Whom::ALL {
        let heard = trio.heard(who).await?;
        for other in who.others() {
            let words = format!("words of {other:?}");
            let times = heard.iter().filter(|heard| heard.how == How::Text && heard.words == words).count();
            // On Delta Chat an edited message has its new words.
            ensure!(times <= 1, "{who:?} hears {words:?} {times} times");
        }
        let own = heard.iter().filter(|heard| heard.words == format!("words of {who:?}")).count();
        ensure!(own == 0, "{who:?} hears themselves");
    }
    trio.ends().await
}
