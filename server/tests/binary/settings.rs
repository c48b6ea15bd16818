//! Where settings come from: flags over environment over file, and what is refused.

use super::*;

fn file(dir: &TempDir, text: &str) -> PathBuf {
    let path = dir.path().join("server.toml");
    fs::write(&path, text).expect("the file is written");
    path
}

/// What `--check-config` prints, and whether it was content.
fn check(mut command: Command) -> (bool, String) {
    let out = command.arg("--check-config").stdout(Stdio::piped()).output().expect("the binary runs");
    let text = if out.status.success() { out.stdout } else { out.stderr };
    (out.status.success(), String::from_utf8(text).expect("UTF-8"))
}

#[test]
fn flags_win_over_the_environment_and_both_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(
        &dir,
        "listen = [\"127.0.0.1:1\"]\ndata_dir = \"of-file\"\nfsync = \"none\"\nno_create = true\n\
         max_message_bytes = 7\nlog_level = \"debug\"\ntls_cert = \"c\"\ntls_key = \"of-file\"\n\
         tls_client_ca = \"a\"\n",
    );
    let mut command = command(&["--config", text(&file), "--data-dir", "of-flag", "--no-create=false"]);
    command.env("FLOWMESH_DATA_DIR", "of-environment").env("FLOWMESH_FSYNC", "interval:5");
    command.env("FLOWMESH_TLS_KEY", "of-environment");
    let (good, effective) = check(command);
    assert!(good, "{effective}");
    for line in [
        "listen = [\"127.0.0.1:1\"]",
        "data_dir = \"of-flag\"",
        "fsync = \"interval:5\"",
        "max_message_bytes = 7",
        "no_create = false",
        "insecure = false",
        "log_level = \"debug\"",
        "tls_cert = \"c\"",
        "tls_key = \"of-environment\"",
        "tls_client_ca = \"a\"",
        "log_format = \"text\"",
    ] {
        assert!(effective.lines().any(|l| l == line), "{line} is not in\n{effective}");
    }
    assert!(!Path::new("of-flag").exists(), "checking makes nothing");
}

#[test]
fn limits_come_from_the_same_places() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(&dir, "max_calls = 7\nmax_waiters = 7\nkeepalive = 7\n");
    let mut command = command(&["--config", text(&file), "--keepalive", "0"]);
    command.env("FLOWMESH_MAX_WAITERS", "5").env("FLOWMESH_KEEPALIVE", "5");
    let (good, effective) = check(command);
    assert!(good, "{effective}");
    for line in [
        "max_header_bytes = 16384",
        "max_connections = 10000",
        "max_calls = 7",
        "max_subscriptions = 10000",
        "max_waiters = 5",
        "max_resources = 100000",
        "max_buffered_bytes = 268435456",
        "max_control_frames = 1000",
        "handshake_timeout = 10",
        "idle_timeout = 3600",
        "keepalive = 0",
    ] {
        assert!(effective.lines().any(|l| l == line), "{line} is not in\n{effective}");
    }
}

#[test]
fn what_is_printed_can_be_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let (good, effective) = check(command(&["--listen", "unix:/run/x", "--fsync", "interval"]));
    assert!(good, "{effective}");
    let file = file(&dir, &effective);
    assert_eq!(check(command(&["--config", text(&file)])), (true, effective));
}

#[test]
fn a_file_that_is_not_good_is_wrong_usage_and_says_where() {
    let dir = tempfile::tempdir().unwrap();
    for (bad, word) in [
        ("datadir = \"x\"", "datadir"),
        ("listen = \"127.0.0.1:1\"", "line 1"),
        ("\nlisten = [\"nonsense\"]", "line 2"),
        ("fsync = \"sometimes\"", "always"),
        ("max_message_bytes = 0", "max_message_bytes"),
        ("tls_ca = \"x\"", "tls_ca"),
        ("tls_cert = \"x\"", "--tls-key"),
        ("max_calls = 0", "nonzero"),
        ("listen = [\"0.0.0.0:1\"]", "--insecure"),
        ("=", "line 1"),
    ] {
        let (code, log) = refused(&["--config", text(&file(&dir, bad))]);
        assert_eq!(code, 2, "{bad}: {log}");
        assert!(log.contains(word), "{bad}: {log}");
    }
    let (code, log) = refused(&["--config", "/no/such/file"]);
    assert_eq!(code, 2);
    assert!(log.contains("/no/such/file"), "{log}");
}

#[test]
fn the_service_manager_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut command = command(&["--listen", "127.0.0.1:0", "--data-dir", text(&data(&dir))]);
    let mut server = Process::spawn({
        command.env("NOTIFY_SOCKET", &path);
        command
    });
    let said = || {
        let mut text = [0; 256];
        let length = socket.recv(&mut text).expect("a word in time");
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    assert!(said().contains("READY=1"));
    server.signal("-TERM");
    assert!(said().contains("STOPPING=1"));
    assert_eq!(server.wait().0.code(), Some(0));
}
