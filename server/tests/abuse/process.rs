//! The server as a process, and what the system says of it.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
};

use tempfile::TempDir;

/// A server on a TCP port; it ends with the value.
pub struct Process {
    child: Child,
    pub address: SocketAddr,
    flags: Vec<String>,
    dir: TempDir,
}

impl Process {
    /// Starts one with more `flags`; what it stores is not synced, for that is not what is tested.
    pub fn start(flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let flags = flags.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (child, address) = spawn(&dir, &flags);
        Self { child, address, flags, dir }
    }

    /// Ends it and starts it again, at another address.
    pub fn restart(&mut self) {
        self.stop();
        (self.child, self.address) = spawn(&self.dir, &self.flags);
    }

    fn stop(&mut self) {
        // Fails when the process has ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Resident memory that is not files, in bytes.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a process");
        let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).expect("a line RssAnon");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("a process").count()
    }
}

fn spawn(dir: &TempDir, flags: &[String]) -> (Child, SocketAddr) {
    let binary = std::env::var("FLOWMESH_ABUSE_SERVER");
    let mut child = Command::new(binary.as_deref().unwrap_or(env!("CARGO_BIN_EXE_flowmesh-server")))
        .args(["--listen", "127.0.0.1:0", "--fsync", "none", "--data-dir"])
        .arg(dir.path().join("data"))
        .args(flags)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the server starts");
    let mut log = BufReader::new(child.stderr.take().expect("a pipe"));
    let address = loop {
        let mut line = String::new();
        assert_ne!(log.read_line(&mut line).expect("a log"), 0, "the server did not start");
        if let Some((_, rest)) = line.split_once("listening on ") {
            break rest.split([',', ' ']).next().expect("an address").parse().expect("an address");
        }
    };
    // A full pipe would stop the server.
    thread::spawn(move || log.lines().for_each(drop));
    (child, address)
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}
