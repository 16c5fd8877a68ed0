//! Nothing is sent to where the operator does not allow it, whatever a name, an answer or a certificate says.

use std::{
    fs, io,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use sealbridge_contract::{
    AnyTransport, Author, Cleartext, Clock, ConversationId, DeliveryError, DeliveryId, Destination, Fate, Message,
    Origin, PersonId, Receipt, Rule, SenderTrust, Slip, Timestamp, Verdict, conformance::MemoryIntake,
    inbox::AccountStore, judge,
};
use sealbridge_webhook::{Endpoint, Names, Settings, connect_with};
use tokio_rustls::TlsAcceptor;

use crate::{
    harness::{account, context, with_secret},
    receiver::{Receiver, Reply, certified},
};

/// Names lead to the first of these; each look-up takes one, but for the last.
#[derive(Clone, Default)]
struct Leads(Arc<Mutex<(usize, Vec<Vec<IpAddr>>)>>);

impl Leads {
    fn to(&self, turns: &[&[&str]]) {
        let ip = |text: &&str| text.parse().expect("an address");
        *self.0.lock().expect("nobody panics") = (0, turns.iter().map(|all| all.iter().map(ip).collect()).collect());
    }

    fn asked(&self) -> usize {
        self.0.lock().expect("nobody panics").0
    }
}

#[async_trait]
impl Names for Leads {
    async fn look_up(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        assert_eq!(name, "hooks.example");
        let mut leads = self.0.lock().expect("nobody panics");
        let turn = leads.0.min(leads.1.len() - 1);
        leads.0 += 1;
        Ok(leads.1[turn].clone())
    }
}

/// An endpoint at 127.0.0.1, and something else at 127.0.0.2 and the same port, both with a certificate for the name.
struct Scene {
    leads: Leads,
    endpoint: Receiver,
    inner: Receiver,
    folder: tempfile::TempDir,
    settings: Settings,
}

impl Scene {
    async fn set() -> Self {
        let (authority, tls) = certified(&["hooks.example"]);
        Self::of(&authority, tls).await
    }

    async fn of(authority: &str, tls: TlsAcceptor) -> Self {
        let endpoint = Receiver::start("127.0.0.1", 0, Some(tls.clone())).await;
        let inner = Receiver::start("127.0.0.2", endpoint.at.port(), Some(tls)).await;
        let (folder, secret) = with_secret();
        let ca_file = folder.path().join("ca.pem");
        fs::write(&ca_file, authority).expect("it is written");
        let settings = Endpoint {
            url: format!("https://hooks.example:{}/a-path-that-is-as-good-as-a-password", endpoint.at.port()),
            operator_run: true,
            secret_file: Some(secret),
            ca_file: Some(ca_file),
            allow_addresses: vec!["127.0.0.1".to_owned()],
            ..Endpoint::default()
        };
        let settings = Settings { endpoints: [("ops".to_owned(), settings)].into() };
        Self { leads: Leads::default(), endpoint, inner, folder, settings }
    }

    fn allow(&mut self, networks: &[&str]) {
        let networks = networks.iter().map(|network| (*network).to_owned()).collect();
        self.settings.endpoints.get_mut("ops").expect("it is there").allow_addresses = networks;
    }

    fn open(&self) -> AnyTransport {
        assert!(self.folder.path().exists());
        let intake = Arc::new(MemoryIntake::default());
        let spool = Arc::new(intake.spool().clone());
        let store = AccountStore::new(account(), intake);
        let names = Arc::new(self.leads.clone());
        connect_with(&context(store, spool, Clock::system()), &self.settings, names).expect("it opens")
    }

    /// One delivery by a transport that was just made.
    async fn deliver(&self) -> Result<Receipt, DeliveryError> {
        deliver(&self.open(), "ops").await
    }

    fn arrived(&self) -> (usize, usize) {
        (self.endpoint.posted().len(), self.inner.posted().len())
    }
}

const WORDS: &str = "nobody else may read this";

async fn deliver(transport: &AnyTransport, endpoint: &str) -> Result<Receipt, DeliveryError> {
    let AnyTransport::OperatorRun(transport) = transport else { panic!("it is the operator's") };
    let author = Author { id: PersonId::new("@ann:example.org"), name: None };
    let message = Cleartext::new(Message::text(author, Timestamp(0), WORDS));
    let slip = Slip::new(ConversationId::new(endpoint), DeliveryId::random(), Timestamp(0));
    let to = Destination::OperatorRun(transport.facts(&slip.to));
    match judge(&message, Origin { sender: SenderTrust::Proven, said: &message }, &to, &Rule::default()) {
        Verdict::Speak(cleared) => transport.deliver(cleared, &slip).await,
        Verdict::Refuse(why) => Err(DeliveryError::give_up(why.to_string())),
        other => panic!("the gate says {other:?}"),
    }
}

fn shows_nothing(error: &DeliveryError) {
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(WORDS) && !shown.contains("password"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn name_that_leads_inside_is_not_connected_to_unless_that_is_allowed() {
    let mut scene = Scene::set().await;
    for inside in [
        &["127.0.0.2"][..],
        &["127.0.0.1", "127.0.0.2"],
        &["127.0.0.2", "127.0.0.1"],
        &["::1"],
        &["::"],
        &["0.0.0.0"],
        &["::ffff:127.0.0.1"],
        &["::ffff:127.0.0.2"],
        &["64:ff9b::7f00:2"],
        &["10.0.0.1"],
        &["192.168.1.1"],
        &["100.64.0.1"],
        &["169.254.169.254"],
        &["fd00:ec2::254"],
        &["fe80::1"],
        &["224.0.0.1"],
        &["192.0.2.1"],
        &["93.184.216.34", "10.0.0.1"],
    ] {
        scene.leads.to(&[inside]);
        let error = scene.deliver().await.expect_err("it leads inside");
        assert!(
            matches!(error.fate, Fate::Retry(_)),
            "{inside:?}: it may lead elsewhere tomorrow, and nothing is lost"
        );
        assert!(error.cause.contains("allow_addresses"), "{inside:?}: {error}");
        shows_nothing(&error);
    }
    assert_eq!((scene.endpoint.connections(), scene.inner.connections()), (0, 0), "something was connected to");
    // Whoever is allowed is reached, so the wire is one that carries.
    scene.leads.to(&[&["127.0.0.1"]]);
    scene.deliver().await.expect("it is allowed");
    assert_eq!(scene.arrived(), (1, 0));
    scene.allow(&["127.0.0.0/8"]);
    scene.leads.to(&[&["127.0.0.2"]]);
    scene.deliver().await.expect("it is allowed now");
    assert_eq!(scene.arrived(), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn name_that_leads_elsewhere_the_next_time_is_judged_again_and_resolved_once_for_a_connection() {
    let mut scene = Scene::set().await;
    let turns: [&[&str]; 2] = [&["127.0.0.1"], &["127.0.0.2"]];
    scene.leads.to(&turns);
    let transport = scene.open();
    scene.endpoint.next(Reply::Says(204, "Connection: close\r\n".into()));
    deliver(&transport, "ops").await.expect("it leads to the endpoint");
    assert_eq!((scene.leads.asked(), scene.arrived()), (1, (1, 0)), "asked once, and that is where it went");
    let error = deliver(&transport, "ops").await.expect_err("it leads inside by now");
    assert!(error.cause.contains("127.0.0.2"), "{error}");
    assert_eq!((scene.leads.asked(), scene.inner.connections()), (2, 0));
    // The same turn where both are allowed goes there.
    scene.allow(&["127.0.0.1", "127.0.0.2"]);
    scene.leads.to(&turns);
    let transport = scene.open();
    scene.endpoint.next(Reply::Says(204, "Connection: close\r\n".into()));
    deliver(&transport, "ops").await.expect("it leads to the endpoint");
    deliver(&transport, "ops").await.expect("and then to the other");
    assert_eq!(scene.arrived(), (2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirection_is_not_followed_and_gives_up_with_a_reason() {
    let mut scene = Scene::set().await;
    scene.allow(&["127.0.0.0/8"]);
    scene.leads.to(&[&["127.0.0.1"]]);
    for status in [301, 302, 303, 307, 308] {
        for place in [format!("https://127.0.0.2:{}/", scene.inner.at.port()), "file:///etc/passwd".into(), "/x".into()]
        {
            scene.endpoint.next(Reply::Says(status, format!("Location: {place}\r\n")));
            let error = scene.deliver().await.expect_err("it leads elsewhere");
            assert_eq!(error.fate, Fate::GiveUp, "{status} {place}");
            assert!(error.cause.contains("no redirection is followed"), "{error}");
            assert!(!error.cause.contains("passwd") && !error.cause.contains("127.0.0.2"), "{error}");
            shows_nothing(&error);
        }
    }
    assert_eq!((scene.arrived(), scene.inner.connections()), ((0, 0), 0));
    scene.leads.to(&[&["127.0.0.2"]]);
    scene.deliver().await.expect("what was not followed to could be reached");
    assert_eq!(scene.arrived(), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_of_another_name_or_authority_gets_nothing() {
    let (authority, good) = certified(&["hooks.example"]);
    let (_, others) = certified(&["hooks.example"]);
    for (tls, trusted, why) in [
        (others, &authority, "another authority's"),
        (certified(&["else.example"]).1, &authority, "another name's and authority's"),
    ] {
        let scene = Scene::of(trusted, tls).await;
        scene.leads.to(&[&["127.0.0.1"]]);
        let error = scene.deliver().await.expect_err(why);
        assert!(matches!(error.fate, Fate::Retry(_)), "{why}");
        assert!(error.cause.contains("certificate"), "{why}: {error}");
        assert_eq!(scene.arrived(), (0, 0), "{why}");
    }
    let (authority_of_else, else_) = certified(&["else.example"]);
    let scene = Scene::of(&authority_of_else, else_).await;
    scene.leads.to(&[&["127.0.0.1"]]);
    scene.deliver().await.expect_err("another name's");
    assert_eq!(scene.arrived(), (0, 0));
    let scene = Scene::of(&authority, good).await;
    scene.leads.to(&[&["127.0.0.1"]]);
    scene.deliver().await.expect("its own");
    assert_eq!(scene.arrived(), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoint_that_the_config_does_not_name_is_refused_by_the_gate() {
    let scene = Scene::set().await;
    scene.leads.to(&[&["127.0.0.1"]]);
    let transport = scene.open();
    let error = deliver(&transport, "other").await.expect_err("it is not on the list");
    assert_eq!((error.fate, error.cause.as_str()), (Fate::GiveUp, "the server is not declared as run by the operator"));
    assert_eq!(scene.arrived(), (0, 0));
    deliver(&transport, "ops").await.expect("this one is");
    assert_eq!(scene.arrived(), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answer_without_an_end_is_not_waited_for_and_each_attempt_has_the_same_id() {
    let scene = Scene::set().await;
    scene.leads.to(&[&["127.0.0.1"]]);
    scene.endpoint.next(Reply::WithoutEnd);
    // An attempt may take half a minute, and it is no attempt any more.
    let receipt = tokio::time::timeout(Duration::from_secs(10), scene.deliver()).await.expect("it is not waited for");
    let receipt = receipt.expect("it was taken");
    let posted = &scene.endpoint.posted()[0];
    assert_eq!(posted.header("webhook-id"), Some(receipt.id.as_str()));
    assert!(posted.header("webhook-signature").is_some_and(|signed| signed.starts_with("v1,")));
    assert!(posted.header("webhook-timestamp").is_some_and(|at| at.parse::<i64>().is_ok_and(|at| at > 1_700_000_000)));
    assert!(posted.head.starts_with("POST /a-path-that-is-as-good-as-a-password HTTP/1.1\r\n"));
}
