//! Where settings come from: flags over environment over file, and what is refused.

use super::*;
use crate::certificates::Authority;

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
         max_message_bytes = 7\nlog_level = \"debug\"\ntls_cert = \"cert.pem\"\ntls_key = \"of-file\"\n\
         tls_client_ca = \"ca.pem\"\n",
    );
    let authority = Authority::new();
    let pair = authority.issue("127.0.0.1");
    for (name, pem) in
        [("cert.pem", pair.certificate), ("of-environment", pair.key), ("ca.pem", authority.pem)]
    {
        fs::write(dir.path().join(name), pem).unwrap();
    }
    let mut command = command(&["--config", text(&file), "--data-dir", "of-flag", "--no-create=false"]);
    command.env("FLOWMESH_DATA_DIR", "of-environment").env("FLOWMESH_FSYNC", "interval:5");
    command.env("FLOWMESH_TLS_KEY", "of-environment").current_dir(&dir);
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
        "tls_cert = \"cert.pem\"",
        "tls_key = \"of-environment\"",
        "tls_client_ca = \"ca.pem\"",
        "log_format = \"text\"",
    ] {
        assert!(effective.lines().any(|l| l == line), "{line} is not in\n{effective}");
    }
    assert!(!dir.path().join("of-flag").exists(), "checking makes nothing");
}

#[test]
fn the_files_that_settings_name_are_checked_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| text(&dir.path().join(name)).to_owned();
    let pair = Authority::new().issue("127.0.0.1");
    fs::write(path("good"), "").unwrap();
    fs::write(path("bad"), "token = 1").unwrap();
    fs::write(path("cert.pem"), pair.certificate).unwrap();
    fs::write(path("key.pem"), pair.key).unwrap();
    let check = |args: [&str; 2], more: [&str; 2]| {
        refused(&["--check-config", args[0], &path(args[1]), more[0], &path(more[1])])
    };
    for (args, more, code, word) in [
        (["--tokens", "good"], ["--data-dir", "data"], 0, ""),
        (["--tokens", "gone"], ["--data-dir", "data"], 5, "gone is not good: No such file"),
        (["--tokens", "bad"], ["--data-dir", "data"], 5, "bad is not good: line 1"),
        (["--tls-cert", "cert.pem"], ["--tls-key", "key.pem"], 0, ""),
        (["--tls-cert", "gone"], ["--tls-key", "key.pem"], 6, "gone: No such file"),
        (["--tls-cert", "cert.pem"], ["--tls-key", "bad"], 6, "bad: must hold a private key"),
    ] {
        let (found, said) = check(args, more);
        assert_eq!(found, code, "{args:?} {more:?}: {said}");
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn limits_come_from_the_same_places() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(&dir, "max_calls = 7\nmax_waiters = 7\nkeepalive = 7\nmax_groups = 7\n");
    let mut command = command(&["--config", text(&file), "--keepalive", "0"]);
    command.env("FLOWMESH_MAX_WAITERS", "5").env("FLOWMESH_KEEPALIVE", "5");
    command.env("FLOWMESH_MAX_GROUPS", "5");
    let (good, effective) = check(command);
    assert!(good, "{effective}");
    for line in [
        "max_header_bytes = 16384",
        "max_connections = 10000",
        "max_calls = 7",
        "max_subscriptions = 10000",
        "max_waiters = 5",
        "max_resources = 100000",
        "max_groups = 5",
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
fn one_address_needs_no_list() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(&dir, "listen = \"127.0.0.1:6001\"");
    let (good, effective) = check(command(&["--config", text(&file)]));
    assert!(good, "{effective}");
    assert!(effective.contains("listen = [\"127.0.0.1:6001\"]"), "{effective}");
}

#[test]
fn a_bad_value_is_blamed_on_where_it_came_from() {
    let said = |args: &[&str], variable: &str| {
        let mut command = command(args);
        command.env(variable, "bad").env("FLOWMESH_DATA_DIR", "d").arg("--check-config");
        let (status, log) = Process::spawn(command).wait();
        assert_eq!(status.code(), Some(2), "{log}");
        log
    };
    for (variable, flag) in [
        ("FLOWMESH_FSYNC", "--fsync"),
        ("FLOWMESH_LISTEN", "--listen"),
        ("FLOWMESH_LOG_LEVEL", "--log-level"),
        ("FLOWMESH_MAX_CALLS", "--max-calls"),
    ] {
        let log = said(&[], variable);
        assert!(log.contains(&format!("'bad' for '{variable}'")), "{log}");
        let log = said(&[&format!("{flag}=wrong")], variable);
        assert!(log.contains(&format!("'wrong' for '{flag} <")), "{log}");
        let log = said(&[flag, "wrong"], variable);
        assert!(log.contains(&format!("'wrong' for '{flag} <")), "{log}");
    }
}

#[test]
fn a_file_that_is_not_good_is_wrong_usage_and_says_where() {
    let dir = tempfile::tempdir().unwrap();
    for (bad, word) in [
        ("datadir = \"x\"", "datadir"),
        ("listen = 1", "expected a text or a list of texts"),
        ("\nlisten = \"nonsense\"", "line 2"),
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
    let pipe = dir.path().join("pipe");
    make_pipe(&pipe);
    let (code, log) = refused(&["--config", text(&pipe)]);
    assert_eq!(code, 2);
    assert!(log.contains(&format!("{}: is no regular file", text(&pipe))), "{log}");
}

#[test]
fn the_service_manager_does_not_repeat_a_start_that_cannot_succeed() {
    let unit = include_str!("../../../packaging/debian/flowmesh-server.service");
    let codes: Vec<i32> = unit
        .lines()
        .find_map(|line| line.strip_prefix("RestartPreventExitStatus="))
        .map(|codes| codes.split_whitespace().map(|code| code.parse().expect("a code")).collect())
        .expect("the unit says after which codes");
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let base = ["--data-dir", text(&data(&dir)), "--listen", "127.0.0.1:0"].map(str::to_owned);
    let base = base.each_ref().map(String::as_str);
    for wrong in [
        &["--fsync", "sometimes"][..],
        &["--tokens", text(&missing)],
        &["--tls-cert", text(&missing), "--tls-key", text(&missing)],
    ] {
        let (code, log) = refused(&[&base[..], wrong].concat());
        assert!(codes.contains(&code), "{code} is not in {codes:?}: {log}");
    }
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
