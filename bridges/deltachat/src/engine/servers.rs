//! Which mail servers the engine uses and why it does not log in, as its own words have it. No method says either.

/// What a mail server is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Mail is read there, by IMAP.
    Reading,
    /// Mail is handed in there, by SMTP.
    Sending,
}

/// How a connection is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// TLS from the first byte.
    Tls,
    /// TLS after a greeting in clear.
    Starttls,
    /// Not at all.
    Clear,
}

/// A mail server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) purpose: Purpose,
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) wire: Wire,
}

/// A login that a mail server does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) purpose: Purpose,
    /// Whether the server says so of this moment only.
    pub(crate) for_now: bool,
}

impl Purpose {
    pub(crate) const ALL: [Self; 2] = [Self::Reading, Self::Sending];

    /// What is done there.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Reading => "reading mail",
            Self::Sending => "sending mail",
        }
    }

    /// How the setting is called that names it.
    pub(crate) fn setting(self) -> &'static str {
        match self {
            Self::Reading => "imap",
            Self::Sending => "smtp",
        }
    }
}

impl Refused {
    /// In words for the operator.
    pub(crate) fn words(self) -> String {
        let what = self.purpose.what();
        match self.for_now {
            true => format!("the mail server can't check the password just now ({what})"),
            false => format!("the mail server refuses this address with this password ({what})"),
        }
    }
}

/// The servers that are listed: `imap:[mail.example.org:993:tls, …] smtp:[…]`, in the order in which they are tried.
pub(crate) fn listed(words: &str) -> Vec<Server> {
    let mut servers = Vec::new();
    for purpose in Purpose::ALL {
        for list in words.split(&format!("{}:[", purpose.setting())).skip(1) {
            let list = list.split(']').next().unwrap_or_default();
            servers.extend(list.split(", ").filter_map(|server| read(purpose, server)));
        }
    }
    servers
}

/// The servers that a login tried in vain, if this is the engine's report of it.
pub(crate) fn tried(warning: &str) -> Option<Vec<Server>> {
    let (_, report) = warning.split_once("configure failed: ")?;
    let (_, used) = report.split_once("Used params: ")?;
    Some(listed(used))
}

/// Why these servers are not used, if one of them is spoken to in clear. No setting allows that; a list that the engine
/// fetched might.
pub(crate) fn in_clear(servers: &[Server]) -> Option<String> {
    let Server { name, port, purpose, .. } = servers.iter().find(|server| server.wire == Wire::Clear)?;
    let (what, setting) = (purpose.what(), purpose.setting());
    Some(format!(
        "the engine would talk to {name} port {port} in clear ({what}); name a server with TLS by `{setting}`"
    ))
}

fn read(purpose: Purpose, server: &str) -> Option<Server> {
    // An address of IPv6 has colons of its own.
    let mut parts = server.rsplitn(3, ':');
    let wire = match parts.next()? {
        "tls" => Wire::Tls,
        "starttls" => Wire::Starttls,
        "plain" => Wire::Clear,
        _ => return None,
    };
    let port = parts.next()?.parse().ok()?;
    let name = parts.next()?.to_owned();
    Some(Server { purpose, name, port, wire })
}

/// Whether the engine says that a mail server refused the login: not that the connection broke meanwhile.
pub(crate) fn refused(words: &str) -> Option<Refused> {
    let is = |purpose, for_now| Some(Refused { purpose, for_now });
    if words.contains("IMAP failed to login") && words.contains(": no response: ") {
        return is(Purpose::Reading, words.contains("[UNAVAILABLE]"));
    }
    if words.contains("SMTP failed to login: permanent: ") {
        return is(Purpose::Sending, false);
    }
    if words.contains("SMTP failed to login: transient: ") {
        return is(Purpose::Sending, true);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_out_of_what_the_engine_says() {
        let report = "src/configure.rs:333: configure failed: Entered params: me@a.test imap:unset:***:unset:0:Automatic \
                      smtp:unset:0:unset:0:Automatic cert_strict. Used params: ***@a.test imap:[imap.a.test:993:tls, \
                      ::1:143:starttls] smtp:[mail.a.test:25:plain, what] cert_strict. Error: no.";
        let server = |purpose, name: &str, port, wire| Server { purpose, name: name.to_owned(), port, wire };
        let expected = [
            server(Purpose::Reading, "imap.a.test", 993, Wire::Tls),
            server(Purpose::Reading, "::1", 143, Wire::Starttls),
            server(Purpose::Sending, "mail.a.test", 25, Wire::Clear),
        ];
        assert_eq!(tried(report).as_deref(), Some(expected.as_slice()));
        assert_eq!(
            listed("1: ***@a.test imap:[b:1:tls] smtp:[] cert_strict"),
            [server(Purpose::Reading, "b", 1, Wire::Tls)]
        );
        assert_eq!(tried("IMAP failed to connect to b:1:tls"), None);
    }

    #[test]
    fn refused_login_is_told_from_one_that_broke_off() {
        let refusal = |purpose, for_now| Some(Refused { purpose, for_now });
        for (words, expected) in [
            (
                r#"IMAP failed to login as me@a.test: no response: code: None, info: Some("[AUTHENTICATIONFAILED] no")"#,
                refusal(Purpose::Reading, false),
            ),
            (
                r#"IMAP failed to login as me@a.test: no response: code: None, info: Some("[UNAVAILABLE] later")"#,
                refusal(Purpose::Reading, true),
            ),
            ("IMAP failed to login as me@a.test: io: broken pipe", None),
            ("SMTP failed to login: permanent: 5.7.8 Error: authentication failed", refusal(Purpose::Sending, false)),
            ("SMTP failed to login: transient: 4.7.0 later", refusal(Purpose::Sending, true)),
            ("SMTP failed to connect: All connection attempts failed", None),
        ] {
            assert_eq!(refused(words), expected, "{words}");
        }
    }
}
