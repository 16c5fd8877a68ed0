//! Accounts on the homeserver under test.

use std::{env, error::Error, io::Write as _};

use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha1::Sha1;

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) url: String,
    secret: String,
}

pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) password: String,
}

/// The homeserver under test; without one the test counts as skipped, and says so.
pub(crate) fn server() -> Option<Server> {
    let named = env::var("SEALBRIDGE_TEST_HOMESERVER").ok().zip(env::var("SEALBRIDGE_TEST_SECRET").ok());
    match named {
        Some((url, secret)) => Some(Server { url: url.trim_end_matches('/').to_owned(), secret }),
        None => {
            writeln!(std::io::stderr(), "SKIPPED: no homeserver given").expect("stderr is open");
            None
        }
    }
}

impl Server {
    /// The same server behind a proxy.
    pub(crate) fn through(&self, proxy: &str) -> Self {
        Self { url: proxy.to_owned(), secret: self.secret.clone() }
    }

    /// Makes an account nobody had before.
    pub(crate) async fn account(&self, role: &str) -> Outcome<Account> {
        let url = format!("{}/_synapse/admin/v1/register", self.url);
        let client = reqwest::Client::builder().no_proxy().build()?;
        let answer: Value = serde_json::from_slice(&client.get(&url).send().await?.bytes().await?)?;
        let nonce = answer["nonce"].as_str().ok_or("the server gives no nonce")?;
        let name = format!("{role}-{:016x}", getrandom::u64()?);
        let password = format!("{:016x}", getrandom::u64()?);
        let mut mac = Hmac::<Sha1>::new_from_slice(self.secret.as_bytes())?;
        mac.update(format!("{nonce}\0{name}\0{password}\0notadmin").as_bytes());
        let mac: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let body = json!({
            "nonce": nonce, "username": name, "password": password, "admin": false, "mac": mac,
        });
        let answer = client.post(&url).body(body.to_string()).send().await?;
        if !answer.status().is_success() {
            return Err(format!("registration failed with {}", answer.status()).into());
        }
        Ok(Account { name, password })
    }
}
