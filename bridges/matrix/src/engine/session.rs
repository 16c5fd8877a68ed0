//! Finding a homeserver, logging in, and keeping the session as secret bytes.

use std::fmt;

use ruma::{
    DeviceId, OwnedDeviceId, OwnedUserId, UserId,
    api::client::{
        account::whoami,
        discovery::discover_homeserver,
        session::{get_login_types, login, logout},
        uiaa::{MatrixUserIdentifier, UserIdentifier},
    },
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::http::{Class, Http, HttpError, HttpErrorKind, Retries, Tokens, retrying};

pub(super) const DEVICE_NAME: &str = "Sealbridge";

#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    #[error("wrong user name or password")]
    WrongPassword,
    #[error("no Matrix homeserver answers there")]
    NotAHomeserver,
    #[error("this is neither a server name nor an address: {0}")]
    BadAddress(&'static str),
    #[error("the homeserver offers no login by password; give an access token")]
    NoPasswordLogin,
    #[error("the stored session can't be read")]
    Corrupt,
    #[error("the access token belongs to no device")]
    TokenWithoutDevice,
    #[error(transparent)]
    Http(#[from] HttpError),
}

/// A login of ours. Shows no token, and turns into bytes only when asked in so many words.
#[derive(Clone)]
pub struct Session {
    pub homeserver: Url,
    pub user_id: OwnedUserId,
    pub device_id: OwnedDeviceId,
    tokens: Tokens,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct Stored {
    homeserver: String,
    user_id: String,
    device_id: String,
    access_token: String,
    refresh_token: Option<String>,
}

impl Session {
    pub fn tokens(&self) -> Tokens {
        self.tokens.clone()
    }

    /// The same login with refreshed tokens.
    pub fn with_tokens(&self, tokens: &Tokens) -> Self {
        Self { tokens: tokens.clone(), ..self.clone() }
    }

    /// The same login at another address.
    pub fn with_homeserver(self, homeserver: Url) -> Self {
        Self { homeserver, ..self }
    }

    /// A client that acts as this session.
    pub fn http(&self) -> Result<Http, HttpError> {
        let http = Http::new(&self.homeserver)?;
        http.set_tokens(self.tokens());
        Ok(http)
    }

    /// Everything, tokens included. For a locked store only.
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let refresh = self.tokens.refresh.as_ref();
        let stored = Stored {
            homeserver: self.homeserver.to_string(),
            user_id: self.user_id.to_string(),
            device_id: self.device_id.to_string(),
            access_token: self.tokens.access.expose_secret().to_owned(),
            refresh_token: refresh.map(|token| token.expose_secret().to_owned()),
        };
        Zeroizing::new(serde_json::to_vec(&stored).expect("strings serialise"))
    }

    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, SessionError> {
        let stored: Stored = serde_json::from_slice(bytes).map_err(|_| SessionError::Corrupt)?;
        Ok(Self {
            homeserver: Url::parse(&stored.homeserver).map_err(|_| SessionError::Corrupt)?,
            user_id: UserId::parse(&stored.user_id).map_err(|_| SessionError::Corrupt)?,
            device_id: stored.device_id.as_str().into(),
            tokens: Tokens {
                access: stored.access_token.clone().into(),
                refresh: stored.refresh_token.clone().map(Into::into),
            },
        })
    }
}

/// Finds the homeserver of a server name, a user id or an address, and makes sure that it answers.
pub async fn discover(server: &str) -> Result<Http, SessionError> {
    let server = server.trim();
    let url = address(server).map_err(SessionError::BadAddress)?;
    let http = if server.contains("://") { Http::new(&url)? } else { by_well_known(&url).await? };
    let asked = retrying(Retries::default(), || async {
        match http.versions().await {
            // A wrong address is told at once.
            Err(HttpError { kind: HttpErrorKind::Stranger { .. } }) => Ok(None),
            answer => answer.map(Some),
        }
    });
    match asked.await {
        Ok(Some(versions)) if !versions.versions.is_empty() => Ok(http),
        Ok(_) => Err(SessionError::NotAHomeserver),
        Err(error) if error.is_transient() => Err(error.into()),
        Err(_) => Err(SessionError::NotAHomeserver),
    }
}

/// The address that a server name, a user id or an address stands for, if anything may be asked there. Asks nobody.
pub fn address(server: &str) -> Result<Url, &'static str> {
    if server.contains("://") {
        let url = Url::parse(server).map_err(|_| "not a valid URL")?;
        Http::check_address(&url)?;
        return Ok(url);
    }
    let name = match server.strip_prefix('@') {
        Some(user) => user.split_once(':').ok_or("no server in it")?.1,
        None => server,
    };
    let url = Url::parse(&format!("https://{name}")).ok();
    url.filter(|url| url.host_str().is_some() && url.path() == "/").ok_or("not a valid server name")
}

async fn by_well_known(name: &Url) -> Result<Http, SessionError> {
    let named = Http::new(name)?;
    match named.send(discover_homeserver::Request::new(), Class::Short).await {
        Ok(found) => {
            let url = Url::parse(&found.homeserver.base_url)
                .map_err(|_| SessionError::BadAddress("its well-known file names no valid URL"))?;
            Ok(Http::new(&url)?)
        }
        // No such file: the server name is the address.
        Err(error)
            if matches!(
                error.kind,
                HttpErrorKind::Client { status: 404, .. } | HttpErrorKind::Stranger { status: 404 }
            ) =>
        {
            Ok(named)
        }
        Err(error) => match error.kind {
            HttpErrorKind::Stranger { status: 300..=399 } => {
                Err(SessionError::BadAddress("its well-known file is a redirect; give the homeserver's URL"))
            }
            _ => Err(error.into()),
        },
    }
}

/// A device id nobody used before. Store it before logging in, so that a crash leaves no stray device.
pub fn new_device_id() -> OwnedDeviceId {
    DeviceId::new()
}

/// Logs in by password as the given device, and makes the client act as the new session.
pub async fn log_in(
    http: &Http,
    user: &str,
    password: &SecretString,
    device: &DeviceId,
) -> Result<Session, SessionError> {
    let types = retrying(Retries::default(), || http.send(get_login_types::v3::Request::new(), Class::Short)).await?;
    let by_password =
        |flow: &get_login_types::v3::LoginType| matches!(flow, get_login_types::v3::LoginType::Password(_));
    if !types.flows.iter().any(by_password) {
        return Err(SessionError::NoPasswordLogin);
    }
    let answer = retrying(Retries::default(), || {
        let identifier = UserIdentifier::Matrix(MatrixUserIdentifier::new(user.to_owned()));
        let password = login::v3::Password::new(identifier, password.expose_secret().to_owned());
        let mut request = login::v3::Request::new(login::v3::LoginInfo::Password(password));
        request.device_id = Some(device.to_owned());
        request.initial_device_display_name = Some(DEVICE_NAME.to_owned());
        request.refresh_token = true;
        http.send(request, Class::Short)
    })
    .await
    .map_err(|error| match error.errcode() {
        Some("M_FORBIDDEN") => SessionError::WrongPassword,
        _ => error.into(),
    })?;
    let tokens = Tokens { access: answer.access_token.into(), refresh: answer.refresh_token.map(Into::into) };
    http.set_tokens(tokens.clone());
    Ok(Session { homeserver: http.homeserver().clone(), user_id: answer.user_id, device_id: answer.device_id, tokens })
}

/// Takes over a login made elsewhere. Whether its device is still free for us, [`Engine::open`](super::Engine::open)
/// decides.
pub async fn adopt_token(http: &Http, token: SecretString) -> Result<Session, SessionError> {
    let tokens = Tokens { access: token, refresh: None };
    http.set_tokens(tokens.clone());
    let answer = retrying(Retries::default(), || http.send(whoami::v3::Request::new(), Class::Short)).await?;
    Ok(Session {
        homeserver: http.homeserver().clone(),
        user_id: answer.user_id,
        device_id: answer.device_id.ok_or(SessionError::TokenWithoutDevice)?,
        tokens,
    })
}

/// Ends the session on the server, which deletes its device.
pub async fn log_out(http: &Http) -> Result<(), SessionError> {
    http.send(logout::v3::Request::new(), Class::Short).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session {
            homeserver: Url::parse("https://matrix.example.org").expect("it is a URL"),
            user_id: ruma::user_id!("@bot:example.org").to_owned(),
            device_id: "DEVICE".into(),
            tokens: Tokens {
                access: "access-canary".to_owned().into(),
                refresh: Some("refresh-canary".to_owned().into()),
            },
        }
    }

    #[test]
    fn session_survives_its_secret_bytes() {
        let back = Session::from_secret_bytes(&session().to_secret_bytes()).expect("it was written");
        assert_eq!(back.user_id, session().user_id);
        assert_eq!(back.device_id, session().device_id);
        assert_eq!(back.tokens.access.expose_secret(), "access-canary");
        let refresh = back.tokens.refresh.expect("there was one");
        assert_eq!(refresh.expose_secret(), "refresh-canary");
    }

    #[test]
    fn session_never_shows_a_token() {
        assert!(!format!("{:?}", session()).contains("canary"));
    }

    #[test]
    fn torn_session_is_refused() {
        let bytes = session().to_secret_bytes();
        let torn = &bytes[..bytes.len() - 2];
        assert!(matches!(Session::from_secret_bytes(torn), Err(SessionError::Corrupt)));
    }
}
