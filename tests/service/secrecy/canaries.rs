//! What is looked for: of every kind of thing that people say, show and send, from both sides, one that is unlike
//! anything else.

/// Everything of one person.
pub(super) struct Side {
    pub(super) name: &'static str,
    pub(super) words: &'static str,
    pub(super) formatted: &'static str,
    pub(super) answer: &'static str,
    pub(super) edit: &'static str,
    pub(super) deleted: &'static str,
    pub(super) caption: &'static str,
    pub(super) file_name: &'static str,
    pub(super) content: &'static str,
    /// What they say of a place, and where it is.
    pub(super) spot: &'static str,
    pub(super) at: [&'static str; 2],
    /// A question with two answers. Delta Chat has none.
    pub(super) poll: &'static [&'static str],
    /// What is in the picture that they send as a sticker, in their own, and in that of the conversation at their side.
    pub(super) sticker: &'static str,
    pub(super) portrait: &'static str,
    pub(super) picture: &'static str,
    /// What they react with while reactions cross as such, and while they cross as words.
    pub(super) reactions: [&'static str; 2],
    /// What they call the conversation at their side.
    pub(super) place: &'static str,
    /// Said while the mail server takes everything and gives nothing.
    pub(super) queued: &'static str,
    /// Said with a file while the far server is away.
    pub(super) waiting: &'static str,
}

pub(super) const ANN: Side = Side {
    name: "canary-name-of-ann-3f81",
    words: "canary-words-of-ann-a04c",
    formatted: "canary-bold-of-ann-17d2",
    answer: "canary-answer-of-ann-66e0",
    edit: "canary-edit-of-ann-c5b9",
    deleted: "canary-deleted-of-ann-08fa",
    caption: "canary-caption-of-ann-e217",
    file_name: "canary-file-of-ann-94bd.txt",
    content: "canary-content-of-ann-2b76",
    spot: "canary-spot-of-ann-71d9",
    // No other number has these digits by chance, and none of them is lost on the way.
    at: ["47.3819246", "8.5162738"],
    poll: &["canary-question-of-ann-0ae4", "canary-yes-of-ann-f35c", "canary-no-of-ann-98b7"],
    sticker: "canary-sticker-of-ann-4e12",
    portrait: "canary-portrait-of-ann-d06b",
    picture: "canary-picture-of-ann-a59f",
    // Each is one emoji of Unicode's list and some fifteen bytes long, so that chance makes none of them.
    reactions: ["👩🏽‍🚒", "👨🏻‍🌾"],
    place: "canary-room-of-ann-d358",
    queued: "canary-queued-of-ann-5ec4",
    waiting: "canary-waiting-of-ann-b90f",
};

pub(super) const BEN: Side = Side {
    name: "canary-name-of-ben-c27e",
    words: "canary-words-of-ben-514b",
    formatted: "canary-bold-of-ben-f9a3",
    answer: "canary-answer-of-ben-2d08",
    edit: "canary-edit-of-ben-7b61",
    deleted: "canary-deleted-of-ben-e8c5",
    caption: "canary-caption-of-ben-406d",
    file_name: "canary-file-of-ben-1af2.txt",
    content: "canary-content-of-ben-d793",
    spot: "canary-spot-of-ben-2c8f",
    at: ["33.8651439", "151.2099107"],
    poll: &[],
    sticker: "canary-sticker-of-ben-b7d1",
    portrait: "canary-portrait-of-ben-63ca",
    picture: "canary-picture-of-ben-5f20",
    reactions: ["🧑🏿‍🔬", "👩🏾‍🚀"],
    place: "canary-group-of-ben-85ea",
    queued: "canary-queued-of-ben-3c96",
    waiting: "canary-waiting-of-ben-0d4f",
};

/// What the operator calls the group: it is in the config from the beginning.
pub(super) const GROUP: &str = "canary-group-at-first-6a1d";

impl Side {
    fn all(&self) -> Vec<&'static str> {
        let Self { name, words, formatted, answer, edit, deleted, caption, file_name, content, .. } = *self;
        let [native, told] = self.reactions;
        let Self { place, queued, waiting, spot, at, poll, .. } = *self;
        let said = [name, words, formatted, answer, edit, deleted, caption, file_name, content];
        let more = [native, told, place, queued, waiting, spot, at[0], at[1]];
        said.into_iter().chain(more).chain(poll.iter().copied()).chain(self.drawn()).collect()
    }

    /// What is in the pictures.
    pub(super) fn drawn(&self) -> [&'static str; 3] {
        [self.sticker, self.portrait, self.picture]
    }

    /// A file whose content is the canary, again and again, behind leads of every length.
    pub(super) fn file(&self) -> Vec<u8> {
        (0..2_000).map(|at| format!("{at} {}\n", self.content)).collect::<String>().into_bytes()
    }
}

/// A picture with a canary in it, behind its end, again and again.
pub(super) fn picture_of(canary: &str) -> Vec<u8> {
    let picture = include_bytes!("../../../bridges/contract/src/conformance/face.png").as_slice();
    [picture, (0..40).map(|at| format!("{at} {canary}\n")).collect::<String>().as_bytes()].concat()
}

pub(super) fn all() -> Vec<&'static str> {
    [ANN.all(), BEN.all(), vec![GROUP]].concat()
}
