//! The gate: may this message be read there? Pure: facts in, verdict out. The only maker of [`Cleared`].

use serde::{Deserialize, Serialize};

use crate::{Cleared, Cleartext, PeerKey, Verb, abilities::Reactions, sealed::Sealing};

/// What we know of where a message came from.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// How sure we are of who wrote it.
    pub sender: SenderTrust,
    /// What they wrote. It may cross in another form, and a server's word is good for it or not in either.
    pub said: &'a Cleartext,
}

/// How sure we are of who wrote a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SenderTrust {
    /// The bridge itself, or a source on the operator's own host.
    Local,
    /// The network's end-to-end encryption proves the sender's identity.
    Proven,
    /// The account's policy accepts devices that their owner never signed, and this is one.
    Unsigned,
    /// The key came from a backup: anyone who can write to the backup may have written the message.
    NotProven,
    /// The network does not encrypt this kind, and its server alone says who did it. Only deletions, reactions with
    /// emoji of Unicode's own list, and what changes about the conversation cross on a server's word.
    ServerSays,
}

/// What we know of where a message would go. Facts kept locally: judging makes no request.
#[derive(Debug)]
pub enum Destination<'a> {
    /// A conversation with the network's own end-to-end encryption.
    EndToEnd(Encryption),
    /// A server that the operator runs.
    OperatorRun(OperatorRunFacts),
    /// Somebody else's server; the peer's key if we have it.
    Carrier(Option<&'a PeerKey>),
}

/// What we know of a conversation's encryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encryption {
    /// Seen encrypted and pinned: nothing leaves for it in clear, whatever a server says.
    Pinned,
    /// Pinned, and the server now says something else: held until a person decides.
    Violated,
    /// Not known yet.
    Unknown,
    /// Not encrypted.
    Absent,
    /// Given up in favour of another conversation: held until the operator says `links replace`.
    Replaced,
    /// We are not in it any more.
    Left,
    /// Encrypted, and we may not speak there.
    Muted,
    /// Encrypted, and somebody could read there whom a person has to look at first.
    Frozen,
}

/// What we know of a server that the operator runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperatorRunFacts {
    /// The config says `operator_run = true`.
    pub declared: bool,
    /// Its host is on the allow-list.
    pub host_allowed: bool,
    /// The connection is TLS or loopback.
    pub private_channel: bool,
}

/// What the link's operator decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The operator paused the link, or the circuit breaker did.
    pub paused: bool,
    /// Messages whose sender is not proven may cross, marked.
    pub accept_not_proven: bool,
    /// A message that this many bridges carried goes no further.
    pub most_hops: usize,
    /// The largest message that crosses, in bytes of words.
    pub most_bytes: usize,
    /// The largest file that crosses, in bytes.
    pub most_file: u64,
    /// What becomes of reactions.
    pub reactions: Reactions,
    /// Whether typing and read receipts cross.
    pub signals: bool,
    /// What becomes of people who come to a conversation that is linked already.
    pub new_members: NewMembers,
}

/// What becomes of people who come to a conversation that is linked already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NewMembers {
    /// Everybody is told of them, in every conversation of the link, and only then do they get anything.
    #[default]
    TellFirst,
    /// Nothing is said there until the operator approves them.
    Freeze,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            paused: false,
            accept_not_proven: false,
            most_hops: 4,
            most_bytes: 64 * 1024,
            most_file: 100 << 20,
            reactions: Reactions::default(),
            signals: false,
            new_members: NewMembers::default(),
        }
    }
}

/// What the gate says.
#[derive(Debug)]
pub enum Verdict<'a> {
    /// It may be read there: encrypt it for the network.
    Speak(Cleared<'a>),
    /// It may be carried there, sealed for the peer.
    Seal(Sealing<'a>),
    /// A fact is missing: wait for it.
    Hold(Hold),
    /// Certain: a dead letter with this reason.
    Refuse(Refusal),
}

/// Why a message waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// A person or the circuit breaker paused the link.
    #[error("the link is paused")]
    Paused,
    /// Whether the conversation is encrypted is not known yet.
    #[error("whether the conversation is encrypted is not known yet")]
    EncryptionUnknown,
    /// The server now says something else than what was pinned.
    #[error("the conversation was encrypted, and its server now says otherwise")]
    EncryptionViolated,
    /// The conversation was given up for another.
    #[error("the conversation was replaced by another; say `sealbridge links replace` to follow")]
    ConversationReplaced,
    /// We are not in it.
    #[error("the bridge is not in the conversation any more; invite it again")]
    NotInConversation,
    /// Those who run the conversation do not let the bridge speak there.
    #[error("the bridge may not speak in the conversation; let it send messages there")]
    NotAllowedToSpeak,
    /// Somebody's identity changed, or somebody new waits to be approved, or for everybody to be told.
    #[error("somebody can read there who was not approved; `sealbridge audience` says who")]
    AudienceChanged,
    /// The peer's key is missing.
    #[error("the key of the far peer is not known")]
    PeerKeyMissing,
    /// The account does not run: it stopped with an error, or was not set up yet.
    #[error("the account is not running; `sealbridge status` says why")]
    AccountNotRunning,
    /// The connection to the operator's own server is neither TLS nor loopback.
    #[error("the connection to the operator's server is neither TLS nor loopback")]
    ChannelNotPrivate,
}

/// Why a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The conversation has no end-to-end encryption.
    #[error("the conversation is not encrypted")]
    NotEncrypted,
    /// The operator did not declare the server as their own, or its host is not on the allow-list.
    #[error("the server is not declared as run by the operator")]
    NotOperatorRun,
    /// Nobody can tell who wrote it.
    #[error("nobody can tell who wrote it: its key came from a backup")]
    SenderNotProven,
    /// The network does not encrypt it, and of this kind its server could make up anything.
    #[error("it was not encrypted, and only its server says who wrote it")]
    OnlyItsServerSays,
    /// Too many bridges carried it.
    #[error("too many bridges carried it already")]
    TooManyHops,
    /// Too long.
    #[error("it is longer than what crosses")]
    TooLong,
    /// The file is too large.
    #[error("its file is larger than what crosses")]
    FileTooLarge,
    /// A carrier takes no files.
    #[error("files are not carried over somebody else's server")]
    FileNotSealed,
}

/// Judges one message for one destination.
#[must_use]
pub fn judge<'a>(message: &'a Cleartext, origin: Origin<'_>, to: &'a Destination<'a>, rule: &Rule) -> Verdict<'a> {
    if origin.sender == SenderTrust::NotProven && !rule.accept_not_proven {
        return Verdict::Refuse(Refusal::SenderNotProven);
    }
    if origin.sender == SenderTrust::ServerSays && !crosses_on_a_servers_word(origin.said) {
        return Verdict::Refuse(Refusal::OnlyItsServerSays);
    }
    if message.trail().hops() >= rule.most_hops {
        return Verdict::Refuse(Refusal::TooManyHops);
    }
    if message.size() > rule.most_bytes {
        return Verdict::Refuse(Refusal::TooLong);
    }
    if message.file_size().is_some_and(|size| size > rule.most_file) {
        return Verdict::Refuse(Refusal::FileTooLarge);
    }
    if rule.paused && origin.sender != SenderTrust::Local {
        return Verdict::Hold(Hold::Paused);
    }
    match to {
        Destination::EndToEnd(encryption) => match encryption {
            Encryption::Pinned => Verdict::Speak(Cleared::new(&message.0)),
            Encryption::Unknown => Verdict::Hold(Hold::EncryptionUnknown),
            Encryption::Violated => Verdict::Hold(Hold::EncryptionViolated),
            Encryption::Replaced => Verdict::Hold(Hold::ConversationReplaced),
            Encryption::Left => Verdict::Hold(Hold::NotInConversation),
            Encryption::Muted => Verdict::Hold(Hold::NotAllowedToSpeak),
            Encryption::Frozen => Verdict::Hold(Hold::AudienceChanged),
            Encryption::Absent => Verdict::Refuse(Refusal::NotEncrypted),
        },
        Destination::OperatorRun(facts) if !(facts.declared && facts.host_allowed) => {
            Verdict::Refuse(Refusal::NotOperatorRun)
        }
        Destination::OperatorRun(facts) if !facts.private_channel => Verdict::Hold(Hold::ChannelNotPrivate),
        Destination::OperatorRun(_) => Verdict::Speak(Cleared::new(&message.0)),
        Destination::Carrier(_) if message.file_size().is_some() => Verdict::Refuse(Refusal::FileNotSealed),
        Destination::Carrier(Some(peer)) => Verdict::Seal(Sealing { message, peer }),
        Destination::Carrier(None) => Verdict::Hold(Hold::PeerKeyMissing),
    }
}

/// A server can make these up, and can say nothing by them.
fn crosses_on_a_servers_word(message: &Cleartext) -> bool {
    match &message.0.kind {
        crate::Kind::Reaction(reaction) => reaction.is_standard(),
        // Told as what somebody did, never as words of theirs.
        crate::Kind::Change(_) => true,
        _ => message.verb() == Verb::Redaction,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Author, ConversationId, DeliveryId, Message, PersonId, Slip, Timestamp, Trail, trail::MarkKey};
    use zeroize::Zeroizing;

    fn message(words: &str, hops: usize) -> Cleartext {
        let author = Author { id: PersonId::new("@a:x"), name: None };
        let mut message = Message::text(author, Timestamp(0), words);
        let key = MarkKey::new(Zeroizing::new([0; 32]));
        message.trail = (0..hops).fold(Trail::default(), |t, _| t.with(key.mark(DeliveryId::random())));
        Cleartext::new(message)
    }

    /// What a verdict is, without the message in it.
    #[derive(Debug, PartialEq)]
    enum Said {
        Speak,
        Seal,
        Hold(Hold),
        Refuse(Refusal),
    }

    fn check(message: &Cleartext, sender: SenderTrust, to: &Destination<'_>, rule: Rule, expected: Said) {
        let said = match judge(message, Origin { sender, said: message }, to, &rule) {
            Verdict::Speak(_) => Said::Speak,
            Verdict::Seal(_) => Said::Seal,
            Verdict::Hold(why) => Said::Hold(why),
            Verdict::Refuse(why) => Said::Refuse(why),
        };
        assert_eq!(said, expected, "{sender:?} to {to:?} under {rule:?}");
    }

    #[test]
    fn only_a_pinned_conversation_is_spoken_to() {
        let said = [
            (Encryption::Pinned, Said::Speak),
            (Encryption::Unknown, Said::Hold(Hold::EncryptionUnknown)),
            (Encryption::Violated, Said::Hold(Hold::EncryptionViolated)),
            (Encryption::Replaced, Said::Hold(Hold::ConversationReplaced)),
            (Encryption::Left, Said::Hold(Hold::NotInConversation)),
            (Encryption::Muted, Said::Hold(Hold::NotAllowedToSpeak)),
            (Encryption::Frozen, Said::Hold(Hold::AudienceChanged)),
            (Encryption::Absent, Said::Refuse(Refusal::NotEncrypted)),
        ];
        for (encryption, expected) in said {
            let to = Destination::EndToEnd(encryption);
            check(&message("hi", 0), SenderTrust::Proven, &to, Rule::default(), expected);
        }
    }

    #[test]
    fn operators_server_must_be_declared_listed_and_private() {
        for bits in 0..8_u8 {
            let (declared, host_allowed, private_channel) = (bits & 1 > 0, bits & 2 > 0, bits & 4 > 0);
            let to = Destination::OperatorRun(OperatorRunFacts { declared, host_allowed, private_channel });
            let expected = match (declared && host_allowed, private_channel) {
                (true, true) => Said::Speak,
                (true, false) => Said::Hold(Hold::ChannelNotPrivate),
                (false, _) => Said::Refuse(Refusal::NotOperatorRun),
            };
            check(&message("hi", 0), SenderTrust::Proven, &to, Rule::default(), expected);
        }
    }

    #[test]
    fn carrier_gets_only_what_is_sealed() {
        let key = PeerKey::new(&Zeroizing::new([7; 32]));
        check(&message("hi", 0), SenderTrust::Proven, &Destination::Carrier(Some(&key)), Rule::default(), Said::Seal);
        let missing = Said::Hold(Hold::PeerKeyMissing);
        check(&message("hi", 0), SenderTrust::Proven, &Destination::Carrier(None), Rule::default(), missing);
    }

    #[test]
    fn policy_is_kept() {
        let to = Destination::EndToEnd(Encryption::Pinned);
        let rule = Rule::default();
        let cases = [
            (0, "hi", SenderTrust::NotProven, rule, Said::Refuse(Refusal::SenderNotProven)),
            (0, "hi", SenderTrust::NotProven, Rule { accept_not_proven: true, ..rule }, Said::Speak),
            (4, "hi", SenderTrust::Proven, rule, Said::Refuse(Refusal::TooManyHops)),
            (3, "hi", SenderTrust::Proven, rule, Said::Speak),
            (0, "hi", SenderTrust::Proven, Rule { paused: true, ..rule }, Said::Hold(Hold::Paused)),
            (0, "hi", SenderTrust::Local, Rule { paused: true, ..rule }, Said::Speak),
            (0, "toolong", SenderTrust::Proven, Rule { most_bytes: 6, ..rule }, Said::Refuse(Refusal::TooLong)),
        ];
        for (hops, words, sender, rule, expected) in cases {
            check(&message(words, hops), sender, &to, rule, expected);
        }
    }

    #[test]
    fn server_can_make_up_deletions_emoji_and_changes_and_nothing_else() {
        use crate::{
            Kind, RemoteId,
            message::{Reaction, Target},
        };
        let target = || Target::new(RemoteId::new("$e"));
        let of = |kind| {
            let author = Author { id: PersonId::new("@a:x"), name: None };
            Cleartext::new(Message::of(author, Timestamp(0), kind))
        };
        let to = Destination::EndToEnd(Encryption::Pinned);
        let refused = || Said::Refuse(Refusal::OnlyItsServerSays);
        for (kind, expected) in [
            (Kind::Redaction(target()), Said::Speak),
            (Kind::Reaction(Reaction::new(target(), ["👍"])), Said::Speak),
            (Kind::Change(crate::message::Change::Picture), Said::Speak),
            (Kind::Reaction(Reaction::new(target(), ["hello"])), refused()),
            (Kind::Text(crate::Body::plain("hello")), refused()),
        ] {
            check(&of(kind), SenderTrust::ServerSays, &to, Rule::default(), expected);
        }
        // What a network has no form for is told in words, and is as good as what it tells.
        let words = of(Kind::Text(crate::Body::plain("reacted with 👍")));
        let emoji = of(Kind::Reaction(Reaction::new(target(), ["👍"])));
        let hello = of(Kind::Reaction(Reaction::new(target(), ["hello"])));
        let judged = |said| judge(&words, Origin { sender: SenderTrust::ServerSays, said }, &to, &Rule::default());
        assert!(matches!(judged(&emoji), Verdict::Speak(_)));
        assert!(matches!(judged(&hello), Verdict::Refuse(Refusal::OnlyItsServerSays)));
    }

    #[test]
    fn sealed_message_opens_for_its_peer_alone() {
        let key = PeerKey::new(&Zeroizing::new([7; 32]));
        let words = message("hi", 0);
        let to = Destination::Carrier(Some(&key));
        let Verdict::Seal(sealing) =
            judge(&words, Origin { sender: SenderTrust::Proven, said: &words }, &to, &Rule::default())
        else {
            panic!("a carrier with a key gets what is sealed");
        };
        let slip = Slip::new(ConversationId::new("c"), DeliveryId::random(), Timestamp(0));
        let sealed = sealing.seal(&slip);
        assert_eq!(key.open(&sealed).map(|(id, m)| (id, m.size())), Some((slip.delivery, 2)));
        assert!(PeerKey::new(&Zeroizing::new([8; 32])).open(&sealed).is_none());
        let Verdict::Seal(again) =
            judge(&words, Origin { sender: SenderTrust::Proven, said: &words }, &to, &Rule::default())
        else {
            panic!("the same facts give the same verdict");
        };
        assert_eq!(again.seal(&slip), sealed, "another attempt carries the same bytes");
    }
}
