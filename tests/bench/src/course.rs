//! A way across that is measured: rooms at both ends, and the process that carries between them.

use std::{sync::Arc, time::Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::{try_join, try_join_all};
use ruma::{OwnedRoomId, OwnedUserId, UserId};
use sealbridge_lab::{
    bridge::{Bridge, Plan},
    checker::{self, Tag, Tally},
};
use sealbridge_matrix::engine::EncryptedContent;

use crate::{PATIENCE, person::Person, usage::Usage};

/// Rooms at the near and at the far end, linked in pairs, and the process between them.
#[derive(Debug)]
pub(crate) struct Course {
    /// The rooms in which the near person speaks, and those in which the far person listens.
    pub(crate) links: Vec<[OwnedRoomId; 2]>,
    /// Names this course in every message.
    run: String,
    said: Vec<usize>,
    pid: u32,
}

/// One turn of many messages at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    /// From the first one's departure to the last one's arrival.
    pub(crate) messages_per_s: f64,
    /// Of the process between.
    pub(crate) cpu_ms_per_message: f64,
}

impl Course {
    /// A course over rooms that are linked. `run` is eight characters.
    pub(crate) fn new(run: &str, links: Vec<[OwnedRoomId; 2]>, pid: u32) -> Self {
        Self { run: run.to_owned(), said: vec![0; links.len()], links, pid }
    }

    /// What the process between has used.
    pub(crate) fn usage(&self) -> Result<Usage> {
        Usage::of(self.pid)
    }

    fn next(&mut self, link: usize) -> Tag {
        let number = self.said[link];
        self.said[link] += 1;
        Tag { run: self.run.clone(), sender: link, number }
    }

    /// One message over one link; says how many milliseconds after its departure it was heard.
    pub(crate) async fn one(&mut self, near: &Person, far: &Person, link: usize) -> Result<f64> {
        let tag = self.next(link);
        let content = near.account.encrypt(&self.links[link][0], &words(&tag)).await?;
        let departure = Instant::now();
        near.account.put(&content).await?;
        let heard = far.hears(&tag).await?;
        ensure!(heard.room == self.links[link][1], "{} is heard in another room", tag.text());
        Ok(heard.at.duration_since(departure).as_secs_f64() * 1000.0)
    }

    /// The first message over every link, so that keys are where they belong.
    pub(crate) async fn warm_up(&mut self, near: &Person, far: &Person) -> Result<()> {
        for link in 0..self.links.len() {
            self.one(near, far, link).await?;
        }
        Ok(())
    }

    /// Many messages over all links, as fast as the near homeserver takes them.
    pub(crate) async fn many(&mut self, near: &Person, far: &Person, messages: usize) -> Result<Turn> {
        let mut last = Vec::new();
        let mut rooms: Vec<Vec<EncryptedContent>> = vec![Vec::new(); self.links.len()];
        for number in 0..messages {
            let link = number % self.links.len();
            let tag = self.next(link);
            rooms[link].push(near.account.encrypt(&self.links[link][0], &words(&tag)).await?);
            if number + self.links.len() >= messages {
                last.push(tag);
            }
        }
        let before = self.usage()?;
        let departure = Instant::now();
        speak(near, rooms).await?;
        let mut arrival = departure;
        for tag in &last {
            arrival = arrival.max(far.hears(tag).await?.at);
        }
        // What follows an arrival, such as its settling, belongs to it.
        let used = until_quiet(self.pid).await?;
        Ok(Turn {
            messages_per_s: messages as f64 / arrival.duration_since(departure).as_secs_f64(),
            cpu_ms_per_message: used.cpu_ms_per_message(&before, messages),
        })
    }

    /// What came of everything said so far.
    pub(crate) fn tally(&self, far: &Person) -> Tally {
        let heard = far.heard();
        let one = |(link, said): (usize, &usize)| {
            let tags: Vec<_> = (0..*said).map(|number| Tag { run: self.run.clone(), sender: link, number }).collect();
            let room = &self.links[link][1];
            let heard = heard.iter().filter(|one| one.room == *room);
            let heard: Vec<_> =
                heard.map(|one| checker::Heard { text: one.body.clone(), late: one.body.contains("[late]") }).collect();
            checker::judge(&tags, &heard)
        };
        self.said.iter().enumerate().map(one).sum()
    }
}

/// Every room's messages in order, all rooms at once.
pub(crate) async fn speak(person: &Person, rooms: Vec<Vec<EncryptedContent>>) -> Result<()> {
    let rooms = rooms.into_iter().map(|contents| {
        let account = Arc::clone(&person.account);
        async move {
            for content in &contents {
                account.put(content).await?;
            }
            anyhow::Ok(())
        }
    });
    try_join_all(rooms).await?;
    Ok(())
}

/// Waits until a process uses no more CPU, and says what it has used.
pub(crate) async fn until_quiet(pid: u32) -> Result<Usage> {
    let begun = Instant::now();
    let mut last = Usage::of(pid)?;
    loop {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let now = Usage::of(pid)?;
        // A tick of the kernel's clock may always fall on an idle process.
        if now.cpu - last.cpu <= std::time::Duration::from_millis(10) || begun.elapsed() > PATIENCE {
            return Ok(now);
        }
        last = now;
    }
}

/// About as much as people say.
pub(crate) fn words(tag: &Tag) -> String {
    format!("{} and a sentence as long as people write them, more or less", tag.text())
}

/// So many encrypted rooms at each end, with the one who carries invited to each.
pub(crate) async fn rooms(
    people: [&Person; 2],
    carriers: &[OwnedUserId; 2],
    count: usize,
) -> Result<Vec<[OwnedRoomId; 2]>> {
    let mut links = Vec::new();
    for _ in 0..count {
        let [near, far] = people;
        let [there, here] = carriers;
        let pair = try_join(near.account.create_room(Some(there)), far.account.create_room(Some(here))).await?;
        links.push([pair.0, pair.1]);
    }
    Ok(links)
}

/// Waits until the ones who carry are in all rooms.
pub(crate) async fn joined(
    people: [&Person; 2],
    carriers: &[OwnedUserId; 2],
    links: &[[OwnedRoomId; 2]],
) -> Result<()> {
    for link in links {
        for side in [0, 1] {
            let carrier: &UserId = &carriers[side];
            people[side].account.wait_member(&link[side], carrier).await?;
        }
    }
    Ok(())
}

/// The ids of the bridge's own users.
pub(crate) fn carriers(plan: &Plan) -> Result<[OwnedUserId; 2]> {
    let [a, b] = plan.accounts.as_slice() else { anyhow::bail!("The bridge has two accounts") };
    Ok([OwnedUserId::try_from(a.user.id.as_str())?, OwnedUserId::try_from(b.user.id.as_str())?])
}

/// Waits until the bridge knows that all rooms are encrypted.
pub(crate) async fn known(bridge: &Bridge, links: &[[OwnedRoomId; 2]]) -> Result<()> {
    for [there, here] in links {
        bridge.wait_conversation(&format!("a/{there}"), PATIENCE).await?;
        bridge.wait_conversation(&format!("b/{here}"), PATIENCE).await?;
    }
    Ok(())
}

/// The bridge's process.
pub(crate) fn pid(bridge: &Bridge) -> Result<u32> {
    bridge.pid().context("The bridge runs")
}
