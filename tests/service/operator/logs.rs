//! Logs say what happened, and never what was said.

use std::{
    io,
    sync::{Arc, Mutex},
};

use sealbridge::{
    config::{Format, Level},
    operator::logging,
};
use sealbridge_contract::AccountName;
use sealbridge_loopback::DiskPeer;
use tracing_subscriber::{fmt::MakeWriter, layer::SubscriberExt as _};

use super::bench::{Bench, wait_until};

/// A log in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl io::Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no test panics while it writes").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Memory {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn logged(format: Format, filter: Option<&str>, speak: impl FnOnce()) -> String {
    let memory = Memory::default();
    let levels = logging::levels(Level::Trace, filter).expect("the filter is in order");
    let subscriber = tracing_subscriber::registry().with(logging::layer(format, levels, false, memory.clone()));
    tracing::subscriber::with_default(subscriber, speak);
    let bytes = memory.0.lock().expect("nobody writes any more").clone();
    String::from_utf8(bytes).expect("a log is text")
}

#[test]
fn library_can_never_write_to_the_log() {
    let speak = || {
        let _span = tracing::error_span!(target: "matrix_sdk_crypto::machine", "decrypt", event = "canary").entered();
        tracing::error!(target: "matrix_sdk_crypto::olm", body = "canary", "canary");
        tracing::warn!(target: "hyper_util::client", header = "Bearer canary", "canary");
        tracing::trace!(target: "reqwest::connect", "canary");
        tracing::trace!(target: "sealbridgey", "canary");
        tracing::trace!(target: "sealbridge::flow", "ours");
    };
    for format in [Format::Text, Format::Json] {
        for filter in [None, Some("trace"), Some("matrix_sdk_crypto=trace,hyper_util=trace,sealbridge=trace")] {
            let log = logged(format, filter, speak);
            assert!(log.contains("ours"), "{log}");
            assert!(!log.contains("canary"), "{log}");
        }
    }
}

#[test]
fn json_log_is_one_object_a_line() {
    let log = logged(Format::Json, None, || tracing::info!(target: "sealbridge::flow", delivery = 7, "Delivered."));
    let line: serde_json::Value = serde_json::from_str(&log).expect("one object");
    assert_eq!(
        (&line["level"], &line["delivery"], &line["message"]),
        (&"INFO".into(), &7.into(), &"Delivered.".into())
    );
}

#[test]
fn filter_that_is_not_understood_is_refused() {
    assert!(logging::levels(Level::Info, Some("sealbridge=loud")).is_err());
}

#[test]
fn service_at_trace_level_never_logs_what_was_said() {
    let bench = Bench::set_up();
    let running = bench.start(&["-vvv"]);
    assert_eq!(bench.run(&["links", "add", "lounge", "a/room", "b/room"]).exit, 0);
    let peer = |name: &str| {
        let account = AccountName::parse(name).expect("it is a name");
        DiskPeer::open(&bench.path("network"), &account).expect("the network is a folder")
    };
    let (mut a, b) = (peer("a"), peer("b"));
    a.say("room", "ann", "the canary sings").expect("the folder takes it");
    let heard =
        || b.heard().expect("the folder can be read").iter().any(|line| line.words.contains("the canary sings"));
    wait_until(heard);
    assert_eq!(running.stop(), 0);
    let log = bench.read("log");
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "it did log at that level: {log}");
    assert!(!log.contains("canary"), "{log}");
    for file in ["audit.jsonl", "journal.db", "journal.db-wal"] {
        let bytes = std::fs::read(bench.path("sealbridge-state").join(file)).unwrap_or_default();
        assert!(!bytes.windows(6).any(|window| window == b"canary"), "{file}");
    }
}
