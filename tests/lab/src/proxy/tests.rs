use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use http::Response;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::*;

const SOON: Duration = Duration::from_secs(10);

/// A small real server that answers with what it was asked, and counts.
struct Upstream {
    url: String,
    asked: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl Upstream {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                let service = service_fn(move |request: http::Request<Incoming>| {
                    let count = Arc::clone(&count);
                    async move { echo(request, &count).await }
                });
                let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        Ok(Self { url, asked, task })
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn echo(request: http::Request<Incoming>, count: &AtomicU32) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let number = count.fetch_add(1, Ordering::SeqCst) + 1;
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let answer = json!({
        "number": number,
        "path": parts.uri.to_string(),
        "body": String::from_utf8_lossy(&body),
        "token": parts.headers.get("authorization").and_then(|it| it.to_str().ok()),
    });
    Ok(Response::new(Full::new(answer.to_string().into())))
}

struct Bench {
    upstream: Upstream,
    proxy: Proxy,
    client: reqwest::Client,
}

impl Bench {
    async fn set_up() -> Result<Self> {
        let upstream = Upstream::start().await?;
        Ok(Self {
            proxy: Proxy::before(&upstream.url).await?,
            upstream,
            client: reqwest::Client::builder().no_proxy().timeout(SOON).build()?,
        })
    }

    async fn put(&self, path: &str) -> reqwest::Result<(u16, Value)> {
        let response =
            self.client.put(format!("{}{path}", self.proxy.url())).bearer_auth("t").body("hello").send().await?;
        let status = response.status().as_u16();
        Ok((status, response.json().await?))
    }
}

#[tokio::test]
async fn what_no_rule_strikes_passes_unchanged_and_is_recorded() -> Result<()> {
    let bench = Bench::set_up().await?;
    bench.put("/before").await?;
    bench.proxy.record();
    let (status, answer) = bench.put("/send/%21room%3Aa?x=%20y").await?;
    assert_eq!(status, 200);
    assert_eq!(answer["path"], "/send/%21room%3Aa?x=%20y");
    assert_eq!(answer["body"], "hello");
    assert_eq!(answer["token"], "Bearer t");
    let seen = bench.proxy.take_seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].method, "PUT");
    assert_eq!(seen[0].path, "/send/!room:a?x= y");
    assert_eq!(seen[0].body, "hello");
    assert!(!format!("{seen:?}").contains("hello"));
    Ok(())
}

#[tokio::test]
async fn a_rule_strikes_its_requests_only_and_only_so_often() -> Result<()> {
    let bench = Bench::set_up().await?;
    let throttle = Fault::Throttle { retry_after_ms: 70 };
    let rule = Rule::new("PUT", "^/send/!r", throttle)?.after(1).times(2);
    let rule = bench.proxy.add(rule);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(bench.put("/send/%21r").await?.0);
    }
    assert_eq!(statuses, [200, 429, 429, 200]);
    assert_eq!(bench.put("/other").await?.0, 200);
    assert_eq!(rule.struck(), 2);
    assert_eq!(bench.upstream.asked(), 3);
    Ok(())
}

#[tokio::test]
async fn a_throttled_answer_says_how_long_and_a_failure_its_status() -> Result<()> {
    let bench = Bench::set_up().await?;
    let throttle = Fault::Throttle { retry_after_ms: 70 };
    bench.proxy.add(Rule::new("*", "/t", throttle)?);
    bench.proxy.add(Rule::new("*", "/f", Fault::Fail(502))?);
    let body = json!({ "made": "up" });
    let made_up = Fault::Answer { status: 201, body };
    bench.proxy.add(Rule::new("*", "/a", made_up)?);
    let (status, answer) = bench.put("/t").await?;
    assert_eq!((status, &answer["retry_after_ms"]), (429, &json!(70)));
    assert_eq!(answer["errcode"], "M_LIMIT_EXCEEDED");
    assert_eq!(bench.put("/f").await?.0, 502);
    assert_eq!(bench.put("/a").await?, (201, json!({ "made": "up" })));
    assert_eq!(bench.upstream.asked(), 0);
    bench.proxy.clear();
    assert_eq!(bench.put("/t").await?.0, 200);
    Ok(())
}

#[tokio::test]
async fn a_connection_is_dropped_before_or_after_the_server_accepted() -> Result<()> {
    let bench = Bench::set_up().await?;
    let before = Rule::new("PUT", "/before", Fault::DropBefore)?;
    bench.proxy.add(before);
    assert!(bench.put("/before").await.is_err());
    assert_eq!(bench.upstream.asked(), 0);
    bench.proxy.add(Rule::new("PUT", "/after", Fault::DropAfter)?);
    assert!(bench.put("/after").await.is_err());
    assert_eq!(bench.upstream.asked(), 1);
    bench.proxy.add(Rule::new("PUT", "/cut", Fault::CutAnswer)?);
    assert!(bench.put("/cut").await.is_err());
    assert_eq!(bench.upstream.asked(), 2);
    assert_eq!(bench.put("/well").await?.0, 200);
    Ok(())
}

#[tokio::test]
async fn a_hung_request_holds_up_no_other_and_ends_with_its_rule() -> Result<()> {
    let bench = Bench::set_up().await?;
    let rule = bench.proxy.add(Rule::new("*", "/hang", Fault::Hang)?);
    let hung = bench.put("/hang");
    let meanwhile = async {
        rule.wait_struck(1, SOON).await?;
        assert_eq!(bench.put("/other").await?.0, 200);
        rule.remove();
        anyhow::Ok(())
    };
    let (hung, meanwhile) = tokio::join!(hung, meanwhile);
    meanwhile?;
    assert!(hung.is_err_and(|error| !error.is_timeout()));
    assert_eq!(bench.upstream.asked(), 1);
    assert_eq!(bench.put("/hang").await?.0, 200);
    Ok(())
}

#[tokio::test]
async fn answers_are_held_led_elsewhere_or_never_end() -> Result<()> {
    let bench = Bench::set_up().await?;
    let rule = bench.proxy.add(Rule::new("*", "/held", Fault::HoldAnswer)?);
    let held = bench.put("/held");
    let meanwhile = async {
        rule.wait_struck(1, SOON).await?;
        let give_up = Instant::now() + SOON;
        while bench.upstream.asked() == 0 {
            anyhow::ensure!(Instant::now() < give_up, "the homeserver is not asked");
            tokio::task::yield_now().await;
        }
        rule.remove();
        anyhow::Ok(())
    };
    let (held, meanwhile) = tokio::join!(held, meanwhile);
    meanwhile?;
    assert!(held.is_err_and(|error| !error.is_timeout()));

    let to = format!("{}/elsewhere", bench.proxy.url());
    bench.proxy.add(Rule::new("*", "/led", Fault::Redirect { to: to.clone() })?);
    let asked = bench.upstream.asked();
    let direct = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
    let led = direct.get(format!("{}/led", bench.proxy.url())).send().await?;
    assert_eq!((led.status().as_u16(), led.headers()["location"].to_str()?), (302, &*to));
    assert_eq!(bench.upstream.asked(), asked);

    bench.proxy.add(Rule::new("*", "/endless", Fault::Endless)?);
    let mut endless = direct.get(format!("{}/endless", bench.proxy.url())).send().await?;
    let mut spaces = 0;
    while spaces < 1_000_000 {
        let part = endless.chunk().await?.context("it ends")?;
        spaces += part.iter().filter(|byte| **byte == b' ').count();
    }
    Ok(())
}

#[tokio::test]
async fn answers_are_rewritten_delayed_and_slowed() -> Result<()> {
    let bench = Bench::set_up().await?;
    let change = |answer: &mut Value| answer["body"] = json!("changed");
    bench.proxy.add(Rule::new("*", "/r", Fault::rewrite(change))?);
    let delay = Duration::from_millis(300);
    bench.proxy.add(Rule::new("*", "/r", Fault::Delay(delay))?);
    let start = Instant::now();
    let (status, answer) = bench.put("/r").await?;
    assert_eq!((status, &answer["body"]), (200, &json!("changed")));
    assert!(start.elapsed() >= delay);

    let trickle = Fault::Trickle { bytes_per_second: 200 };
    bench.proxy.add(Rule::new("*", "/slow", trickle)?);
    let start = Instant::now();
    assert_eq!(bench.put("/slow").await?.1["body"], "hello");
    assert!(start.elapsed() >= Duration::from_millis(200));
    Ok(())
}

#[tokio::test]
async fn an_outage_cuts_what_runs_and_what_comes() -> Result<()> {
    let bench = Bench::set_up().await?;
    let rule = bench.proxy.add(Rule::new("*", "/hang", Fault::Hang)?);
    let (hung, ()) = tokio::join!(bench.put("/hang"), async {
        while rule.struck() == 0 {
            tokio::task::yield_now().await;
        }
        bench.proxy.go_offline();
    });
    assert!(hung.is_err());
    assert!(bench.put("/other").await.is_err());
    assert_eq!(bench.upstream.asked(), 0);
    bench.proxy.go_online();
    assert_eq!(bench.put("/other").await?.0, 200);
    Ok(())
}

#[tokio::test]
async fn requests_that_the_server_has_are_counted_and_long_polls_are_not() -> Result<()> {
    let bench = Bench::set_up().await?;
    let hang = |path| Rule::new("*", path, Fault::Hang).map(|rule| bench.proxy.add(rule));
    let (sync, send) = (hang("/v3/sync")?, hang("/send/")?);
    let meanwhile = async {
        sync.wait_struck(1, SOON).await?;
        send.wait_struck(1, SOON).await?;
        assert_eq!(bench.proxy.pending(), 1);
        bench.proxy.clear();
        anyhow::Ok(())
    };
    let (_, _, meanwhile) = tokio::join!(bench.put("/v3/sync?since=1"), bench.put("/send/1"), meanwhile);
    meanwhile?;
    assert_eq!(bench.proxy.pending(), 0);
    Ok(())
}
