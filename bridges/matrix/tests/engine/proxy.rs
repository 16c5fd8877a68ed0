//! A homeserver's front that misbehaves on request, path by path.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::server::{Outcome, Server};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Takes the request and never answers.
    Hang,
    /// Refuses with 503 and does not pass the request on.
    Unavailable,
    /// Passes the request on and drops the answer.
    LoseAnswer,
}

type Rule = Option<(&'static str, Fault)>;

pub(crate) struct Proxy {
    pub(crate) url: String,
    rule: Arc<Mutex<Rule>>,
    accepting: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    pub(crate) async fn before(server: &Server) -> Outcome<Self> {
        let target = server.url.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let rule: Arc<Mutex<Rule>> = Arc::default();
        let seen = Arc::clone(&rule);
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, target.clone(), Arc::clone(&seen)));
            }
        });
        Ok(Self { url, rule, accepting })
    }

    /// From now on requests whose path holds `path` meet this fault.
    pub(crate) fn fail(&self, path: &'static str, fault: Fault) {
        *self.rule.lock().expect("no holder panics") = Some((path, fault));
    }

    pub(crate) fn heal(&self) {
        *self.rule.lock().expect("no holder panics") = None;
    }
}

async fn serve(mut socket: TcpStream, target: String, rule: Arc<Mutex<Rule>>) -> std::io::Result<()> {
    while let Some(request) = read_message(&mut socket).await? {
        let line = request.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line).into_owned();
        let rule = *rule.lock().expect("no holder panics");
        let fault = rule.filter(|(path, _)| line.contains(path)).map(|(_, fault)| fault);
        match fault {
            Some(Fault::Hang) => {
                tokio::time::sleep(Duration::from_secs(3600)).await;
            }
            Some(Fault::Unavailable) => {
                let answer = b"HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\n\r\n";
                socket.write_all(answer).await?;
            }
            Some(Fault::LoseAnswer) | None => {
                let mut behind = TcpStream::connect(&target).await?;
                behind.write_all(&request).await?;
                let answer = read_message(&mut behind).await?.unwrap_or_default();
                if fault.is_some() {
                    return Ok(());
                }
                socket.write_all(&answer).await?;
            }
        }
    }
    Ok(())
}

/// Reads one HTTP message with a counted or chunked body, or nothing at the end of the stream.
async fn read_message(socket: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut message = Vec::new();
    let mut buffer = vec![0; 65536];
    loop {
        if is_whole(&message) {
            return Ok(Some(message));
        }
        let read = socket.read(&mut buffer).await?;
        if read == 0 {
            return Ok((!message.is_empty()).then_some(message));
        }
        message.extend_from_slice(&buffer[..read]);
    }
}

fn is_whole(message: &[u8]) -> bool {
    let Some(head) = message.windows(4).position(|window| window == b"\r\n\r\n") else {
        return false;
    };
    let text = String::from_utf8_lossy(&message[..head]).to_lowercase();
    let body = &message[head + 4..];
    if text.contains("transfer-encoding: chunked") {
        return body.ends_with(b"0\r\n\r\n");
    }
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.and_then(|length| length.trim().parse().ok()).unwrap_or(0)
}
