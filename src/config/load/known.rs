//! Which keys there are, read from the config's own schema, and which one a misspelt key was meant to be.

use schemars::Schema;
use serde_json::{Map, Value};

use crate::config::Config;

/// The config's keys, as its schema names them.
#[derive(Debug)]
pub struct Known {
    root: Value,
}

/// What lies at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A section, or a table of sections.
    Section,
    /// A value that is a list.
    List,
    /// Any other value.
    Single,
}

/// A key that is not known.
#[derive(Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The path up to and with the key that is not known.
    pub path: Vec<String>,
    /// The nearest key that is known in the same place.
    pub nearest: Option<String>,
    /// The keys known there.
    pub known: Vec<String>,
}

/// Says the network of an account, since the other keys of its section depend on it.
pub(super) type NetworkOf<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Default for Known {
    fn default() -> Self {
        Self { root: schema().to_value() }
    }
}

/// The config's JSON schema.
#[must_use]
pub fn schema() -> Schema {
    schemars::schema_for!(Config)
}

impl Known {
    /// What lies at `path`, or the first key on the way that is not known.
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn find(&self, path: &[String], network_of: NetworkOf<'_>) -> Result<Kind, Unknown> {
        let mut at = &self.root;
        for (depth, name) in path.iter().enumerate() {
            let account = path.get(1).filter(|_| depth == 2 && path[0] == "accounts");
            let network = account.and_then(|account| network_of(account));
            at = self.child(at, name, network.as_deref()).ok_or_else(|| {
                let known = self.names(at, network.as_deref());
                Unknown { path: path[..=depth].to_vec(), nearest: nearest(name, &known), known }
            })?;
        }
        let types = at.get("type");
        let is_list =
            types.is_some_and(|t| t == "array" || t.as_array().is_some_and(|ts| ts.contains(&"array".into())));
        let is_section = at.get("properties").is_some() || at.get("additionalProperties").is_some_and(Value::is_object);
        Ok(match (is_section || at.get("oneOf").is_some_and(|_| self.is_networks(at)), is_list) {
            (true, _) => Kind::Section,
            (_, true) => Kind::List,
            _ => Kind::Single,
        })
    }

    /// Every path of a value there is, with the accounts' keys of one network or of all. The names in a table of
    /// sections are written `NAME`.
    #[must_use]
    pub fn paths(&self, network: Option<&str>) -> Vec<Vec<String>> {
        let mut paths = Vec::new();
        self.walk(&self.root, network, &mut Vec::new(), &mut paths);
        paths.sort();
        paths.dedup();
        paths
    }

    fn walk(&self, at: &Value, network: Option<&str>, above: &mut Vec<String>, paths: &mut Vec<Vec<String>>) {
        let at = self.resolve(at);
        let mut inner: Vec<(String, &Value)> = Vec::new();
        for shape in self.shapes(at, network) {
            inner.extend(shape.iter().map(|(name, value)| (name.clone(), value)));
        }
        if let Some(each) = at.get("additionalProperties").filter(|each| each.is_object()) {
            inner.push(("NAME".into(), each));
        }
        if inner.is_empty() && !above.is_empty() {
            paths.push(above.clone());
        }
        for (name, value) in inner {
            above.push(name);
            self.walk(value, network, above, paths);
            above.pop();
        }
    }

    fn child<'s>(&'s self, at: &'s Value, name: &str, network: Option<&str>) -> Option<&'s Value> {
        let at = self.resolve(at);
        let named = self.shapes(at, network).into_iter().find_map(|shape| shape.get(name));
        let each = || at.get("additionalProperties").filter(|each| each.is_object());
        named.or_else(each).map(|found| self.resolve(found))
    }

    fn names(&self, at: &Value, network: Option<&str>) -> Vec<String> {
        let mut names: Vec<_> =
            self.shapes(self.resolve(at), network).into_iter().flat_map(Map::keys).cloned().collect();
        names.sort();
        names.dedup();
        names
    }

    /// The properties at a place; for an account those of its network, or of all networks while it is not known.
    fn shapes<'s>(&'s self, at: &'s Value, network: Option<&str>) -> Vec<&'s Map<String, Value>> {
        let of_network = |shape: &&Value| {
            let this = shape.pointer("/properties/network/const").and_then(Value::as_str);
            network.is_none_or(|wanted| this == Some(wanted))
        };
        if self.is_networks(at) {
            let all: Vec<_> = at["oneOf"].as_array().into_iter().flatten().collect();
            let known = all.iter().copied().filter(of_network).collect::<Vec<_>>();
            let shapes = if known.is_empty() { all } else { known };
            return shapes.into_iter().filter_map(|shape| shape.get("properties")?.as_object()).collect();
        }
        at.get("properties").and_then(Value::as_object).into_iter().collect()
    }

    /// Whether it is a choice between networks, rather than between the values of one key.
    fn is_networks(&self, at: &Value) -> bool {
        at.pointer("/oneOf/0/properties/network").is_some()
    }

    fn resolve<'s>(&'s self, mut at: &'s Value) -> &'s Value {
        loop {
            let reference = at.get("$ref").or_else(|| {
                // An optional section is written as a choice between it and nothing.
                at.get("anyOf")?.as_array()?.iter().find_map(|choice| choice.get("$ref"))
            });
            let Some(target) = reference.and_then(|r| r.as_str()?.strip_prefix('#')) else { return at };
            let Some(target) = self.root.pointer(target) else { return at };
            at = target;
        }
    }
}

/// The name that is likely to be meant, if any is near.
#[must_use]
pub fn nearest<S: AsRef<str>>(name: &str, known: &[S]) -> Option<String> {
    let near = |other: &S| (strsim::jaro_winkler(name, other.as_ref()), other.as_ref().to_owned());
    known.iter().map(near).filter(|(likeness, _)| *likeness > 0.75).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, n)| n)
}
