//! What the operator can set for an account of outgoing webhooks: `[accounts.NAME]` with `network = "webhook"`.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use sealbridge_contract::ConversationId;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::{addresses::Rules, seal::Recipients};

/// The settings of one account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The endpoints, each a conversation under its name. All of one account are of one kind.
    pub endpoints: BTreeMap<String, Endpoint>,
}

/// A place that messages are posted to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Endpoint {
    /// Where it is: `https://…`, or `http://` to an address of this machine.
    pub url: String,
    /// Whether the operator runs it: then it reads what is posted. Otherwise `recipients` are needed.
    pub operator_run: bool,
    /// Public keys of age, of those who alone can read what is posted.
    pub recipients: Vec<String>,
    /// The file with the secret by which what is posted is signed, by its full path. Only its owner may read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// The same of a second secret, while one takes the other's place: what is posted is signed by both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_secret_file: Option<PathBuf>,
    /// Networks outside of the public internet to which it may be connected, such as `10.1.2.0/24`.
    pub allow_addresses: Vec<String>,
    /// A file with the certificates of the only authorities that count, by its full path. By default those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// An endpoint as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    pub(crate) name: ConversationId,
    pub(crate) url: Url,
    pub(crate) reader: Reader,
    pub(crate) rules: Rules,
    /// One, or two while one takes the other's place.
    pub(crate) secret_files: Vec<PathBuf>,
    pub(crate) ca_file: Option<PathBuf>,
}

/// Who reads what is posted.
#[derive(Clone, Debug)]
pub(crate) enum Reader {
    /// The endpoint itself, since the operator runs it.
    Operator,
    /// Those who have one of these keys, and not the endpoint.
    Recipients(Recipients),
}

impl Settings {
    /// Says what can't be right, without asking anybody.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn check(&self) -> Result<(), String> {
        self.declared().map(drop)
    }

    /// Says why a conversation can't be one of this account's, without asking anybody.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn check_conversation(&self, conversation: &ConversationId) -> Result<(), String> {
        match self.endpoints.contains_key(conversation.as_str()) {
            true => Ok(()),
            false => Err("not an endpoint of this account".to_owned()),
        }
    }

    /// Whether an endpoint is the operator's own, and reads what is posted to it.
    #[must_use]
    pub fn is_read_in_clear(&self, conversation: &ConversationId) -> bool {
        self.endpoints.get(conversation.as_str()).is_some_and(|endpoint| endpoint.operator_run)
    }

    /// The files that it reads.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.endpoints
            .values()
            .flat_map(|endpoint| {
                [&endpoint.secret_file, &endpoint.next_secret_file, &endpoint.ca_file].into_iter().flatten()
            })
            .map(PathBuf::as_path)
    }

    /// Those of them that have a secret in them.
    pub fn secret_files(&self) -> impl Iterator<Item = &Path> {
        self.endpoints
            .values()
            .flat_map(|endpoint| [&endpoint.secret_file, &endpoint.next_secret_file].into_iter().flatten())
            .map(PathBuf::as_path)
    }

    pub(crate) fn declared(&self) -> Result<Vec<Declared>, String> {
        let read = |(name, endpoint): (&String, &Endpoint)| {
            endpoint.declared(name).map_err(|why| format!("`endpoints.{name}`: {why}"))
        };
        let all: Vec<_> = self.endpoints.iter().map(read).collect::<Result<_, _>>()?;
        let read_there = all.iter().filter(|one| matches!(one.reader, Reader::Operator)).count();
        if all.is_empty() {
            return Err("`endpoints`: at least one is needed".to_owned());
        }
        // What kind of network an account is decides what may be handed to it at all, and it is only one.
        if read_there != 0 && read_there != all.len() {
            return Err(
                "`endpoints`: those with `operator_run` and those with `recipients` need an account each".into()
            );
        }
        Ok(all)
    }
}

impl Endpoint {
    fn declared(&self, name: &str) -> Result<Declared, String> {
        let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        if !(1..=32).contains(&name.len()) || !name.chars().all(sound) {
            return Err("its name has 1 to 32 of a-z, 0-9, - and _".to_owned());
        }
        let reader = match (self.operator_run, self.recipients.is_empty()) {
            (true, true) => Reader::Operator,
            (false, false) => {
                Reader::Recipients(Recipients::read(&self.recipients).map_err(|why| format!("`recipients`: {why}"))?)
            }
            (true, false) => return Err("`operator_run` and `recipients` exclude each other".to_owned()),
            (false, true) => {
                return Err("say `operator_run = true` if you run it yourself, so that it may read what is posted; \
                            otherwise name `recipients`, for whom it is encrypted"
                    .to_owned());
            }
        };
        let rules = Rules::read(&self.allow_addresses).map_err(|why| format!("`allow_addresses`: {why}"))?;
        let url = address(&self.url, &rules).map_err(|why| format!("`url`: {why}"))?;
        let secret_file = self.secret_file.clone().ok_or("`secret_file`: what is posted is signed, so it is needed")?;
        let next = self.next_secret_file.as_ref();
        let files =
            [("secret_file", Some(&secret_file)), ("next_secret_file", next), ("ca_file", self.ca_file.as_ref())];
        for (key, file) in files {
            if file.is_some_and(|file| !file.is_absolute()) {
                return Err(format!("`{key}`: give the full path"));
            }
        }
        let (name, ca_file) = (ConversationId::new(name), self.ca_file.clone());
        let secret_files = std::iter::once(secret_file).chain(next.cloned()).collect();
        Ok(Declared { name, url, reader, rules, secret_files, ca_file })
    }
}

/// Reads where an endpoint is. What could be read in two ways is refused. An error has nothing of the address, since a
/// path may be as good as a password.
fn address(text: &str, rules: &Rules) -> Result<Url, String> {
    const FORM: &str = "an address is written https://hooks.example.org/path";
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
        return Err(FORM.to_owned());
    }
    let url = Url::parse(text).map_err(|_| FORM.to_owned())?;
    let host = url.host().filter(|_| matches!(url.scheme(), "http" | "https"));
    let host = host.ok_or("it begins with https://, or with http:// to an address of this machine")?;
    let authority = text.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or(""));
    if authority.contains('@') {
        return Err("no name and no password in it: what is posted is signed".to_owned());
    }
    if url.fragment().is_some() {
        return Err("nothing after a # is ever sent".to_owned());
    }
    let written = match authority.rsplit_once(':') {
        Some((before, port)) if port.chars().all(|c| c.is_ascii_digit()) => before,
        _ => authority,
    };
    // 2130706433, 0177.1 and ⑫⑦.⓪.⓪.① are all 127.0.0.1.
    if url.host_str() != Some(&written.to_ascii_lowercase()) {
        return Err("its host is written in a form that hides which one it is".to_owned());
    }
    let literal = literal(&host);
    let here = literal.is_some_and(|ip| ip.is_loopback());
    if url.scheme() == "http" && !here {
        return Err("without TLS it must be an address of this machine, such as http://127.0.0.1:8080".to_owned());
    }
    if let Some(ip) = literal.filter(|ip| !ip.is_loopback() && !rules.allow(*ip)) {
        return Err(format!("{ip} is not on the public internet; name it in `allow_addresses` if it is yours"));
    }
    Ok(url)
}

fn literal(host: &Host<&str>) -> Option<IpAddr> {
    match host {
        Host::Ipv4(ip) => Some((*ip).into()),
        Host::Ipv6(ip) => Some((*ip).into()),
        Host::Domain(_) => None,
    }
}

impl Declared {
    /// Nobody on the way can read it: TLS, or this machine.
    pub(crate) fn is_private(&self) -> bool {
        self.url.scheme() == "https"
            || self.url.host().and_then(|host| literal(&host)).is_some_and(|ip| ip.is_loopback())
    }

    /// The address if it is written as one.
    pub(crate) fn literal(&self) -> Option<IpAddr> {
        literal(&self.url.host()?)
    }

    /// Where it is, without the path, which may be as good as a password.
    pub(crate) fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    fn endpoint(url: &str) -> Endpoint {
        Endpoint { url: url.into(), operator_run: true, secret_file: Some("/secret".into()), ..Endpoint::default() }
    }

    fn settings(all: impl IntoIterator<Item = (&'static str, Endpoint)>) -> Settings {
        Settings { endpoints: all.into_iter().map(|(name, endpoint)| (name.to_owned(), endpoint)).collect() }
    }

    fn check(endpoint: Endpoint) -> Result<(), String> {
        settings([("ops", endpoint)]).check()
    }

    #[test]
    fn endpoint_is_over_tls_or_on_this_machine_and_of_no_other_scheme() {
        for good in [
            "https://hooks.example.org/x?y=z",
            "https://HOOKS.example.org",
            "https://hooks.example.org:8443/",
            "https://xn--bcher-kva.example/",
            "https://93.184.216.34/",
            "https://[2606:4700::1111]:444/",
            "http://127.0.0.1:8080/hook",
            "http://[::1]:8080/hook",
            "https://127.0.0.1/",
            "http://127.9.9.9/",
        ] {
            assert_eq!(check(endpoint(good)), Ok(()), "{good}");
        }
        for bad in [
            "http://hooks.example.org/",
            "http://localhost:8080/",
            "http://93.184.216.34/",
            "http://10.0.0.1/",
            "file:///etc/passwd",
            "file://127.0.0.1/etc/passwd",
            "gopher://hooks.example.org/",
            "ftp://127.0.0.1/",
            "unix:/run/docker.sock",
            "data:,x",
            "//hooks.example.org/",
            "hooks.example.org",
            "",
            "https://",
            "https:///x",
            "https://user:hunter2@hooks.example.org/",
            "https://user@hooks.example.org/",
            "https://hooks.example.org@127.0.0.1/",
            "https://@hooks.example.org/",
            "https://hooks.example.org/#x",
            "https://hooks.example.org\\@10.0.0.1/",
            "https://hooks.exa\tmple.org/",
            " https://hooks.example.org/",
        ] {
            let error = check(endpoint(bad)).expect_err(bad);
            assert!(!error.contains("hunter2"), "a password is in {error}");
            assert!(!bad.contains("hunter2") || error.contains("no password"), "{error}");
        }
    }

    #[test]
    fn address_of_an_inner_network_is_refused_in_every_form() {
        for inner in [
            "https://10.0.0.1/",
            "https://192.168.0.1/",
            "https://169.254.169.254/latest/meta-data/",
            "https://0.0.0.0/",
            "https://[::]/",
            "https://[fd00::1]/",
            "https://[fe80::1]/",
            "https://[64:ff9b::a00:1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[::ffff:a00:1]/",
            "http://[::ffff:127.0.0.1]:80/",
            "https://[::ffff:127.0.0.1]/",
            "https://100.64.0.1/",
            "https://168.63.129.16/",
            "https://192.0.2.1/",
            // Decimal, octal, hexadecimal, shortened, and in letters that only look like others.
            "https://2130706433/",
            "http://2130706433/",
            "http://0177.0.0.1/",
            "http://0x7f.0.0.1/",
            "http://127.1/",
            "https://0x0a000001/",
            "https://012.0.0.1/",
            "https://10.1/",
            "http://①②⑦.0.0.1/",
            "http://127.0.0.1./",
            "http://[0:0:0:0:0:0:0:1]/",
            "http://127%2e0.0.1/",
            "https://167772161/",
        ] {
            assert!(check(endpoint(inner)).is_err(), "{inner}");
        }
        for (url, allowed) in [("https://10.0.0.1/", "10.0.0.0/8"), ("https://[fd00::1]/", "fd00::/64")] {
            let allowed = Endpoint { allow_addresses: vec![allowed.into()], ..endpoint(url) };
            assert_eq!(check(allowed), Ok(()), "{url}");
        }
    }

    #[test]
    fn endpoint_is_run_by_the_operator_or_has_recipients_and_an_account_has_one_kind() {
        let own = || endpoint("https://hooks.example.org/");
        let sealed = || Endpoint { operator_run: false, recipients: vec![KEY.into()], ..own() };
        assert_eq!(settings([("ops", own()), ("more", own())]).check(), Ok(()));
        assert_eq!(settings([("ops", sealed()), ("more", sealed())]).check(), Ok(()));
        for (wrong, reason) in [
            (settings([]), "at least one"),
            (settings([("ops", own()), ("more", sealed())]), "an account each"),
            (settings([("ops", Endpoint { operator_run: false, ..own() })]), "operator_run = true"),
            (settings([("ops", Endpoint { operator_run: true, ..sealed() })]), "exclude each other"),
            (settings([("ops", Endpoint { recipients: vec!["age1x".into()], ..sealed() })]), "`recipients`"),
            (settings([("ops", Endpoint { secret_file: None, ..own() })]), "`secret_file`"),
            (settings([("ops", Endpoint { secret_file: Some("secret".into()), ..own() })]), "full path"),
            (settings([("ops", Endpoint { ca_file: Some("ca.pem".into()), ..own() })]), "full path"),
            (settings([("ops", Endpoint { allow_addresses: vec!["10".into()], ..own() })]), "`allow_addresses`"),
            (settings([("Ops", own())]), "its name"),
            (settings([("", own())]), "its name"),
        ] {
            let error = wrong.check().expect_err(reason);
            assert!(error.contains(reason), "{error}");
        }
    }
}
