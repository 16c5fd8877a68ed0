//! What machines hear of the running, confined service: systemd its signs of life, and whoever asks how it is.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    time::Duration,
};

use sealbridge_lab::http::{free_port, request};

use super::bench::{Bench, wait_until};

/// Everything that came to the socket so far.
fn heard(socket: &UnixDatagram, told: &mut Vec<String>) {
    let mut datagram = [0; 4096];
    while let Ok(length) = socket.recv(&mut datagram) {
        told.extend(String::from_utf8_lossy(&datagram[..length]).lines().map(str::to_owned));
    }
}

#[test]
fn systemd_is_told_that_the_service_is_up_lives_and_ends() {
    let mut bench = Bench::set_up();
    let place = bench.path("notify");
    let socket = UnixDatagram::bind(&place).expect("a socket can be made");
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("it takes a time");
    bench.set_env("NOTIFY_SOCKET", &place.to_string_lossy());
    bench.set_env("WATCHDOG_USEC", "1500000");
    let running = bench.start(&[]);
    let mut told = Vec::new();
    wait_until(|| {
        heard(&socket, &mut told);
        told.iter().filter(|line| *line == "WATCHDOG=1").count() > 1
    });
    assert_eq!(told.iter().filter(|line| *line == "READY=1").count(), 1, "{told:?}");
    let place = |wanted: &str| told.iter().position(|line| line == wanted);
    assert!(place("READY=1") < place("WATCHDOG=1"), "{told:?}");
    assert!(told.iter().any(|line| line == "STATUS=Carries messages."), "{told:?}");
    assert_eq!(running.stop(), 0);
    heard(&socket, &mut told);
    assert_eq!(told.last().map(String::as_str), Some("STOPPING=1"), "{told:?}");
}

#[test]
fn systemd_is_told_that_the_service_is_up_once_its_sources_are_heard_and_not_where_they_can_not_be() {
    let mut bench = Bench::set_up();
    let place = bench.path("notify");
    let socket = UnixDatagram::bind(&place).expect("a socket can be made");
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("it takes a time");
    bench.set_env("NOTIFY_SOCKET", &place.to_string_lossy());
    let port = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = port.local_addr().expect("it has an address");
    let config = bench.read("sealbridge.toml");
    bench.write("sealbridge.toml", &format!("{config}\n[notices]\nlisten = \"{at}\"\n"));
    let said = bench.run(&["run"]);
    assert_eq!(said.exit, 3, "somebody else has its address: {said:?}");
    let mut told = Vec::new();
    heard(&socket, &mut told);
    assert!(!told.iter().any(|line| line == "READY=1" || line == "WATCHDOG=1"), "{told:?}");
    assert_eq!(told.last().map(String::as_str), Some("STOPPING=1"), "{told:?}");

    drop(port);
    told.clear();
    let mut service = bench.command(&["run"]).spawn().expect("the binary was built for this");
    wait_until(|| {
        heard(&socket, &mut told);
        told.iter().any(|line| line == "READY=1")
    });
    let connected = TcpStream::connect(at);
    service.kill().expect("it runs");
    service.wait().expect("it is our own child");
    assert!(connected.is_ok(), "it is not heard yet, though it is told to be up: {connected:?}, {told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_hears_whether_it_is_ready_at_addresses_that_the_config_names() {
    let bench = Bench::set_up();
    let [health, metrics, notices] = [(); 3].map(|()| free_port().expect("a port"));
    let config = bench.read("sealbridge.toml");
    let more = format!(
        "\n[health]\nlisten = \"127.0.0.1:{health}\"\n[metrics]\nlisten = \"127.0.0.1:{metrics}\"\n[notices]\nlisten = \"127.0.0.1:{notices}\"\n"
    );
    bench.write("sealbridge.toml", &format!("{config}{more}"));
    let running = bench.start(&[]);
    let get = async |port: u16, path: &str| {
        request("GET", &format!("http://127.0.0.1:{port}{path}"), &[], "").await.expect("it answers")
    };
    assert_eq!((get(health, "/healthz").await.status, get(health, "/readyz").await.body), (200, "ready\n".to_owned()));
    let counted = get(metrics, "/metrics").await;
    assert!(
        counted.body.contains("sealbridge_account_up{account=\"b\"} 1") && counted.body.ends_with("# EOF\n"),
        "{counted:?}"
    );
    // Each at its own address, and nowhere else.
    for (port, path) in [(health, "/metrics"), (metrics, "/readyz"), (notices, "/healthz"), (notices, "/metrics")] {
        assert_eq!(get(port, path).await.status, 404, "{port}{path}");
    }
    assert_eq!(running.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn secret_in_an_address_reaches_no_log() {
    let bench = Bench::set_up();
    let port = free_port().expect("a port");
    let secret = bench.path("secret");
    bench.write("secret", "zq7secret\n");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("it is our own");
    let config = bench.read("sealbridge.toml");
    let more = format!(
        "\n[notices]\nlisten = \"127.0.0.1:{port}\"\n[sources.job]\nformat = \"raw\"\nto = [\"b/room\"]\nsecret_files = [{secret:?}]\n"
    );
    bench.write("sealbridge.toml", &format!("{config}{more}"));
    let mut bench = bench;
    bench.set_env("SEALBRIDGE_LOG", "trace");
    let running = bench.start(&[]);
    let post = async |path: &str| {
        request("POST", &format!("http://127.0.0.1:{port}{path}"), &[], "zq7words").await.expect("it answers").status
    };
    assert_eq!(post("/job?token=zq7secret").await, 200);
    assert_eq!(post("/job/zq7secret").await, 200);
    assert_eq!(post("/job?token=zq7wrong").await, 401);
    assert_eq!(post("/webhook/zq7wrong?token=zq7secret").await, 404);
    assert_eq!(running.stop(), 0);
    let log = bench.read("log");
    assert!(log.contains("Requests were not proven") && log.contains("DEBUG"), "there is a log: {log}");
    for word in ["zq7secret", "zq7wrong", "zq7words"] {
        assert!(!log.contains(word), "{word}: {}", log.lines().find(|line| line.contains(word)).unwrap_or_default());
    }
}
