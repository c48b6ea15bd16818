//! Checking and copying data directories.

use std::{
    os::unix::fs::PermissionsExt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use flowmesh_proto::v1::{EnqueueRequest, ReadStreamRequest};

use super::*;

/// Exit code, and all that was printed.
fn run(args: &[&str]) -> (i32, String) {
    let out = command(args).stdout(Stdio::piped()).output().expect("the binary runs");
    let text = [out.stdout, out.stderr].concat();
    (out.status.code().expect("an exit code"), String::from_utf8(text).expect("UTF-8"))
}

fn verify(path: &Path) -> (i32, String) {
    run(&["verify", text(path)])
}

/// Writes `count` messages whose payloads are numbers that go on from `first`.
async fn write(channel: &Channel, first: u64, count: u64) {
    let events = (first..first + count)
        .map(|number| {
            let mut event = BytesMut::new();
            wire::encode_event(&mut event, format!("event {number}").as_bytes(), std::iter::empty());
            event.freeze()
        })
        .collect();
    let request = WriteEventsRequest { resource_path: resource("stream"), events };
    StreamServiceClient::new(channel.clone()).write_events(request).await.expect("write");
}

async fn enqueue(channel: &Channel, payload: &str) {
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    let request = EnqueueRequest { resource_path: resource("queue"), payload, ..Default::default() };
    QueueServiceClient::new(channel.clone()).enqueue(request).await.expect("enqueue");
}

/// A directory with some of everything, whose server was stopped by `signal`.
async fn filled(signal: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut server = start_in(&dir);
    let channel = connect(&server.addresses()[0]).await;
    for batch in 0..20 {
        write(&channel, batch * 10, 10).await;
    }
    for number in 0..5 {
        enqueue(&channel, &format!("job number {number}")).await;
        set(&channel, &format!("key{number}")).await.unwrap();
    }
    server.signal(signal);
    server.wait();
    dir
}

/// A directory and all in it: what files hold, and when they and directories were changed.
fn content(path: &Path) -> Vec<(PathBuf, SystemTime, Vec<u8>)> {
    let changed = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    let mut found = vec![(path.to_owned(), changed(path), Vec::new())];
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(content(&path));
        } else {
            found.push((path.clone(), changed(&path), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

/// Runs with what permissions forbid forbidden, which they do not to the superuser.
fn run_bound_by_permissions(args: &[&str]) -> (i32, String) {
    let bounded = ["--bounding-set=-dac_override,-dac_read_search,-fowner", "--"];
    let can = Command::new("setpriv").args(bounded).arg("true").stderr(Stdio::null()).status();
    if !can.is_ok_and(|status| status.success()) {
        // An ordinary user is bound by them, and may not change that.
        return run(args);
    }
    let out = Command::new("setpriv")
        .args(bounded)
        .arg(env!("CARGO_BIN_EXE_flowmesh-server"))
        .args(args)
        .output()
        .expect("setpriv runs");
    let text = [out.stdout, out.stderr].concat();
    (out.status.code().expect("an exit code"), String::from_utf8(text).expect("UTF-8"))
}

/// Lets nobody change a directory and what is in it, or everybody who owns it.
fn set_writable(path: &Path, writable: bool) {
    let mode = if writable { "u+w" } else { "a-w" };
    assert!(Command::new("chmod").args(["-R", mode]).arg(path).status().unwrap().success());
}

/// Changes the byte behind `before` in the file.
fn damage(file: &Path, before: &str) {
    let mut bytes = fs::read(file).unwrap();
    let found = bytes.windows(before.len()).position(|window| window == before.as_bytes());
    let at = found.unwrap_or_else(|| panic!("{before:?} is in {}", file.display()));
    bytes[at + before.len() - 1] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn a_sound_directory_is_found_sound_and_stays_as_it_was() {
    for signal in ["-TERM", "-KILL"] {
        let dir = filled(signal).await;
        let before = content(&data(&dir));
        let (code, said) = verify(&data(&dir));
        assert_eq!((code, said.as_str()), (0, "200 messages in 1 segments, 5 jobs, 5 values: sound\n"));
        assert_eq!(verify(&data(&dir)).0, 0);
        assert!(content(&data(&dir)) == before, "after {signal} something was changed");
    }
}

#[tokio::test]
async fn a_directory_that_may_only_be_read_can_be_checked() {
    for signal in ["-TERM", "-KILL"] {
        let dir = filled(signal).await;
        let path = data(&dir);
        set_writable(&path, false);
        let before = content(&path);
        let found = run_bound_by_permissions(&["verify", text(&path)]);
        let unchanged = content(&path) == before;
        set_writable(&path, true);
        assert_eq!(found, (0, "200 messages in 1 segments, 5 jobs, 5 values: sound\n".to_owned()));
        assert!(unchanged, "after {signal} something was changed");
    }
}

#[tokio::test]
async fn a_backup_holds_what_is_needed_and_nothing_else() {
    let dir = filled("-KILL").await;
    let backup = dir.path().join("backup");
    let (code, said) = run(&["backup", text(&backup), "--data-dir", text(&data(&dir))]);
    assert_eq!(code, 0, "{said}");
    let mut names: Vec<_> = fs::read_dir(&backup).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["FORMAT", "flowmesh.db", "streams"]);
    let before = content(&backup);
    assert_eq!(verify(&backup).0, 0);
    assert!(content(&backup) == before, "something was changed");
}

#[tokio::test]
async fn damage_is_found_wherever_it_is_and_told() {
    let dir = filled("-TERM").await;
    let path = data(&dir);
    let segment = path.join("streams/00000001.log");
    let database = path.join("flowmesh.db");
    let sound = (fs::read(&segment).unwrap(), fs::read(&database).unwrap());
    for (file, before, told) in [
        (&segment, "event 73", "00000001.log is damaged at position"),
        (&database, "job number 3", "job 3 of queue t/n/queue/x does not match its checksum"),
        (&database, "key2v", "\"key2\" of KV store t/n/kv/x does not match its checksum"),
    ] {
        damage(file, before);
        let (code, said) = verify(&path);
        assert_eq!(code, 7, "{before}: {said}");
        assert!(said.contains(told) && said.contains("1 damaged places"), "{said}");
        fs::write(&segment, &sound.0).unwrap();
        fs::write(&database, &sound.1).unwrap();
    }
    let conn = rusqlite::Connection::open(&database).unwrap();
    conn.execute("UPDATE queues SET next_seq = 3", []).unwrap();
    conn.close().unwrap();
    let (code, said) = verify(&path);
    assert_eq!(code, 7, "{said}");
    assert!(said.contains("queue t/n/queue/x would number a job 3 and has 4"), "{said}");
    fs::write(&database, &sound.1[..sound.1.len() / 2]).unwrap();
    let (code, said) = verify(&path);
    assert_eq!(code, 7, "{said}");
    fs::write(&database, &sound.1).unwrap();
    assert_eq!(verify(&path).0, 0);
}

#[tokio::test]
async fn what_is_no_data_directory_or_in_use_is_exit_code_3() {
    let dir = tempfile::tempdir().unwrap();
    let (code, said) = verify(dir.path());
    assert_eq!(code, 3);
    assert!(said.contains("no data directory"), "{said}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made");
    let mut server = start_in(&dir);
    server.summary();
    let (code, said) = verify(&data(&dir));
    assert_eq!(code, 3);
    assert!(said.contains("in use by another process"), "{said}");
    let (code, said) = run(&["backup", text(&dir.path().join("copy")), "--data-dir", text(dir.path())]);
    assert_eq!(code, 3);
    assert!(said.contains("no data directory"), "{said}");
    let (code, said) = run(&["backup", text(dir.path()), "--data-dir", text(&data(&dir))]);
    assert_eq!(code, 3);
    assert!(said.contains("exists"), "{said}");
    // Inside, by whatever way.
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(data(&dir).join("streams"), &link).unwrap();
    for inside in [data(&dir).join("copy"), data(&dir).join("streams/copy"), link.join("copy")] {
        let (code, said) = run(&["backup", text(&inside), "--data-dir", text(&data(&dir))]);
        assert_eq!(code, 3);
        assert!(said.contains("is inside of"), "{said}");
        assert!(!inside.exists());
    }
    // A name that begins the same is beside it.
    let beside = dir.path().join("data-copy");
    assert_eq!(run(&["backup", text(&beside), "--data-dir", text(&data(&dir))]).0, 0);
}

/// The payloads of the stream, from its start.
async fn events(channel: &Channel) -> Vec<String> {
    let mut events = Vec::new();
    loop {
        let request = ReadStreamRequest {
            resource_path: resource("stream"),
            partition: 0,
            offset: events.len() as i64,
            max_messages: 1000,
        };
        let reply = StreamServiceClient::new(channel.clone()).read_stream(request).await.expect("read");
        let messages = reply.into_inner().messages;
        if messages.is_empty() {
            return events;
        }
        events.extend(messages.iter().map(|m| {
            let message = wire::MessageView::parse(m).expect("a message");
            String::from_utf8(message.payload.to_vec()).expect("text")
        }));
    }
}

#[tokio::test]
async fn directories_that_are_made_are_closed_to_others() {
    let dir = tempfile::tempdir().unwrap();
    let (made, given, backup) = (data(&dir), dir.path().join("given"), dir.path().join("backup"));
    fs::create_dir(&given).unwrap();
    fs::set_permissions(&given, fs::Permissions::from_mode(0o750)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let binary = env!("CARGO_BIN_EXE_flowmesh-server");
    let with_usual_umask = |args: &[&str]| {
        let mut command = Command::new("sh");
        command.args(["-c", "umask 022; exec \"$0\" \"$@\"", binary]).args(args);
        command.env_clear().env("PATH", "/usr/bin:/bin").stdout(Stdio::null()).stderr(Stdio::piped());
        Process::spawn(command)
    };
    for path in [&made, &given] {
        let mut server = with_usual_umask(&["--listen", "127.0.0.1:0", "--data-dir", text(path)]);
        set(&connect(&server.addresses()[0]).await, "k").await.unwrap();
        server.signal("-TERM");
        assert_eq!(server.wait().0.code(), Some(0));
    }
    let (status, log) = with_usual_umask(&["backup", text(&backup), "--data-dir", text(&made)]).wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!((mode(&made), mode(&made.join("streams")), mode(&backup)), (0o700, 0o700, 0o700));
    assert_eq!(mode(&given), 0o750, "what is there stays as it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_holds_what_was_acknowledged_and_can_be_restored() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = start_in(&dir);
    let address = server.addresses()[0].clone();
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(std::sync::Mutex::new((0u64, 0u64)));
    let load = tokio::spawn({
        let (stop, acknowledged, address) = (stop.clone(), acknowledged.clone(), address.clone());
        async move {
            let channel = connect(&address).await;
            while !stop.load(Ordering::Relaxed) {
                let (written, keys) = *acknowledged.lock().unwrap();
                // Large enough that segments are filled and sealed while they are copied.
                write(&channel, written, 2000).await;
                set(&channel, &format!("key{keys}")).await.unwrap();
                *acknowledged.lock().unwrap() = (written + 2000, keys + 1);
            }
        }
    });
    for number in 0..4 {
        while acknowledged.lock().unwrap().1 < 20 * (number + 1) {
            tokio::task::yield_now().await;
        }
        let (written, keys) = *acknowledged.lock().unwrap();
        let backup = dir.path().join(format!("backup{number}"));
        let (from, to) = (data(&dir), backup.clone());
        let made =
            tokio::task::spawn_blocking(move || run(&["backup", text(&to), "--data-dir", text(&from)]));
        let (code, said) = made.await.unwrap();
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("sound"), "{said}");
        let restored = tempfile::tempdir().unwrap();
        assert!(Command::new("cp").arg("-r").args([&backup, &data(&restored)]).status().unwrap().success());
        let mut second = start_in(&restored);
        let channel = connect(&second.addresses()[0]).await;
        let events = events(&channel).await;
        assert!(events.len() as u64 >= written, "{} of {written}", events.len());
        assert_eq!(events.len() % 2000, 0, "batches are whole");
        assert!(events.iter().enumerate().all(|(i, event)| *event == format!("event {i}")));
        for key in 0..keys {
            get(&channel, &format!("key{key}")).await.unwrap();
        }
        // It goes on from there.
        write(&channel, events.len() as u64, 1).await;
    }
    stop.store(true, Ordering::Relaxed);
    load.await.unwrap();
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 5, "nothing half made stays behind: {left:?}");
}
