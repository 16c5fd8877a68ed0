//! What Postfix and Dovecot are told.

use std::path::PathBuf;

/// The domain of every address.
pub(super) const DOMAIN: &str = "example.org";
/// Who owns the mailboxes.
pub(super) const MAIL_USER: &str = "nobody";

/// Where things lie, and on which ports they are.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) dir: PathBuf,
    pub(super) imaps: u16,
    pub(super) smtps: u16,
    /// The same, with TLS after a greeting in clear.
    pub(super) imap: u16,
    pub(super) submission: u16,
    pub(super) lmtp: u16,
    pub(super) sasl: u16,
    /// One for all mailboxes.
    pub(super) password: String,
}

impl Layout {
    pub(super) fn postfix(&self) -> PathBuf {
        self.dir.join("postfix")
    }

    pub(super) fn postfix_data(&self) -> PathBuf {
        self.dir.join("postfix-data")
    }

    pub(super) fn queue(&self) -> PathBuf {
        self.dir.join("queue")
    }

    pub(super) fn dovecot(&self) -> PathBuf {
        self.dir.join("dovecot.conf")
    }

    pub(super) fn run(&self) -> PathBuf {
        self.dir.join("run")
    }

    pub(super) fn mail(&self) -> PathBuf {
        self.dir.join("mail")
    }

    pub(super) fn tls(&self) -> PathBuf {
        self.dir.join("tls")
    }

    pub(super) fn authority(&self) -> PathBuf {
        self.tls().join("authority.pem")
    }

    pub(super) fn chain(&self) -> PathBuf {
        self.tls().join("chain.pem")
    }

    pub(super) fn key(&self) -> PathBuf {
        self.tls().join("key.pem")
    }
}

pub(super) fn main_cf(layout: &Layout, archive: &str) -> String {
    let lines = [
        "compatibility_level = 3.6".to_owned(),
        format!("queue_directory = {}", layout.queue().display()),
        format!("data_directory = {}", layout.postfix_data().display()),
        "command_directory = /usr/sbin".to_owned(),
        "daemon_directory = /usr/lib/postfix/sbin".to_owned(),
        "mail_owner = postfix".to_owned(),
        "setgid_group = postdrop".to_owned(),
        "myhostname = localhost".to_owned(),
        "mydestination =".to_owned(),
        "mynetworks =".to_owned(),
        "alias_maps =".to_owned(),
        "local_recipient_maps =".to_owned(),
        "inet_interfaces = 127.0.0.1".to_owned(),
        "inet_protocols = ipv4".to_owned(),
        format!("virtual_mailbox_domains = {DOMAIN}"),
        "virtual_mailbox_maps = static:all".to_owned(),
        format!("virtual_transport = lmtp:inet:127.0.0.1:{}", layout.lmtp),
        // Mail arrives in the order in which it was handed in.
        "lmtp_destination_concurrency_limit = 1".to_owned(),
        format!("always_bcc = {archive}@{DOMAIN}"),
        format!("maillog_file = {}", layout.dir.join("postfix.log").display()),
        "maillog_file_prefixes = /".to_owned(),
        "message_size_limit = 209715200".to_owned(),
        "mailbox_size_limit = 0".to_owned(),
        // Mail that Dovecot could not take goes on soon after Dovecot is back.
        "minimal_backoff_time = 2s".to_owned(),
        "maximal_backoff_time = 5s".to_owned(),
        "queue_run_delay = 2s".to_owned(),
        "transport_retry_time = 2s".to_owned(),
        "smtpd_tls_wrappermode = yes".to_owned(),
        "smtpd_tls_security_level = encrypt".to_owned(),
        format!("smtpd_tls_cert_file = {}", layout.chain().display()),
        format!("smtpd_tls_key_file = {}", layout.key().display()),
        "smtpd_sasl_auth_enable = yes".to_owned(),
        "smtpd_sasl_type = dovecot".to_owned(),
        format!("smtpd_sasl_path = inet:127.0.0.1:{}", layout.sasl),
        "smtpd_relay_restrictions = permit_sasl_authenticated, reject".to_owned(),
        "smtpd_recipient_restrictions = permit_sasl_authenticated, reject".to_owned(),
        "smtpd_peername_lookup = no".to_owned(),
        "smtpd_client_connection_count_limit = 0".to_owned(),
    ];
    lines.join("\n") + "\n"
}

pub(super) fn master_cf(layout: &Layout) -> String {
    let smtps = format!("127.0.0.1:{} inet n - n - - smtpd", layout.smtps);
    let submission = format!("127.0.0.1:{} inet n - n - - smtpd -o smtpd_tls_wrappermode=no", layout.submission);
    let services = [
        smtps.as_str(),
        submission.as_str(),
        "pickup unix n - n 60 1 pickup",
        "cleanup unix n - n - 0 cleanup",
        "qmgr unix n - n 300 1 qmgr",
        "tlsmgr unix - - n 1000? 1 tlsmgr",
        "rewrite unix - - n - - trivial-rewrite",
        "bounce unix - - n - 0 bounce",
        "defer unix - - n - 0 bounce",
        "trace unix - - n - 0 bounce",
        "verify unix - - n - 1 verify",
        "flush unix n - n 1000? 0 flush",
        "proxymap unix - - n - - proxymap",
        "smtp unix - - n - - smtp",
        "error unix - - n - - error",
        "retry unix - - n - - error",
        "discard unix - - n - - discard",
        "lmtp unix - - n - - lmtp",
        "anvil unix - - n - 1 anvil",
        "scache unix - - n - 1 scache",
        "postlog unix-dgram n - n - 1 postlogd",
    ];
    services.join("\n") + "\n"
}

/// Whose password is right.
#[derive(Debug)]
pub(super) enum Passwords {
    /// Everybody has this one.
    All(String),
    /// Each mailbox has the one of its first login. A program sees to it.
    Made(PathBuf),
}

/// Keeps the password of the first login, and takes no other from then on. The protocol is Dovecot's `checkpassword`.
pub(super) const MAKES_ACCOUNTS: &str = r#"#!/usr/bin/python3 -I
import os
import sys

user, password = os.read(3, 4096).split(b"\0")[:2]
kept = os.path.join(os.path.dirname(os.path.abspath(__file__)), "made", os.path.basename(os.fsdecode(user)))
try:
    with open(kept, "xb") as new:
        new.write(password)
except FileExistsError:
    with open(kept, "rb") as old:
        if old.read() != password:
            sys.exit(1)
os.environ["USER"] = os.fsdecode(user)
os.execv(sys.argv[1], sys.argv[1:])
"#;

pub(super) fn dovecot(layout: &Layout, passwords: &Passwords) -> String {
    let Layout { dir, imaps, imap, lmtp, sasl, .. } = layout;
    let (run, mail) = (layout.run(), layout.mail());
    let (run, mail) = (run.display(), mail.display());
    let (chain, key) = (layout.chain(), layout.key());
    let (chain, key, log) = (chain.display(), key.display(), dir.join("dovecot.log"));
    let log = log.display();
    let passdb = match passwords {
        Passwords::All(password) => format!("passdb {{\n  driver = static\n  args = password={password}\n}}"),
        Passwords::Made(program) => format!("passdb {{\n  driver = checkpassword\n  args = {}\n}}", program.display()),
    };
    format!(
        "base_dir = {run}
state_dir = {run}
instance_name = sealbridge-lab-{imaps}
log_path = {log}
listen = 127.0.0.1
protocols = imap lmtp
ssl = required
ssl_cert = <{chain}
ssl_key = <{key}
mail_location = maildir:{mail}/%u
first_valid_uid = 1
first_valid_gid = 1
auth_mechanisms = plain login
mail_max_userip_connections = 1000
# A wrong password on purpose is not to slow down others.
auth_failure_delay = 0
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
{passdb}
userdb {{
  driver = static
  args = uid={MAIL_USER} gid=nogroup home={mail}/%u allow_all_users=yes
}}
service imap-login {{
  client_limit = 1000
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp}
  }}
}}
service auth {{
  inet_listener sasl {{
    address = 127.0.0.1
    port = {sasl}
  }}
}}
namespace inbox {{
  inbox = yes
}}
"
    )
}
