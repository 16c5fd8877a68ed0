//! The admin room: where the operator is told what needs a person. Its address is kept in the journal.

use sealbridge_contract::{
    AccountName, Address, Author, Body, Cleartext, Invitation, Kind, Message, PersonId, SecretBytes, Text, Timestamp,
    html::escape,
};

use crate::store::{Journal, JournalError};

const KEY: &str = "admin-room";

/// The admin room, if there is one.
///
/// # Errors
/// [`JournalError`].
pub async fn room(journal: &dyn Journal) -> Result<Option<Address>, JournalError> {
    let bytes = journal.setting(KEY).await?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(bytes.expose()).ok()))
}

/// Makes `room` the admin room.
///
/// # Errors
/// [`JournalError`].
pub async fn set_room(journal: &dyn Journal, room: &Address) -> Result<(), JournalError> {
    let bytes = serde_json::to_vec(room).expect("an address is two texts");
    journal.set(KEY, SecretBytes::new(bytes)).await
}

/// Shows the invitations of an account in the admin room, if there is one: each once, though its link may be another each
/// time.
///
/// # Errors
/// [`JournalError`].
pub async fn invite(
    journal: &dyn Journal,
    now: Timestamp,
    account: &AccountName,
    invitations: &[Invitation],
) -> Result<(), JournalError> {
    let Some(room) = room(journal).await? else { return Ok(()) };
    for invitation in invitations {
        let topic = format!("invitation {account} {}", invitation.to);
        journal.say(&room, shown(invitation, now), Some(&topic)).await?;
    }
    Ok(())
}

/// A picture for a terminal, which is light on dark, the other way round.
fn dark_on_light(picture: &str) -> String {
    let other = |letter| match letter {
        '█' => ' ',
        ' ' => '█',
        '▀' => '▄',
        '▄' => '▀',
        other => other,
    };
    picture.chars().map(other).collect()
}

/// An invitation as words, with its picture where letters all have one width.
#[must_use]
pub fn shown(invitation: &Invitation, now: Timestamp) -> Cleartext {
    let Invitation { to, how, link, picture } = invitation;
    let before = format!("Invitation to {to}. {how}");
    let plain = Text::joined(&[before.as_str(), "\n", link.as_str()]);
    let link = escape(link.as_str());
    let (words, picture) = (escape(&before), dark_on_light(picture.as_str()));
    // A camera knows only dark on light, and a program may have another colour behind its words.
    let colours = "data-mx-color=\"#000000\" data-mx-bg-color=\"#ffffff\"";
    let drawn = format!("<pre><code><span {colours}>{picture}\n</span></code></pre>");
    let html = format!("{words}<br><a href=\"{link}\">{link}</a>{drawn}");
    let author = Author { id: PersonId::new(Author::BRIDGE), name: None };
    let body = Body { plain, html: Some(Text::new(html)), mentions: Vec::new() };
    Cleartext::new(Message::of(author, now, Kind::Notice(body)))
}
