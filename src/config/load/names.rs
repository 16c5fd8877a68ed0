//! Looking for keys and variables that nobody knows.

use super::{
    Loading, PREFIX,
    known::{Kind, Unknown, nearest},
    problems::{Place, Problem},
};
use crate::config::show::sounds_secret;

impl Loading<'_> {
    /// The network of an account, which says what else its section may hold.
    pub(super) fn network_of(&self, account: &str) -> Option<String> {
        let variable = self.variables.iter().find(|(name, _)| path_of(name) == ["accounts", account, "network"]);
        let from_file = || self.document.text_at(&["accounts", account, "network"]).map(str::to_owned);
        variable.map(|(_, value)| (*value).to_owned()).or_else(from_file)
    }

    /// Looks for keys and variables that are not known. Gives the variables that are lists.
    pub(super) fn check_names(&mut self) -> Vec<String> {
        let network_of = |account: &str| self.network_of(account);
        let mut found = Vec::new();
        for key in self.document.keys() {
            // What lies in an unknown section is not told again.
            if let Err(unknown) = self.known.find(&key.path, &network_of)
                && unknown.path == key.path
            {
                let at = Place::File { path: self.sources.file.clone(), position: Some(key.position) };
                found.push(Problem { at, words: say_unknown_key(&unknown) });
            }
        }
        let mut lists = Vec::new();
        for (name, _) in &self.variables {
            let path = path_of(name);
            match self.known.find(&path, &network_of) {
                Ok(Kind::List) => lists.push(path.join(".")),
                Ok(Kind::Single) => {}
                Ok(Kind::Section) => {
                    let words = "names a section, not a key: go on with two underscores and the key".to_owned();
                    found.push(Problem { at: Place::Variable((*name).to_owned()), words });
                }
                Err(_) => found.push(self.unknown_variable(name)),
            }
        }
        self.problems.extend(found);
        lists
    }

    fn unknown_variable(&self, name: &str) -> Problem {
        let path = path_of(name);
        // The names of accounts and links are the operator's own, so they are put into the names that are known.
        let named = |mut known: Vec<String>| {
            if let (Some(slot), Some(own)) = (known.iter().position(|part| part == "NAME"), path.get(1)) {
                known[slot] = own.clone();
            }
            variable_for(&known)
        };
        let known: Vec<_> = self.known.paths(None).into_iter().map(named).collect();
        let meant = nearest(name, &known).map_or(String::new(), |known| format!("; did you mean {known}?"));
        Problem { at: Place::Variable(name.to_owned()), words: format!("is not known{meant}") }
    }
}

fn say_unknown_key(unknown: &Unknown) -> String {
    let name = unknown.path.last().map_or("", String::as_str);
    if sounds_secret(name) {
        return format!(
            "unknown key `{name}`: a secret is never written into the config. `sealbridge init` asks for it, or takes it \
             from an answers file"
        );
    }
    let meant = match &unknown.nearest {
        Some(near) => format!("did you mean `{near}`?"),
        None if unknown.known.is_empty() => "nothing is expected here".into(),
        None => format!("known here: {}", unknown.known.join(", ")),
    };
    format!("unknown key `{name}`; {meant}")
}

pub(super) fn path_of(variable: &str) -> Vec<String> {
    variable.strip_prefix(PREFIX).unwrap_or(variable).to_lowercase().split("__").map(str::to_owned).collect()
}

/// The variable that sets the key at `path`.
#[must_use]
pub fn variable_for(path: &[String]) -> String {
    format!("{PREFIX}{}", path.join("__").to_uppercase())
}
