//! The proxy as a program: commands on standard input, one reply per line on standard output.
//! It ends with its input.
//!
//! usage: flowmesh-fault-proxy HOST:PORT

use std::{
    io::{self, BufRead, Write},
    process::ExitCode,
};

use flowmesh_fault_proxy::Proxy;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(upstream), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: flowmesh-fault-proxy HOST:PORT");
        return ExitCode::from(2);
    };
    match serve(&upstream) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("flowmesh-fault-proxy: {e}");
            ExitCode::FAILURE
        }
    }
}

fn serve(upstream: &str) -> io::Result<()> {
    let proxy = Proxy::start(upstream)?;
    let mut output = io::stdout().lock();
    writeln!(output, "listening {}", proxy.address())?;
    output.flush()?;
    for line in io::stdin().lock().lines() {
        match proxy.tell(&line?) {
            Ok(reply) => writeln!(output, "ok {reply}")?,
            Err(reason) => writeln!(output, "error {reason}")?,
        }
        output.flush()?;
    }
    Ok(())
}
