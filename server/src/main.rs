//! The server binary: reads its settings, opens the data directory, serves until told to stop.

mod cli;
mod descriptors;
mod settings;
mod token;
mod usage;

use std::{io::IsTerminal, path::Path, process::ExitCode, sync::Arc};

use cli::{Command, TokenCommand};
use flowmesh_server::{
    Engine, EngineOptions,
    access::{self, Authority, BadTokenFile},
    clock::Clock,
    net::{BadCertificates, CertificateFiles, Certificates, Server, keep_certificates},
    offline::{self, Checked},
};
use sd_notify::NotifyState;
use settings::{InForce, LogFormat, Settings};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};
use usage::refuse;

const FAILED: u8 = 1;
const BAD_DATA_DIRECTORY: u8 = 3;
const CANNOT_LISTEN: u8 = 4;
const BAD_TOKENS: u8 = 5;
const BAD_CERTIFICATES: u8 = 6;
const DAMAGED: u8 = 7;

fn main() -> ExitCode {
    let cli = usage::read();
    match cli.command {
        None => {}
        Some(Command::Token(TokenCommand::New(wanted))) => return token::new(wanted),
        Some(Command::Verify { dir }) => return report(offline::verify(&dir)),
        Some(Command::Backup { target, data_dir }) => return report(offline::back_up(&data_dir, &target)),
    }
    let file = match cli.config.as_deref().map(Settings::read).transpose() {
        Ok(file) => file.unwrap_or_default(),
        Err(e) => refuse(e),
    };
    let settings = cli.settings.or(file).in_force();
    if let Some(address) = settings.exposed() {
        refuse(format!(
            "{address} can be reached from other machines and callers are not authenticated: list \
             callers with --tokens, ask for certificates with --tls-client-ca, listen on a loopback \
             address or a unix socket, or allow it with --insecure"
        ));
    }
    let certificates = settings.certificates().unwrap_or_else(|rule| refuse(rule.to_owned()));
    if cli.check_config {
        return check(&settings, certificates.as_ref());
    }
    serve(&settings, certificates)
}

/// Prints what the check of a data directory found.
fn report(checked: flowmesh_server::error::Result<Checked>) -> ExitCode {
    let checked = match checked {
        Ok(checked) => checked,
        Err(e) => {
            eprintln!("flowmesh-server: {e}");
            return ExitCode::from(BAD_DATA_DIRECTORY);
        }
    };
    for damage in checked.damage() {
        println!("damaged: {damage}");
    }
    for note in checked.notes() {
        println!("note: {note}");
    }
    let Checked { streams, database } = &checked;
    println!(
        "{} messages in {} segments, {} jobs, {} values: {}",
        streams.messages,
        streams.segments,
        database.jobs,
        database.values,
        match checked.damage().count() {
            0 => "sound".to_owned(),
            places => format!("{places} damaged places"),
        }
    );
    if checked.damage().next().is_none() { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) }
}

/// Prints the settings in force, once the files that they name have been found good.
fn check(settings: &InForce, certificates: Option<&CertificateFiles>) -> ExitCode {
    if let Some(file) = &settings.tokens
        && let Err(e) = access::read(file)
    {
        eprintln!("flowmesh-server: {}", bad_tokens(file, &e));
        return ExitCode::from(BAD_TOKENS);
    }
    if let Some(Err(e)) = certificates.map(Certificates::read) {
        eprintln!("flowmesh-server: {}", bad_certificates(&e));
        return ExitCode::from(BAD_CERTIFICATES);
    }
    print!("{}", settings.to_toml());
    ExitCode::SUCCESS
}

fn bad_tokens(file: &Path, e: &BadTokenFile) -> String {
    format!("the token file {} is not good: {e}", file.display())
}

fn bad_certificates(e: &BadCertificates) -> String {
    format!("a file for TLS is not good: {e}")
}

fn serve(settings: &InForce, certificates: Option<CertificateFiles>) -> ExitCode {
    log_to_stderr(settings);
    descriptors::provide(settings.max_connections.into());

    let options = EngineOptions {
        data_dir: Some(settings.data_dir.clone()),
        fsync: settings.fsync,
        create: !settings.no_create,
        max_resources: settings.max_resources as usize,
        max_groups: settings.max_groups as usize,
        clock: Clock::System,
    };
    let engine = match Engine::open(&options) {
        Ok(engine) => engine,
        Err(e) => return fail(BAD_DATA_DIRECTORY, &e),
    };
    // One worker per processor: a call runs to its end or waits, nothing blocks for long.
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return fail(FAILED, &e),
    };
    let code = runtime.block_on(run(settings, certificates, engine));
    // A storage that hangs must not hold up the end.
    runtime.shutdown_background();
    code
}

async fn run(settings: &InForce, certificates: Option<CertificateFiles>, engine: Engine) -> ExitCode {
    let (terminate, interrupt) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(e), _) | (_, Err(e)) => return fail(FAILED, &e),
    };
    let authority: Option<Arc<dyn Authority>> = match &settings.tokens {
        None => None,
        Some(file) => match access::keep(file) {
            Ok(tokens) => Some(tokens),
            Err(e) => {
                engine.close();
                tracing::error!("{}", bad_tokens(file, &e));
                return ExitCode::from(BAD_TOKENS);
            }
        },
    };
    let certificates = match certificates.map(keep_certificates).transpose() {
        Ok(certificates) => certificates,
        Err(e) => {
            engine.close();
            tracing::error!("{}", bad_certificates(&e));
            return ExitCode::from(BAD_CERTIFICATES);
        }
    };
    let server = match Server::bind(&settings.listen).await {
        Ok(server) => match certificates.clone() {
            Some(certificates) => server.with_tls(certificates),
            None => server,
        },
        Err(e) => {
            engine.close();
            return fail(CANNOT_LISTEN, &e);
        }
    };
    let addresses: Vec<String> = server.addresses().map(ToString::to_string).collect();
    tracing::info!(
        data_dir = %settings.data_dir.display(),
        fsync = %settings.fsync,
        tls = certificates.is_some(),
        tokens = authority.is_some(),
        version = env!("CARGO_PKG_VERSION"),
        "listening on {}",
        addresses.join(", ")
    );
    if let Some(address) = settings.unencrypted() {
        tracing::warn!("tokens can be read on their way to {address}: there is no TLS, see --tls-cert");
    }
    tell_manager(NotifyState::Ready);
    let stop = asked_to_stop(terminate, interrupt);
    if server.serve(engine, settings.limits(), authority, stop).await {
        tracing::info!("stopped");
        ExitCode::SUCCESS
    } else {
        tracing::error!("stopped before the storage was closed");
        ExitCode::from(FAILED)
    }
}

/// Waits for the first signal; a second one ends the process whatever it does.
async fn asked_to_stop(mut terminate: Signal, mut interrupt: Signal) {
    next(&mut terminate, &mut interrupt).await;
    tracing::info!("stopping");
    tell_manager(NotifyState::Stopping);
    tokio::spawn(async move {
        next(&mut terminate, &mut interrupt).await;
        std::process::exit(FAILED.into());
    });
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Tells the service manager, if one started us.
fn tell_manager(state: NotifyState<'_>) {
    if let Err(e) = sd_notify::notify(&[state]) {
        tracing::warn!("the service manager cannot be told: {e}");
    }
}

fn fail(code: u8, error: &dyn std::error::Error) -> ExitCode {
    tracing::error!("{error}");
    ExitCode::from(code)
}

/// Our own lines at the level asked for, those of libraries only when they matter.
fn log_to_stderr(settings: &InForce) {
    let filter =
        Targets::new().with_default(LevelFilter::WARN).with_target("flowmesh_server", settings.log_level);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = match settings.log_format {
        LogFormat::Text => layer.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => layer.json().boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
}
