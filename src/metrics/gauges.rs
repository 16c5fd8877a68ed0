//! What is so at the moment in which it is asked, and the text of all of it.

use std::time::Duration;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};
use std::sync::atomic::AtomicU64;

use crate::{
    notices,
    operator::Host,
    store::{Counts, JournalError, Share},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Account {
    account: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Stopped {
    account: String,
    why: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Source {
    source: String,
}

type Seconds = Gauge<f64, AtomicU64>;

/// Everything that is counted, in the text form of OpenMetrics 1.0.
///
/// # Errors
/// [`JournalError`]: the journal does not answer.
pub async fn text(host: &dyn Host) -> Result<String, JournalError> {
    let counts = host.journal().counts().await?;
    let mut registry = Registry::with_prefix("sealbridge");
    registry.register("build", "Which version this is", Info::new(Build { version: env!("CARGO_PKG_VERSION") }));
    host.meters().register(&mut registry);
    of_journal(&mut registry, host, &counts);
    of_sources(&mut registry, host.journal().shares().await?);
    of_accounts(&mut registry, host);
    let mut text = String::new();
    encode(&mut text, &registry).expect("a text takes everything");
    Ok(text)
}

fn of_journal(registry: &mut Registry, host: &dyn Host, counts: &Counts) {
    let gauges = [
        ("queue_depth", "Deliveries in the outbox", counts.queued),
        ("held", "Deliveries that are held", counts.held),
        ("dead_letters", "Messages that will not be delivered unless somebody says so", counts.dead),
        ("unreadable", "Events that wait for their key", counts.unreadable),
        ("gaps", "Stretches of conversations that are still to be read", counts.gaps),
        ("quarantined", "Rows of the journal that do not open", counts.quarantined),
        ("payload_bytes", "Locked payload in the journal", counts.payload_bytes),
    ];
    for (name, help, value) in gauges {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    }
    let now = host.clock().now();
    let oldest = counts.oldest.map_or(Duration::ZERO, |oldest| now.since(oldest));
    let gauge = Seconds::default();
    gauge.set(oldest.as_secs_f64());
    registry.register_with_unit("queue_oldest", "How long the oldest delivery has waited", Unit::Seconds, gauge);
}

/// Of those that have something waiting. What the operator says names conversations, and is left out.
fn of_sources(registry: &mut Registry, shares: Vec<Share>) {
    let [messages, bytes, taken] = [(); 3].map(|()| Family::<Source, Gauge>::default());
    for share in shares {
        let Some(source) = notices::source_of(&share.at) else { continue };
        let label = Source { source: source.as_str().to_owned() };
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        messages.get_or_create(&label).inc_by(whole(share.messages));
        bytes.get_or_create(&label).inc_by(whole(share.bytes));
        let is_taken = taken.get_or_create(&label);
        is_taken.set(is_taken.get().max(i64::from(share.is_taken)));
    }
    registry.register("source_waiting", "Messages of a source that wait", messages);
    registry.register("source_waiting_bytes", "Locked payload of a source that waits", bytes);
    registry.register("source_share_taken", "Whether nothing more is taken of a source until some is delivered", taken);
}

fn of_accounts(registry: &mut Registry, host: &dyn Host) {
    let (up, heard) = (Family::<Account, Gauge>::default(), Family::<Account, Seconds>::default());
    let guard = Family::<Stopped, Counter>::default();
    let now = host.clock().now();
    let mut stopped = 0;
    for account in host.accounts() {
        let label = Account { account: account.name.as_str().to_owned() };
        let health = account.transport.as_ref().map(|transport| transport.common().health());
        up.get_or_create(&label).set(i64::from(health.as_ref().is_some_and(|health| health.connected)));
        stopped += u64::from(account.stopped.is_some());
        for (why, count) in health.iter().flat_map(|health| &health.stopped) {
            guard.get_or_create(&Stopped { account: label.account.clone(), why }).inc_by(*count);
        }
        if let Some(last) = health.and_then(|health| health.last_heard) {
            let since = now.since(sealbridge_contract::Timestamp(last));
            heard.get_or_create(&label).set(since.as_secs_f64());
        }
    }
    registry.register("account_up", "Whether an account is connected and receives", up);
    registry.register_with_unit(
        "account_last_heard",
        "How long ago an account last heard anything",
        Unit::Seconds,
        heard,
    );
    registry.register("guard_stopped", "What the egress guard stopped since the start", guard);
    let gauge: Gauge = Gauge::default();
    gauge.set(i64::try_from(stopped).unwrap_or(i64::MAX));
    registry.register("accounts_stopped", "Accounts for which a person must act", gauge);
}
