//! `vedette console`: serves the web console to a browser on this machine, over the same connection as every other command.

mod door;
mod proxy;
mod sessions;

use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;

use clap::Args;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::client::Client;
use crate::exit::{Exit, Stop};
use crate::label::AuthorArgs;
use crate::output::Output;
use proxy::Proxy;

/// Flags of `vedette console`.
#[derive(Debug, Args)]
pub struct ConsoleArgs {
    /// Port on 127.0.0.1 [default: a free one]
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    port: u16,
    /// Only print the address: open no browser
    #[arg(long)]
    no_browser: bool,
    #[command(flatten)]
    author: AuthorArgs,
}

/// Serves until Ctrl-C. Each press of Enter prints a fresh address: one opens one session.
pub async fn run(args: ConsoleArgs, client: &Client, output: &mut Output) -> anyhow::Result<Exit> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| Stop::usage(format!("cannot listen on {address}: {error}; choose another --port, or none for a free one")))?;
    let address = listener.local_addr()?;
    let proxy = Arc::new(Proxy::new(client.channel.clone(), address, args.author.name()?));
    let url = proxy.invite();
    output.line(&url)?;
    output.sink.flush()?;
    if std::io::stdout().is_terminal() {
        eprintln!("vedette: the address opens one session of {} hours; Enter prints another, Ctrl-C ends them all", sessions::HOURS);
        if !args.no_browser {
            open(&url);
        }
    }
    let serving = proxy::serve(listener, Arc::clone(&proxy));
    tokio::select! {
        never = serving => never,
        result = invitations(&proxy, output) => result.map(|()| Exit::Ok),
        _ = tokio::signal::ctrl_c() => Ok(Exit::Ok),
    }
}

/// Prints a fresh address for every line of a person's terminal; never ends.
async fn invitations(proxy: &Proxy, output: &mut Output) -> anyhow::Result<()> {
    if std::io::stdin().is_terminal() {
        // Reading a terminal blocks, until the process ends.
        let (pressed, mut presses) = mpsc::channel(1);
        std::thread::spawn(move || std::io::stdin().lines().take_while(Result::is_ok).all(|_| pressed.blocking_send(()).is_ok()));
        while presses.recv().await.is_some() {
            output.line(&proxy.invite())?;
            output.sink.flush()?;
        }
    }
    std::future::pending().await
}

/// Where that fails a person has the address to click on.
fn open(url: &str) {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let _ = Command::new(program).arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
}
