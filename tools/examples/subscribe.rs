//! Prints committed events as they come, one line each.
//!
//! `cargo run --example subscribe -- 127.0.0.1:9001 [FILTER]`

use std::io::Write;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Duration;

use tercet::client::{ClientError, ClientOptions, From, SubscribeOptions, Subscriber, parse_servers};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (servers, filter) = match &arguments[..] {
        [servers] => (servers, ""),
        [servers, filter] => (servers, filter.as_str()),
        _ => {
            eprintln!("usage: subscribe SERVERS [FILTER]");
            return ExitCode::from(2);
        }
    };
    match run(servers, filter) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("subscribe: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(servers: &str, filter: &str) -> Result<(), ClientError> {
    let mut wish = SubscribeOptions::new(From::Earliest);
    filter.clone_into(&mut wish.filter);
    let mut subscriber = Subscriber::open(ClientOptions::new(parse_servers(servers)?), wish)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut gone = false;
    while !gone {
        subscriber.poll(Duration::from_secs(1), |event| {
            let head = write!(out, "{} {} {}: ", event.offset, event.producer, event.topic);
            let written = head.and_then(|()| out.write_all(event.body)).and_then(|()| out.write_all(b"\n"));
            // Nobody reads our output any more.
            gone = written.is_err();
            if gone { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        gone |= out.flush().is_err();
    }
    Ok(())
}
