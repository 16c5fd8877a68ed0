use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::Mutex as SyncMutex,
    thread,
};

use ruma::{api::client::account::whoami, room_id};

use super::*;

/// Answers each connection with the next of these, then closes; gives back what was asked.
fn server(answers: Vec<String>) -> (Url, Arc<SyncMutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let asked = Arc::new(SyncMutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    thread::spawn(move || {
        for answer in answers {
            let Ok((mut socket, _)) = listener.accept() else {
                return;
            };
            let mut buffer = [0; 8192];
            let read = socket.read(&mut buffer).unwrap_or(0);
            let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
            log.lock().expect("no holder panics").push(text);
            let _ = socket.write_all(answer.as_bytes());
        }
    });
    (Url::parse(&format!("http://127.0.0.1:{port}")).expect("it is a URL"), asked)
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn versions() -> String {
    answer("200 OK", r#"{"versions":["v1.1","v1.11"]}"#)
}

fn tokens(access: &str) -> Tokens {
    Tokens { access: access.to_owned().into(), refresh: Some("refresh-canary".to_owned().into()) }
}

#[test]
fn plain_http_is_for_loopback_alone() {
    let ok = |url: &str| Http::new(&Url::parse(url).expect("it is a URL")).is_ok();
    assert!(ok("http://127.0.0.1:8008") && ok("http://[::1]:8008") && ok("http://localhost:1"));
    assert!(ok("https://matrix.example.org"));
    assert!(!ok("http://matrix.example.org") && !ok("http://127.0.0.1.example.org"));
    assert!(!ok("ftp://127.0.0.1"));
}

#[tokio::test]
async fn redirect_is_not_followed() {
    let moved = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let (url, _) = server(vec![moved.to_owned()]);
    let http = Http::new(&url).expect("loopback is allowed");
    let error = http.versions().await.expect_err("a redirect is no answer");
    assert_eq!(error.kind, HttpErrorKind::Stranger { status: 302 });
}

#[tokio::test]
async fn answer_beyond_the_limit_is_cut_off() {
    let body = "x".repeat(Class::Short.size() + 1);
    let (url, _) = server(vec![answer("200 OK", &body)]);
    let http = Http::new(&url).expect("loopback is allowed");
    assert_eq!(http.versions().await.expect_err("it is too large").kind, HttpErrorKind::TooLarge);
}

struct Keeper {
    kept: SyncMutex<Vec<String>>,
    works: bool,
}

#[async_trait::async_trait]
impl TokenKeeper for Keeper {
    async fn keep(&self, tokens: &Tokens) -> Result<(), KeepFailed> {
        let access = tokens.access.expose_secret().to_owned();
        self.kept.lock().expect("no holder panics").push(access);
        if self.works { Ok(()) } else { Err(KeepFailed) }
    }
}

async fn whoami_with_expired_token(works: bool) -> (Result<(), HttpError>, Vec<String>, Vec<String>) {
    let (url, asked) = server(vec![
        versions(),
        answer("401 Unauthorized", r#"{"errcode":"M_UNKNOWN_TOKEN","soft_logout":true}"#),
        answer("200 OK", r#"{"access_token":"second","refresh_token":"r2"}"#),
        answer("200 OK", r#"{"user_id":"@a:example.org","device_id":"D"}"#),
    ]);
    let http = Http::new(&url).expect("loopback is allowed");
    let keeper = Arc::new(Keeper { kept: SyncMutex::default(), works });
    http.set_tokens(tokens("first"));
    http.set_keeper(keeper.clone());
    let result = http.send(whoami::v3::Request::new(), Class::Short).await.map(drop);
    let kept = keeper.kept.lock().expect("no holder panics").clone();
    let asked = asked.lock().expect("no holder panics").clone();
    (result, kept, asked)
}

#[tokio::test]
async fn refreshed_token_is_kept_before_it_is_used() {
    let (result, kept, asked) = whoami_with_expired_token(true).await;
    result.expect("the second token is good");
    assert_eq!(kept, ["second"]);
    assert!(asked[2].contains("/refresh") && !asked[2].to_lowercase().contains("bearer"));
    assert!(asked[3].contains("Bearer second"));
}

#[tokio::test]
async fn token_that_could_not_be_kept_is_not_used() {
    let (result, _, asked) = whoami_with_expired_token(false).await;
    assert_eq!(result.expect_err("nothing was kept").kind, HttpErrorKind::NotKept);
    assert_eq!(asked.len(), 3, "nothing is sent with a token that a crash would lose");
}

#[test]
fn tokens_do_not_show_in_debug() {
    let http = Http::new(&Url::parse("http://127.0.0.1:1").expect("it is a URL")).expect("loopback");
    http.set_tokens(tokens("access-canary"));
    assert!(!format!("{http:?} {:?}", http.tokens()).contains("canary"));
}

#[test]
fn ids_in_paths_are_escaped() {
    // Ids come from servers; one must not be able to leave its place in the path.
    let request = ruma::api::client::membership::joined_members::v3::Request::new(
        room_id!("!a/../../send/m.room.message:example.org").to_owned(),
    );
    let versions = SupportedVersions::from_parts(&["v1.11".to_owned()], &Default::default());
    let http = request.into_http("https://example.org", Some("t"), &versions).expect("it builds");
    assert!(!http.uri().path().contains("/send/"));
}

#[tokio::test]
async fn address_of_a_file_leads_nowhere_but_to_our_homeservers_store() {
    let (url, asked) = server(vec![versions(), answer("404 Not Found", "{}"), answer("404 Not Found", "{}")]);
    let http = Http::new(&url).expect("loopback is allowed");
    http.set_tokens(tokens("access"));
    for address in [
        "mxc://example.org/../../../../_synapse/admin/v1/users",
        "mxc://example.org/%2e%2e/secret",
        "mxc://example.org/a?b=c",
        "mxc://../x",
        "https://elsewhere.example.org/x",
        "mxc://example.org/a#b",
    ] {
        let found = http.download(<&ruma::MxcUri>::from(address)).await;
        assert!(found.is_err(), "{address} is fetched");
    }
    // A file of any server is asked of ours.
    assert!(http.download(<&ruma::MxcUri>::from("mxc://elsewhere.example.org/id")).await.is_err());
    let asked = asked.lock().expect("no holder panics").clone();
    let fetched: Vec<_> = asked.iter().filter(|asked| !asked.contains("/versions")).collect();
    assert_eq!(fetched.len(), 1, "{fetched:?}");
    assert!(fetched[0].starts_with("GET /_matrix/client/v1/media/download/elsewhere.example.org/id"), "{}", fetched[0]);
}
