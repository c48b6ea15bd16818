//! The server's process, and what a process uses.

use std::{
    fmt, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use crate::host::Host;

/// What stands in the complaints of a server whose disk fails.
const OF_THE_DISK: [&str; 6] = [
    "(os error 5)",
    "(os error 28)",
    "disk I/O error",
    "disk is full",
    "failed sync",
    "a call ended with INTERNAL",
];

/// A server that can be started again on the same address and data.
pub struct Server {
    host: Host,
    data: PathBuf,
    address: String,
    child: Child,
}

impl Server {
    pub fn start(dir: &Path) -> Self {
        let data = dir.join("data");
        let host = Host::new(dir);
        let (child, address) = spawn(&host, &data, "127.0.0.1:0");
        Self { host, data, address, child }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// What it runs on.
    pub fn host(&self) -> &Host {
        &self.host
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it by a signal, and starts it again. Its disk works then: on one that does not, it would
    /// end with an error, as it should.
    pub fn restart(&mut self, signal: &str) {
        self.host.mend();
        let kill = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(kill.expect("kill").success());
        let status = self.child.wait().expect("it ends");
        // 1: a disk with much to do outlasts the grace of the stop, and nothing is lost by that either.
        let orderly = matches!(status.code(), Some(0 | 1));
        assert!(signal == "-KILL" || orderly, "an orderly stop: {status}");
        (self.child, self.address) = spawn(&self.host, &self.data, &self.address);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails when it has ended, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the binary and waits until it listens.
#[expect(clippy::zombie_processes, reason = "who starts it waits for it; a failed start ends the test")]
fn spawn(host: &Host, data: &Path, address: &str) -> (Child, String) {
    let binary = std::env::var_os("FLOWMESH_SERVER").expect("FLOWMESH_SERVER names the server's binary");
    let mut command = Command::new(binary);
    host.carry(&mut command);
    let mut child = command
        .args(["--listen", address, "--data-dir"])
        .arg(data)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the server starts");
    let mut log = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut all = String::new();
    loop {
        let mut line = String::new();
        assert!(log.read_line(&mut line).expect("a log") > 0, "the server did not start: {all}");
        all.push_str(&line);
        if let Some((_, rest)) = line.split_once("listening on ") {
            let address = rest.split_whitespace().next().expect("an address").to_owned();
            // What it says from now on matters when it complains of more than its disk.
            thread::spawn(move || {
                let complaint = |line: &String| {
                    line.contains("ERROR") && !OF_THE_DISK.iter().any(|text| line.contains(text))
                };
                log.lines()
                    .map_while(Result::ok)
                    .filter(complaint)
                    .for_each(|line| println!("server: {line}"));
            });
            return (child, address);
        }
    }
}

/// What a process uses.
pub struct Usage {
    pub resident_kib: u64,
    pub descriptors: usize,
}

impl Usage {
    pub fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        let resident_kib = line.trim().trim_end_matches(" kB").parse().expect("a number");
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count();
        Self { resident_kib, descriptors }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB, {} descriptors", self.resident_kib >> 10, self.descriptors)
    }
}
