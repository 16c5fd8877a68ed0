//! One message that came: everything that must be known about it is asked for, and made into what the inbox takes.

use std::time::Duration;

use sealbridge_child::CallError;
use sealbridge_contract::{
    Arrived, Author, Fatal, Inbox, PersonId, RemoteId, SpoolError, Spooled, Text,
    gate::Encryption,
    inbox::{StoreWrite, Unreadable},
    message::{Absence, Change, Quote, Target},
    names,
};

use crate::{
    core::Core,
    engine::{
        Engine,
        types::{Download, Message, SELF, Timer},
    },
    files, ids,
    last_told::LastTold,
    late,
    records::{self, Told},
    session::{Ended, insist},
    translate::{self, About, Read},
};

/// Contacts up to nine are ourselves and the engine.
pub(crate) const SELF_AND_ENGINE: u32 = 9;
const _: () = assert!(SELF <= SELF_AND_ENGINE, "we are among them");

/// Why a message was not taken.
pub(crate) enum NotTaken {
    /// There is no room for its file yet. The engine keeps it until there is.
    NoRoom,
    Ended(Ended),
}

impl<T: Into<Ended>> From<T> for NotTaken {
    fn from(ended: T) -> Self {
        Self::Ended(ended.into())
    }
}

/// What a message is to us.
pub(crate) struct Taken {
    pub(crate) what: Arrived,
    /// How it is now, if it can be changed later.
    pub(crate) told: Option<Told>,
    /// What it is called.
    pub(crate) named: StoreWrite,
    /// It came in clear into a chat that is encrypted.
    pub(crate) in_clear: bool,
    /// How many its file has.
    pub(crate) bytes: u64,
}

/// Asks for everything that must be known about a message. `None`: there is nothing to tell of it, or nobody to tell.
pub(crate) async fn take(
    core: &Core,
    inbox: &Inbox,
    engine: &Engine,
    message: Message,
) -> Result<Option<Taken>, NotTaken> {
    take_as(core, inbox, engine, message, false).await
}

/// The same for one of which the rest never comes: what is here of it.
pub(crate) async fn take_without_the_rest(
    core: &Core,
    inbox: &Inbox,
    engine: &Engine,
    message: Message,
) -> Result<Option<Taken>, NotTaken> {
    take_as(core, inbox, engine, message, true).await
}

async fn take_as(
    core: &Core,
    inbox: &Inbox,
    engine: &Engine,
    message: Message,
    is_given_up: bool,
) -> Result<Option<Taken>, NotTaken> {
    let known = insist!(core.learn(&engine.chat(message.chat_id).await?));
    let linked = inbox.is_linked(&ids::conversation(message.chat_id, &core.me));
    if !linked && !is_attended(core, inbox, engine, &message).await? {
        return Ok(None);
    }
    let (number, chat) = (message.id, message.chat_id);
    let info = engine.info(number).await?;
    let id = RemoteId::new(info.rfc724_mid);
    let now = core.clock.now().0;
    let named = records::named(&id, number);
    let in_clear = known.pinned && !message.show_padlock;
    let encrypted = matches!(known.now, Encryption::Pinned | Encryption::Left);
    if let Some(what) = not_whole(core, engine, &message, &id).await?.filter(|_| !is_given_up) {
        return Ok(Some(Taken { what, told: None, named, in_clear, bytes: 0 }));
    }
    let (by, about) = match message.is_info {
        true => match change(core, engine, &message).await? {
            Some(done) => done,
            None => return Ok(None),
        },
        false if is_given_up => (message.from_id, About::NoFile(Absence::NotFetched)),
        false => (message.from_id, about(core, engine, &message).await?),
    };
    let bytes = if let About::File(content) = &about { content.size } else { 0 };
    let author = core.person(engine, by).await?;
    let name = match by == message.from_id {
        true => None,
        false => translate::name_of(None, &engine.contact(by).await?),
    };
    let answers = answered(core, engine, &message).await?;
    let whole = whole(engine, &message).await?;
    let words = whole.as_ref().unwrap_or(&message.text);
    let told = (linked && !message.is_info && encrypted && message.show_padlock).then(|| Told {
        at: now,
        id: id.as_str().to_owned(),
        chat,
        author: author.clone(),
        contact: message.from_id,
        words: Some(Told::words(words)),
        edits: 0,
        gone: false,
        disappears: info.ephemeral_timer != Timer::Disabled,
        lost: false,
        crowded: false,
        reactions: Default::default(),
    });
    let what = translate::arrived(Read { message, id, author, name, encrypted, answers, whole, about });
    Ok(Some(Taken { what, told, named, in_clear, bytes }))
}

/// Whether words count though nothing of their chat is carried: whoever said them may tell the bridge what to do.
async fn is_attended(core: &Core, inbox: &Inbox, engine: &Engine, message: &Message) -> Result<bool, Ended> {
    let are_words = !message.is_info && message.sort().is_none() && message.download_state == Download::Done;
    if !are_words {
        return Ok(false);
    }
    let person = core.person(engine, message.from_id).await?;
    Ok(person.is_some_and(|person| inbox.attends(&person)))
}

/// What a message is instead, if all of it is not here, or never will be.
async fn not_whole(core: &Core, engine: &Engine, message: &Message, id: &RemoteId) -> Result<Option<Arrived>, Ended> {
    let sender = async || -> Result<PersonId, Ended> {
        let person = core.person(engine, message.from_id).await?;
        Ok(person.unwrap_or_else(|| PersonId::new(format!("contact {}", message.from_id))))
    };
    Ok(match message.download_state {
        Download::Done => None,
        Download::Undecipherable => {
            let reason = "it can't be decrypted".to_owned();
            Some(Arrived::Refused { id: id.clone(), sender: sender().await?, reason })
        }
        Download::Available | Download::InProgress | Download::Failure => Some(Arrived::Unreadable(Unreadable {
            id: id.clone(),
            sender: sender().await?,
            raw: message.id.to_string().into_bytes().into(),
            hint: late::HINT.to_owned(),
            reason: "not all of it is here yet".to_owned(),
            holds_sender: true,
        })),
    })
}

async fn about(core: &Core, engine: &Engine, message: &Message) -> Result<About, NotTaken> {
    if message.sort().is_some() {
        let file = message.file.as_deref().unwrap_or_default();
        return Ok(match spool(core, engine, file).await? {
            Ok(content) => About::File(content),
            Err(why) => About::NoFile(why),
        });
    }
    if message.has_location {
        let within = (message.timestamp - DAY, message.timestamp + DAY);
        let places = engine.places(message.chat_id, message.from_id, within).await?;
        if let Some(place) = places.iter().find(|place| place.msg_id == message.id) {
            return Ok(About::Place(place.latitude, place.longitude));
        }
    }
    Ok(About::Words)
}

/// In seconds.
const DAY: i64 = 24 * 60 * 60;

async fn spool(core: &Core, engine: &Engine, file: &str) -> Result<Result<Spooled, Absence>, NotTaken> {
    let Some(folder) = engine.files().await? else { return Ok(Err(Absence::NotFetched)) };
    match files::take(core.spool.as_ref(), &folder, file, core.settings.most_file()).await {
        Ok(taken) => Ok(taken),
        Err(SpoolError::Full) => Err(NotTaken::NoRoom),
        Err(error) => Err(Ended::Fatal(Fatal::Broken(error.to_string())).into()),
    }
}

/// What the engine says about the chat, and who did it, if people elsewhere are to hear of that. What it says of itself
/// or of us nobody did: that we joined or left shows in what becomes of the chat.
async fn change(core: &Core, engine: &Engine, message: &Message) -> Result<Option<(u32, About)>, Ended> {
    let whom = message.info_contact_id.unwrap_or(message.from_id);
    // Whoever follows our invitation is added by us, and joined all the same.
    let by = if message.from_id == SELF { whom } else { message.from_id };
    if by <= SELF_AND_ENGINE {
        return Ok(None);
    }
    let change = match message.system_message_type.as_str() {
        "MemberAddedToGroup" | "MemberRemovedFromGroup" if whom <= SELF_AND_ENGINE => return Ok(None),
        "MemberAddedToGroup" => Change::Joined(author(core, engine, whom).await?),
        "MemberRemovedFromGroup" => Change::Left(author(core, engine, whom).await?),
        "GroupNameChanged" => {
            let said = translate::name_in(message.text.as_str()).map(Text::new);
            let is_said = said.is_some();
            let name = match said {
                Some(name) => name,
                None => engine.chat(message.chat_id).await?.name,
            };
            if !core.last_told.is_new(message, LastTold::NAME, Told::words(&name)) && !is_said {
                return Ok(None);
            }
            Change::Renamed(name)
        }
        "GroupImageChanged" => Change::Picture,
        "EphemeralTimerChanged" => {
            let said = translate::timer_in(message.text.as_str());
            let timer = match said {
                Some(timer) => timer,
                None => Some(Duration::from_secs(engine.timer(message.chat_id).await?.into())).filter(|t| !t.is_zero()),
            };
            let value = Told::words(&Text::from(format!("{timer:?}")));
            if !core.last_told.is_new(message, LastTold::TIMER, value) && said.is_none() {
                return Ok(None);
            }
            Change::Timer(timer)
        }
        of => return Ok(translate::not_carried(of).map(|what| (by, About::NotCarried(what)))),
    };
    Ok(Some((by, About::Change(change))))
}

/// All words of a message of which the engine shows the first ones. `None`: what it shows is what there is, or its page
/// says something else.
pub(crate) async fn whole(engine: &Engine, message: &Message) -> Result<Option<Text>, CallError> {
    if !translate::is_cut(message) {
        return Ok(None);
    }
    let whole = engine.whole(message.id).await?.and_then(|page| translate::words_of(page.as_str()));
    Ok(whole.filter(|whole| translate::goes_on(&message.text, whole)))
}

/// Somebody by the number of their contact.
pub(crate) async fn author(core: &Core, engine: &Engine, contact: u32) -> Result<Author, Ended> {
    let person = core.person(engine, contact).await?;
    let name = translate::name_of(None, &engine.contact(contact).await?);
    Ok(Author { id: person.unwrap_or_else(|| PersonId::new(format!("contact {contact}"))), name })
}

/// The message that one answers, if it is here. A quotation of one that is gone is not told.
async fn answered(core: &Core, engine: &Engine, message: &Message) -> Result<Option<Target>, Ended> {
    let Some((quote, of)) = message.quote.as_ref().and_then(|quote| Some((quote, quote.message_id?))) else {
        return Ok(None);
    };
    let id = match engine.mail_id(of).await {
        Ok(id) => RemoteId::new(id),
        Err(CallError::Refused { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let Some(text) = &quote.text else { return Ok(Some(Target::new(id))) };
    let name = match &quote.override_sender_name {
        None => quote.author_display_name.as_ref().map(|name| names::own(name.as_str())),
        // The message itself is not loaded: one that the engine can't give out is not to end it over an answer.
        Some(said) => match insist!(records::told(&core.store, of)).filter(|told| told.contact != SELF) {
            Some(told) => translate::name_of(Some(said), &engine.contact(told.contact).await?)
                .map(|name| name.as_str().to_owned()),
            None => Some(names::via(said.as_str(), "another account")),
        },
    };
    Ok(Some(Target { id, quote: Some(Box::new(Quote::new(name.as_deref(), text.as_str()))) }))
}
