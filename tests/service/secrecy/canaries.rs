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
        let Self { place, queued, waiting, .. } = *self;
        let said = [name, words, formatted, answer, edit, deleted, caption, file_name, content];
        said.into_iter().chain([native, told, place, queued, waiting]).collect()
    }

    /// A file whose content is the canary, again and again, behind leads of every length.
    pub(super) fn file(&self) -> Vec<u8> {
        (0..2_000).map(|at| format!("{at} {}\n", self.content)).collect::<String>().into_bytes()
    }
}

pub(super) fn all() -> Vec<&'static str> {
    [ANN.all(), BEN.all(), vec![GROUP]].concat()
}
